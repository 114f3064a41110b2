"""From ranked classes to detections. Expected values are computed by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.benchmarks.detection_fixtures import annotation_file, predictions, write
from trireme.benchmarks.detection import write_results
from trireme.benchmarks.detection.annotations import by_coco_url, read_annotations
from trireme.benchmarks.detection.benchmark import DetectionBenchmark, DetectionOptions, make_benchmark
from trireme.benchmarks.detection.results import Boxes, Detections, Scoring, detections
from trireme.errors import DataError, UsageError

pytestmark = pytest.mark.usefixtures("own_home")

ASKED = Boxes(
    ["7/1", "7/2", "9/3"],
    np.array([0, 0, 1]),
    np.array([[0, 0, 10, 10], [2, 0, 10, 10], [0, 0, 10, 10]], dtype=np.float64),
    np.array([1.0, 1.0, 0.25]),
)


def ranked(rows: Sequence[tuple[str, Sequence[int], Sequence[float]]], failed: Sequence[str] = ()) -> pa.Table:
    return pa.table(
        {
            "sample_id": [name for name, _, _ in rows],
            "status": ["failed" if name in failed else "ok" for name, _, _ in rows],
            "ranked": pa.array([classes for _, classes, _ in rows], pa.list_(pa.int32())),
            "scores": pa.array([scores for _, _, scores in rows], pa.list_(pa.float64())),
        }
    )


def listed(found: Detections) -> list[tuple[int, int, float, float]]:
    """(picture, class, score, left edge)."""
    return [(int(i), int(c), pytest.approx(s), float(b[0])) for i, c, s, b in zip(*found, strict=True)]


LOG3 = 0.01 * np.log(3)  # at scale 100, three times as probable


def test_one_label_a_box() -> None:
    """p = 3/4 and 1/4 of two classes; the third box has an objectness of 1/4: sqrt(1 x 1/4)."""
    table = ranked([("9/3", [2], [0.1]), ("7/1", [1, 0], [0.2 + LOG3, 0.2]), ("7/2", [0, 1], [0.2 + LOG3, 0.2])])
    found = detections(table, ASKED, Scoring(labels="one"), 3)
    assert listed(found) == [(0, 1, 0.75**0.5, 0), (0, 0, 0.75**0.5, 2), (1, 2, 0.5, 0)]


def test_many_labels_a_box() -> None:
    """Probabilities 3/4 and 1/4. The two boxes of picture 0 share 80 of 120 square pixels, two thirds: of class 1 only
    the better one stays, and of class 0 too."""
    table = ranked([("7/1", [1, 0], [0.2 + LOG3, 0.2]), ("7/2", [0, 1], [0.2 + LOG3, 0.2]), ("9/3", [], [])])
    found = detections(table, ASKED, Scoring(), 3)
    assert listed(found) == [(0, 1, 0.75**0.5, 0), (0, 0, 0.75**0.5, 2)]
    every = detections(table, ASKED, Scoring(nms=0.7), 3)
    assert [(c, s) for _, c, s, _ in listed(every)] == [(1, 0.75**0.5), (0, 0.75**0.5), (0, 0.5), (1, 0.5)]
    assert len(detections(table, ASKED, Scoring(nms=1.0), 3).score) == 4


def test_improbable_classes_are_left_out() -> None:
    """exp(-7) is 0.0009 of 1, and exp(-6.8) is 0.0011."""
    table = ranked([("7/1", [0, 1], [0.2, 0.13]), ("7/2", [0, 1], [0.2, 0.132]), ("9/3", [2], [-0.5])])
    found = detections(table, ASKED, Scoring(nms=1.0), 3)
    assert [(int(i), int(c)) for i, c in zip(found.image, found.label, strict=True)] == [(0, 0), (0, 0), (0, 1), (1, 2)]


def test_the_scale_sharpens() -> None:
    table = ranked([("7/1", [0, 1], [0.21, 0.2]), ("7/2", [], []), ("9/3", [], [])])
    for scale in (1.0, 50.0, 100.0):
        found = detections(table, ASKED, Scoring(scale=scale, labels="one"), 2)
        assert found.score[0] ** 2 == pytest.approx(1 / (1 + np.exp(-0.01 * scale)))


def test_the_best_of_a_picture() -> None:
    """Of the first box exp(0), exp(-1) and exp(-2) in proportion, 0.665 and less; of the second twice a half."""
    table = ranked([("7/1", [0, 1, 2], [0.3, 0.29, 0.28]), ("7/2", [3, 4], [0.3, 0.3]), ("9/3", [0], [0.1])])
    found = detections(table, ASKED, Scoring(per_image=2), 5)
    first = 1 / (1 + np.exp(-1) + np.exp(-2))
    assert listed(found) == [(0, 0, first**0.5, 0), (0, 3, 0.5**0.5, 2), (1, 0, 0.5, 0)]
    assert len(detections(table, ASKED, Scoring(), 5).score) == 6


def test_what_is_no_class_or_failed_says_nothing() -> None:
    table = ranked([("7/1", [0, -1], [0.2, -np.inf]), ("7/2", [1], [0.2]), ("9/3", [2], [0.2])], failed=["7/2"])
    assert listed(detections(table, ASKED, Scoring(), 3)) == [(0, 0, 1.0, 0), (1, 2, 0.5, 0)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("7/1", [0], [0.2]), ("7/2", [0], [0.2])], "a box is missing"),
        ([("7/1", [0], [0.2])] * 3, "there twice"),
        ([("7/1", [0], [0.2]), ("7/2", [0], [0.2]), ("8/3", [0], [0.2])], "'8/3' is no box of it"),
        (
            [("7/1", [0], [0.2]), ("7/2", [0, 1], [0.2]), ("9/3", [0], [0.2])],
            "another number of scores than of classes",
        ),
        ([("7/1", [3], [0.2]), ("7/2", [0], [0.2]), ("9/3", [0], [0.2])], "a class that is none of 3"),
        ([("7/1", [0], [np.nan]), ("7/2", [0], [0.2]), ("9/3", [0], [0.2])], "NaN"),
    ],
)
def test_tables_of_something_else(rows: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        detections(ranked(rows), ASKED, Scoring(), 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "some"}, "labels='some' is neither of one and many"),
        ({"scale": 0.0}, "scale above 0"),
        ({"min_probability": 1.0}, "min_probability"),
        ({"nms": 0.0}, "nms"),
        ({"per_image": 0}, "per_image"),
        ({"crop": 0.0}, "crop is above 0"),
        ({"blur": -1.0}, "blur 0 or more"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DetectionOptions(**options)


def made(folder: Path, **options: Any) -> DetectionBenchmark:
    annotations = read_annotations(write(folder / "a.json", annotation_file(1)), True, by_coco_url)
    names = tuple(one["name"] for one in annotations.categories)
    given = dict.fromkeys((one.file for one in annotations.pictures), "0")
    rest = {"class_ids": names, "class_names": names, "class_groups": annotations.frequencies}
    rest |= {"name": "made", "version": "1", "subsets": {"all": None}, "templates": ("{}",)}
    return make_benchmark(annotations, folder, DetectionOptions(**options), given, **rest)


def test_the_results_file(tmp_path: Path) -> None:
    """Ids of the annotation file, boxes as they were asked about, and every detection."""
    benchmark = made(tmp_path)
    predicted = predictions(benchmark, 1)
    count = write_results(benchmark, predicted, tmp_path / "new" / "r.json")
    rows = json.loads((tmp_path / "new" / "r.json").read_text())
    assert len(rows) == count == len(benchmark.detections(predicted).score)
    content = json.loads((tmp_path / "a.json").read_text())
    assert {row["category_id"] for row in rows} <= {one["id"] for one in content["categories"]}
    truth = {(box["image_id"], *box["bbox"]) for box in content["annotations"]}
    assert {(row["image_id"], *row["bbox"]) for row in rows} <= truth
    assert all(0 < row["score"] <= 1 for row in rows)


def test_fingerprints_follow_boxes_and_scoring(tmp_path: Path) -> None:
    plain = made(tmp_path).fingerprint()
    assert made(tmp_path).fingerprint() == plain
    changes: list[dict[str, Any]] = [
        {"crop": 2.0},
        {"blur": 0.1},
        {"square": False},
        {"labels": "one"},
        {"scale": 50.0},
    ]
    others = [made(tmp_path, **change).fingerprint() for change in [*changes, {"nms": 0.6}, {"per_image": 100}]]
    box = [{"image_id": 11, "bbox": [1, 2, 30, 40], "score": 0.5}]
    for place in ("one.json", "other.json"):
        others.append(made(tmp_path, boxes=str(write(tmp_path / place, box))).fingerprint())
    assert others[-1] == others[-2], "the same proposals elsewhere"
    assert len({plain, *others}) == len(others)
