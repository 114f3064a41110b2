"""What was joined over seeds is remembered, and only while everything that it follows from is the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from trireme.results import joining, schema
from trireme.results.leaderboard import board, leaderboard
from trireme.results.records import write_run
from trireme.results.statistics import score_rows

from .synthetic import SUBSETS, record, store, table

LABELS = [0, 1, 2, 3]


@pytest.fixture(autouse=True)
def two_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "WORTH_KEEPING", 2)


def boards(root: Path) -> Path:
    """Two methods with two seeds each."""
    for method, values in (("knn", [1, 1, 1, 0]), ("reco", [1, 1, 0, 0])):
        for seed in (0, 1):
            store(root, [*values[:3], seed], LABELS, method__name=method, seed=seed)
    return root / joining.MEMORY


def test_what_is_remembered_is_what_would_be_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = boards(tmp_path)
    first = leaderboard(tmp_path)
    assert len(json.loads(kept.read_text())) == 2
    monkeypatch.setattr(joining, "read_predictions", lambda *_: pytest.fail("predictions were read again"))
    pd.testing.assert_frame_equal(leaderboard(tmp_path), first)


def test_few_groups_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "WORTH_KEEPING", 3)
    kept = boards(tmp_path)
    leaderboard(tmp_path)
    assert not kept.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", bytes(40)], ids=["empty", "cut off", "no object", "zeros"])
def test_a_damaged_file_counts_as_none(tmp_path: Path, content: bytes) -> None:
    kept = boards(tmp_path)
    first = leaderboard(tmp_path)
    kept.write_bytes(content)
    pd.testing.assert_frame_equal(leaderboard(tmp_path), first)
    assert len(json.loads(kept.read_text())) == 2


def test_a_record_that_was_replaced_is_joined_anew(tmp_path: Path) -> None:
    boards(tmp_path)
    before = leaderboard(tmp_path)
    predictions = table([0, 0, 0, 0], LABELS)
    write_run(tmp_path, record(predictions, method__name="knn", seed=1), predictions, replace=True)
    after = leaderboard(tmp_path)
    mean = after[(after["method"] == "knn") & (after["subset"] == "all") & (after["metric"] == "top1")].iloc[0]
    assert mean["score"] == 37.5, "3 of 4 and 0 of 4"
    reco = [frame[frame["method"] == "reco"].reset_index(drop=True) for frame in (before, after)]
    pd.testing.assert_frame_equal(*reco)


def test_predictions_that_were_changed_are_never_remembered(tmp_path: Path) -> None:
    boards(tmp_path)
    leaderboard(tmp_path)
    path = next((tmp_path / "runs").glob("knn--*/predictions.parquet"))
    path.write_bytes(bytes(path.stat().st_size))
    found = board(tmp_path)
    assert [one.folder for one in found.left_out] == [path.parent]
    assert "checksum" in found.left_out[0].reason
    assert set(found.frame.loc[found.frame["method"] == "knn", "seeds"]) < {"0", "1"}


def test_runs_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    kept = boards(tmp_path)
    leaderboard(tmp_path)
    for folder in (tmp_path / "runs").glob("knn--*"):
        folder.rename(tmp_path / folder.name)
    for seed in (0, 1):
        for method in ("a", "b"):
            store(tmp_path, [1, 0, 1, 0], LABELS, method__name=method, seed=seed)
    leaderboard(tmp_path)
    assert len(json.loads(kept.read_text())) == 3, "reco, a and b"


def test_a_folder_that_cannot_be_written_to_is_read_all_the_same(tmp_path: Path) -> None:
    kept = boards(tmp_path)
    kept.mkdir()
    assert len(leaderboard(tmp_path)) == 12


def test_scores_can_be_computed_anew_from_predictions_alone(tmp_path: Path) -> None:
    """The record states other scores than its predictions give: 3 of 4 right."""
    folder = store(tmp_path, [1, 1, 1, 0], LABELS)
    content = json.loads((folder / "run.json").read_text())
    expected = [dict(row) for row in content["scores"]]
    for row in content["scores"]:
        row.update(score=10.0, ci_low=5.0, ci_high=15.0)
    (folder / "run.json").write_text(json.dumps(content))
    assert set(board(tmp_path).frame["score"]) == {10.0}
    frame = board(tmp_path, rescore=True).frame
    found = frame[list(expected[0])].to_dict("records")
    assert sorted(map(str, found)) == sorted(map(str, expected))
    assert board(tmp_path).notes == ()
    (note,) = board(tmp_path, rescore=True).notes
    assert note == (
        f"{folder}: run.json states other scores than its predictions give: top1 on all is 10.00 there, 75.00 anew "
        "and 5 more"
    )


@pytest.mark.parametrize(("seeds", "kept"), [(3, "1,2"), (2, None)])
def test_seeds_of_other_samples_are_never_joined(seeds: int, kept: str | None, tmp_path: Path) -> None:
    """Seed 0 has a sample that no other has: of three seeds two are left, of two nobody can tell which is right."""
    for seed in range(seeds):
        predictions = table([1, 1, 1, seed > 0], LABELS)
        if seed == 0:
            predictions = predictions.set_column(0, "sample_id", [["s0", "s1", "s2", "other"]])
        write_run(tmp_path, record(predictions, seed=seed), predictions)
    found = board(tmp_path)
    assert (set(found.frame["seeds"]) or {None}) == {kept}
    assert len(found.left_out) == (1 if kept else 2)
    assert "its samples are not those of the other seeds on world/all" in found.left_out[0].reason


def test_scoring_anew_names_runs_of_other_samples_than_the_others(tmp_path: Path) -> None:
    """knn and reco asked for s0 to s3, rar for another one in the place of s0."""
    for method in ("knn", "reco"):
        store(tmp_path, [1, 1, 1, 0], LABELS, method__name=method)
    predictions = table([1, 1, 1, 0], LABELS).set_column(0, "sample_id", [["other", "s1", "s2", "s3"]])
    folder = write_run(tmp_path, record(predictions, method__name="rar"), predictions)
    assert board(tmp_path, rescore=True).notes == (
        f"{folder}: its samples are not those of 2 other runs on world/all, whose fingerprint it states",
    )


def test_intervals_that_were_drawn_in_another_way_are_told_of(tmp_path: Path) -> None:
    """One run stored before there was `intervals`, beside two seeds that are joined today: 1 of 2 rows."""
    old = store(tmp_path, [1, 1, 1, 0], LABELS, method__name="reco")
    content = json.loads((old / "run.json").read_text())
    del content["intervals"]
    (old / "run.json").write_text(json.dumps(content))
    assert board(tmp_path).intervals == (), "all of one kind"
    for seed in (0, 1):
        store(tmp_path, [1, 1, 1, seed], LABELS, seed=seed)
    (note,) = board(tmp_path).intervals
    assert note.startswith("the intervals of 1 of 2 runs (seeds joined) were drawn as another version")
    assert board(tmp_path, rescore=True).intervals == ()


def test_other_intervals_have_another_version() -> None:
    """If this fails, the same predictions get other intervals than before: raise `schema.INTERVALS`, store today's.

    No truth in the limits themselves, which test_statistics and test_coverage check: they are what version 1 drew.
    """
    values = [1.0, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 0]
    rows = score_rows(table(values, [0, 1, 2, 3, 4, 5] * 2), SUBSETS, ["top1"])
    drawn = {1: [50.0, 91.6667, 50.0, 100.0, 50.0, 100.0]}
    limits = [row[key] for row in rows for key in ("ci_low", "ci_high")]
    assert limits == pytest.approx(drawn[schema.INTERVALS], abs=1e-4)


def test_scores_that_differ_by_rounding_alone_are_not_named(tmp_path: Path) -> None:
    """2 of 3 right: 66.666667 is stored."""
    store(tmp_path, [1, 1, 0], [0, 1, 2])
    assert board(tmp_path, rescore=True).notes == ()


def test_scoring_anew_loads_no_model(tmp_path: Path) -> None:
    store(tmp_path, [1, 1, 1, 0], LABELS)
    code = (
        "import sys; from pathlib import Path; from trireme.commands.leaderboard import leaderboard; "
        "leaderboard(Path(sys.argv[1]), rescore=True); "
        "print(sorted({'torch', 'transformers', 'open_clip', 'faiss'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
