"""Readers of CoOp's data sets: `split_zhou_<NAME>.json`, FGVC-Aircraft's own lists, ImageNet's folders.

A split file is {"train": [[path, label, class name], ...], "val": ..., "test": ...}. CoOp regenerates one that is
missing; here it has to be the published one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from trireme.benchmarks.datasets.opening import is_below
from trireme.benchmarks.datasets.spec import TEST, TRAIN, VALIDATION, Listed, Listing
from trireme.benchmarks.datasets.text_lists import aircraft as official_aircraft
from trireme.benchmarks.datasets.texts import table
from trireme.errors import DataError

PAGE = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"
_PARTS: Mapping[str, str] = MappingProxyType({TRAIN: "train", VALIDATION: "val", TEST: "test"})

Entry = tuple[str, int, str]


def read_split(file: str, images: str, folder: Path, split: str) -> Listing:
    """One part of a split file.

    Args:
        file: "split_zhou_<NAME>.json" in `folder`.
        images: where its paths start, from `folder`; "" for `folder` itself.

    Raises:
        DataError: the file is no split file, or one part of it contradicts another; names the entry.
    """
    path = folder / file
    parts = {name: list(_entries(path, name, rows)) for name, rows in _load(path).items()}
    names = _class_names(path, parts)
    _each_once(path, parts)
    start = f"{images}/" if images else ""
    rows = tuple(Listed(f"{start}{picture}", label, picture) for picture, label, _ in parts[_PARTS[split]])
    return Listing(names, tuple(name.replace("_", " ") for name in names), rows)  # CoOp shows "_" as a space


def _load(path: Path) -> Mapping[str, list[Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; download it from {PAGE}") from error
    except ValueError as error:  # no JSON, or no UTF-8
        raise DataError(f"{path} is not JSON ({error}); download it again from {PAGE}") from error
    wanted = [*_PARTS.values()]
    if not isinstance(found, dict) or sorted(found) != sorted(wanted):
        keys = ", ".join(sorted(found)) if isinstance(found, dict) else type(found).__name__
        raise DataError(f"{path} has {keys or 'nothing'}; a split file has {', '.join(wanted)}; download it again")
    for name, rows in found.items():
        if not isinstance(rows, list) or not rows:
            raise DataError(f"{path}: '{name}' lists no pictures; download it again from {PAGE}")
    return {name: found[name] for name in wanted}


def _entries(path: Path, part: str, rows: list[Any]) -> Iterator[Entry]:
    for number, row in enumerate(rows):
        where = f"{path}: entry {number} of '{part}'"
        if not isinstance(row, list) or len(row) != 3:
            raise DataError(f"{where} is {json.dumps(row)[:60]}; expected [path, label, class name]")
        picture, label, name = row
        if not (isinstance(picture, str) and type(label) is int and isinstance(name, str) and name):
            raise DataError(f"{where} is {json.dumps(row)[:60]}; expected [text, whole number, text]")
        if not is_below(picture):
            raise DataError(f"{where}: '{picture}' leaves the folder of the set; nothing outside it is read")
        yield picture, label, name


def _class_names(path: Path, parts: Mapping[str, list[Entry]]) -> tuple[str, ...]:
    """The class names by label, which are 0 to c - 1 with one name each."""
    names: dict[int, str] = {}
    for part, rows in parts.items():
        for picture, label, name in rows:
            if names.setdefault(label, name) != name:
                raise DataError(
                    f"{path}: label {label} is '{names[label]}', and '{name}' for '{picture}' in '{part}'; "
                    f"download it again from {PAGE}"
                )
    absent = next((label for label in range(len(names)) if label not in names), None)
    if absent is not None:
        odd = min(label for label in names if not 0 <= label < len(names))
        raise DataError(
            f"{path}: {len(names)} classes have labels from 0 to {len(names) - 1}, but none has {absent} and "
            f"'{names[odd]}' has {odd}; download it again from {PAGE}"
        )
    return tuple(names[label] for label in range(len(names)))


def _each_once(path: Path, parts: Mapping[str, list[Entry]]) -> None:
    held: dict[str, str] = {}
    for part, rows in parts.items():
        for picture, _, _ in rows:
            if picture in held:
                also = "twice" if held[picture] == part else f"in '{held[picture]}' too"
                raise DataError(f"{path}: '{picture}' of '{part}' is listed {also}; download it again from {PAGE}")
            held[picture] = part


def _published(file: str, images: str) -> Callable[[Path, str], Listing]:
    return partial(read_split, f"split_zhou_{file}.json", images)


caltech101 = _published("Caltech101", "101_ObjectCategories")
cars = _published("StanfordCars", "")
dtd = _published("DescribableTextures", "images")
eurosat = _published("EuroSAT", "2750")
flowers102 = _published("OxfordFlowers", "jpg")
food101 = _published("Food101", "images")
pets = _published("OxfordPets", "images")
sun397 = _published("SUN397", "SUN397")
ucf101 = _published("UCF101", "UCF-101-midframes")


def aircraft(folder: Path, split: str) -> Listing:
    """FGVC-Aircraft has no split file: CoOp takes its official lists of variants."""
    return official_aircraft(folder, split)


def imagenet(folder: Path, split: str) -> Listing:
    """images/<train or val>/<synset>/<pictures>; the label is the place of the synset, its name in `classnames.txt`.

    CoOp lists a folder as the disk gives it; here names are sorted, so that "the first n" are the same everywhere.
    """
    names = dict(table(folder / "classnames.txt", 2))
    top = folder / "images" / ("train" if split == TRAIN else "val")
    try:
        synsets = sorted(entry.name for entry in top.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        rows = tuple(
            Listed(f"images/{top.name}/{synset}/{picture}", label, f"{synset}/{picture}")
            for label, synset in enumerate(synsets)
            for picture in sorted(entry.name for entry in (top / synset).iterdir() if not entry.name.startswith("."))
        )
    except OSError as error:
        raise DataError(f"cannot list {error.filename}: {error.strerror}; see {PAGE}") from error
    unnamed = next((synset for synset in synsets if synset not in names), None)
    if unnamed is not None:
        raise DataError(f"{folder / 'classnames.txt'} has no name for the folder {top / unnamed}; see {PAGE}")
    return Listing(tuple(synsets), tuple(names[synset] for synset in synsets), rows)
