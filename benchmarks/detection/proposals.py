"""Boxes of detectors in COCO's results format: [{"image_id", "bbox", "score", "category_id"?}, ...]."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trireme.benchmarks.detection.annotations import Annotations, Doubles, box_table, check_inside, is_id
from trireme.errors import DataError
from trireme.types import Ints


class Proposals(NamedTuple):
    """Boxes without labels, in the order of their file.

    Attributes:
        rank: (n,) number of the box in the file, from 0.
        image: (n,) its picture, an index into `Annotations.pictures`.
        boxes: (n, 4) x, y, width, height.
        objectness: (n,) in [0, 1].
        notes: {what: how many} of boxes that deserve a word.
    """

    rank: Ints
    image: Ints
    boxes: Doubles
    objectness: Doubles
    notes: dict[str, int]


def read_proposals(path: Path, annotations: Annotations) -> Proposals:
    """Read and check proposals for the pictures of an annotation file. One without area is dropped and counted.

    Raises:
        DataError: it is missing, not of that format, or not for these pictures; names the file and the entry.
    """
    where = f"proposals {path}"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{where} cannot be read: {error}") from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(f'{where}: a list of {{"image_id", "bbox", "score"}} is expected (COCO\'s results format)')
    at = {one.id: i for i, one in enumerate(annotations.pictures)}
    for number, row in enumerate(rows):
        if not is_id(row.get("image_id"), at):
            raise DataError(
                f"{where}: entry {number} is for image {row.get('image_id')!r}, which {annotations.path} does not have"
            )
    image = np.array([at[row["image_id"]] for row in rows], dtype=np.int64)
    boxes = box_table(where, "entry", [(number, row.get("bbox")) for number, row in enumerate(rows)])
    sizes = np.array([(one.width, one.height) for one in annotations.pictures], dtype=np.float64)[image]
    notes = check_inside(where, "entry", range(len(rows)), boxes, sizes)
    kept = np.flatnonzero((boxes[:, 2:] > 0).all(axis=1))
    if not len(kept):
        raise DataError(f"{where}: none of its boxes has an area")
    return Proposals(kept, image[kept], boxes[kept], _objectness(where, rows)[kept], notes)


def _objectness(where: str, rows: list[dict[str, Any]]) -> Doubles:
    values = [row.get("score") for row in rows]
    for number, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise DataError(f"{where}: entry {number} has the score {value!r}; the objectness of a box is in [0, 1]")
    return np.array(values, dtype=np.float64)
