"""Rows with metrics of the whole set: mAP over samples with several labels, ROC-AUC of two classes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trireme.benchmarks.base import RowBenchmark
from trireme.benchmarks.metrics import metric_code, score
from trireme.benchmarks.set_metrics import Doubles, Mask, MeanAveragePrecision, RocAuc, SampleEvaluator, SetMetric
from trireme.errors import DataError, unknown_name
from trireme.files import fingerprint
from trireme.types import RANKED, Evaluator, Floats, Ints, Role

SET_METRICS = ("map", "map_voc", "roc_auc")
"""`map` is 11-point mAP as ELEVATER computes it, `map_voc` as VOC's development kit does."""

TEMPERATURE = 100.0
"""ELEVATER's toolkit compares pictures by softmax(100 x cosine) over the classes (its `clip_zeroshot_evaluator.py`
@00d0af7). It changes no order of classes, but it does change the order of pictures for one class, hence mAP."""


@dataclass(frozen=True)
class SetRowBenchmark(RowBenchmark):
    """A `RowBenchmark` some of whose metrics are those of an evaluator.

    A sample with several labels has the label -1 in every table: it has no per-sample metric, and methods see no label
    anyway. The benchmark keeps its labels itself and joins them by sample id.

    Attributes:
        label_sets: {sample id: its labels}; empty where every sample has one label.
        positive: the class that `roc_auc` looks for; the benchmark has two.
    """

    label_sets: Mapping[str, Sequence[int]] = field(default_factory=dict)
    positive: int = 1

    @property
    def set_metrics(self) -> tuple[str, ...]:
        """Which of `metrics` the evaluator gives."""
        return tuple(name for name in self.metrics if name in SET_METRICS)

    @property
    def keep(self) -> int:
        """How many ranked classes a prediction lists: all of them, where a set metric compares their scores."""
        return max(RANKED, len(self.class_names)) if self.set_metrics else RANKED

    @property
    def every_class(self) -> bool:
        """Whether a prediction must rank every class: a set metric compares one class's scores over all samples."""
        return bool(self.set_metrics)

    def score(self, ranked: Ints, labels: Ints) -> Mapping[str, Floats]:
        """Per-sample values of the other metrics."""
        return score([name for name in self.metrics if name not in SET_METRICS], ranked, labels)

    def metric_codes(self) -> list[list[str]]:
        """[name, hash of its source] of every metric; of a set metric, with that of what prepares its scores."""
        return [[name, _code(name) if name in SET_METRICS else metric_code(name)] for name in self.metrics]

    def fingerprint(self, role: Role = Role.TEST) -> str:
        """That of the rows, with the labels of samples that have several."""
        plain = super().fingerprint(role)
        if not self.label_sets:
            return plain
        return fingerprint([plain, [[one.id, sorted(self.label_sets.get(one.id, ()))] for one in self.samples(role)]])

    def evaluator(self, predictions: Any, role: Role = Role.TEST) -> Evaluator:
        """The set metrics of predictions (see `trireme.types.SetBenchmark`); a unit is a sample.

        Raises:
            DataError: a sample is not ranked among all classes, or is none of the benchmark's.
        """
        counted: Mask = np.array([status == "ok" for status in predictions["status"].to_pylist()], dtype=np.bool_)
        ids = [name for name, ok in zip(predictions["sample_id"].to_pylist(), counted, strict=True) if ok]
        scores = class_scores(self.name, predictions, len(self.class_names), counted)
        targets = self._targets(ids, role)
        return SampleEvaluator(
            {name: _metric(name, scores, targets, self.positive) for name in self.set_metrics}, counted
        )

    def _targets(self, ids: Sequence[str], role: Role) -> Mask:
        """(n, c), which classes each sample has."""
        labels = self.label_sets or {one.id: (one.label,) for one in self.samples(role)}
        targets = np.zeros((len(ids), len(self.class_names)), dtype=np.bool_)
        for row, name in enumerate(ids):
            if name not in labels:
                raise DataError(f"benchmark '{self.name}' has no sample '{name}', for which there is a prediction")
            targets[row, list(labels[name])] = True
        return targets


def class_scores(benchmark: str, predictions: Any, classes: int, counted: Mask) -> Doubles:
    """log softmax(100 x score) over the c classes, (n, c) in class order, for the rows that count.

    The logarithm ranks as the softmax does, without making scores equal that float32 could not tell apart.

    Raises:
        DataError: a row ranks fewer classes than there are, so that some scores are not known.
    """
    rows = np.flatnonzero(counted)
    lists = [predictions[column].take(rows).combine_chunks() for column in ("ranked", "scores")]
    lengths = lists[0].value_lengths().to_numpy(zero_copy_only=False)
    short = np.flatnonzero(lengths != classes)
    ranked, scores = (one.flatten().to_numpy(zero_copy_only=False) for one in lists)
    if not len(short):
        ranked, scores = ranked.reshape(-1, classes), scores.reshape(-1, classes).astype(np.float64)
        short = np.flatnonzero((np.sort(ranked, axis=1) != np.arange(classes)).any(axis=1))
    if len(short):
        sample = predictions["sample_id"][int(rows[short[0]])].as_py()
        raise DataError(
            f"benchmark '{benchmark}' needs a score of each of its {classes} classes, but {len(short)} of {len(rows)} "
            f"samples rank fewer (first: {sample} with {lengths[short[0]]}); methods that search a memory rank what "
            "they find: let them search deeper (depth=)"
        )
    found: Doubles = np.empty((len(rows), classes))
    np.put_along_axis(found, ranked.astype(np.int64), TEMPERATURE * scores, axis=1)
    highest = found.max(axis=1, keepdims=True)
    logarithms: Doubles = found - highest - np.log(np.exp(found - highest).sum(axis=1, keepdims=True))
    return logarithms


def _code(name: str) -> str:
    source = RocAuc if name == "roc_auc" else MeanAveragePrecision
    return fingerprint([name, TEMPERATURE, *map(inspect.getsource, (source, class_scores, _metric))])


def _metric(name: str, scores: Doubles, targets: Mask, positive: int) -> SetMetric:
    if name == "roc_auc":
        return RocAuc(scores[:, positive], targets[:, positive])
    if name in ("map", "map_voc"):
        return MeanAveragePrecision(scores, targets, starts_at_one=name == "map")
    raise unknown_name("metric", name, SET_METRICS)
