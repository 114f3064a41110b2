"""docs/add-a-method.md from an empty folder, as typed, and the method that it shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs import ROOT, blocks, run_page
from tests.virtual import PIP, borrowing
from trireme.files import home

PAGE = ROOT / "docs" / "add-a-method.md"


@pytest.mark.slow
def test_the_page_works_as_typed(world: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """new, pip install, check, run, leaderboard. What is installed stays in an environment of the test."""
    python = borrowing(tmp_path / "environment")
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PATH", f"{python.parent}{os.pathsep}{os.environ['PATH']}")
    for name, value in PIP.items():
        monkeypatch.setenv(name, value)
    said = run_page(PAGE, tmp_path / "page", home())
    assert "method nearest-mean (trireme-nearest-mean 0.1.0): 16 passed, 0 broken, 1 skipped" in said
    assert "method NearestMean (trireme_nearest_mean.method:NearestMean): 16 passed, 0 broken, 1 skipped" in said
    assert "nearest-mean of trireme-nearest-mean 0.1.0 on world/tiny" in said
    assert "│ nearest-mean(power=0.5)" in said, "the leaderboard has its row"
    kept = subprocess.run([python, "-m", "trireme", "ls", "methods"], capture_output=True, text=True, cwd=tmp_path)
    assert "default configuration [trireme-nearest-mean 0.1.0]" in kept.stdout


def test_the_smallest_method_is_small() -> None:
    """At most thirty lines, as issue 7 asks; the page's test above runs this very block through `trireme check`."""
    [block] = [block for block in blocks(PAGE) if block.text.startswith("# nearest-mean/")]
    assert len(block.text.splitlines()) <= 30
