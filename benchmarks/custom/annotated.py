"""`coco:FILE` and `lvis:FILE`: boxes of your own pictures, from an annotation file in the format of COCO or of LVIS.

Pictures lie in the folder of the option `images`, the file's own folder where it is not given, under their `file_name`
(LVIS's own files have none: there, the last two parts of `coco_url`). A class is a category's name. A benchmark is
detection, with every option that `lvis` has; in a memory every box is a pair, shown as the benchmark shows its boxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trireme.benchmarks.base import RowPairs
from trireme.benchmarks.custom.rows import absolute, unique_classes
from trireme.benchmarks.detection.annotations import Annotations, by_coco_url, by_file_name, read_annotations
from trireme.benchmarks.detection.benchmark import DetectionBenchmark, make_benchmark, read_options
from trireme.benchmarks.templates import templates
from trireme.errors import DataError, unknown_name
from trireme.hashes import file_hashes
from trireme.types import ImageRef, Pair, Region

_GROUPS = {"r": "rare", "c": "common", "f": "frequent", "": ""}
_MOST = {"coco": 100, "lvis": 300}  # detections of one class in one picture that the official evaluations count
_SHOWN = ("images", "crop", "square", "blur")


def open_benchmark(name: str, **options: Any) -> DetectionBenchmark:
    """The boxes of an annotation file, or proposals for its pictures.

    Args:
        name: "coco:FILE" or "lvis:FILE"; the latter needs LVIS's own fields (`frequency`, `neg_category_ids` ...).
        options: `images`, and fields of `trireme.benchmarks.detection.benchmark.DetectionOptions`.

    Raises:
        DataError: a file or folder is missing, or contradicts itself.
        UsageError: an unknown option.
    """
    scheme = name.partition(":")[0]
    images = options.pop("images", None)
    chosen = read_options(name, options)
    annotations, folder, names = _read(name, images)
    groups = _groups(annotations)
    return make_benchmark(
        annotations,
        folder,
        chosen,
        name=name,
        version="user",
        class_ids=names,
        class_names=_shown(names),
        class_groups=groups,
        subsets={"all": None, **{group: (group,) for group in sorted(set(groups)) if group}},
        templates=templates("photos"),
        most=_MOST[scheme],
    )


def open_pairs(name: str, **options: Any) -> RowPairs:
    """Every box that can be shown, as a pair that says "a photo of <class>".

    Args:
        options: `images`, `crop`, `square` and `blur`, as `open_benchmark` has them.
    """
    for option in options:
        if option not in _SHOWN:
            raise unknown_name(f"option of '{name}'", option, _SHOWN)
    images = options.pop("images", None)
    chosen = read_options(name, options)
    annotations, folder, names = _read(name, images)
    files = [f"{folder}/{picture.file}" for picture in annotations.pictures]
    hashes = file_hashes(files, workers=2)
    shown = _shown(names)
    pairs = []
    for row in np.flatnonzero(~annotations.ignored & ~annotations.empty).tolist():
        image, label = int(annotations.image[row]), int(annotations.label[row])
        x, y, width, height = annotations.boxes[row].tolist()
        region = Region((x, y, width, height), chosen.crop, chosen.square, chosen.blur)
        digest = hashes[image]
        ref = ImageRef(files[image], digest if isinstance(digest, str) else None, region)
        number = f"{annotations.pictures[image].id}/{annotations.ids[row]}"
        pairs.append(Pair(number, ref, f"a photo of {shown[label]}", names[label], name))
    if not pairs:
        raise DataError(f"annotation file {annotations.path} has no box that can be shown")
    return RowPairs(name, tuple(sorted(pairs, key=lambda pair: pair.id)))


def _groups(annotations: Annotations) -> tuple[str, ...]:
    """The group of every class, "" where the file does not say how frequent it is."""
    for category, letter in zip(annotations.categories, annotations.frequencies, strict=True):
        if letter not in _GROUPS:
            raise DataError(
                f"annotation file {annotations.path}: category {category['id']} has the frequency "
                f"{category['frequency']!r}; known are r, c and f, as LVIS counts: correct it, or leave it out"
            )
    return tuple(_GROUPS[letter] for letter in annotations.frequencies)


def _read(name: str, images: Any) -> tuple[Annotations, Path, tuple[str, ...]]:
    """The file, the folder of its pictures, and the classes' names."""
    scheme, _, place = name.partition(":")
    path = absolute(place)
    folder = path.parent if images is None else absolute(str(images))
    if not folder.is_dir():
        raise DataError(f"there is no folder of pictures {folder}; give it as images=FOLDER")
    annotations = read_annotations(path, scheme == "lvis", by_file_name if scheme == "coco" else _of_lvis)
    names = [category["name"] for category in annotations.categories]
    return annotations, folder, unique_classes(names, f"annotation file {path}")


def _of_lvis(image: Mapping[str, Any]) -> str:
    return by_file_name(image) if "file_name" in image else by_coco_url(image)


def _shown(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.replace("_", " ") for name in names)
