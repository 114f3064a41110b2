"""Tests between methods from counts and draws alone: McNemar's, a bootstrap's p, Holm's correction, what n can show.

`trireme.results.statistics` feeds them from stored predictions. scipy gives the distributions; Holm's six lines are our
own since statsmodels, which has them too, takes seconds to import (the tests compare the two).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

ALPHA = 0.05
POWER = 0.80
"""Of `smallest_difference`: the conventional pair (J. Cohen, "Statistical Power Analysis", 1988, section 2.4)."""


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided exact McNemar p: twice the tail of Binomial(only_a + only_b, 1/2) at the smaller count, at most 1.

    Q. McNemar, Psychometrika 12, 1947; the exact form conditions on the pairs that disagree. It takes samples as
    independent.
    """
    from scipy.special import bdtr

    m = only_a + only_b
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), m, 0.5))) if m else 1.0


def expanded(share: float, units: int) -> float:
    """The share of draws to cut off at one end of a bootstrap interval, so that it holds the truth as often as it says.

    Plain percentiles are those of a normal distribution around a sample whose spread was divided by n; this takes the
    same point of Student's t, with the spread divided by n - 1: Phi(t(share; n - 1) sqrt(n / (n - 1))) (T. Hesterberg,
    "What Teachers Should Know about the Bootstrap", The American Statistician 69, 2015, section 5.3). For 2.5 % it is
    0.9 % of 10 units, 1.8 % of 25 and 2.5 % of 1,000.

    Args:
        units: n, what is drawn: classes, pictures. At least 2.
    """
    from scipy.special import ndtr, stdtrit

    return float(ndtr(stdtrit(units - 1, share) * math.sqrt(units / (units - 1))))


def bootstrap_p(draws: ArrayLike, difference: float, units: int) -> float:
    """Two-sided p of "there is no difference" from bootstrap draws of a difference; NaN where one is not defined.

    Counting draws beyond 0 measures no p below 2 in B + 1 (0.01 for 200 draws), which Holm's correction of five rows
    makes larger than 5 % whatever the truth is. So only the draws' spread is taken from them, and the tail from
    Student's t: of n units, t = difference / spread x sqrt((n - 1) / n), which is the paired t test where the metric is
    a mean of n independent values (the bootstrap divides by n, that test by n - 1). Its degrees of freedom are n - 1
    of the units and B - 1 of the draws, whose spread is an estimate too: 1 / df = 1 / (n - 1) + 1 / (B - 1) (relative
    variances of 2 / df add; F. E. Satterthwaite, Biometrics Bulletin 2, 1946).

    The normal shape is checked against the interval: where its end on the side of 0 is farther from the difference than
    a normal distribution would have it, the spread is what that end tells. So p is at least 5 % where the 95 % interval
    holds 0, and a far tail is never thinner than the near one. Two units can agree by chance, and n units in one of
    2 ** (n - 1) times (a sign test of whole units): p is never less, and is that where the draws do not differ.

    Args:
        draws: (B,) differences, around `difference`. Where they draw whole classes, so does the test.
        units: n, how many classes (or pictures) are drawn each time.
    """
    from scipy.special import ndtri, stdtr

    found = np.asarray(draws, dtype=np.float64)
    if found.size < 2 or units < 2 or math.isnan(difference) or np.isnan(found).any():
        return math.nan
    cut, least = expanded(ALPHA / 2, units), 0.5 ** (units - 1)
    low, high = np.quantile(found, [cut, 1 - cut]).tolist()
    toward_0 = difference - low if difference > 0 else high - difference
    spread = max(float(found.std(ddof=1)), toward_0 / -float(ndtri(cut)))
    if spread < 1e-12:
        return 1.0 if abs(difference) < 1e-12 else least
    freedom = 1 / (1 / (units - 1) + 1 / (found.size - 1))
    t = abs(difference) / spread * math.sqrt((units - 1) / units)
    return min(1.0, max(least, 2 * float(stdtr(freedom, -t))))


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Adjusted p values, in the order given: below 0.05 means significant among all of them at 5 %.

    The step-down method of S. Holm, Scandinavian Journal of Statistics 6, 1979: the i-th smallest of m is multiplied by
    m - i + 1, and none is smaller than the one before. It holds whatever the dependence between the comparisons.

    Args:
        p: None or NaN where there was no test; it stays, and is not counted.
    """
    tested = sorted((value, place) for place, value in enumerate(p) if value is not None and not math.isnan(value))
    adjusted, so_far = list(p), 0.0
    for rank, (value, place) in enumerate(tested):
        so_far = max(so_far, min(1.0, value * (len(tested) - rank)))
        adjusted[place] = so_far
    return adjusted


def smallest_difference(n: int, discordance: float, design_effect: float = 1.0) -> float:
    """The smallest true difference of two shares that n paired samples show: McNemar's test at 5 % finds it in 80 % of
    experiments, if as many samples are discordant (one method right, the other wrong) as here.

    The d that solves sqrt(n) d = z(0.975) sqrt(r) + z(0.80) sqrt(r - d^2) for the discordance r (R. J. Connor, "Sample
    size for testing differences in proportions for the paired-sample design", Biometrics 43, 1987, equation for n,
    turned round). A normal approximation: the exact test needs slightly more.

    Args:
        n: samples that both methods answered.
        discordance: r, in [0, 1].
        design_effect: variance of the difference with whole classes drawn, over that with single samples drawn; n is
            divided by it (L. Kish, "Survey Sampling", 1965).

    Returns:
        d in [0, r]; NaN where even a difference of r would not be found so often (fewer than six discordant samples,
        which exact McNemar never finds at 5 %, or an equation without a solution).
    """
    effective = n / max(1.0, design_effect)
    discordant = effective * discordance
    if discordant < 6:  # 2 x 0.5 ** 5 > 0.05
        return math.nan
    a, b = _quantile(1 - ALPHA / 2), _quantile(POWER)
    root = a * math.sqrt(effective) + b * math.sqrt(effective + b * b - a * a)
    d = math.sqrt(discordance) * root / (effective + b * b)
    return d if d <= discordance else math.nan


def smallest_shift(standard_error: float) -> float:
    """The same for differences that are no shares (an AP, graded values): (z(0.975) + z(0.80)) x the standard error.

    H. S. Bloom, "Minimum detectable effects", Evaluation Review 19, 1995. In the unit of the standard error.
    """
    return (_quantile(1 - ALPHA / 2) + _quantile(POWER)) * standard_error


def _quantile(share: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(share))
