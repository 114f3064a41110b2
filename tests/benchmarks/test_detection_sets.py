"""LVIS, COCO and V3Det in their official layouts: real file names and schema, small made-up content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.detection_fixtures import (
    LAYOUTS,
    annotation_file,
    coco_layout,
    counted,
    draw,
    lvis_layout,
    opened,
    write,
)
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.cli import main
from trireme.errors import DataError, UsageError
from trireme.hashes import file_sha256
from trireme.registry import BENCHMARKS, open_benchmark
from trireme.types import Benchmark, Region, Role, SetBenchmark, Task

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_set_in_its_official_layout(root: Path, name: str) -> None:
    content = LAYOUTS[name](root)
    benchmark = opened(name, content)
    assert isinstance(benchmark, Benchmark)
    assert isinstance(benchmark, SetBenchmark)
    assert (benchmark.name, benchmark.task, benchmark.validation) == (name, Task.DETECTION, None)
    assert benchmark.class_names == tuple(f"thing {i}" for i in range(9))
    ids = [str(one["id"]) if name == "v3det" else one["name"] for one in content["categories"]]
    assert benchmark.class_ids == tuple(ids)
    shown = [box for box in content["annotations"] if not box.get("iscrowd")]
    place = {one["id"]: i for i, one in enumerate(content["categories"])}
    samples = benchmark.samples()
    assert [one.id for one in samples] == [f"{box['image_id']}/{box['id']}" for box in shown]
    assert [one.label for one in samples] == [place[box["category_id"]] for box in shown]
    assert [one.image.region for one in samples] == [Region(tuple(box["bbox"]), 1.5, True) for box in shown]
    assert all(one.image.sha256 == file_sha256(Path(one.image.path)) for one in samples[:5])
    with pytest.raises(UsageError, match="no validation samples"):
        benchmark.samples(Role.VALIDATION)


def test_metrics_and_groups(root: Path) -> None:
    lvis = opened("lvis", lvis_layout(root))
    assert lvis.metrics == ("ap", "ap50", "ap75", "ap_r", "ap_c", "ap_f", "ap_s", "ap_m", "ap_l", "top1")
    assert lvis.set_metrics == lvis.metrics[:-1]
    assert lvis.class_groups == ("rare", "common", "frequent") * 3
    assert lvis.subsets == {"all": None, "common": ("common",), "frequent": ("frequent",), "rare": ("rare",)}
    v3det = opened("v3det", LAYOUTS["v3det"](root))
    assert v3det.metrics == ("ap", "ap50", "ap75", "ap_s", "ap_m", "ap_l", "top1")
    assert v3det.subsets == {"all": None, "base": ("base",), "novel": ("novel",)}
    assert (lvis.most, v3det.most) == (300, 300)


def test_lvis_as_mmdetection_has_it(root: Path) -> None:
    content = annotation_file(0)
    for folder in ("train2017", "val2017"):
        (root / "lvis_v1" / folder).mkdir(parents=True)
    draw(root / "lvis_v1", content)
    write(root / "lvis_v1" / "annotations" / "lvis_v1_val.json", content)
    path = opened("lvis", content).samples()[0].image.path
    assert Path(path).parent.parent == root / "lvis_v1"


@pytest.mark.parametrize(
    ("name", "linked"),
    [
        ("coco", "coco/val2017"),
        ("coco", "coco"),
        ("lvis", "coco/train2017"),
        ("lvis", "coco"),
        ("v3det", "V3Det/images"),
    ],
)
def test_folders_may_be_links(root: Path, tmp_path: Path, name: str, linked: str) -> None:
    """A disk of its own for pictures, where they have a folder of another name and nothing lies beside them."""
    content = LAYOUTS[name](root)
    (root / linked).rename(tmp_path / "disk")
    (root / linked).symlink_to(tmp_path / "disk")
    samples = opened(name, content).samples()
    assert all(one.image.sha256 == file_sha256(Path(one.image.path)) for one in samples)


@pytest.mark.parametrize("both", [False, True])
def test_lvis_may_be_a_link_beside_coco(root: Path, tmp_path: Path, both: bool) -> None:
    """Pictures lie beside the link's target, and perhaps beside the link too, which is what the layout says."""
    content = lvis_layout(tmp_path / "disk")
    root.mkdir()
    (root / "lvis").symlink_to(tmp_path / "disk" / "lvis")
    if both:
        (root / "coco").symlink_to(tmp_path / "disk" / "coco")
    samples = opened("lvis", content).samples()
    assert {Path(one.image.path).parent.parent for one in samples} == {(root if both else tmp_path / "disk") / "coco"}
    assert all(one.image.sha256 for one in samples)


@pytest.mark.parametrize("linked", [False, True])
def test_no_picture_leaves_the_folder(root: Path, tmp_path: Path, linked: bool) -> None:
    """`disk/secret.jpg` is there to be read, through the link as well."""
    content = coco_layout(root)
    if linked:
        (tmp_path / "disk").mkdir()
        (root / "coco" / "val2017").rename(tmp_path / "disk" / "val")
        (root / "coco" / "val2017").symlink_to(tmp_path / "disk" / "val")
    content["images"][0]["file_name"] = "../secret.jpg"
    write(root / "coco" / "annotations" / "instances_val2017.json", content)
    with pytest.raises(DataError, match=r"the file 'val2017/\.\./secret.jpg', which leaves the folder of pictures"):
        opened("coco", content)


def test_proposals_have_no_labels(root: Path, tmp_path: Path) -> None:
    rows = [{"image_id": 11, "bbox": [1, 2, 30, 40], "score": 0.5, "category_id": 3}]
    benchmark = opened("coco", coco_layout(root), boxes=str(write(tmp_path / "p.json", rows)))
    [sample] = benchmark.samples()
    assert (sample.id, sample.label) == ("11/p0", -1)
    assert "top1" not in benchmark.metrics


def test_options_reach_the_region(root: Path) -> None:
    content = coco_layout(root)
    first = opened("coco", content, crop=2, square=False, blur=0.1).samples()[0].image.region
    assert first is not None
    assert (first.crop, first.square, first.blur) == (2.0, False, 0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crops": 2.0}, "unknown option of coco 'crops'; did you mean 'crop'"),
        ({"crop": "large"}, "'coco': crop='large' is no float"),
        ({"crop": True}, "crop=True is no float"),
        ({"square": 1}, "square=1 is no bool"),
        ({"per_image": 2.5}, "per_image=2.5 is no int"),
        ({"labels": "all"}, "labels='all'"),
    ],
)
def test_wrong_options(root: Path, options: dict[str, Any], message: str) -> None:
    content = coco_layout(root)
    with pytest.raises(UsageError, match=message):
        opened("coco", content, **options)


def test_another_number_of_classes_is_an_error(root: Path) -> None:
    lvis_layout(root)
    with pytest.raises(DataError, match=r"9 classes, the published set has 1203"):
        open_benchmark("lvis")


def test_a_results_file_is_no_annotation_file(root: Path) -> None:
    content = lvis_layout(root)
    write(root / "lvis" / "lvis_v1_val.json", [{"image_id": 11, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 1}])
    with pytest.raises(DataError, match="results are no annotations"):
        opened("lvis", content)


def test_missing_pictures_are_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = coco_layout(root)
    lost = content["annotations"][0]["image_id"]
    (root / "coco" / "val2017" / f"{lost:012}.jpg").unlink()
    samples = opened("coco", content).samples()
    assert (
        f"1 of 30 listed pictures are not in {root / 'coco'} (first: val2017/{lost:012}.jpg)" in capsys.readouterr().err
    )
    assert {one.image.sha256 is None for one in samples if one.id.startswith(f"{lost}/")} == {True}
    assert sum(one.image.sha256 is None for one in samples) < len(samples)


def test_what_is_missing_is_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="data set 'lvis' is missing"):
        open_benchmark("lvis")
    content = lvis_layout(root)
    with PUBLISHED.replaced(counted("lvis", content)):
        assert main(["data", "status", "lvis"]) == 0
        assert "present" in capsys.readouterr().out
        del content["images"][0]["coco_url"]
        (root / "lvis" / "lvis_v1_val.json").write_text(json.dumps(content))
        assert main(["data", "status", "lvis"]) == 1
        assert "no 'coco_url'" in capsys.readouterr().out
    assert {"lvis", "coco", "v3det"} <= set(BENCHMARKS.names())
