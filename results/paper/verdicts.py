"""What a score of ours says of a published number: reproduced, off, another protocol, or nothing at all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trireme.results.paper.tables import Cell

REPRODUCED, OFF, DIFFERS, NOT_RUN = "reproduced", "off", "protocol differs", "not run"
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Score:
    """A score of ours with its 95 % interval, in the unit of run records (percent); None where it has none.

    Attributes:
        low, high: for classes like these: whole classes are drawn, see `trireme.results.statistics`.
        n: samples; 0 of a mean over data sets.
        rerun: half of the 95 % interval on the same classes, in points, see `trireme.results.paper.rerun`; None where
            single samples have no value of the metric.
        failed: samples without an answer, which n leaves out.
        whole: test pictures that the data set is verified to have; None where nobody has verified it.
        made: {encoder, benchmark, memory}: fingerprints, and {runs, created, command}.
    """

    score: float
    low: float | None
    high: float | None
    n: int = 0
    rerun: float | None = None
    failed: int = 0
    whole: int | None = None
    made: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A cell beside what was found.

    Attributes:
        why: of "not run" and "protocol differs", the reason; else what was compared.
        allowed: (low, high), where our score had to lie; None where nothing was compared.
        failed: a run of this cell was tried and failed.
    """

    cell: Cell
    found: Score | None
    verdict: str
    why: str = ""
    allowed: tuple[float, float] | None = None
    failed: bool = False

    @property
    def delta(self) -> float | None:
        """Ours less the published value, in points."""
        return None if self.found is None else self.found.score - self.cell.value


def judge(cell: Cell, found: Score | None, why: str = "", failed: bool = False) -> Verdict:
    """Compare.

    A paper's value is reproduced where ours lies within the stated tolerance of it, or as near as chance in the
    pictures of the same classes moves it (`Score.rerun`), and then at most half of the way to the nearest other value
    that the table has on the same data set: what is nearer to another method's number is not reproduced. A result of
    our own has its stored interval on the same classes, or, of a metric that has none, the stored interval; of an
    `exact` one the tolerance alone counts. A score that is not of the whole test set is no reproduction.

    Args:
        why: why nothing was found.
        failed: because its run failed.
    """
    if found is None:
        return Verdict(cell, None, NOT_RUN, cell.never or why, failed=failed)
    if differs := cell.differs or _other_inputs(cell, found) or _other_pictures(cell, found):
        return Verdict(cell, found, DIFFERS, differs)
    low, high, asked = _allowed(cell, found)
    fine = low - _EPSILON <= found.score <= high + _EPSILON
    return Verdict(cell, found, REPRODUCED if fine else OFF, asked, (low, high))


def _allowed(cell: Cell, found: Score) -> tuple[float, float, str]:
    """From where to where our score may lie, and why."""
    near = cell.value - cell.tolerance, cell.value + cell.tolerance
    if cell.exact:
        return *near, f"within {cell.tolerance:g} of the value"
    reach, asked = found.rerun or 0.0, "chance in the pictures of the same classes"
    if cell.rerun is not None:  # ours is compared with itself, whatever the others have
        reach = cell.rerun
    elif cell.low is not None and cell.high is not None:
        asked = f"in the stored interval, or within {cell.tolerance:g}"
        return min(cell.low, near[0]), max(cell.high, near[1]), asked
    elif cell.rival is not None and reach > cell.rival / 2:
        reach, asked = cell.rival / 2, f"half of the {cell.rival:g} to the nearest other value of the table"
    if reach <= cell.tolerance:
        reach, asked = cell.tolerance, "the tolerance"
    return cell.value - reach, cell.value + reach, f"within {reach:.3g} of the value: {asked}"


def _other_inputs(cell: Cell, found: Score) -> str:
    """How our own stored result was made from other inputs than the score that is compared with it."""
    for what in ("encoder", "benchmark", "memory"):
        stored, now = cell.made.get(what), found.made.get(what)
        if what in cell.made and stored != now:
            return f"the {what} is another one ({now or 'none'}, the stored result had {stored or 'none'})"
    if cell.n is not None and found.n != cell.n:
        return f"{found.n} samples, the stored result had {cell.n}"
    return ""


def _other_pictures(cell: Cell, found: Score) -> str:
    """How a score is not of the whole test set. Samples that failed never help: the score of the others is another."""
    if found.failed:
        return f"{found.failed} samples failed and are left out of the score"
    for expected, whose in ((cell.pictures, "the paper's test set has"), (found.whole, "the data set has")):
        if expected is not None and found.n != expected and not cell.mean_of:
            return f"{found.n} test pictures, {whose} {expected}"
    return ""


def judge_mean(cell: Cell, parts: Sequence[Verdict]) -> Verdict:
    """Compare an average of the paper with the average of our cells; nothing, where one of those is not there.

    The cells are of different data sets, so their errors are independent: the squares of their half-widths add up.
    """
    there = [part for part in parts if part.found is not None]
    if len(there) < len(cell.mean_of):
        return Verdict(cell, None, NOT_RUN, f"needs all {len(cell.mean_of)} cells that it is the mean of")
    scores = [part.found for part in parts if part.found is not None]
    mean = sum(score.score for score in scores) / len(scores)
    reruns = [score.rerun for score in scores if score.rerun is not None]
    rerun = math.hypot(*reruns) / len(scores) if len(reruns) == len(scores) else None
    found = Score(mean, _joined(scores, mean, -1), _joined(scores, mean, 1), rerun=rerun)
    differing = [part for part in parts if part.verdict == DIFFERS]
    if differing:
        return Verdict(cell, found, DIFFERS, differing[0].why)
    return judge(cell, found)


def _joined(scores: Sequence[Score], mean: float, side: int) -> float | None:
    limits = [score.low if side < 0 else score.high for score in scores]
    if any(limit is None for limit in limits):
        return None
    widths = [limit - score.score for limit, score in zip(limits, scores, strict=True) if limit is not None]
    return mean + side * math.hypot(*widths) / len(scores)


def exit_code(verdicts: Sequence[Verdict], own: bool = False) -> int:
    """0: what ran is reproduced; 1: something is off, or a run failed; 3: nothing could be compared.

    Args:
        own: they are of our own results, all of which can be computed again: then a cell that was not run, or made from
            other inputs, is 1 too.
    """
    kinds = {one.verdict for one in verdicts}
    missing = own and (DIFFERS in kinds or (NOT_RUN in kinds and REPRODUCED in kinds))
    if OFF in kinds or missing or (REPRODUCED in kinds and any(one.failed for one in verdicts)):
        return 1
    return 0 if REPRODUCED in kinds else 3
