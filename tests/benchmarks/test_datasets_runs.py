"""Every published classification set through the whole path: `trireme run` on its official layout, all five methods.

The pictures are small and made here, so scores mean nothing; what is checked is who is asked, about what, over what.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import trireme.plugins
from tests.benchmarks.layouts import LAYOUTS
from tests.benchmarks.test_datasets_faults import many_pets
from tests.end_to_end.conftest import Place
from tests.end_to_end.test_rar import Ranker, world_place
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.benchmarks.datasets.spec import TEST, TRAIN, VALIDATION
from trireme.config import find
from trireme.plan import default_memory
from trireme.results import find_runs, read_predictions
from trireme.results.records import RunRecord

SHORT = """method: react
search: t2t
across_classes: true
variant: locked_text
epochs: 1
batch: 8
views: 1
lr: 1.0e-3
"""
METHODS = ("zero_shot", "knn", "reco-start", "short", "rar-list(ranker=stand-in)")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A working folder with the weights and embeddings of the default home, and a data root of its own."""
    monkeypatch.setenv("TRIREME_DATA", str(tmp_path / "data"))
    (tmp_path / "ranker").mkdir()
    Ranker(tmp_path / "ranker").installed(monkeypatch)
    (tmp_path / "configs" / "method").mkdir(parents=True)
    (tmp_path / "configs" / "method" / "short.yaml").write_text(SHORT)
    yield world_place(tmp_path)
    trireme.plugins.entries.cache_clear()


def run(place: Place, name: str, methods: str, *more: str) -> dict[str, RunRecord]:
    """{method: record}."""
    place.trireme("run", f"method={methods}", f"benchmark={name}", *more)
    return {record.method: record for record in find_runs(place.folder / "out", strict=True)}


@pytest.mark.parametrize("name", LAYOUTS)
def test_all_methods(place: Place, name: str) -> None:
    written = LAYOUTS[name](place.folder / "data")
    ranker = "method.rar-list.ranker=stand-in"
    with PUBLISHED.replaced(written.spec(name)):
        records = run(place, name, "zero_shot,knn,reco-start,short,rar-list", ranker)
    assert set(records) == set(METHODS)
    for method, record in records.items():
        assert record.benchmark == name
        assert record.data["samples"] == {"asked": 9, "done": 9, "failed": 0, "failures": []}
        assert [one for one in record.data["metrics"] if not one.startswith("hit@")] == list(PUBLISHED[name].metrics)
        table = read_predictions(record)
        assert table["sample_id"].to_pylist() == sorted(written.ids[TEST])
        if method == "zero_shot":
            assert record.data["memory"] is None
        else:
            assert record.data["memory"]["name"] == name
            assert record.data["memory"]["size"] == len(written.ids[TRAIN])
    retrieved = read_predictions(records["knn"])["retrieved"].to_pylist()
    assert {one for row in retrieved for one in row} <= set(written.ids[TRAIN])
    selected = records["reco-start"].data["validation"]
    assert (selected["name"] if selected else None) == (name if VALIDATION in written.ids else None)


def test_mean_per_class_where_classes_differ_in_size(place: Place) -> None:
    """Pets with 123 test pictures of one class and 3 of each other: the mean of the classes' own top1, by hand."""
    spec = many_pets(place.folder / "data")
    with PUBLISHED.replaced(spec):
        record = run(place, "pets", "knn")["knn"]
    table = read_predictions(record)
    labels, right = table["label"].to_numpy(), table["top1"].to_numpy()
    by_class = [float(right[labels == label].mean()) for label in range(3)]
    scores = {row["metric"]: row["score"] for row in record.scores}
    assert scores["mean_per_class"] == pytest.approx(100 * np.mean(by_class))
    assert scores["top1"] == pytest.approx(100 * right.mean())
    assert len({*by_class}) > 1, "equal classes would not tell the two metrics apart"


def test_a_missing_picture_is_counted(place: Place) -> None:
    """One of 129, and an empty one in a set of 240: each under 1 %, asked and failed, never a wrong answer."""
    spec = many_pets(place.folder / "data", pictures=231)
    pictures = place.folder / "data" / "oxford-iiit-pet" / "images"
    (pictures / "Abyssinian_1003.jpg").unlink()
    (pictures / "Abyssinian_1005.jpg").write_bytes(b"")
    with PUBLISHED.replaced(spec):
        record = run(place, "pets", "knn")["knn"]
    samples = record.data["samples"]
    assert (samples["asked"], samples["done"], samples["failed"]) == (240, 238, 2)
    assert [one["id"] for one in samples["failures"]] == ["Abyssinian_1003", "Abyssinian_1005"]


def test_the_suite_runs_over_the_sets_own_memories(place: Place) -> None:
    """Three sets of the suite, its methods, no memory named: each is compared over its own training pictures."""
    names = ("cars", "cub", "food101")
    suite = find("suite", "fine_grained").fields
    assert set(suite["benchmarks"]) == set(LAYOUTS)
    specs = [LAYOUTS[name](place.folder / "data").spec(name) for name in names]
    with PUBLISHED.replaced(*specs):
        place.trireme("run", "suite=fine_grained", f"benchmark={','.join(names)}")
        again = place.trireme("run", "suite=fine_grained", f"benchmark={','.join(names)}")
    assert "0 runs computed, 12 already there" in again.stderr
    found = find_runs(place.folder / "out", strict=True)
    assert {(record.benchmark, record.method) for record in found} == {
        (name, method) for name in names for method in suite["methods"]
    }
    used = {(one.benchmark, one.data["memory"]["name"]) for one in found if one.data["memory"]}
    assert used == {(name, name) for name in names}


def test_a_set_that_is_not_here_fails_alone(place: Place) -> None:
    written = LAYOUTS["cub"](place.folder / "data")
    with PUBLISHED.replaced(written.spec("cub")):
        done = place.trireme("run", "method=zero_shot", "benchmark=cub,dogs", code=1)
    assert "data set 'dogs' is missing" in done.stderr
    assert "1 runs computed" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_training_picture_that_is_a_test_picture_is_kept_out(place: Place) -> None:
    """The same bytes in both splits: the memory is built without them, and says how many."""
    root = place.folder / "data"
    written = LAYOUTS["food101"](root)
    pictures = root / "food-101" / "images" / "apple_pie"
    (pictures / "0000000.jpg").write_bytes((pictures / "1000000.jpg").read_bytes())
    with PUBLISHED.replaced(written.spec("food101")):
        record = run(place, "food101", "knn")["knn"]
    assert record.data["memory"]["size"] == len(written.ids[TRAIN]) - 1


def test_default_memories() -> None:
    assert default_memory("world/food") == "world"
    assert default_memory("world/tiny") == "world/tiny"
    assert default_memory("cub") == "cub"
    assert default_memory("folder:photos") is None
