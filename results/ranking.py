"""Methods over several benchmarks: the pivot, its mean score and mean rank, and who lacks what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pandas as pd

from trireme.errors import UsageError, unknown_name
from trireme.results.axes import told_apart, with_labels, with_own_memories, with_runs
from trireme.results.schema import HIT

AXES = ("benchmark", "subset", "encoder", "memory")
NONE = "none"
"""The column of methods that have no memory."""
MEAN, MEAN_RANK = "mean", "mean rank"
RANKINGS = {"score": MEAN, "rank": MEAN_RANK}
"""What the rows of a pivot may be sorted by -> the column that it is in."""


@dataclass(frozen=True, slots=True)
class Crossed:
    """A pivot, and what has to be said with it.

    Attributes:
        table: see `pivot`.
        groups: one a row: only rows of one group can be compared (of one benchmark, where benchmarks are rows).
        notes: lines about columns and names.
    """

    table: pd.DataFrame
    groups: list[str]
    notes: list[str]


def pivot(
    frame: pd.DataFrame,
    by: str = "benchmark",
    metric: str | None = None,
    subset: str = "all",
    rank: str = "score",
    contained: Mapping[str, str] = MappingProxyType({}),
) -> pd.DataFrame:
    """Scores as a table: one row per method, one column per value of `by`, their mean and the mean rank.

    Args:
        frame: from `standings` or `load` (of one role, and one seed).
        by: what the columns are: "benchmark", "subset", "encoder" or "memory". The others, where they vary, are rows,
            and so is all that tells two settings of one method apart (configuration, version, encoder's weights,
            ranker). Benchmarks of one name and several fingerprints are several; a memory that is the benchmark's own
            is `own@4` on each of them.
        metric: see `default_metric`; then of benchmarks whose main metric it is. Candidates' `hit@k` only where it is
            asked for.
        subset: which subset the scores are of; ignored with `by="subset"`, which has neither mean nor rank.
        rank: best first by "score" (the mean) or by "rank" (the mean rank).
        contained: benchmark -> the one that holds all of its pictures: no part of mean and mean rank beside it.

    Returns:
        A frame indexed by method and what else varies, best first. `mean` and `mean rank` are null where a cell of the
        row is missing: a mean over fewer benchmarks is no comparison. Such rows come last, by name. The rank of a row
        in a column is 1 for the best of the rows that have every cell, and the mean of their ranks for rows that are
        equal; null where no two rows have every cell. Rows of different benchmarks are never ranked together.
    """
    return crossed(frame, by, metric, subset, rank, contained).table


def crossed(
    frame: pd.DataFrame,
    by: str,
    metric: str | None = None,
    subset: str = "all",
    rank: str = "score",
    contained: Mapping[str, str] = MappingProxyType({}),
) -> Crossed:
    """`pivot` with the notes that belong below it."""
    if by not in AXES:
        raise unknown_name("table axis", by, AXES)
    if rank not in RANKINGS:
        raise unknown_name("ranking", rank, RANKINGS)
    chosen, notes = _chosen(frame, by, metric, subset)
    chosen, prints = with_labels(chosen)
    chosen, needed = told_apart(chosen)
    chosen, memories = with_own_memories(chosen)
    axes = [axis for axis in AXES if axis not in (by, "subset") and chosen[axis].nunique() > 1]
    index = ["method", *axes, *needed]
    chosen, doubtful = with_runs(chosen, [*index, by])
    chosen[by] = chosen[by].mask(chosen[by] == "", NONE)
    table = chosen.pivot(index=[*index, "run"] if doubtful else index, columns=by, values="score")
    where = table.index.get_level_values("benchmark") if "benchmark" in table.index.names else [""] * len(table)
    groups = pd.Series(where, index=table.index, dtype="str")
    if by == "subset":  # `all` holds the other subsets already
        table = _sorted(table, groups, str(table.columns[0]), falling=True)
    else:
        held = {name: wider for name, wider in contained.items() if {name, wider} <= set(table.columns)}
        for wider in sorted(set(held.values())):
            parts = ", ".join(name for name, other in held.items() if other == wider)
            notes.append(f"no part of {MEAN} and {MEAN_RANK}, since {wider} has all of their pictures: {parts}")
        _add_means(table, groups, [name for name in table.columns if name not in held])
        table = _sorted(table, groups, RANKINGS[rank], falling=RANKINGS[rank] == MEAN)
        notes += _ranked(table, groups)
    return Crossed(table, groups.loc[table.index].tolist(), [*prints.values(), *memories, *notes])


def _add_means(table: pd.DataFrame, groups: pd.Series[Any], counted: Sequence[str]) -> None:
    cells = table[list(counted)]
    whole = cells.dropna()
    alone = groups.loc[whole.index]
    ranks = whole.groupby(alone.to_numpy()).rank(ascending=False, method="average").mean(axis=1)
    table[MEAN] = cells.mean(axis=1, skipna=False)
    table[MEAN_RANK] = ranks.where(alone.groupby(alone.to_numpy()).transform("size") > 1)


def _sorted(table: pd.DataFrame, groups: pd.Series[Any], column: str, falling: bool) -> pd.DataFrame:
    """Benchmark by benchmark, best first; rows without the number by name, and all of them where only one has it."""
    numbers = table[column]
    several = numbers.notna().groupby(groups.to_numpy()).transform("sum") > 1
    keys = pd.DataFrame({"group": groups, "key": (-numbers if falling else numbers).where(several)})
    keys["place"] = range(len(keys))  # the pivot's own order is by name
    order = keys.sort_values(["group", "key", "place"], na_position="last")["place"]
    return table.iloc[order.to_numpy()]


def _ranked(table: pd.DataFrame, groups: pd.Series[Any]) -> list[str]:
    """How many rows the ranks are among, where some have none."""
    counts = table[MEAN].notna().groupby(groups.loc[table.index].to_numpy()).agg(["sum", "size"])
    of = " of one benchmark" if len(counts) > 1 else ""
    if len(table) > 1 and (counts["sum"] < 2).all():
        return [f"no rank: no two rows{of} have every score; they are in the order of their names"]
    return [
        f"{f'{group}: ' if of else ''}ranked among the {whole} rows that have every score; the others follow by name"
        for group, (whole, rows) in zip(counts.index, counts.to_numpy().tolist(), strict=True)
        if 1 < whole < rows
    ]


def _chosen(frame: pd.DataFrame, by: str, metric: str | None, subset: str) -> tuple[pd.DataFrame, list[str]]:
    """The rows of one metric, and of one subset where subsets are no columns; and which benchmarks have none."""
    name = metric or default_metric(frame)
    of = frame[frame["metric"] == name]
    if metric is None and "main" in of and of["main"].any():
        of = of[of["main"]]
    chosen = of if by == "subset" else of[of["subset"] == subset]
    if chosen.empty:
        elsewhere = f"; there are some on {', '.join(of['subset'].unique())}" if len(of) else ""
        raise UsageError(f"no score of metric '{name}' on subset '{subset}'{elsewhere}")
    there = set(chosen["benchmark"].unique())
    lost = [str(other) for other in sorted(frame["benchmark"].unique()) if other not in there]
    what = f"no score of {name} on subset {subset}" if metric else f"{name} is not the main metric"
    if not metric and (set(lost) & set(of["benchmark"].unique())):
        what += f", or not on subset {subset}"
    notes = [f"not in this table: {', '.join(lost)} ({what}; --metric shows another one)"] if lost else []
    return chosen.fillna({column: "" for column in ("memory", "ranker") if column in chosen}), notes


def default_metric(frame: pd.DataFrame) -> str:
    """The main metric, `top1` where several are one, else the only metric but `hit@k`; UsageError where there are
    several."""
    names = [str(name) for name in frame["metric"].unique()]
    mains = [str(name) for name in frame.loc[frame["main"], "metric"].unique()] if "main" in frame else []
    return metric_of(mains if len(mains) > 1 else names, mains if len(mains) == 1 else [])


def metric_of(names: Sequence[str], mains: Sequence[str]) -> str:
    """The first main metric where one is known, else `top1` where it is there, else the only one but `hit@k`, of which
    the first is taken where there is nothing else."""
    known = [name for name in dict.fromkeys(names) if not name.startswith(HIT)]
    if mains:
        return mains[0]
    if not known:
        return names[0] if names else "top1"
    if "top1" in known or len(known) == 1:
        return "top1" if "top1" in known else known[0]
    raise UsageError(f"name the metric: {', '.join(known)}")


def lacking(table: pd.DataFrame) -> dict[str, list[str]]:
    """Row of a pivot that has no mean -> the columns that it has no score of, in the order of the table."""
    cells = table[[column for column in table.columns if column not in (MEAN, MEAN_RANK)]]
    missing = cells.isna()
    return {
        ", ".join(str(part) for part in (name if isinstance(name, tuple) else (name,)) if part): [
            str(column) for column in cells.columns[row]
        ]
        for name, row in zip(cells.index, missing.to_numpy(), strict=True)
        if row.any()
    }


def told(missing: Sequence[str], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    more = len(missing) - most
    return ", ".join(missing[:most]) + (f" and {more} more" if more > 0 else "")
