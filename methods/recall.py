"""How much an approximate index misses, measured on the queries that a run really makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trireme.types import Floats

INDEX_RECALL = "index_recall"
"""The extra of predictions that holds, for each sample, the share of its exact neighbours that the index found.

It is stored with the predictions, so that a run which goes on after a kill states the recall of all its samples.
"""


def recall_column(shares: Floats | None) -> Mapping[str, Sequence[float]]:
    """The column for `Predictions.extras`; nothing where the index is exact and nothing was measured."""
    return {} if shares is None else {INDEX_RECALL: shares.tolist()}


@dataclass(slots=True)
class Recall:
    """Share of the exact neighbours that an approximate index found, over the queries of a training."""

    queries: int = 0
    found: float = 0.0

    def add(self, share: float, queries: int) -> None:
        self.found, self.queries = self.found + share * queries, self.queries + queries

    @property
    def mean(self) -> float | None:
        return self.found / self.queries if self.queries else None
