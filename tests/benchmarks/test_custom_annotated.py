"""A user's own boxes, in the formats of COCO and LVIS, through what the published sets go through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.benchmarks.detection_fixtures import annotation_file
from trireme.benchmarks.custom.annotated import open_benchmark, open_pairs
from trireme.benchmarks.detection.benchmark import DetectionBenchmark
from trireme.errors import DataError, UsageError
from trireme.registry import BENCHMARKS, PAIR_SETS
from trireme.types import Region, Task

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures in `photos/`, and `boxes.json` of COCO's format: three boxes, one crowd, one without area."""
    (tmp_path / "photos").mkdir()
    for number in (1, 2):
        Image.new("RGB", (64, 48), (number, 0, 0)).save(tmp_path / "photos" / f"{number}.png")
    write(tmp_path, coco())
    return tmp_path


def coco() -> dict[str, Any]:
    boxes = [
        (10, 1, 7, [8, 8, 16, 12], 0),
        (11, 1, 5, [30, 10, 20, 30], 0),
        (12, 2, 7, [0, 0, 64, 48], 0),
        (13, 2, 7, [0, 0, 64, 48], 1),
        (14, 2, 5, [5, 5, 0, 3], 0),
    ]
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 64, "height": 48} for n in (1, 2)],
        "categories": [{"id": 5, "name": "traffic_light"}, {"id": 7, "name": "owl"}],
        "annotations": [
            {"id": n, "image_id": image, "category_id": of, "bbox": box, "area": box[2] * box[3], "iscrowd": crowd}
            for n, image, of, box, crowd in boxes
        ],
    }


def write(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "boxes.json"
    path.write_text(json.dumps(content))
    return path


def test_the_boxes_of_coco(folder: Path) -> None:
    name = f"coco:{folder / 'boxes.json'}"
    bench = open_benchmark(name, images=str(folder / "photos"), crop=1, blur=0.1)
    assert isinstance(bench, DetectionBenchmark)
    assert (bench.task, bench.class_ids, bench.class_names) == (
        Task.DETECTION,
        ("traffic_light", "owl"),
        ("traffic light", "owl"),
    )
    assert [(sample.id, sample.label) for sample in bench.samples()] == [("1/10", 1), ("1/11", 0), ("2/12", 1)]
    first = bench.samples()[0].image
    assert first.path == str(folder / "photos" / "1.png")
    assert first.region == Region((8, 8, 16, 12), crop=1, square=True, blur=0.1)
    pairs = open_pairs(name, images=str(folder / "photos"), crop=1, blur=0.1).pairs()
    assert [(pair.id, pair.caption, pair.label) for pair in pairs] == [
        ("1/10", "a photo of owl", "owl"),
        ("1/11", "a photo of traffic light", "traffic_light"),
        ("2/12", "a photo of owl", "owl"),
    ]
    assert [pair.image for pair in pairs] == [sample.image for sample in bench.samples()]


def test_pictures_may_lie_beside_the_file(folder: Path) -> None:
    for picture in (folder / "photos").iterdir():
        picture.rename(folder / picture.name)
    assert all(sample.image.sha256 for sample in open_benchmark(f"coco:{folder / 'boxes.json'}").samples())


@pytest.mark.parametrize("own_names", [False, True])
def test_the_boxes_of_lvis(tmp_path: Path, own_names: bool) -> None:
    """With LVIS's own `coco_url`, and with a `file_name` as own pictures have it."""
    content = annotation_file(seed=1)
    for image in content["images"]:
        file = "/".join(image["coco_url"].split("/")[-2:])
        if own_names:
            image["file_name"] = file
            del image["coco_url"]
        (tmp_path / file).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((image["height"], image["width"], 3), dtype=np.uint8)).save(tmp_path / file)
    bench = open_benchmark(f"lvis:{write(tmp_path, content)}")
    assert len(bench.samples()) == len(content["annotations"])
    assert all(sample.image.sha256 for sample in bench.samples())
    assert bench.subsets == {"all": None, "common": ("common",), "frequent": ("frequent",), "rare": ("rare",)}
    assert "ap_r" in bench.metrics


def test_a_file_without_the_fields_of_lvis_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match="has the frequency None; LVIS: r, c, f"):
        open_benchmark(f"lvis:{folder / 'boxes.json'}")


@pytest.mark.parametrize("frequency", ["often", 7, None])
def test_a_frequency_that_is_none_is_named(folder: Path, frequency: object) -> None:
    """COCO's own files have none; one of the three letters makes a subset of a class."""
    content = coco()
    content["categories"][1]["frequency"] = "r"
    path = write(folder, content)
    assert open_benchmark(f"coco:{path}", images=str(folder / "photos")).class_groups == ("", "rare")
    content["categories"][1]["frequency"] = frequency
    with pytest.raises(DataError, match=rf"category 7 has the frequency {frequency!r}; known are r, c and f"):
        open_benchmark(f"coco:{write(folder, content)}", images=str(folder / "photos"))


def test_two_classes_of_one_name_are_named(folder: Path) -> None:
    content = coco()
    content["categories"][1]["name"] = "traffic_light"
    with pytest.raises(DataError, match="the classes 0 and 1 are both called 'traffic_light'"):
        open_benchmark(f"coco:{write(folder, content)}")


@pytest.mark.parametrize(
    ("change", "told"),
    [({"name": None}, "the name None"), ({"name": 7}, "the name 7"), ({"name": " "}, "the name ' '"), ({}, "no name")],
)
def test_a_class_without_a_name_is_named(folder: Path, change: dict[str, Any], told: str) -> None:
    content = coco()
    del content["categories"][1]["name"]
    content["categories"][1] |= change
    for open_it in (open_benchmark, open_pairs):
        with pytest.raises(DataError, match=f"category 7 has {told}; a class is asked for by a text"):
            open_it(f"coco:{write(folder, content)}", images=str(folder / "photos"))


def test_a_path_that_leaves_the_folder_is_refused(folder: Path) -> None:
    content = coco()
    content["images"][0]["file_name"] = "../secret.png"
    with pytest.raises(DataError, match=r"file '\.\./secret\.png', which leaves the folder of pictures"):
        open_pairs(f"coco:{write(folder, content)}")


def test_wrong_options_and_places_are_named(folder: Path) -> None:
    name = f"coco:{folder / 'boxes.json'}"
    for open_it in (open_benchmark, open_pairs):
        with pytest.raises(UsageError, match="did you mean 'crop'"):
            open_it(name, corp=2)
        with pytest.raises(DataError, match=r"there is no folder of pictures .*absent; give it as images=FOLDER"):
            open_it(name, images=str(folder / "absent"))
        with pytest.raises(DataError, match=r"there is no annotation file .*absent\.json"):
            open_it(f"coco:{folder / 'absent.json'}")


def test_both_prefixes_are_registered() -> None:
    for registry in (BENCHMARKS, PAIR_SETS):
        for name in ("coco:boxes.json", "lvis:boxes.json"):
            assert registry.target(name).startswith("trireme.benchmarks.custom.annotated:open_")
            assert callable(registry.load(name))
    assert BENCHMARKS.target("coco").startswith("trireme.benchmarks.detection.")
