"""From ranked classes of boxes to detections, and to the results format of COCO and LVIS.

RAR's paper does not say how ranked classes become scored boxes. These are the two readings of it: `one` label a box,
and `many` as tokenize-anything evaluates boxes (baaivision/tokenize-anything, scripts/eval_cls.py: every class of
probability above 0.001, score sqrt(probability x box score), per-class NMS of 0.5, the 300 best of a picture).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trireme.benchmarks.detection.annotations import Annotations, Doubles
from trireme.errors import DataError, UsageError
from trireme.files import atomic_file
from trireme.types import Ints

LABELS = ("one", "many")


@dataclass(frozen=True)
class Scoring:
    """How the ranked classes of a box become detections.

    Attributes:
        labels: "one" label a box, the first class; "many": every class of more than `min_probability`.
        scale: probabilities are the softmax of a method's scores, as cosine similarities, times this; 100 is the
            largest logit scale of CLIP (A. Radford et al., ICML 2021, section 2.5), which its published models have.
        min_probability: of "many".
        nms: of "many": of two boxes of one class that overlap by more than this (intersection over union), the one of
            the lower score is dropped; 1 drops none.
        per_image: most detections of a picture, those of the highest scores; 300 is what LVIS counts.
    """

    labels: str = "many"
    scale: float = 100.0
    min_probability: float = 0.001
    nms: float = 0.5
    per_image: int = 300

    def __post_init__(self) -> None:
        if self.labels not in LABELS:
            raise UsageError(f"labels={self.labels!r} is neither of {' and '.join(LABELS)}")
        if not (self.scale > 0 and 0 <= self.min_probability < 1 and 0 < self.nms <= 1 and self.per_image >= 1):
            raise UsageError(
                "detections need scale above 0, 0 <= min_probability < 1, 0 < nms <= 1 and per_image of 1 or more; "
                f"got {self.scale}, {self.min_probability}, {self.nms}, {self.per_image}"
            )


class Boxes(NamedTuple):
    """The boxes that are asked about: sample id, picture (index), x y width height, and objectness of each."""

    ids: Sequence[str]
    image: Ints
    boxes: Doubles
    objectness: Doubles


class Detections(NamedTuple):
    """(d,) picture and class (indices), score, and (d, 4) boxes; by picture, best first."""

    image: Ints
    label: Ints
    score: Doubles
    boxes: Doubles


def detections(table: Any, asked: Boxes, scoring: Scoring, classes: int) -> Detections:
    """What a table of predictions says is where; a sample that failed says nothing.

    Args:
        table: as `trireme.types.SetBenchmark.evaluator` takes it.
        classes: how many there are.

    Raises:
        DataError: its samples are not the boxes asked about, or a class or score cannot be one.
    """
    box, label, score = _scored_classes(table, asked, classes, scoring.scale)
    if scoring.labels == "one":
        kept = np.flatnonzero(np.diff(box, prepend=-1))  # the first class of each box: its row is sorted
    else:
        kept = np.flatnonzero(score > scoring.min_probability)
    box, label = box[kept], label[kept]
    score = np.sqrt(score[kept] * asked.objectness[box])
    order = np.lexsort((box, -score, asked.image[box]))  # stable: equal scores stay as they were ranked
    found = Detections(asked.image[box[order]], label[order], score[order], asked.boxes[box[order]])
    return _best_of_pictures(found, scoring)


def _scored_classes(table: Any, asked: Boxes, classes: int, scale: float) -> tuple[Ints, Ints, Doubles]:
    """Box (index), class and probability of everything ranked; rows by box, best first."""
    place = {name: i for i, name in enumerate(asked.ids)}
    rows = table.filter([status == "ok" for status in table["status"].to_pylist()])
    names = rows["sample_id"].to_pylist()
    unknown = next((name for name in names if name not in place), None)
    if unknown is not None or len(set(names)) != len(names) or table.num_rows != len(place):
        which = f"'{unknown}' is no box of it" if unknown is not None else "a box is missing or there twice"
        raise DataError(f"the predictions are not for this benchmark's {len(place)} boxes: {which}; run it again")
    ranked, scores = (rows[column].to_pylist() for column in ("ranked", "scores"))
    lengths = np.array([len(row) for row in ranked], dtype=np.int64)
    if [len(row) for row in scores] != lengths.tolist():
        raise DataError("a prediction has another number of scores than of classes; run it again")
    box = np.repeat(np.array([place[name] for name in names], dtype=np.int64), lengths)
    label = np.array([one for row in ranked for one in row], dtype=np.int64)
    score = np.array([one for row in scores for one in row], dtype=np.float64)
    if np.isnan(score).any() or (label >= classes).any():
        raise DataError(f"a prediction has a score that is NaN, or a class that is none of {classes}; run it again")
    real = (label >= 0) & np.isfinite(score)
    order = np.lexsort((np.arange(len(box)), box))
    order = order[real[order]]
    box, label, score = box[order], label[order], score[order]
    return box, label, _softmax(score * scale, box)


def _softmax(values: Doubles, groups: Ints) -> Doubles:
    """Of the values of each group; equal groups stand together."""
    if not len(values):
        return values
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    counts = np.diff(starts, append=len(values))
    powers = np.exp(values - np.repeat(np.maximum.reduceat(values, starts), counts))
    return np.asarray(powers / np.repeat(np.add.reduceat(powers, starts), counts))


def _best_of_pictures(found: Detections, scoring: Scoring) -> Detections:
    """After non-maximum suppression within each class, the best of every picture."""
    starts = np.flatnonzero(np.diff(found.image, prepend=-1))
    kept = []
    for start, end in pairwise([*starts, len(found.image)]):
        if scoring.labels == "many" and scoring.nms < 1:
            inside = _suppressed(found.boxes[start:end], found.score[start:end], found.label[start:end], scoring.nms)
        else:
            inside = np.arange(end - start)
        kept.append(start + inside[: scoring.per_image])
    rows = np.concatenate(kept) if kept else np.empty(0, dtype=np.int64)
    return Detections(found.image[rows], found.label[rows], found.score[rows], found.boxes[rows])


def _suppressed(boxes: Doubles, scores: Doubles, labels: Ints, threshold: float) -> Ints:
    """Rows that remain, in their order; those given are sorted by score."""
    import torch
    from torchvision.ops import batched_nms

    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    corners -= corners.min()  # it shifts classes apart by the largest coordinate, as if there were no negative ones
    dense = np.unique(labels, return_inverse=True)[1]  # ... and by the class, of which there are thousands
    kept = batched_nms(torch.from_numpy(corners), torch.from_numpy(scores), torch.from_numpy(dense), threshold)
    return np.sort(kept.numpy())


def as_results(found: Detections, annotations: Annotations) -> list[dict[str, Any]]:
    """Detections in the format that COCO's and LVIS's evaluators read, with the ids of the annotation file."""
    images = [one.id for one in annotations.pictures]
    categories = [one["id"] for one in annotations.categories]
    return [
        {"image_id": images[image], "category_id": categories[label], "bbox": box, "score": score}
        for image, label, score, box in zip(*(column.tolist() for column in found), strict=True)
    ]


def write_json_results(found: Detections, annotations: Annotations, path: Path) -> int:
    """Write detections as JSON, whole or not at all; how many there are."""
    rows = as_results(found, annotations)
    with atomic_file(path) as part:
        part.write_text(json.dumps(rows) + "\n", encoding="utf-8")
    return len(rows)
