"""How much an approximate index misses, measured on the queries that a run really makes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Recall:
    """Share of the exact neighbours that an approximate index found, over the queries really made."""

    queries: int = 0
    found: float = 0.0

    def add(self, share: float, queries: int) -> None:
        self.found, self.queries = self.found + share * queries, self.queries + queries

    @property
    def mean(self) -> float | None:
        return self.found / self.queries if self.queries else None
