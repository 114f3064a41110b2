"""Fixtures that several folders of tests need. The world lives in the default home: a second run costs nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no fault of the code, so nothing is timed. CI draws the same examples every time: what fails there
# fails on a developer's machine too (HYPOTHESIS_PROFILE=ci), and who runs the tests by hand searches further.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

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
