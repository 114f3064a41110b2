"""Every published classification set from its official layout: classes, names, splits, prompts, counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.layouts import LAYOUTS, PER_CLASS
from trireme.benchmarks.base import RowBenchmark
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.benchmarks.datasets.prompts import prompts
from trireme.benchmarks.datasets.spec import TEST, TRAIN, VALIDATION
from trireme.registry import open_benchmark, open_pairs
from trireme.types import Role

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("TRIREME_DATA", str(folder))
    return folder


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_set_in_its_official_layout(root: Path, name: str) -> None:
    written = LAYOUTS[name](root)
    with PUBLISHED.replaced(written.spec(name)):
        bench, pairs = open_benchmark(name), open_pairs(name)
    assert isinstance(bench, RowBenchmark)
    assert bench.name == pairs.name == name
    assert bench.class_names == written.names
    assert [one.id for one in bench.samples()] == list(written.ids[TEST])
    assert [one.label for one in bench.samples()] == [label for label in range(len(written.names)) for _ in range(3)]
    assert [pair.id for pair in pairs.pairs()] == list(written.ids[TRAIN])
    assert [pair.label for pair in pairs.pairs()] == [one for one in bench.class_ids for _ in range(PER_CLASS)]
    first = prompts(PUBLISHED[name].templates)[0]
    assert pairs.pairs()[0].caption == first.format(written.names[0])
    assert all(one.image.sha256 and Path(one.image.path).is_file() for one in (*bench.samples(), *pairs.pairs()))
    assert bench.templates == prompts(PUBLISHED[name].templates)
    assert bench.validation == (name if VALIDATION in written.ids else None)
    if VALIDATION in written.ids:
        assert [one.id for one in bench.samples(Role.VALIDATION)] == list(written.ids[VALIDATION])
