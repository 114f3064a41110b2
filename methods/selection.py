"""Choosing hyper-parameters on validation pictures, in one way for every method, with the choice on record."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trireme.errors import UsageError, unknown_name
from trireme.methods.base import Validation
from trireme.progress import say
from trireme.types import DIRECTIONS, Ints

Setting = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scored:
    """One setting and its validation scores.

    Attributes:
        setting: the hyper-parameters tried.
        scores: percent of the benchmark's main metric for each of its subsets that holds a sample.
    """

    setting: Setting
    scores: dict[str, float]

    @property
    def value(self) -> float:
        """What is maximised: the mean over the proper subsets, so that a small subset weighs as much as a large one."""
        proper = [score for subset, score in self.scores.items() if subset != "all"]
        return float(np.mean(proper if proper else list(self.scores.values())))


def subset_scores(validation: Validation, ranked: Ints) -> dict[str, float]:
    """Percent of the first metric that is a mean over samples, for each subset of the benchmark; subsets without a
    sample are left out, and so are samples without a label (proposed boxes).

    Args:
        ranked: (n, m) class indices for the n validation samples, best first.

    Raises:
        UsageError: no validation sample has a label.
    """
    benchmark = validation.benchmark
    labels = np.array([sample.label for sample in validation.samples], dtype=np.int64)
    known = labels >= 0
    if not known.any():
        raise UsageError(f"no validation picture of {benchmark.name} has a label; nothing can be chosen on it")
    labels = labels[known]
    values = np.asarray(next(iter(benchmark.score(ranked[known], labels).values())), dtype=np.float64)
    counted = [sample for sample, of in zip(validation.samples, known, strict=True) if of]
    groups = np.array([sample.group_among(benchmark.class_groups) for sample in counted], dtype=object)
    scores = {}
    for subset, held in benchmark.subsets.items():
        inside = np.ones(len(labels), dtype=bool) if held is None else np.isin(groups, held)
        if inside.any():
            scores[subset] = 100 * float(values[inside].mean())
    return scores


def grid_settings(grid: Mapping[str, Sequence[Any]]) -> Iterator[Setting]:
    """Every combination of the grid's values, the last key varying fastest; an empty grid gives one empty setting."""
    for key, values in grid.items():
        if not values:
            raise UsageError(f"the grid of '{key}' lists no value")
    for combination in itertools.product(*grid.values()):
        yield dict(zip(grid.keys(), combination, strict=True))


def unguarded(may_lose: Mapping[str, float], validation: Validation) -> list[str]:
    """The guarded subsets that go without a guard, because the benchmark divides its pictures into none.

    Such are pictures in folders and tables, and those of which all that is told apart is who asks, the picture or the
    caption: there a guard that a method's config sets for other benchmarks is void.

    Raises:
        UsageError: the benchmark has subsets, and this is none of them, or none that a validation picture is in; or the
            points are no number from 0.
    """
    for subset, points in may_lose.items():
        if not (math.isfinite(points) and points >= 0):
            raise UsageError(f"may_lose.{subset}={points:g}: give points of a score, 0 or more")
    benchmark = validation.benchmark
    groups = {sample.group_among(benchmark.class_groups) for sample in validation.samples}
    held = [name for name, of in benchmark.subsets.items() if of is None or groups & set(of)]
    absent = [name for name in may_lose if name not in held]
    if not absent or all(of is None or name in DIRECTIONS for name, of in benchmark.subsets.items()):
        return absent
    if absent[0] in benchmark.subsets:
        raise UsageError(
            f"may_lose cannot guard '{absent[0]}': {benchmark.name} has no validation picture of it; "
            f"it has some of {', '.join(held)}"
        )
    raise unknown_name(f"subset of {benchmark.name} in may_lose", absent[0], held)


def note_unguarded(may_lose: Mapping[str, float], validation: Validation) -> None:
    """Name the guards that are void, in one line; UsageError as for `unguarded`."""
    if absent := unguarded(may_lose, validation):
        what = f"may_lose of {', '.join(absent)} guards nothing"
        say(f"note: {what}, {validation.benchmark.name} does not divide its pictures into subsets")


def note_unchosen(options: Mapping[str, Any]) -> dict[str, Any]:
    """Say that there are no validation pictures to choose on, and which values stay; the same for the record."""
    stated = ", ".join(f"{name}={value}" for name, value in options.items())
    say(f"note: there are no validation pictures to choose on; {stated} stay as configured")
    return {"without_validation": dict(options)}


def allowed(scored: Scored, reference: Mapping[str, float], may_lose: Mapping[str, float]) -> bool:
    """Whether no guarded subset falls more than its allowed points below the reference."""
    return all(
        scored.scores[subset] >= reference[subset] - points
        for subset, points in may_lose.items()
        if subset in scored.scores and subset in reference
    )


def select(
    settings: Sequence[Setting],
    score: Callable[[Setting], Mapping[str, float]],
    reference: Mapping[str, float] | None = None,
    may_lose: Mapping[str, float] | None = None,
    shape: Sequence[int] | None = None,
) -> tuple[Scored, list[Scored]]:
    """The best setting among those that keep what they must, and all that were tried.

    A setting is judged by its `Scored.value`; in a grid by the mean of its own value and those of its neighbours,
    because a small subset (a few dozen pictures) makes single values jump by points, and a good setting is good around
    itself too.
    Ties go to the earlier setting, so list the simplest first. Where no setting keeps the guarded subsets, the one that
    loses least on them is taken.

    Args:
        settings: at least one.
        score: validation scores of a setting by subset.
        reference: scores of the baseline that guarded subsets are held against.
        may_lose: points that a subset may lose against the reference.
        shape: how many values each key of the grid has, where `settings` is a whole grid in the order of
            `grid_settings`.
    """
    tried = [Scored(setting, dict(score(setting))) for setting in settings]
    if not tried:
        raise UsageError("nothing to select from")
    values = [entry.value for entry in tried]
    if shape is not None:
        values = neighbour_means(values, shape)
    guard = {} if reference is None else dict(may_lose or {})
    kept = [i for i, entry in enumerate(tried) if allowed(entry, reference or {}, guard)]
    if kept:
        return tried[max(kept, key=lambda i: values[i])], tried
    losses = [min(entry.scores[s] - (reference or {})[s] for s in guard if s in entry.scores) for entry in tried]
    return tried[max(range(len(tried)), key=lambda i: losses[i])], tried


def neighbour_means(values: Sequence[float], shape: Sequence[int]) -> list[float]:
    """The mean of each value of a grid with the values one step away along one key (2 a key inside, 1 at an edge)."""
    grid = np.asarray(values, dtype=np.float64).reshape(tuple(shape))
    total, count = grid.copy(), np.ones_like(grid)
    for axis, size in enumerate(grid.shape):
        upper, lower = (np.take(grid, range(*ends), axis=axis) for ends in ((1, size), (0, size - 1)))
        edge = [(0, 0)] * grid.ndim
        for part, side in ((upper, (0, 1)), (lower, (1, 0))):
            edge[axis] = side
            total += np.pad(part, edge)
            count += np.pad(np.ones_like(part), edge)
    return [float(mean) for mean in (total / count).ravel()]


def grid_shape(grid: Mapping[str, Sequence[Any]]) -> tuple[int, ...]:
    """How many values each key lists."""
    return tuple(len(values) for values in grid.values())
