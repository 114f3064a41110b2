"""The rules of the house, as far as a machine can see them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("trireme", "retrieval", "methods", "benchmarks", "results", "configs", "tests")


def sources() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.slow
def test_lint_types_and_layers() -> None:
    """ruff, mypy --strict and import-linter are clean: one script, the same that `make lint` runs."""
    done = subprocess.run(
        ["bash", "tests/lint.sh"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_files_hold_one_idea_each() -> None:
    long = {str(path.relative_to(ROOT)): n for path in sources() if (n := len(path.read_text().splitlines())) > 400}
    assert not long, f"over 400 lines: {long}"
    assert not [path for path in sources() if path.stem in ("utils", "util", "helpers", "misc")]


def test_top_level_is_as_the_architecture_page_says() -> None:
    """The folders of its section "The house"; tests/packaging proves that only `trireme` is installed."""
    present = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    assert set(FOLDERS) <= present


def test_no_placeholder_is_left_in_the_documents() -> None:
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    assert not [path.name for path in documents if "@@" in path.read_text(encoding="utf-8")]
