"""A results folder as a whole: its table against pandas, in any order, and with all that can be wrong in it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trireme.commands.leaderboard import Choice, leaderboard
from trireme.errors import DataError, UsageError
from trireme.results import records
from trireme.results.leaderboard import standings
from trireme.results.records import read_run, write_run
from trireme.results.tables import pivot_table

from .synthetic import record, store, table

LABELS = [0, 1, 2, 3]


def test_every_score_equals_a_frame_computed_by_hand(tmp_path: Path) -> None:
    """Three methods, two benchmarks, one to three seeds: pandas takes the mean of each run, then that of the seeds."""
    rng = np.random.default_rng(4)
    rows = []
    labels = list(range(12))
    for method, seeds in (("knn", 1), ("reco", 2), ("rar", 3)):
        for benchmark in ("world/all", "world/food"):
            for seed in range(seeds):
                values = (rng.random(12) < 0.6).astype(float).tolist()
                store(tmp_path, values, labels, method__name=method, benchmark__name=benchmark, seed=seed)
                common = {"method": method, "benchmark": benchmark, "seed": seed}
                rows += [{**common, "label": label, "value": v} for label, v in zip(labels, values, strict=True)]
    samples = pd.DataFrame(rows)
    groups = {"all": [0, 1], "common": [0], "rare": [1]}  # even labels are common, odd ones rare
    expected = {}
    for subset, rest in groups.items():
        chosen = samples[(samples["label"] % 2).isin(rest)]
        of_runs = chosen.groupby(["method", "benchmark", "seed"])["value"].mean()
        means = 100 * of_runs.groupby(["method", "benchmark"]).mean()
        expected |= {(*key, subset): value for key, value in means.items()}
    frame = standings(tmp_path)
    top1 = frame[frame["metric"] == "top1"]
    found = {(row.method, row.benchmark, row.subset): row.score for row in top1.itertuples()}
    assert found == pytest.approx(expected, abs=1e-5)
    means = pd.Series({key[:2]: value for key, value in expected.items() if key[2] == "all"}).unstack()
    shown = pivot_table(frame, "benchmark")
    place = shown.columns.index("mean")
    assert {row[0]: row[place] for row in shown.rows} == {name: f"{v:.1f}" for name, v in means.mean(axis=1).items()}


def test_mean_rank_by_hand(tmp_path: Path) -> None:
    """On world/all 100, 75, 25 and on world/food 50, 100, 50: ranks 1, 2, 3 and 2.5, 1, 2.5; `lacks` has no food, so it
    takes no part in the ranks of world/all, where it would be second."""
    scores = {"a": ([1, 1, 1, 1], [1, 1, 0, 0]), "b": ([1, 1, 1, 0], [1, 1, 1, 1]), "c": ([1, 0, 0, 0], [0, 0, 1, 1])}
    for method, of in scores.items():
        for benchmark, values in zip(("world/all", "world/food"), of, strict=True):
            store(tmp_path, values, LABELS, method__name=method, benchmark__name=benchmark)
    store(tmp_path, [1, 1, 1, 0], LABELS, method__name="lacks")
    by_score = pivot_table(standings(tmp_path), "benchmark")
    assert by_score.columns == ["method", "world/all", "world/food", "mean", "mean rank"]
    assert [[row[0], *row[3:]] for row in by_score.rows] == [
        ["b", "87.5", "1.5"],
        ["a", "75.0", "1.8"],
        ["c", "37.5", "2.8"],
        ["lacks", "-", "-"],
    ]
    assert by_score.notes == (
        "ranked among the 3 rows that have every score; the others follow by name",
        "no mean for lacks: no score on world/food",
    )
    assert {(0, 4), (0, 3)} <= by_score.best
    assert {(1, 4), (1, 3)} <= by_score.second
    assert [row[0] for row in pivot_table(standings(tmp_path), "benchmark", rank="rank").rows] == [
        "b",
        "a",
        "c",
        "lacks",
    ]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations(range(5)),
    copies=st.lists(st.integers(0, 4), max_size=4),
    by=st.sampled_from([None, "benchmark"]),
)
def test_order_and_copies_of_folders_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], copies: list[int], by: str | None
) -> None:
    """Folders are read by name, so other names are another order."""
    runs = [("knn", 0, "world/all"), ("knn", 1, "world/all"), ("reco", 0, "world/all"), ("knn", 0, "cub")]
    runs.append(("reco", 0, "cub"))
    root = tmp_path_factory.mktemp("board")
    for number, (method, seed, benchmark) in enumerate(runs):
        values = [(number >> bit) & 1 for bit in range(4)]
        told = {"method__name": method, "seed": seed, "benchmark__name": benchmark}
        store(root / "plain", values, LABELS, name=f"run{number}", **told)
        store(root / "other", values, LABELS, name=f"run{number}", **told)
    for number, place in enumerate(order):
        (root / "other" / "runs" / f"run{number}").rename(root / "other" / "runs" / f"{place}-{number}")
    folders = sorted((root / "other" / "runs").iterdir())
    for copy, number in enumerate(copies):
        shutil.copytree(folders[number], root / "other" / "runs" / f"copy{copy}")
    expected, found = (standings(root / name) for name in ("plain", "other"))
    pd.testing.assert_frame_equal(found, expected)
    if by:
        assert pivot_table(found, by) == pivot_table(expected, by)


def cut(folder: Path) -> None:
    path = folder / "run.json"
    path.write_bytes(path.read_bytes()[:300])


def change(folder: Path, **values: object) -> None:
    content = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(content | values))


def nan_score(folder: Path) -> None:
    scores = json.loads((folder / "run.json").read_text())["scores"]
    change(folder, scores=[{**scores[0], "score": float("nan")}, *scores[1:]])


def other_rows(folder: Path, samples: int) -> None:
    """A predictions file of so many samples, stated as such, where the record says that four were asked."""
    predictions = table([1.0] * samples, list(range(samples)))
    made = write_run(folder.parent.parent / "elsewhere", record(predictions), predictions)
    shutil.copy(made / "predictions.parquet", folder / "predictions.parquet")
    change(folder, predictions=read_run(made).data["predictions"])


def rename(folder: Path) -> None:
    """A second folder with the same name in its record, and another run."""
    shutil.copytree(folder, folder.with_name("b"))
    change(folder, run="c" * 16)


DAMAGE = {
    "cut off": (cut, "run.json cannot be read"),
    "missing samples": (lambda folder: other_rows(folder, 3), "3"),
    "extra samples": (lambda folder: other_rows(folder, 5), "5"),
    "nan": (nan_score, "scores\\[0\\].score"),
    "schema": (lambda folder: change(folder, schema=99), "99"),
    "no schema": (lambda folder: change(folder, schema="one"), "schema"),
    "one name": (rename, "named"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_wrong_is_listed_below_the_table_and_in_no_mean(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """reco has 3 of 4 right; knn 4 of 4, and its record is damaged."""
    store(tmp_path, [1, 1, 1, 0], LABELS, method__name="reco")
    folder = store(tmp_path, [1, 1, 1, 1], LABELS)
    damage, reason = DAMAGE[kind]
    damage(folder)
    assert leaderboard(tmp_path, format="md") == 0
    printed = capsys.readouterr()
    lines = [line for line in printed.out.splitlines() if line]
    assert [line.split()[1] for line in lines[3:4]] == ["reco"]
    assert not any(line.startswith("| knn") for line in lines)
    assert lines[-1].startswith("left out: ")
    assert folder.name in lines[-1]
    assert re.search(reason, lines[-1])
    assert leaderboard(tmp_path, format="md", strict=True) == 1
    assert leaderboard(tmp_path, format="csv", strict=True) == 1
    printed = capsys.readouterr()
    assert "left out" not in printed.out.split("method,benchmark", 1)[1]
    assert "warning: left out: " in printed.err
    with pytest.raises(DataError):
        standings(tmp_path, strict=True)


def test_a_nan_in_the_predictions_of_a_seed_is_left_out_of_the_mean(tmp_path: Path) -> None:
    """`write_run` refuses it; here the file was made by another program, and its checksum is stated right."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folders = [store(tmp_path, [1, 1, 1, seed], LABELS, seed=seed) for seed in (0, 1)]
    path = folders[1] / "predictions.parquet"
    content = pq.read_table(path)
    values = pa.array([1, np.nan, 1, 1], pa.float32())
    content = content.set_column(content.column_names.index("top1"), "top1", values)
    pq.write_table(content, path)
    stated = {"rows": 4, "bytes": path.stat().st_size, "sha256": records.sha256_file(path), "file": path.name}
    change(folders[1], predictions=stated)
    frame = standings(tmp_path)
    assert set(frame["seeds"]) == {"0"}
    with pytest.raises(DataError, match=rf"{folders[1].name}: top1 has a value outside \[0, 1\]"):
        standings(tmp_path, strict=True)


def test_an_empty_folder_and_one_of_damaged_runs_alone_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match="no finished test run in"):
        leaderboard(tmp_path)
    cut(store(tmp_path, [1, 1, 1, 1], LABELS))
    with pytest.raises(DataError, match="no finished test run in"):
        leaderboard(tmp_path)
    assert "warning: left out: " in capsys.readouterr().err


def test_the_best_is_never_chosen_by_test_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path, [1, 1, 1, 0], LABELS)
    store(tmp_path, [1, 1, 0, 0], LABELS, benchmark__role="validation")
    with pytest.raises(UsageError, match="would choose by test scores"):
        leaderboard(tmp_path, choice=Choice(best_of="method"))
    assert leaderboard(tmp_path, format="md", choice=Choice(role="validation", best_of="method")) == 0
    printed = capsys.readouterr().out
    assert "75.0" in printed, "the test score"
    assert "best of 1 of method knn on world/all is knn with 50.0" in printed
    with pytest.raises(UsageError, match=r"name its columns, e\.g\. --by benchmark"):
        leaderboard(tmp_path, choice=Choice(rank="rank"))
    with pytest.raises(UsageError, match="--metric and --subset choose what --by is a table of"):
        leaderboard(tmp_path, choice=Choice(metric="top5"))


def test_a_pivot_in_csv_says_on_stderr_what_stands_below_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """top5 is top1 here: of the rare classes 1 and 3, the first alone is right."""
    store(tmp_path, [1, 1, 1, 0], LABELS)
    store(tmp_path, [1, 1, 0, 0], LABELS, benchmark__name="cub", metrics=["top1"])
    choice = Choice(metric="top5", subset="rare")
    assert leaderboard(tmp_path, "benchmark", "csv", choice=choice) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ["method,world/all,mean,mean rank", "knn,50.0000,50.0000,"]
    assert "note: not in this table: cub (no score of top5 on subset rare; --metric shows another one)" in printed.err


def test_columns_of_cost_and_validity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = {"method__facts": {"trained_parameters": 1_179_654}, "peak_memory_mib": 1500.4}
    store(tmp_path, [1, 1, 0, 0], LABELS, failed=[3], **told)
    leaderboard(tmp_path, format="md", choice=Choice(columns=("cost", "validity")))
    lines = capsys.readouterr().out.splitlines()
    header, row = ([cell.strip() for cell in lines[at].strip("|").split("|")] for at in (2, 4))
    cells = dict(zip(header, row, strict=True))
    assert cells["images/s"] == "200"
    assert cells["peak MiB"] == "1,500"
    assert cells["trained parameters"] == "1,179,654"
    assert cells["MLLM tokens"] == "-"
    assert (cells["failed"], cells["unreadable replies"]) == ("1", "-")
    leaderboard(tmp_path, format="csv", choice=Choice(columns=("cost",)))
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("method,benchmark,subset,metric,score,ci_low,ci_high,n,encoder,memory,seeds,run,images_per")
    with pytest.raises(UsageError, match="did you mean 'cost'"):
        leaderboard(tmp_path, choice=Choice(columns=("costs",)))
    with pytest.raises(UsageError, match="for them or for a pivot"):
        leaderboard(tmp_path, by="benchmark", choice=Choice(columns=("cost",)))
