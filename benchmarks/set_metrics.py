"""Metrics of a whole set of predictions that are no mean over samples, each one computed for samples drawn anew.

Each class below holds n samples in the order that its metric needs, so that a value for other counts costs one pass.
`counts[i]` is how often sample i is drawn (n,); all ones for what was predicted. NaN where a metric is not defined.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trireme.types import Ints

Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]

POINTS = 11


class SetMetric(Protocol):
    """A metric of n samples."""

    def value(self, counts: Ints) -> float:
        """In [0, 1], as if sample i occurred counts[i] times."""
        ...


class MeanAveragePrecision:
    """11-point interpolated average precision, the mean over classes.

    p(r) is the highest precision among the thresholds on a class's scores whose recall is at least r; a class's value
    is the mean of p(0), p(0.1) ... p(1) (M. Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV
    88, 2010, 4.2). Samples of equal score are taken together. A class without a positive sample has no value.

    Args:
        scores: (n, c) of every class, higher is better.
        targets: (n, c), whether the sample has the class.
        starts_at_one: whether the curve begins with precision 1 at recall 0, so that p(0) is always 1. scikit-learn's
            `precision_recall_curve` does so, hence `vision-evaluation`, and hence ELEVATER's numbers; VOC's own
            development kit does not, and gives up to 1/11 less for a class whose best sample is wrong.
    """

    def __init__(self, scores: Doubles, targets: Mask, starts_at_one: bool = True) -> None:
        self._order: Ints = np.argsort(-scores, axis=0, kind="stable")
        ranked = np.take_along_axis(scores, self._order, axis=0)
        self._right = np.take_along_axis(targets, self._order, axis=0)
        self._cut = np.ones(scores.shape, dtype=np.bool_)  # where a threshold can lie: below the last of equal scores
        self._cut[:-1] = ranked[1:] != ranked[:-1]
        self._starts_at_one = starts_at_one

    def value(self, counts: Ints) -> float:
        drawn = counts[self._order]  # (n, c)
        hits, taken = np.cumsum(drawn * self._right, axis=0), np.cumsum(drawn, axis=0)
        precision = np.where(self._cut & (taken > 0), hits / np.maximum(taken, 1), 0.0)
        highest = np.maximum.accumulate(precision[::-1], axis=0)[::-1]  # at this recall and above
        found = [self._of_class(highest[:, column], hits[:, column]) for column in np.flatnonzero(hits[-1])]
        return float(np.mean(found)) if found else math.nan

    def _of_class(self, highest: Doubles, hits: Ints) -> float:
        wanted = hits[-1] * np.arange(POINTS)  # recall j / 10 is hits * 10 >= positives * j, in whole numbers
        values = highest[np.searchsorted(hits * (POINTS - 1), wanted)]
        if self._starts_at_one:
            values[0] = 1.0
        return float(values.mean())


class RocAuc:
    """Area under the ROC curve: the chance that a positive sample scores above a negative one, ties by half.

    Mann and Whitney's U (J. A. Hanley and B. J. McNeil, Radiology 143, 1982). scores (n,), positive (n,).
    """

    def __init__(self, scores: Doubles, positive: Mask) -> None:
        self._order: Ints = np.argsort(scores, kind="stable")
        ranked = scores[self._order]
        self._starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))  # of equal scores
        self._positive = positive[self._order]

    def value(self, counts: Ints) -> float:
        drawn = counts[self._order]
        above = np.add.reduceat(drawn * self._positive, self._starts)
        below = np.add.reduceat(drawn * ~self._positive, self._starts)
        pairs = float(above.sum()) * float(below.sum())
        beaten = np.cumsum(below) - below / 2
        return float((above * beaten).sum() / pairs) if pairs else math.nan


class ClusterAccuracy:
    """Share of samples that are right under the best one-to-one naming of predicted clusters by true classes (cACC).

    The assignment is Hungarian (H. W. Kuhn, 1955), as in FineR's evaluation. clusters (n,) and classes (n,) from 0.
    """

    def __init__(self, clusters: Ints, classes: Ints) -> None:
        self._clusters, self._classes = clusters, classes
        self._cells = clusters * (int(classes.max(initial=0)) + 1) + classes
        self._shape = int(clusters.max(initial=0)) + 1, int(classes.max(initial=0)) + 1

    def value(self, counts: Ints) -> float:
        from scipy.optimize import linear_sum_assignment

        total = int(counts.sum())
        if not total:
            return math.nan
        table = self._table(counts)
        return float(table[linear_sum_assignment(table, maximize=True)].sum() / total)

    def right(self) -> Mask:
        """Which samples are right under the naming that is best for all of them, (n,)."""
        from scipy.optimize import linear_sum_assignment

        named = np.full(self._shape[0], -1, dtype=np.int64)
        rows, columns = linear_sum_assignment(self._table(np.ones_like(self._cells)), maximize=True)
        named[rows] = columns
        found: Mask = named[self._clusters] == self._classes
        return found

    def _table(self, counts: Ints) -> Doubles:
        rows, columns = self._shape
        cells: Doubles = np.bincount(self._cells, weights=counts, minlength=rows * columns).astype(np.float64)
        return cells.reshape(rows, columns)


class SampleMean:
    """The mean of one value a sample, and 0 where it is below 0, as a mean of cosines could be. values (n,)."""

    def __init__(self, values: Doubles) -> None:
        self._values = values

    def value(self, counts: Ints) -> float:
        total = int(counts.sum())
        return max(0.0, float((counts * self._values).sum()) / total) if total else math.nan


class HarmonicAccuracy:
    """The harmonic mean of the accuracies of several parts: OVEN's seen and unseen entities.

    right (n,) 0 or 1; part (n,) from 0, of `parts`. Not defined where a part has no sample.
    """

    def __init__(self, right: Ints, part: Ints, parts: int = 2) -> None:
        self._right, self._part, self._parts = right, part, parts

    def value(self, counts: Ints) -> float:
        sizes = np.bincount(self._part, weights=counts, minlength=self._parts)
        if not sizes.all():
            return math.nan
        return harmonic_mean(np.bincount(self._part, weights=counts * self._right, minlength=self._parts) / sizes)


def harmonic_mean(values: Sequence[float] | Doubles) -> float:
    """m / sum(1 / v), and 0 where a value is 0 (edchengg/oven_eval @e3c0e89, `harmonic_mean`, has 1e-12 in its place).

    OVEN's score of a split is that of seen and unseen accuracy, its final score that of the query and entity splits.
    """
    return 0.0 if min(values) <= 0 else len(values) / math.fsum(1 / float(value) for value in values)


@dataclass(frozen=True)
class SampleEvaluator:
    """A `trireme.types.Evaluator` whose units are samples, all of them in the subset "all".

    Attributes:
        metrics: by name; each holds the samples of `counted`.
        counted: (u,) which units count. A picture that cannot be read is a unit without effect, so that the draws of
            two runs are the same whatever either of them could read.
    """

    metrics: Mapping[str, SetMetric]
    counted: Mask

    @property
    def units(self) -> int:
        return len(self.counted)

    @property
    def sizes(self) -> Mapping[tuple[str, str], int]:
        return {("all", name): int(self.counted.sum()) for name in self.metrics}

    def values(self, counts: Ints) -> Mapping[tuple[str, str], float]:
        kept = counts[self.counted]
        return {("all", name): metric.value(kept) if kept.any() else math.nan for name, metric in self.metrics.items()}
