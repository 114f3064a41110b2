"""LVIS v1.0, COCO and V3Det from their published annotation files, in the layouts of detectron2 and mmdetection."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.benchmarks.datasets.opening import check_count
from trireme.benchmarks.datasets.places import Place, locate
from trireme.benchmarks.datasets.spec import TEST, Count, Layout, SetSpec
from trireme.benchmarks.detection.annotations import (
    Annotations,
    FileOf,
    by_coco_url,
    by_file_name,
    read_annotations,
)
from trireme.benchmarks.detection.benchmark import DetectionBenchmark, make_benchmark, read_options
from trireme.benchmarks.templates import templates
from trireme.errors import unknown_name

VERIFY = "trireme.benchmarks.detection.sets:verify"
_TABLES = "the paper of RAR"
_V3DET = "V3Det/V3Det, README @09aafee"
_FREQUENCY = {"r": "rare", "c": "common", "f": "frequent"}

SPECS = (
    SetSpec(
        name="coco",
        title="COCO 2017 validation, 80 classes, boxes",
        version="1",
        layouts=(Layout(folders=("coco",), needs=("annotations/instances_val2017.json", "val2017")),),
        classes=Count(80),
        counts={TEST: Count(5000)},
        bring="annotations_trainval2017.zip and val2017.zip from https://cocodataset.org/#download",
        page="https://cocodataset.org",
        licence="annotations CC BY 4.0, pictures by Flickr users under their own licences",
        metrics=("ap",),
        archives={"annotations_trainval2017.zip": "coco", "val2017.zip": "coco"},
        verify=VERIFY,
    ),
    SetSpec(
        name="lvis",
        title="LVIS v1.0 validation, 1,203 classes, boxes",
        version="1",
        layouts=(
            Layout(
                folders=("lvis",),
                needs=("lvis_v1_val.json", "../coco/val2017", "../coco/train2017"),
                title="detectron2; pictures of COCO",
            ),
            Layout(
                folders=("lvis", "lvis_v1"),
                needs=("annotations/lvis_v1_val.json", "val2017", "train2017"),
                title="mmdetection",
            ),
        ),
        classes=Count(1203, verified=True, source=_TABLES),
        counts={TEST: Count(19809)},
        bring="lvis_v1_val.json.zip from https://www.lvisdataset.org/dataset, COCO's train2017.zip and val2017.zip",
        page="https://www.lvisdataset.org",
        licence="annotations CC BY 4.0, pictures of COCO",
        metrics=("ap",),
        archives={"lvis_v1_val.json.zip": "lvis", "train2017.zip": "coco", "val2017.zip": "coco"},
        verify=VERIFY,
    ),
    SetSpec(
        name="v3det",
        title="V3Det validation, 13,204 classes, boxes",
        version="1",
        layouts=(
            Layout(folders=("V3Det", "v3det"), needs=("annotations/v3det_2023_v1_val.json", "images")),
        ),
        classes=Count(13204, verified=True, source=_V3DET),
        counts={TEST: Count(29821, verified=True, source=_V3DET)},
        bring="the annotation files and the download script of https://v3det.openxlab.org.cn",
        page="https://v3det.openxlab.org.cn",
        licence="annotations CC BY 4.0, pictures by Flickr users under their own licences",
        metrics=("ap",),
        verify=VERIFY,
    ),
)  # fmt: skip


def _coco_file(image: Mapping[str, Any]) -> str:
    return f"val2017/{by_file_name(image)}"


@dataclass(frozen=True, slots=True)
class _Reading:
    """How a set's file is read.

    Attributes:
        class_id: the field of a category that tells its class.
        most: detections of one class in one picture that its official evaluation counts: 300 of LVIS (over all classes
            of a picture, which `per_image` sees to) and of V3Det (V3Det/mmdetection-V3Det, tools/eval_v3det.py), 100 of
            COCO.
    """

    federated: bool
    file_of: FileOf
    class_id: str
    most: int
    groups: Callable[[Mapping[str, Any]], str]


_READINGS = {
    "coco": _Reading(False, _coco_file, "name", 100, lambda category: ""),
    "lvis": _Reading(True, by_coco_url, "name", 300, lambda category: _FREQUENCY[category["frequency"]]),
    "v3det": _Reading(False, by_file_name, "id", 300, lambda category: "novel" if category.get("novel") else "base"),
}


def open_benchmark(name: str, **options: Any) -> DetectionBenchmark:
    """The boxes of `coco`, `lvis` or `v3det`: those of the annotation file, or proposals for its pictures.

    Class names are those of the file with "_" read as a space. LVIS tells words of two meanings apart by brackets, "bow
    (weapon)"; they stay, since two classes would else have one name.

    Args:
        options: fields of `trireme.benchmarks.detection.benchmark.DetectionOptions`.

    Raises:
        DataError: the set is not here, or its files are not those of the published set.
        UsageError: no such set, or option.
    """
    if name not in _READINGS:
        raise unknown_name("detection set", name, _READINGS)
    chosen = read_options(name, options)
    spec, reading = PUBLISHED[name], _READINGS[name]
    annotations, folder = read(spec)
    groups = tuple(reading.groups(one) for one in annotations.categories)
    return make_benchmark(
        annotations,
        folder,
        chosen,
        name=name,
        version=spec.version,
        class_ids=tuple(str(one[reading.class_id]) for one in annotations.categories),
        class_names=tuple(str(one["name"]).replace("_", " ") for one in annotations.categories),
        class_groups=groups,
        subsets={"all": None, **{group: (group,) for group in sorted(set(groups)) if group}},
        templates=templates("photos"),
        most=reading.most,
    )


def read(spec: SetSpec) -> tuple[Annotations, Path]:
    """A set's annotations, compared with its spec, and the folder that their pictures' paths start at.

    Raises:
        DataError: the set is not here, or is not the published one.
    """
    place = locate(spec)
    file = place.layout.needs[0]
    reading = _READINGS[spec.name]
    annotations = read_annotations(place.folder / file, reading.federated, reading.file_of)
    where = f"data set '{spec.name}' in {place.folder}"
    check_count(where, "classes", len(annotations.categories), spec.classes)
    check_count(where, "pictures", len(annotations.pictures), spec.counts[TEST])
    return annotations, _start(place)


def _start(place: Place) -> Path:
    """Where the paths of a set's pictures start: above their folders.

    Links to those folders are not followed, since what lies beside their targets is not the set's. Where the set's own
    folder is a link, "../coco" is beside the link, or beside what it leads to.
    """
    folders: list[Path] = []
    for start in (place.folder, place.folder.resolve()):
        folders = [Path(os.path.normpath(start / need)) for need in place.layout.needs[1:]]
        if all(folder.is_dir() for folder in folders):
            break
    return folders[0].parent


def verify(spec: SetSpec) -> None:
    """Read the annotation file and compare it with the spec; no picture is opened.

    Raises:
        DataError: what is wrong with it.
    """
    read(spec)
