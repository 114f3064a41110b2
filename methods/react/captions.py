"""Captions as training texts: as they are, or cut to some of their phrases."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from trireme.types import Ints

_PHRASES = re.compile(r"\s*[:;,|.]\s+")
_RANDOM = 3
VARIANTS = 2 + _RANDOM
"""Texts of a caption: itself, its first phrase, and random cuts. They are drawn once, so that a frozen text tower
encodes each once."""


def caption_variants(captions: Sequence[str], seed: int) -> list[list[str]]:
    """For every caption the caption itself, its first phrase, and the first phrase with a random choice of the others.

    The first phrase says what the picture shows, the others add to it; a class prompt has the first alone.
    """
    generator = np.random.default_rng(seed)
    return [_variants(caption, generator) for caption in captions]


def _variants(caption: str, generator: np.random.Generator) -> list[str]:
    first, *others = [phrase for phrase in _PHRASES.split(caption) if phrase] or [caption]
    cuts = []
    for _ in range(_RANDOM):
        kept = generator.permutation(len(others))[: generator.integers(0, len(others) + 1)]
        cuts.append(", ".join([first, *(others[number] for number in kept)]))
    return [caption, first, *cuts]


def draw(count: int, share: float, generator: np.random.Generator) -> Ints:
    """(count,) which variant each of `count` captions is trained with: a cut one with chance `share`, half of these
    the first phrase alone."""
    cut = generator.random(count) < share
    first = generator.random(count) < 0.5
    return np.where(cut, np.where(first, 1, generator.integers(2, VARIANTS, count)), 0).astype(np.int64)
