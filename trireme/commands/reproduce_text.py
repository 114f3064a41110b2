"""What `trireme reproduce` prints: a table for people, or a row for each cell as CSV or JSON."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trireme.commands.paper_needs import Need
from trireme.errors import unknown_name
from trireme.results.paper import Cell, Paper, Table
from trireme.results.paper.slips import noted
from trireme.results.paper.verdicts import DIFFERS, NOT_RUN, OFF, REPRODUCED, Verdict

if TYPE_CHECKING:
    from trireme.results.tables import TextTable

FORMATS = ("terminal", "md", "latex", "html", "csv", "json")
_MISSING = "-"
_ALIKE = {
    re.compile(r"data set (?P<name>\S+) is missing; see: (?P<place>.+) \S+"): "data sets {} ({} NAME)",
    re.compile(r"(?P<name>\S+) is not in (?P<place>.+)"): "{} in {}",
}
"""What many cells lack alike is told once."""


def print_verdicts(
    paper: Paper, tables: Sequence[Table], verdicts: Mapping[str, Sequence[Verdict]], format: str
) -> None:
    """Tables with a verdict for each cell."""
    if format in ("csv", "json"):
        _print_rows([_row(one) for table in tables for one in verdicts[table.name]], format)
        return
    shown = [_text_table(paper, table, verdicts[table.name]) for table in tables]
    counts = Counter(one.verdict for found in verdicts.values() for one in found)
    told = ", ".join(f"{counts[kind]} {kind}" for kind in (REPRODUCED, OFF, DIFFERS, NOT_RUN))
    if paper.own and counts[NOT_RUN]:
        told += " (none of our own results may be missing; --where leaves rows out)"
    shown[-1] = replace(shown[-1], notes=(*shown[-1].notes, told))
    _print_tables(shown, format)


def _text_table(paper: Paper, table: Table, verdicts: Sequence[Verdict]) -> TextTable:
    """A table with a line for each cell; reasons, protocols, sources and slips are its notes."""
    from trireme.results.tables import TextTable

    reasons = list(dict.fromkeys(one.why for one in verdicts if one.verdict in (DIFFERS, NOT_RUN)))
    digits = _digits(one.cell for one in verdicts)
    columns = ["row", "column", "stored" if paper.own else "paper", *_OURS, "verdict"]
    lines = []
    for one in verdicts:
        cell = one.cell
        soft = " (soft)" if cell.tier == "soft" and table.tier == "hard" else ""
        mark = f" [{reasons.index(one.why) + 1}]" if one.verdict in (DIFFERS, NOT_RUN) else ""
        value = f"{cell.value:.{digits}f}{soft}"
        lines.append([cell.row, cell.column, value, *_ours(one, digits), one.verdict + mark])
    notes = (*(f"[{number}] {reason}" for number, reason in enumerate(reasons, 1)), *_facts(table, verdicts))
    title = f"{table.name}: {table.title} ({table.tier})"
    return TextTable(title, columns, lines, frozenset(), frozenset(range(2, 8)), notes=notes)


_OURS = ("ours", "delta", "allowed", "95 % of such classes", "n")


def _ours(one: Verdict, digits: int) -> list[str]:
    found, delta = one.found, one.delta
    if found is None or delta is None:
        return [_MISSING] * len(_OURS)
    moved = round(delta, digits)
    return [
        f"{found.score:.{digits}f}",
        f"{moved:+.{digits}f}" if moved else f"{0:.{digits}f}",  # no sign where nothing is left to show
        _MISSING if one.allowed is None else "[{:.2f}, {:.2f}]".format(*one.allowed),
        f"[{found.low:.1f}, {found.high:.1f}]" if None not in (found.low, found.high) else _MISSING,
        str(found.n or _MISSING),
    ]


def _facts(table: Table, verdicts: Sequence[Verdict]) -> Iterator[str]:
    for protocol in dict.fromkeys(one.cell.protocol for one in verdicts):
        yield f"protocol: {protocol}"
    for tag, source in {tag: text for one in verdicts for tag, text in one.cell.sources.items()}.items():
        yield f"source {tag}: {source}"
    for note in dict.fromkeys(f"{one.cell.column}: {one.cell.note}" for one in verdicts if one.cell.note):
        yield f"note: {note}"
    notes = {(one["of"], one["column"]): one.get("note", "") for one in table.data.get("slips", ())}
    for slip in noted(table):
        why = notes[slip.of, slip.column]
        yield f"slip: {slip.of}, {slip.column}: printed {slip.printed:g}, recomputed {slip.recomputed:g} ({why})"


def print_list(tables: Sequence[tuple[Table, Mapping[Cell, Sequence[Need]]]], format: str) -> None:
    """A line for each table: how many of its cells can be computed here, and what the others need."""
    rows = [_listed(table, lacking) for table, lacking in tables]
    if format in ("csv", "json"):
        _print_rows(rows, format)
        return
    from trireme.results.tables import TextTable

    title = "tables of the papers, and ours; here: cells that can be computed on this machine now"
    keys = ("table", "tier", "title", "cells", "here", "needs")
    lines = [[str(row[key]) for key in keys] for row in rows]
    columns = ["table", "tier", "what", "cells", "here", "the others need"]
    _print_tables([TextTable(title, columns, lines, frozenset(), frozenset((3, 4)))], format)


def _listed(table: Table, lacking: Mapping[Cell, Sequence[Need]]) -> dict[str, Any]:
    reasons = Counter(need.text for cell, needs in lacking.items() if not cell.mean_of for need in needs)
    needs = []
    for pattern, kind in _ALIKE.items():
        found = {reason: match for reason in reasons if (match := pattern.fullmatch(reason))}
        for place in dict.fromkeys(match["place"] for match in found.values()):
            alike = {reason: match["name"] for reason, match in found.items() if match["place"] == place}
            needs.append(f"{sum(map(reasons.pop, alike))}: {kind.format(', '.join(alike.values()), place)}")
    needs += [f"{count}: {reason}" for reason, count in reasons.items()]
    if means := sum(bool(cell.mean_of and short) for cell, short in lacking.items()):
        needs.append(f"{means}: the other cells of their row")
    return {
        "table": table.name,
        "tier": table.tier,
        "title": table.title,
        "cells": len(lacking),
        "here": sum(not short for short in lacking.values()),
        "needs": "; ".join(needs),
    }


def _row(one: Verdict) -> dict[str, Any]:
    """A cell with everything that is known of it."""
    cell, found = one.cell, one.found
    return {
        "paper": cell.paper,
        "table": cell.table,
        "row": cell.row,
        "column": cell.column,
        "value": cell.value,
        "unit": cell.unit,
        "metric": cell.metric,
        "subset": cell.subset,
        "tier": cell.tier,
        "ours": None if found is None else round(found.score, 6),
        "delta": None if one.delta is None else round(one.delta, 6),
        "ci_low": None if found is None else found.low,
        "ci_high": None if found is None else found.high,
        "n": None if found is None else found.n or None,
        "tolerance": cell.tolerance,
        "allowed_low": None if one.allowed is None else round(one.allowed[0], 6),
        "allowed_high": None if one.allowed is None else round(one.allowed[1], 6),
        "verdict": one.verdict,
        "why": one.why,
        "protocol": cell.protocol,
        "source": "; ".join(f"{tag}: {text}" for tag, text in cell.sources.items()),
        "needs": " ".join(f"{key}={value}" for key, value in cell.run.items()),
        "runs": "+".join(found.made.get("runs", ())) if found is not None else "",
    }


def _print_rows(rows: Sequence[Mapping[str, Any]], format: str) -> None:
    if format == "json":
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    writer = csv.DictWriter(sys.stdout, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _print_tables(tables: Sequence[TextTable], format: str) -> None:
    from trireme.results.writers import render_tables

    print(render_tables(list(tables), format).rstrip("\n"))


def check_format(format: str) -> None:
    """UsageError for a format that there is not."""
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)


def _digits(cells: Iterable[Cell]) -> int:
    """Decimals to show: as many as the values have, one to three, but no more than two of percentages."""
    given = [(len(repr(cell.value).partition(".")[2].rstrip("0")), 2 if cell.unit == "%" else 3) for cell in cells]
    return max([1, *(min(digits, most) for digits, most in given)])
