"""Tests between methods against statsmodels, scipy, hand computations and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest, norm, t, ttest_1samp
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from trireme.results.testing import bootstrap_p, expanded, holm, mcnemar_exact, smallest_difference, smallest_shift


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_equals_scipys_binomial_test(only_a: int, only_b: int) -> None:
    total = only_a + only_b
    expected = binomtest(only_a, total, 0.5).pvalue if total else 1.0
    assert mcnemar_exact(only_a, only_b) == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_equals_statsmodels(only_a: int, only_b: int) -> None:
    if only_a + only_b:  # statsmodels has no p for an empty table
        expected = mcnemar([[5, only_a], [only_b, 7]], exact=True).pvalue
        assert mcnemar_exact(only_a, only_b) == pytest.approx(min(1.0, expected), rel=1e-9)


def test_mcnemar_by_hand_and_far_out() -> None:
    """1 against 5: 2 (C(6,0) + C(6,1)) / 2^6 = 14/64. 0 against 3000: 2^-2999, which is too small for a double."""
    assert mcnemar_exact(1, 5) == pytest.approx(14 / 64)
    assert mcnemar_exact(0, 3000) == 0.0
    assert mcnemar_exact(0, 0) == 1.0


@pytest.mark.parametrize("seed", range(6))
def test_holm_equals_statsmodels(seed: int) -> None:
    """Some of them tied, and many small."""
    rng = np.random.default_rng(seed)
    p = (np.round(rng.random(40), 2) ** (1 + seed)).tolist()
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1].tolist())


def test_holm_by_hand() -> None:
    """Three tests: 0.01 x 3, 0.04 x 2 = 0.08, and 0.03 x 2 before it; a comparison without a test is not counted."""
    assert holm([0.04, None, 0.01, 0.03]) == pytest.approx([0.06, None, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    adjusted = holm([math.nan, 0.02])
    assert math.isnan(adjusted[0] or 0)
    assert adjusted[1] == 0.02


def draws_around(difference: float, spread: float, count: int) -> NDArray[np.float64]:
    """Draws with the quantiles of a normal distribution and exactly this standard deviation (divisor count - 1)."""
    shape = norm.ppf((np.arange(count) + 0.5) / count)
    moved: NDArray[np.float64] = difference + spread * shape / shape.std(ddof=1)
    return moved


@pytest.mark.parametrize(("difference", "spread"), [(-8.2, 1.7), (3.0, 1.0), (0.5, 1.0)])
def test_bootstrap_p_is_the_tail_of_students_t(difference: float, spread: float) -> None:
    """1/df = 1/163 + 1/199, of 164 pictures and 200 draws; the first is far below 2/201, which counting cannot pass."""
    df = 163 * 199 / (163 + 199)
    expected = 2 * t.sf(abs(difference) / spread * math.sqrt(163 / 164), df)
    found = bootstrap_p(draws_around(difference, spread, 200), difference, 164)
    assert found == pytest.approx(expected, rel=1e-3)
    assert found == pytest.approx(bootstrap_p(-draws_around(difference, spread, 200), -difference, 164))


def test_bootstrap_p_of_a_mean_is_the_paired_t_test() -> None:
    """scipy's, for 60 independent differences. 20,000 draws know the spread to 0.5 % and the interval's end to 1 %, and
    p changes ten times as much."""
    rng = np.random.default_rng(0)
    x = rng.normal(0.3, 1, 60)
    draws = x[rng.integers(0, 60, (20_000, 60))].mean(axis=1)
    assert bootstrap_p(draws, float(x.mean()), 60) == pytest.approx(ttest_1samp(x, 0).pvalue, rel=0.1)


def test_bootstrap_p_at_its_edges() -> None:
    """Units that do not differ: a sign test of 10 units gives 2 / 2 ** 10 at least, of none different 1."""
    assert bootstrap_p([1.0] * 9, 1.0, 10) == pytest.approx(2 / 2**10)
    assert bootstrap_p([0.0] * 9, 0.0, 10) == 1.0
    assert bootstrap_p(draws_around(100, 0.1, 200), 100, 4) == pytest.approx(2 / 2**4)
    assert math.isnan(bootstrap_p([], 0, 10))
    assert math.isnan(bootstrap_p([1, math.nan], 1, 10))
    assert math.isnan(bootstrap_p([1, 2], 1.5, 1))


@pytest.mark.parametrize("units", [5, 10, 1000])
def test_p_is_at_least_5_percent_where_the_interval_holds_0(units: int) -> None:
    """Draws with a long tail on the side of 0: their standard deviation alone would give a p below 5 %."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        draws = -(rng.exponential(1, 200) ** 2)
        low = float(np.quantile(draws, expanded(0.025, units)))
        point = float(draws.mean())
        assert bootstrap_p(draws - low, point - low, units) > 0.05, "0 is the end of the interval"
        assert bootstrap_p(draws - low - 0.01, point - low - 0.01, units) > 0.05
    assert bootstrap_p(draws - 3 * low, point - 3 * low, 1000) < 0.05


def test_five_rows_can_be_significant_with_200_draws() -> None:
    """A difference of five standard errors: t(0.99697 x 5; 89.6) gives 3e-6, times 6 rows."""
    p = bootstrap_p(draws_around(5.0, 1.0, 200), 5.0, 164)
    assert max(value for value in holm([p] * 6) if value is not None) == pytest.approx(
        6 * 2 * t.sf(4.98473, 89.6), rel=0.01
    )


def test_expanded_percentiles_by_hand() -> None:
    """t(0.025; 9) = 2.262157 from tables, x sqrt(10 / 9) = 2.384514, and Phi(-2.384514) = 0.00855."""
    assert expanded(0.025, 10) == pytest.approx(0.00855, abs=1e-5)
    assert expanded(0.025, 10**9) == pytest.approx(0.025)


@pytest.mark.parametrize(("n", "discordance"), [(500, 0.3), (2333, 0.1), (10_000, 0.05)])
def test_the_smallest_difference_is_found_in_80_percent_of_experiments(n: int, discordance: float) -> None:
    """4,000 experiments with exactly this difference: a power of 80 % has a standard error of 0.6 points, and the exact
    test is more careful than the normal one of the formula."""
    d = smallest_difference(n, discordance)
    rng = np.random.default_rng(0)
    counts = rng.multinomial(n, [(discordance + d) / 2, (discordance - d) / 2, 1 - discordance], size=4000)
    a, b = counts[:, 0], counts[:, 1]
    normal = (np.abs(a - b) > 1.959964 * np.sqrt(a + b)).mean()
    exact = np.mean([mcnemar_exact(int(x), int(y)) < 0.05 for x, y in zip(a, b, strict=True)])
    assert normal == pytest.approx(0.80, abs=0.025)
    assert 0.74 < exact <= normal


def test_the_smallest_difference_solves_its_equation() -> None:
    """Connor's n for the d that we give, with z(0.975) = 1.959964 and z(0.80) = 0.841621 from tables."""
    d = smallest_difference(2000, 0.12)
    n = (1.959964 * math.sqrt(0.12) + 0.841621 * math.sqrt(0.12 - d * d)) ** 2 / d**2
    assert n == pytest.approx(2000, rel=1e-5)
    assert smallest_difference(4000, 0.12, design_effect=2) == pytest.approx(d)
    assert smallest_difference(2000, 0.12, design_effect=0.5) == d, "never more samples than there are"


@pytest.mark.parametrize(("n", "discordance"), [(100, 0.0), (100, 0.05), (5, 1.0)])
def test_few_discordant_samples_show_nothing(n: int, discordance: float) -> None:
    """Five of them are at best 2 x 0.5 ** 5 = 0.0625."""
    assert math.isnan(smallest_difference(n, discordance))


def test_the_smallest_shift_by_hand() -> None:
    assert smallest_shift(2.0) == pytest.approx(2 * (1.959964 + 0.841621), rel=1e-6)
