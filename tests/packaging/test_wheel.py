"""A wheel built from the tree works from any folder and puts no package but `trireme` on the import path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("retrieval", "methods", "benchmarks", "results", "configs")
"""Top-level folders that are installed as `trireme.<folder>`."""


def run(command: Sequence[str | Path], cwd: Path, **variables: str) -> str:
    """Standard output of a command that must succeed. Nothing of this process's Python settings reaches it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV", "PIP_"))}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=kept | variables, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def shipped_files() -> set[str]:
    """Every file of the package folders, by its name in the wheel. Hidden files and byte code do not count."""
    found = set()
    for folder in ("trireme", *FOLDERS):
        package = "trireme" if folder == "trireme" else f"trireme/{folder}"
        for path in (ROOT / folder).rglob("*"):
            inner = path.relative_to(ROOT / folder)
            if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in inner.parts):
                found.add(f"{package}/{inner.as_posix()}")
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that neither an old `build` folder nor this build is left in the tree."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    for folder in ("trireme", *FOLDERS):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tree / "dist", tree], tree)
    (built,) = (tree / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds this wheel, and borrows the dependencies that are installed here.

    Borrowed is the path alone: a `.pth` file inside a borrowed folder is not read, so the editable install of the tree
    is not seen. It is added after the installation, which therefore finds an empty environment.
    """
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    run([sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel], folder)
    borrowed = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    (site_packages(python) / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    return python


def site_packages(python: Path) -> Path:
    (folder,) = (python.parents[1] / "lib").glob("python*/site-packages")
    return folder


def test_the_wheel_holds_trireme_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist()}
    (information,) = top - {"trireme"}
    assert information.startswith("trireme_bench-")
    assert information.endswith(".dist-info")


def test_the_wheel_holds_every_file_of_the_tree(wheel: Path) -> None:
    """Code, YAML configurations, pinned data, templates, the weights of `lite`; and nothing that is not in the tree."""
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if name.startswith("trireme/")}
    assert inside == shipped_files()
    for kind in ("encoder", "memory", "method", "suite"):
        assert any(name.startswith(f"trireme/configs/{kind}/") and name.endswith(".yaml") for name in inside), kind
    assert any(name.startswith("trireme/retrieval/encoders/lite/weights/") for name in inside)
    assert "trireme/py.typed" in inside


def test_installing_adds_only_trireme(installed: Path) -> None:
    added = {path.name for path in site_packages(installed).iterdir()} - {"borrowed.pth"}
    assert {name for name in added if not name.endswith(".dist-info")} == {"trireme"}
    assert len(added) == 2
    assert (installed.parent / "trireme").is_file()


def test_what_is_imported_is_the_installed_copy(installed: Path, tmp_path: Path) -> None:
    code = (
        "import importlib, importlib.util, pathlib, trireme\n"
        f"for folder in {FOLDERS}:\n"
        "    print(importlib.import_module(f'trireme.{folder}').__file__)\n"
        "    assert importlib.util.find_spec(folder) is None, folder\n"
        "print(trireme.__file__)\n"
    )
    files = run([installed, "-c", code], tmp_path).split()
    assert len(files) == len(FOLDERS) + 1
    assert all(Path(file).is_relative_to(site_packages(installed)) for file in files)


def test_every_module_can_be_imported(installed: Path, tmp_path: Path) -> None:
    """No module needs a file that only the tree has."""
    code = (
        "import importlib, pkgutil, trireme\n"
        "found = pkgutil.walk_packages(trireme.__path__, 'trireme.')\n"
        "names = [module.name for module in found if module.name != 'trireme.__main__']\n"
        "for name in names: importlib.import_module(name)\n"
        "print(len(names))\n"
    )
    assert int(run([installed, "-c", code], tmp_path)) > 30


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--help"], ["leaderboard", "run"]),
        (["ls", "methods"], ["zero_shot", "knn", "reco"]),
        (["ls", "benchmarks"], ["world/all", "world/food"]),
        (["show", "reco"], ["reco"]),
    ],
)
def test_the_command_works_from_any_folder(
    arguments: list[str], expected: list[str], installed: Path, tmp_path: Path
) -> None:
    home = str(tmp_path / "home")
    for command in ([installed.parent / "trireme"], [installed, "-m", "trireme"]):
        shown = run([*command, *arguments], tmp_path, TRIREME_HOME=home)
        assert all(word in shown for word in expected)


def test_pictures_to_leaderboard_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """The whole path on six pictures of two plain colours, with the weights that the wheel holds."""
    from PIL import Image

    for label, colour in (("red", (200, 20, 20)), ("blue", (20, 20, 200))):
        for number in range(3):
            folder = tmp_path / "pictures" / label
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32 + number, 32), colour).save(folder / f"{number}.png")
    command, home = installed.parent / "trireme", str(tmp_path / "home")
    asked = ["run", "method=zero_shot", "benchmark=folder:pictures", "encoder=lite", "out=out"]
    run([command, *asked], tmp_path, TRIREME_HOME=home)
    lines = run([command, "leaderboard", "out", "--format", "csv"], tmp_path, TRIREME_HOME=home).splitlines()
    assert lines[0] == "method,benchmark,subset,metric,score,ci_low,ci_high,n,encoder,memory,seeds,run"
    row = dict(zip(lines[0].split(","), lines[1].split(","), strict=True))
    assert (row["method"], row["n"], row["encoder"]) == ("zero_shot", "6", "lite")
