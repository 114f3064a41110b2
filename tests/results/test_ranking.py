"""Pivots: what must never stand in one row, one column or one ranking; every score is stored by the test itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from trireme.errors import UsageError
from trireme.results.leaderboard import pivot, standings
from trireme.results.tables import benchmark_tables, pivot_table

from .synthetic import store, store_ranked

LABELS = [0, 1, 2, 3]
TWO = ("world/animals", "world/food")


def right(count: int) -> list[float]:
    """So many of four samples are right: 25 % each."""
    return [1.0] * count + [0.0] * (4 - count)


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("config", {"method__config": {"k": 50}}),
        ("encoder_fingerprint", {"encoder__fingerprint": "f" * 16}),
        ("version", {"method__version": 2}),
        ("ranker", {"method__facts": {"ranker": {"name": "other", "fingerprint": "r"}}}),
        ("variant", {"memory__index": "ivf"}),
    ],
)
def test_two_settings_of_one_method_are_two_rows_although_no_cell_repeats(
    column: str, change: dict[str, Any], tmp_path: Path
) -> None:
    """knn has 75 on animals in one setting and 100 on food in the other: 87.5 would be the mean of nothing."""
    store(tmp_path, right(3), LABELS, benchmark__name=TWO[0])
    store(tmp_path, right(4), LABELS, benchmark__name=TWO[1], **change)
    table = pivot(standings(tmp_path))
    assert list(table.index.names) == ["method", column]
    assert sorted(table[list(TWO)].stack().dropna().tolist()) == [75.0, 100.0]
    assert table["mean"].isna().all()


def test_runs_that_only_their_hash_tells_apart_split_no_other_method(tmp_path: Path) -> None:
    """Two runs of knn chose on other pictures; reco has one run on each benchmark, 50 and 100, mean 75."""
    for validation in "ab":
        store(tmp_path, right(3), LABELS, benchmark__name=TWO[0], validation={"name": "v", "fingerprint": validation})
    for benchmark, count in zip(TWO, (2, 4), strict=True):
        store(tmp_path, right(count), LABELS, benchmark__name=benchmark, method__name="reco")
    table = pivot(standings(tmp_path))
    assert list(table.index.names) == ["method", "run"]
    assert table.loc[("reco", ""), "mean"] == 75.0
    assert len(table) == 3


def test_the_only_row_that_is_whole_is_not_shown_as_the_best(tmp_path: Path) -> None:
    """zero_shot has 25 and 25 of two benchmarks, knn 100 of one: no rank, no bold mean, and the order of names."""
    for benchmark in TWO:
        store(tmp_path, right(1), LABELS, benchmark__name=benchmark, method__name="zero_shot")
    store(tmp_path, right(4), LABELS, benchmark__name=TWO[1])
    for rank in ("score", "rank"):
        table = pivot_table(standings(tmp_path), "benchmark", rank=rank)
        assert table.rows == [["knn", "-", "100.0", "-", "-"], ["zero_shot", "25.0", "25.0", "25.0", "-"]]
        assert table.best == {(0, 2)}
        assert table.notes[0].startswith("no rank: no two rows have every score")


@pytest.mark.parametrize("by", ["encoder", "memory"])
def test_rows_of_different_benchmarks_are_never_ranked_together(by: str, tmp_path: Path) -> None:
    """On animals a has 100 and b 75 (both columns), on food a has 25 and b 50: each benchmark has its own first, and
    its own best in every column."""
    scores = {("a", TWO[0]): 4, ("b", TWO[0]): 3, ("a", TWO[1]): 1, ("b", TWO[1]): 2}
    for (method, benchmark), count in scores.items():
        for name in ("x", "y"):
            told = {f"{by}__name": name, f"{by}__fingerprint": name}
            store(tmp_path, right(count), LABELS, method__name=method, benchmark__name=benchmark, **told)
    table = pivot_table(standings(tmp_path), by)
    assert [[*row[:2], *row[-2:]] for row in table.rows] == [
        ["a", TWO[0], "100.0", "1.0"],
        ["b", TWO[0], "75.0", "2.0"],
        ["b", TWO[1], "50.0", "1.0"],
        ["a", TWO[1], "25.0", "2.0"],
    ]
    assert table.best == {(row, column) for row in (0, 2) for column in range(2, 6)}


def test_benchmarks_of_one_name_and_two_fingerprints_share_no_column_and_no_table(tmp_path: Path) -> None:
    store(tmp_path, right(3), LABELS, benchmark__fingerprint="AAAA")
    store(tmp_path, right(1), LABELS, benchmark__fingerprint="BBBB", method__name="zero_shot", memory=None)
    frame = standings(tmp_path)
    assert [name for name in pivot(frame) if "mean" not in name] == ["world/all (AAAA)", "world/all (BBBB)"]
    tables = benchmark_tables(frame)
    assert [[row[0] for row in table.rows] for table in tables] == [["knn"], ["zero_shot"]]
    named = "world/all is 2 benchmarks, whose samples, classes or metric differ: their fingerprints are AAAA, BBBB"
    assert tables[-1].notes == (named,)
    assert named in pivot_table(frame, "benchmark").notes


def test_each_benchmarks_own_memory_is_one_row(tmp_path: Path) -> None:
    """As in few-shot tables: own@4 has 75 and 50, mean 62.5; world@4 is the same everywhere and keeps its name."""
    for benchmark, count in zip(TWO, (3, 2), strict=True):
        own = f"{benchmark.partition('/')[2]}@4"
        for name, extra in ((own, 0), ("world@4", 1)):
            told = {"memory__name": name, "memory__fingerprint": name}
            store(tmp_path, right(count + extra), LABELS, benchmark__name=benchmark, **told)
    shown = pivot_table(standings(tmp_path), "benchmark")
    assert [[row[1], *row[-2:]] for row in shown.rows] == [["world@4", "87.5", "1.0"], ["own@4", "62.5", "2.0"]]
    assert shown.notes == ("own@4 is each benchmark's own memory: animals@4, food@4",)


def detections(root: Path, **told: object) -> None:
    """A run whose main metric is not the one of the others."""
    store(root, right(4), LABELS, benchmark__name="world/detection", metrics=["top5", "top1"], **told)


def test_benchmarks_of_another_main_metric_are_named_and_not_in_the_table(tmp_path: Path) -> None:
    store(tmp_path, right(3), LABELS)
    detections(tmp_path)
    frame = standings(tmp_path)
    table = pivot_table(frame, "benchmark")
    assert table.columns == ["method", "world/all", "mean", "mean rank"]
    assert table.notes == (
        "not in this table: world/detection (top1 is not the main metric; --metric shows another one)",
    )
    assert pivot_table(frame, "benchmark", metric="top1").rows == [["knn", "75.0", "100.0", "87.5", "-"]]
    rare = pivot_table(frame, "benchmark", metric="top5", subset="rare")
    assert rare.title == "top5 in %, subset rare"
    with pytest.raises(UsageError, match="no score of metric 'top1' on subset 'fresh'; there are some on all, common"):
        pivot_table(frame, "benchmark", metric="top1", subset="fresh")


def test_a_table_of_candidates_recall_alone_is_made_where_nothing_else_is_left(tmp_path: Path) -> None:
    """As by `--where metric=hit@5`: the right class is among the candidates of all four samples."""
    store_ranked(tmp_path, right(3), right(4), LABELS)
    frame = standings(tmp_path)
    (table,) = benchmark_tables(frame[frame["metric"] == "hit@5"])
    assert table.title.startswith("world/all: hit@5 in %")
    assert table.rows[0][-6].startswith("100.0 [")


def test_a_benchmark_that_another_one_holds_is_in_no_mean(tmp_path: Path) -> None:
    """food is a part of all: the mean over all (75) and animals (25) is 50, and food's 100 is only shown."""
    for benchmark, count in (("world/all", 3), ("world/animals", 1), ("world/food", 4)):
        store(tmp_path, right(count), LABELS, benchmark__name=benchmark)
    frame = standings(tmp_path)
    held = {"world/food": "world/all", "world/faces": "world/all"}
    assert pivot(frame, contained=held).loc["knn", ["world/food", "mean"]].tolist() == [100.0, 50.0]
    notes = pivot_table(frame, "benchmark", contained=held).notes
    assert notes == ("no part of mean and mean rank, since world/all has all of their pictures: world/food",)
    without = frame[frame["benchmark"] != "world/all"]
    assert pivot(pd.DataFrame(without), contained=held).loc["knn", "mean"] == 62.5
