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
        n: samples; 0 of a mean over data sets.
        made: {encoder, benchmark, memory}: fingerprints, and {runs, created, command}.
    """

    score: float
    low: float | None
    high: float | None
    n: int = 0
    made: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A cell beside what was found. `why`: of "not run" and "protocol differs", the reason; else what was compared."""

    cell: Cell
    found: Score | None
    verdict: str
    why: str = ""

    @property
    def delta(self) -> float | None:
        """Ours less the published value, in points."""
        return None if self.found is None else self.found.score - self.cell.value


def judge(cell: Cell, found: Score | None, why: str = "") -> Verdict:
    """Compare.

    A paper's value is reproduced where it lies in the interval of our score or within the tolerance of it. A result of
    our own has its interval: a new score that leaves it is off; of an `exact` one the tolerance alone counts.

    Args:
        why: why nothing was found.
    """
    if found is None:
        return Verdict(cell, None, NOT_RUN, cell.never or why)
    if differs := cell.differs or _other_inputs(cell, found):
        return Verdict(cell, found, DIFFERS, differs)
    near = abs(found.score - cell.value) <= cell.tolerance + _EPSILON
    if cell.exact:
        return _verdict(cell, found, near, f"within {cell.tolerance:g} of the value")
    if cell.low is not None and cell.high is not None:
        inside = cell.low - _EPSILON <= found.score <= cell.high + _EPSILON
        return _verdict(cell, found, inside or near, f"in [{cell.low:.1f}, {cell.high:.1f}]")
    held = found.low is not None and found.high is not None and found.low <= cell.value <= found.high
    return _verdict(cell, found, held or near, f"in our interval, or within {cell.tolerance:g}")


def _verdict(cell: Cell, found: Score, fine: bool, asked: str) -> Verdict:
    return Verdict(cell, found, REPRODUCED if fine else OFF, asked)


def _other_inputs(cell: Cell, found: Score) -> str:
    """How our own stored result was made from other inputs than the score that is compared with it."""
    for what in ("encoder", "benchmark", "memory"):
        stored, now = cell.made.get(what), found.made.get(what)
        if what in cell.made and stored != now:
            return f"the {what} is another one ({now or 'none'}, the stored result had {stored or 'none'})"
    if cell.n is not None and found.n != cell.n:
        return f"{found.n} samples, the stored result had {cell.n}"
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
    found = Score(mean, _joined(scores, mean, -1), _joined(scores, mean, 1))
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


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """0: what ran is reproduced; 1: something is off; 3: nothing could be compared."""
    kinds = {one.verdict for one in verdicts}
    return 1 if OFF in kinds else 0 if REPRODUCED in kinds else 3
