"""The files of ELEVATER's sets as the `vision-datasets` package downloads and reads them (microsoft/vision-datasets
@21d86a7, IRIS_DATA_FORMAT.md and COCO_DATA_FORMAT.md).

"iris": an index file with lines "train.zip@a b.jpg 3", or "train.zip@1.jpg 0,14" for several labels counted from 0, and
a file of label names. "coco": {"images": [{id, file_name, zip_file}], "annotations": [{image_id, category_id}],
"categories": [{id, name}]}, pictures by id, classes by id. `ARCHIVE@MEMBER` is a picture in an archive that is not
compressed, so that its bytes lie in one piece (`trireme.parts`); where the archive is compressed or not there, the
folder of its name without ".zip" stands for it.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from trireme.benchmarks.datasets.opening import is_below
from trireme.benchmarks.datasets.spec import Listed, Listing
from trireme.benchmarks.datasets.texts import lines, number
from trireme.errors import DataError
from trireme.parts import Part

AGAIN = "download it again with Computer-Vision-in-the-Wild/DataDownload"
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip member: what comes before it is 30 bytes, its name and its extra


@dataclass(frozen=True, slots=True)
class LabelledListing(Listing):
    """A listing whose pictures may have several labels: {key: labels}, and -1 as the label of its rows."""

    label_sets: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


Entry = tuple[str, tuple[int, ...]]
"""What a picture is called, and its labels."""


@cache
def entries() -> dict[str, Any]:
    """`elevater.json`: {set: its folder, files, numbers, metric, templates and classes}."""
    path = files("trireme.benchmarks.datasets") / "elevater.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["sets"]
    return found


def read(folder: Path, split: str) -> Listing:
    """One split of the set whose folder has this name.

    Raises:
        DataError: a file is damaged or of another version; names it.
    """
    entry = next(one for one in entries().values() if Path(one["folder"]).name == folder.name)
    index, classes = folder / entry["splits"][split]["index"], tuple(entry["classes"])
    found = list(_coco(index, len(classes)) if entry["format"] == "coco" else _iris(index))
    if entry["labelmap"]:
        _check_labels(folder / entry["labelmap"], len(classes))
    _check_entries(index, found, len(classes), entry["several_labels"])
    places = _places(folder, index, [name for name, _ in found])
    if entry["several_labels"]:
        rows = tuple(Listed(place, -1, name) for place, (name, _) in zip(places, found, strict=True))
        return LabelledListing(classes, classes, rows, dict(found))
    return Listing(
        classes,
        classes,
        tuple(Listed(place, labels[0], name) for place, (name, labels) in zip(places, found, strict=True)),
    )


def _iris(path: Path) -> Iterator[Entry]:
    for line in lines(path):
        name, space, labels = line.rpartition(" ")
        if not space:
            raise DataError(f"{path}: '{line[:60]}' is no picture with its label; {AGAIN}")
        yield name, tuple(number(path, label) for label in labels.split(","))


def _check_labels(path: Path, classes: int) -> None:
    found = lines(path)
    if len(found) != classes:
        raise DataError(f"{path} names {len(found)} classes where the published set has {classes}; {AGAIN}")


def _coco(path: Path, classes: int) -> Iterator[Entry]:
    """Pictures by id, as the package lists them; categories by id are the classes."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        place = {one["id"]: label for label, one in enumerate(sorted(found["categories"], key=lambda one: one["id"]))}
        images = {one["id"]: _coco_name(one) for one in sorted(found["images"], key=lambda one: one["id"])}
        labels: dict[Any, list[int]] = {key: [] for key in images}
        for one in found["annotations"]:
            labels[one["image_id"]].append(place[one["category_id"]])
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; {AGAIN}") from error
    except KeyError as error:
        raise DataError(f"{path} has no {error}, which its own rows refer to or should have; {AGAIN}") from error
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is no annotation file of the COCO kind ({error}); {AGAIN}") from error
    if len(place) != classes:
        raise DataError(f"{path} has {len(place)} categories where the published set has {classes} classes; {AGAIN}")
    if len(images) != len(found["images"]):
        raise DataError(f"{path} has two images with one id; {AGAIN}")
    for key, name in images.items():
        yield name, tuple(labels[key])


def _coco_name(image: Mapping[str, Any]) -> str:
    archive = image.get("zip_file") or ""
    return f"{archive}@{image['file_name']}" if archive else str(image["file_name"])


def _check_entries(path: Path, found: Sequence[Entry], classes: int, several: bool) -> None:
    for name, labels in found:
        archive, at, member = name.partition("@")
        if not is_below(archive) or (at and not is_below(member)):
            raise DataError(f"{path}: '{name}' leaves the folder of the set; nothing outside it is read")
        if not labels or (len(labels) > 1 and not several) or len(set(labels)) != len(labels):
            expected = "labels, each once" if several else "one label"
            raise DataError(f"{path}: '{name}' has the labels {list(labels)}; expected {expected}; {AGAIN}")
        wrong = next((label for label in labels if not 0 <= label < classes), None)
        if wrong is not None:
            raise DataError(f"{path}: '{name}' has the label {wrong}; the set has 0 to {classes - 1}; {AGAIN}")


def _places(folder: Path, index: Path, names: Sequence[str]) -> list[str]:
    """Where each picture lies, from the folder: a file, or a part of an archive."""
    archives = {name.partition("@")[0] for name in names if "@" in name}
    inside = {archive: _members(folder / archive, names) for archive in sorted(archives)}
    places = []
    for name in names:
        archive, at, member = name.partition("@")
        if not at:
            places.append(archive)
        elif member in inside[archive]:
            offset, size = inside[archive][member]
            places.append(Part(archive, offset, size, member).path)
        else:
            places.append(f"{archive.removesuffix('.zip')}/{member}")
    return places


def _members(path: Path, names: Sequence[str]) -> Mapping[str, tuple[int, int]]:
    """{member: (offset, size)} of the pictures of an archive; none where its folder is to be used.

    Raises:
        DataError: it is no zip archive, or a compressed one that is not extracted.
    """
    extracted = path.with_suffix("").is_dir()
    if not path.is_file():
        return {}
    wanted = {name.partition("@")[2] for name in names if name.partition("@")[0] == path.name}
    places: dict[str, tuple[int, int]] = {}
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            for member in archive.infolist():
                if member.filename not in wanted:
                    continue
                if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                    if extracted:
                        return {}
                    raise DataError(
                        f"{path} is compressed, and pictures are read in place; extract it: "
                        f"unzip {path.name} -d {path.stem}, in {path.parent}"
                    )
                file.seek(member.header_offset)
                name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
                places[member.filename] = (member.header_offset + 30 + name + extra, member.file_size)
    except (zipfile.BadZipFile, struct.error, OSError) as error:
        raise DataError(f"{path} is no whole zip archive ({error}); {AGAIN}") from error
    return places
