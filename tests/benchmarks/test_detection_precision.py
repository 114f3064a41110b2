"""Average precision against the official evaluators: `lvis` 0.5.3 of LVIS, `pycocotools` of COCO.

They read the annotation file and the results file that Trireme writes, and are run as their own documentation does.
"""

from __future__ import annotations

import contextlib
import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.benchmarks.detection_fixtures import (
    LAYOUTS,
    annotation_file,
    coco_layout,
    draw,
    lvis_layout,
    opened,
    predictions,
    proposals,
    table,
    write,
)
from trireme.benchmarks.custom.annotated import open_benchmark as open_own
from trireme.benchmarks.detection import write_results
from trireme.benchmarks.detection.benchmark import DetectionBenchmark
from trireme.benchmarks.detection.precision import PrecisionEvaluator
from trireme.errors import DataError
from trireme.types import Ints, SetBenchmark

pytestmark = pytest.mark.usefixtures("own_home")

LVIS_NAMES = {
    "ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_r": "APr", "ap_c": "APc", "ap_f": "APf",
    "ap_s": "APs", "ap_m": "APm", "ap_l": "APl",
}  # fmt: skip
COCO_PLACES = {"ap": 0, "ap50": 1, "ap75": 2, "ap_s": 3, "ap_m": 4, "ap_l": 5}


def evaluated(benchmark: DetectionBenchmark, predicted: pa.Table) -> PrecisionEvaluator:
    evaluator = benchmark.evaluator(predicted)
    assert isinstance(evaluator, PrecisionEvaluator)
    return evaluator


def once(evaluator: PrecisionEvaluator) -> Ints:
    return np.ones(evaluator.units, dtype=np.int64)


def by_lvis(truth: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    monkeypatch.setattr(np, "float", float, raising=False)  # numpy had this name when lvis 0.5.3 was written
    from lvis import LVISEval

    evaluator = LVISEval(str(truth), str(results), "bbox")
    evaluator.run()
    return {metric: float(evaluator.results[name]) for metric, name in LVIS_NAMES.items()}


def by_coco(truth: Path, results: Path) -> dict[str, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO(str(truth))
        evaluator = COCOeval(annotations, annotations.loadRes(str(results)), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return {metric: float(evaluator.stats[place]) for metric, place in COCO_PLACES.items()}


@pytest.mark.parametrize("labels", ["one", "many"])
@pytest.mark.parametrize("given", ["ground-truth", "proposals"])
@pytest.mark.parametrize("seed", [1, 2])
def test_as_lvis_says(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: str, given: str, seed: int
) -> None:
    content = lvis_layout(root, seed)
    boxes = None if given == "ground-truth" else proposals(content, seed)
    where = {} if boxes is None else {"boxes": str(write(tmp_path / "p.json", boxes))}
    benchmark = opened("lvis", content, labels=labels, **where)
    predicted = predictions(benchmark, seed, boxes=boxes)
    write_results(benchmark, predicted, tmp_path / "results.json")
    expected = by_lvis(root / "lvis" / "lvis_v1_val.json", tmp_path / "results.json", monkeypatch)
    evaluator = evaluated(benchmark, predicted)
    found = evaluator.values(once(evaluator))
    assert {metric: found["all", metric] for metric in LVIS_NAMES} == pytest.approx(expected, abs=1e-12)
    assert 0.02 < expected["ap"] < 0.95, "a score at an end would prove nothing"
    rare = [found[subset, metric] for subset, metric in (("rare", "ap"), ("all", "ap_r"), ("rare", "ap_r"))]
    assert rare == pytest.approx([expected["ap_r"]] * 3, abs=1e-12)


@pytest.mark.parametrize("labels", ["one", "many"])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("name", ["lvis", "coco"])
def test_boxes_of_area_0(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    labels: str,
    flat: bool,
    name: str,
) -> None:
    """Every fifth has none, and where it is `flat` no width either. LVIS leaves them out, COCO wants them found."""
    content = (lvis_layout if name == "lvis" else coco_layout)(root, 3)
    for box in content["annotations"][::5]:
        box["area"] = 0
        box["bbox"][2] = 0 if flat else box["bbox"][2]
    file = root / ("lvis/lvis_v1_val.json" if name == "lvis" else "coco/annotations/instances_val2017.json")
    write(file, content)
    benchmark = opened(name, content, labels=labels)
    told = f"{len(content['annotations'][::5])} boxes of `area` 0 are not among those to find"
    assert (told in capsys.readouterr().err) == (name == "lvis")
    predicted = predictions(benchmark, 3)
    results = tmp_path / "results.json"
    write_results(benchmark, predicted, results)
    expected = by_lvis(file, results, monkeypatch) if name == "lvis" else by_coco(file, results)
    evaluator = evaluated(benchmark, predicted)
    found = evaluator.values(once(evaluator))
    assert {metric: found["all", metric] for metric in expected} == pytest.approx(expected, abs=1e-12)
    assert np.nanmax(np.abs(evaluator.accumulated(once(evaluator)) - evaluator._point)) < 1e-12
    assert 0.02 < expected["ap"] < 0.95


@pytest.mark.parametrize("given", ["ground-truth", "proposals"])
@pytest.mark.parametrize("name", ["lvis", "coco"])
def test_an_annotation_with_the_id_0(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: str,
    name: str,
) -> None:
    """It is told, and AP is that of any other id. The evaluators take a match with it for none: theirs is lower."""
    content = (lvis_layout if name == "lvis" else coco_layout)(root, 3)
    file = root / ("lvis/lvis_v1_val.json" if name == "lvis" else "coco/annotations/instances_val2017.json")
    boxes = None if given == "ground-truth" else [{**box, "score": 0.9} for box in content["annotations"]]
    where = {} if boxes is None else {"boxes": str(write(tmp_path / "p.json", boxes))}
    renamed = next(box for box in content["annotations"] if not box.get("iscrowd"))
    ours, theirs = [], []
    for number in (10_000, 0):
        renamed["id"] = number
        write(file, content)
        benchmark = opened(name, content, labels="one", **where)
        told = f"note: {file.name}: 1 annotation with the id 0 can be found here; pycocotools and lvis take its match"
        assert capsys.readouterr().err.count(told) == (number == 0)
        predicted = predictions(benchmark, 3, right=1, boxes=boxes)
        results = tmp_path / "results.json"
        write_results(benchmark, predicted, results)
        theirs.append((by_lvis(file, results, monkeypatch) if name == "lvis" else by_coco(file, results))["ap"])
        evaluator = evaluated(benchmark, predicted)
        ours.append(evaluator.values(once(evaluator))["all", "ap"])
    assert ours == pytest.approx([theirs[0]] * 2, abs=1e-12)
    assert theirs[1] < theirs[0] - 1e-3


@pytest.mark.parametrize("given", ["ground-truth", "proposals"])
def test_nothing_to_find_is_named(root: Path, tmp_path: Path, given: str) -> None:
    content = lvis_layout(root)
    where = {} if given == "ground-truth" else {"boxes": str(write(tmp_path / "p.json", proposals(content, 0)))}
    for box in content["annotations"]:
        box["area"] = 0
    write(root / "lvis" / "lvis_v1_val.json", content)
    with pytest.raises(DataError, match="has nothing to find: its boxes are crowds, ignored or of `area` 0"):
        opened("lvis", content, **where)


@pytest.mark.parametrize("labels", ["one", "many"])
@pytest.mark.parametrize("given", ["ground-truth", "proposals"])
def test_as_coco_says(root: Path, tmp_path: Path, labels: str, given: str) -> None:
    """With crowds, which count neither for nor against."""
    content = coco_layout(root, seed=3)
    assert any(box["iscrowd"] for box in content["annotations"])
    boxes = None if given == "ground-truth" else proposals(content, 3)
    where = {} if boxes is None else {"boxes": str(write(tmp_path / "p.json", boxes))}
    benchmark = opened("coco", content, labels=labels, **where)
    predicted = predictions(benchmark, 3, boxes=boxes)
    write_results(benchmark, predicted, tmp_path / "results.json")
    expected = by_coco(root / "coco" / "annotations" / "instances_val2017.json", tmp_path / "results.json")
    evaluator = evaluated(benchmark, predicted)
    found = evaluator.values(once(evaluator))
    assert {metric: found["all", metric] for metric in COCO_PLACES} == pytest.approx(expected, abs=1e-12)
    assert 0.02 < expected["ap"] < 0.95


@pytest.mark.parametrize("labels", ["one", "many"])
@pytest.mark.parametrize("given", ["ground-truth", "proposals"])
@pytest.mark.parametrize("scheme", ["lvis", "coco"])
def test_flags_of_own_files_are_read_as_the_evaluators_read_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, given: str, labels: str
) -> None:
    """`ignore` and `iscrowd` in files of both formats: of COCO's format one of them counts, of LVIS's the other."""
    content = annotation_file(seed=4, federated=scheme == "lvis")
    rng = np.random.default_rng(4)
    for box in content["annotations"]:
        box |= {"iscrowd": int(rng.random() < 0.15), "ignore": int(rng.random() < 0.3)}
    draw(tmp_path, content)
    file = write(tmp_path / "boxes.json", content)
    boxes = None if given == "ground-truth" else proposals(content, 4)
    where = {} if boxes is None else {"boxes": str(write(tmp_path / "p.json", boxes))}
    benchmark = open_own(f"{scheme}:{file}", labels=labels, **where)
    left_out = "ignore" if scheme == "lvis" else "iscrowd"
    asked = [box for box in content["annotations"] if not box[left_out]] if boxes is None else boxes
    assert len(benchmark.samples()) == len(asked)
    predicted = predictions(benchmark, 4, right=0.7, boxes=boxes)
    write_results(benchmark, predicted, tmp_path / "results.json")
    evaluator = evaluated(benchmark, predicted)
    found = evaluator.values(once(evaluator))
    expected: dict[str, float] = (
        by_lvis(file, tmp_path / "results.json", monkeypatch)
        if scheme == "lvis"
        else by_coco(file, tmp_path / "results.json")
    )
    assert {metric: found["all", metric] for metric in expected} == pytest.approx(expected, abs=1e-12)
    assert np.nanmax(np.abs(evaluator.accumulated(once(evaluator)) - evaluator._point)) < 1e-12
    assert 0.02 < expected["ap"] < 0.95


@pytest.mark.parametrize("name", LAYOUTS)
def test_perfect_predictions_have_an_ap_of_one(root: Path, name: str) -> None:
    content = LAYOUTS[name](root)
    benchmark = opened(name, content, labels="one")
    assert isinstance(benchmark, SetBenchmark)
    right = [[sample.label] for sample in benchmark.samples()]
    evaluator = evaluated(benchmark, table(benchmark, right, [[0.3]] * len(right)))
    values = evaluator.values(once(evaluator))
    assert [value for value in values.values() if not np.isnan(value)] == pytest.approx(
        [1.0] * sum(map(bool, evaluator.sizes.values()))
    )
    wrong = [[(sample.label + 1) % len(benchmark.class_ids)] for sample in benchmark.samples()]
    assert (
        evaluated(benchmark, table(benchmark, wrong, [[0.3]] * len(wrong))).values(once(evaluator))["all", "ap"] < 0.3
    )


@pytest.mark.parametrize(("name", "layout"), [("lvis", lvis_layout), ("coco", coco_layout)])
def test_drawn_pictures_are_accumulated_as_the_library_does(root: Path, tmp_path: Path, name: str, layout: Any) -> None:
    """Counts in {0, 1, 2, 3}, against an annotation file in which the pictures really occur so often."""
    content = layout(root, seed=5)
    boxes = proposals(content, 5)
    benchmark = opened(name, content, boxes=str(write(tmp_path / "p.json", boxes)))
    predicted = predictions(benchmark, 5, boxes=boxes)
    evaluator = evaluated(benchmark, predicted)
    assert np.nanmax(np.abs(evaluator.accumulated(once(evaluator)) - evaluator._point)) < 1e-12
    assert (np.isnan(evaluator.accumulated(once(evaluator))) == np.isnan(evaluator._point)).all()
    counts = np.random.default_rng(6).integers(0, 4, evaluator.units)
    ids = [one.id for one in benchmark.annotations.pictures]
    times = dict(zip(ids, counts.tolist(), strict=True))

    repeated, boxes_again = copy.deepcopy(content), []
    place = "coco_url" if name == "lvis" else "file_name"
    repeated["images"] = [
        {**row, "id": row["id"] * 1000 + copied, place: f"{row[place]}-{copied}.jpg"}
        for row in content["images"]
        for copied in range(times[row["id"]])
    ]
    repeated["annotations"] = [
        {**box, "id": box["id"] * 10 + copied, "image_id": box["image_id"] * 1000 + copied}
        for box in content["annotations"]
        for copied in range(times[box["image_id"]])
    ]
    rows: list[int] = []
    for number, box in enumerate(boxes):
        for copied in range(times[box["image_id"]]):
            boxes_again.append({**box, "image_id": box["image_id"] * 1000 + copied})
            rows.append(number)
    file = "lvis/lvis_v1_val.json" if name == "lvis" else "coco/annotations/instances_val2017.json"
    write(root / file, repeated)
    again = opened(name, repeated, boxes=str(write(tmp_path / "again.json", boxes_again)))
    expected = evaluated(again, table(again, *(predicted[c].take(rows).to_pylist() for c in ("ranked", "scores"))))
    library = expected.values(once(expected))
    found = evaluator.values(counts)
    assert found == pytest.approx(library, abs=1e-12, nan_ok=True)
    assert found["all", "ap"] != pytest.approx(evaluator.values(once(evaluator))["all", "ap"], abs=1e-4)


def test_a_class_that_is_not_drawn_is_not_defined(root: Path) -> None:
    content = lvis_layout(root, seed=2, pictures=2, classes=3)
    benchmark = opened("lvis", content)
    evaluator = evaluated(benchmark, predictions(benchmark, 2))
    nothing = evaluator.values(np.zeros(evaluator.units, dtype=np.int64))
    assert np.isnan(list(nothing.values())).all()
    assert set(nothing) == set(evaluator.sizes)


def test_sizes_count_the_boxes_to_find(root: Path) -> None:
    """By hand from the file: `area` against 32 and 96 squared, letters of the categories."""
    content = lvis_layout(root, seed=4)
    benchmark = opened("lvis", content)
    sizes = evaluated(benchmark, predictions(benchmark, 4)).sizes
    letters = {one["id"]: one["frequency"] for one in content["categories"]}
    boxes = content["annotations"]
    assert sizes["all", "ap"] == sizes["all", "ap75"] == len(boxes)
    assert sizes["all", "ap_s"] == sum(box["area"] <= 32**2 for box in boxes)
    assert sizes["all", "ap_m"] == sum(32**2 <= box["area"] <= 96**2 for box in boxes)
    assert sizes["all", "ap_l"] == sum(box["area"] >= 96**2 for box in boxes)
    assert sizes["all", "ap_c"] == sizes["common", "ap"] == sum(letters[box["category_id"]] == "c" for box in boxes)
    assert sizes["common", "ap_r"] == 0


def test_no_detection_at_all(root: Path) -> None:
    content = lvis_layout(root)
    benchmark = opened("lvis", content)
    empty = table(benchmark, [[]] * len(benchmark.samples()), [[]] * len(benchmark.samples()))
    evaluator = evaluated(benchmark, empty)
    assert evaluator.values(once(evaluator))["all", "ap"] == 0
    assert evaluator.values(2 * once(evaluator))["all", "ap"] == 0


def test_without_the_library_the_command_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from trireme.errors import TriremeError

    content = lvis_layout(root)
    benchmark = opened("lvis", content)
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(TriremeError, match=r"pip install 'trireme-bench\[detection\]'"):
        benchmark.evaluator(predictions(benchmark, 0))
