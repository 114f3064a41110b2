"""Flickr30k and COCO captions in small: the official file names and Karpathy's schema, a few pictures drawn here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.benchmarks.layouts import draw
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.benchmarks.datasets.spec import Count, SetSpec
from trireme.benchmarks.image_text.karpathy import SPLITS

COLOURS = ("red", "green", "blue", "grey", "yellow", "black")
"""What `tests.benchmarks.layouts.draw` paints for labels 0 to 5."""
CAPTIONS = 5


@dataclass(frozen=True, slots=True)
class Told:
    """What a writer made: the folder, the split file and its content."""

    folder: Path
    file: Path
    content: dict[str, Any]

    def of(self, split: str) -> list[dict[str, Any]]:
        """The pictures of "train" (with "restval"), "validation" or "test", in the file's order."""
        return [one for one in self.content["images"] if SPLITS[one["split"]] == split]

    def spec(self, name: str) -> SetSpec:
        """The set's own spec with the numbers of what was written, all of them verified."""
        found = Counter(SPLITS[one["split"]] for one in self.content["images"])
        return replace(PUBLISHED[name], counts={split: Count(n, True, "the test") for split, n in found.items()})

    def write(self) -> None:
        """Write the split file again after a change of `content`."""
        self.file.write_text(json.dumps(self.content))


def flickr30k(root: Path, test: int = 4) -> Told:
    """flickr30k with the split file of caption_datasets.zip and the pictures of flickr30k-images."""
    folder = root / "flickr30k"
    images = _images({"train": 6, "val": 4, "test": test}, lambda number, split: {"filename": f"{1000 + number}.jpg"})
    for image in images:
        draw(folder / "flickr30k-images" / image["filename"], image["imgid"], image["imgid"])
    return _written(folder, "dataset_flickr30k.json", {"images": images, "dataset": "flickr30k"})


def coco_captions(root: Path, test: int = 4) -> Told:
    """coco with the split file of caption_datasets.zip and the pictures of train2014 and val2014."""
    folder = root / "coco"

    def named(number: int, split: str) -> dict[str, Any]:
        year = "train2014" if split == "train" else "val2014"
        return {"filename": f"COCO_{year}_{number:012}.jpg", "filepath": year, "cocoid": number}

    images = _images({"train": 4, "restval": 2, "val": 4, "test": test}, named)
    for image in images:
        draw(folder / image["filepath"] / image["filename"], image["imgid"], image["imgid"])
    return _written(folder, "dataset_coco.json", {"images": images, "dataset": "coco"})


LAYOUTS: Mapping[str, Callable[[Path], Told]] = {"flickr30k": flickr30k, "coco-captions": coco_captions}


def _images(counts: Mapping[str, int], named: Callable[[int, str], dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for split, count in counts.items():
        for _ in range(count):
            number = len(found)
            sentids = [CAPTIONS * number + i for i in range(CAPTIONS)]
            sentences = [
                {
                    "tokens": ["a", COLOURS[number % 6], "square"],
                    "raw": f"A {COLOURS[number % 6]} square, number {number}, told for the {i}th time .",
                    "imgid": number,
                    "sentid": ident,
                }
                for i, ident in enumerate(sentids)
            ]
            image = {"sentids": sentids, "imgid": number, "sentences": sentences, "split": split}
            found.append({**image, **named(number, split)})
    return found


def _written(folder: Path, name: str, content: dict[str, Any]) -> Told:
    told = Told(folder, folder / name, content)
    told.write()
    return told
