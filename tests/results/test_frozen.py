"""Records that were written once and kept: today's code reads each version's, and makes the table of then of them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from trireme.results import schema
from trireme.results.leaderboard import leaderboard
from trireme.results.records import find_runs, read_predictions, read_run

FROZEN = Path(__file__).parent / "frozen"
VERSIONS = sorted(path.name for path in FROZEN.glob("v*"))


def test_every_version_is_frozen() -> None:
    assert sorted(f"v{number}" for number in range(1, schema.SCHEMA + 1)) == VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_every_record_and_its_predictions_load(version: str) -> None:
    records = find_runs(FROZEN / version, strict=True)
    assert len(records) == sum(1 for _ in (FROZEN / version / "runs").iterdir())
    for record in records:
        assert record.data["schema"] == schema.SCHEMA
        assert set(schema.COLUMNS) <= set(read_predictions(record).column_names)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_table_is_the_one_of_then(version: str) -> None:
    """Scores to the four digits of the file. Intervals of one run stand in its record; those of joined seeds are drawn
    anew, so they may move by what another way of drawing would move them (5 points of 60 pictures)."""
    kept = pd.read_csv(FROZEN / version / "leaderboard.csv", dtype={"seeds": str, "memory": str})
    now = leaderboard(FROZEN / version, strict=True)[list(kept.columns)].reset_index(drop=True)
    key = ["benchmark", "subset", "metric", "run"]
    kept, now = (frame.sort_values(key, ignore_index=True) for frame in (kept, now))
    exact = [column for column in kept if not column.startswith("ci_")]
    pd.testing.assert_frame_equal(now[exact], kept[exact], check_dtype=False, atol=1e-4, rtol=0)
    joined = kept["run"].str.contains("+", regex=False)
    assert joined.any()
    assert not joined.all()
    limits = ["ci_low", "ci_high"]
    pd.testing.assert_frame_equal(now.loc[~joined, limits], kept.loc[~joined, limits], atol=1e-4, rtol=0)
    pd.testing.assert_frame_equal(now.loc[joined, limits], kept.loc[joined, limits], atol=5, rtol=0)


def test_version_1_shows_every_kind_of_record() -> None:
    records = {record.name.rpartition("--")[0]: record.data for record in find_runs(FROZEN / "v1", strict=True)}
    assert records["rar-lite--world-tiny--lite--0"]["replies"]["statuses"] == {"ok": 60}
    assert records["knn--lvis--lite--0"]["replicates"]["units"] == 6
    assert records["reco--world-tiny--lite--0"]["validation"] is not None
    assert records["knn--world-tiny--lite--1"]["memory"]["drawn"]["shots"] == 2


def test_the_first_release_still_loads() -> None:
    """3 of 4 right on `all`, a fifth sample failed; it is older than rankers."""
    found = read_run(FROZEN / "v1" / "runs" / "first-release")
    assert "replies" not in found.data
    assert found.scores[0]["score"] == 75.0
    assert read_predictions(found, ["top1"])["top1"].to_pylist() == [1.0, 0.0, 1.0, 1.0, None]
