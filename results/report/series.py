"""Lines that differ in one number alone, pictures a class or k, for the plots over that number.

Nothing is chosen by its test score: where several lines could be one point, and differ, the point is not drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trireme.files import fingerprint
from trireme.results.frame import ranker
from trireme.results.report.lines import Line, Part

_Groups = Mapping[tuple[str, ...], Mapping[int | None, Sequence[Line]]]


@dataclass(frozen=True, slots=True)
class Series:
    """Lines that differ in one number: (number, line), ascending. None, for all pictures, comes last.

    Attributes:
        doubtful: numbers of which several lines differ, so that none is drawn.
    """

    label: str
    family: str
    points: Sequence[tuple[float | None, Line]]
    doubtful: Sequence[float | None] = ()


def kind(line: Line, without: Collection[str] = ()) -> str:
    """Hash of what can change a score but the memory's pairs, what was learned from them, and the seed.

    Args:
        without: entries of the configuration that are left out; then a method's name is, too, which tells them.
    """
    data = line.records[0].data
    method, memory = data["method"], data["memory"] or {}
    config = {key: value for key, value in method["config"].items() if key not in without}
    return fingerprint(
        [
            ["" if without else method["name"], method["registry"], method.get("version"), config],
            ranker(line.records[0]).get("fingerprint"),
            [data["encoder"]["name"], data["encoder"]["fingerprint"]],
            memory.get("index"),
            [one for one in data.get("plugins") or () if one.get("kind") != "benchmark"],
        ]
    )


def memory_of(line: Line) -> list[Any]:
    """The memory; of one that seeds draw anew, what they draw from and by what rule."""
    memory = line.records[0].data["memory"] or {}
    drawn = memory.get("drawn") or {}
    return [
        memory.get("name"),
        *([drawn["from"], drawn["shots"], drawn["rule"]] if drawn else [memory.get("fingerprint")]),
    ]


def by_shots(part: Part) -> list[Series]:
    """Methods over memories of 1, 2, 4 ... pictures a class; the whole memory that these draw from ends the line."""
    groups: dict[tuple[str, ...], dict[int | None, list[Line]]] = {}
    for line in part.lines:
        if line.shots:
            name, source, _, rule = memory_of(line)
            key: tuple[str, ...] = (line.method, kind(line), name.rpartition("@")[0], source, rule)
            groups.setdefault(key, {}).setdefault(line.shots, []).append(line)
    for line in part.lines:
        if line.memory and not line.shots:
            whole: tuple[str, ...] = (line.method, kind(line), *memory_of(line))
            for key, held in groups.items():
                if key[:-1] == whole:
                    held.setdefault(None, []).append(line)
    return _series(groups, lambda shots: (shots is None, shots or 0))


def by_k(part: Part) -> list[Series]:
    """Methods that differ in the number of neighbours (or candidates) alone."""
    groups: dict[tuple[str, ...], dict[int | None, list[Line]]] = {}
    for line in part.lines:
        k = line.records[0].data["method"]["config"].get("k")
        if isinstance(k, int):
            key = (line.family, kind(line, without=("k",)), fingerprint(memory_of(line)))
            groups.setdefault(key, {}).setdefault(k, []).append(line)
    return _series(groups, lambda k: (False, k or 0))


def _series(groups: _Groups, order: Callable[[int | None], Any]) -> list[Series]:
    """Of the groups with two numbers or more."""
    found = []
    for (name, *_), held in groups.items():
        alike = {value: lines for value, lines in held.items() if all(one.scores == lines[0].scores for one in lines)}
        if len(set(alike) - {None}) > 1:
            points = [(_number(value), alike[value][0]) for value in sorted(alike, key=order)]
            doubtful = [_number(value) for value in sorted(set(held) - set(alike), key=order)]
            found.append(Series(name, points[0][1].family, points, doubtful))
    labels = Counter(series.label for series in found)
    return [
        series
        if labels[series.label] == 1
        else Series(series.points[-1][1].label, series.family, series.points, series.doubtful)
        for series in found
    ]


def _number(value: int | None) -> float | None:
    return None if value is None else float(value)
