"""The tables of the page: cells with what is shown and what they are sorted by."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trireme.results.report.lines import Line, Part, Score
from trireme.results.report.series import kind
from trireme.results.tables import MISSING


@dataclass(frozen=True, slots=True)
class Cell:
    """`key` is what a column of numbers is sorted by, None where there is nothing; texts are sorted as they are."""

    text: str
    key: float | None = None
    small: str = ""
    best: bool = False
    family: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: columns are (title, is it numeric); the first cell of a row heads it."""

    caption: str
    columns: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[Cell]]


def leaderboard(part: Part) -> Grid:
    """The lines of a benchmark with their scores, what they were told, and what they cost."""
    shown = [column for column in _COLUMNS if any(column.of(line) for line in part.lines)]
    shown = [column for column in shown if not column.only_varying or len({column.of(one) for one in part.lines}) > 1]
    columns = [("method", False), *((_title(part, subset), True) for subset in part.subsets)]
    columns += [(column.title, column.numeric) for column in shown]
    best = {subset: _best(part, subset) for subset in part.subsets}
    rows = []
    for line in part.lines:
        scores = [score_cell(line.scores.get(subset), best[subset]) for subset in part.subsets]
        rows.append([Cell(line.label, family=line.family), *scores, *(column.cell(line) for column in shown)])
    caption = f"{part.metric} in %, below it the 95 % interval; best of each column in bold"
    same = [f"{title} {_same(part, of)}" for title, of in _SHARED if _same(part, of)]
    return Grid(", ".join([caption, *same]) + ".", columns, rows)


def _title(part: Part, subset: str) -> str:
    counts = {line.scores[subset].n for line in part.lines if subset in line.scores}
    return f"{subset} (n = {counts.pop()})" if len(counts) == 1 else subset


def _best(part: Part, subset: str) -> float:
    values = [line.scores[subset].value for line in part.lines if subset in line.scores]
    known = [value for value in values if not math.isnan(value)]
    return max(known) if len(known) > 1 else math.nan


def score_cell(score: Score | None, best: float = math.nan) -> Cell:
    """A score with its interval below it, bold where it is the best; a dash where there is none."""
    if score is None or math.isnan(score.value):
        return Cell(MISSING)
    small = "" if math.isnan(score.low) else f"{score.low:.1f}–{score.high:.1f}"
    return Cell(f"{score.value:.1f}", score.value, small, best=score.value == best)


@dataclass(frozen=True, slots=True)
class _Column:
    """A column beside the scores; left out where no line has it, or where it is the same in all and only told then."""

    title: str
    of: Callable[[Line], Any]
    numeric: bool = False
    only_varying: bool = False

    def cell(self, line: Line) -> Cell:
        value = self.of(line)
        if value is None or value == "":
            return Cell(MISSING)
        if not self.numeric:
            return Cell(str(value))
        return Cell(_number(float(value)), float(value))


def _fact(key: str) -> Callable[[Line], Any]:
    return lambda line: line.facts.get(key)


def _number(value: float) -> str:
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


_COLUMNS = (
    _Column("candidates hold it, %", lambda line: next(iter(line.hits.values()), None), numeric=True),
    _Column("replies", _fact("replies")),
    _Column("told in training", _fact("supervision_training")),
    _Column("told at inference", _fact("supervision_inference")),
    _Column("chosen on", _fact("chosen_on")),
    _Column("encoder", lambda line: line.encoder, only_varying=True),
    _Column("memory", lambda line: line.memory, only_varying=True),
    _Column("images/s", _fact("images_per_second"), numeric=True),
    _Column("seconds", _fact("seconds"), numeric=True),
    _Column("peak MiB", _fact("peak_memory_mib"), numeric=True),
    _Column("trained parameters", _fact("trained_parameters"), numeric=True),
    _Column("prompt tokens", _fact("prompt_tokens"), numeric=True),
    _Column("failed", lambda line: line.facts.get("failed") or None, numeric=True),
    _Column("seeds", _fact("seeds")),
)
_SHARED: tuple[tuple[str, Callable[[Line], str]], ...] = (
    ("encoder", lambda line: line.encoder),
    ("memory", lambda line: line.memory),
)


def _same(part: Part, of: Callable[[Line], str]) -> str:
    """The one value of all lines (those without one aside), "" where there are several."""
    values = {of(line) for line in part.lines} - {""}
    every = {of(line) for line in part.lines}
    return values.pop() if len(values) == 1 and len(every) == 1 else ""


def overview(parts: Sequence[Part]) -> list[Grid]:
    """Methods by benchmarks, one table a main metric, of the methods and metrics that several benchmarks have."""
    groups: dict[str, list[Part]] = {}
    for part in parts:
        groups.setdefault(part.metric, []).append(part)
    tables = [_overview(metric, chosen) for metric, chosen in groups.items() if len(chosen) > 1]
    return [table for table in tables if table.rows]


def _overview(metric: str, parts: Sequence[Part]) -> Grid:
    lines = _settings(parts)
    scores = {
        label: {part.name: next(iter(line.scores.values())) for part, line in held} for label, held in lines.items()
    }
    families = {label: held[0][1].family for label, held in lines.items()}
    best = {part.name: _best(part, part.subsets[0]) for part in parts}
    body = []
    for label in sorted(scores, key=lambda one: _order(scores[one], parts)):
        cells = [score_cell(scores[label].get(part.name), best[part.name]) for part in parts]
        body.append([Cell(label, family=families[label]), *cells])
    columns = [("method", False), *((part.name, True) for part in parts)]
    subsets = "/".join(dict.fromkeys(part.subsets[0] for part in parts))
    return Grid(
        f"{metric} in % on {subsets}, of methods with several benchmarks; bold: the best of all that ran there.",
        columns,
        body,
    )


def _settings(parts: Sequence[Part]) -> dict[str, list[tuple[Part, Line]]]:
    """Label -> the lines of one setting that has several benchmarks, at most one line a benchmark.

    Nothing is chosen by its score: where a benchmark has several lines of a method's setting, memories tell them apart;
    lines that still cannot be told apart are in the benchmark's own table alone.
    """
    every = [(part, line, kind(line), line.shots) for part in parts for line in part.lines]
    several = [one for one, count in Counter((part.name, *key) for part, _, *key in every).items() if count > 1]
    split = {one[1:] for one in several}
    groups: dict[tuple[str, int | None, str], list[tuple[Part, Line]]] = {}
    for part, line, setting, shots in every:
        memory = line.memory if (setting, shots) in split else ""
        groups.setdefault((setting, shots, memory), []).append((part, line))
    names = {key: [part.name for part, _ in held] for key, held in groups.items()}
    kept = {key: held for key, held in groups.items() if 1 < len(held) == len(set(names[key]))}
    labels = {key: _row_label(held[0][1], parts, key[2]) for key, held in kept.items()}
    shared = Counter(labels.values())
    return {label if shared[label] == 1 else f"{label} · {key[0][:6]}": kept[key] for key, label in labels.items()}


def _row_label(line: Line, parts: Sequence[Part], memory: str) -> str:
    encoders = {other.encoder for part in parts for other in part.lines}
    told = [line.encoder if len(encoders) > 1 else "", f"{line.shots} a class" if line.shots else "", memory]
    return " · ".join([line.method, *(one for one in told if one)])


def _order(scores: Mapping[str, Score], parts: Sequence[Part]) -> tuple[int, float]:
    """By the first benchmark of the report that it ran on, then by falling score."""
    place = next(i for i, part in enumerate(parts) if part.name in scores)
    value = scores[parts[place].name].value
    return place, math.inf if math.isnan(value) else -value
