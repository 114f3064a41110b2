"""Run folders under processes that are killed, that meet, and that make a record again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from trireme.results.records import find_runs, read_predictions, read_run, settle, write_run

from .synthetic import content, record, table

WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from synthetic import record, table
from trireme.results.records import write_run
n = 200_000
predictions = table([i % 2 for i in range(n)], [i % 50 for i in range(n)])
content = record(predictions, name="big", run="1")
print("ready", flush=True)
write_run(Path(sys.argv[1]), content, predictions)
"""


def test_killed_writer_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    """kill -9 as soon as the temporary folder shows; then the same writer again, which finishes."""
    command = [sys.executable, "-c", WRITER, str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("runs/.big.*.part")):
            assert writer.poll() is None, "the writer ended before it could be killed"
            assert time.monotonic() < deadline
        os.kill(writer.pid, signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
    assert list(tmp_path.glob("runs/.big.*.part")), (
        "it was killed in the middle, so its temporary folder is still there"
    )
    assert find_runs(tmp_path, strict=True) == []
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (found,) = find_runs(tmp_path, strict=True)
    assert read_predictions(found, ["top1"]).num_rows == 200_000


def test_two_writers_of_one_run_agree(tmp_path: Path) -> None:
    """Four processes store the same run at once: one folder remains, whole, and nobody fails."""
    code = WRITER.replace("200_000", "500")
    command = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
    writers = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    (found,) = find_runs(tmp_path, strict=True)
    assert read_predictions(found, ["top1"]).num_rows == 500
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["big"]


def better(tmp_path: Path) -> tuple[Path, bytes, dict[str, Any], pa.Table]:
    """A stored record, its bytes, and another one of the same run that has no failed sample."""
    folder = write_run(tmp_path, *content())
    predictions = table([1, 0, 1, 1], [0, 1, 2, 3])
    written = record(predictions)
    assert written["name"] == folder.name
    return folder, (folder / "run.json").read_bytes(), written, predictions


def test_a_record_can_stand_in_for_an_older_one(tmp_path: Path) -> None:
    folder, before, written, predictions = better(tmp_path)
    write_run(tmp_path, written, predictions)
    assert (folder / "run.json").read_bytes() == before, "not without being told"
    assert write_run(tmp_path, written, predictions, replace=True) == folder
    assert read_run(folder).data["samples"]["failed"] == 0
    assert read_predictions(read_run(folder)).num_rows == 4
    assert list((tmp_path / "runs").iterdir()) == [folder]


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_replacement_that_is_killed_loses_no_record(
    renames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `renames` of the folders that a kill lets through: the old record, whole, or the new one after `settle`."""
    folder, before, written, predictions = better(tmp_path)
    rename, remove, count = Path.rename, shutil.rmtree, iter(range(9))

    def killed(self: Path, target: Path) -> Path:
        if self.suffix == ".part":  # the new record, to where it waits
            return rename(self, target)
        if next(count) == renames:
            raise KeyboardInterrupt
        return rename(self, target)

    def killed_at_the_old_one(path: Path, ignore_errors: bool = False) -> None:
        if path.name.endswith(".old") and path.exists():
            raise KeyboardInterrupt
        remove(path, ignore_errors=ignore_errors)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        patch.setattr(shutil, "rmtree", killed_at_the_old_one)
        with pytest.raises(KeyboardInterrupt):
            write_run(tmp_path, written, predictions, replace=True)
    settle(tmp_path, written["run"])
    [found] = find_runs(tmp_path, strict=True)
    assert found.data["samples"]["failed"] == (1 if renames == 0 else 0)
    if renames == 0:
        assert (folder / "run.json").read_bytes() == before
    write_run(tmp_path, written, predictions, replace=True)
    assert list((tmp_path / "runs").iterdir()) == [folder], "what was left is gone"
    assert read_run(folder).data["samples"]["failed"] == 0
