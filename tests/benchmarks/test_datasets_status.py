"""`trireme data status` and `prepare` of published sets: quick, exact about what to bring, honest exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tests.benchmarks.layouts import LAYOUTS, PER_CLASS
from trireme.benchmarks.datasets.catalogue import PUBLISHED, Catalogue
from trireme.benchmarks.datasets.places import data_root, look
from trireme.cli import main
from trireme.commands.data import status
from trireme.errors import DataError, UsageError

pytestmark = pytest.mark.usefixtures("own_home")


def test_the_root(own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIREME_DATA", raising=False)
    assert data_root() == own_home / "data"
    monkeypatch.setenv("TRIREME_DATA", str(tmp_path / "elsewhere"))
    assert data_root() == tmp_path / "elsewhere"


def test_every_set_has_a_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Present, wrong with the file that is missing, and missing with where to get it; the code is that of the world."""
    LAYOUTS["pets"](root)
    LAYOUTS["cub"](root)
    (root / "CUB_200_2011" / "classes.txt").unlink()
    assert main(["data", "status"]) == 1  # this home has no world
    lines = {line.split()[0]: line.split(None, 2) for line in capsys.readouterr().out.splitlines()}
    assert set(PUBLISHED.specs()) <= set(lines)
    assert lines["pets"][1:] == ["present"]
    assert lines["cub"][1] == "wrong"
    assert "CUB_200_2011 lacks classes.txt" in lines["cub"][2]
    assert lines["food101"][1] == "missing"
    assert "food-101.tar.gz from the page (https://data.vision.ee.ethz.ch" in lines["food101"][2]


@pytest.mark.parametrize("name", LAYOUTS)
def test_one_set_is_counted(root: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(name) == 1
    out = capsys.readouterr().out
    spec = PUBLISHED[name]
    assert out.startswith(f"{name}  missing: ")
    for told in (spec.page, spec.licence, str(spec.classes.number), *spec.archives, *spec.layouts[0].folders):
        assert told in out
    written = LAYOUTS[name](root)
    assert status(name) == 1, "three classes are not the published set"
    assert f"{name}  wrong: " in capsys.readouterr().out
    with PUBLISHED.replaced(written.spec(name)):
        assert status(name) == 0
    assert capsys.readouterr().out.startswith(f"{name}  present: {root}")


def test_training_pictures_may_be_elsewhere(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cars without cars_train is a benchmark, and its status says so."""
    written = LAYOUTS["cars"](root)
    (root / "stanford_cars" / "cars_train").rename(root / "aside")
    with PUBLISHED.replaced(written.spec("cars")):
        assert status("cars") == 0
    assert "present" in (out := capsys.readouterr().out)
    assert "without its training pictures: cars_train is missing" in out


def test_listing_fifty_sets_is_quick(root: Path) -> None:
    """Under half a second for the look at 50 sets that are here; the other cost of the command is Python's start."""
    for write in LAYOUTS.values():
        write(root)
    specs = list(PUBLISHED.specs().values())
    fifty = (specs * 50)[:50]
    start = time.perf_counter()
    assert {look(spec)[1].state for spec in fifty} >= {"present"}
    assert time.perf_counter() - start < 0.5


def test_listing_imports_nothing_heavy(root: Path, own_home: Path) -> None:
    heavy = ("torch", "open_clip", "scipy", "pandas", "timm", "transformers")
    code = (
        "import sys; from trireme.commands.data import status; status();"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    environment = {**os.environ, "TRIREME_HOME": str(own_home), "TRIREME_DATA": str(root)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, text=True, capture_output=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_unknown_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "status", "food11"]) == 2
    assert "unknown data set 'food11'; did you mean 'food101'?" in capsys.readouterr().err
    assert main(["data", "prepare", "food11"]) == 2


def test_prepare_downloads_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "prepare", "cub"]) == 1
    told = capsys.readouterr()
    assert "CUB_200_2011.tgz" in told.out
    assert "Trireme downloads no published set" in told.err
    assert not root.exists()


def test_prepare_from_the_official_archives(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The archives of Pets as published: images/ in one, annotations/ in the other."""
    made = tmp_path / "made"
    written = LAYOUTS["pets"](made)
    archives = []
    for part in ("images", "annotations"):
        archives.append(tmp_path / f"{part}.tar.gz")
        with tarfile.open(archives[-1], "w:gz") as file:
            file.add(made / "oxford-iiit-pet" / part, part)
    with PUBLISHED.replaced(written.spec("pets")):
        assert main(["data", "prepare", "pets", f"from={archives[0]}"]) == 1, "one of two is not all"
        assert "lacks annotations/trainval.txt" in capsys.readouterr().out
        assert main(["data", "prepare", "pets", f"from={archives[1]}"]) == 0
        assert main(["data", "prepare", "pets", f"from={archives[1]}"]) == 1
    assert "is there already" in capsys.readouterr().err
    assert len(list((root / "oxford-iiit-pet" / "images").iterdir())) == 2 * 3 * PER_CLASS


def test_prepare_takes_official_names_only(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "prepare", "pets", f"from={tmp_path / 'image.tar.gz'}"]) == 2
    assert "unknown archive of pets 'image.tar.gz'; did you mean 'images.tar.gz'?" in capsys.readouterr().err
    assert main(["data", "prepare", "pets", "form=images.tar.gz"]) == 2
    assert main(["data", "prepare", "world", "from=images.tar.gz"]) == 2


def test_two_descriptions_of_one_name() -> None:
    with pytest.raises(DataError, match="'aircraft' is described twice"):
        Catalogue(("trireme.benchmarks.datasets.fine_grained",) * 2).specs()
    with pytest.raises(UsageError, match="did you mean 'pets'"):
        PUBLISHED["pet"]
