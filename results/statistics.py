"""Scores with intervals, from per-sample values alone. Nothing here looks at a picture or a model.

Samples of one class are not independent (two drawings of one thing, photographs of one species), so every interval is a
percentile bootstrap that draws whole classes: c classes are drawn with replacement, and the score is the ratio of the
drawn classes' summed values to their number of samples (B. Efron and R. J. Tibshirani, "An Introduction to the
Bootstrap", 1993, chapters 8 and 13; C. A. Field and A. H. Welsh, "Bootstrapping clustered data", JRSS B 69, 2007).
Which percentiles depends on c (`trireme.results.testing.expanded`): the plain 2.5 and 97.5 held the truth in 90 to 92 %
of experiments with 10 to 15 classes of unequal size, these in 93 to 97 % (tests/results/test_coverage.py; BCa did as
plain percentiles there, and studentised intervals held it in up to 100 % where every class has one sample). Seeds are a
second source of chance: with several of them, seeds are drawn too, jointly for all classes.

Edges: where all values are 0, or all are 1, a bootstrap has no width; the exact binomial limit for c trials is given
instead (C. J. Clopper and E. S. Pearson, Biometrika 26, 1934). With fewer than two classes there is no interval: NaN.
With fewer than 10 classes, or few seeds, an interval can be too narrow; n and seeds stand in every table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trireme.errors import DataError
from trireme.results.records import DERIVED_METRICS
from trireme.results.testing import bootstrap_p, expanded, mcnemar_exact, smallest_difference, smallest_shift

Doubles = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 2000
SEED = 20240607
PICTURE = "picture"
"""The column of paired samples that says which of them are regions of one picture."""
_BLOCK = 4_000_000
"""Most integers drawn at a time (32 MB), so that many classes do not need much memory."""


class Interval(NamedTuple):
    """A score and its 95 % interval, in percent; NaN where it is not defined."""

    score: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PerClass:
    """One run's values on one subset, summed per class.

    Attributes:
        classes: (c,) the classes that have a sample, sorted.
        counts: (c,) samples per class.
        sums: (c, m) per class, the sum of each of m metrics.
    """

    classes: NDArray[Any]
    counts: Doubles
    sums: Doubles

    @property
    def n(self) -> int:
        return int(self.counts.sum())


def per_class(values: ArrayLike, clusters: ArrayLike) -> PerClass:
    """Sum values by class.

    Args:
        values: (n,) or (n, m) per-sample values of m metrics.
        clusters: (n,) class of each sample.
    """
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    names = np.asarray(clusters)
    if len(names) != len(table):
        raise DataError(f"{len(table)} values but {len(names)} clusters")
    if not np.isfinite(table).all():
        raise DataError("a per-sample value is NaN or infinite")
    classes, position = np.unique(names, return_inverse=True)
    c = len(classes)
    sums: Doubles = np.empty((c, table.shape[1]))
    for column, of_metric in enumerate(table.T):
        sums[:, column] = np.bincount(position, weights=of_metric, minlength=c)
    counts: Doubles = np.bincount(position, minlength=c).astype(np.float64)
    return PerClass(classes, counts, sums)


def interval(values: ArrayLike, clusters: ArrayLike) -> Interval:
    """Mean in percent with its 95 % interval, clustered; deterministic, and blind to the order of the samples.

    Args:
        values: (n,) per-sample values in [0, 1].
        clusters: (n,) class of each sample.
    """
    return intervals([per_class(values, clusters)])[0]


def intervals(seeds: Sequence[PerClass], macro: bool = False) -> list[Interval]:
    """The interval of each metric's mean over seeds; classes are drawn jointly for all seeds, and seeds are drawn too.

    Args:
        seeds: one table per seed, all with the same m metrics.
        macro: average the classes' means (each class counts once) instead of the samples.
    """
    classes = np.unique(np.concatenate([seed.classes for seed in seeds]))
    c, metrics = len(classes), seeds[0].sums.shape[1]
    if c == 0:
        return [Interval(math.nan, math.nan, math.nan)] * metrics
    tops, bottoms = zip(*(_ratio(seed, classes, macro) for seed in seeds), strict=True)
    points = np.mean([top.sum(0) / bottom.sum() for top, bottom in zip(tops, bottoms, strict=True)], axis=0)
    draws = _draws_over_seeds(tops, bottoms) if c > 1 else np.full((RESAMPLES, metrics), math.nan)
    lows, highs = np.quantile(draws, ends(c), axis=0)
    found = []
    for point, low, high in zip(points.tolist(), lows.tolist(), highs.tolist(), strict=True):
        if c > 1 and point in (0.0, 1.0):
            low, high = all_alike(point, c)
        # the percentiles of a very skewed sample can miss its own mean; an interval never does
        found.append(Interval(100 * point, 100 * min(low, point), 100 * max(high, point)))
    return found


@lru_cache(maxsize=1024)
def ends(units: int) -> tuple[float, float]:
    """Which quantiles of the draws are the interval's ends, where so many units are drawn each time."""
    cut = expanded((1 - LEVEL) / 2, units) if units > 1 else (1 - LEVEL) / 2
    return cut, 1 - cut


def _ratio(seed: PerClass, classes: NDArray[Any], macro: bool) -> tuple[Doubles, Doubles]:
    """Numerators (c, m) and denominators (c,) of the score, with a row for every class of any seed."""
    rows = np.searchsorted(classes, seed.classes)
    top, bottom = np.zeros((len(classes), seed.sums.shape[1])), np.zeros(len(classes))
    top[rows] = seed.sums / seed.counts[:, None] if macro else seed.sums
    bottom[rows] = 1.0 if macro else seed.counts
    return top, bottom


def _draws_over_seeds(tops: Sequence[Doubles], bottoms: Sequence[Doubles]) -> Doubles:
    """(B, m) bootstrap replicates of the mean over seeds."""
    s = len(bottoms)
    columns = [np.column_stack([top, bottom]) for top, bottom in zip(tops, bottoms, strict=True)]
    drawn = _drawn_sums(np.hstack(columns)).reshape(RESAMPLES, s, -1)  # (B, s, m + 1)
    with np.errstate(invalid="ignore"):
        scores = drawn[..., :-1] / drawn[..., -1:]
    if s == 1:
        replicates: Doubles = scores[:, 0]
    else:
        replicates = np.einsum("bs,bsm->bm", _weights(s, RESAMPLES, SEED + 1) / s, scores)
    return replicates  # NaN, hence no interval, where a draw holds only classes that one seed has no sample of


def _drawn_sums(table: Doubles) -> Doubles:
    """(B, k) sums of the rows (c, k) that each of B draws of c rows picks."""
    c = len(table)
    if RESAMPLES * c <= _BLOCK:
        return _times(_weights(c, RESAMPLES, SEED), table)
    step = max(1, _BLOCK // c)
    blocks = [(first, min(step, RESAMPLES - first)) for first in range(0, RESAMPLES, step)]
    return np.concatenate([_times(_draw(c, size, (SEED, first)), table) for first, size in blocks])


def _times(weights: Doubles, table: Doubles) -> Doubles:
    """weights @ table without BLAS: the same bits on every machine, and no threads that wait for each other."""
    columns = np.ascontiguousarray(table.T)
    return np.stack([np.einsum("bc,c->b", weights, column) for column in columns], axis=1)


@lru_cache(maxsize=4)
def _weights(c: int, draws: int, seed: int) -> Doubles:
    """(draws, c): how often each class is drawn. It depends on its arguments alone, so equal tables get equal draws."""
    return _draw(c, draws, (seed,))


def _draw(c: int, draws: int, seed: tuple[int, ...]) -> Doubles:
    picked = np.random.default_rng(seed).integers(0, c, size=(draws, c))
    picked += np.arange(draws)[:, None] * c
    return np.bincount(picked.ravel(), minlength=draws * c).reshape(draws, c).astype(np.float64)


def all_alike(point: float, trials: int) -> tuple[float, float]:
    """Clopper-Pearson limits for 0 or all of `trials` successes: (alpha / 2) ** (1 / trials) and its complement."""
    limit = ((1 - LEVEL) / 2) ** (1 / trials)
    return (limit, 1.0) if point == 1.0 else (0.0, 1 - limit)


def score_rows(
    predictions: Any, subsets: Mapping[str, Sequence[str] | None], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """The `scores` of a run record, from its predictions.

    Args:
        predictions: `pyarrow.Table` with label, group, status and one column a metric. Rows that failed, or have no
            label, do not count.
        subsets: reported subset -> the groups it holds, None for all of them.
        metrics: metric names; `mean_per_class` is computed from `top1`.

    Returns:
        Rows {subset, metric, score, ci_low, ci_high, n} by subset, then metric; percent, None where not defined.
    """
    return joint_score_rows([predictions], subsets, metrics)


def joint_score_rows(
    seeds: Sequence[Any], subsets: Mapping[str, Sequence[str] | None], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """The same for several seeds of one run: the mean over seeds; n is the smallest of the seeds."""
    rows = []
    for subset, groups in subsets.items():
        columns = list(dict.fromkeys(DERIVED_METRICS.get(metric, metric) for metric in metrics))
        tables = [_subset_per_class(table, groups, columns) for table in seeds]
        n = min(table.n for table in tables)
        plain = dict(zip(columns, intervals(tables) if n else [], strict=False))
        macro = dict(zip(columns, intervals(tables, macro=True) if n and _any_derived(metrics) else [], strict=False))
        for metric in metrics:
            derived = metric in DERIVED_METRICS
            found = macro.get(DERIVED_METRICS[metric]) if derived else plain.get(metric)
            score, low, high = (_or_none(value) for value in found) if found else (None, None, None)
            rows.append({"subset": subset, "metric": metric, "score": score, "ci_low": low, "ci_high": high, "n": n})
    return rows


def _any_derived(metrics: Sequence[str]) -> bool:
    return any(metric in DERIVED_METRICS for metric in metrics)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def _subset_per_class(table: Any, groups: Sequence[str] | None, columns: Sequence[str]) -> PerClass:
    label = table["label"].to_numpy()
    keep = _is_one_of(table["status"], ["ok"]) & (label >= 0)
    if groups is not None:
        keep &= _is_one_of(table["group"], groups)
    values = np.stack([table[column].to_numpy(zero_copy_only=False)[keep] for column in columns], axis=1)
    return per_class(values, label[keep])


def check_values(table: Any, columns: Sequence[str]) -> None:
    """Raise DataError naming a metric that has a value outside [0, 1], or none, in a row that counts."""
    counted = _is_one_of(table["status"], ["ok"]) & (table["label"].to_numpy() >= 0)
    for column in columns:
        values = table[column].to_numpy(zero_copy_only=False)[counted]
        if not bool(((values >= 0) & (values <= 1)).all()):
            raise DataError(f"{column} has a value outside [0, 1], or none, in a sample that did not fail")


def _is_one_of(column: Any, names: Sequence[str]) -> NDArray[np.bool_]:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.is_in(column.cast("string"), value_set=pa.array(list(names), pa.string()))
    mask: NDArray[np.bool_] = found.to_numpy()
    return mask


def _strings(column: Any) -> NDArray[Any]:
    texts: NDArray[Any] = np.asarray(column.cast("string").to_pylist(), dtype=str)
    return texts


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How far method A is ahead of method B on the same samples.

    Attributes:
        n: samples that both methods answered; the fewest of the seeds.
        difference: score of A minus score of B, in percentage points, with its 95 % clustered interval (low, high).
        only_a, only_b: samples that only A, only B has right (None unless the metric is 0/1 and there is one seed).
        p: exact two-sided McNemar test of only_a against only_b (None as they are). It takes samples as independent.
        p_bootstrap: two-sided p from the spread of the interval's draws, which draw whole classes (and seeds): see
            `trireme.results.testing.bootstrap_p`. None where there is no interval.
        smallest: the smallest difference, in percentage points, that these samples would show: see
            `trireme.results.testing.smallest_difference`. None where nothing can be said.
    """

    n: int
    difference: float
    low: float
    high: float
    only_a: int | None
    only_b: int | None
    p: float | None
    p_bootstrap: float | None = None
    smallest: float | None = None


def paired_difference(a: Any, b: Any, metric: str, groups: Sequence[str] | None = None) -> PairedDifference:
    """Compare two runs' predictions of the same samples.

    Args:
        a, b: `pyarrow.Table`s with sample_id, label, group, status and the metric's column; in any order. Where they
            have a column `PICTURE`, whole pictures are drawn too, and what gives the wider interval counts: classes or
            pictures.
        groups: restrict to samples of these groups.

    Raises:
        DataError: the tables are not about the same samples, or no sample was answered by both.
    """
    return joint_paired_difference([(a, b)], metric, groups)


def joint_paired_difference(
    seeds: Sequence[tuple[Any, Any]], metric: str, groups: Sequence[str] | None = None
) -> PairedDifference:
    """The same for the mean over seeds: A and B of one seed are a pair; classes are drawn jointly, and seeds are drawn.

    Raises:
        DataError: as `paired_difference`.
    """
    pairs = [_answered_by_both(a, b, metric, groups) for a, b in seeds]
    difference = float(np.mean([(x - y).mean() for x, y, *_ in pairs]))
    draws, units = max((_paired_draws(pairs, by) for by in range(2, len(pairs[0]))), key=lambda drawn: _width(*drawn))
    return _paired(pairs, difference, draws, units)


def _paired_draws(pairs: Sequence[tuple[NDArray[Any], ...]], by: int) -> tuple[Doubles, int]:
    """Draws of the difference with whole clusters drawn, which stand at `by` in each pair, and how many there are."""
    tables = [per_class(pair[0] - pair[1], pair[by]) for pair in pairs]
    clusters = np.unique(np.concatenate([table.classes for table in tables]))
    if len(clusters) < 2:
        return np.empty(0), len(clusters)
    tops, bottoms = zip(*(_ratio(table, clusters, macro=False) for table in tables), strict=True)
    return _draws_over_seeds(tops, bottoms)[:, 0], len(clusters)


def _width(draws: Doubles, units: int) -> float:
    """Of the interval; where there is none, it is the narrowest."""
    low, high = np.quantile(draws, ends(units)) if draws.size else (0.0, -1.0)
    return -1.0 if math.isnan(high - low) else float(high - low)


def _paired(
    pairs: Sequence[tuple[NDArray[Any], ...]], difference: float, draws: Doubles, units: int
) -> PairedDifference:
    n, low, high, p = min(len(x) for x, *_ in pairs), math.nan, math.nan, math.nan
    if draws.size:
        low, high = np.quantile(draws, ends(units)).tolist()
        p = bootstrap_p(draws, difference, units)
    spread, careful = float(draws.std()) if draws.size else math.nan, None if math.isnan(p) else p
    x, y, *_ = pairs[0]
    only_a = only_b = exact = None
    if len(pairs) > 1 or not np.isin(np.concatenate([x, y]), (0.0, 1.0)).all():
        smallest = smallest_shift(spread)
    else:
        only_a, only_b = int((x > y).sum()), int((x < y).sum())
        exact, alone = mcnemar_exact(only_a, only_b), float((x - y).var()) / n
        smallest = smallest_difference(n, (only_a + only_b) / n, spread**2 / alone if alone and draws.size else 1.0)
    shown = None if math.isnan(smallest) else 100 * smallest
    return PairedDifference(n, 100 * difference, 100 * low, 100 * high, only_a, only_b, exact, careful, shown)


def _answered_by_both(a: Any, b: Any, metric: str, groups: Sequence[str] | None) -> tuple[NDArray[Any], ...]:
    """Values of A, values of B, class and, where it is told, picture of the samples that both answered."""
    first, second = _by_sample(a, metric), _by_sample(b, metric)
    if not np.array_equal(first["id"], second["id"]) or not np.array_equal(first["label"], second["label"]):
        raise DataError("the two runs were not made on the same samples; compare runs of one benchmark and one role")
    both = first["ok"] & second["ok"] & (first["label"] >= 0)
    if groups is not None:
        both &= np.isin(first["group"], np.asarray(groups, dtype=str))
    if not both.any():
        raise DataError("no sample was answered by both runs")
    return tuple(column[both] for column in (first["value"], second["value"], first["label"], *_pictures(first)))


def _pictures(columns: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    return [columns[PICTURE]] if PICTURE in columns else []


def _by_sample(table: Any, metric: str) -> dict[str, NDArray[Any]]:
    ids = _strings(table["sample_id"])
    order = np.argsort(ids, kind="stable")
    columns = {
        "id": ids,
        "label": table["label"].to_numpy(),
        "group": _strings(table["group"]),
        "ok": _strings(table["status"]) == "ok",
        "value": table[metric].to_numpy(zero_copy_only=False).astype(np.float64),
    }
    if PICTURE in table.column_names:
        columns[PICTURE] = _strings(table[PICTURE])
    return {name: column[order] for name, column in columns.items()}
