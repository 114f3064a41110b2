"""Which emoji become classes, which pictures stay, and how classes are split. Every rule counts what it drops."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from trireme.benchmarks.world.emoji import Emoji
from trireme.benchmarks.world.families import BY_NAME, FAMILIES, MEMORY, TEST, TRAINING, VALIDATION
from trireme.progress import progress
from trireme.types import Floats

RULES = "1"  # raise it when a rule changes: the world's version and fingerprint follow

DRAWINGS = 5  # an emoji stays when at least so many artists drew it
COPY = 0.9  # pixel correlation above which two pictures of one emoji count as the same drawing
SAME = 2.0  # root mean square difference (of 255) below which two pictures cannot be told apart
BLANK = 4.0  # standard deviation (of 255) below which nothing is seen on white
_SIDE = 64  # pictures are compared at this size, which forgives half a pixel of shift

COMMON, FRESH, FRESH_VALIDATION, RARE = "common", "fresh", "fresh-val", "rare"
_SHARES = ((0.60, COMMON), (0.65, FRESH_VALIDATION), (0.75, FRESH), (1.0, RARE))

Pictures = Mapping[str, Mapping[str, Path]]  # {family: {hexcode: file}}


@dataclass(frozen=True, slots=True)
class Dropped:
    """What one rule removed: emoji as hex codes, pictures as "family/hexcode"."""

    rule: str
    emoji: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()


@dataclass(slots=True)
class Selection:
    """What is left: emoji in the standard's order, {family: hexcodes} of their pictures, and what each rule took."""

    emoji: list[Emoji]
    pictures: dict[str, set[str]]
    dropped: list[Dropped] = field(default_factory=list)

    def drop(self, rule: str, emoji: Collection[str] = (), pictures: Iterable[tuple[str, str]] = ()) -> None:
        """Remove, and remember under the rule's name. An emoji takes its pictures with it."""
        gone = set(emoji)
        self.dropped.append(
            Dropped(
                rule,
                tuple(one.hexcode for one in self.emoji if one.hexcode in gone),
                tuple(sorted(f"{family}/{hexcode}" for family, hexcode in pictures)),
            )
        )
        for family, hexcode in pictures:
            self.pictures[family].discard(hexcode)
        self.emoji = [one for one in self.emoji if one.hexcode not in gone]
        for kept in self.pictures.values():
            kept -= gone

    def drawn_by(self, hexcode: str, roles: Collection[str]) -> list[str]:
        """Families of any of the roles that still show the emoji, in table order."""
        return [
            family.name
            for family in FAMILIES
            if set(roles) & set(family.roles) and hexcode in self.pictures.get(family.name, ())
        ]


def select(emoji: Sequence[Emoji], pictures: Pictures) -> Selection:
    """Apply every rule in order.

    Args:
        emoji: candidates in the standard's order, flags and skin tones already out.
        pictures: all drawings of the candidates.
    """
    chosen = Selection(list(emoji), {family: set(files) for family, files in pictures.items()})
    chosen.drop(f"drawn by fewer than {DRAWINGS} artists", _few_drawings(chosen))
    pixels = _load(chosen, pictures)
    chosen.drop("pictures on which nothing is seen", pictures=_blank(chosen, pixels))
    chosen.drop("emoji that look identical to an earlier one", _look_alikes(chosen, pixels))
    chosen.drop("training pictures shared by several emoji", pictures=_shared(chosen, pixels))
    chosen.drop(f"copies across roles (pixel correlation above {COPY})", pictures=_copies(chosen, pixels))
    chosen.drop("no test picture or no memory picture left", _without_either(chosen))
    return chosen


def split_of(hexcode: str) -> str:
    """The class split of a code point, the same on every machine and in every version."""
    digest = hashlib.sha256(hexcode.encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return next(split for limit, split in _SHARES if share < limit)


def _few_drawings(chosen: Selection) -> list[str]:
    def artists(hexcode: str) -> int:
        return len({BY_NAME[name].artist for name, kept in chosen.pictures.items() if hexcode in kept})

    return [one.hexcode for one in chosen.emoji if artists(one.hexcode) < DRAWINGS]


def _load(chosen: Selection, pictures: Pictures) -> dict[str, tuple[list[str], Floats]]:
    """{family: (hexcodes in the standard's order, pixels (n, 3 * 64 * 64) in 0..255)}."""
    loaded: dict[str, tuple[list[str], Floats]] = {}
    total = sum(len(kept) for kept in chosen.pictures.values())
    with progress("compare pictures", total, "pictures") as bar, ThreadPoolExecutor(2) as pool:
        for name in pictures:
            codes = [one.hexcode for one in chosen.emoji if one.hexcode in chosen.pictures[name]]
            rows = np.empty((len(codes), 3 * _SIDE * _SIDE), dtype=np.float32)
            for row, pixels in enumerate(pool.map(_pixels, [pictures[name][hexcode] for hexcode in codes])):
                rows[row] = pixels
                bar.advance()
            loaded[name] = (codes, rows)
    return loaded


def _pixels(path: Path) -> Floats:
    with Image.open(path) as image:
        small = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).reshape(-1)


Loaded = Mapping[str, tuple[list[str], Floats]]


def _blank(chosen: Selection, pixels: Loaded) -> list[tuple[str, str]]:
    return [
        (name, hexcode)
        for name, (codes, rows) in pixels.items()
        for hexcode, spread in zip(codes, rows.std(axis=1), strict=True)
        if spread < BLANK
    ]


def _same(chosen: Selection, pixels: Loaded, families: Callable[[str], bool]) -> Iterable[tuple[str, str, str]]:
    """(family, earlier emoji, later emoji) wherever one family shows both by the same picture."""
    for name, (codes, rows) in pixels.items():
        if not families(name):
            continue
        squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
        distances = squares[:, None] + squares[None, :] - 2.0 * (rows @ rows.T).astype(np.float64)
        # the expansion loses digits on near-equal rows, so it only proposes; the difference itself decides
        near = np.triu(distances / rows.shape[1] < (4 * SAME) ** 2, k=1)
        for one, other in zip(*np.nonzero(near), strict=True):
            kept = chosen.pictures[name]
            if codes[one] in kept and codes[other] in kept:
                difference = rows[one] - rows[other]
                if float(np.sqrt(np.mean(difference * difference))) < SAME:
                    yield name, codes[one], codes[other]


def _look_alikes(chosen: Selection, pixels: Loaded) -> set[str]:
    """Later emoji of a pair that one artist draws alike, in art that is asked about or retrieved."""

    def counts(name: str) -> bool:
        return bool({TEST, VALIDATION, MEMORY} & set(BY_NAME[name].roles))

    return {later for _, _, later in _same(chosen, pixels, counts)}


def _shared(chosen: Selection, pixels: Loaded) -> set[tuple[str, str]]:
    """Pictures of training-only families (one of them has no colour) that stand for several emoji."""

    def counts(name: str) -> bool:
        return BY_NAME[name].roles == (TRAINING,)

    pairs = list(_same(chosen, pixels, counts))
    return {(name, hexcode) for name, *both in pairs for hexcode in both}


def _copies(chosen: Selection, pixels: Loaded) -> set[tuple[str, str]]:
    """Pictures that nearly copy one of the same emoji in a role that goes first: test, validation, then the rest.

    The test role loses nothing, and nothing tested or selected on has a near-copy in a memory or a training set.
    """
    sides = [_families(TEST), _families(VALIDATION), _families(MEMORY, TRAINING)]
    unit = {name: _standardised(rows) for name, (_, rows) in pixels.items()}
    place = {name: {hexcode: row for row, hexcode in enumerate(codes)} for name, (codes, _) in pixels.items()}
    gone: set[tuple[str, str]] = set()
    for rank, side in enumerate(sides):
        guarded = [name for earlier in sides[:rank] for name in earlier]
        for name in side:
            for hexcode in chosen.pictures.get(name, ()):
                row = unit[name][place[name][hexcode]]
                for other in guarded:
                    if (other, hexcode) in gone or hexcode not in chosen.pictures.get(other, ()):
                        continue
                    if float(row @ unit[other][place[other][hexcode]]) > COPY:
                        gone.add((name, hexcode))
    return gone


def _families(*roles: str) -> list[str]:
    return [family.name for family in FAMILIES if set(roles) & set(family.roles)]


def _standardised(rows: Floats) -> Floats:
    """Rows of mean 0 and norm 1, so that a product is a Pearson correlation."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(norms, 1e-6), dtype=np.float32)


def _without_either(chosen: Selection) -> list[str]:
    return [
        one.hexcode
        for one in chosen.emoji
        if not chosen.drawn_by(one.hexcode, (TEST,)) or not chosen.drawn_by(one.hexcode, (MEMORY,))
    ]
