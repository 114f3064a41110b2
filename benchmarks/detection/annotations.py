"""Annotation files of detection sets: COCO's JSON, and what LVIS and V3Det add to it. Read once a process, and checked.

Boxes are x, y, width, height in pixels of the file, from its upper left corner.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trireme.errors import DataError
from trireme.types import Ints

Doubles = NDArray[np.float64]

FREQUENCIES = ("r", "c", "f")
_TABLES = ("images", "annotations", "categories")
_LISTS = ("neg_category_ids", "not_exhaustive_category_ids")
_FLAGS = ("iscrowd", "ignore")
_IDS = 2**63
CROWDS = "boxes around crowds"
CROWD, IGNORED = "boxes of `iscrowd` 1", "boxes of `ignore` 1"
"""Notes on an LVIS file, whose format has neither."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of an annotation file.

    Attributes:
        id: of the file.
        file: its path from the folder of pictures, with "/".
        absent: indices of classes of which it is known that the picture shows none (LVIS `neg_category_ids`).
        partial: indices of classes of which only some objects have a box (LVIS `not_exhaustive_category_ids`).
    """

    id: int
    file: str
    width: int
    height: int
    absent: frozenset[int] = frozenset()
    partial: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Annotations:
    """What an annotation file says; a class is an index into `categories`, a picture one into `pictures`.

    Attributes:
        federated: whether a picture says only of some classes which objects it shows, as LVIS has it.
        pictures: by id.
        categories: as the file has them, by id.
        ids, image, label: (b,) id, picture and class of each box, in the order of the file.
        boxes: (b, 4); areas: (b,) in square pixels, of the mask where there is one; what small and large are told by.
        ignored: (b,) boxes that count neither for nor against, as the evaluators have it: of COCO's files those of
            `iscrowd` 1, around many objects, and what is found inside of them; of LVIS's those of `ignore` 1, which are
            matched as others are. pycocotools 2.0.11 does not read `ignore`, nor lvis 0.5.3 `iscrowd`.
        empty: (b,) boxes without area: no picture of them can be shown.
        notes: {what: how many} of boxes that deserve a word.
    """

    path: Path
    federated: bool
    pictures: tuple[Picture, ...]
    categories: tuple[Mapping[str, Any], ...]
    ids: Ints
    image: Ints
    label: Ints
    boxes: Doubles
    areas: Doubles
    ignored: NDArray[np.bool_]
    empty: NDArray[np.bool_]
    notes: Mapping[str, int] = field(default_factory=dict)

    @property
    def frequencies(self) -> tuple[str, ...]:
        """The letter of every class: r, c or f as LVIS counts them, "" in other files."""
        return tuple(str(one.get("frequency", "")) for one in self.categories)

    @property
    def known(self) -> NDArray[np.bool_]:
        """(b,) the boxes that an evaluator knows: COCO's all; LVIS's those with an `area` above 0.

        `get_ann_ids` of lvis 0.5.3 drops the others whatever their box is, and with them what they say of a picture's
        classes; pycocotools 2.0.11 keeps them.
        """
        return self.areas > 0 if self.federated else np.ones(len(self.areas), dtype=np.bool_)


FileOf = Callable[[Mapping[str, Any]], str]
"""The path of a picture from its entry. Raises: KeyError where it has none, TypeError where that is no text."""


def by_file_name(image: Mapping[str, Any]) -> str:
    """Where COCO and V3Det say that a picture is."""
    return _text(image, "file_name")


def by_coco_url(image: Mapping[str, Any]) -> str:
    """Where LVIS v1.0 says so: the last two parts of its `coco_url`, train2017/... or val2017/..."""
    return "/".join(_text(image, "coco_url").split("/")[-2:])


def _text(image: Mapping[str, Any], key: str) -> str:
    value = image[key]
    if not isinstance(value, str):
        raise TypeError(f"the {key} {value!r}, which is no text")
    return value


def read_annotations(path: Path, federated: bool = False, file_of: FileOf = by_file_name) -> Annotations:
    """Read and check an annotation file; the same file is read once a process.

    Args:
        federated: it must have LVIS's own fields.
        file_of: the path of a picture from its entry in `images`.

    Raises:
        DataError: it is missing, no JSON, not of that format, or contradicts itself; names the file and the entry.
    """
    try:
        stamp = path.stat()
    except OSError as error:
        raise DataError(f"there is no annotation file {path}") from error
    return _read(path, (stamp.st_mtime_ns, stamp.st_size), federated, file_of)


@lru_cache(maxsize=4)
def _read(path: Path, stamp: tuple[int, int], federated: bool, file_of: FileOf) -> Annotations:
    content = _load(path)
    where = f"annotation file {path}"
    images = _by_id(where, "images", content["images"])
    categories = _by_id(where, "categories", content["categories"])
    place = {one["id"]: i for i, one in enumerate(categories)}
    if federated:
        for one in categories:
            if one.get("frequency") not in FREQUENCIES:
                raise DataError(
                    f"{where}: category {one['id']} has the frequency {one.get('frequency')!r}; LVIS: r, c, f"
                )
    for one in categories:
        if not isinstance(name := one.get("name"), str) or not name.strip():
            called = f"the name {name!r}" if "name" in one else "no name"
            raise DataError(f"{where}: category {one['id']} has {called}; a class is asked for by a text, write one")
    pictures = tuple(_picture(where, one, place if federated else None, file_of) for one in images)
    doubled = _doubled(one.file for one in pictures)
    if doubled is not None:
        raise DataError(f"{where}: two images are the file '{doubled}'; it is damaged")
    found = _boxes(where, content["annotations"], pictures, place, federated)
    return Annotations(path, federated, pictures, tuple(categories), **found)


def _load(path: Path) -> dict[str, Any]:
    """The JSON without its outlines, which are most of it and of no use here."""
    try:
        with path.open(encoding="utf-8") as file:
            content = json.load(file, object_hook=_without_outline)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"annotation file {path} cannot be read: {error}; fetch it again") from error
    if not isinstance(content, dict):
        raise DataError(
            f"annotation file {path} holds a {type(content).__name__}, not an object; results are no annotations"
        )
    for table in _TABLES:
        rows = content.get(table)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(
                f"annotation file {path} has no list '{table}'; COCO and LVIS files have {', '.join(_TABLES)}"
            )
    return content


def _without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    entry.pop("segmentation", None)
    return entry


def _by_id(where: str, table: str, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    if not rows:
        raise DataError(f"{where}: '{table}' is empty")
    _check_ids(where, f"an entry of '{table}'", f"entries of '{table}'", rows)
    return sorted(rows, key=lambda row: row["id"])


def _check_ids(where: str, one: str, many: str, rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        number = row.get("id")
        if type(number) is not int or not -_IDS <= number < _IDS:
            raise DataError(f"{where}: {one} has the id {number!r}; ids are whole numbers of 64 bits")
    doubled = _doubled(row["id"] for row in rows)
    if doubled is not None:
        raise DataError(f"{where}: two {many} have the id {doubled}; it is damaged or of another version")


def is_id(value: Any, known: Mapping[int, int]) -> bool:
    """Whether a value of a file is one of the ids it knows; no list or object is, which cannot be looked up."""
    return _is_number(value) and value in known


def _is_number(value: Any) -> bool:
    """Whether it is a finite number; true and false are none."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # no NaN is


def _doubled(values: Any) -> Any:
    return next((value for value, count in Counter(values).items() if count > 1), None)


def _picture(where: str, row: Mapping[str, Any], place: Mapping[int, int] | None, file_of: FileOf) -> Picture:
    what = f"{where}: image {row['id']}"
    try:
        file, sides = file_of(row), (row["width"], row["height"])
        lists = {key: row[key] for key in _LISTS} if place is not None else {}
    except KeyError as error:
        of = "LVIS v1.0" if place is not None else "COCO"
        raise DataError(f"{what} has no {error}; the file is no {of} annotation file, or of another version") from error
    except TypeError as error:
        raise DataError(f"{what} has {error}; it says where the picture is") from error
    if not all(map(_is_number, sides)):
        raise DataError(f"{what} is {sides[0]!r} x {sides[1]!r} large: a width or height that is no number")
    width, height = map(int, sides)
    if not below(file):
        raise DataError(f"{what} is the file '{file}', which leaves the folder of pictures; nothing outside it is read")
    if width < 1 or height < 1:
        raise DataError(f"{what} is {width} x {height} pixels large")
    if place is None:
        return Picture(row["id"], file, width, height)
    absent, partial = (_listed(what, key, ids, place) for key, ids in lists.items())
    return Picture(row["id"], file, width, height, absent, partial)


def _listed(what: str, key: str, ids: Any, place: Mapping[int, int]) -> frozenset[int]:
    """The classes of a list of category ids."""
    if not isinstance(ids, list):
        raise DataError(f"{what} has the {key} {ids!r}; it is a list of category ids, [] for none")
    for one in ids:
        if not is_id(one, place):
            raise DataError(f"{what} lists category {one!r} in {key}, which 'categories' does not have")
    return frozenset(place[one] for one in ids)


def below(path: str) -> bool:
    """Whether a relative path stays below where it starts; also of Windows' kind."""
    plain = path.replace("\\", "/")
    return bool(plain) and not plain.startswith("/") and ":" not in plain[:2] and ".." not in plain.split("/")


def _boxes(
    where: str,
    rows: Sequence[Mapping[str, Any]],
    pictures: Sequence[Picture],
    place: Mapping[int, int],
    federated: bool,
) -> dict[str, Any]:
    if not rows:
        raise DataError(f"{where}: 'annotations' is empty; there is nothing to find")
    _check_ids(where, "an annotation", "annotations", rows)
    at = {one.id: i for i, one in enumerate(pictures)}
    for row in rows:
        for key, known in (("image_id", at), ("category_id", place)):
            if not is_id(row.get(key), known):
                raise DataError(
                    f"{where}: annotation {row['id']} has the {key} {row.get(key)!r}, which the file does not have"
                )
        for key in _FLAGS if federated else _FLAGS[:1]:
            if row.get(key, 0) not in (0, 1):
                raise DataError(f"{where}: annotation {row['id']} has the {key} {row[key]!r}; it is 0 or 1")
    image = np.array([at[row["image_id"]] for row in rows], dtype=np.int64)
    boxes = box_table(where, "annotation", [(row["id"], row.get("bbox")) for row in rows])
    sizes = np.array([(one.width, one.height) for one in pictures], dtype=np.float64)[image]
    notes = check_inside(where, "annotation", [row["id"] for row in rows], boxes, sizes)
    crowd, left_out = (np.array([bool(row.get(key, 0)) for row in rows]) for key in _FLAGS)
    flags = {CROWD: crowd, IGNORED: left_out} if federated else {CROWDS: crowd}
    return {
        "ids": np.array([row["id"] for row in rows], dtype=np.int64),
        "image": image,
        "label": np.array([place[row["category_id"]] for row in rows], dtype=np.int64),
        "boxes": boxes,
        "areas": _areas(where, rows, boxes),
        "ignored": left_out if federated else crowd,
        "empty": (boxes[:, 2:] <= 0).any(axis=1),
        "notes": {**notes, **{what: int(flag.sum()) for what, flag in flags.items()}},
    }


def _areas(where: str, rows: Sequence[Mapping[str, Any]], boxes: Doubles) -> Doubles:
    """`area`, which COCO and LVIS files have; of files without masks (V3Det) it is that of the box."""
    if not any("area" in row for row in rows):
        return np.asarray(boxes[:, 2] * boxes[:, 3])
    for row in rows:
        if "area" not in row:
            raise DataError(f"{where}: annotation {row['id']} has no area, which others of the file have")
        if not _is_number(row["area"]) or row["area"] < 0:
            raise DataError(
                f"{where}: annotation {row['id']} has the area {row['area']!r}; square pixels of 0 or more are expected"
            )
    return np.array([float(row["area"]) for row in rows])


def box_table(where: str, what: str, rows: Sequence[tuple[Any, Any]]) -> Doubles:
    """(b, 4) boxes of (id, box) pairs.

    Raises:
        DataError: one is not made of four finite numbers, or has a negative side.
    """
    for name, box in rows:
        if not _is_box(box):
            raise DataError(f"{where}: {what} {name} has the box {box!r}; a box is x, y, width, height in pixels")
    return np.array([box for _, box in rows], dtype=np.float64)


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(map(_is_number, box)) and box[2] >= 0 and box[3] >= 0


def check_inside(where: str, what: str, ids: Sequence[Any], boxes: Doubles, sizes: Doubles) -> dict[str, int]:
    """How many boxes have no area, and how many reach over an edge of their picture; they are left as they are.

    Args:
        sizes: (b, 2) width and height of each box's picture.

    Raises:
        DataError: a box with an area lies wholly outside of its picture; file and pictures do not belong together.
    """
    start, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    empty = (boxes[:, 2:] <= 0).any(axis=1)
    outside = ((start >= sizes) | (end <= 0)).any(axis=1) & ~empty
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        shown = ", ".join(f"{value:g}" for value in boxes[first])
        raise DataError(
            f"{where}: {what} {ids[first]} has the box ({shown}), outside of its picture of {sizes[first, 0]:g} x "
            f"{sizes[first, 1]:g} pixels; {int(outside.sum())} such boxes"
        )
    over = ((start < 0) | (end > sizes)).any(axis=1) & ~empty
    return {"boxes without area": int(empty.sum()), "boxes over an edge": int(over.sum())}
