"""Preparing the world: determinism, kill -9 in the middle, damage, two processes. Real packages, real drawing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trireme.benchmarks.world import drawing, open_benchmark, open_pairs, status
from trireme.benchmarks.world.families import FAMILIES, PACKAGES
from trireme.benchmarks.world.prepare import prepare, read_manifest, root
from trireme.errors import DataError
from trireme.files import home
from trireme.packages import npm_path

pytestmark = [pytest.mark.usefixtures("world"), pytest.mark.slow]

PREPARE = [sys.executable, "-c", "from trireme.benchmarks.world.prepare import prepare; prepare()"]


@pytest.fixture(scope="module")
def packages_of_default_home() -> Path:
    return home() / "packages"


@pytest.fixture(scope="module")
def second_home(tmp_path_factory: pytest.TempPathFactory, packages_of_default_home: Path) -> Path:
    """A home whose preparation was killed twice, once while drawing and once later, and then went to its end."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "packages").mkdir()
    for package in PACKAGES:
        name = npm_path(package.name, package.version).name
        source = packages_of_default_home / name
        if source.exists():  # a finished world needs none; what is not here is fetched
            shutil.copyfile(source, folder / "packages" / name)
    environment = {**os.environ, "TRIREME_HOME": str(folder)}
    art = folder / "data" / "world" / "art"
    for families in (1, 5):
        _kill_when(environment, lambda families=families: len(list(art.glob("[a-z]*"))) >= families)
        assert not (folder / "data" / "world" / "1.0").exists()
    drawn = {path: path.stat().st_mtime_ns for path in art.glob("[a-z]*/pictures.json")}
    subprocess.run(PREPARE, env=environment, check=True, capture_output=True, timeout=600)
    assert len(drawn) >= 5
    assert {path: path.stat().st_mtime_ns for path in drawn} == drawn  # what was whole was not drawn again
    return folder


def _kill_when(environment: dict[str, str], reached: object) -> None:
    assert callable(reached)
    process = subprocess.Popen(PREPARE, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not reached():
        assert process.poll() is None, "the preparation ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.fixture
def inside(second_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIREME_HOME", str(second_home))
    return second_home


def _contents() -> dict[str, object]:
    manifest = read_manifest()
    assert manifest is not None
    bench = open_benchmark("world/all")
    return {"manifest": manifest, "bench": bench.fingerprint(), "memory": open_pairs("world/memory").fingerprint}


def test_killed_preparation_ends_equal_to_an_uninterrupted_one(
    second_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _contents()  # the default home's world
    monkeypatch.setenv("TRIREME_HOME", str(second_home))
    found = _contents()
    assert found == expected
    assert Path(open_benchmark("world/all").samples()[0].image.path).is_relative_to(second_home)
    assert not list((second_home / "data" / "world" / "art").glob(".*"))  # no unfinished folder is left


def test_second_call_does_nothing_and_is_quick(inside: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root().rglob("*") if path.suffix != ".lock"}
    start = time.process_time()
    prepare()
    assert time.process_time() - start < 1.0  # it only checks; CPU seconds, as the machine may be busy
    assert {path: path.stat().st_mtime_ns for path in root().rglob("*") if path.suffix != ".lock"} == before
    assert {row["state"] for row in status()} == {"present"}


@pytest.mark.parametrize("harm", ["lost", "cut", "list"])
def test_damaged_family_is_drawn_again_alone(inside: Path, harm: str) -> None:
    before = read_manifest()
    folder = root() / "art" / "streamline-emojis"
    others = {path: path.stat().st_ino for path in folder.parent.iterdir() if path != folder}
    picture = next(iter(sorted(folder.glob("*.png"))))
    if harm == "lost":
        picture.unlink()
    elif harm == "cut":
        picture.write_bytes(picture.read_bytes()[:-10])
    else:
        (folder / "pictures.json").write_text('{"stamp": ')
    rows = {row["set"]: row for row in status()}
    assert rows["world art streamline-emojis"]["state"] == "wrong"
    assert rows["world art streamline-emojis"]["next"] == "trireme data prepare world"
    assert prepare() == before
    assert drawing.state(folder, deep=True) == "present"
    assert others == {path: path.stat().st_ino for path in others}


def test_verify_finds_a_changed_byte(inside: Path) -> None:
    folder = root() / "art" / "streamline-emojis"
    picture = next(iter(sorted(folder.glob("*.png"))))
    whole = picture.read_bytes()
    picture.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
    prepare(verify=True)
    assert picture.read_bytes() == whole


def test_the_command_draws_a_damaged_picture_again_where_it_is_told_to_verify(tmp_path: Path) -> None:
    """On hard links to the default home's world; a picture of the same size is looked into with --verify alone."""
    for part in ("data", "packages"):
        if (home() / part).exists():
            shutil.copytree(
                home() / part, tmp_path / part, copy_function=os.link, ignore=shutil.ignore_patterns("*.lock")
            )
    art = tmp_path / "data" / "world" / "art"
    picture = next(iter(sorted((art / "emojione-v1").glob("*.png"))))
    others = {path: path.stat().st_ino for path in art.rglob("*.png") if path.parent.name != "emojione-v1"}
    whole = picture.read_bytes()
    damaged = whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:]
    picture.unlink()  # else the default home's own picture would be written
    picture.write_bytes(damaged)

    def prepared(*options: str) -> str:
        command = [sys.executable, "-m", "trireme", "data", "prepare", "world", *options]
        environment = {**os.environ, "TRIREME_HOME": str(tmp_path)}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stderr

    assert "is ready in" in prepared()
    assert picture.read_bytes() == damaged
    assert "is ready in" in prepared("--verify")
    assert picture.read_bytes() == whole
    assert {path: path.stat().st_ino for path in others} == others, "no other family is drawn again"


def test_damaged_index_is_made_again(inside: Path) -> None:
    before = _contents()
    index, manifest = root() / "1.0" / "index.parquet", root() / "1.0" / "manifest.json"
    index.write_bytes(index.read_bytes()[:1000])
    with pytest.raises(DataError, match="damaged or of another version; run: trireme data prepare world"):
        open_benchmark("world/all")
    manifest.write_text(manifest.read_text()[:100])
    with pytest.raises(DataError, match="damaged or of another version; run: trireme data prepare world"):
        open_pairs("world/memory")
    prepare()
    assert _contents() == before


def test_damaged_package_is_fetched_again_when_needed(inside: Path) -> None:
    package = next(family.package for family in FAMILIES if family.name == "streamline-emojis")
    path = npm_path(package.name, package.version)
    path.write_bytes(path.read_bytes()[:-1000])
    shutil.rmtree(root() / "art" / "streamline-emojis")
    states = {row["set"]: row["state"] for row in status()}
    assert states[f"world package {package.name} {package.version}"] == "wrong"
    assert states["world art streamline-emojis"] == "missing"
    before = read_manifest()
    assert prepare() == before


def test_two_processes_prepare_one_world(inside: Path) -> None:
    before = _contents()
    shutil.rmtree(root() / "1.0")
    running = [subprocess.Popen(PREPARE, stderr=subprocess.PIPE) for _ in range(2)]
    for process in running:
        _, said = process.communicate(timeout=600)
        assert process.returncode == 0, said
    assert _contents() == before


def test_manifest_records_where_everything_comes_from(inside: Path) -> None:
    manifest = json.loads((root() / "1.0" / "manifest.json").read_text())
    assert set(manifest["families"]) == {family.name for family in FAMILIES}
    for row in manifest["families"].values():
        assert row["licence"]
        assert row["package"].startswith("@iconify-json/")
        assert 0 < row["kept"] <= row["drawn"]
    assert str(inside) not in json.dumps(manifest)  # a world can be moved
