"""Which detections are right, by `faster-coco-eval`: its matching and its accumulation, class by class.

The library keeps an entry for every class, size range and picture, and another for every class and picture: gigabytes
for LVIS, and more than any machine has for V3Det. A class is evaluated on the pictures that show it or are said to,
which is all that its precision depends on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trireme.benchmarks.detection.annotations import Annotations, Doubles
from trireme.benchmarks.detection.results import Detections
from trireme.errors import TriremeError
from trireme.types import Ints

AREAS = ("all", "small", "medium", "large")
THRESHOLDS = 10
"""Overlaps from 0.50 to 0.95."""
_BEYOND = 1e12
"""An area outside of every range of sizes: the library reads no `ignore`, and ignores a box of such an area as LVIS's
evaluator ignores one of `ignore` 1. A crowd would be matched in another way."""
Bools = NDArray[np.bool_]


class ClassMatches(NamedTuple):
    """One class that is there: a areas, t thresholds, d detections, g boxes that should be found.

    Attributes:
        precision: (t, 101, a) of the library at its recalls; -1 where no box counts.
        image: (d,) picture of each detection. They come by picture, and within one best first.
        score: (d,).
        right, wrong: (a, t, d); one that is neither does not count.
        box_image: (g,) picture of each box.
        box_counts: (a, g) whether it counts.
    """

    precision: Doubles
    image: Ints
    score: Doubles
    right: Bools
    wrong: Bools
    box_image: Ints
    box_counts: Bools


def library() -> Any:
    """The evaluator's module.

    Raises:
        TriremeError: it is not installed.
    """
    try:
        import faster_coco_eval
    except ImportError as error:
        raise TriremeError(
            "average precision needs faster-coco-eval; run: pip install 'trireme-bench[detection]'"
        ) from error
    return faster_coco_eval


def matches(annotations: Annotations, found: Detections, most: int) -> Iterator[tuple[int, ClassMatches]]:
    """(class, its matches) of every class that has a box.

    Args:
        most: detections of one class in one picture that count, those of the highest scores.
    """
    module = library()
    known = np.flatnonzero(annotations.known)
    counted = _verified(annotations, known, found) if annotations.federated else np.ones(len(found.image), np.bool_)
    of_class = _by_class(found.label, np.flatnonzero(counted), len(annotations.categories))
    boxes = _by_class(annotations.label, known, len(annotations.categories))
    for label, held in enumerate(boxes):
        if not annotations.ignored[held].all():  # with such alone there is nothing to find
            yield label, _of_class(module, annotations, label, held, found, of_class[label], most)


def _verified(annotations: Annotations, held: Ints, found: Detections) -> Bools:
    """Whether a picture says anything about the class of a detection: it shows the class, or is known not to."""
    classes = len(annotations.categories)
    told = [np.unique(annotations.image[held] * classes + annotations.label[held])]
    told += [i * classes + np.array(sorted(one.absent), np.int64) for i, one in enumerate(annotations.pictures)]
    return np.isin(found.image * classes + found.label, np.concatenate(told))


def _by_class(labels: Ints, rows: Ints, classes: int) -> list[Ints]:
    """The rows of each class, in their order."""
    order = rows[np.argsort(labels[rows], kind="stable")]
    ends = np.searchsorted(labels[order], np.arange(classes), side="right")
    return np.split(order, ends[:-1])


def _of_class(
    module: Any, annotations: Annotations, label: int, held: Ints, found: Detections, rows: Ints, most: int
) -> ClassMatches:
    pictures = np.unique(np.concatenate([annotations.image[held], found.image[rows]])).tolist()
    truth = module.COCO(_dataset(annotations, label, held, pictures))
    shown = truth.loadRes(
        [
            {"image_id": image + 1, "category_id": label + 1, "bbox": box, "score": score}
            for image, box, score in zip(
                found.image[rows].tolist(), found.boxes[rows].tolist(), found.score[rows].tolist(), strict=True
            )
        ]
    )
    evaluator = module.COCOeval_faster(
        truth, shown, "bbox", lvis_style=annotations.federated, separate_eval=True, print_function=_silent
    )
    evaluator.params.maxDets = [most]
    evaluator.evaluate()
    evaluator.accumulate()
    precision = evaluator.eval["precision"][:, :, 0, :, 0]
    kept = getattr(evaluator, "_evalImgs_cpp", None)
    if kept is None:
        raise TriremeError(
            f"faster-coco-eval {module.__version__} keeps its matches where they are not found; "
            "run: pip install 'faster-coco-eval==1.8.0'"
        )
    return _unpacked(precision, kept, pictures)


def _dataset(annotations: Annotations, label: int, held: Ints, pictures: Sequence[int]) -> dict[str, Any]:
    """One class as the library reads it. Ids are counted from 1: it takes an id of 0 for no match."""
    images = []
    for image in pictures:
        one = annotations.pictures[image]
        row: dict[str, Any] = {"id": image + 1, "width": one.width, "height": one.height}
        if annotations.federated:
            row["neg_category_ids"] = [label + 1] if label in one.absent else []
            row["not_exhaustive_category_ids"] = [label + 1] if label in one.partial else []
        images.append(row)
    lvis = annotations.federated
    boxes = [
        {
            "id": number + 1,
            "image_id": int(annotations.image[row]) + 1,
            "category_id": label + 1,
            "bbox": annotations.boxes[row].tolist(),
            "area": _BEYOND if lvis and annotations.ignored[row] else float(annotations.areas[row]),
            "iscrowd": int(annotations.ignored[row] and not lvis),
        }
        for number, row in enumerate(held)
    ]
    category = {"id": label + 1, "name": str(label), "frequency": annotations.frequencies[label]}
    return {"images": images, "annotations": boxes, "categories": [category]}


def _silent(*_: object) -> None:
    """The library prints tables."""


def _unpacked(precision: Doubles, evaluations: Sequence[Any], pictures: Sequence[int]) -> ClassMatches:
    """What the library found in every picture; it gives it away by its state alone."""
    images: list[Ints] = []
    scores: list[Doubles] = []
    box_images: list[Ints] = []
    right: list[list[Bools]] = [[] for _ in AREAS]
    wrong: list[list[Bools]] = [[] for _ in AREAS]
    counts: list[list[Bools]] = [[] for _ in AREAS]
    for area in range(len(AREAS)):
        for image, evaluation in zip(pictures, evaluations[area * len(pictures) :], strict=False):
            state = evaluation.__getstate__()
            matched = np.array(state[0], dtype=np.int64).reshape(THRESHOLDS, -1)
            ignored = np.array(state[4], dtype=np.bool_).reshape(THRESHOLDS, -1)
            right[area].append((matched > 0) & ~ignored)
            wrong[area].append((matched == 0) & ~ignored)
            counts[area].append(~np.array(state[3], dtype=np.bool_))
            if area == 0:
                scores.append(np.array(state[2], dtype=np.float64))
                images.append(np.full(matched.shape[1], image, dtype=np.int64))
                box_images.append(np.full(len(state[3]), image, dtype=np.int64))
    return ClassMatches(
        np.asarray(precision),
        np.concatenate(images),
        np.concatenate(scores),
        np.stack([np.concatenate(part, axis=1) for part in right]),
        np.stack([np.concatenate(part, axis=1) for part in wrong]),
        np.concatenate(box_images),
        np.stack([np.concatenate(part) for part in counts]),
    )
