"""Records of older schemas are read by steps; those of newer ones are named and never replaced."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from trireme.errors import DataError
from trireme.results import migrations, schema
from trireme.results.migrations import NewerSchemaError, Step, migrate
from trireme.results.predictions import column_types
from trireme.results.records import find_runs, read_predictions, read_run, survey, write_run

from .synthetic import content, store

FINGERPRINTS = Path(__file__).parent / "frozen" / "fingerprints.json"


def test_a_changed_schema_has_a_new_version() -> None:
    """The stored fingerprints were made by `schema.content_fingerprint()` when their versions began."""
    stored = json.loads(FINGERPRINTS.read_text())
    assert stored.get(str(schema.SCHEMA)) == schema.content_fingerprint(), (
        "trireme.results.schema says other things about a record than it did when version "
        f"{schema.SCHEMA} began. Raise SCHEMA, add the step to trireme.results.migrations, and follow "
        "tests/results/frozen/README.md"
    )
    assert sorted(map(int, stored)) == list(range(1, schema.SCHEMA + 1))


def test_every_older_version_has_a_step() -> None:
    assert sorted(migrations.STEPS) == list(range(1, schema.SCHEMA))


def test_fingerprint_is_that_of_the_types_that_are_written() -> None:
    assert {name: str(kind) for name, kind in column_types(["top1"]).items()} == {
        **schema.COLUMNS,
        "top1": schema.METRIC_COLUMN,
    }


@pytest.mark.parametrize("name", ["SPEC", "REPLICATES_SPEC", "REPLIES_SPEC", "DRAWN_SPEC", "COLUMNS", "REPLY_STATUSES"])
def test_fingerprint_sees_every_part(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = schema.content_fingerprint()
    part = getattr(schema, name)
    changed: Any = (*part, "late") if isinstance(part, tuple) else {"new": "string"}
    if isinstance(part, dict):
        changed = {**part, "new": "string" if name == "COLUMNS" else int}
    elif not isinstance(part, tuple):
        changed = type(part)({**part.spec, "new": int})
    monkeypatch.setattr(schema, name, changed)
    assert schema.content_fingerprint() != before


def minutes(record: Mapping[str, Any]) -> dict[str, Any]:
    """Version 2 of a story: `seconds` became `minutes`, and `benchmark` says how many pictures it has."""
    rest = {key: value for key, value in record.items() if key != "seconds"}
    benchmark = {**record["benchmark"], "pictures": record["samples"]["asked"]}
    return {**rest, "benchmark": benchmark, "minutes": {k: v / 60 for k, v in record["seconds"].items()}}


def answer(table: Any, record: Mapping[str, Any]) -> Any:
    """Version 2 renamed `ranked`, and added a column that the record tells."""
    import pyarrow as pa

    assert record["benchmark"]["pictures"] == table.num_rows, "the step of the table sees the migrated record"
    names = ["answers" if name == "ranked" else name for name in table.column_names]
    return table.rename_columns(names).append_column("seed", pa.array([record["seed"]] * table.num_rows))


def hours(record: Mapping[str, Any]) -> dict[str, Any]:
    """Version 3 took the minutes away again."""
    rest = {key: value for key, value in record.items() if key != "minutes"}
    return {**rest, "hours": sum(record["minutes"].values()) / 60}


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Trireme of two versions later than today's."""
    now = schema.SCHEMA
    monkeypatch.setattr(schema, "SCHEMA", now + 2)
    monkeypatch.setattr(migrations, "STEPS", {**migrations.STEPS, now: Step(minutes, answer), now + 1: Step(hours)})
    spec = {key: value for key, value in schema.SPEC.items() if key != "seconds"} | {"hours": float}
    spec["benchmark"] = {**spec["benchmark"], "pictures": int}
    monkeypatch.setattr(schema, "_check_keys", schema.Checker(spec))


def test_todays_record_is_read_by_a_later_version(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """1.0 s and 0.5 s of work are 1.5 / 3600 hours; the four samples of the table are its pictures."""
    folder = store(tmp_path, [1, 0, 1, 0], [0, 1, 2, 3], seed=3)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    today = read_predictions(read_run(folder)).to_pydict()
    request.getfixturevalue("later")
    (found,) = find_runs(tmp_path, strict=True)
    assert found.data["schema"] == schema.SCHEMA
    assert "seconds" not in found.data
    assert "minutes" not in found.data
    assert found.data["hours"] == pytest.approx(1.5 / 3600)
    assert found.data["benchmark"]["pictures"] == 4
    table = read_predictions(found)
    assert table["answers"].to_pylist() == today["ranked"]
    assert table["seed"].to_pylist() == [3] * 4
    assert read_predictions(found, ["seed", "answers"]).column_names == ["seed", "answers"]
    with pytest.raises(DataError, match="has no column 'ranked'"):
        read_predictions(found, ["ranked"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before, "files are left as they are"


@pytest.mark.usefixtures("later")
def test_steps_leave_what_they_get() -> None:
    old = {**content()[0], "schema": schema.SCHEMA - 2}
    kept = copy.deepcopy(old)
    new = migrate(old)
    assert old == kept
    assert new["schema"] == schema.SCHEMA
    assert migrate(new) is new


@pytest.mark.usefixtures("later")
def test_a_damaged_old_record_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "old"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"schema": 1, "benchmark": {}, "seconds": {}}))
    with pytest.raises(DataError, match=r"old: schema 1 has no record like this \(KeyError: 'samples'\); run it again"):
        read_run(folder)


def test_a_newer_record_says_what_to_do_and_is_not_replaced(tmp_path: Path) -> None:
    written, predictions = content(name="a", run="1")
    folder = write_run(tmp_path, written, predictions)
    stored = json.loads((folder / "run.json").read_text())
    newer = json.dumps({**stored, "schema": schema.SCHEMA + 1, "versions": {"trireme": "9.8.7"}})
    (folder / "run.json").write_text(newer)
    (one,) = survey(tmp_path).left_out
    assert one.reason == (
        f"{folder}: schema {schema.SCHEMA + 1} is newer than this version of Trireme reads ({schema.SCHEMA}) "
        "(trireme-bench 9.8.7 wrote it); update with `pip install -U trireme-bench`"
    )
    for replace in (False, True):
        with pytest.raises(NewerSchemaError, match="is newer than"):
            write_run(tmp_path, written, predictions, replace=replace)
    assert (folder / "run.json").read_text() == newer


@pytest.mark.parametrize("version", [0, -1, "1", 1.0, None, True])
def test_a_version_that_never_was(version: Any) -> None:
    with pytest.raises(DataError, match="is no version of run records; this one reads 1 to"):
        migrate({"schema": version})


def test_predictions_state_their_version(tmp_path: Path) -> None:
    folder = store(tmp_path, [1, 0], [0, 1])
    metadata = pq.read_schema(folder / "predictions.parquet").metadata
    assert metadata[b"trireme.schema"] == str(schema.SCHEMA).encode()


def test_newer_predictions_are_named(tmp_path: Path) -> None:
    """A file of a later version beside a record of this one: Trireme writes no such thing, and misreads none."""
    from trireme.files import sha256_file

    folder = store(tmp_path, [1, 0], [0, 1])
    path = folder / "predictions.parquet"
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"trireme.schema": str(schema.SCHEMA + 1)}), path)
    stored = json.loads((folder / "run.json").read_text())
    stored["predictions"] |= {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    (folder / "run.json").write_text(json.dumps(stored))
    with pytest.raises(NewerSchemaError, match=r"predictions.parquet: schema \d+ is newer than"):
        read_predictions(read_run(folder))
