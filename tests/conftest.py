"""Fixtures that more than one folder of tests needs. The world lives in the default home, so a second run costs nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for a hub


@pytest.fixture(scope="session")
def world() -> None:
    """The default world, prepared once per machine (downloads from npm the first time)."""
    from trireme.benchmarks.world.prepare import prepare

    prepare()


@pytest.fixture()
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty $TRIREME_HOME, so that a test shares no cache with anything else."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("TRIREME_HOME", str(folder))
    yield folder
