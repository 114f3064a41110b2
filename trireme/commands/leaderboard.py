"""`trireme leaderboard`: the table of all finished runs, from their records alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trireme.errors import UsageError
from trireme.progress import say

if TYPE_CHECKING:
    import pandas as pd

    from trireme.results.leaderboard import Board


@dataclass(frozen=True, slots=True)
class Choice:
    """Which rows and columns to show; see `trireme leaderboard --help`."""

    role: str = "test"
    benchmarks: Collection[str] = ()
    where: Sequence[str] = ()
    best_of: str | None = None
    columns: Sequence[str] = ()
    rank: str = "score"
    metric: str | None = None
    subset: str | None = None


def leaderboard(
    folder: Path,
    by: str | None = None,
    format: str | None = None,
    save: Path | None = None,
    choice: Choice | None = None,
    strict: bool = False,
    rescore: bool = False,
) -> int:
    """Print the leaderboard, or write it to a file whose suffix tells the format.

    Run folders that no score is from are listed below the table, and on stderr where the format has no place for them.

    Args:
        strict: 1 where a run folder had to be left out.
        rescore: scores and intervals anew from stored predictions; no model is loaded.
    """
    from trireme.results.leaderboard import COLUMNS, board
    from trireme.results.writers import SUFFIXES, Crossing, crossing_notes, render, write

    choice = choice or Choice()
    if choice.best_of and choice.role != "validation":
        raise UsageError(
            "--best-of would choose by test scores, which then tell nothing; choose on validation pictures: "
            "trireme run ... role=validation, then --best-of with --role validation (it shows the test scores)"
        )
    if choice.rank != "score" and not by:
        raise UsageError("--rank sorts the table over several benchmarks; name its columns, e.g. --by benchmark")
    if (choice.metric or choice.subset) and not by:
        raise UsageError("--metric and --subset choose what --by is a table of; else use --where, e.g. metric=top5")
    shown = format or (SUFFIXES.get(save.suffix.lower(), "") if save else "terminal")
    more = by or choice.where or choice.columns or choice.best_of or shown not in ("csv", "parquet")
    found = board(folder, choice.role, rescore, None if more else COLUMNS, strict)
    lost = [f"left out: {reason}" for reason in dict.fromkeys(one.reason for one in found.left_out)]
    frame, notes = _chosen(found, folder, choice, lost)
    notes += (*found.notes, *(() if by else found.intervals))  # a pivot shows none
    held = _contained(found, set(frame["benchmark"])) if by == "benchmark" else {}
    crossing = Crossing(choice.metric, choice.subset or "all", held)
    if shown in ("csv", "parquet"):
        crossed = crossing_notes(frame, by, choice.rank, crossing) if by else []
        for note in [*notes, *crossed, *lost]:
            say(f"warning: {note}" if note in lost else f"note: {note}")
    shape = (by, choice.rank, choice.columns, (*notes, *lost), crossing)
    if save is not None:
        say(f"wrote {write(frame, save, format, *shape)}")
    else:
        print(render(frame, shown, *shape).rstrip("\n"))
    return 1 if strict and lost else 0


def _contained(found: Board, names: set[str]) -> dict[str, str]:
    """{benchmark: the one that holds all of its pictures and more}, where both can be opened on this machine."""
    from trireme.commands.opened import Opened
    from trireme.results.comparison import Setting, containment

    first = {record.benchmark: record for record in reversed(found.runs) if record.benchmark in names}
    if len(first) < 2:
        return {}
    return containment([Setting(((one, one),)) for _, one in sorted(first.items())], Opened().benchmark)


def _chosen(found: Board, folder: Path, choice: Choice, lost: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """The rows asked for, and what is to be said about them."""
    from trireme.results.leaderboard import nothing_there, standings
    from trireme.results.selection import best_of, conditions, where

    frame = found.frame
    notes: list[str] = []
    if frame.empty:
        for line in lost:
            say(f"warning: {line}")
        raise nothing_there(folder, choice.role)
    if choice.best_of:
        frame, notes = best_of(frame, standings(folder), choice.best_of)
    if choice.benchmarks:
        frame = frame[frame["benchmark"].isin(list(choice.benchmarks))]
    return where(frame, [one for text in choice.where for one in conditions(text)]), notes
