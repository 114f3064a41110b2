"""Pictures of several objects, drawn by code: die-cut stickers of white-backed art over backgrounds of no memory.

Every number comes from the SHA-256 of a text, so that a scene is the same on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from trireme.benchmarks.detection.annotations import Doubles

DRAWING = "1"
"""Raise it when the pixels of a scene change for the same art."""

WIDTH, HEIGHT = 400, 300
_SIDES = ((0.3, 22.0, 31.0), (0.8, 40.0, 88.0), (1.0, 100.0, 136.0))
"""(share of objects up to here, shortest, longest side): small, medium and large as COCO has them, to 32 and 96."""
_MOST_COVERED = 0.1  # share of the smaller of two boxes that the other may cover
_TRIES = 40
_INK = 250  # channels below this are no white paper
_MARGIN = 5  # pixels of paper around the ink of a sticker

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Placed:
    """An object of a scene: its number among those given, and its box: x, y, width, height in whole pixels."""

    number: int
    box: tuple[int, int, int, int]


def numbers(text: str) -> Iterator[float]:
    """Uniform numbers in [0, 1) that follow from a text alone."""
    block = 0
    while True:
        digest = hashlib.sha256(f"{text} {block}".encode()).digest()
        yield from (int.from_bytes(digest[i : i + 8], "big") / 2**64 for i in range(0, 32, 8))
        block += 1


def shuffled(texts: Sequence[str], salt: str) -> list[str]:
    """The same texts in an order that looks random and follows from each of them alone."""
    return sorted(texts, key=lambda text: hashlib.sha256(f"{salt} {text}".encode()).digest())


def sticker(art: Image.Image) -> tuple[Image.Image, Image.Image]:
    """A drawing on white, cut out along its outline with a margin of paper: RGB, and the mask (L) of what is kept.

    White parts of a drawing stay: paper is what the corners of the picture reach without coming near its ink.
    """
    art = ImageOps.expand(art.convert("RGB"), _MARGIN, (255, 255, 255))  # ink that touches an edge gets its paper too
    pixels = np.asarray(art)
    near = _grown(np.asarray((pixels < _INK).any(axis=2)), _MARGIN)
    paper = np.zeros_like(near)
    paper[[0, -1], :], paper[:, [0, -1]] = ~near[[0, -1], :], ~near[:, [0, -1]]
    while True:
        more = _grown(paper, 1) & ~near
        if (more == paper).all():
            break
        paper = more
    kept = ~paper
    rows, columns = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
    frame = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return art.crop(frame), Image.fromarray((kept * 255).astype(np.uint8)).crop(frame)


def _grown(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """The mask and what lies within so many steps of it, up, down, left and right."""
    for _ in range(steps):
        wider = mask.copy()
        wider[1:] |= mask[:-1]
        wider[:-1] |= mask[1:]
        wider[:, 1:] |= mask[:, :-1]
        wider[:, :-1] |= mask[:, 1:]
        mask = wider
    return mask


def scene(art: Sequence[Image.Image], text: str) -> tuple[Image.Image, list[Placed]]:
    """A scene with all of the given drawings, the largest placed first; the boxes come in the order given.

    Args:
        text: what its background, sizes and places follow from.
    """
    picture = background(text)
    drawn = numbers(f"places {text}")
    sides = [_side(drawn) for _ in art]
    placed: list[Placed] = []
    for number in sorted(range(len(art)), key=lambda i: (-sides[i], i)):
        cut, mask = sticker(art[number])
        box, size = _place(cut.size, sides[number], [one.box for one in placed], drawn)
        picture.paste(cut.resize(size, Image.Resampling.LANCZOS), box[:2], mask.resize(size, Image.Resampling.BILINEAR))
        placed.append(Placed(number, box))
    return picture, sorted(placed, key=lambda one: one.number)


def _side(drawn: Iterator[float]) -> float:
    share, within = next(drawn), next(drawn)
    _, shortest, longest = next(row for row in _SIDES if share < row[0])
    return shortest + within * (longest - shortest)


def _place(
    size: tuple[int, int], side: float, others: Sequence[tuple[int, int, int, int]], drawn: Iterator[float]
) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """Where an object goes; it shrinks where there is no room."""
    while True:
        scale = side / max(size)
        width, height = (max(1, round(length * scale)) for length in size)
        for _ in range(_TRIES):
            box = (int(next(drawn) * (WIDTH - width)), int(next(drawn) * (HEIGHT - height)), width, height)
            if all(covered(box, other) <= _MOST_COVERED for other in others):
                return box, (width, height)
        side *= 0.8


def covered(one: Sequence[float], other: Sequence[float]) -> float:
    """The share of the smaller of two boxes that the other covers."""
    return _shared(one, other) / min(one[2] * one[3], other[2] * other[3])


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    shared = _shared(one, other)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def _shared(one: Sequence[float], other: Sequence[float]) -> float:
    wide, high = (min(one[i] + one[i + 2], other[i] + other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    return max(0.0, wide) * max(0.0, high)


def background(text: str) -> Image.Image:
    """A gradient between four colours, with clouds, stripes or checks on it, and grain."""
    drawn = numbers(f"background {text}")
    base = _smooth(_field(drawn, 2, 2, 60, 215))
    kind, strength = next(drawn), 10 + 25 * next(drawn)
    if kind < 0.5:
        base += strength * sum(_smooth(_field(drawn, 3 * 2**i, 4 * 2**i, -1, 1)) / 2**i for i in range(3))
    else:
        base += strength * _stripes(drawn, crossed=kind >= 0.75)[:, :, None]
    seed = int(next(drawn) * 2**32)
    base += np.random.RandomState(seed).randint(-6, 7, (HEIGHT, WIDTH, 1))  # a stream that numpy keeps as it is
    return Image.fromarray(np.clip(np.rint(base), 0, 255).astype(np.uint8))


def _stripes(drawn: Iterator[float], crossed: bool) -> Doubles:
    """(height, width) of -1 and 1 in stripes of any direction, or in checks. No sine: it differs between machines."""
    right, down = (1 + int(8 * next(drawn)) for _ in range(2))
    width = (6 + 20 * next(drawn)) * (right * right + down * down) ** 0.5
    rows, columns = np.arange(HEIGHT)[:, None], np.arange(WIDTH)[None, :]
    bands = np.floor((right * columns + down * rows) / width)
    if crossed:
        bands = bands + np.floor((right * rows - down * columns) / width)
    return np.asarray(1.0 - 2.0 * (bands % 2))


def _field(drawn: Iterator[float], rows: int, columns: int, low: float, high: float) -> Doubles:
    """(rows, columns, 3) numbers."""
    values = [next(drawn) for _ in range(rows * columns * 3)]
    return low + (high - low) * np.array(values).reshape(rows, columns, 3)


def _smooth(field: Doubles) -> Doubles:
    """A small field stretched over a scene, linear between its points."""
    return _stretched(_stretched(field, HEIGHT).swapaxes(0, 1), WIDTH).swapaxes(0, 1)


def _stretched(field: Doubles, length: int) -> Doubles:
    """The first axis with so many points."""
    at = np.linspace(0, len(field) - 1, length)
    before = np.minimum(at.astype(int), len(field) - 2)
    share = (at - before)[:, None, None]
    return np.asarray(field[before] * (1 - share) + field[before + 1] * share)
