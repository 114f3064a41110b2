"""Frames from run folders: every number is computed by hand from the per-sample values that the test stored."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

import trireme.results
from trireme.errors import DataError, UsageError
from trireme.results.leaderboard import COLUMNS, default_metric, leaderboard, load, pivot, standings
from trireme.results.records import read_run
from trireme.results.statistics import joint_score_rows

from .synthetic import SUBSETS, store, store_ranked, table

LABELS = [0, 1, 2, 3]  # 0 and 2 are common, 1 and 3 rare


def top1_all(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[(frame["metric"] == "top1") & (frame["subset"] == "all")].reset_index(drop=True)


def test_leaderboard_by_hand(tmp_path: Path) -> None:
    """knn has 3 of 4 right (common 2/2, rare 1/2), zero_shot 1 of 4 (common 1/2, rare 0/2)."""
    store(tmp_path, [1, 1, 1, 0], LABELS)
    told = {"training": "none", "inference": "none"}
    store(tmp_path, [1, 0, 0, 0], LABELS, method__name="zero_shot", method__supervision=told, memory=None)
    frame = leaderboard(tmp_path)
    assert tuple(frame.columns) == COLUMNS
    assert ",".join(COLUMNS) == "method,benchmark,subset,metric,score,ci_low,ci_high,n,encoder,memory,seeds,run"
    top1 = frame[frame["metric"] == "top1"]
    assert list(zip(top1["subset"], top1["method"], top1["score"], top1["n"], strict=True)) == [
        ("all", "knn", 75.0, 4),
        ("all", "zero_shot", 25.0, 4),
        ("common", "knn", 100.0, 2),
        ("common", "zero_shot", 50.0, 2),
        ("rare", "knn", 50.0, 2),
        ("rare", "zero_shot", 0.0, 2),
    ]
    assert set(frame["seeds"]) == {"0"}
    assert frame.loc[frame["method"] == "zero_shot", "memory"].isna().all()
    assert set(frame.loc[frame["method"] == "knn", "memory"]) == {"world/memory"}


def test_load_has_one_row_per_run_subset_and_metric(tmp_path: Path) -> None:
    folder = store(tmp_path, [1, 0, 1, 0], LABELS, failed=[3], method__facts={"trained_parameters": 12})
    store(tmp_path, [1, 1, 1, 1], LABELS, benchmark__role="validation", memory=None, images_per_second=None)
    frame = load(tmp_path)
    assert len(frame) == 2 * 3 * 2
    row = frame[(frame["role"] == "test") & frame["main"] & (frame["subset"] == "all")].iloc[0]
    assert row["score"] == pytest.approx(200 / 3, abs=1e-5)
    assert (row["n"], row["failed"], row["memory_size"], row["trained_parameters"]) == (3, 1, 1000, 12)
    assert (row["supervision_training"], row["supervision_inference"]) == ("none", "labels")
    assert pd.isna(row["chosen_on"])
    assert (row["images_per_second"], row["seconds"], row["seed"]) == (200.0, 1.5, 0)
    assert row["run"] == read_run(folder).run
    assert frame.loc[frame["role"] == "validation", ["memory", "memory_size", "images_per_second"]].isna().all().all()
    pd.testing.assert_frame_equal(trireme.results.load(str(tmp_path)), frame)


def test_load_of_nothing_is_an_empty_frame_but_a_leaderboard_says_so(tmp_path: Path) -> None:
    assert load(tmp_path).empty
    assert "score" in load(tmp_path)
    with pytest.raises(DataError, match=r"no finished test run in .*; run `trireme run"):
        leaderboard(tmp_path)


def test_runs_one_folder_deeper_are_pointed_at(tmp_path: Path) -> None:
    store(tmp_path / "quickstart", [1, 0], [0, 1])
    with pytest.raises(DataError, match=f"there are some in {tmp_path / 'quickstart'}"):
        leaderboard(tmp_path)


def test_validation_runs_are_listed_only_when_asked_for(tmp_path: Path) -> None:
    store(tmp_path, [1, 1, 1, 0], LABELS)
    store(tmp_path, [1, 0, 0, 0], LABELS, benchmark__name="world/validation", benchmark__role="validation")
    assert set(leaderboard(tmp_path)["benchmark"]) == {"world/all"}
    assert set(leaderboard(tmp_path, role="validation")["benchmark"]) == {"world/validation"}
    with pytest.raises(UsageError, match="did you mean 'validation'"):
        leaderboard(tmp_path, role="validate")


def test_seeds_are_joined(tmp_path: Path) -> None:
    """Seeds 0, 1, 2 have 4, 2 and 0 of 4 right: mean 50, and the interval is the joint one over the three tables."""
    values = [[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]]
    runs = [read_run(store(tmp_path, values[seed], LABELS, seed=seed)).run for seed in (0, 1, 2)]
    frame = leaderboard(tmp_path)
    assert len(frame) == 3 * 2
    row = top1_all(frame).iloc[0]
    expected = joint_score_rows([table(v, LABELS) for v in values], SUBSETS, ["top1"])[0]
    assert (row["score"], row["ci_low"], row["ci_high"]) == (50.0, expected["ci_low"], expected["ci_high"])
    assert (row["seeds"], row["run"], row["n"]) == ("0,1,2", "+".join(runs), 4)


DRAWN = {"from": "d" * 16, "shots": 4, "rule": "random", "seed": 0, "classes": 4, "short": 0, "short_classes": {}}


def drawn_run(root: Path, seed: int, **drawn: object) -> str:
    told = {
        "memory__name": "world@4",
        "memory__fingerprint": f"{seed}" * 16,
        "memory__drawn": DRAWN | {"seed": seed} | drawn,
    }
    return read_run(store(root, [1, 1, 1, 0], LABELS, seed=seed, **told)).run


def test_seeds_that_drew_other_pairs_are_joined(tmp_path: Path) -> None:
    """Their memories differ, but not what they were drawn by. How many classes are short may differ as well."""
    runs = [drawn_run(tmp_path, seed, short=seed) for seed in (0, 1, 2)]
    row = top1_all(leaderboard(tmp_path)).iloc[0]
    assert (row["seeds"], row["run"], row["memory"]) == ("0,1,2", "+".join(runs), "world@4")


@pytest.mark.parametrize("other", [{"from": "e" * 16}, {"shots": 2}, {"rule": "coop"}], ids=str)
def test_seeds_that_drew_by_something_else_are_not_joined(other: dict[str, object], tmp_path: Path) -> None:
    drawn_run(tmp_path, 0)
    drawn_run(tmp_path, 1, **other)
    assert sorted(top1_all(leaderboard(tmp_path))["seeds"]) == ["0", "1"]


@pytest.mark.parametrize(
    "change",
    [
        {"method__config": {"k": 5}},
        {"method__registry": "other:Knn"},
        {"method__version": 2},
        {"benchmark__fingerprint": "c" * 16},
        {"encoder__fingerprint": "f" * 16},
        {"memory__fingerprint": "1" * 16},
        {"memory__index": "hnsw"},
        {"validation": {"fingerprint": "9" * 16}},
        {"training": [{"fingerprint": "9" * 16}]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_runs_that_differ_in_more_than_the_seed_are_never_averaged(
    change: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = read_run(store(tmp_path, [1, 1, 1, 1], LABELS)).run
    second = read_run(store(tmp_path, [0, 0, 0, 0], LABELS, seed=1, **change)).run
    rows = top1_all(leaderboard(tmp_path))
    assert list(zip(rows["score"], rows["run"], rows["seeds"], strict=True)) == [
        (100.0, first, "0"),
        (0.0, second, "1"),
    ]
    said = capsys.readouterr().err
    assert "'knn' on world/all stands for 2 runs that differ" in said
    assert first in said
    assert second in said


def test_same_seed_under_two_hashes_is_never_averaged(tmp_path: Path) -> None:
    """The record does not show in what they differ, the run hash says that they do."""
    for run, values in (("1", [1, 1, 1, 1]), ("2", [0, 0, 0, 0])):
        store(tmp_path, values, LABELS, run=run)
    assert list(top1_all(leaderboard(tmp_path))["score"]) == [100.0, 0.0]


def test_git_commit_versions_and_costs_do_not_split_seeds(tmp_path: Path) -> None:
    store(tmp_path, [1, 1, 1, 1], LABELS, images_per_second=100.0)
    store(tmp_path, [0, 0, 0, 0], LABELS, seed=1, git=None, versions={"trireme": "9"}, images_per_second=None)
    row = top1_all(standings(tmp_path)).iloc[0]
    assert (row["score"], row["seeds"], row["images_per_second"]) == (50.0, "0,1", 100.0)


def test_copied_run_counts_once(tmp_path: Path) -> None:
    folder = store(tmp_path, [1, 1, 1, 0], LABELS)
    before = leaderboard(tmp_path)
    shutil.copytree(folder, folder.with_name("copy"))
    pd.testing.assert_frame_equal(leaderboard(tmp_path), before)


def test_copies_that_disagree_are_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path, [1, 1, 1, 0], LABELS, run="1", name="a")
    store(tmp_path, [0, 1, 1, 0], LABELS, run="1", name="b")
    store(tmp_path, [1, 1, 1, 1], LABELS, method__name="reco")
    assert list(top1_all(leaderboard(tmp_path))["method"]) == ["reco"]
    assert "both run 1, but their scores differ" in capsys.readouterr().err
    with pytest.raises(DataError, match="both run 1"):
        leaderboard(tmp_path, strict=True)


def test_order_of_folders_changes_nothing(tmp_path: Path) -> None:
    for root, names in (("a", "xyz"), ("b", "zyx")):
        for name, values, seed in zip(names, ([1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]), (0, 1, 0), strict=True):
            method = "reco" if sum(values) == 4 else "knn"
            store(tmp_path / root, values, LABELS, name=name, seed=seed, method__name=method)
    pd.testing.assert_frame_equal(leaderboard(tmp_path / "a"), leaderboard(tmp_path / "b"))


def test_seed_whose_predictions_were_changed_is_left_out_of_the_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [store(tmp_path, values, LABELS, seed=seed) for seed, values in enumerate(([1, 1, 1, 1], [0, 0, 0, 0]))]
    path = folders[1] / "predictions.parquet"
    path.write_bytes(bytes(path.stat().st_size))
    row = top1_all(leaderboard(tmp_path)).iloc[0]
    assert (row["score"], row["seeds"]) == (100.0, "0")
    assert "left out" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"predictions\.parquet cannot be read"):
        leaderboard(tmp_path, strict=True)


def world(tmp_path: Path) -> pd.DataFrame:
    """knn: world/all 75 and world/food 50; reco: world/all 100 and nothing on world/food."""
    store(tmp_path, [1, 1, 1, 0], LABELS)
    store(tmp_path, [1, 1, 0, 0], LABELS, benchmark__name="world/food", benchmark__fingerprint="f" * 16)
    store(tmp_path, [1, 1, 1, 1], LABELS, method__name="reco")
    return standings(tmp_path)


def test_pivot_by_benchmark_has_a_null_mean_where_a_cell_is_missing(tmp_path: Path) -> None:
    table = pivot(world(tmp_path))
    assert list(table.columns) == ["world/all", "world/food", "mean", "mean rank"]
    assert table.loc["knn"].tolist()[:3] == [75.0, 50.0, 62.5]
    assert pd.isna(table.loc["knn", "mean rank"]), "the best of one row tells nothing"
    assert table.loc["reco", "world/all"] == 100.0
    assert table.loc["reco", ["world/food", "mean", "mean rank"]].isna().all()
    assert list(table.index) == ["knn", "reco"]


def test_pivot_by_subset(tmp_path: Path) -> None:
    table = pivot(world(tmp_path), by="subset")
    assert list(table.index.names) == ["method", "benchmark"]
    assert list(table.columns) == ["all", "common", "rare"]
    assert table.loc[("knn", "world/food")].tolist() == [50.0, 50.0, 50.0]
    assert table.index[0] == ("reco", "world/all")
    assert pivot(world(tmp_path), metric="top5", subset="rare").loc["reco", "world/all"] == 100.0


def test_pivot_tells_configurations_apart(tmp_path: Path) -> None:
    """Two configs of knn on two benchmarks are two rows, not four, and each has its own mean."""
    for benchmark in ("world/all", "world/food"):
        for k, values in ((1, [1, 1, 1, 1]), (5, [1, 0, 0, 0])):
            store(tmp_path, values, LABELS, benchmark__name=benchmark, method__config={"k": k})
    table = pivot(standings(tmp_path))
    assert list(table.index.names) == ["method", "config"]
    assert table["mean"].tolist() == [100.0, 25.0]


def test_pivot_refuses_unknown_axes_and_empty_choices(tmp_path: Path) -> None:
    frame = world(tmp_path)
    with pytest.raises(UsageError, match="did you mean 'benchmark'"):
        pivot(frame, by="benchmarks")
    with pytest.raises(UsageError, match="no score of metric 'map'"):
        pivot(frame, metric="map")
    with pytest.raises(UsageError, match="a pivot needs column 'ranker'; make it of a frame from `standings`"):
        pivot(leaderboard(tmp_path))


def test_candidates_and_replies_of_a_ranked_run(tmp_path: Path) -> None:
    """3 of 4 right, the right class among the candidates of all; 3 replies ok and 1 repaired."""
    store_ranked(tmp_path, [1, 1, 1, 0], [1, 1, 1, 1], LABELS)
    store(tmp_path, [1, 1, 0, 0], LABELS)
    frame = leaderboard(tmp_path)
    assert tuple(frame.columns) == COLUMNS
    hits = frame[frame["metric"] == "hit@5"]
    assert list(zip(hits["method"], hits["subset"], hits["score"], strict=True)) == [
        ("rar", "all", 100.0),
        ("rar", "common", 100.0),
        ("rar", "rare", 100.0),
    ]
    whole = load(tmp_path)
    row = whole[whole["method"] == "rar"].iloc[0]
    counts = [row[f"replies_{status}"] for status in ("ok", "repaired", "unreadable", "refused", "timeout")]
    assert counts == [3, 1, 0, 0, 0]
    assert (row["prompt_tokens"], row["completion_tokens"], row["ranker"]) == (100, 8, "lite, vllm")
    columns = [name for name in whole if name.startswith("replies_")] + ["prompt_tokens", "completion_tokens", "ranker"]
    assert whole.loc[whole["method"] == "knn", columns].isna().all().all()
    assert not whole.loc[whole["metric"] == "hit@5", "main"].any()


def test_the_recall_of_candidates_is_no_score_of_a_method(tmp_path: Path) -> None:
    """Even where it stands beside a single metric that is not top1."""
    store_ranked(tmp_path, [1, 1, 1, 0], [1, 1, 1, 1], LABELS, metrics=["top5", "hit@5"])
    frame = standings(tmp_path)
    assert default_metric(leaderboard(tmp_path)) == "top5"
    for by in ("subset", "benchmark"):
        assert pivot(frame, by).iloc[0, 0] == 75.0
        assert pivot(frame, by, metric="hit@5").iloc[0, 0] == 100.0


def test_seeds_of_a_ranked_run_are_joined(tmp_path: Path) -> None:
    """Replies and tokens are those of both; k may be chosen anew by every seed, then hit@k has no mean."""
    for seed in (0, 1):
        store_ranked(tmp_path / "same", [1, 1, 1, 0], [1, 1, 1, seed], LABELS, seed=seed)
        store_ranked(tmp_path / "other", [1, 1, 1, 0], [1, 1, 1, 1], LABELS, k=5 + seed, seed=seed)
    frame = standings(tmp_path / "same")
    assert set(frame["seeds"]) == {"0,1"}
    row = frame[(frame["metric"] == "hit@5") & (frame["subset"] == "all")].iloc[0]
    assert row["score"] == 87.5, "the mean of 75 and 100"
    assert (row["replies_ok"], row["replies_repaired"], row["prompt_tokens"]) == (6, 2, 200)
    other = standings(tmp_path / "other")
    assert set(other["metric"]) == {"top1", "top5"}
    assert set(other["seeds"]) == {"0,1"}


def test_rankers_are_never_averaged_and_told_apart(tmp_path: Path) -> None:
    """One configuration of rar, two rankers: `ranker.FIELD=VALUE` is no part of the method's own configuration."""
    for seed, name in enumerate(("lite, vllm", "lite, transformers")):
        facts = {"ranker": {"name": name, "fingerprint": name}}
        store_ranked(tmp_path, [1, 1, seed, 0], [1, 1, 1, 1], LABELS, seed=seed, method__facts=facts)
    frame = standings(tmp_path)
    assert set(frame["seeds"]) == {"0", "1"}
    assert list(pivot(frame).index) == [("rar", "lite, transformers"), ("rar", "lite, vllm")]
