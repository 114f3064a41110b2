"""Columns of a leaderboard beside its scores: what a method costs, and how far its numbers can be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from trireme.errors import unknown_name
from trireme.results.schema import HIT

TOKENS, RECALL = "mllm_tokens", "candidate_recall"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name in CSV and Parquet, its header elsewhere, and how a value is written."""

    name: str
    header: str
    text: Callable[[float], str]


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


SETS: dict[str, tuple[Column, ...]] = {
    "cost": (
        Column("images_per_second", "images/s", _rate),
        Column(TOKENS, "MLLM tokens", _whole),
        Column("peak_memory_mib", "peak MiB", _whole),
        Column("seconds", "seconds", _rate),
        Column("memory_size", "pairs in memory", _whole),
        Column("trained_parameters", "trained parameters", _whole),
    ),
    "validity": (
        Column("failed", "failed", _whole),
        Column("replies_unreadable", "unreadable replies", _whole),
        Column(RECALL, "candidate recall", _rate),
    ),
}
"""Name of a set -> its columns."""


def extra_columns(sets: Sequence[str]) -> tuple[Column, ...]:
    """The columns of some sets, each once.

    Raises:
        UsageError: an unknown set.
    """
    for name in sets:
        if name not in SETS:
            raise unknown_name("set of columns", name, SETS)
    return tuple(dict.fromkeys(column for name in sets for column in SETS[name]))


def with_extra(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame of `standings` with the two columns that it has in other forms: tokens in all, and candidates' recall.

    `candidate_recall` is in how many percent of a row's samples (its run, its subset) the right class was among the
    candidates that a ranker was asked about; missing where none was.
    """
    hits = frame[frame["metric"].str.startswith(HIT)]
    recall = hits.set_index(["run", "subset"])["score"]
    recall = recall[~recall.index.duplicated()]
    keys = pd.MultiIndex.from_frame(frame[["run", "subset"]])
    tokens = frame["prompt_tokens"] + frame["completion_tokens"]
    found = frame.copy()
    found[TOKENS], found[RECALL] = tokens, recall.reindex(keys).to_numpy()
    return found


def cells(columns: Sequence[Column], row: dict[str, Any], missing: str) -> list[str]:
    """The texts of a row's extra columns; `missing` where a run does not have the number."""
    values = [row.get(column.name) for column in columns]
    return [
        missing if value is None or math.isnan(value) else column.text(value)
        for column, value in zip(columns, values, strict=True)
    ]
