"""Intervals of metrics that are no mean over samples: an AP, an AUC, a harmonic mean.

What such a metric would be if the units of its benchmark (pictures of a detection set, say) had been drawn anew is
computed `DRAWS` times, and the percentiles of these values are its interval (B. Efron and R. J. Tibshirani, "An
Introduction to the Bootstrap", 1993, chapter 13). The values are kept in the run record: two runs on one benchmark
were resampled by the same draws, so that the difference of their values, draw by draw, is a paired bootstrap, and no
evaluator has to run again.

A picture that is drawn twice adds two equal detections to a curve, which makes an average precision higher on average
(knn-10 on the world's proposals: 42.8, with plain percentiles from 42.8 to 46.3). So the draws are moved until their
mean is the score (the bootstrap's own estimate of its bias, chapter 10), and their percentiles are taken then: which
ones depends on how many units there are, as in `trireme.results.statistics`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from trireme.errors import DataError
from trireme.progress import progress
from trireme.results.statistics import SEED, Doubles, PairedDifference, all_alike, ends
from trireme.results.testing import bootstrap_p, smallest_shift
from trireme.types import Evaluator, Ints

DRAWS = 200
_DEFINED = 0.95  # of the draws, at least: else the metric hangs on a few samples, and percentiles are of others


def draw_counts(units: int, draws: int = DRAWS) -> Iterator[Ints]:
    """How often each of u units is drawn, (u,), for every draw of u units with replacement; the same for every run."""
    rng = np.random.default_rng([SEED, units])
    for _ in range(draws):
        yield np.bincount(rng.integers(0, units, units), minlength=units).astype(np.int64)


def set_scores(evaluator: Evaluator, draws: int = DRAWS) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of a record's `scores` for the metrics of an evaluator, and the record's `replicates`.

    A metric that is not defined (no sample of its subset) has score None and n 0. With fewer than two units there is no
    interval; where every draw gives 0, or all give 100, the exact binomial limit for u trials is given.

    Raises:
        DataError: a value outside [0, 1].
    """
    units, sizes = evaluator.units, evaluator.sizes
    points = evaluator.values(np.ones(units, dtype=np.int64))
    drawn: dict[tuple[str, str], list[float]] = {key: [] for key in points}
    if units > 1:
        with progress("interval", draws, "draws") as bar:
            for counts in draw_counts(units, draws):
                values = evaluator.values(counts)
                for key, found in drawn.items():
                    found.append(100 * values.get(key, math.nan))
                bar.advance()
    rows = []
    for (subset, metric), point in points.items():
        if not math.isnan(point) and not -1e-9 <= point <= 1 + 1e-9:
            raise DataError(f"{metric} of {subset} is {point}; an evaluator gives values in [0, 1]")
        n = 0 if math.isnan(point) else int(sizes[subset, metric])
        low, high = _limits(100 * point, np.array(drawn[subset, metric]), units)
        rows.append(_row(subset, metric, 100 * point, low, high, n))
    kept = [
        {"subset": subset, "metric": metric, "values": [_or_none(value, 4) for value in values]}
        for (subset, metric), values in drawn.items()
    ]
    return rows, {"units": units, "draws": draws if units > 1 else 0, "of": kept}


def joint_set_scores(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The mean over seeds of every set metric, from the records' own rows and replicates: the draws of units are the
    same for all seeds, and for each of them the seeds are drawn too.

    Args:
        records: `run.json` of each seed; a metric that one of them lacks is left out.
    """
    tables = [_replicates(record) for record in records]
    scores = [{(row["subset"], row["metric"]): row for row in record["scores"]} for record in records]
    rows = []
    for key in tables[0]:
        if not all(key in table for table in tables):
            continue
        points = [_nan_for_none(of_seed[key]["score"]) for of_seed in scores]
        values = np.stack([table[key] for table in tables])
        seeds, draws = values.shape
        picked = np.random.default_rng([SEED, seeds]).integers(0, seeds, (draws, seeds))
        joint = np.take_along_axis(values.T, picked, axis=1).mean(axis=1)
        point = float(np.mean(points))
        low, high = _limits(point, joint, records[0]["replicates"]["units"])
        rows.append(_row(*key, point, low, high, min(int(of_seed[key]["n"]) for of_seed in scores)))
    return rows


def paired_set_difference(a: Mapping[str, Any], b: Mapping[str, Any], subset: str, metric: str) -> PairedDifference:
    """Score of run A minus score of run B on one benchmark, with the interval of their draw-by-draw differences.

    Raises:
        DataError: the two were not resampled by the same draws, or one of them has no score there.
    """
    points = [_scored(record, subset, metric) for record in (a, b)]
    values = [_replicates(record).get((subset, metric)) for record in (a, b)]
    first, second = values
    if first is None or second is None:
        raise DataError(f"one of the runs keeps no draws of {metric}; run it again")
    if a["replicates"]["units"] != b["replicates"]["units"] or first.shape != second.shape:
        raise DataError(f"the two runs' draws of {metric} differ; compare runs of one benchmark and one role")
    difference = float(points[0]["score"]) - float(points[1]["score"])
    n, gaps, units = min(int(row["n"]) for row in points), first - second, int(a["replicates"]["units"])
    low, high = _percentiles(gaps, difference, units)
    if math.isnan(low):
        return PairedDifference(n, difference, low, high, None, None, None)
    defined = gaps[~np.isnan(gaps)]
    p = bootstrap_p(defined + (difference - defined.mean()), difference, units)
    return PairedDifference(n, difference, low, high, None, None, None, p, smallest_shift(float(defined.std())))


def _scored(record: Mapping[str, Any], subset: str, metric: str) -> Mapping[str, Any]:
    for row in record["scores"]:
        if (row["subset"], row["metric"]) == (subset, metric) and row["n"] and row["score"] is not None:
            found: Mapping[str, Any] = row
            return found
    raise DataError(f"{record['method']['name']} has no score of {metric} on {subset}")


def _limits(point: float, drawn: Doubles, units: int) -> tuple[float, float]:
    """The interval in percent; it always holds the score itself."""
    if math.isnan(point):
        return math.nan, math.nan
    low, high = _percentiles(drawn, point, units)
    if math.isnan(low):
        return math.nan, math.nan
    if low == high and point in (0.0, 100.0):
        low, high = (100 * limit for limit in all_alike(point / 100, units))
    return max(0.0, min(low, point)), min(100.0, max(high, point))


def _percentiles(drawn: Doubles, point: float, units: int) -> tuple[float, float]:
    """Of draws moved so that their mean is the point; NaN where it is often not defined (its few samples not drawn)."""
    defined = drawn[~np.isnan(drawn)]
    if len(defined) < max(2, _DEFINED * len(drawn)):
        return math.nan, math.nan
    low, high = (np.quantile(defined, ends(units)) + (point - defined.mean())).tolist()
    return low, high


def _row(subset: str, metric: str, score: float, low: float, high: float, n: int) -> dict[str, Any]:
    limits = {"ci_low": _or_none(low), "ci_high": _or_none(high)}
    return {"subset": subset, "metric": metric, "score": _or_none(score), **limits, "n": n}


def _or_none(value: float, digits: int = 6) -> float | None:
    return None if math.isnan(value) else min(100.0, max(0.0, round(value, digits)))


def _nan_for_none(value: float | None) -> float:
    return math.nan if value is None else value


def _replicates(record: Mapping[str, Any]) -> dict[tuple[str, str], Doubles]:
    return {
        (one["subset"], one["metric"]): _doubles(one["values"])
        for one in (record.get("replicates") or {}).get("of", ())
    }


def _doubles(values: Sequence[float | None]) -> Doubles:
    return np.array([_nan_for_none(value) for value in values], dtype=np.float64)
