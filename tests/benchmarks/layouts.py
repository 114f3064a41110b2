"""Published data sets in small: the official file names and schema, a few classes, pictures drawn here.

Every writer fills a folder as its set's archives would, and says what is in it. The numbers are not those of the
published set, so tests open it by a spec with these numbers (`Catalogue.replaced`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.benchmarks.datasets.spec import TEST, TRAIN, VALIDATION, Count, SetSpec

_COLOURS = ((200, 60, 60), (60, 200, 60), (60, 60, 200), (128, 128, 128), (200, 200, 60), (40, 40, 40))
PER_CLASS = 3
"""Pictures of each class in each split."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer made: class names as they should be read, and ids by split in the published order."""

    names: tuple[str, ...]
    ids: Mapping[str, tuple[str, ...]]

    def spec(self, name: str) -> SetSpec:
        """The set's own spec with the numbers of what was written, all of them verified."""
        return replace(
            PUBLISHED[name],
            classes=Count(len(self.names), True, "the test"),
            counts={split: Count(len(ids), True, "the test") for split, ids in self.ids.items()},
        )


def draw(path: Path, label: int, number: int) -> None:
    """A noisy square in the colour of its class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([label, number, len(path.name), sum(map(ord, path.name))])
    pixels = np.array(_COLOURS[label % len(_COLOURS)]) + rng.normal(0, 40, 3) + rng.normal(0, 40, (32, 32, 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def aircraft(root: Path) -> Written:
    """fgvc-aircraft-2013b/data as the archive has it."""
    folder, names = root / "fgvc-aircraft-2013b" / "data", ("707-320", "A300B4", "An-12")
    write_lines(folder / "variants.txt", list(names))
    ids: dict[str, tuple[str, ...]] = {}
    for part, (split, file) in enumerate(((TRAIN, "train"), (VALIDATION, "val"), (TEST, "test"))):
        rows = []
        for label, name in enumerate(names):
            for number in range(PER_CLASS):
                picture = f"{part}{label}{number:05}"
                draw(folder / "images" / f"{picture}.jpg", label, number)
                rows.append((picture, name))
        write_lines(folder / f"images_variant_{file}.txt", [" ".join(row) for row in rows])
        ids[split] = tuple(row[0] for row in rows)
    return Written(names, ids)


def food101(root: Path) -> Written:
    """food-101 as the archive has it."""
    folder, classes = root / "food-101", ("apple_pie", "baby_back_ribs", "baklava")
    write_lines(folder / "meta" / "classes.txt", list(classes))
    ids: dict[str, tuple[str, ...]] = {}
    for part, split in enumerate((TRAIN, TEST)):
        rows = [f"{name}/{part}{number:06}" for name in classes for number in range(PER_CLASS)]
        for number, row in enumerate(rows):
            draw(folder / "images" / f"{row}.jpg", classes.index(row.split("/")[0]), number)
        write_lines(folder / "meta" / f"{split}.txt", rows)
        ids[split] = tuple(rows)
    return Written(("apple pie", "baby back ribs", "baklava"), ids)


LAYOUTS: Mapping[str, Callable[[Path], Written]] = {"aircraft": aircraft, "food101": food101}
