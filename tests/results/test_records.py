"""Run folders: whole or absent, checked when written and when read."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trireme.errors import DataError, UsageError
from trireme.files import sha256_file
from trireme.methods.rankers.base import Status
from trireme.results.records import find_runs, read_predictions, read_run, write_run
from trireme.results.schema import INTERVALS, REPLY_STATUSES, SPEC
from trireme.results.specification import Null

from .synthetic import changed, content, record, store, table

TOKENS = {"prompt_tokens": 1, "completion_tokens": 1}
DRAWN = {"from": "d" * 16, "shots": 4, "rule": "random", "short": 0}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written, predictions = content()
    predictions = predictions.append_column("reply", pa.array(["a", "b", None, ""]))
    folder = write_run(tmp_path, written, predictions)
    assert folder == tmp_path / "runs" / written["name"]
    assert sorted(path.name for path in folder.iterdir()) == ["predictions.parquet", "run.json"]
    found = read_run(folder)
    assert {key: value for key, value in found.data.items() if key not in ("predictions", "intervals")} == written
    assert found.data["intervals"] == INTERVALS
    assert (found.method, found.benchmark, found.role, found.seed) == ("knn", "world/all", "test", 0)
    stored = read_predictions(found)
    assert stored.to_pylist() == predictions.to_pylist()
    assert [str(stored.schema.field(name).type) for name in ("label", "ranked", "scores", "top1")] == [
        "int32",
        "list<element: int32>",
        "list<element: float>",
        "float",
    ]
    assert "dictionary" in str(stored.schema.field("group").type)


def keys(spec: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, inner in spec.items():
        yield (*path, key)
        inner = inner.spec if isinstance(inner, Null) else inner
        if isinstance(inner, dict):
            yield from keys(inner, (*path, key))


@pytest.mark.parametrize("path", list(keys(SPEC)), ids=".".join)
def test_missing_key_is_named(path: tuple[str, ...], tmp_path: Path) -> None:
    written, predictions = content()
    inner = written
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    with pytest.raises(DataError, match="schema" if path == ("schema",) else f"'{'.'.join(path)}' is missing"):
        write_run(tmp_path, written, predictions)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": "0"}, "'seed' is str where int is expected"),
        ({"seed": True}, "'seed' is bool where int is expected"),
        ({"metrics": "top1"}, "'metrics' is str where sequence is expected"),
        ({"metrics": []}, "'metrics' is empty"),
        ({"memory": {"name": "m"}}, "'memory.fingerprint' is missing"),
        ({"schema": 2}, "schema 2 is not the one"),
        ({"samples__done": 4}, "'samples.asked' is not"),
        ({"samples__failures": []}, "0 failures are listed"),
        ({"method__facts": {"loss": [1.0, math.nan]}}, r"'method.facts.loss\[1\]' is nan"),
        ({"method__facts": {"model": object()}}, "'method.facts.model' is object"),
        ({"scores": [{"subset": "all", "metric": "top1", "score": 0.61}]}, r"'scores\[0\].ci_low' is missing"),
        ({"memory__drawn": {"shots": 4, "rule": "random", "short": 0}}, "'memory.drawn.from' is missing"),
        ({"memory__drawn": DRAWN | {"shots": "4"}}, "'memory.drawn.shots' is str where int is expected"),
        ({"replies": {"statuses": {}}}, "'replies.prompt_tokens' is missing"),
        (
            {"replies": {"statuses": {"late": 1}, **TOKENS}},
            "'replies.statuses' has 'late', which is none of ok",
        ),
        ({"replies": {"statuses": {"ok": 1.5}, **TOKENS}}, "'replies.statuses.ok' is float where int is expected"),
        ({"replies": {"statuses": {"ok": 3, "refused": 1}, **TOKENS}}, "counts 4 replies for 3 samples"),
        ({"plugins": 5}, "'plugins' is int where sequence is expected"),
        ({"training": ["x"]}, r"'training\[0\]' is str where mapping is expected"),
        ({"encoder__customised": "x"}, "'encoder.customised' is str where mapping is expected"),
        ({"encoder__customised": {"chosen_on": 5}}, "'encoder.customised.chosen_on' is int where str is expected"),
        ({"validation": {"name": "v", "fingerprint": [1]}}, "'validation.fingerprint' is list where str is expected"),
        ({"method__facts": {"ranker": {"name": 5}}}, "'method.facts.ranker.name' is int where str is expected"),
        ({"benchmark__subsets": {"all": 5}, "scores": []}, "'benchmark.subsets.all' is int where sequence is expected"),
        ({"seed": 10**30}, r"'seed' is 1.0e\+30, more than a column of 64 bits can hold"),
        ({"memory__size": 10**30}, r"'memory.size' is 1.0e\+30"),
        ({"method__facts": {"trained_parameters": 10**25}}, r"'method.facts.trained_parameters' is 1.0e\+25"),
    ],
)
def test_wrong_record_is_refused_by_name(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    good, predictions = content()
    with pytest.raises(DataError, match=message):
        write_run(tmp_path, changed(good, changes | {"name": "x", "run": "1"}), predictions)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"score": 101.0}, "a score is a percentage"),
        ({"score": math.nan}, "is nan"),
        ({"score": None}, "is null although n is 3"),
        ({"ci_low": 95.0, "ci_high": 10.0}, "an interval from 95.0 to 10.0"),
        ({"score": 50.0, "ci_low": 60.0, "ci_high": 70.0}, "50.0, outside its interval from 60.0 to 70.0"),
        ({"n": 5}, "'scores\\[0\\].n' is 5, but 4 samples were asked"),
        ({"n": -1}, "is -1, which is no number of samples"),
        ({"metric": "top5"}, "'scores\\[1\\]' is a second score of 'top5' on 'all'"),
        ({"metric": "top9"}, "which 'metrics' does not list"),
        ({"subset": "unheard"}, "which the benchmark does not have"),
    ],
)
def test_wrong_score_is_refused(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    written, predictions = content()
    written["scores"][0] |= row
    with pytest.raises(DataError, match=message):
        write_run(tmp_path, written, predictions)


def test_numpy_and_paths_become_json(tmp_path: Path) -> None:
    facts = {"loss": np.float32(0.5), "k": np.int64(3), "curve": np.arange(2), "at": Path("a/b"), "on": np.bool_(True)}
    written, predictions = content(method__facts=facts, run="1")
    stored = read_run(write_run(tmp_path, written, predictions)).data["method"]["facts"]
    assert stored == {"loss": 0.5, "k": 3, "curve": [0, 1], "at": "a/b", "on": True}


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "../x"])
def test_names_that_are_no_folder_are_refused(name: str, tmp_path: Path) -> None:
    written, predictions = content()
    written["name"] = name
    with pytest.raises(UsageError, match="cannot name a run"):
        write_run(tmp_path, written, predictions)


@pytest.mark.parametrize("column", ["sample_id", "label", "group", "status", "ranked", "scores", "top1", "top5"])
def test_missing_column_is_named(column: str, tmp_path: Path) -> None:
    written, predictions = content()
    with pytest.raises(DataError, match=f"no column '{column}'"):
        write_run(tmp_path, written, predictions.drop_columns([column]))


def edited(predictions: pa.Table, column: str, values: list[Any]) -> pa.Table:
    return predictions.set_column(predictions.column_names.index(column), column, pa.array(values))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("sample_id", ["s0", "s1", "s1", "s3"], "name a sample twice"),
        ("status", ["ok", "ok", "fine", "failed"], "status 'fine'"),
        ("status", ["ok", "failed", "ok", "ok"], "the failed rows are not the ones"),
        ("top1", [1.0, 2.0, 0.0, None], r"'top1' has a value outside \[0, 1\]"),
        ("top1", [1.0, None, 0.0, None], r"'top1' has a value outside \[0, 1\]"),
        ("label", ["a", "b", "c", "d"], "column 'label' is not int32"),
    ],
)
def test_wrong_predictions_are_refused(column: str, values: list[Any], message: str, tmp_path: Path) -> None:
    written, predictions = content()
    with pytest.raises(DataError, match=message):
        write_run(tmp_path, written, edited(predictions, column, values))
    with pytest.raises(DataError, match="have 3 rows, but 4 samples were asked"):
        write_run(tmp_path, written, predictions.slice(0, 3))
    assert not (tmp_path / "runs").exists()


def test_storing_a_finished_run_again_changes_nothing(tmp_path: Path) -> None:
    written, predictions = content()
    folder = write_run(tmp_path, written, predictions)
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
    later = changed(written, {"created": "2025-01-01T00:00:00+00:00", "name": written["name"], "run": written["run"]})
    assert write_run(tmp_path, later, predictions) == folder
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_another_run_under_the_same_name_is_refused(tmp_path: Path) -> None:
    written, predictions = content(name="one", run="1")
    write_run(tmp_path, written, predictions)
    with pytest.raises(DataError, match=r"holds another run \(1, not 2\)"):
        write_run(tmp_path, {**written, "run": "2"}, predictions)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


DAMAGE = {
    "run.json cut off": lambda folder: cut(folder / "run.json"),
    "run.json is no record": lambda folder: (folder / "run.json").write_text("[1, 2]"),
    "run.json lacks a key": lambda folder: (folder / "run.json").write_text('{"schema": 1, "name": "x"}'),
    "schema of no version": lambda folder: (folder / "run.json").write_text('{"schema": "one"}'),
    "run.json missing": lambda folder: (folder / "run.json").unlink(),
    "run.json is binary": lambda folder: (folder / "run.json").write_bytes(b"\xff\xfe\x00"),
    "predictions missing": lambda folder: (folder / "predictions.parquet").unlink(),
    "predictions cut off": lambda folder: cut(folder / "predictions.parquet"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_run_is_named_left_out_and_repaired(
    damage: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, predictions = content(name="whole", run="1")
    write_run(tmp_path, whole, predictions)
    broken, _ = content(name="broken", run="2")
    folder = write_run(tmp_path, broken, predictions)
    damage(folder)
    assert [found.name for found in find_runs(tmp_path)] == ["whole"]
    said = capsys.readouterr().err
    assert str(folder) in said
    assert "run it again" in said or "no finished run" in said
    assert "Traceback" not in said
    with pytest.raises(DataError, match="broken"):
        find_runs(tmp_path, strict=True)
    write_run(tmp_path, broken, predictions)  # what the next `trireme run` does
    assert [found.name for found in find_runs(tmp_path, strict=True)] == ["broken", "whole"]


@pytest.mark.parametrize("depth", [150, 200_000])
def test_a_record_that_is_nested_without_end_is_named(depth: int, tmp_path: Path) -> None:
    """JSON's own reader stops at about a thousand levels, and what walks through a record earlier."""
    folder = store(tmp_path, [1, 0], [0, 1])
    text = (folder / "run.json").read_text()
    many = "[" * depth + "]" * depth + "," + "{},".join("" for _ in range(500))
    (folder / "run.json").write_text(text.replace('"machine":', f'"x": [{many}0], "machine":', 1))
    with pytest.raises(DataError, match=r"run\.json is nested too deeply"):
        read_run(folder)


def test_half_a_sign_is_named(tmp_path: Path) -> None:
    """A lone surrogate is JSON, but no file and no terminal can hold it; a pair of them is one sign."""
    folder = store(tmp_path, [1, 0], [0, 1], command="x")
    text = (folder / "run.json").read_text()
    (folder / "run.json").write_text(text.replace('"x"', '"\\ud83d\\ude00"'))
    assert read_run(folder).data["command"] == "\U0001f600"
    (folder / "run.json").write_text(text.replace('"x"', '"\\ud83d"'))
    with pytest.raises(DataError, match=r"run\.json cannot be read .*surrogates not allowed"):
        read_run(folder)


def test_withheld_labels_need_no_values(tmp_path: Path) -> None:
    """Two of three samples have a label: n is 2, and the third row's metric is null."""
    predictions = edited(table([1, 0, 0], [0, 1, -1]), "top1", [1.0, 0.0, None])
    written = record(predictions)
    assert (written["scores"][0]["score"], written["scores"][0]["n"]) == (50.0, 2)
    assert read_predictions(read_run(write_run(tmp_path, written, predictions))).num_rows == 3


def test_changed_predictions_are_noticed_when_they_are_read(tmp_path: Path) -> None:
    """Same size, other bytes: finding runs reads run.json and footers and does not see it, reading predictions does."""
    folder = store(tmp_path, [1, 0], [0, 1])
    path = folder / "predictions.parquet"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    (found,) = find_runs(tmp_path, strict=True)
    with pytest.raises(DataError, match="checksum"):
        read_predictions(found)


def test_predictions_with_another_number_of_rows_are_refused(tmp_path: Path) -> None:
    folder = store(tmp_path, [1, 0], [0, 1])
    text = (folder / "run.json").read_text()
    edit = json.loads(text)
    edit["samples"] |= {"asked": 3, "done": 3}
    (folder / "run.json").write_text(json.dumps(edit))
    with pytest.raises(DataError, match="has 2 rows, but 3 samples were asked"):
        read_predictions(read_run(folder))


def replaced(folder: Path, column: str, values: list[Any]) -> None:
    """The predictions file with another column, as some other program would make it: the record states its checksum."""
    path = folder / "predictions.parquet"
    pq.write_table(edited(pq.read_table(path), column, values), path)
    content = json.loads((folder / "run.json").read_text())
    content["predictions"] |= {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    (folder / "run.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("sample_id", ["s0", "s0"], "names a sample twice"),
        ("status", ["ok", "failed"], r"has 1 failed samples that are not the 0 of run\.json"),
    ],
)
def test_predictions_of_other_samples_are_noticed_when_they_are_read(
    column: str, values: list[Any], message: str, tmp_path: Path
) -> None:
    folder = store(tmp_path, [1, 0], [0, 1])
    replaced(folder, column, values)
    with pytest.raises(DataError, match=f"{folder.name}.*{message}"):
        read_predictions(read_run(folder), ["top1"])


def test_strict_reading_looks_at_the_footer(tmp_path: Path) -> None:
    """Three rows in the file, two asked and two stated: run.json alone is consistent."""
    folder = store(tmp_path, [1, 0], [0, 1])
    path = folder / "predictions.parquet"
    pq.write_table(table([1, 0, 1], [0, 1, 2]), path)
    content = json.loads((folder / "run.json").read_text())
    content["predictions"] |= {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    (folder / "run.json").write_text(json.dumps(content))
    assert len(find_runs(tmp_path)) == 1
    with pytest.raises(DataError, match=f"{folder.name}.* has 3 rows, but 2 samples were asked"):
        find_runs(tmp_path, strict=True)


def test_unknown_column_is_named(tmp_path: Path) -> None:
    found = read_run(store(tmp_path, [1, 0], [0, 1]))
    assert read_predictions(found, ["top1", "label"]).column_names == ["top1", "label"]
    with pytest.raises(DataError, match="has no column 'reply'"):
        read_predictions(found, ["reply"])


def test_where_runs_are_looked_for(tmp_path: Path) -> None:
    folder = store(tmp_path, [1, 0], [0, 1])
    (tmp_path / "runs" / "notes.txt").write_text("not a run")
    shutil.copytree(folder, tmp_path / "runs" / ".copy.abc.part")  # whole inside, yet unfinished by its name
    for place in (tmp_path, tmp_path / "runs", folder):
        assert [found.folder for found in find_runs(place, strict=True)] == [folder]
    with pytest.raises(DataError, match="no results at"):
        find_runs(tmp_path / "nowhere")
    (tmp_path / "empty" / "photos").mkdir(parents=True)
    assert find_runs(tmp_path / "empty", strict=True) == [], "a folder that is not in `runs` is nobody's run"


def test_importing_results_imports_nothing_heavy() -> None:
    heavy = "{'pandas', 'pyarrow', 'numpy', 'torch'}"
    code = f"import sys, trireme.results; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_results_offers_its_names_lazily() -> None:
    import trireme.results
    from trireme.results.leaderboard import load

    assert trireme.results.load is load
    assert "pivot" in dir(trireme.results)
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        trireme.results.__getattr__("laod")


def test_statuses_are_those_of_rankers() -> None:
    """Results know no methods, so the words stand twice."""
    assert tuple(map(str, Status)) == REPLY_STATUSES
