"""Export to wandb (offline) and MLflow (SQLite), by the real libraries: what is read back is what the records say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trireme.cli import main
from trireme.results.export.content import flat, measures
from trireme.results.export.selection import select
from trireme.results.records import RunRecord, find_runs

from .offline_wandb import stored_runs
from .synthetic import store, store_ranked

LABELS = [0, 1, 2, 3]


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs, one of them of a ranker; the working folder is beside them, and nothing may be sent anywhere."""
    store(tmp_path / "out", [1, 0, 1, 0], LABELS, failed=[3])
    store_ranked(tmp_path / "out", [1, 1, 1, 0], [1, 1, 1, 0], LABELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_DIR", "MLFLOW_TRACKING_URI", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "out"


def records(out: Path) -> dict[str, RunRecord]:
    return {record.name: record for record in find_runs(out, strict=True)}


def change(out: Path, method: str) -> RunRecord:
    """Another time of `encode` in a record, as a run made again would have it."""
    record = next(record for record in records(out).values() if record.method == method)
    content = json.loads((record.folder / "run.json").read_text())
    content["seconds"]["encode"] = 77.0
    (record.folder / "run.json").write_text(json.dumps(content))
    return record


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_numbers_are_those_of_the_record(out: Path) -> None:
    """2 of 3 samples are right in the first run, its fourth failed: 66.67 %; the ranker's run found 3 of 4."""
    knn, rar = (measures(record) for record in sorted(records(out).values(), key=lambda record: record.method))
    assert knn["top1/all"] == pytest.approx(200 / 3, abs=1e-4)
    assert (knn["top1/all/n"], knn["samples/asked"], knn["samples/failed"]) == (3, 4, 1)
    assert knn["top1/all/ci_low"] <= knn["top1/all"] <= knn["top1/all/ci_high"]
    assert (knn["seconds/encode"], knn["images_per_second"], knn["peak_memory_mib"]) == (1.0, 200.0, 512.0)
    assert "prompt_tokens" not in knn
    assert (rar["hit@5/all"], rar["replies/repaired"], rar["prompt_tokens"]) == (75.0, 1, 100)
    assert all(type(value) is float for value in (*knn.values(), *rar.values()))


def test_settings_are_flat_and_lists_are_values() -> None:
    assert dict(flat({"a": {"b": 1, "c": {"d": None}}, "e": [1, 2]})) == {"a.b": "1", "a.c.d": "None", "e": "[1, 2]"}


def test_wandb_offline(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "wandb", str(out), "--project", "boats"]) == 0
    assert said(capsys) == "wandb, boats: 2 exported, 0 updated, 0 already there"
    known, found = records(out), {run.id: run for run in stored_runs(out.parent)}
    assert set(found) == set(known)
    for name, run in found.items():
        assert (run.name, run.project, run.finished) == (name, "boats", True)
        assert run.summary == pytest.approx(measures(known[name]))
        assert run.config["method"] == known[name].data["method"]
        assert run.config["benchmark"]["fingerprint"] == "b" * 16
        assert "machine" not in run.config
        assert run.artifacts == {f"run-{known[name].run}": ["predictions.parquet", "run.json"]}

    before = sorted(path.name for path in (out.parent / "wandb").glob("offline-run-*"))
    assert main(["export", "wandb", str(out), "--project", "boats"]) == 0
    assert said(capsys) == "wandb, boats: 0 exported, 0 updated, 2 already there"
    assert sorted(path.name for path in (out.parent / "wandb").glob("offline-run-*")) == before

    changed = change(out, "knn")
    assert main(["export", "wandb", str(out), "--project", "boats"]) == 0
    assert said(capsys) == "wandb, boats: 0 exported, 1 updated, 1 already there"
    again = [run for run in stored_runs(out.parent) if run.id == changed.name]
    assert [run.summary["seconds/encode"] for run in again] == [77.0]


def test_a_wandb_export_that_was_cut_short_is_made_again(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from trireme.results.export import to_wandb

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    arguments = ["export", "wandb", str(out), "--where", "method=knn", "--no-predictions"]
    with monkeypatch.context() as patched:
        patched.setattr(to_wandb, "_log_files", killed)
        assert main(arguments) == 130
    assert main(arguments) == 0
    assert said(capsys) == "wandb, trireme: 0 exported, 1 updated, 0 already there"
    (run,) = stored_runs(out.parent)
    assert list(run.artifacts.values()) == [["run.json"]]


def test_wandb_without_a_login_or_with_a_mode_that_keeps_nothing(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert main(["export", "wandb", str(out)]) == 2
    assert said(capsys) == "error: WANDB_MODE=disabled keeps nothing; set it to online or offline"
    # a process of its own: wandb reads where its server is once
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    nobody = {"WANDB_BASE_URL": "http://127.0.0.1:9", "NETRC": str(out.parent / "netrc")}
    command = [sys.executable, "-m", "trireme", "export", "wandb", str(out)]
    done = subprocess.run(command, env=kept | nobody, capture_output=True, text=True)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: wandb refused: No API key configured")
    assert line.endswith("set WANDB_MODE=offline and run `wandb sync` later")
    assert "Traceback" not in done.stderr


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # of SQLAlchemy, for MLflow
def test_mlflow(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One store for all: making its tables takes seconds."""
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{out.parent / 'mlflow.db'}"
    arguments = ["export", "mlflow", str(out), "--tracking-uri", uri, "--experiment", "boats"]
    assert main(arguments) == 0
    assert said(capsys) == "MLflow, boats: 2 exported, 0 updated, 0 already there"
    client = MlflowClient(tracking_uri=uri)
    home = client.get_experiment_by_name("boats").experiment_id

    def there() -> dict[str, Any]:
        runs = client.search_runs([home])
        named = {run.info.run_name: run for run in runs}
        assert len(named) == len(runs), "no run is there twice"
        return named

    known, found = records(out), there()
    assert set(found) == set(known)
    for name, run in found.items():
        numbers = {key.replace("@", "_at_"): value for key, value in measures(known[name]).items()}
        assert run.data.metrics == pytest.approx(numbers)
        assert run.data.params["method.config.k"] == "1"
        assert run.data.params["benchmark.fingerprint"] == "b" * 16
        assert run.data.tags["mlflow.source.git.commit"] == "a" * 40
        assert (run.info.status, run.info.end_time - run.info.start_time) == ("FINISHED", 1500)  # 1.0 s and 0.5 s
        assert sorted(one.path for one in client.list_artifacts(run.info.run_id)) == ["predictions.parquet", "run.json"]
    first = {name: run.info.run_id for name, run in found.items()}

    assert main(arguments) == 0
    assert said(capsys) == "MLflow, boats: 0 exported, 0 updated, 2 already there"
    assert {name: run.info.run_id for name, run in there().items()} == first

    changed = change(out, "knn")
    assert main(arguments) == 0
    assert said(capsys) == "MLflow, boats: 0 exported, 1 updated, 1 already there"
    assert there()[changed.name].data.metrics["seconds/encode"] == 77.0

    client.delete_tag(there()[changed.name].info.run_id, "trireme.record")  # as an export that was killed leaves it
    assert main([*arguments, "--no-predictions", "--where", "method=knn"]) == 0
    assert said(capsys) == "MLflow, boats: 0 exported, 1 updated, 0 already there"
    assert [one.path for one in client.list_artifacts(there()[changed.name].info.run_id)] == ["run.json"]


def test_mlflow_that_refuses_is_one_line(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "mlflow", str(out), "--tracking-uri", "nonsense://x"]) == 1
    line = said(capsys)
    assert line.startswith("error: MLflow refused: ")
    assert line.endswith("check --tracking-uri and --experiment")


@pytest.mark.parametrize(("tracker", "modules"), [("wandb", ["wandb"]), ("mlflow", ["mlflow", "mlflow.tracking"])])
def test_without_its_library_the_install_line_is_named(
    tracker: str, modules: list[str], out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    assert main(["export", tracker, str(out)]) == 1
    assert f"needs {tracker}; run: pip install 'trireme-bench[{tracker}]'" in said(capsys)


def test_damaged_records_are_named_and_strict_refuses(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(next(iter(records(out).values())).folder, out / "runs" / "cut")
    (out / "runs" / "cut" / "run.json").write_text("{")
    assert main(["export", "wandb", str(out), "--strict"]) == 1
    assert "cut: run.json cannot be read" in said(capsys)
    assert not (out.parent / "wandb").exists()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("method", "'method' is no condition; write KEY=VALUE"),
        ("method=", "'method=' is no condition"),
        ("metod=knn", "unknown key of --where 'metod'; did you mean 'method'?"),
        ("method=kn", "unknown method among the finished runs 'kn'; did you mean 'knn'?"),
        ("role=validation", "unknown role among the finished runs 'validation'; known: test"),
    ],
)
def test_conditions_that_hold_of_nothing(
    where: str, message: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "wandb", str(out), "--where", where]) == 2
    assert message in said(capsys)


def test_conditions(tmp_path: Path) -> None:
    for method, role, seed in (("knn", "test", 0), ("knn", "test", 1), ("reco", "test", 0), ("reco", "validation", 0)):
        store(tmp_path, [1, 0, 1, 0], LABELS, method__name=method, benchmark__role=role, seed=seed, memory=None)
    found = find_runs(tmp_path, strict=True)

    def chosen(*where: str) -> list[tuple[str, str, int]]:
        return sorted((one.method, one.role, one.seed) for one in select(found, where))

    assert chosen() == [("knn", "test", 0), ("knn", "test", 1), ("reco", "test", 0)]
    assert chosen("method=knn,reco", "seed=0") == [("knn", "test", 0), ("reco", "test", 0)]
    assert chosen("role=validation") == [("reco", "validation", 0)]
    assert chosen("memory=none", "encoder=lite", "seed=1") == [("knn", "test", 1)]
