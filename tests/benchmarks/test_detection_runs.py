"""Detection through the whole path: `trireme run` on official layouts and on the world, all methods, from outside."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trireme.plugins
from tests.benchmarks.detection_fixtures import LAYOUTS, counted, lvis_layout
from tests.benchmarks.test_datasets_runs import SHORT
from tests.benchmarks.test_detection_precision import by_lvis
from tests.end_to_end.conftest import Place
from tests.end_to_end.test_rar import Ranker
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.results import find_runs, read_predictions
from trireme.results.records import RunRecord

RAR = "rar-list(ranker=stand-in)"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A working folder over the default home, which has the weights of `lite`, with a data root of its own."""
    monkeypatch.setenv("TRIREME_DATA", str(tmp_path / "data"))
    (tmp_path / "ranker").mkdir()
    Ranker(tmp_path / "ranker").installed(monkeypatch)
    (tmp_path / "configs" / "method").mkdir(parents=True)
    (tmp_path / "configs" / "method" / "short.yaml").write_text(SHORT)
    yield Place(tmp_path, shared=True)
    trireme.plugins.entries.cache_clear()


def memory(folder: Path, content: dict[str, Any], name: str) -> Path:
    """Pictures of every class in the colour that `draw` gives its boxes, in a folder called like the class."""
    for one in content["categories"]:
        shade = one["id"]
        label = str(one["id"]) if name == "v3det" else one["name"]
        (folder / label).mkdir(parents=True)
        for number in range(2):
            colour = (37 * shade % 256, 91 * shade % 256, 151 * shade % 256)
            Image.new("RGB", (40 + number, 40), colour).save(folder / label / f"{number}.png")
    return folder


def run(place: Place, *arguments: str) -> dict[str, RunRecord]:
    """{method: record}."""
    place.trireme("run", *arguments)
    return {record.method: record for record in find_runs(place.folder / "out", strict=True)}


def scores(record: RunRecord, subset: str = "all") -> dict[str, float]:
    return {row["metric"]: row["score"] for row in record.scores if row["subset"] == subset}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_all_methods(place: Place, name: str) -> None:
    """Boxes are of one colour a class, and so are the memory's pictures: the nearest picture tells most of them, but
    for those that others were drawn over."""
    content = LAYOUTS[name](place.folder / "data", pictures=12, classes=4)
    pairs = memory(place.folder / "memory", content, name)
    shown = [box for box in content["annotations"] if not box.get("iscrowd")]
    with PUBLISHED.replaced(counted(name, content)):
        records = run(
            place,
            "method=zero_shot,knn,reco-start,short,rar-list",
            "method.rar-list.ranker=stand-in",
            f"benchmark={name}",
            f"benchmark.{name}.crop=1.0",
            f"memory=folder:{pairs}",
        )
    assert {record.benchmark for record in records.values()} == {f"{name}(crop=1.0)"}
    assert set(records) == {"zero_shot", "knn", "reco-start", "short", RAR}
    for record in records.values():
        assert record.data["samples"]["done"] == len(shown)
        assert record.data["benchmark"]["task"] == "detection"
        assert record.data["metrics"][0] == "ap"
        assert record.data["replicates"]["units"] == len(content["images"])
        assert "ap" not in read_predictions(record).column_names
        found = next(row for row in record.scores if (row["subset"], row["metric"]) == ("all", "ap"))
        assert found["ci_low"] <= found["score"] <= found["ci_high"]
    assert scores(records["knn"])["ap"] > 50
    assert scores(records["knn"])["top1"] > 40  # of four classes


@pytest.mark.slow
def test_a_stored_run_can_be_scored_by_anyone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The results file of a run's predictions, read by `lvis` 0.5.3, gives the scores of its record."""
    content = lvis_layout(place.folder / "data", pictures=20, classes=5)
    pairs = memory(place.folder / "memory", content, "lvis")
    with PUBLISHED.replaced(counted("lvis", content)):
        asked = ("method=knn", "benchmark=lvis", "benchmark.lvis.crop=1.2", f"memory=folder:{pairs}")
        record = run(place, *asked)["knn"]
        place.trireme("detections", str(record.folder), "--out", str(place.folder / "results.json"))
    truth = place.folder / "data" / "lvis" / "lvis_v1_val.json"
    expected = by_lvis(truth, place.folder / "results.json", monkeypatch)
    found = scores(record)
    assert {metric: found[metric] / 100 for metric in expected} == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_a_finished_run_is_found_and_compared(place: Place) -> None:
    content = lvis_layout(place.folder / "data", pictures=12, classes=4)
    pairs = memory(place.folder / "memory", content, "lvis")
    arguments = ("run", "method=zero_shot,knn", "benchmark=lvis", f"memory=folder:{pairs}")
    with PUBLISHED.replaced(counted("lvis", content)):
        place.trireme(*arguments)
        assert "2 already there, 0 failed; 0 pictures and texts encoded" in place.trireme(*arguments).stderr
    table = list(csv.DictReader(io.StringIO(place.table())))
    found = {(row["method"], row["metric"]): float(row["score"]) for row in table if row["subset"] == "all"}
    assert {metric for _, metric in found} == {
        *("ap", "ap50", "ap75", "ap_r", "ap_c", "ap_f", "ap_s", "ap_m", "ap_l", "top1")
    }
    said = place.trireme("compare", "knn", "zero_shot").stdout
    assert f"{found['knn', 'ap'] - found['zero_shot', 'ap']:+.1f}" in said


@pytest.mark.slow
def test_a_missing_picture_is_counted_and_its_boxes_are_missed(place: Place) -> None:
    """One picture of 120; in its boxes nothing is found, so the recall, and with it the AP of its classes, drops."""
    content = lvis_layout(place.folder / "data", pictures=120, classes=3)
    pairs = memory(place.folder / "memory", content, "lvis")
    boxes = np.bincount([box["image_id"] // 11 for box in content["annotations"]], minlength=121)
    few = int(np.flatnonzero(boxes == 1)[0])
    url = next(one["coco_url"] for one in content["images"] if one["id"] == few * 11)
    (place.folder / "data" / "coco" / "/".join(url.split("/")[-2:])).unlink()
    with PUBLISHED.replaced(counted("lvis", content)):
        record = run(place, "method=knn", "benchmark=lvis", f"memory=folder:{pairs}")["knn"]
    assert record.data["samples"]["failed"] == 1
    assert record.data["replicates"]["units"] == 120
    sizes = {row["metric"]: row["n"] for row in record.scores if row["subset"] == "all"}
    assert sizes["ap"] == len(content["annotations"])
    assert sizes["top1"] == len(content["annotations"]) - 1


@pytest.mark.slow
@pytest.mark.usefixtures("world")
def test_the_world_and_its_proposals(place: Place) -> None:
    """knn over both: with boxes of nothing and shifted ones it finds less; the interval holds the score."""
    names = ("world/detection", "world/detection-proposals")
    place.trireme("run", "method=knn", f"benchmark={','.join(names)}")
    records = {record.benchmark: record for record in find_runs(place.folder / "out", strict=True)}
    truth, proposals = (records[name] for name in names)
    assert truth.data["samples"] == {"asked": 720, "done": 720, "failed": 0, "failures": []}
    assert scores(truth)["ap"] > scores(proposals)["ap"] > 5
    assert "top1" not in proposals.data["metrics"]
    assert set(read_predictions(proposals)["label"].to_pylist()) == {-1}
    assert {row["subset"] for row in truth.scores} == {"all", "common", "rare"}
    seconds = truth.data["seconds"]["score"]
    assert seconds < 60, f"200 draws and the library took {seconds} s"
