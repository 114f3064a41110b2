"""Nearest labelled pictures. k = 1 is RAR's "CLIP+KNN" baseline: its code takes the single nearest picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from trireme.errors import UsageError, unknown_name
from trireme.methods.base import Context, Validation, require_fitted, require_memory
from trireme.methods.knn.votes import ranked_votes
from trireme.methods.recall import recall_column
from trireme.methods.selection import Setting, grid_settings, grid_shape, note_unchosen, select, subset_scores
from trireme.methods.support import Support, note_unpictured, support, support_facts
from trireme.retrieval.search import Hits
from trireme.types import RANKED, Floats, Ints, Predictions, Sample, Supervision, Task


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


class Knn:
    """Ranks classes by the labels of the nearest memory pictures, restricted to pictures of the benchmark's classes."""

    Config: ClassVar[type[KnnConfig]] = KnnConfig
    tasks: ClassVar[frozenset[Task]] = frozenset({Task.ZERO_SHOT, Task.FEW_SHOT, Task.DETECTION})
    version: ClassVar[int] = 1
    supervision = Supervision(inference="labels")
    needs_memory = True

    def __init__(self, config: KnnConfig) -> None:
        if min(config.k, config.depth, config.recorded) < 1 or not config.temperature > 0:
            raise UsageError("knn needs k, depth and recorded of at least 1 and a temperature above 0")
        for key in config.grid:
            if key not in ("k", "temperature"):
                raise unknown_name("knn grid key", key, ("k", "temperature"))
        self.config = config
        self._context: Context | None = None
        self._support: Support | None = None
        self._setting: Setting = {"k": config.k, "temperature": config.temperature}
        self._facts: dict[str, Any] = {}

    @property
    def uses_validation(self) -> bool:
        """Whether k or T is chosen."""
        return bool(self.config.grid)

    def fit(self, context: Context) -> None:
        """Find the memory rows of the context's classes; choose k and T where a grid and validation pictures are given.

        Raises:
            UsageError: no memory, or an empty one.
            DataError: no memory picture has a label of these classes.
        """
        memory = require_memory(context, "knn")
        self._context = context
        self._support = support(memory.labels, context.class_ids, context.class_names)
        note_unpictured(self._support, context.class_names)
        if self.config.grid and context.validation is not None:
            self._select(context, context.validation)
        elif self.config.grid:
            self._facts = note_unchosen({name: self._setting[name] for name in self.config.grid})

    def _select(self, context: Context, validation: Validation) -> None:
        benchmark = validation.benchmark
        held = support(require_memory(context, "knn").labels, benchmark.class_ids, benchmark.class_names)
        queries = context.store.images([sample.image for sample in validation.samples])
        hits = self._search(context, queries, held)
        settings = [self._setting | setting for setting in grid_settings(self.config.grid)]
        best, tried = select(
            settings,
            lambda setting: subset_scores(validation, _rank(hits, held, setting)[0]),
            shape=grid_shape(self.config.grid),
        )
        self._setting = {"k": int(best.setting["k"]), "temperature": float(best.setting["temperature"])}
        self._facts = {"selection": {"benchmark": benchmark.name, "tried": len(tried), "scores": best.scores}}

    def _search(self, context: Context, queries: Floats, held: Support) -> Hits:
        ks = [self.config.k, *map(int, self.config.grid.get("k", []))]
        depth = max(self.config.depth, self.config.recorded, *ks)
        memory = require_memory(context, "knn")
        depth = len(memory) if context.every_class else depth
        return memory.search(queries, "image", depth, allowed=held.allowed, encoder=context.encoder.fingerprint)

    def predict(self, samples: Sequence[Sample]) -> Predictions:
        """Scores are vote sums in the units of a similarity (`class_scores`); extras list the nearest pairs and, for an
        approximate index, its recall.
        """
        context, held = require_fitted(self._context, "knn"), require_fitted(self._support, "knn")
        queries = context.store.images([sample.image for sample in samples])
        hits = self._search(context, queries, held)
        ranked, scores = _rank(hits, held, self._setting, context.keep)
        memory = require_memory(context, "knn")
        seen = [row[row >= 0][: self.config.recorded] for row in hits.rows]
        used = hits.rows[:, : max(int(self._setting["k"]), self.config.recorded)]
        extras: dict[str, Sequence[Any]] = {
            "retrieved": [[str(memory.ids[i]) for i in rows] for rows in seen],
            "retrieved_labels": [[context.class_ids[held.labels[i]] for i in rows] for rows in seen],
            **recall_column(memory.index_recall(queries, "image", used, held.allowed)),
        }
        return Predictions(ranked, scores, extras)

    def facts(self) -> dict[str, Any]:
        """The support, k and T in use, and how they were chosen."""
        held = require_fitted(self._support, "knn")
        return {**self._setting, **support_facts(held), **self._facts}


def _rank(hits: Hits, held: Support, setting: Setting, keep: int = RANKED) -> tuple[Ints, Floats]:
    labels = np.where(hits.rows >= 0, held.labels[hits.rows], -1)
    k, temperature = int(setting["k"]), float(setting["temperature"])
    return ranked_votes(labels, hits.scores, k, temperature, keep)
