"""A leaderboard as tables of text, one per benchmark; `trireme.results.writers` prints them in each format."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from trireme.results.leaderboard import default_metric, pivot
from trireme.results.schema import HIT, REPLY_STATUSES
from trireme.types import DIRECTIONS

MISSING = "-"
_FIRST = ("all", *DIRECTIONS)
"""Subsets that stand before the others."""
_MOST_CEILINGS = 3
_TOLD = {
    "supervision_training": "told in training",
    "supervision_inference": "told at inference",
    "chosen_on": "chosen on",
}


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table ready to print.

    Attributes:
        title: one line above it.
        columns: headers.
        rows: one text per cell.
        best: (row, column) of the cells that hold the best score of their column.
        numeric: positions of the columns that hold scores, and of the one that holds their ceiling.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: frozenset[tuple[int, int]]
    numeric: frozenset[int]


def score_text(score: float, low: float = math.nan, high: float = math.nan) -> str:
    """`61.3 [58.9, 63.6]`; without its interval where there is none, `-` without a score."""
    if math.isnan(score):
        return MISSING
    return f"{score:.1f}" if math.isnan(low) or math.isnan(high) else f"{score:.1f} [{low:.1f}, {high:.1f}]"


def benchmark_tables(frame: pd.DataFrame) -> list[TextTable]:
    """One table per benchmark: methods as rows by falling score on `all`, subsets as columns, on the main metric.

    Where a method ranks candidates, a column tells in how many percent of the samples the right class was among them,
    one number a subset: no ranking can score more. Another one counts the statuses of the replies.

    Args:
        frame: from `standings`, or from `leaderboard` (then nobody can say who was told what).
    """
    return [_benchmark_table(str(name), rows) for name, rows in frame.groupby("benchmark", sort=True)]


def _benchmark_table(benchmark: str, frame: pd.DataFrame) -> TextTable:
    metric = str(frame.loc[frame["main"], "metric"].iloc[0]) if "main" in frame else default_metric(frame)
    everything, frame = frame, frame[frame["metric"] == metric]
    subsets = sorted(frame["subset"].unique(), key=lambda name: (name not in _FIRST, name))
    shared, varying = _shared(frame)
    described = [column for column in [*_TOLD, *varying] if column in frame]
    runs: dict[str, dict[str, dict[str, Any]]] = {}
    for row in frame.to_dict("records"):
        runs.setdefault(row["run"], {})[row["subset"]] = {str(key): value for key, value in row.items()}
    lines = sorted(runs.values(), key=lambda line: _place(line, subsets[0]))
    names = Counter(_name(line) for line in lines)
    extras = [(header, cells) for header, cells in (_ceiling(everything, subsets), _replies(frame)) if cells]
    rows, numbers = [], []
    for line in lines:
        first = next(iter(line.values()))
        name = first["method"] if names[_name(line)] == 1 else f"{first['method']} ({first['run'][:6]})"
        scores = [[line[s][key] if s in line else math.nan for key in ("score", "ci_low", "ci_high")] for s in subsets]
        texts = [_text(first[column]) for column in described]
        more = [cells.get(first["run"], MISSING) for _, cells in extras]
        rows.append([name, *texts, *(score_text(*score) for score in scores), *more, first["seeds"]])
        numbers.append([score[0] for score in scores])
    start = 1 + len(described)
    headers = [*_headers(frame, subsets), *(header for header, _ in extras), "seeds"]
    ceilings = sum(header.startswith(HIT) for header, _ in extras)
    return TextTable(
        ", ".join([f"{benchmark}: {metric} in % [95 % interval]", *shared]),
        ["method", *(_TOLD.get(column, column) for column in described), *headers],
        rows,
        _best(numbers, start),
        frozenset(range(start, start + len(subsets) + ceilings)),
    )


def _ceiling(frame: pd.DataFrame, subsets: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Header and {run: text} of the candidates' recall on each subset (on the first alone where they are many)."""
    hits = frame[frame["metric"].str.startswith(HIT)]
    metrics = list(hits["metric"].unique())
    shown = subsets if len(subsets) <= _MOST_CEILINGS else subsets[:1]
    cells = {}
    for (run, metric), rows in hits.groupby(["run", "metric"]):
        scores = dict(zip(rows["subset"], rows["score"], strict=True))
        texts = " / ".join(score_text(scores.get(subset, math.nan)) for subset in shown)
        cells[str(run)] = texts if len(metrics) == 1 else f"{metric}: {texts}"
    return f"{metrics[0] if len(metrics) == 1 else f'{HIT}k'}: {' / '.join(shown)}", cells


def _replies(frame: pd.DataFrame) -> tuple[str, dict[str, str]]:
    """Header and {run: text} of how many replies have which status."""
    counted = {status: f"replies_{status}" for status in REPLY_STATUSES if f"replies_{status}" in frame}
    cells = {}
    for row in frame.drop_duplicates("run").to_dict("records"):
        found = {status: row[column] for status, column in counted.items() if not pd.isna(row[column])}
        if found:
            cells[row["run"]] = ", ".join(f"{n} {status}" for status, n in found.items() if n) or "none"
    return "replies", cells


def _place(line: dict[str, dict[str, Any]], subset: str) -> tuple[float, str, str]:
    """Sort key: falling score (none at all: last), then method, then run."""
    first = next(iter(line.values()))
    score = line[subset]["score"] if subset in line else math.nan
    return (math.inf if math.isnan(score) else -score, first["method"], first["run"])


def _name(line: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    """What a reader can tell a row by; where two rows share it, the run's hash is added."""
    first = next(iter(line.values()))
    return tuple(_text(first.get(column)) for column in ("method", "encoder", "memory", "ranker"))


def _headers(frame: pd.DataFrame, subsets: Sequence[str]) -> list[str]:
    counts = {subset: frame.loc[frame["subset"] == subset, "n"].unique() for subset in subsets}
    return [f"{subset} (n = {found[0]})" if len(found) == 1 else subset for subset, found in counts.items()]


def _shared(frame: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Encoder, memory and ranker: in the title where all rows have the same one, else columns.

    Methods that ask no ranker do not make the ranker of the others a column.
    """
    shared, varying = [], []
    for column in [name for name in ("encoder", "memory", "ranker") if name in frame]:
        values = list(frame[column].fillna(MISSING).unique())
        values = [value for value in values if column != "ranker" or value != MISSING]
        if len(values) > 1:
            varying.append(column)
        elif values and values[0] != MISSING:
            shared.append(f"{column} {values[0]}")
    return shared, varying


def _text(value: Any) -> str:
    return MISSING if pd.isna(value) or value == "" else str(value)


def _best(rows: Sequence[Sequence[float]], start: int) -> frozenset[tuple[int, int]]:
    """Cells (row, column) with the largest number of their column; none where there is nothing to compare."""
    if len(rows) < 2:
        return frozenset()
    found = set()
    for column, numbers in enumerate(zip(*rows, strict=True), start):
        best = max((number for number in numbers if not math.isnan(number)), default=math.nan)
        found |= {(row, column) for row, number in enumerate(numbers) if number == best}
    return frozenset(found)


def pivot_table(frame: pd.DataFrame, by: str, metric: str | None = None) -> TextTable:
    """The pivot of a frame as text: scores with one decimal, `-` where a cell or a mean is missing."""
    table = pivot(frame, by, metric)
    index = [str(name) for name in table.index.names]
    numbers = [[float(value) for value in row] for row in table.to_numpy()]
    names = table.reset_index()[index].to_numpy()
    rows = [
        [*(_text(name) for name in row), *(score_text(value) for value in values)]
        for row, values in zip(names, numbers, strict=True)
    ]
    columns = [*index, *(str(name) for name in table.columns)]
    title = f"{metric or default_metric(frame)} in %" + ("" if by == "subset" else ", subset all")
    return TextTable(title, columns, rows, _best(numbers, len(index)), frozenset(range(len(index), len(columns))))
