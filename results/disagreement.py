"""Where two methods disagree: how often only one is right, which classes gain and lose, and which pictures flip."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trireme.errors import DataError
from trireme.results.comparison import Setting
from trireme.results.records import RunRecord, column_metrics, read_predictions
from trireme.results.shown import Shown

MOST_CLASSES = 10


@dataclass(frozen=True, slots=True)
class ClassChange:
    """A class on which A has more (or fewer) samples right than B."""

    name: str
    n: int
    right_a: int
    right_b: int


@dataclass(frozen=True, slots=True)
class Flip:
    """A picture that only one of the two has right.

    Attributes:
        winner: "a" or "b".
        path: of the picture, "" where it is not known; of a region, its box is in `box`.
    """

    sample: str
    winner: str
    truth: str
    said_a: str
    said_b: str
    path: str
    box: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A and B on one benchmark, one seed, all samples of the chosen groups.

    Attributes:
        gained, lost: the classes with the largest net number of samples won and lost by A, at most `MOST_CLASSES`.
        flipped: at most as many of each kind as asked for, by sample id; `only_a` and `only_b` count all.
    """

    setting: Mapping[str, str]
    subset: str
    metric: str
    n: int
    both: int
    neither: int
    only_a: int
    only_b: int
    gained: Sequence[ClassChange]
    lost: Sequence[ClassChange]
    flipped: Sequence[Flip]
    problem: str


def disagreement(
    setting: Setting, shown: Shown, metric: str, pictures: int, subset: str = "all"
) -> Disagreement | None:
    """None where the metric is not a matter of right or wrong for every sample (an AP, a graded score).

    Args:
        pictures: how many of each kind of flip to list.
    """
    a, b = setting.pairs[0]
    if metric not in column_metrics(a.data) or metric not in column_metrics(b.data):
        return None
    groups = a.data["benchmark"]["subsets"].get(subset)
    one, other = _answers(a, metric), _answers(b, metric)
    if set(one) != set(other):
        raise DataError(f"{a.folder} and {b.folder} were not made on the same samples; run one of them again")
    kept = [
        (sample, one[sample], other[sample])
        for sample in sorted(one)
        if one[sample]["counts"] and other[sample]["counts"] and (groups is None or one[sample]["group"] in groups)
    ]
    if any(value[metric] not in (0.0, 1.0) for _, *two in kept for value in two):
        return None
    tally = [(sample, x, y, x[metric] == 1, y[metric] == 1) for sample, x, y in kept]
    only_a = [(s, x, y) for s, x, y, right, wrong in tally if right and not wrong]
    only_b = [(s, x, y) for s, x, y, wrong, right in tally if right and not wrong]
    flips = [_flip(s, "a", x, y, shown) for s, x, y in only_a[:pictures]]
    flips += [_flip(s, "b", x, y, shown) for s, x, y in only_b[:pictures]]
    changes = _changes([(x["label"], p, q) for _, x, _, p, q in tally], shown)
    told = setting.told | {"seeds": str(a.seed), "runs": f"{a.run[:6]} and {b.run[:6]}"}
    return Disagreement(
        told,
        subset,
        metric,
        len(tally),
        sum(p and q for *_, p, q in tally),
        sum(not p and not q for *_, p, q in tally),
        len(only_a),
        len(only_b),
        _most(changes, 1),
        _most(changes, -1),
        flips,
        shown.problem,
    )


def _answers(run: RunRecord, metric: str) -> dict[str, dict[str, Any]]:
    table = read_predictions(run, ["sample_id", "label", "group", "status", "ranked", metric])
    found = {}
    for row in table.to_pylist():
        row["counts"] = row["status"] == "ok" and row["label"] >= 0
        found[row["sample_id"]] = row
    return found


def _changes(tally: Sequence[tuple[int, bool, bool]], shown: Shown) -> list[ClassChange]:
    counts: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    for label, right_a, right_b in tally:
        for place, value in enumerate((True, right_a, right_b)):
            counts[label][place] += value
    return [ClassChange(shown.name(label), *found) for label, found in counts.items()]


def _most(changes: Sequence[ClassChange], sign: int) -> list[ClassChange]:
    """The most samples won (or lost) first; equal numbers by the share of the class, then by name."""
    won = [(sign * (change.right_a - change.right_b), change) for change in changes]
    ordered = sorted(won, key=lambda one: (-one[0], one[1].n, one[1].name))
    return [change for count, change in ordered if count > 0][:MOST_CLASSES]


def _flip(sample: str, winner: str, a: Mapping[str, Any], b: Mapping[str, Any], shown: Shown) -> Flip:
    ref = shown.pictures.get(sample)
    said_a, said_b = (shown.name(row["ranked"][0]) if row["ranked"] else "nothing" for row in (a, b))
    box = None if ref is None or ref.region is None else ref.region.box
    return Flip(sample, winner, shown.name(a["label"]), said_a, said_b, "" if ref is None else ref.path, box)
