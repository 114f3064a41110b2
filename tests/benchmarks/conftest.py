"""What tests of published data sets share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root of its own, not there yet."""
    folder = tmp_path / "data"
    monkeypatch.setenv("TRIREME_DATA", str(folder))
    return folder
