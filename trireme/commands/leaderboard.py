"""`trireme leaderboard`: the table of all finished runs, from their records alone."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from trireme.progress import say


def leaderboard(
    folder: Path,
    by: str | None = None,
    format: str | None = None,
    save: Path | None = None,
    role: str = "test",
    benchmarks: Collection[str] = (),
) -> int:
    """Print the leaderboard, or write it to a file whose suffix tells the format.

    Args:
        benchmarks: only these; all where none is named.
    """
    from trireme.results.leaderboard import standings
    from trireme.results.writers import render, write

    frame = standings(folder, role)
    if benchmarks:
        frame = frame[frame["benchmark"].isin(list(benchmarks))]
    if save is not None:
        say(f"wrote {write(frame, save, format, by)}")
    else:
        print(render(frame, format or "terminal", by).rstrip("\n"))
    return 0
