"""`make docs`: the reference of every module (`tests/reference.py`)."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.reference import build, modules
from tests.test_house import ROOT

PAGES = {
    "trireme.types": ("Sample", "Pair", "PairSet", "Benchmark", "Predictions", "Supervision"),
    "trireme.methods.base": ("Method", "Context", "Validation", "CrossModal"),
    "trireme.retrieval.memory": ("Memory",),
    "trireme.retrieval.encoders.base": ("Encoder", "EncoderConfig"),
    "trireme.benchmarks.metrics": ("top1", "score"),
    "trireme.results.records": ("RunRecord", "find_runs"),
}
"""A module of each package, and what an author looks for there."""


def test_every_module_is_listed_under_its_import_name() -> None:
    found = list(modules())
    assert set(PAGES) <= set(found)
    assert len(found) == len(set(found))
    for module in ("retrieval.index", "methods.reco", "benchmarks.metrics", "results.schema", "cli", "workbench"):
        assert f"trireme.{module}" in found
        assert find_spec(f"trireme.{module}") is not None
    assert "trireme.benchmarks.custom.webdataset" in found


def test_make_docs_builds_them() -> None:
    assert "-m tests.reference $(REFERENCE)" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_pages_of_the_contracts_are_built_without_warnings(tmp_path: Path) -> None:
    pytest.importorskip("pdoc")
    assert build(list(PAGES), tmp_path) == []
    for module, names in PAGES.items():
        page = (tmp_path / module.replace(".", "/")).with_suffix(".html").read_text(encoding="utf-8")
        assert [name for name in names if f'id="{name}"' not in page] == []
    assert "inner product" in (tmp_path / "trireme/retrieval/memory.html").read_text(encoding="utf-8")
    front = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert all((tmp_path / link).is_file() for link in re.findall(r'href="([^"]+)"', front))
    assert front.count("href=") == len(PAGES)
