"""Nearest labelled pictures. k = 1 is the "CLIP+KNN" baseline of RAR (its released code takes the single nearest image)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from trireme.errors import DataError, UsageError, unknown_name
from trireme.methods.base import Context, Validation, require_fitted, require_memory
from trireme.methods.knn.votes import class_scores, rank_votes
from trireme.methods.selection import Setting, grid_settings, select, subset_scores
from trireme.types import Floats, Ints, Predictions, Sample, Supervision, Task


@dataclass
class KnnConfig:
    """Options of knn.

    Attributes:
        k: neighbours that vote; 1 is RAR's baseline.
        temperature: T of a vote exp(similarity / T); no effect on the first class when k is 1.
        depth: neighbours searched, so that classes after the voters can be ranked as well (RAR's code stores 100).
        recorded: neighbours whose ids and labels are kept with the predictions, for hit@k.
        grid: values of `k` and `temperature` to choose from on validation pictures; empty: nothing is chosen.
    """

    k: int = 1
    temperature: float = 0.05
    depth: int = 100
    recorded: int = 20
    grid: dict[str, list[float]] = field(default_factory=dict)


class _Neighbours(NamedTuple):
    rows: Ints
    """(n, depth) memory rows, -1 padded"""
    labels: Ints
    """(n, depth) class indices, -1 padded"""
    similarities: Floats
    """(n, depth)"""


class Knn:
    """Ranks classes by the labels of the nearest memory pictures, restricted to pictures of the benchmark's classes."""

    Config: ClassVar[type[KnnConfig]] = KnnConfig
    tasks: ClassVar[frozenset[Task]] = frozenset({Task.ZERO_SHOT, Task.FEW_SHOT})
    supervision = Supervision(inference="labels")
    needs_memory = True

    def __init__(self, config: KnnConfig) -> None:
        if config.k < 1 or config.temperature <= 0:
            raise UsageError("knn needs k of at least 1 and a temperature above 0")
        for key in config.grid:
            if key not in ("k", "temperature"):
                raise unknown_name("knn grid key", key, ("k", "temperature"))
        self.config = config
        self._context: Context | None = None
        self._row_labels: Ints = np.empty(0, dtype=np.int64)
        self._support: Ints = np.empty(0, dtype=np.int64)
        self._chosen: Setting = {}
        self._selection: dict[str, Any] = {}

    def fit(self, context: Context) -> None:
        """Find the memory rows of the context's classes; choose k and T where a grid and validation pictures are given.

        Raises:
            DataError: no memory picture has a label of these classes.
        """
        memory = require_memory(context, "knn")
        self._row_labels = class_indices(memory.labels, context)
        self._support = np.flatnonzero(self._row_labels >= 0).astype(np.int64)
        if len(self._support) == 0:
            raise DataError("no picture of the memory is labelled with a class of this benchmark; knn has nothing to search")
        self._context = context
        self._chosen = {"k": self.config.k, "temperature": self.config.temperature}
        if self.config.grid and context.validation is not None:
            self._select(context.validation)

    def _select(self, validation: Validation) -> None:
        neighbours = self._search(validation.samples)
        settings = [self._chosen | setting for setting in grid_settings(self.config.grid)]
        best, tried = select(settings, lambda setting: subset_scores(validation, self._rank(neighbours, setting)[0]))
        self._chosen = best.setting
        self._selection = {"benchmark": validation.benchmark.name, "tried": len(tried), "scores": best.scores}

    def _search(self, samples: Sequence[Sample]) -> _Neighbours:
        context = require_fitted(self._context, "knn")
        memory = require_memory(context, "knn")
        queries = context.store.images([sample.image for sample in samples])
        allowed = None if len(self._support) == len(self._row_labels) else self._support
        depth = max(self.config.depth, self.config.recorded, int(self._chosen["k"]), *map(int, self.config.grid.get("k", [])))
        hits = memory.search(queries, "image", depth, allowed=allowed, encoder=context.encoder.fingerprint)
        labels = np.where(hits.rows >= 0, self._row_labels[hits.rows], -1)
        return _Neighbours(hits.rows, labels, hits.scores)

    def _rank(self, neighbours: _Neighbours, setting: Setting) -> tuple[Ints, Floats]:
        classes = len(require_fitted(self._context, "knn").class_ids)
        k, temperature = int(setting["k"]), float(setting["temperature"])
        return rank_votes(class_scores(neighbours.labels, neighbours.similarities, k, temperature, classes))

    def predict(self, samples: Sequence[Sample]) -> Predictions:
        """Scores are vote sums in the units of a similarity (`class_scores`); extras hold the neighbours, nearest first."""
        context = require_fitted(self._context, "knn")
        neighbours = self._search(samples)
        ranked, scores = self._rank(neighbours, self._chosen)
        ids = require_memory(context, "knn").ids
        seen = [row[row >= 0][: self.config.recorded] for row in neighbours.rows]
        extras = {
            "retrieved": [[str(ids[i]) for i in rows] for rows in seen],
            "retrieved_labels": [[context.class_ids[self._row_labels[i]] for i in rows] for rows in seen],
        }
        return Predictions(ranked, scores, extras)

    def facts(self) -> dict[str, Any]:
        """The support size, k and T in use, and how they were chosen."""
        return {**self._chosen, "support": len(self._support), "selection": self._selection or None}


def class_indices(labels: Sequence[str], context: Context) -> Ints:
    """(N,) class index of each memory label, -1 where it is no class of the context.

    Labels are class ids; a label that is no id but a class name counts too, as index files written elsewhere list names.
    """
    index = {name: i for i, name in reversed(list(enumerate(context.class_names)))}
    index |= {class_id: i for i, class_id in enumerate(context.class_ids)}
    return np.array([index.get(str(label), -1) for label in labels], dtype=np.int64)
