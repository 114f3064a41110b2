"""Average precision of one set of detections, and what it would be if its pictures had been drawn with other counts.

The precision of what was found is the library's (`trireme.benchmarks.detection.matching`). For drawn pictures its
matches are accumulated again here, all classes at once, as it does: the mean over 101 recalls r of the largest
precision at a recall of at least r (T.-Y. Lin et al., ECCV 2014; `accumulate` of pycocotools). Equal scores are the one
difference: of a picture drawn c times, its first detection counts c times before its second one. Tests compare both.

Shapes: u pictures, k classes that are there, a areas, t thresholds, d detections, g boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from trireme.benchmarks.detection.annotations import FREQUENCIES, Annotations, Doubles
from trireme.benchmarks.detection.matching import AREAS, THRESHOLDS, Bools, matches
from trireme.benchmarks.detection.results import Detections
from trireme.types import Ints

RECALLS = np.linspace(0.0, 1.0, 101)
_SIZES = ("ap", "ap50", "ap75")
_BY_AREA = {"ap_s": "small", "ap_m": "medium", "ap_l": "large"}
_BY_FREQUENCY = {f"ap_{letter}": letter for letter in FREQUENCIES}
_AP50, _AP75 = 0, 5  # among overlaps of 0.50, 0.55 ...


def metric_names(federated: bool) -> tuple[str, ...]:
    """The metrics of a set: of rare, common and frequent classes where its file tells them (LVIS), and of sizes."""
    return (*_SIZES, *(_BY_FREQUENCY if federated else ()), *_BY_AREA)


class _Area(NamedTuple):
    """The matches of one range of sizes.

    Attributes:
        right, wrong: (p, d) the different rows among the t thresholds; with ground-truth boxes they hardly differ.
        row: (t,) the row of each threshold.
        counts: (g,) which boxes count.
    """

    right: Bools
    wrong: Bools
    row: Ints
    counts: Bools


class PrecisionEvaluator:
    """See `trireme.types.Evaluator`; its units are pictures.

    Args:
        most: detections of one class in one picture that count.
        groups: (c,) the group of every class; subsets: {reported subset: its groups, None for all}.
    """

    def __init__(
        self,
        annotations: Annotations,
        found: Detections,
        most: int,
        groups: Sequence[str],
        subsets: Mapping[str, tuple[str, ...] | None],
    ) -> None:
        self._annotations, self._subsets = annotations, subsets
        held = dict(matches(annotations, found, most))
        self._labels = np.array(list(held), dtype=np.int64)
        parts = list(held.values())
        self._point = np.stack([part.precision.mean(axis=1).T for part in parts])  # (k, a, t), -1 where undefined
        self._point[self._point < 0] = np.nan
        detections = [len(part.score) for part in parts]
        row = np.repeat(np.arange(len(parts)), detections)
        score = np.concatenate([part.score for part in parts])
        order = np.lexsort((-score, row))  # stable: by class, best first, then by picture
        self._class, self._image = row[order], np.concatenate([part.image for part in parts])[order]
        self._box_class = np.repeat(np.arange(len(parts)), [len(part.box_image) for part in parts])
        self._box_image = np.concatenate([part.box_image for part in parts])
        self._areas = []
        for area in range(len(AREAS)):
            right = np.concatenate([part.right[area] for part in parts], axis=1)[:, order]
            wrong = np.concatenate([part.wrong[area] for part in parts], axis=1)[:, order]
            _, first, place = np.unique(np.hstack([right, wrong]), axis=0, return_index=True, return_inverse=True)
            counts = np.concatenate([part.box_counts[area] for part in parts])
            self._areas.append(_Area(right[first], wrong[first], place.reshape(-1), counts))
        letters = np.array(annotations.frequencies)[self._labels]
        named = np.array(groups)[self._labels]
        self._rows = {
            (subset, letter): np.flatnonzero(
                np.isin(named, wanted if wanted is not None else named) & ((letters == letter) if letter else True)
            )
            for subset, wanted in subsets.items()
            for letter in ("", *(FREQUENCIES if annotations.federated else ()))
        }

    @property
    def units(self) -> int:
        return len(self._annotations.pictures)

    @cached_property
    def sizes(self) -> Mapping[tuple[str, str], int]:
        """How many boxes a metric counts."""
        boxes = np.stack([np.bincount(self._box_class[area.counts], minlength=self._k) for area in self._areas])
        return {key: int(boxes[area][rows].sum()) for key, area, _, rows in self._cells()}

    def values(self, counts: Ints) -> Mapping[tuple[str, str], float]:
        """Average precisions; NaN where no class has a box that counts."""
        precision = self._point if bool((counts == 1).all()) else self.accumulated(counts)
        return {key: _mean(precision[rows, area, overlaps]) for key, area, overlaps, rows in self._cells()}

    def accumulated(self, counts: Ints) -> Doubles:
        """(k, a, t) average precision of each class that has a box, NaN where none that counts was drawn."""
        weights = counts[self._image]
        drawn = np.flatnonzero(weights)
        label, weights = self._class[drawn], weights[drawn]
        starts = np.flatnonzero(np.diff(label, prepend=-1))
        found = np.full((self._k, len(AREAS), THRESHOLDS), np.nan)
        for number, area in enumerate(self._areas):
            drawn_boxes = counts[self._box_image[area.counts]].astype(np.float64)
            boxes = np.bincount(self._box_class[area.counts], drawn_boxes, self._k).astype(np.float64)
            result = np.where(boxes > 0, 0.0, np.nan)[:, None].repeat(len(area.right), axis=1)
            if len(drawn):
                with np.errstate(invalid="ignore", divide="ignore"):
                    gained = _gained(
                        area.right[:, drawn] * weights, area.wrong[:, drawn] * weights, boxes[label], label, starts
                    )
                result[label[starts]] += gained.T  # NaN stays NaN
            found[:, number] = result[:, area.row]
        return found

    @property
    def _k(self) -> int:
        return len(self._labels)

    def _cells(self) -> list[tuple[tuple[str, str], int, slice, Ints]]:
        """((subset, metric), area, its thresholds, its classes)."""
        cells = []
        for subset in self._subsets:
            for metric in metric_names(self._annotations.federated):
                area = AREAS.index(_BY_AREA.get(metric, "all"))
                at = {"ap50": slice(_AP50, _AP50 + 1), "ap75": slice(_AP75, _AP75 + 1)}.get(metric, slice(None))
                cells.append(((subset, metric), area, at, self._rows[subset, _BY_FREQUENCY.get(metric, "")]))
        return cells


def _gained(right: Ints, wrong: Ints, boxes: Doubles, label: Ints, starts: Ints) -> Doubles:
    """(p, classes with a detection) average precision.

    Each detection gives the precision that is left from it on to every recall that is first reached by it.

    Args:
        right, wrong: (p, d) how often each detection was drawn and counts so; by class, best first.
        boxes: (d,) how many there are to find of its class; label: (d,); starts: the first detection of each class.
    """
    first = np.repeat(starts, np.diff(starts, append=len(label)))
    hits, misses = (_sums(part, first) for part in (right, wrong))
    total = hits + misses
    precision = np.where(total > 0, hits / np.maximum(total, 1), 0.0)
    apart = 2.0 * label  # so that the largest from the right never comes from the class after it
    best = np.maximum.accumulate((precision - apart)[:, ::-1], axis=1)[:, ::-1] + apart
    reached = np.searchsorted(RECALLS, hits / boxes, side="right")
    before = np.concatenate([np.zeros((len(reached), 1), dtype=reached.dtype), reached[:, :-1]], axis=1)
    before[:, starts] = 0
    return np.asarray(np.add.reduceat(best * (reached - before), starts, axis=1) / len(RECALLS))


def _sums(values: Ints, first: Ints) -> Ints:
    """Running sums along the last axis that begin anew with each class; `first` is where its class begins."""
    sums = np.cumsum(values, axis=1)
    return np.asarray(sums - (sums - values)[:, first])


def _mean(values: Doubles) -> float:
    """The mean over classes and thresholds of what is defined."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
