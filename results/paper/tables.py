"""Tables of published numbers, read from JSON and checked: no value without a source.

A file is {paper, title, citation, sources {tag: what it is}, tables}; of our own results also {own: true, scored_by:
the code that computed scores and intervals}. A table is {table, title, columns, rows} and what
its cells share. A column and a row are {name, ...}; a row has `values`, one for each column: a number, null where the
source has none, or {value, ...}. The settings below may stand at a table, a column, a row or a value; the nearest to
the value counts (value, row, column, table), and `run` is joined from all four.

    tier        "hard": printed in the paper, its code or a table quoted from it; "own": ours; "soft": all else
    source      [tag] of `sources`; `place`: the figure or section there
    reading     "printed" (default), "digitised" (read off a chart), "derived" (arithmetic), "measured" (by us)
    unit        "%" (default), "points", "% relative", "fraction", "count"
    metric, subset   as in run records; the subset is "all" by default
    protocol    what a reader must know before comparing
    tolerance   points by which our score may differ from the value, whatever its interval
    exact       true: the tolerance alone counts, not the interval; for what computes the same each time
    run         {key: value} of `trireme run`; "{data}/..." is a file below the folder of published sets
    never       why nobody can compute the cell here; else it needs a `run`
    pictures    test pictures of the paper's score, where a source says it; with other pictures the protocol differs
    differs     why a score of ours, though it can be computed, is no reproduction
    mean_of     [column] that the value is the mean of; `mean_of_others`: of all the others
    low, high, n, made    of our own results: the interval, samples, and {encoder, benchmark, memory, runs, ...}
    rerun       of our own results: half of the interval on the same classes, in points
    note        a remark

`deltas` are printed differences, {name, of, less, values}: row `of` less row `less`. `also_printed` are numbers that
the paper gives a second time, {of (a row or a delta), column, value, source, place}. Printed numbers that do not follow
from their cells are `slips`, {of, column, printed, recomputed, note}; `trireme.results.paper.slips` finds each of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trireme.errors import DataError, unknown_name

TIERS = ("hard", "soft", "own")
READINGS = ("printed", "digitised", "derived", "measured")
UNITS = ("%", "points", "% relative", "fraction", "count")

_SHARED = (
    "tier",
    "source",
    "place",
    "reading",
    "unit",
    "metric",
    "subset",
    "protocol",
    "tolerance",
    "exact",
    "pictures",
    "run",
    "never",
    "differs",
    "note",
)
_OWN = ("low", "high", "rerun", "n", "made")
_KEYS = {
    "paper": ("paper", "title", "citation", "own", "scored_by", "sources", "tables"),
    "table": ("table", "title", "slack", "columns", "rows", "deltas", "also_printed", "slips", *_SHARED),
    "column": ("name", "mean_of", "mean_of_others", *_SHARED),
    "row": ("name", "values", "made", *_SHARED),
    "value": ("value", *_SHARED, *_OWN),
    "delta": ("name", "of", "less", "values", "source"),
    "also_printed": ("of", "column", "value", "source", "place"),
    "slip": ("of", "column", "printed", "recomputed", "note"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One published number, with all that is needed to compare with it; the fields are those of the module's list.

    A cell equals nothing but itself, so that it can be a key.

    Attributes:
        sources: the tags of `source`, each with what it is.
        rival: how far the nearest other value of the table on the same data set, metric and subset is; None if there
            is none.
        low, high: the interval that our own result had; None for a paper's.
        rerun: half of its interval on the same classes; None where the metric has none.
    """

    paper: str
    table: str
    row: str
    column: str
    value: float
    unit: str
    metric: str
    subset: str
    tier: str
    reading: str
    sources: Mapping[str, str]
    place: str
    protocol: str
    tolerance: float
    exact: bool
    run: Mapping[str, str]
    never: str
    differs: str
    mean_of: tuple[str, ...]
    note: str
    pictures: int | None = None
    rival: float | None = None
    low: float | None = None
    high: float | None = None
    rerun: float | None = None
    n: int | None = None
    made: Mapping[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        return f"{self.paper}/{self.table}: {self.row}, {self.column}"


@dataclass(frozen=True, slots=True)
class Table:
    """A published table.

    Attributes:
        name: "rar/table2".
        cells: row by row, without the ones that have no value.
        data: the table as the file has it.
    """

    name: str
    title: str
    cells: tuple[Cell, ...]
    data: Mapping[str, Any] = field(repr=False)

    @property
    def tier(self) -> str:
        """Of most of its cells: that of the table itself."""
        return str(self.data["tier"])

    def columns(self) -> list[str]:
        return [column["name"] for column in self.data["columns"]]


@dataclass(frozen=True, slots=True)
class Paper:
    """A file of tables. `own`: it holds results of Trireme itself, which may be renewed."""

    name: str
    title: str
    citation: str
    own: bool
    tables: tuple[Table, ...]
    path: Path

    def table(self, name: str) -> Table:
        """A table by its name, "table2" or "rar/table2". UsageError names the nearest."""
        for table in self.tables:
            if name in (table.name, table.name.partition("/")[2]):
                return table
        raise unknown_name("table", name, [table.name for table in self.tables])


def folder() -> Path:
    """Where the files that ship lie."""
    return Path(__file__).resolve().parent


def papers() -> dict[str, Path]:
    """Name -> file of every paper that ships; no file is opened."""
    return {path.stem: path for path in sorted(folder().glob("*.json"))}


def read_paper(path: Path) -> Paper:
    """Read and check one file.

    Raises:
        DataError: it is no such file, a value lacks a source, a key or a name is not known; names table, row, column.
    """
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"no tables at {path}; name a JSON file in the form of trireme's results/paper") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error})") from error
    try:
        _require(data, {"paper": str, "title": str, "citation": str, "sources": dict, "tables": list}, "the file")
        _known(data, "paper", "the file")
        tables = [_table(data, table) for table in data["tables"]]
        _unique([table.name for table in tables], "table")
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return Paper(data["paper"], data["title"], data["citation"], bool(data.get("own")), tuple(tables), path)


def _table(paper: Mapping[str, Any], data: Mapping[str, Any]) -> Table:
    _require(data, {"table": str, "title": str, "tier": str, "columns": list, "rows": list}, "a table")
    where = str(data["table"])
    _known(data, "table", where)
    columns = data["columns"]
    for column in columns:
        _require(column, {"name": str}, f"a column of {where}")
    _unique([column["name"] for column in columns], f"column of {where}")
    for column in columns:
        _known(column, "column", f"{where}, {column['name']}")
    cells: list[Cell] = []
    for row in data["rows"]:
        _require(row, {"name": str, "values": list}, f"a row of {where}")
        _known(row, "row", f"{where}, {row['name']}")
        cells += _row_cells(paper, data, row)
    cells = _with_rivals(data, cells)
    _unique([row["name"] for row in data["rows"]], f"row of {where}")
    _check_printed(paper, data)
    return Table(f"{paper['paper']}/{where}", data["title"], tuple(cells), data)


def _with_rivals(table: Mapping[str, Any], cells: Sequence[Cell]) -> list[Cell]:
    """Cells that know their nearest other value; a column for which no data set is told is one by itself."""
    sets = {one["name"]: {**table.get("run", {}), **one.get("run", {})}.get("benchmark") for one in table["columns"]}
    alike: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        of = f"mean {cell.column}" if cell.mean_of else sets[cell.column] or f"column {cell.column}"
        alike.setdefault((of, cell.metric, cell.subset, cell.unit), []).append(cell)
    found = {}
    for group in alike.values():
        for cell in group:
            gaps = [abs(cell.value - other.value) for other in group if other is not cell]
            found[cell] = replace(cell, rival=round(min(gaps), 6) if gaps else None)
    return [found[cell] for cell in cells]


def _row_cells(paper: Mapping[str, Any], table: Mapping[str, Any], row: Mapping[str, Any]) -> list[Cell]:
    where = f"{table['table']}, {row['name']}"
    _as_many(row["values"], table["columns"], where)
    return [
        _cell(paper, table, column, row, {"value": value} if not isinstance(value, dict) else value)
        for column, value in zip(table["columns"], row["values"], strict=True)
        if value is not None
    ]


def _cell(
    paper: Mapping[str, Any],
    table: Mapping[str, Any],
    column: Mapping[str, Any],
    row: Mapping[str, Any],
    value: Mapping[str, Any],
) -> Cell:
    where = f"{table['table']}, {row['name']}, {column['name']}"
    _known(value, "value", where)
    levels = (table, column, row, value)
    found = {key: one[key] for one in levels for key in (*_SHARED, *_OWN) if key in one}
    number, tags = value.get("value"), found.get("source")
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise DataError(f"{where}: the value is {number!r}, which is no number")
    run = {key: str(text) for one in levels for key, text in one.get("run", {}).items()}
    mean_of = _mean_of(table, column, where)
    never = "" if mean_of else found.get("never", "")
    _check_cell(found, run, never, mean_of, where)
    return Cell(
        paper=paper["paper"],
        table=table["table"],
        row=row["name"],
        column=column["name"],
        value=float(number),
        unit=found.get("unit", "%"),
        metric=found["metric"],
        subset=found.get("subset", "all"),
        tier=found["tier"],
        reading=found.get("reading", "printed"),
        sources=_sources(paper, tags, where),
        place=found.get("place", ""),
        protocol=found["protocol"],
        tolerance=float(found["tolerance"]),
        exact=bool(found.get("exact")),
        run={} if never or mean_of else run,
        never=never,
        differs=found.get("differs", ""),
        mean_of=mean_of,
        note="; ".join(one["note"] for one in (column, row, value) if "note" in one),
        pictures=found.get("pictures"),
        low=found.get("low"),
        high=found.get("high"),
        rerun=found.get("rerun"),
        n=found.get("n"),
        made=found.get("made", {}),
    )


def _check_cell(
    found: Mapping[str, Any], run: Mapping[str, str], never: str, mean_of: Sequence[str], where: str
) -> None:
    for key in ("tier", "metric", "protocol", "tolerance"):
        if key not in found:
            raise DataError(f"{where}: '{key}' is missing")
    for key, known in (("tier", TIERS), ("reading", READINGS), ("unit", UNITS)):
        if key in found and found[key] not in known:
            raise DataError(f"{where}: {unknown_name(key, str(found[key]), known)}")
    if found["tier"] == "hard" and found.get("reading", "printed") != "printed":
        raise DataError(f"{where}: a hard value is a printed one, this one is {found['reading']}; its tier is soft")
    if not isinstance(found["tolerance"], int | float) or not found["tolerance"] >= 0:
        raise DataError(f"{where}: tolerance {found['tolerance']!r} is no number of points from 0")
    if (pictures := found.get("pictures")) is not None and not (type(pictures) is int and pictures > 0):
        raise DataError(f"{where}: pictures {pictures!r} is no number of pictures")
    if not never and not mean_of and not {"method", "benchmark"} <= run.keys():
        raise DataError(f"{where}: neither a `run` with method and benchmark nor `never`, which says why there is none")


def _sources(paper: Mapping[str, Any], tags: Any, where: str) -> dict[str, str]:
    if not isinstance(tags, list) or not tags:
        raise DataError(f"{where}: the value has no source")
    for tag in tags:
        if not str(paper["sources"].get(tag, "")).strip():
            raise DataError(f"{where}: source '{tag}' is not among the file's `sources`")
    return {tag: paper["sources"][tag] for tag in tags}


def _mean_of(table: Mapping[str, Any], column: Mapping[str, Any], where: str) -> tuple[str, ...]:
    names = [one["name"] for one in table["columns"]]
    if column.get("mean_of_others"):
        return tuple(name for name in names if name != column["name"])
    for name in column.get("mean_of", ()):
        if name not in names or name == column["name"]:
            raise DataError(f"{where}: {unknown_name('column', name, names)}")
    return tuple(column.get("mean_of", ()))


def _check_printed(paper: Mapping[str, Any], table: Mapping[str, Any]) -> None:
    """Deltas, second prints and slips name what is there, and have sources too."""
    rows, columns = [row["name"] for row in table["rows"]], [column["name"] for column in table["columns"]]
    where = str(table["table"])
    for delta in table.get("deltas", ()):
        _known(delta, "delta", where)
        _as_many(delta["values"], table["columns"], f"{where}, {delta['name']}")
        _named((delta["of"], delta["less"]), rows, f"row of {where}")
        for value in delta["values"]:
            own = value.get("source") if isinstance(value, dict) else None
            _sources(paper, own or delta.get("source", table.get("source")), f"{where}, {delta['name']}")
    named = [*rows, *(delta["name"] for delta in table.get("deltas", ()))]
    for kind, key in (("also_printed", "also_printed"), ("slip", "slips")):
        for one in table.get(key, ()):
            _known(one, kind, where)
            _named((one["of"],), named, f"row or delta of {where}")
            _named((one["column"],), columns, f"column of {where}")
            if kind == "also_printed":
                _sources(paper, one.get("source"), f"{where}, {one['of']}, {one['column']}")


def _require(data: Any, keys: Mapping[str, type], where: str) -> None:
    if not isinstance(data, dict):
        raise DataError(f"{where} is {type(data).__name__}, a JSON object is expected")
    for key, kind in keys.items():
        if not isinstance(data.get(key), kind):
            raise DataError(f"{where}: '{key}' is {'missing' if key not in data else f'no {kind.__name__}'}")


def _known(data: Mapping[str, Any], kind: str, where: str) -> None:
    for key in data:
        if key not in _KEYS[kind]:
            raise DataError(f"{where}: {unknown_name(f'key of a {kind}', key, _KEYS[kind])}")


def _named(names: Sequence[str], known: Sequence[str], kind: str) -> None:
    for name in names:
        if name not in known:
            raise DataError(str(unknown_name(kind, name, known)))


def _as_many(values: Sequence[Any], columns: Sequence[Any], where: str) -> None:
    if len(values) != len(columns):
        raise DataError(f"{where}: {len(values)} values for {len(columns)} columns")


def _unique(names: Sequence[str], kind: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{kind} '{name}' is there twice")
