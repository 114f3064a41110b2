"""A world of vectors in which it is known what retrieval can and cannot do.

Concept c has a text direction u_c. Pictures of a *known* concept lie near u_c, so the encoder names them by itself.
Pictures of an *unknown* concept lie near another direction w_c: pictures of one concept resemble each other,
but not their own name, which is the premise of RECO. A picture file holds its concept,
its number and its set as the colour of its pixels, and the encoder reads it back.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from trireme.files import fingerprint
from trireme.methods.base import Context, Validation
from trireme.retrieval.index import IndexConfig
from trireme.retrieval.memory import Memory
from trireme.retrieval.store import EmbeddingStore
from trireme.types import Floats, ImageRef, Ints, Pair, PairSet, Role, Sample, Task

DIM = 64
CONCEPTS, KNOWN = 24, 12
SETS = ("memory", "train", "validation", "test")


@dataclass(frozen=True)
class Pairs:
    """A pair set held in a list."""

    name: str
    held: Sequence[Pair]

    @property
    def fingerprint(self) -> str:
        return fingerprint([(p.id, p.image.path, p.caption, p.label) for p in self.held])

    def pairs(self) -> Sequence[Pair]:
        return self.held


def unit(rows: np.ndarray) -> Floats:
    result: Floats = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return result


def _noise(*key: object) -> np.ndarray:
    """A unit vector that depends on the key alone."""
    seed = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big")
    return unit(np.random.default_rng(seed).standard_normal(DIM))


class VectorEncoder:
    """Pictures and texts to vectors by the rule of this module; `spread`: length of the noise around a direction."""

    name, dim, logit_scale = "vectors", DIM, 20.0

    def __init__(self, spread: float = 0.9) -> None:
        self.spread = spread
        self.fingerprint = fingerprint(["vectors", DIM, CONCEPTS, KNOWN, spread])

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        colour = image.convert("RGB").getpixel((0, 0))
        return torch.tensor(colour, dtype=torch.float32)[:, None, None]

    def encode_pixels(self, pixels: torch.Tensor) -> Floats:
        return np.stack([self._picture(*map(int, row)) for row in pixels[:, :, 0, 0].tolist()])

    def _picture(self, concept: int, number: int, which: int) -> Floats:
        direction = _noise("text", concept) if concept < KNOWN else _noise("picture", concept)
        return unit(direction + self.spread * _noise(concept, number, which))

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        return np.stack([unit(_noise("text", int(re.findall(r"\d+", t)[0])) + 0.3 * _noise(t)) for t in texts])

    def encode_tokens(self, pixels: torch.Tensor) -> Floats:
        return self.encode_pixels(pixels)[:, None]


@dataclass(frozen=True)
class VectorBenchmark:
    """Every concept is a class; subsets "known" and "unknown"."""

    held: Sequence[Sample]
    name: str = "vectors/validation"
    version: str = "1"
    task: Task = Task.ZERO_SHOT
    metrics: tuple[str, ...] = ("top1",)
    class_ids: tuple[str, ...] = tuple(f"c{c}" for c in range(CONCEPTS))
    class_names: tuple[str, ...] = tuple(f"concept {c}" for c in range(CONCEPTS))
    class_groups: tuple[str, ...] = ("known",) * KNOWN + ("unknown",) * (CONCEPTS - KNOWN)
    subsets: dict[str, tuple[str, ...] | None] = field(
        default_factory=lambda: {"all": None, "known": ("known",), "unknown": ("unknown",)}
    )
    templates: tuple[str, ...] = ("{}", "a picture of {}")
    validation: str | None = None

    def samples(self, role: Role = Role.TEST) -> Sequence[Sample]:
        return self.held

    def fingerprint(self, role: Role = Role.TEST) -> str:
        return fingerprint([self.name, self.class_names, self.templates, [(s.id, s.label) for s in self.held]])

    def score(self, ranked: Ints, labels: Ints) -> dict[str, Floats]:
        return {"top1": (ranked[:, 0] == labels).astype(np.float32)}


class VectorWorld:
    """Pictures, pair sets and contexts of the vector world under one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def pairs(self, which: str, each: int = 4) -> list[Pair]:
        """`each` pairs of every concept for one of `SETS`."""
        folder = self.folder / which
        folder.mkdir(parents=True, exist_ok=True)
        made = []
        for concept in range(CONCEPTS):
            for number in range(each):
                path = folder / f"{concept}-{number}.png"
                Image.new("RGB", (2, 2), (concept, number, SETS.index(which))).save(path)
                caption = f"concept {concept}, as number {number} of {which} shows it"
                made.append(Pair(f"{which}/{concept}-{number}", ImageRef(str(path)), caption, f"c{concept}", which))
        return made

    def samples(self, which: str, each: int = 4) -> list[Sample]:
        return [Sample(p.id, p.image, int(p.label[1:])) for p in self.pairs(which, each)]

    def context(self, memory: Sequence[Pair] | None = None, spread: float = 0.9, validate: bool = True) -> Context:
        """A context over the memory's pairs (four of every concept unless given) with the pair set "vectors/train"."""
        encoder = VectorEncoder(spread)
        store = EmbeddingStore(encoder, batch_size=64, workers=1)
        held = self.pairs("memory") if memory is None else memory
        benchmark = VectorBenchmark(self.samples("validation", 2))
        sets: dict[str, PairSet] = {"vectors/train": Pairs("vectors/train", self.pairs("train"))}
        return Context(
            encoder=encoder,
            store=store,
            memory=Memory.build(Pairs("vectors/memory", held), store, index=IndexConfig()),
            class_ids=benchmark.class_ids,
            class_names=benchmark.class_names,
            templates=benchmark.templates,
            validation=Validation(benchmark, benchmark.held) if validate else None,
            pair_set=sets.__getitem__,
            seed=0,
            device="cpu",
            artifacts=self.folder / "trained",
        )


def unlabelled(pairs: Sequence[Pair]) -> list[Pair]:
    """The same pairs without labels."""
    return [replace(pair, label="") for pair in pairs]
