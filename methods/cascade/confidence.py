"""How sure a method is of its first class, and who is asked again.

Shapes: n samples, m ranked classes. A sample with one ranked class has no second one to doubt it: it is sure.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from trireme.types import Floats, Ints, Predictions

KINDS = ("margin", "probability")
_WIDEST = 7.0
"""The temperature is looked for within a factor e^7 of the mean margin, on either side."""
_SMALLEST = 1e-12
"""Probabilities are kept from 0 and 1 by this, so that one confident error does not decide a temperature alone."""

Doubles = NDArray[np.float64]


def margins(found: Predictions) -> Doubles:
    """(n,) score of the first class less that of the second, infinite where there is none."""
    values = np.full(len(found.ranked), math.inf)
    if found.ranked.shape[1] > 1:
        two = found.ranked[:, 1] >= 0
        values[two] = found.scores[two, 0].astype(np.float64) - found.scores[two, 1].astype(np.float64)
    return values


def probabilities(found: Predictions, temperature: float) -> Doubles:
    """(n,) the softmax of the ranked classes' scores at a temperature, of the first class.

    Each row is summed exactly, so that it does not depend on how many columns other rows need.
    """
    rows = zip(found.ranked, found.scores.astype(np.float64), strict=True)
    sums = [math.fsum(np.exp((scores[kept >= 0] - scores[0]) / temperature).tolist()) for kept, scores in rows]
    return 1 / np.array(sums, dtype=np.float64)


def fitted_temperature(found: Predictions, labels: Ints) -> float:
    """The temperature at which `probabilities` are most likely, given which first classes are right (temperature
    scaling, Guo et al., ICML 2017, for the one question that is asked here: is the first class right?).

    Args:
        labels: (n,) the right classes; -1 where they are not known.
    """
    known = labels >= 0
    shown = Predictions(found.ranked[known], found.scores[known])
    right = shown.ranked[:, 0] == labels[known]
    finite = margins(shown)
    finite = finite[np.isfinite(finite)]
    unit = float(finite.mean()) if len(finite) and finite.mean() > 0 else 1.0

    def loss(exponent: float) -> float:
        sure = np.clip(probabilities(shown, unit * math.exp(exponent)), _SMALLEST, 1 - _SMALLEST)
        return -float(np.where(right, np.log(sure), np.log1p(-sure)).mean())

    best: Any = minimize_scalar(loss, bounds=(-_WIDEST, _WIDEST), method="bounded")
    return unit * math.exp(float(best.x))


class Rule(NamedTuple):
    """Who is asked: "none", "all", or "some", those whose confidence is below the threshold."""

    asks: str
    threshold: float | None = None

    def asked(self, confidence: Doubles) -> NDArray[np.bool_]:
        """(n,) whether each sample is asked, whatever the others are."""
        if self.threshold is None:
            return np.full(len(confidence), self.asks == "all")
        return confidence < self.threshold


def within(confidence: Doubles, share: float) -> Rule:
    """The rule that asks as many of these samples as a share of them allows, the least sure first.

    Of samples that are equally sure all are asked or none, so it can be fewer.
    """
    if share <= 0:
        return Rule("none")
    if share >= 1:
        return Rule("all")
    doubted = np.sort(confidence[np.isfinite(confidence)])
    most = math.floor(share * len(confidence) + 1e-9)  # 0.1 of 30 is 3, also in binary
    if most < len(doubted):
        return Rule("some", float(doubted[most]))
    # everyone who has a second class; the others are sure whatever the share
    return Rule("some", float(np.nextafter(doubted[-1], math.inf))) if len(doubted) else Rule("none")


def mixed(cheap: Predictions, expensive: Predictions | None, asked: NDArray[np.bool_]) -> tuple[Ints, Floats]:
    """(n, m) ranked classes and scores: of the expensive method where it was asked, else of the cheap one.

    Args:
        expensive: of the asked samples, in their order; None where there are none.
    """
    width = max(cheap.ranked.shape[1], 0 if expensive is None else expensive.ranked.shape[1])
    ranked = np.full((len(asked), width), -1, dtype=np.int64)
    scores = np.full((len(asked), width), -np.inf, dtype=np.float32)
    for found, rows in ((cheap, np.ones_like(asked)), (expensive, asked)):
        if found is not None:
            ranked[rows], scores[rows] = -1, -np.inf
            m = found.ranked.shape[1]
            ranked[rows, :m], scores[rows, :m] = found.ranked, found.scores
    return ranked, scores
