"""Printed averages and differences that do not follow from their own cells. Every one is recomputed, none is copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trireme.results.paper.tables import Table

ROUNDING = 0.1
"""Points by which a printed number may differ from one computed of printed cells: both are rounded to one decimal."""
_EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Slip:
    """A printed number and what its cells give. `of`: the row, or the name of the printed differences."""

    table: str
    of: str
    column: str
    printed: float
    recomputed: float


def recomputed(table: Table) -> Iterator[Slip]:
    """Every printed average, difference and second print of a table, right or wrong, beside what its cells give."""
    values = {(cell.row, cell.column): cell.value for cell in table.cells}
    for cell in table.cells:
        if cell.mean_of:
            parts = [values[cell.row, column] for column in cell.mean_of]
            yield Slip(table.name, cell.row, cell.column, cell.value, sum(parts) / len(parts))
    printed: dict[tuple[str, str], float] = {}
    for delta in table.data.get("deltas", ()):
        for column, value in zip(table.columns(), map(_number, delta["values"]), strict=True):
            if value is not None:
                printed[delta["name"], column] = value
                computed = values[delta["of"], column] - values[delta["less"], column]
                yield Slip(table.name, delta["name"], column, value, computed)
    for one in table.data.get("also_printed", ()):
        first = {**values, **printed}[one["of"], one["column"]]
        yield Slip(table.name, one["of"], one["column"], float(one["value"]), first)


def slips(table: Table) -> list[Slip]:
    """Those that differ by more than rounding, and more than `slack` for each bar where cells were read off a chart.

    A number that is printed twice has to be the same both times.
    """
    chart = 2 * float(table.data.get("slack", 0.0))
    twice = {(one["of"], one["column"], float(one["value"])) for one in table.data.get("also_printed", ())}
    found = []
    for one in recomputed(table):
        allowed = 0.0 if (one.of, one.column, one.printed) in twice else ROUNDING + chart
        if abs(one.printed - one.recomputed) > allowed + _EPSILON:
            found.append(one)
    return found


def noted(table: Table) -> list[Slip]:
    """The slips that the table's file tells."""
    return [
        Slip(table.name, one["of"], one["column"], float(one["printed"]), float(one["recomputed"]))
        for one in table.data.get("slips", ())
    ]


def _number(value: float | Mapping[str, Any] | None) -> float | None:
    if isinstance(value, Mapping):
        return float(value["value"])
    return None if value is None else float(value)
