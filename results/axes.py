"""What the rows and columns of a leaderboard stand for: which scores are of one benchmark, and of one setting.

A name is not enough. Two benchmarks of one name and different fingerprints asked for different things, and two runs of
one method may differ in its configuration, its version, its encoder's weights or its ranker. The memory is another
matter: in few-shot tables every benchmark has its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from trireme.errors import UsageError

APART = ("ranker", "config", "version", "encoder_fingerprint", "variant")
"""Columns of `standings` that differ where two runs of one method are two settings; the last where any setting does."""
OWN = "own"
_SHORT = 6
_KNOWN = {"encoder_fingerprint": ("encoder",), "variant": ("encoder", "memory")}
"""Hashes among them -> what a row says already when they are needed."""


def with_labels(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Benchmarks told apart by fingerprint where a name stands for several: `world/food (a1b2c3)`.

    Returns:
        The frame with `benchmark` changed, and {name: a line that names its fingerprints}.
    """
    if "benchmark_fingerprint" not in frame:
        return frame, {}
    kinds = frame[["benchmark", "benchmark_fingerprint"]].drop_duplicates()
    several = kinds[kinds.duplicated("benchmark", keep=False)]
    if several.empty:
        return frame, {}
    short = short_forms(sorted(several["benchmark_fingerprint"].unique()))
    prints = frame["benchmark_fingerprint"].map(short)
    alone = ~frame["benchmark"].isin(several["benchmark"])
    named = frame["benchmark"].where(alone, frame["benchmark"] + " (" + prints + ")")
    notes = {
        str(name): f"{name} is {len(rows)} benchmarks, whose samples, classes or metric differ: their fingerprints are "
        + ", ".join(sorted(rows["benchmark_fingerprint"]))
        for name, rows in several.groupby("benchmark")
    }
    return frame.assign(benchmark=named), notes


def short_forms(texts: Sequence[str]) -> dict[str, str]:
    """Each text -> its first six letters, or all of it where two texts share these."""
    begun = [text[:_SHORT] for text in texts]
    return {text: text if begun.count(text[:_SHORT]) > 1 else text[:_SHORT] for text in texts}


def with_own_memories(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """`own@4` in the place of `food@4` on a food benchmark, where several benchmarks have such a memory of their own.

    Returns:
        The frame with `memory` changed, and lines that say which memories are meant.
    """
    told = pd.Series(map(_own, frame["benchmark"], frame["memory"]), index=frame.index, dtype="str")
    notes = []
    for own in sorted(told[told != frame["memory"]].dropna().unique()):
        names = sorted(frame.loc[told == own, "memory"].unique())
        if len(names) > 1:
            notes.append(f"{own} is each benchmark's own memory: {', '.join(names)}")
        else:
            told = told.where(told != own, frame["memory"])
    return frame.assign(memory=told), notes


def _own(benchmark: str, memory: str) -> str:
    if not isinstance(memory, str):
        return memory
    base, at, shots = memory.rpartition("@") if "@" in memory else (memory, "", "")
    plain = benchmark.partition("(")[0].rstrip()
    return f"{OWN}{at}{shots}" if base in (plain, plain.rpartition("/")[2]) else memory


def told_apart(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Which columns of `APART` are needed so that no row of a table stands for two settings of one method.

    Returns:
        The frame with these columns empty where a method needs none, shortened where they are hashes; and their names.

    Raises:
        UsageError: the frame lacks them, so that nobody can tell (one of `leaderboard`, say).
    """
    missing = [column for column in APART if column not in frame]
    if missing:
        raise UsageError(f"a pivot needs column '{missing[0]}'; make it of a frame from `standings` or `load`")
    needed: list[str] = []
    frame = frame.copy()
    for column in APART:
        known = ["method", *needed, *_KNOWN.get(column, ())]
        values = frame[column].astype(object).where(frame[column].notna(), "").astype(str)
        kinds = values.groupby([frame[name] for name in known], dropna=False).transform("nunique")
        short = short_forms(sorted(values.unique())) if column in _KNOWN else {}
        frame[column] = values.map(lambda value, short=short: short.get(value, value)).where(kinds > 1, "")
        if (kinds > 1).any():
            needed.append(column)
    return frame, needed


def with_runs(frame: pd.DataFrame, cell: Sequence[str]) -> tuple[pd.DataFrame, bool]:
    """`run` empty but in rows of a table of which a cell would hold two scores, and whether there are such rows.

    Args:
        cell: the columns that are a row's name, and the one that is its columns' last.
    """
    twice = frame.duplicated(list(cell), keep=False)
    doubtful = twice.groupby([frame[name] for name in cell[:-1]], dropna=False).transform("any")
    return frame.assign(run=frame["run"].where(doubtful, "")), bool(twice.any())
