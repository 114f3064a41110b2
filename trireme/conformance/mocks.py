"""Mock tasks of every kind: eight drawn classes, enough pictures to tell a method that works from one that does not.

    mock/zero-shot  mock/few-shot  mock/detection  mock/retrieval      benchmarks, each with a pair set of its name
    mock/train                                                          a pair set to train on

Pictures are drawn once below the home of Trireme: a coloured shape on noise. Neither a file's name nor a sample's id
tells a class.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from trireme.benchmarks.base import RowBenchmark, RowPairs
from trireme.benchmarks.image_text.benchmark import Captioned, ImageTextBenchmark, samples_of, subsets_of
from trireme.errors import unknown_name
from trireme.files import fingerprint, home
from trireme.hashes import file_sha256
from trireme.types import Benchmark, ImageRef, Pair, Region, Role, Sample, Task

VERSION = "1"
COLOURS = {"red": (210, 40, 40), "green": (40, 160, 60), "blue": (50, 70, 210), "yellow": (225, 200, 40)}
SHAPES = ("circle", "square")
CLASSES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
GROUPS = ("common", "common", "common", "common", "common", "rare", "rare", "fresh")
"""As the world has them, so that a config which guards a subset can be checked here too."""
SUBSETS = {"all": None, "common": ("common",), "rare": ("rare", "fresh"), "fresh": ("fresh",)}
TEMPLATES = ("{}", "a drawing of a {}.")
SIZE = 24
"""Pixels a side; a mosaic of detection has two by two of them."""
_EACH = {"test": 3, "validation": 2, "memory": 4, "train": 3}
_WORDS = ("small", "large", "on grey", "hand-drawn", "flat")
_TASKS = {"mock/zero-shot": Task.ZERO_SHOT, "mock/few-shot": Task.FEW_SHOT}
BENCHMARKS = (*_TASKS, "mock/detection", "mock/retrieval", "mock/validation", "mock/retrieval-validation")
PAIR_SETS = ("mock/zero-shot", "mock/few-shot", "mock/detection", "mock/retrieval", "mock/train")


_LOOKED: list[list[str]] = []


@contextmanager
def watched() -> Iterator[list[str]]:
    """The names of the mock benchmarks whose test samples are asked for meanwhile, by whoever opens one."""
    looked: list[str] = []
    _LOOKED.append(looked)
    try:
        yield looked
    finally:
        _LOOKED.pop()


def note_look(name: str, role: Role) -> None:
    """For whoever gives out samples, or refuses to."""
    if role == Role.TEST and _LOOKED:
        _LOOKED[-1].append(name)


@dataclass(frozen=True)
class MockBenchmark(RowBenchmark):
    """Drawn pictures. It notes who asks for its test samples, which no method may."""

    def samples(self, role: Role = Role.TEST) -> Sequence[Sample]:
        note_look(self.name, role)
        return super().samples(role)


@dataclass(frozen=True)
class MockRetrieval(ImageTextBenchmark):
    """Drawn pictures with captions, watched likewise."""

    def samples(self, role: Role = Role.TEST) -> Sequence[Sample]:
        note_look(self.name, role)
        return super().samples(role)


@dataclass(frozen=True)
class MockDetection(MockBenchmark):
    """Boxes of known classes; as a detection set does, it asks for a long list and a score of every class."""

    task: Task = Task.DETECTION
    keep: int = 100
    every_class: bool = True


def open_benchmark(name: str) -> Benchmark:
    """A mock benchmark.

    Raises:
        UsageError: no such one.
    """
    if name not in BENCHMARKS:
        raise unknown_name("benchmark", name, BENCHMARKS)
    if name.startswith("mock/retrieval"):
        return _retrieval(name)
    role = Role.VALIDATION if name == "mock/validation" else Role.TEST
    kind = MockDetection if name == "mock/detection" else MockBenchmark
    rows = _boxes() if name == "mock/detection" else labelled(str(role))
    both = name == "mock/few-shot"  # as your own data and published sets do: test and validation under one name
    task = Task.DETECTION if name == "mock/detection" else _TASKS.get(name, Task.ZERO_SHOT)
    return kind(
        name=name,
        version=VERSION,
        class_ids=tuple(f"m{c}" for c in range(len(CLASSES))),
        class_names=CLASSES,
        class_groups=GROUPS,
        subsets=SUBSETS,
        templates=TEMPLATES,
        rows={role: rows, Role.VALIDATION: labelled("validation")} if both else {role: rows},
        validation=name if both else None if role is Role.VALIDATION else "mock/validation",
        task=task,
    )


def open_pairs(name: str) -> RowPairs:
    """A mock pair set.

    Raises:
        UsageError: no such one.
    """
    if name not in PAIR_SETS:
        raise unknown_name("pair set", name, PAIR_SETS)
    which = "train" if name == "mock/train" else "memory"
    rows = [
        Pair(one.id, one.image, _caption(one, number), f"m{one.label}", "mock")
        for number, one in enumerate(labelled(which))
    ]
    return RowPairs(name, tuple(rows))


def _retrieval(name: str) -> ImageTextBenchmark:
    role = Role.VALIDATION if name.endswith("validation") else Role.TEST
    rows = [
        Captioned(one.id, one.image, item, {one.id: _caption(one, item)})
        for item, one in enumerate(labelled(str(role)))
    ]
    items = tuple(f"item {item}" for item in range(len(rows)))
    return MockRetrieval(
        name=name,
        version=VERSION,
        class_ids=items,
        class_names=items,
        class_groups=("",) * len(items),
        subsets=subsets_of(),
        templates=("{}",),
        rows={role: samples_of(rows)},
        validation=None if role is Role.VALIDATION else "mock/retrieval-validation",
    )


def _caption(sample: Sample, number: int) -> str:
    return f"{CLASSES[sample.label]}, {_WORDS[number % len(_WORDS)]}, number {number}"


def labelled(which: str) -> list[Sample]:
    """The pictures of a set ("test", "validation", "memory" or "train") in an order that tells nothing."""
    return list(_labelled(which, folder()))


@lru_cache(maxsize=64)
def _labelled(which: str, place: Path) -> tuple[Sample, ...]:
    """Read and hashed once for each home: the pictures of a version are the same wherever they are drawn."""
    made = [(label, number) for label in range(len(CLASSES)) for number in range(_EACH[which])]
    made.sort(key=lambda one: fingerprint([which, *one]))
    return tuple(
        Sample(f"{which}-{row:02}", _ref(place / which / f"{row:02}.png"), label) for row, (label, _) in enumerate(made)
    )


def _boxes() -> list[Sample]:
    """Four boxes a mosaic, each around one of its pictures."""
    tested = labelled("test")
    found = []
    for place, one in enumerate(tested):
        row, column = divmod(place % 4, 2)
        box = (float(column * SIZE), float(row * SIZE), float(SIZE), float(SIZE))
        picture = _ref(folder() / "mosaics" / f"{place // 4:02}.png")
        found.append(Sample(f"box-{place:02}", ImageRef(picture.path, picture.sha256, Region(box)), one.label))
    return found


@lru_cache(maxsize=256)
def _ref(path: Path) -> ImageRef:
    return ImageRef(str(path), file_sha256(path))


def folder() -> Path:
    """Where the pictures are; they are drawn the first time."""
    place = home() / "mock" / VERSION
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=place.parent, prefix=".drawing."))
        try:
            _draw_all(part)
            part.rename(place)
        except OSError:
            if not place.is_dir():  # else another process was first
                raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return place


def _draw_all(part: Path) -> None:
    for which, each in _EACH.items():
        (part / which).mkdir()
        made = [(label, number) for label in range(len(CLASSES)) for number in range(each)]
        made.sort(key=lambda one, which=which: fingerprint([which, *one]))  # type: ignore[misc]
        pictures = [draw(label, f"{which} {label} {number}") for label, number in made]
        for place, picture in enumerate(pictures):
            picture.save(part / which / f"{place:02}.png")
        if which == "test":
            _draw_mosaics(part / "mosaics", pictures)


def _draw_mosaics(part: Path, pictures: Sequence[Image.Image]) -> None:
    part.mkdir()
    for start in range(0, len(pictures), 4):
        mosaic = Image.new("RGB", (2 * SIZE, 2 * SIZE))
        for place, picture in enumerate(pictures[start : start + 4]):
            row, column = divmod(place, 2)
            mosaic.paste(picture, (column * SIZE, row * SIZE))
        mosaic.save(part / f"{start // 4:02}.png")


def draw(label: int, key: str) -> Image.Image:
    """A picture of a class; `key` decides place, size and noise."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big"))
    colour, shape = CLASSES[label].split()
    picture = Image.fromarray(rng.integers(170, 256, (SIZE, SIZE, 3), dtype=np.uint8))
    side = int(rng.integers(9, 16))
    left, top = (int(value) for value in rng.integers(1, SIZE - side - 1, 2))
    painted = tuple(int(value) for value in np.clip(np.array(COLOURS[colour]) + rng.integers(-25, 26, 3), 0, 255))
    pen = ImageDraw.Draw(picture)
    (pen.ellipse if shape == "circle" else pen.rectangle)((left, top, left + side, top + side), fill=painted)
    return picture
