"""Per-sample metrics of ranked classes. A method never computes one; the benchmark does, from its predictions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np

from trireme.errors import DataError, unknown_name
from trireme.files import fingerprint
from trireme.types import Floats, Ints


def top1(ranked: Ints, labels: Ints) -> Floats:
    """1 where the first class is the true one. ranked (n, m) best first, -1 padded; labels (n,)."""
    return _hit(ranked, labels, 1)


def top5(ranked: Ints, labels: Ints) -> Floats:
    """1 where the true class is among the first five. A row that ranks fewer counts what it has."""
    return _hit(ranked, labels, 5)


def recall_at_1(ranked: Ints, labels: Ints) -> Floats:
    """1 where what ranks first is a hit. In retrieval a row holds labels of what was found; they may repeat."""
    return _hit(ranked, labels, 1)


def recall_at_5(ranked: Ints, labels: Ints) -> Floats:
    """1 where any of the first five is a hit: of several captions of a picture, one is enough."""
    return _hit(ranked, labels, 5)


def recall_at_10(ranked: Ints, labels: Ints) -> Floats:
    """1 where any of the first ten is a hit."""
    return _hit(ranked, labels, 10)


def _hit(ranked: Ints, labels: Ints, k: int) -> Floats:
    return np.asarray((ranked[:, :k] == labels[:, None]).any(axis=1), dtype=np.float32)


METRICS: Mapping[str, Callable[[Ints, Ints], Floats]] = {
    "top1": top1,
    "top5": top5,
    "r@1": recall_at_1,
    "r@5": recall_at_5,
    "r@10": recall_at_10,
}
DERIVED: Mapping[str, str] = {"mean_per_class": "top1"}
"""Metrics that results compute from the values of another one; they have none of their own."""


def score(metrics: Sequence[str], ranked: Ints, labels: Ints) -> dict[str, Floats]:
    """Every metric's per-sample values in [0, 1], shape (n,); for a derived one those that it is computed from.

    Args:
        ranked: (n, m) class indices, best first, -1 padded.
        labels: (n,) true class indices.

    Raises:
        DataError: shapes disagree, or a label is withheld (negative); padding would otherwise count as a hit.
        UsageError: no such metric.
    """
    if ranked.ndim != 2 or labels.shape != (len(ranked),):
        raise DataError(f"cannot score: ranked is {ranked.shape}, labels are {labels.shape}; expected (n, m) and (n,)")
    if (labels < 0).any():
        raise DataError(f"cannot score: {int((labels < 0).sum())} of {len(labels)} samples have no label")
    return {name: _metric(name)(ranked, labels) for name in dict.fromkeys(DERIVED.get(one, one) for one in metrics)}


@cache
def metric_code(name: str) -> str:
    """Fingerprint of a metric's source text, so that a benchmark's fingerprint moves when its metric does."""
    if name in DERIVED:
        return fingerprint([name, metric_code(DERIVED[name])])
    return fingerprint([inspect.getsource(_metric(name)), inspect.getsource(_hit)])


def _metric(name: str) -> Callable[[Ints, Ints], Floats]:
    if name not in METRICS:
        raise unknown_name("metric", name, [*METRICS, *DERIVED])
    return METRICS[name]
