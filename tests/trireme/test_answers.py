"""Asking a method about the same samples again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from trireme.answers import check_repeated
from trireme.errors import BrokenRuleError
from trireme.types import ImageRef, Predictions, Sample

SAMPLES = [Sample(str(number), ImageRef("")) for number in range(7)]


class Fixed:
    """Answers the same row to every sample."""

    def __init__(self, ranked: Sequence[int], scores: Sequence[float]) -> None:
        self.ranked, self.scores = ranked, scores

    def predict(self, samples: Sequence[Sample]) -> Predictions:
        n = len(samples)
        return Predictions(np.tile(np.int64(self.ranked), (n, 1)), np.tile(np.float32(self.scores), (n, 1)))


BEFORE = Fixed([2, 0, 1], [0.9, 0.5, 0.5])


def test_classes_that_were_not_looked_at_hide_nothing() -> None:
    """Their score is -inf, which is equal to itself and makes no other difference small."""
    before = Fixed([2, 0, 1], [0.9, 0.5, -np.inf])
    check_repeated(before, SAMPLES, before.predict(SAMPLES), "m")
    with pytest.raises(BrokenRuleError):
        check_repeated(Fixed([2, 0, 1], [0.9, 0.6, -np.inf]), SAMPLES, before.predict(SAMPLES), "m")


@pytest.mark.parametrize(
    ("ranked", "scores"),
    [
        ([2, 0, 1], [0.9, 0.5, 0.5]),
        ([2, 1, 0], [0.9, 0.50001, 0.5]),  # a tie that rounding decides
        ([2, 0, 3], [0.9, 0.5, 0.5]),  # a tie at the end of the row
    ],
)
def test_rounding_is_no_other_answer(ranked: list[int], scores: list[float]) -> None:
    check_repeated(Fixed(ranked, scores), SAMPLES, BEFORE.predict(SAMPLES), "m")


@pytest.mark.parametrize(
    ("ranked", "scores"),
    [
        ([0, 2, 1], [0.9, 0.5, 0.5]),
        ([3, 0, 1], [0.9, 0.5, 0.5]),
        ([2, 0, 1], [0.9, 0.6, 0.5]),
        ([2, 0, -1], [0.9, 0.5, 0.0]),
        ([2, 0], [0.9, 0.5]),
        ([2, 0, 1], [0.9, 0.5, np.nan]),
    ],
)
def test_another_answer_is_named(ranked: list[int], scores: list[float]) -> None:
    with pytest.raises(BrokenRuleError, match="method 'm' breaks the rule 'determinism': asked again about sample 0 "):
        check_repeated(Fixed(ranked, scores), SAMPLES, BEFORE.predict(SAMPLES), "m")
