"""CSV and Parquet files: one row a picture, or a box of one, with the columns `COLUMNS`."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from trireme.benchmarks.custom.rows import SPLITS, Data, Row, absolute, listed
from trireme.errors import DataError
from trireme.types import Region

BOX = ("x", "y", "width", "height")
COLUMNS = ("image", "label", "caption", "id", "split", *BOX)
_NEEDED = ("image", "label")
_Rows = Iterator[Mapping[str, Any]]


def read_csv(place: str, options: Mapping[str, Any]) -> Data:
    """The rows of a CSV file; `options` may name other columns: `label="species"`.

    Raises:
        DataError: it is not there, is no CSV file in UTF-8, lacks a column, or has a row that makes no sense.
    """
    return _read(place, options, _csv_rows)


def read_parquet(place: str, options: Mapping[str, Any]) -> Data:
    """The rows of a Parquet file, as `read_csv`."""
    return _read(place, options, _parquet_rows)


def _read(place: str, options: Mapping[str, Any], rows: Callable[[Path], _Rows]) -> Data:
    path = absolute(place)
    if not path.is_file():
        raise DataError(f"there is no file {path}; check its path")
    columns = {column: str(options.get(column, column)) for column in COLUMNS}
    return Data(str(path), list(_table(path, rows(path), columns)))


def _csv_rows(path: Path) -> _Rows:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            yield _header(path, reader.fieldnames or ())
            for number, row in enumerate(reader, start=1):
                what = f"{path}: row {number}, which ends at line {reader.line_num},"
                _check_width(what, row, len(reader.fieldnames or ()))
                yield row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {error}") from error


def _check_width(what: str, row: Mapping[Any, Any], width: int) -> None:
    """DataError where a row has not one cell a column, so that what stands in which column is a guess."""
    if None in row:  # where the reader puts what stands beyond the header's columns
        raise DataError(
            f"{what} has {width + len(row[None])} cells, the header {width}; put a cell that has a comma into quotes"
        )
    lacking = [name for name, cell in row.items() if name and cell is None]
    if lacking:
        raise DataError(f"{what} is too short: no cell for {listed(lacking)}; an empty one still needs its comma")


def _parquet_rows(path: Path) -> _Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        yield _header(path, file.schema_arrow.names)
        for batch in file.iter_batches():
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}") from error


def _header(path: Path, names: Sequence[str]) -> Mapping[str, Any]:
    """The first row that a table is given as: its columns. Columns without a name are no use, and may be many."""
    doubled = next((name for name, times in Counter(names).items() if times > 1 and name), None)
    if doubled is not None:
        raise DataError(f"{path} has two columns '{doubled}', and nothing says which is meant; rename or remove one")
    return dict.fromkeys(names, "")


def _table(path: Path, table: _Rows, columns: Mapping[str, str]) -> Iterator[Row]:
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
            f"{path} has {listed(side for side in sides if side in header)} but not {listed(absent)}; a box "
            "needs all four, in pixels: add the others, or rename what is no box"
        )
    for number, row in enumerate(table, start=1):
        cells = {column: _text(path, number, column, row.get(name)) for column, name in columns.items()}
        for column in _NEEDED:
            if not cells[column]:
                raise DataError(f"{path}: row {number} has no {columns[column]}")
        split = cells["split"].lower()
        if split and split not in SPLITS:
            known = ", ".join(SPLITS)
            raise DataError(f"{path}: row {number} is in the split '{cells['split']}'; known splits: {known}")
        picture = path.parent / Path(cells["image"]).expanduser()  # an absolute path stays as it is
        region = _region(path, number, {columns[side]: cells[side] for side in BOX})
        name = cells["id"] or (_place(picture, path.parent) or cells["image"]) + _fragment(region)
        yield Row(name, str(picture), cells["label"], cells["caption"], SPLITS.get(split, ""), region)


def _region(path: Path, number: int, cells: Mapping[str, str]) -> Region | None:
    """The box of a row: four numbers by the names of their columns, or none of them."""
    if not any(cells.values()):
        return None
    empty = [name for name, cell in cells.items() if not cell]
    if empty:
        raise DataError(f"{path}: row {number} has a box without {listed(empty)}; fill all four in, or none")
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


def _place(picture: Path, folder: Path) -> str:
    """The picture's path from the folder, "" where it does not lie below it. `folder` has no links and no dots."""
    plain = Path(os.path.normpath(picture))
    if not plain.is_relative_to(folder):  # it may be named through a link to the folder
        plain = absolute(str(picture.parent)) / picture.name
    return plain.relative_to(folder).as_posix() if plain.is_relative_to(folder) else ""


def _text(path: Path, number: int, column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (bytes, dict, list)):
        raise DataError(
            f"{path}: row {number} holds {type(value).__name__} in '{column}'; expected text (a path for pictures)"
        )
    return str(value).strip()
