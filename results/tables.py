"""A leaderboard as tables of text, one per benchmark; `trireme.results.writers` prints them in each format."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import pandas as pd

from trireme.results.axes import with_labels
from trireme.results.extra_columns import Column, with_extra
from trireme.results.extra_columns import cells as costs
from trireme.results.ranking import MEAN_RANK, crossed, default_metric, lacking, metric_of, told
from trireme.results.schema import HIT, REPLY_STATUSES
from trireme.types import DIRECTIONS

MISSING = "-"
_FIRST = ("all", *DIRECTIONS)
"""Subsets that stand before the others."""
_MOST_CEILINGS = 3
_MOST_LACKING = 10
"""Rows without a mean of which the notes say what they lack."""
_TOLD = {
    "supervision_training": "told in training",
    "supervision_inference": "told at inference",
    "chosen_on": "chosen on",
}
_SETTING = ("encoder", "memory", "ranker")
_DESCRIBED = (*_TOLD, *_SETTING)
_SCORE = ("score", "ci_low", "ci_high")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table ready to print.

    Attributes:
        title: one line above it.
        columns: headers.
        rows: one text per cell.
        best: (row, column) of the cells that hold the best score of their column.
        numeric: positions of the columns that hold numbers.
        second: (row, column) of the cells that hold the second best score.
        notes: lines below it.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: frozenset[tuple[int, int]]
    numeric: frozenset[int]
    second: frozenset[tuple[int, int]] = frozenset()
    notes: tuple[str, ...] = ()


def score_text(score: float, low: float = math.nan, high: float = math.nan) -> str:
    """`61.3 [58.9, 63.6]`; without its interval where there is none, `-` without a score."""
    if math.isnan(score):
        return MISSING
    return f"{score:.1f}" if math.isnan(low) or math.isnan(high) else f"{score:.1f} [{low:.1f}, {high:.1f}]"


def benchmark_tables(frame: pd.DataFrame, extra: Sequence[Column] = ()) -> list[TextTable]:
    """One table per benchmark: methods as rows by falling score on `all`, subsets as columns, on the main metric.

    Runs on benchmarks of one name and different fingerprints are not compared: each has a table.

    Where a method ranks candidates, a column tells in how many percent of the samples the right class was among them,
    one number a subset: no ranking can score more. Another one counts the statuses of the replies.

    Args:
        frame: from `standings`, or from `leaderboard` (then nobody can say who was told what).
        extra: columns that stand after the scores; see `trireme.results.extra_columns`.
    """
    described = [column for column in _DESCRIBED if column in frame]
    frame, notes = with_labels(frame)
    benchmarks: dict[str, list[Row]] = {}
    for row in _rows(with_extra(frame) if extra else frame):
        benchmarks.setdefault(row["benchmark"], []).append(row)
    tables = [_benchmark_table(name, benchmarks[name], described, extra) for name in sorted(benchmarks)]
    if notes and tables:
        tables[-1] = replace(tables[-1], notes=(*tables[-1].notes, *notes.values()))
    return tables


def _rows(frame: pd.DataFrame) -> list[Row]:
    """The frame's rows with None for what is missing, but NaN for scores; once for all tables, since pandas takes its
    time with every small frame."""
    columns = {}
    for name in frame:
        column = frame[name]
        columns[str(name)] = (
            column.tolist() if name in _SCORE else column.astype(object).where(column.notna(), None).tolist()
        )
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _benchmark_table(benchmark: str, everything: list[Row], described: list[str], extra: Sequence[Column]) -> TextTable:
    metric = metric_of([row["metric"] for row in everything], [row["metric"] for row in everything if row.get("main")])
    rows = [row for row in everything if row["metric"] == metric]
    subsets = sorted({row["subset"] for row in rows}, key=lambda name: (name not in _FIRST, name))
    shared, varying = _shared(rows)
    described = [column for column in described if column in _TOLD or column in varying]
    runs: dict[str, dict[str, Row]] = {}
    for row in rows:
        runs.setdefault(row["run"], {})[row["subset"]] = row
    lines = sorted(runs.values(), key=lambda line: _place(line, subsets[0]))
    names = Counter(_name(line) for line in lines)
    asides = [(header, cells) for header, cells in (_ceiling(everything, subsets), _replies(rows)) if cells]
    texts, numbers = [], []
    for line in lines:
        first = next(iter(line.values()))
        name = first["method"] if names[_name(line)] == 1 else f"{first['method']} ({first['run'][:6]})"
        scores = [[line[s][key] if s in line else math.nan for key in _SCORE] for s in subsets]
        more = [*(cells.get(first["run"], MISSING) for _, cells in asides), *costs(extra, first, MISSING)]
        told = [_text(first[column]) for column in described]
        texts.append([name, *told, *(score_text(*score) for score in scores), *more, first["seeds"]])
        numbers.append([score[0] for score in scores])
    start = 1 + len(described)
    ceilings = sum(header.startswith(HIT) for header, _ in asides)
    end = start + len(subsets) + len(asides)
    headers = [*_headers(rows, subsets), *(header for header, _ in asides), *(column.header for column in extra)]
    best, second = _two_best(numbers, start)
    return TextTable(
        ", ".join([f"{benchmark}: {metric} in % [95 % interval]", *shared]),
        ["method", *(_TOLD.get(column, column) for column in described), *headers, "seeds"],
        texts,
        best,
        frozenset([*range(start, start + len(subsets) + ceilings), *range(end, end + len(extra))]),
        second,
    )


def _ceiling(rows: Sequence[Row], subsets: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Header and {run: text} of the candidates' recall on each subset (on the first alone where they are many)."""
    hits: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        if row["metric"].startswith(HIT):
            hits.setdefault((row["run"], row["metric"]), {})[row["subset"]] = row["score"]
    metrics = list(dict.fromkeys(metric for _, metric in hits))
    shown = subsets if len(subsets) <= _MOST_CEILINGS else subsets[:1]
    cells = {}
    for (run, metric), scores in hits.items():
        texts = " / ".join(score_text(scores.get(subset, math.nan)) for subset in shown)
        cells[run] = texts if len(metrics) == 1 else f"{metric}: {texts}"
    return f"{metrics[0] if len(metrics) == 1 else f'{HIT}k'}: {' / '.join(shown)}", cells


def _replies(rows: Sequence[Row]) -> tuple[str, dict[str, str]]:
    """Header and {run: text} of how many replies have which status."""
    cells = {}
    for row in rows:
        counts = {status: row.get(f"replies_{status}") for status in REPLY_STATUSES}
        found = {status: count for status, count in counts.items() if count is not None}
        if found:
            cells[row["run"]] = ", ".join(f"{n} {status}" for status, n in found.items() if n) or "none"
    return "replies", cells


def _place(line: Mapping[str, Row], subset: str) -> tuple[float, str, str]:
    """Sort key: falling score (none at all: last), then method, then run."""
    first = next(iter(line.values()))
    score = line[subset]["score"] if subset in line else math.nan
    return (math.inf if math.isnan(score) else -score, first["method"], first["run"])


def _name(line: Mapping[str, Row]) -> tuple[str, ...]:
    """What a reader can tell a row by; where two rows share it, the run's hash is added."""
    first = next(iter(line.values()))
    return tuple(_text(first.get(column)) for column in ("method", "encoder", "memory", "ranker"))


def _headers(rows: Sequence[Row], subsets: Sequence[str]) -> list[str]:
    counts: dict[str, set[int]] = {subset: set() for subset in subsets}
    for row in rows:
        counts[row["subset"]].add(row["n"])
    return [f"{subset} (n = {next(iter(found))})" if len(found) == 1 else subset for subset, found in counts.items()]


def _shared(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """Encoder, memory and ranker: in the title where all rows have the same one, else columns.

    Methods that ask no ranker do not make the ranker of the others a column.
    """
    shared, varying = [], []
    for column in [name for name in _SETTING if name in rows[0]]:
        values = list(dict.fromkeys(_text(row[column]) for row in rows))
        values = [value for value in values if column != "ranker" or value != MISSING]
        if len(values) > 1:
            varying.append(column)
        elif values and values[0] != MISSING:
            shared.append(f"{column} {values[0]}")
    return shared, varying


def _text(value: Any) -> str:
    return MISSING if value is None or value == "" or pd.isna(value) else str(value)


def _two_best(
    rows: Sequence[Sequence[float]], start: int, falling: bool = True, groups: Sequence[str] = ()
) -> tuple[frozenset[tuple[int, int]], frozenset[tuple[int, int]]]:
    """Cells (row, column) with the best number of their column, and with the next one; none where there is nothing to
    compare. Rows that are equal are equally good; where groups are given, each is a table of its own."""
    found: tuple[set[tuple[int, int]], set[tuple[int, int]]] = (set(), set())
    for group in dict.fromkeys(groups or [""] * len(rows)):
        places = [place for place in range(len(rows)) if not groups or groups[place] == group]
        for column in range(len(rows[0])):
            numbers = {place: rows[place][column] for place in places if not math.isnan(rows[place][column])}
            ordered = sorted(set(numbers.values()), reverse=falling) if len(numbers) > 1 else []
            for cells, value in zip(found, ordered, strict=False):
                cells |= {(place, start + column) for place, number in numbers.items() if number == value}
    return frozenset(found[0]), frozenset(found[1])


def pivot_table(
    frame: pd.DataFrame,
    by: str,
    metric: str | None = None,
    rank: str = "score",
    subset: str = "all",
    contained: Mapping[str, str] = MappingProxyType({}),
) -> TextTable:
    """The pivot of a frame as text: scores with one decimal, `-` where a cell, a mean or a rank is missing.

    Notes say which rows have no mean, for want of what. The arguments are those of `pivot`.
    """
    shown = crossed(frame, by, metric, subset, rank, contained)
    table = shown.table.copy()
    index = [str(name) for name in table.index.names]
    missing = {} if by == "subset" else lacking(table)
    ranks = [float(value) for value in table.pop(MEAN_RANK)] if MEAN_RANK in table else []
    numbers = [[float(value) for value in row] for row in table.to_numpy()]
    names = table.reset_index()[index].to_numpy()
    rows = [
        [*(_text(name) for name in row), *(score_text(value) for value in values)]
        for row, values in zip(names, numbers, strict=True)
    ]
    columns = [*index, *(str(name) for name in table.columns)]
    best, second = _two_best(numbers, len(index), groups=shown.groups)
    if ranks:
        rows = [[*row, score_text(value)] for row, value in zip(rows, ranks, strict=True)]
        marks = _two_best([[value] for value in ranks], len(columns), falling=False, groups=shown.groups)
        best, second = best | marks[0], second | marks[1]
        columns.append(MEAN_RANK)
    title = f"{metric or default_metric(frame)} in %" + ("" if by == "subset" else f", subset {subset}")
    lines = [f"no mean for {name}: no score on {told(columns)}" for name, columns in missing.items()]
    more = len(lines) - _MOST_LACKING
    notes = (*shown.notes, *lines[:_MOST_LACKING], *([f"no mean for {more} rows more"] if more > 0 else []))
    return TextTable(title, columns, rows, best, frozenset(range(len(index), len(columns))), second, notes)
