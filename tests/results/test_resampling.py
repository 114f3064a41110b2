"""Intervals of metrics that are no mean over samples. Expected: the same metric as a mean, or a hand computation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from trireme.errors import DataError
from trireme.results.resampling import DRAWS, draw_counts, joint_set_scores, paired_set_difference, set_scores
from trireme.results.statistics import interval
from trireme.types import Floats, Ints

KEY = ("all", "share")


@dataclass
class Share:
    """The share of right samples as a metric of the set; a mean whose interval is known otherwise."""

    right: Floats
    sizes: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sizes = {KEY: len(self.right)}

    @property
    def units(self) -> int:
        return len(self.right)

    def values(self, counts: Ints) -> Mapping[tuple[str, str], float]:
        total = int(counts.sum())
        return {KEY: float((counts * self.right).sum() / total) if total else math.nan}


def record(right: list[float]) -> dict[str, Any]:
    rows, replicates = set_scores(Share(np.array(right, dtype=np.float32)))
    return {"scores": rows, "replicates": replicates, "metrics": ["share"]}


def test_draws_are_the_same_every_time_and_draw_as_many_units_as_there_are() -> None:
    first, again = list(draw_counts(7)), list(draw_counts(7))
    assert len(first) == DRAWS
    assert all(counts.sum() == 7 for counts in first)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert np.mean(first, axis=0) == pytest.approx(np.ones(7), abs=0.25)  # each unit is drawn once on average


def test_a_mean_as_a_set_metric_has_the_interval_of_the_mean() -> None:
    right = (np.random.default_rng(0).random(400) < 0.7).astype(np.float32)
    (row,), _ = set_scores(Share(right), draws=2000)
    expected = interval(right, np.arange(400))  # the other bootstrap of this package, one cluster a sample
    assert row["score"] == pytest.approx(expected.score)
    assert [row["ci_low"], row["ci_high"]] == pytest.approx([expected.low, expected.high], abs=0.5)
    assert row["n"] == 400


def test_all_right_has_the_exact_binomial_limit() -> None:
    (row,) = record([1.0] * 50)["scores"]
    assert row["ci_low"] == pytest.approx(100 * 0.025 ** (1 / 50))  # Clopper-Pearson for 50 of 50
    assert row["ci_high"] == 100


def test_one_unit_has_no_interval_and_an_undefined_metric_no_score() -> None:
    (row,) = record([1.0])["scores"]
    assert (row["score"], row["ci_low"], row["n"]) == (100.0, None, 1)
    (row,) = record([math.nan, 1.0])["scores"]
    assert (row["score"], row["ci_low"], row["n"]) == (None, None, 0)


def test_a_value_that_is_no_share_is_refused() -> None:
    with pytest.raises(DataError, match=r"share of all is 1\.5"):
        record([1.5, 1.5])


def test_differences_are_taken_draw_by_draw() -> None:
    right = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]
    same = paired_set_difference(record(right), record(right), *KEY)
    assert (same.difference, same.low, same.high) == (0, 0, 0)  # two independent bootstraps would have a width here
    better = paired_set_difference(record([1.0] * 8), record(right), *KEY)
    assert better.difference == pytest.approx(37.5)
    assert better.low < 37.5 < better.high
    assert better.p_bootstrap is not None
    assert better.p_bootstrap < 0.05 or better.low <= 0
    # the standard error of a share of 8 is sqrt(0.625 * 0.375 / 8); z(0.975) + z(0.80) = 2.8016
    assert better.smallest == pytest.approx(100 * 2.8016 * math.sqrt(0.625 * 0.375 / 8), rel=0.1)
    with pytest.raises(DataError, match="draws of share differ"):
        paired_set_difference(record(right), record(right[:5]), *KEY)


class Seldom(Share):
    """A metric of the first unit alone, which 37 % of the draws do not hold (1/e)."""

    def values(self, counts: Ints) -> Mapping[tuple[str, str], float]:
        return {KEY: float(self.right[0]) / 2 if counts[0] else math.nan}


def test_a_metric_that_is_often_not_defined_has_no_interval() -> None:
    (row,), _ = set_scores(Seldom(np.ones(60, dtype=np.float32)))
    assert (row["score"], row["ci_low"], row["ci_high"]) == (50, None, None)


def test_seeds_are_averaged_and_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    seeds = [record([float(v) for v in rng.random(200) < p]) for p in (0.3, 0.5, 0.7)]
    (row,) = joint_set_scores(seeds)
    assert row["score"] == pytest.approx(np.mean([one["scores"][0]["score"] for one in seeds]))
    alone = seeds[1]["scores"][0]
    assert row["ci_high"] - row["ci_low"] > alone["ci_high"] - alone["ci_low"]  # seeds 20 points apart
    (one,) = joint_set_scores(seeds[:1])
    assert one == pytest.approx(seeds[0]["scores"][0], abs=1e-3)  # replicates are kept to four digits


class Repeated(Share):
    """A metric that repetition makes higher: half of it is the share of units that are drawn more than once."""

    def values(self, counts: Ints) -> Mapping[tuple[str, str], float]:
        share = super().values(counts)[KEY]
        return {KEY: share / 2 + float((counts > 1).mean()) / 2}


def test_what_repetition_adds_is_taken_off_the_interval() -> None:
    """26 % of the units are drawn more than once (1 - 2/e): without a shift the score would lie below every draw."""
    right = (np.random.default_rng(2).random(400) < 0.5).astype(np.float32)
    (row,), replicates = set_scores(Repeated(right))
    assert min(replicates["of"][0]["values"]) > row["score"]
    assert row["ci_low"] < row["score"] < row["ci_high"]
    middle = (row["ci_low"] + row["ci_high"]) / 2
    assert middle == pytest.approx(row["score"], abs=0.5)
