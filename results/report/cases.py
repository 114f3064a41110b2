"""Samples worth a look: where methods disagree, what nobody has right, and some that all have; with what was retrieved.

They are chosen by their answers and a hash of their id, so that the same records and seed give the same samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from trireme.results.report.answers import Answers
from trireme.results.report.lines import Line
from trireme.results.shown import Shown

RETRIEVED = 6
"""Pictures shown of what a method retrieved."""
_TURNS = ("differ", "wrong", "differ", "right", "differ", "wrong")
KINDS = {"differ": "methods disagree", "wrong": "all wrong", "right": "all right"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A small picture for the page.

    Attributes:
        uri: of its data; "" where it could not be had, and `problem` says why.
        text: its caption, or for a sample that is a caption, what it asks.
        right: whether its class is the one asked for; None where that is not known.
    """

    uri: str
    width: int
    height: int
    text: str
    problem: str = ""
    right: bool | None = None


class Pictures(Protocol):
    """Finds pictures. What cannot be found comes with a reason, never as an error."""

    def sample(self, line: Line, sample: str) -> Picture:
        """A test picture, a region outlined in the picture that it is of."""
        ...

    def region(self, line: Line, sample: str) -> Picture | None:
        """What the sample's region holds; None for a whole picture."""
        ...

    def pair(self, line: Line, pair: str, label: int) -> Picture:
        """A pair of the memory of a run; `label` is the class that was asked for."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """What one method made of a sample.

    Attributes:
        place: which place the right class has in its ranking, from 1; None where it is not listed.
        others: what it ranks second and third.
    """

    label: str
    family: str
    said: str
    right: bool
    place: int | None
    others: Sequence[str]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What several methods retrieved alike."""

    methods: Sequence[str]
    pictures: Sequence[Picture]
    more: int


@dataclass(frozen=True, slots=True)
class Ranking:
    """Candidates before and after a ranker: (name, score as text, is it right)."""

    method: str
    before: Sequence[tuple[str, str, bool]]
    after: Sequence[tuple[str, str, bool]]
    reply: str
    status: str


@dataclass(frozen=True, slots=True)
class Case:
    """A sample with what the methods made of it."""

    sample: str
    kind: str
    truth: str
    group: str
    picture: Picture
    region: Picture | None
    readings: Sequence[Reading]
    neighbours: Sequence[Neighbours]
    rankings: Sequence[Ranking]


def choose(found: Answers, count: int, seed: int = 0) -> list[tuple[int, str]]:
    """(row, kind) of so many samples, kinds in turn; fewer where there are not so many.

    Of those that methods disagree on, the most even splits come first, of these the ones that a ranker changed; of
    those that all have wrong, the ones whose right class is farthest down.
    """
    rows = [int(row) for row in np.flatnonzero(found.answered)]
    wrong = (~found.right).sum(axis=0)
    m = len(found.lines)
    chance = {row: hashlib.sha256(f"{seed}/{found.samples[row]}".encode()).hexdigest() for row in rows}
    changed = _changed(found)
    differ = [row for row in rows if 0 < wrong[row] < m]
    differ.sort(key=lambda row: (not changed[row], abs(2 * int(wrong[row]) - m), chance[row]))
    hard = sorted((row for row in rows if wrong[row] == m), key=lambda row: chance[row])
    depths = {row: _depth(found, row) for row in hard[: 20 * max(count, 1)]}
    queues = {
        "differ": differ,
        "wrong": sorted(depths, key=lambda row: (-depths[row], chance[row])),
        "right": sorted((row for row in rows if wrong[row] == 0), key=lambda row: chance[row]),
    }
    chosen: list[tuple[int, str]] = []
    turn = 0
    while len(chosen) < count and any(queues.values()):
        kind = _TURNS[turn % len(_TURNS)]
        turn += 1
        if queues[kind]:
            chosen.append((queues[kind].pop(0), kind))
    return chosen


def _changed(found: Answers) -> Any:
    """(n,) whether some ranker's first choice is another one than retrieval's."""
    changed = np.zeros(len(found.samples), dtype=bool)
    for table in found.tables:
        if "candidates" in table.column_names:
            pairs = zip(table["candidates"].to_pylist(), table["ranked"].to_pylist(), strict=True)
            changed |= np.array([bool(before and after and before[0] != after[0]) for before, after in pairs])
    return changed


def _depth(found: Answers, row: int) -> float:
    """The mean place of the right class; beyond the list where it is not in it."""
    places = []
    for table in found.tables:
        ranked = table["ranked"][row].as_py() or []
        label = int(found.labels[row])
        places.append(ranked.index(label) if label in ranked else len(ranked) + 1)
    return float(np.mean(places))


def cases(found: Answers, shown: Shown, pictures: Pictures, count: int, seed: int = 0) -> list[Case]:
    """The chosen samples with everything that is shown of them."""
    return [_case(found, row, kind, shown, pictures) for row, kind in choose(found, count, seed)]


def _case(found: Answers, row: int, kind: str, shown: Shown, pictures: Pictures) -> Case:
    sample, label = found.samples[row], int(found.labels[row])
    rows = [(line, table.slice(row, 1).to_pylist()[0]) for line, table in zip(found.lines, found.tables, strict=True)]
    first = found.lines[0]
    return Case(
        sample,
        KINDS[kind],
        shown.name(label),
        str(rows[0][1].get("group") or ""),
        pictures.sample(first, sample),
        pictures.region(first, sample),
        [_reading(line, held, label, bool(found.right[i, row]), shown) for i, (line, held) in enumerate(rows)],
        _neighbours(rows, label, pictures),
        [_ranking(line, held, label, shown) for line, held in rows if held.get("candidates")],
    )


def _reading(line: Line, held: Mapping[str, Any], label: int, right: bool, shown: Shown) -> Reading:
    ranked = list(held["ranked"] or ())
    said = shown.name(ranked[0]) if ranked else "nothing"
    place = ranked.index(label) + 1 if label in ranked else None
    return Reading(line.label, line.family, said, right, place, [shown.name(other) for other in ranked[1:3]])


def _neighbours(rows: Sequence[tuple[Line, Mapping[str, Any]]], label: int, pictures: Pictures) -> list[Neighbours]:
    groups: dict[tuple[str, ...], list[Line]] = {}
    kinds: dict[tuple[str, ...], str] = {}
    for line, held in rows:
        column = "retrieved" if held.get("retrieved") else "found"
        ids = tuple(held.get(column) or ())[:RETRIEVED]
        if ids:
            groups.setdefault(ids, []).append(line)
            kinds[ids] = column
    shown = []
    for ids, lines in groups.items():
        of = pictures.pair if kinds[ids] == "retrieved" else _of_sample(pictures)
        total = max(len(held.get(kinds[ids]) or ()) for line, held in rows if line in lines)
        found = [of(lines[0], pair, label) for pair in ids]
        shown.append(Neighbours([line.label for line in lines], found, total - len(ids)))
    return shown


def _of_sample(pictures: Pictures) -> Any:
    return lambda line, sample, label: pictures.sample(line, sample)


def _ranking(line: Line, held: Mapping[str, Any], label: int, shown: Shown) -> Ranking:
    before = list(held["candidates"])
    after = [c for c in held["ranked"] if c in before]
    scores = [*(held.get("retrieval_scores") or ()), *[None] * len(before)]
    final = dict(zip(held["ranked"], held["scores"], strict=False))
    return Ranking(
        line.label,
        [(shown.name(c), _number(score), c == label) for c, score in zip(before, scores, strict=False)],
        [(shown.name(c), _number(final.get(c)), c == label) for c in after],
        str(held.get("reply") or ""),
        str(held.get("reply_status") or ""),
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
