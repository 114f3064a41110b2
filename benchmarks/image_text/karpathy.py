"""Karpathy's split files (`dataset_coco.json`, `dataset_flickr30k.json`): pictures with their captions and splits.

{"images": [{"filename", "filepath" (COCO), "imgid", "split", "sentids", "sentences": [{"raw", "sentid", "imgid"}]}]}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trireme.benchmarks.datasets.spec import TEST, TRAIN, VALIDATION
from trireme.errors import DataError
from trireme.progress import say

SPLITS = {"train": TRAIN, "restval": TRAIN, "val": VALIDATION, "test": TEST}
"""`restval`, which COCO's file has, is what is left of its val2014; the field trains on it too."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture of a split file.

    Attributes:
        path: as the file has it: `filepath`, where there is one, and `filename`.
        split: "train", "validation" or "test".
        captions: {sentence id: text}.
    """

    filename: str
    path: str
    split: str
    captions: Mapping[str, str]


def read_entries(path: Path) -> list[Entry]:
    """All pictures of a split file, in its order. Blank captions are left out and told.

    Raises:
        DataError: it is no such file, or what it says cannot be: names the picture and the field.
    """
    entries: list[Entry] = []
    taken: dict[str, set[str]] = {"filename": set(), "imgid": set(), "sentid": set()}
    blank = 0
    for number, image in enumerate(_images(path)):
        where = f"split file {path}: picture {number}"
        name = _field(image, "filename", str, where)
        where = f"{where} ({name})"
        _once(taken["filename"], name, "filename", where)
        key = _field(image, "imgid", int, where)
        _once(taken["imgid"], str(key), "imgid", where)
        split = _field(image, "split", str, where)
        if split not in SPLITS:
            raise DataError(f"{where}: its split is '{split}', which is none of {', '.join(SPLITS)}")
        captions = {}
        for sentence in _field(image, "sentences", list, where):
            ident = str(_field(sentence, "sentid", int, f"{where}: a sentence"))
            told = f"{where}: sentence {ident}"
            if _field(sentence, "imgid", int, told) != key:
                raise DataError(f"{told} is of another picture (imgid {sentence['imgid']}, not {key})")
            _once(taken["sentid"], ident, "sentid", told)
            text = _field(sentence, "raw", str, told).strip()
            if text:
                captions[ident] = text
            else:
                blank += 1
        if not captions:
            raise DataError(f"{where}: it has no caption that says anything; nothing can be retrieved for it")
        folder = _field(image, "filepath", str, where) if "filepath" in image else ""
        entries.append(Entry(name, f"{folder}/{name}" if folder else name, SPLITS[split], captions))
    if blank:
        say(f"note: {path.name}: {blank} captions are blank and left out")
    return entries


def _images(path: Path) -> Iterator[Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read the split file {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"the split file {path} is no JSON ({error}); extract caption_datasets.zip again") from error
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise DataError(f"the split file {path} has no list 'images'; it is not one of caption_datasets.zip")
    yield from content["images"]


def _field(held: Any, name: str, kind: type, where: str) -> Any:
    value = held.get(name) if isinstance(held, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f"{where} has no '{name}' that is a {_KINDS[kind]}")
    return value


_KINDS = {str: "text", int: "whole number", list: "list"}


def _once(taken: set[str], value: str, name: str, where: str) -> None:
    if value in taken:
        raise DataError(f"{where}: the {name} {value} is there twice; the file is damaged or of another version")
    taken.add(value)
