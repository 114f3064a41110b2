"""The real frozen models and real pictures of the world, from the default home, where a second run costs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from trireme.benchmarks.world import open_benchmark, open_pairs
from trireme.retrieval.encoders.lite import LiteEncoder
from trireme.retrieval.encoders.lite.checkpoint import committed_weights
from trireme.types import Benchmark, PairSet, Role, Sample


@pytest.fixture(autouse=True)
def _alone() -> None:
    """Replaces the fixture of the folder above: fetching 100 MB of models for every test would take minutes."""


@pytest.fixture(scope="session")
def encoder() -> LiteEncoder:
    return LiteEncoder(LiteEncoder.Config(device="cpu"))


@pytest.fixture(scope="session")
def validation(world: None) -> Benchmark:
    return open_benchmark("world/validation")


@pytest.fixture(scope="session")
def samples(validation: Benchmark) -> list[Sample]:
    """Every fourth validation picture, 134 of 536."""
    return list(validation.samples(Role.VALIDATION))[::4]


@pytest.fixture(scope="session")
def train_common(world: None) -> PairSet:
    return open_pairs("world/train-common")


@pytest.fixture(scope="session")
def few(world: None) -> PairSet:
    """Training-role pictures of thirty classes of animals, so that a training run takes seconds."""
    return open_pairs("world/tiny-train")


@pytest.fixture(scope="session")
def few_validation(world: None) -> Benchmark:
    return open_benchmark("world/tiny-validation")


@pytest.fixture
def weights_copy(tmp_path: Path) -> Path:
    copy = tmp_path / "lite.safetensors"
    copy.write_bytes(committed_weights().read_bytes())
    return copy
