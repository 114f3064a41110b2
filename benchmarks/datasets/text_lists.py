"""Sets whose splits are lists of text: FGVC-Aircraft, Food-101.

A reader is called as (folder, split) and gives what the files say; `opening.check` compares it with the spec.
"""

from __future__ import annotations

from pathlib import Path

from trireme.benchmarks.datasets.spec import TEST, TRAIN, VALIDATION, Listed, Listing
from trireme.benchmarks.datasets.texts import class_number, lines, table

_AIRCRAFT = {TRAIN: "train", VALIDATION: "val", TEST: "test"}


def aircraft(folder: Path, split: str) -> Listing:
    """`variants.txt` lists the classes; `images_variant_<split>.txt` has lines "1514522 707-320"."""
    names = tuple(lines(folder / "variants.txt"))
    place = {name: label for label, name in enumerate(names)}
    path = folder / f"images_variant_{_AIRCRAFT[split]}.txt"
    rows = tuple(
        Listed(f"images/{picture}.jpg", class_number(path, name, place), picture) for picture, name in table(path, 2)
    )
    return Listing(names, names, rows)


def food101(folder: Path, split: str) -> Listing:
    """`meta/classes.txt` lists the classes; `meta/<split>.txt` has lines "apple_pie/1005649"; "_" is a space."""
    ids = tuple(lines(folder / "meta" / "classes.txt"))
    place = {name: label for label, name in enumerate(ids)}
    path = folder / "meta" / f"{split}.txt"
    rows = tuple(
        Listed(f"images/{picture}.jpg", class_number(path, picture.partition("/")[0], place), picture)
        for picture in lines(path)
    )
    return Listing(ids, tuple(name.replace("_", " ") for name in ids), rows)
