"""What every searchable thing shares: hits, checks of queries, and leaving given rows out of an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from trireme.errors import DataError, MemoryMismatchError, UsageError
from trireme.types import Floats, Ints

Side = Literal["image", "text"]
SIDES: tuple[str, ...] = get_args(Side)


class Hits(NamedTuple):
    """The k best rows of each of n queries, best first.

    Attributes:
        rows: (n, k) int64 row numbers, -1 where there are fewer than k.
        scores: (n, k) float32 inner products (cosines of normalised vectors), -inf where rows is -1.
    """

    rows: Ints
    scores: Floats


def checked_queries(queries: Floats, dim: int, k: int, what: str) -> Floats:
    """Queries as a contiguous float32 (n, d) array.

    Raises:
        UsageError: k is not positive. MemoryMismatchError: another dimension. DataError: NaN or infinity.
    """
    if k < 1:
        raise UsageError(f"k={k}: ask for at least one neighbour")
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise MemoryMismatchError(f"{what} holds vectors of {dim} dimensions, the queries have shape {queries.shape}")
    bad = np.flatnonzero(~np.isfinite(queries).all(axis=1))
    if len(bad):
        raise DataError(f"{len(bad)} of {len(queries)} queries to {what} hold NaN or infinity (first: row {bad[0]})")
    return np.ascontiguousarray(queries, dtype=np.float32)


def checked_rows(allowed: Ints, size: int, what: str) -> Ints:
    """Sorted distinct row numbers. UsageError where one does not exist."""
    rows = np.unique(np.asarray(allowed, dtype=np.int64))
    if len(rows) and (rows[0] < 0 or rows[-1] >= size):
        raise UsageError(f"allowed rows {rows[0]}..{rows[-1]} do not all exist in {what} of {size} rows")
    return rows


def empty_hits(n: int, k: int) -> Hits:
    """(n, k) hits of nothing: rows -1, scores -inf."""
    return Hits(np.full((n, k), -1, dtype=np.int64), np.full((n, k), -np.inf, dtype=np.float32))


def padded(rows: Ints, scores: Floats, k: int) -> Hits:
    """The first k columns, filled up with -1 and -inf where there are fewer."""
    hits = empty_hits(len(rows), k)
    width = min(k, rows.shape[1])
    hits.rows[:, :width], hits.scores[:, :width] = rows[:, :width], scores[:, :width]
    hits.scores[hits.rows < 0] = -np.inf
    return hits


def shares_found(exact: Ints, found: Ints) -> Floats:
    """For each of n queries the share of its exact neighbours (n, k) that are among the found ones (n, m): (n,).

    -1 pads both; a query without an exact neighbour misses none.
    """
    shares = [
        len(np.intersect1d(wanted[wanted >= 0], got)) / size if (size := int((wanted >= 0).sum())) else 1.0
        for wanted, got in zip(exact, found, strict=True)
    ]
    return np.array(shares, dtype=np.float32)


def search_without(
    search: Callable[[Floats, int], Hits], queries: Floats, k: int, excluded: Sequence[Ints], size: int
) -> Hits:
    """The k best rows of each query that are not in its `excluded`, as if those rows were not there.

    It asks for as many more as a query could lose. Queries with few exclusions do not pay for those with many.

    Args:
        search: (queries, depth) -> Hits.
        excluded: per query, distinct row numbers.
        size: how many rows can be found at all.
    """
    hits = empty_hits(len(queries), k)
    counts = np.array([len(rows) for rows in excluded], dtype=np.int64)
    depths = np.minimum(k + _rounded_up(counts), max(size, 1))
    for depth in np.unique(depths):
        group = np.flatnonzero(depths == depth)
        found = search(queries[group], int(depth))
        rows, scores = found.rows.copy(), found.scores.copy()
        if counts[group].max() == 1:  # a training pair among its own neighbours: the common case, without a loop
            gone = rows == np.array([excluded[query][0] if counts[query] else -1 for query in group.tolist()])[:, None]
        else:
            gone = np.stack([np.isin(found.rows[i], excluded[query]) for i, query in enumerate(group.tolist())])
        rows[gone], scores[gone] = -1, -np.inf
        order = np.argsort(rows < 0, axis=1, kind="stable")
        rows, scores = np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)
        hits.rows[group], hits.scores[group] = padded(rows, scores, k)
    return hits


def _rounded_up(counts: Ints) -> Ints:
    """To 0 or a power of two, so that queries with similar counts share one search."""
    powers = 2 ** np.ceil(np.log2(np.maximum(counts, 1))).astype(np.int64)
    return np.where(counts == 0, 0, powers).astype(np.int64)
