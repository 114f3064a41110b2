"""Methods over several benchmarks: the pivot, its mean score and mean rank, and who lacks what."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from trireme.errors import UsageError, unknown_name
from trireme.results.schema import HIT

AXES = ("benchmark", "subset", "encoder", "memory")
MEAN, MEAN_RANK = "mean", "mean rank"
RANKINGS = {"score": MEAN, "rank": MEAN_RANK}
"""What the rows of a pivot may be sorted by -> the column that it is in."""


def pivot(
    frame: pd.DataFrame, by: str = "benchmark", metric: str | None = None, subset: str = "all", rank: str = "score"
) -> pd.DataFrame:
    """Scores as a table: one row per method, one column per value of `by`, their mean and the mean rank.

    Args:
        frame: from `leaderboard`, `standings` or `load` (of one role, and one seed).
        by: what the columns are: "benchmark", "subset", "encoder" or "memory". The others, where they vary, are rows.
        metric: see `default_metric`; candidates' `hit@k` only where it is asked for.
        subset: which subset the scores are of; ignored with `by="subset"`, which has neither mean nor rank.
        rank: best first by "score" (the mean) or by "rank" (the mean rank).

    Returns:
        A frame indexed by method and what else varies, best first. `mean` and `mean rank` are null where a cell of the
        row is missing: a mean over fewer benchmarks is no comparison. The rank of a row in a column is 1 for the best
        of the rows that have every cell, and the mean of their ranks for rows that are equal.
    """
    if by not in AXES:
        raise unknown_name("table axis", by, AXES)
    if rank not in RANKINGS:
        raise unknown_name("ranking", rank, RANKINGS)
    chosen = _chosen(frame, by, metric or default_metric(frame), subset)
    index = ["method"] + [axis for axis in AXES if axis not in (by, "subset") and chosen[axis].nunique() > 1]
    for tells_apart in ("ranker", "config", "run"):
        varies = tells_apart in chosen and chosen[tells_apart].nunique() > 1
        if varies and chosen.duplicated([*index, by]).any():
            index.append(tells_apart)
    table = chosen.pivot(index=index, columns=by, values="score")
    if by == "subset":  # `all` holds the other subsets already
        return table.sort_values(list(table.columns)[:1], ascending=False, kind="stable", na_position="last")
    whole = table.dropna()
    table[MEAN] = table.mean(axis=1, skipna=False)
    table[MEAN_RANK] = whole.rank(ascending=False, method="average").mean(axis=1)
    by_rank = RANKINGS[rank] == MEAN_RANK
    return table.sort_values(RANKINGS[rank], ascending=by_rank, kind="stable", na_position="last")


def _chosen(frame: pd.DataFrame, by: str, metric: str, subset: str) -> pd.DataFrame:
    """The rows of one metric, and of one subset where subsets are no columns."""
    of = frame[frame["metric"] == metric]
    chosen = of if by == "subset" else of[of["subset"] == subset]
    if chosen.empty:
        elsewhere = f"; there are some on {', '.join(of['subset'].unique())}" if len(of) else ""
        raise UsageError(f"no score of metric '{metric}' on subset '{subset}'{elsewhere}")
    return chosen.fillna({"memory": "", "ranker": ""})


def default_metric(frame: pd.DataFrame) -> str:
    """`top1` where the frame has it, else its only main metric, or its only one but `hit@k`; UsageError where there are
    several."""
    names = [str(name) for name in frame["metric"].unique()]
    mains = [str(name) for name in frame.loc[frame["main"], "metric"].unique()] if "main" in frame else []
    return metric_of(names, mains if len(mains) == 1 and "top1" not in names else [])


def metric_of(names: Sequence[str], mains: Sequence[str]) -> str:
    """The first main metric where one is known, else `top1` where it is there, else the only one but `hit@k`."""
    known = [name for name in dict.fromkeys(names) if not name.startswith(HIT)]
    if mains:
        return mains[0]
    if "top1" in known or not known:
        return "top1"
    if len(known) > 1:
        raise UsageError(f"name the metric: {', '.join(known)}")
    return known[0]


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
