"""A benchmark whose classes are names that may be answered, and whose metrics know the true classes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from trireme.benchmarks.base import RowBenchmark, RowPairs
from trireme.benchmarks.discovery.sentences import Sentences
from trireme.benchmarks.set_metrics import ClusterAccuracy, SampleEvaluator, SampleMean
from trireme.errors import DataError
from trireme.files import fingerprint
from trireme.types import Evaluator, Floats, Ints, Role

CACC = "cacc"


@dataclass(frozen=True)
class DiscoveryBenchmark(RowBenchmark):
    """Pictures to be named. `class_names` is the open vocabulary; the label of a sample in every table is -1.

    Attributes:
        truths: {sample id: index of its true class}.
        true_names: of the true classes.
        sentences: what sACC compares names by.
    """

    truths: Mapping[str, int] = field(default_factory=dict)
    true_names: tuple[str, ...] = ()
    sentences: Sentences = field(default_factory=Sentences)

    @property
    def sacc(self) -> str:
        """The name of sACC, with that of its sentence encoder."""
        return f"sacc({self.sentences.name})"

    @property
    def set_metrics(self) -> tuple[str, ...]:
        return self.metrics

    def score(self, ranked: Ints, labels: Ints) -> Mapping[str, Floats]:
        """There is no metric of one sample."""
        return {}

    def metric_codes(self) -> list[list[str]]:
        """Each metric with a hash of the code that computes it."""
        shared = [inspect.getsource(one) for one in (SampleMean, DiscoveryBenchmark.evaluator)]
        matched = [*shared, inspect.getsource(ClusterAccuracy)]
        cosine = [*shared, inspect.getsource(Sentences.embed), self.sentences.fingerprint]
        codes = {CACC: fingerprint(matched), self.sacc: fingerprint(cosine)}
        return [[name, codes[name]] for name in self.metrics]

    def fingerprint(self, role: Role = Role.TEST) -> str:
        """That of the rows, with the true classes and their names."""
        return fingerprint(
            [super().fingerprint(role), self.true_names, [self.truths[one.id] for one in self.samples(role)]]
        )

    def evaluator(self, predictions: Any, role: Role = Role.TEST) -> Evaluator:
        """cACC and sACC of the first names; a unit is a sample.

        Names are matched to classes once, on all samples, and samples are drawn under that matching: few pictures a
        name, matched anew in every draw, would be matched better than they are, and the interval would lie too high.

        Raises:
            DataError: a sample has no name, or is none of the benchmark's.
        """
        counted = np.array([state == "ok" for state in predictions["status"].to_pylist()], dtype=np.bool_)
        rows = zip(predictions["sample_id"].to_pylist(), predictions["ranked"].to_pylist(), counted, strict=True)
        answers = [(sample, ranked) for sample, ranked, ok in rows if ok]
        for sample, ranked in answers:
            if sample not in self.truths or not ranked:
                reason = "no name was answered" if sample in self.truths else "it has no such sample"
                raise DataError(f"benchmark '{self.name}': cannot score '{sample}': {reason}")
        first = np.array([ranked[0] for _, ranked in answers], dtype=np.int64)
        truth = np.array([self.truths[sample] for sample, _ in answers], dtype=np.int64)
        named, clusters = np.unique(first, return_inverse=True)
        embedded = self.sentences.embed([*(self.class_names[one] for one in named), *self.true_names])
        cosines = (embedded[clusters].astype(np.float64) * embedded[len(named) + truth]).sum(axis=1)
        right = ClusterAccuracy(clusters.astype(np.int64), truth).right()
        metrics = {CACC: SampleMean(right.astype(np.float64)), self.sacc: SampleMean(cosines)}
        return SampleEvaluator({name: metrics[name] for name in self.metrics}, counted)


@dataclass(frozen=True)
class DiscoveryPairs(RowPairs):
    """Pictures labelled with guessed names. `draw_by` is {pair id: true class}; only a draw of `NAME@N` looks at it."""

    draw_by: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the pairs and of the classes by which they are drawn."""
        plain = fingerprint([[one.id, one.image.sha256, one.caption, one.label] for one in self.rows])
        return fingerprint([plain, [self.draw_by[one.id] for one in self.rows]])
