"""Fixtures that several folders of tests need. The world lives in the default home: a second run costs nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for a hub


@pytest.fixture(scope="session")
def world() -> None:
    """The default world, prepared once per machine (downloads from npm the first time)."""
    from trireme.benchmarks.world.prepare import prepare

    prepare()


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty $TRIREME_HOME, so that a test shares no cache with anything else."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("TRIREME_HOME", str(folder))
    return folder
