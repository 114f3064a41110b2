"""Intervals and paired tests against hand computations, scipy, and simulation."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap, ttest_1samp

from trireme.errors import DataError
from trireme.results.statistics import (
    Interval,
    interval,
    intervals,
    joint_paired_difference,
    joint_score_rows,
    paired_difference,
    per_class,
    score_rows,
)
from trireme.results.testing import expanded, smallest_difference

from .synthetic import SUBSETS, table

LABELS = [0, 1, 2, 3]
BINARY = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=1, max_size=60)


def test_two_classes_by_hand() -> None:
    """One class all right, one all wrong: 1/4 of the draws score 0, 1/2 score 50, 1/4 score 100; 95 % spans it all."""
    assert interval([1, 1, 0, 0], [7, 7, 9, 9]) == Interval(50.0, 0.0, 100.0)


def test_interval_equals_scipy_on_unequal_classes() -> None:
    """scipy's percentile bootstrap of the same ratio, 20,000 resamples to our 2,000: half a point is chance."""
    rng = np.random.default_rng(3)
    clusters = rng.integers(0, 60, 400) ** 2 // 60
    values = (rng.random(400) < 0.2 + 0.6 * (clusters % 3 == 0)).astype(float)
    found = interval(values, clusters)
    parts = per_class(values, clusters)
    expected = bootstrap(
        (parts.sums[:, 0], parts.counts),
        lambda top, bottom, axis: top.sum(axis) / bottom.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        confidence_level=1 - 2 * expanded(0.025, len(parts.classes)),
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert found.score == pytest.approx(100 * values.mean())
    assert found.low == pytest.approx(100 * expected.low, abs=0.5)
    assert found.high == pytest.approx(100 * expected.high, abs=0.5)


@pytest.mark.parametrize("clusters", [[0, 0, 0], [4]])
def test_one_class_has_no_interval(clusters: list[int]) -> None:
    score, low, high = interval([1.0] * len(clusters), clusters)
    assert score == 100
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize("trials", [2, 5, 40])
def test_all_alike_is_the_exact_binomial_limit(trials: int) -> None:
    """scipy's Clopper-Pearson for 0 and for all of `trials`."""
    for right in (0, trials):
        exact = binomtest(right, trials).proportion_ci(0.95, method="exact")
        found = interval([float(right > 0)] * trials, list(range(trials)))
        assert found == pytest.approx((100 * right / trials, 100 * exact.low, 100 * exact.high))


def test_all_equal_but_not_extreme_has_no_width() -> None:
    """Three samples of value 0.5 in three classes: every draw of classes scores 50."""
    assert interval([0.5] * 3, [0, 1, 2]) == Interval(50.0, 50.0, 50.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_no_number_are_refused(bad: float) -> None:
    with pytest.raises(DataError, match="NaN or infinite"):
        interval([1.0, bad], [0, 1])


def test_lengths_must_agree() -> None:
    with pytest.raises(DataError, match="2 values but 3 clusters"):
        interval([1.0, 0.0], [0, 1, 2])


@given(BINARY, st.randoms(use_true_random=False))
def test_order_of_samples_changes_nothing(samples: list[tuple[int, int]], random: object) -> None:
    shuffled = list(samples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = (interval(*zip(*rows, strict=True)) for rows in (samples, shuffled))
    np.testing.assert_array_equal(first, second)


@given(BINARY)
def test_interval_holds_its_mean_and_stays_a_percentage(samples: list[tuple[int, int]]) -> None:
    values, clusters = zip(*samples, strict=True)
    score, low, high = interval(values, clusters)
    assert score == pytest.approx(100 * np.mean(values))
    if len(set(clusters)) > 1:
        assert 0 <= low <= score <= high <= 100


def test_many_classes_are_drawn_in_blocks() -> None:
    """9,000 one-sample classes take several blocks; the interval is the normal one, 1.96 x sqrt(p (1 - p) / n)."""
    values = np.arange(9000) % 4 == 0
    found = interval(values, np.arange(9000))
    half = 100 * 1.96 * math.sqrt(0.25 * 0.75 / 9000)
    assert found.score == 25
    assert (found.low, found.high) == pytest.approx((25 - half, 25 + half), abs=0.06)
    assert found == interval(values, np.arange(9000))


def test_score_rows_by_hand() -> None:
    """Labels 0, 2 are common, 1, 3 rare. Sample 4 failed and sample 5 has no label: neither counts."""
    predictions = table([1, 1, 0, 0, 1, 1], [0, 1, 2, 3, 2, -1], failed=[4], top5=[1, 1, 1, 0, 1, 1])
    rows = {(row["subset"], row["metric"]): row for row in score_rows(predictions, SUBSETS, ["top1", "top5"])}
    counts = {key: (row["score"], row["n"]) for key, row in rows.items()}
    assert counts == {
        ("all", "top1"): (50.0, 4),
        ("all", "top5"): (75.0, 4),
        ("common", "top1"): (50.0, 2),
        ("common", "top5"): (100.0, 2),
        ("rare", "top1"): (50.0, 2),
        ("rare", "top5"): (50.0, 2),
    }
    # all of 2 trials right: Clopper-Pearson low limit 0.025 ** (1 / 2) = 0.158114
    assert (rows["common", "top5"]["ci_low"], rows["common", "top5"]["ci_high"]) == pytest.approx((15.8114, 100))


@given(BINARY, st.randoms(use_true_random=False))
def test_order_of_rows_changes_no_score(samples: list[tuple[int, int]], random: object) -> None:
    predictions = table(*map(list, zip(*samples, strict=True)))
    order = list(range(len(samples)))
    random.shuffle(order)  # type: ignore[attr-defined]
    metrics = ["top1", "mean_per_class"]
    assert score_rows(predictions.take(order), SUBSETS, metrics) == score_rows(predictions, SUBSETS, metrics)


def test_empty_subset_is_null_not_zero() -> None:
    rows = score_rows(table([1, 0], [0, 2]), {"rare": ["rare"]}, ["top1"])
    assert rows == [{"subset": "rare", "metric": "top1", "score": None, "ci_low": None, "ci_high": None, "n": 0}]


def test_mean_per_class_by_hand() -> None:
    """Class 0: 3 of 4 right, class 1: 0 of 1. top1 = 3/5, mean per class = (3/4 + 0) / 2."""
    rows = score_rows(table([1, 1, 1, 0, 0], [0, 0, 0, 0, 1]), {"all": None}, ["top1", "mean_per_class"])
    assert [row["score"] for row in rows] == [60.0, 37.5]
    # draws of two classes: (0, 0) with 1/4, mixed, (1, 1) with 1/4 -> from class 1's 0 to class 0's 75
    assert (rows[1]["ci_low"], rows[1]["ci_high"]) == (0.0, 75.0)


def test_nan_in_a_row_that_did_not_fail_is_refused() -> None:
    predictions = table([1, math.nan], [0, 1])
    with pytest.raises(DataError, match="NaN"):
        score_rows(predictions, SUBSETS, ["top1"])


def test_equal_seeds_change_nothing() -> None:
    """Three copies of one run: their mean is the run, and drawing seeds adds no spread."""
    one = per_class([1, 0, 0, 1, 1, 0], [0, 0, 1, 1, 2, 3])
    assert intervals([one, one, one])[0] == pytest.approx(intervals([one])[0])


def test_mean_over_seeds_and_their_spread_by_hand() -> None:
    """Seed 0 has all right, seed 1 nothing: mean 50; two drawn seeds are both 0 or both 1 in 1/4 of draws each."""
    right, wrong = per_class([1, 1, 1], [0, 1, 2]), per_class([0, 0, 0], [0, 1, 2])
    assert intervals([right, wrong]) == [Interval(50.0, 0.0, 100.0)]


def test_seeds_with_other_failures_are_joined() -> None:
    """Seed 1 lost sample 3: scores 2/4 and 2/3, mean 58.33; n is the smaller one."""
    seeds = [table([1, 1, 0, 0], [0, 1, 2, 3]), table([1, 1, 0, 0], [0, 1, 2, 3], failed=[3])]
    row = joint_score_rows(seeds, {"all": None}, ["top1"])[0]
    assert row["score"] == pytest.approx(100 * (2 / 4 + 2 / 3) / 2, abs=1e-5)
    assert row["n"] == 3


def test_paired_difference_by_hand() -> None:
    """A has samples 0, 1, 2 right, B sample 0 and 3: +1/4; only A: 2, only B: 1; p = 2 (1 + 3) / 2^3 capped at 1."""
    a, b = table([1, 1, 1, 0], [0, 1, 2, 3]), table([1, 0, 0, 1], [0, 1, 2, 3])
    found = paired_difference(a, b, "top1")
    assert (found.n, found.difference, found.only_a, found.only_b, found.p) == (4, 25.0, 2, 1, 1.0)
    rare = paired_difference(a, b, "top1", groups=["rare"])  # labels 1 and 3: A one more, B one more
    assert (rare.n, rare.difference, rare.low, rare.high) == (2, 0.0, -100.0, 100.0)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 9)), min_size=1, max_size=40))
def test_paired_difference_is_antisymmetric_and_blind_to_order(rows: list[tuple[int, int, int]]) -> None:
    x, y, labels = (list(column) for column in zip(*rows, strict=True))
    a, b = table(x, labels), table(y, labels)
    forth, back = paired_difference(a, b, "top1"), paired_difference(b.take(list(range(len(x)))[::-1]), a, "top1")
    assert forth.difference == pytest.approx(-back.difference)
    assert (forth.only_a, forth.only_b, forth.p) == (back.only_b, back.only_a, back.p)
    assert forth.difference == pytest.approx(interval(x, labels).score - interval(y, labels).score)
    if len(set(labels)) > 1:
        assert forth.low <= forth.difference + 1e-9
        assert forth.high >= forth.difference - 1e-9


def test_paired_interval_is_narrower_than_unpaired_ones() -> None:
    """Two methods that fail on the same samples but for 10 of 200: the pairing takes the shared difficulty out."""
    rng = np.random.default_rng(5)
    x = (rng.random(200) < 0.5).astype(float)
    y = x.copy()
    y[:10] = 0
    labels = list(range(200))
    found = paired_difference(table(list(x), labels), table(list(y), labels), "top1")
    alone = interval(x, labels)
    assert found.high - found.low < (alone.high - alone.low) / 2


def test_paired_difference_of_graded_values_has_no_mcnemar() -> None:
    found = paired_difference(table([0.5, 1.0], [0, 1]), table([0.25, 1.0], [0, 1]), "top1")
    assert (found.difference, found.only_a, found.p) == (12.5, None, None)


def test_the_bootstrap_p_agrees_with_the_interval() -> None:
    """0 far outside of the interval, and 0 far inside. Outside, p is about that of scipy's t test of the classes' sums
    (all classes have 5 samples)."""
    rng = np.random.default_rng(8)
    labels = list(np.repeat(np.arange(60), 5))
    y = (rng.random(300) < 0.5).astype(float)
    found = {}
    for gain in (0.0, 0.3):
        x = np.where(rng.random(300) < gain, 1.0, y)
        x[:10] = 1 - x[:10]
        found[gain] = paired_difference(table(list(x), labels), table(list(y), labels), "top1")
    assert found[0.3].low > 0
    sums = (x - y).reshape(60, 5).sum(axis=1)
    assert math.log10(found[0.3].p_bootstrap or 1) == pytest.approx(math.log10(ttest_1samp(sums, 0).pvalue), rel=0.1)
    assert found[0.0].low < 0 < found[0.0].high
    assert (found[0.0].p_bootstrap or 0) > 0.05


def test_classes_that_go_together_make_the_smallest_difference_larger() -> None:
    """20 classes of 10: all samples of a class are alike, so 200 samples show what 20 would (design effect 10)."""
    x = np.repeat(np.arange(20) % 2 == 0, 10).astype(float)
    alone, together = list(range(200)), list(np.repeat(np.arange(20), 10))
    apart = paired_difference(table(list(x), alone), table(list(1 - x), alone), "top1")
    clustered = paired_difference(table(list(x), together), table(list(1 - x), together), "top1")
    # the draws' variance is that of single samples but for their chance: 2,000 draws know it to 3 %
    assert apart.smallest == pytest.approx(100 * smallest_difference(200, 1.0), rel=0.03)
    assert clustered.smallest == pytest.approx(100 * smallest_difference(20, 1.0), rel=0.05)
    assert clustered.p == apart.p, "McNemar takes samples as independent"


def test_joint_difference_over_seeds_by_hand() -> None:
    """Seed 0: A is 2/4 ahead, seed 1: none. Mean 25; two drawn seeds are both the first or both the second at times."""
    zero, two = table([0] * 4, LABELS), table([1, 1, 0, 0], LABELS)
    found = joint_paired_difference([(two, zero), (two, two)], "top1")
    assert (found.n, found.difference, found.only_a, found.p) == (4, 25.0, None, None)
    assert found.low <= 0
    assert found.high >= 50
    assert joint_paired_difference([(two, zero)], "top1") == paired_difference(two, zero, "top1")


def test_paired_difference_needs_the_same_samples() -> None:
    a = table([1, 0], [0, 1])
    other = a.set_column(0, "sample_id", pa.array(["s0", "s9"]))
    with pytest.raises(DataError, match="not made on the same samples"):
        paired_difference(a, other, "top1")
    with pytest.raises(DataError, match="no sample was answered by both"):
        paired_difference(a, table([1, 0], [0, 1], failed=[0, 1]), "top1")
