"""Your own pictures as a benchmark or as a memory: a folder per class, a CSV or a Parquet file.

`folder:PATH` holds PATH/<class>/<pictures>, or PATH/<split>/<class>/<pictures> where every top folder is named like a
split. `csv:PATH` and `parquet:PATH` have the columns `image` and `label`, and may have `caption`, `id` and `split`;
relative picture paths start at the file's own folder. A class is its label: id and name are the same.

A table may also have `x`, `y`, `width` and `height`. A row that fills them in is that box of its picture, in pixels
from the upper left corner, shown in a square of its longer side; one that leaves all four empty is the whole picture.

Rows are taken in the order of their ids, and a row without an id is called by its picture's path from the data's own
folder, and by its box: the same data in another order or another place is the same data.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from trireme.benchmarks.base import RowBenchmark, RowPairs
from trireme.benchmarks.templates import templates
from trireme.errors import DataError, UsageError, unknown_name
from trireme.hashes import file_hashes
from trireme.types import Benchmark, ImageRef, Pair, PairSet, Region, Role, Sample

SCHEMES = ("folder", "csv", "parquet")
BOX = ("x", "y", "width", "height")
COLUMNS = ("image", "label", "caption", "id", "split", *BOX)
_NEEDED = ("image", "label")
_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"))
_CAPTION = "a photo of {}"

_TEST, _VALIDATION, _PAIRS = "test", "validation", "memory"
_SPLITS: Mapping[str, str] = {
    "test": _TEST,
    "validation": _VALIDATION, "valid": _VALIDATION, "val": _VALIDATION, "dev": _VALIDATION,
    "memory": _PAIRS, "train": _PAIRS, "training": _PAIRS, "support": _PAIRS,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One picture of a user's data, or a region of one. `split` is "" where the data has none."""

    id: str
    path: Path
    label: str
    caption: str
    split: str
    region: Region | None = None


def open_benchmark(name: str, **options: Any) -> Benchmark:
    """The data at `name` as a benchmark: its `test` pictures, or all of them where it has no splits.

    Args:
        name: "folder:PATH", "csv:PATH" or "parquet:PATH".
        options: `templates` (a list of prompts); for tables also the name of a column of `COLUMNS`: `label="species"`.

    Raises:
        DataError: the data is not there or not of that shape. A listed picture that is missing is no error here:
            a run counts it.
        UsageError: an unknown kind of data or option.
    """
    prompts = _templates(options.pop("templates", None))
    rows = _read(name, options)
    classes = tuple(sorted({row.label for row in rows}))
    place = {label: number for number, label in enumerate(classes)}
    refs = _refs(rows)
    samples: dict[Role, list[Sample]] = {Role.TEST: [], Role.VALIDATION: []}
    for row, ref in zip(rows, refs, strict=True):
        if row.split != _PAIRS:
            role = Role.VALIDATION if row.split == _VALIDATION else Role.TEST
            samples[role].append(Sample(row.id, ref, place[row.label]))
    return RowBenchmark(
        name=name,
        version="user",
        class_ids=classes,
        class_names=classes,
        class_groups=("",) * len(classes),
        subsets={"all": None},
        templates=prompts,
        rows=samples,
        validation=name if samples[Role.VALIDATION] else None,
    )


def open_pairs(name: str, **options: Any) -> PairSet:
    """The data at `name` as image-caption pairs: its `memory` (or `train`) pictures, or all where it has no splits.

    A row without a caption says "a photo of <label>". Arguments and errors are those of `open_benchmark`.
    """
    _templates(options.pop("templates", None))
    rows = [row for row in _read(name, options) if row.split in ("", _PAIRS)]
    if not rows:
        raise DataError(f"{name} has no pictures for a memory: none of its rows is in the split 'memory' or 'train'")
    refs = _refs(rows)
    return RowPairs(
        name,
        tuple(
            Pair(row.id, ref, row.caption or _CAPTION.format(row.label), row.label, name)
            for row, ref in zip(rows, refs, strict=True)
        ),
    )


def _templates(given: Sequence[str] | None) -> tuple[str, ...]:
    if given is None:
        return templates("photos")
    if isinstance(given, str) or not given or any(text.count("{}") != 1 for text in given):
        raise UsageError(f"templates must be a list of texts with one {{}} each, got {given!r}")
    return tuple(given)


def _refs(rows: Sequence[Row]) -> list[ImageRef]:
    hashes = file_hashes([str(row.path) for row in rows], workers=2)
    return [
        ImageRef(str(row.path), found if isinstance(found, str) else None, row.region)
        for row, found in zip(rows, hashes, strict=True)
    ]


def _read(name: str, options: Mapping[str, Any]) -> list[Row]:
    """The rows by id. Their order would else decide ties in a memory and what a training sees first."""
    scheme, colon, place = name.partition(":")
    if scheme not in SCHEMES or not colon or not place:
        raise unknown_name("kind of data", name, [f"{one}:PATH" for one in SCHEMES])
    for option in options:
        if option not in COLUMNS or scheme == "folder":
            known = ["templates"] if scheme == "folder" else ["templates", *COLUMNS]
            raise unknown_name(f"option of {scheme}:", option, known)
    path = Path(place).expanduser().resolve()
    if scheme == "folder":
        rows = list(_folder(path))
    else:
        if not path.is_file():
            raise DataError(f"there is no file {path}; check the path in '{name}'")
        table = _csv_rows(path) if scheme == "csv" else _parquet_rows(path)
        rows = list(_table(path, table, {column: str(options.get(column, column)) for column in COLUMNS}))
    if not rows:
        raise DataError(f"no pictures found in {path}")
    _check(path, rows)
    return sorted(rows, key=lambda row: row.id)


def _check(path: Path, rows: Sequence[Row]) -> None:
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise DataError(f"{path}: two rows have the id '{row.id}'; remove one, or give them an `id` column")
        seen.add(row.id)
    unsplit = sum(not row.split for row in rows)
    if 0 < unsplit < len(rows):
        raise DataError(f"{path}: {unsplit} of {len(rows)} rows have no split; fill the `split` column in or remove it")


def _folder(path: Path) -> Iterator[Row]:
    if not path.is_dir():
        raise DataError(f"there is no folder {path}; it should hold one folder of pictures per class")
    tops = _subfolders(path)
    if not tops:
        has = "pictures but no class folders" if _pictures(path) else "no pictures"
        raise DataError(f"{path} holds {has}; expected {path.name}/<class>/<pictures>")
    splits = [_SPLITS.get(top.name.lower(), "") for top in tops]
    if all(splits) and all(_subfolders(top) for top in tops):
        folders = [(split, label) for split, top in zip(splits, tops, strict=True) for label in _subfolders(top)]
    elif any(split and _subfolders(top) for split, top in zip(splits, tops, strict=True)):
        odd = next(top for split, top in zip(splits, tops, strict=True) if not (split and _subfolders(top)))
        raise DataError(
            f"{path} holds split folders (train, test ...) and also '{odd.name}', which is none with class folders; "
            f"move it away, or point at one split: folder:{path}/<split>"
        )
    else:
        folders = [("", label) for label in tops]
    for split, label in folders:
        pictures = _pictures(label)
        if not pictures:
            raise DataError(f"the class folder {label} holds no pictures; fill or remove it")
        for picture in pictures:
            yield Row(picture.relative_to(path).as_posix(), picture, label.name, "", split)


def _subfolders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _pictures(path: Path) -> list[Path]:
    files = (entry for entry in path.rglob("*") if entry.suffix.lower() in _SUFFIXES and not entry.name.startswith("."))
    return sorted(entry for entry in files if entry.is_file())


def _csv_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="", strict=True)
            yield dict.fromkeys(reader.fieldnames or (), "")  # the header, for the check of its columns
            yield from reader
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {error}") from error


def _parquet_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        yield dict.fromkeys(file.schema_arrow.names, "")
        for batch in file.iter_batches():
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}") from error


def _table(path: Path, table: Iterator[Mapping[str, Any]], columns: Mapping[str, str]) -> Iterator[Row]:
    header = list(next(table))
    for column in COLUMNS:
        wanted = columns[column]
        if wanted not in header and (column in _NEEDED or wanted != column):
            near = get_close_matches(wanted, header, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0]}'?" if near else f"it has: {', '.join(header) or 'no header'}"
            raise DataError(f"{path} has no column '{wanted}'; {hint}")
    sides = [columns[side] for side in BOX]
    absent = [side for side in sides if side not in header]
    if 0 < len(absent) < len(sides):
        raise DataError(
            f"{path} has {_listed(side for side in sides if side in header)} but not {_listed(absent)}; a box "
            "needs all four, in pixels: add the others, or rename what is no box"
        )
    for number, row in enumerate(table, start=1):
        cells = {column: _text(path, number, column, row.get(name)) for column, name in columns.items()}
        for column in _NEEDED:
            if not cells[column]:
                raise DataError(f"{path}: row {number} has no {columns[column]}")
        split = cells["split"].lower()
        if split and split not in _SPLITS:
            known = ", ".join(_SPLITS)
            raise DataError(f"{path}: row {number} is in the split '{cells['split']}'; known splits: {known}")
        picture = path.parent / Path(cells["image"]).expanduser()  # an absolute path stays as it is
        region = _region(path, number, {columns[side]: cells[side] for side in BOX})
        name = cells["id"] or (_place(picture, path.parent) or cells["image"]) + _fragment(region)
        yield Row(name, picture, cells["label"], cells["caption"], _SPLITS.get(split, ""), region)


def _region(path: Path, number: int, cells: Mapping[str, str]) -> Region | None:
    """The box of a row: four numbers by the names of their columns, or none of them."""
    if not any(cells.values()):
        return None
    empty = [name for name, cell in cells.items() if not cell]
    if empty:
        raise DataError(f"{path}: row {number} has a box without {_listed(empty)}; fill all four in, or none")
    box = []
    for name, cell in cells.items():
        try:
            box.append(float(cell))
        except ValueError as error:
            raise DataError(f"{path}: row {number} has '{cell}' as {name}; a box is four numbers of pixels") from error
    region = Region((box[0], box[1], box[2], box[3]))
    if region.fault:
        raise DataError(f"{path}: row {number}: {region.fault}")
    return region


def _fragment(region: Region | None) -> str:
    """A box as a media fragment of its picture's path: "#xywh=10,20,30.5,40"; "" for a whole picture."""
    return "" if region is None else "#xywh=" + ",".join(f"{value:.15g}" for value in region.box)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _place(picture: Path, folder: Path) -> str:
    """The picture's path from the folder, "" where it does not lie below it. `folder` has no links and no dots."""
    plain = Path(os.path.normpath(picture))
    if not plain.is_relative_to(folder):  # it may be named through a link to the folder
        plain = picture.parent.resolve() / picture.name
    return plain.relative_to(folder).as_posix() if plain.is_relative_to(folder) else ""


def _text(path: Path, number: int, column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (bytes, dict, list)):
        raise DataError(
            f"{path}: row {number} holds {type(value).__name__} in '{column}'; expected text (a path for pictures)"
        )
    return str(value).strip()
