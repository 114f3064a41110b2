"""What goes wrong in the middle: killed processes, damaged pictures, full disks, two processes on one home."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.end_to_end.conftest import Place
from trireme.files import home


def truncate(path: Path) -> None:
    """The first half of a picture."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_killed_between_batches_and_resumed(place: Place, comparison: tuple[str, ...], tmp_path: Path) -> None:
    whole = Place(tmp_path / "whole")
    whole.folder.mkdir()
    whole.trireme(*comparison)
    batches = place.folder / "out" / ".partial"

    def some_batches_are_stored() -> bool:
        return sum(1 for _ in batches.rglob("0*.parquet")) >= 5

    place.killed(some_batches_are_stored, *comparison, "batch_size=1")
    assert not list((place.folder / "out").glob("runs/[!.]*")), "nothing looks finished"
    stored = sum(1 for _ in batches.rglob("0*.parquet"))
    resumed = place.trireme(*comparison)
    assert f"going on after {stored} of 120 samples" in resumed.stderr
    assert place.table() == whole.table()
    assert not list(batches.iterdir()), "batches and locks of finished runs are gone"


def test_a_resumed_run_states_the_recall_of_all_its_samples(place: Place, comparison: tuple[str, ...]) -> None:
    """On a graph so poor that it misses neighbours; by hand from the stored column of each sample."""
    graph = ("memory.index.kind=hnsw", "memory.index.m=2", "memory.index.ef_construction=2", "memory.index.ef_search=1")
    search = ("method.knn.depth=3", "method.knn.recorded=3")
    arguments = [part.replace("zero_shot,", "") for part in comparison]
    place.trireme(*arguments, *graph, *search, "out=whole")
    batches = place.folder / "out" / ".partial"
    place.killed(lambda: len(list(batches.rglob("0*.parquet"))) >= 5, *arguments, *graph, *search, "batch_size=1")
    assert "going on after" in place.trireme(*arguments, *graph, *search).stderr
    [whole], [resumed] = place.records("whole").values(), place.records().values()
    recall = resumed["memory"]["index_recall"]  # type: ignore[index]
    assert whole["memory"]["index_recall"] == recall  # type: ignore[index]
    [table] = (place.folder / "out" / "runs").glob("*/predictions.parquet")
    assert recall == pytest.approx(np.mean(pq.read_table(table)["index_recall"].to_pylist()))
    assert 0 < recall < 1
    place.trireme(*arguments, "out=exact")
    [exact] = place.records("exact").values()
    assert exact["memory"]["index_recall"] is None  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["embeddings", "memories", "out"])
def test_killed_at_any_stage_and_resumed(part: str, place: Place, comparison: tuple[str, ...], tmp_path: Path) -> None:
    """Killed as soon as the first file of a stage appears, in whatever state it is."""
    whole = Place(tmp_path / "whole")
    whole.folder.mkdir()
    whole.trireme(*comparison)
    folder = place.folder / "out" if part == "out" else place.home / part
    place.killed(lambda: folder.exists() and any(folder.iterdir()), *comparison)
    place.trireme(*comparison)
    assert place.table() == whole.table()


def test_one_corrupt_picture_is_named_and_counted(place: Place, comparison: tuple[str, ...], pictures: Path) -> None:
    """1 of 120 is under 1 %."""
    truncate(pictures / "test" / "red square" / "007.png")
    done = place.trireme(*comparison)
    assert "sample red square/007.png: " in done.stderr
    for record in place.records().values():
        samples = record["samples"]
        assert (samples["asked"], samples["done"], samples["failed"]) == (120, 119, 1)  # type: ignore[index]
        assert samples["failures"][0]["id"] == "red square/007.png"  # type: ignore[index]
        assert {score["n"] for score in record["scores"]} == {119}  # type: ignore[union-attr, attr-defined]


def test_more_than_one_percent_fails_the_run_and_not_the_others(
    place: Place, comparison: tuple[str, ...], pictures: Path
) -> None:
    """2 of 120 are 1.7 %. A second benchmark of the same command is still computed."""
    from tests.end_to_end.conftest import draw

    sound = draw(place.folder / "sound", 3, seed=3)
    for number in ("003", "004"):
        truncate(pictures / "test" / "blue square" / f"{number}.png")
    arguments = [f"{part},folder:{sound}" if part.startswith("benchmark=") else part for part in comparison]
    done = place.trireme(*arguments, code=1)
    reasons = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert len(reasons) == 2, "each run tells its reason once"
    assert all("2 of 120 test pictures" in reason and "more than 1 %" in reason for reason in reasons)
    assert "2 runs computed, 0 already there, 2 failed" in done.stderr.splitlines()[-1]
    stored = [json.loads(path.read_text()) for path in (place.folder / "out/runs").glob("*/run.json")]
    assert {record["benchmark"]["name"] for record in stored} == {f"folder:{sound}"}
    for number in ("003", "004"):
        (pictures / "test" / "blue square" / f"{number}.png").unlink()
    assert "2 runs computed, 2 already there, 0 failed" in place.trireme(*arguments).stderr


def test_what_cannot_be_planned_is_told_once(place: Place, comparison: tuple[str, ...]) -> None:
    """Two methods and two seeds on a folder that is not there: one line, and the other benchmark is computed."""
    arguments = [f"{part},folder:nowhere" if part.startswith("benchmark=") else part for part in comparison]
    done = place.trireme(*arguments, "seed=0,1", code=1)
    [told] = [line for line in done.stderr.splitlines() if "nowhere" in line]
    assert told.startswith("failed: zero_shot on folder:nowhere, open_clip and 3 more: there is no folder ")
    assert "4 runs computed, 0 already there, 4 failed" in done.stderr.splitlines()[-1]


def test_two_processes_at_once(place: Place, comparison: tuple[str, ...], tmp_path: Path) -> None:
    """On one home and one output folder: both succeed, every run exists once, the table is that of one process."""
    whole = Place(tmp_path / "whole")
    whole.folder.mkdir()
    whole.trireme(*comparison)
    both = [place.start(*comparison, "batch_size=5") for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, out + err
    assert place.table() == whole.table()
    assert len(list((place.folder / "out" / "runs").glob("[!.]*"))) == 2
    assert not list((place.folder / "out" / ".partial").iterdir()), "neither leaves a lock"


@pytest.mark.parametrize("limit", [400, 24_000, 200_000])
def test_a_full_disk_is_one_clear_line(limit: int, place: Place, comparison: tuple[str, ...]) -> None:
    """No file may grow beyond the limit, which the system reports as it reports a full disk, wherever it hits."""
    script = (
        f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {resource.RLIM_INFINITY})); "
        "from trireme.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    environment = {"TRIREME_HOME": str(place.home), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-B", "-c", script, *comparison],
        cwd=place.folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "the disk is full" in done.stderr
    assert "free some space" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place.home / "errors").exists(), "it is no bug"
    whole = place.trireme(*comparison)
    assert ", 0 failed" in whole.stderr


def test_ctrl_c_is_one_line_and_resumable(place: Place, comparison: tuple[str, ...]) -> None:
    """Python drops an interrupt that comes inside a destructor, and this run is too short to press again: up to three
    runs are interrupted."""
    import signal
    import time

    for number in range(3):
        out = f"out={number}"
        process = place.start(*comparison, "batch_size=1", out)
        batches = place.folder / str(number) / ".partial"
        while not list(batches.rglob("0*.parquet")):
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        if process.returncode == 130:
            break
    assert process.returncode == 130
    assert err.splitlines()[-1] == "interrupted; run the same command again to go on"
    assert "Traceback" not in err
    assert "2 runs computed" in place.trireme(*comparison, out).stderr


def test_a_damaged_record_is_named_and_computed_again(place: Place, comparison: tuple[str, ...]) -> None:
    place.trireme(*comparison)
    before = place.table()
    [folder] = (place.folder / "out" / "runs").glob("knn--*")
    truncate(folder / "predictions.parquet")
    done = place.trireme(*comparison)
    assert "predictions.parquet" in done.stderr
    assert "1 runs computed, 1 already there" in done.stderr
    assert place.table() == before


def test_an_output_folder_that_is_a_file(place: Place, comparison: tuple[str, ...]) -> None:
    (place.folder / "taken").write_text("something else")
    done = place.trireme(*comparison, "out=taken", code=1)
    assert "taken" in done.stderr
    assert "choose another place with out=" in done.stderr
    assert not (place.home / "errors").exists(), "it is no bug"


def test_a_memory_of_another_encoder_is_refused(place: Place, comparison: tuple[str, ...]) -> None:
    place.trireme(*comparison)
    [memory] = [path.parent for path in (place.home / "memories").glob("*/manifest.json")]
    arguments = [f"memory=built:{memory}" if part.startswith("memory=") else part for part in comparison]
    place.trireme(*arguments, "out=built")
    assert place.table("built").replace(f"built:{memory}", "M") == place.table().replace(
        str(next(part for part in comparison if part.startswith("memory="))).removeprefix("memory="), "M"
    )
    done = place.trireme(*arguments, "encoder.image_interpolation=bilinear", "out=other", code=1)
    assert "was built by encoder open_clip:tiny-clip" in done.stderr
    assert "trireme memory build" in done.stderr
    assert set(place.records("other")) == {"zero_shot"}


def test_a_damaged_memory_says_what_to_do(place: Place, comparison: tuple[str, ...]) -> None:
    place.trireme(*comparison)
    [memory] = [path.parent for path in (place.home / "memories").glob("*/manifest.json")]
    truncate(memory / "image.npy")
    done = place.trireme(*comparison, "out=other", code=1)
    assert "image.npy does not match its checksum" in done.stderr
    assert f"rm -r {memory}" in done.stderr
    assert set(place.records("other")) == {"zero_shot"}


@pytest.mark.slow
def test_a_run_that_lacked_a_picture_is_computed_again_once_it_is_back(place: Place, model: Path, world: None) -> None:
    """The world's pictures are listed with their hashes: a missing file leaves every fingerprint as it is."""
    shutil.copytree(home() / "data", place.home / "data", copy_function=os.link)
    art, away = place.home / "data" / "world" / "art" / "noto" / "1F98A.png", place.folder / "away.png"
    art.rename(away)
    arguments = ("run", "method=zero_shot", "benchmark=world/animals", "encoder=open_clip")
    arguments += (f"encoder.model=local-dir:{model}", "encoder.device=cpu")
    place.trireme(*arguments)  # one of 214 pictures is less than 1 %
    samples = place.records()["zero_shot"]["samples"]
    assert (samples["asked"], samples["done"], samples["failed"]) == (214, 213, 1)  # type: ignore[index]
    assert samples["failures"][0]["id"] == "noto/1F98A"  # type: ignore[index]
    assert "1 already there" in place.trireme(*arguments).stderr  # still missing: nothing to do
    away.rename(art)
    assert "computing it again" in place.trireme(*arguments).stderr
    samples = place.records()["zero_shot"]["samples"]
    assert (samples["done"], samples["failed"]) == (214, 0)  # type: ignore[index]
