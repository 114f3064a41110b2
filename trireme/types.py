"""The nouns that every layer shares. No torch, no faiss, no pandas here.

Shapes: n samples or pairs, d embedding dimension, k neighbours, c classes, m ranked classes kept per sample.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


WITHOUT_EFFECT: Final[Mapping[str, bool]] = MappingProxyType({"trireme.without_effect": True})
"""Marks a field of a configuration that changes no result, only where it is computed or how long that takes:
`device: str = field(default="auto", metadata=WITHOUT_EFFECT)`. No hash of a run and no label of a table holds it."""


def without_effect(schema: type[Any]) -> frozenset[str]:
    """The fields of a configuration dataclass that are marked so."""
    return frozenset(f.name for f in fields(schema) if WITHOUT_EFFECT.items() <= f.metadata.items())


INNER: Final[Mapping[str, bool]] = MappingProxyType({"trireme.inner": True})
"""Marks a field of a method's configuration that holds another method, or none where it is empty:
`candidates: dict[str, Any] = field(default_factory=dict, metadata=INNER)`. A config writes `candidates: {method: NAME}`
with options of NAME beside it; `trireme.methods.inner` opens what becomes of it."""


def inner_fields(schema: type[Any]) -> tuple[str, ...]:
    """The fields of a method's configuration dataclass that hold another method."""
    return tuple(f.name for f in fields(schema) if INNER.items() <= f.metadata.items())


class Role(StrEnum):
    """What a picture may be used for. Nothing is ever selected on TEST."""

    TEST = "test"
    VALIDATION = "validation"


class Task(StrEnum):
    """The kinds of benchmark; a method declares the ones it can do."""

    ZERO_SHOT = "zero_shot"
    FEW_SHOT = "few_shot"
    DETECTION = "detection"
    RETRIEVAL = "retrieval"
    """Pictures and captions that ask for each other; a method gives embeddings of both
    (`trireme.methods.base.CrossModal`)."""


DIRECTIONS: Final = ("i2t", "t2i")
"""Subsets of a retrieval benchmark: pictures that ask for captions, and captions that ask for pictures."""


REGION_VERSION: Final = 1
"""Raise it when the same region gives other pixels (`trireme.retrieval.pictures`); hashes and caches hold it."""

_WIDEST: Final = 2.0**31


@dataclass(frozen=True, slots=True)
class Region:
    """A box in a picture, and how it is shown.

    Attributes:
        box: x, y, width, height in pixels of the file as COCO and LVIS write them: from its upper left corner, before
            any EXIF rotation. Fractions are allowed; edges are moved to the nearest pixel edge.
        crop: factor on the sides of what is shown, about the centre of the box; 1 shows the box.
        square: show a square of the box's longer side (times `crop`) instead of the box's own shape.
        blur: standard deviation of a Gaussian blur of everything outside the box, as a share of the box's longer side,
            so that boxes of every size look alike once they are scaled for a model; 0 blurs nothing.
        fill: RGB of what is shown from outside the picture.
    """

    box: tuple[float, float, float, float]
    crop: float = 1.0
    square: bool = True
    blur: float = 0.0
    fill: tuple[int, int, int] = (255, 255, 255)

    def __post_init__(self) -> None:
        """Plain numbers in tuples, so that equal regions have equal texts: 1 is 1.0, and -0.0 is 0.0."""
        x, y, width, height = (float(value) + 0.0 for value in self.box)
        red, green, blue = (int(value) for value in self.fill)
        for name, value in (("box", (x, y, width, height)), ("fill", (red, green, blue))):
            object.__setattr__(self, name, value)
        for name, number in (("crop", self.crop), ("blur", self.blur)):
            object.__setattr__(self, name, float(number) + 0.0)

    @property
    def fault(self) -> str:
        """Why no picture has such a region, "" where one may have it."""
        shown = ", ".join(f"{value:g}" for value in self.box)
        if not all(abs(value) < _WIDEST for value in self.box):  # NaN is not below anything
            return f"its box ({shown}) is not made of numbers of pixels"
        if not (self.box[2] > 0 and self.box[3] > 0):
            return f"its box ({shown}) has no area"
        if not (0 < self.crop < _WIDEST and 0 <= self.blur < _WIDEST):
            return f"its box is shown with crop={self.crop:g} and blur={self.blur:g}; crop is above 0, blur 0 or more"
        return ""

    @property
    def text(self) -> str:
        """All of it as JSON, for hashes and columns: the same text for equal regions only."""
        held = {"box": self.box, "crop": self.crop, "square": self.square, "blur": self.blur, "fill": self.fill}
        return json.dumps({"version": REGION_VERSION, **held})  # `asdict` takes thrice as long; sets have 10^5 boxes

    @classmethod
    def parse(cls, text: str) -> Region:
        """The region of a `text`."""
        held = json.loads(text)
        return cls(**{key: value for key, value in held.items() if key != "version"})


@dataclass(frozen=True, slots=True)
class ImageRef:
    """A picture on disk, or a region of one.

    Attributes:
        path: absolute path of the file, or of the part of a file that holds it (`trireme.parts`).
        sha256: hex digest of its bytes where a manifest knows it; it keys the embedding cache.
        region: the part that is meant; None for the whole picture.
    """

    path: str
    sha256: str | None = None
    region: Region | None = None

    def whole(self) -> ImageRef:
        """The picture that this is a region of; itself where it is whole."""
        return self if self.region is None else ImageRef(self.path, self.sha256)


@dataclass(frozen=True, slots=True)
class Sample:
    """One test (or validation) picture, or a caption of one.

    Attributes:
        label: index of `Benchmark.class_names`; -1 where it is withheld.
        text: of a caption that asks for pictures, what it says; "" where the picture itself asks. The picture of a
            caption is what it looks for: it must be readable, and stay out of memories, as any other.
        group: of a benchmark whose subsets are not groups of classes, the sample's own group; "" for that of its class.
    """

    id: str
    image: ImageRef
    label: int = -1
    text: str = ""
    group: str = ""

    def unlabelled(self) -> Sample:
        """The same sample as a method sees it in `predict`; with a caption, the picture would be its label."""
        return Sample(self.id, self.image) if not self.text else Sample(self.id, ImageRef(""), text=self.text)

    def group_among(self, class_groups: Sequence[str]) -> str:
        """The group that it counts in, "" without a label."""
        return "" if self.label < 0 else self.group or class_groups[self.label]


@dataclass(frozen=True, slots=True)
class Pair:
    """One image-caption pair of a memory or a training set.

    Attributes:
        id: stable and unique within its set.
        label: the class id (`Benchmark.class_ids`) of the picture, "" where unknown. Only methods that declare
            labels as their supervision may read it.
        source: where the pair comes from (an art family, a crawl, a folder).
    """

    id: str
    image: ImageRef
    caption: str
    label: str = ""
    source: str = ""


@runtime_checkable
class PairSet(Protocol):
    """A named set of image-caption pairs: what a memory is built from, or what a method trains on."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str:
        """Hash of ids, picture hashes (with regions), captions and labels."""
        ...

    def pairs(self) -> Sequence[Pair]: ...


@runtime_checkable
class DrawnPairs(PairSet, Protocol):
    """So many pairs a class of another pair set. Where one cannot be kept, the next of its class is drawn instead."""

    @property
    def base(self) -> PairSet:
        """The set that is drawn from."""
        ...

    def draw(self, stay: Callable[[Sequence[Pair]], Sequence[bool]]) -> Sequence[Pair]:
        """The pairs, in the order of `base`; `stay` tells of some pairs which of them can be kept."""
        ...

    def facts(self, drawn: Sequence[Pair]) -> Mapping[str, Any]:
        """What a record says about the draw: `shots`, `rule`, `short` (classes with fewer pairs), and more."""
        ...


@runtime_checkable
class Benchmark(Protocol):
    """Samples, class names, templates and a metric. It knows no method and no encoder.

    Of a retrieval benchmark (`Task.RETRIEVAL`) the "classes" are what its pictures show and its captions tell: where
    one of a picture and a caption asks, the other is a hit if it has the same label. No method is told their names.

    `class_ids` are stable ids (`Pair.label` refers to them), `class_names` what is shown to a text encoder, in the
    same order. `class_groups[i]` is the group of class i ("common", "rare", "fresh", "" ...); `subsets` maps a reported
    subset to the groups that it holds, `None` for all of them.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def task(self) -> Task: ...
    @property
    def metrics(self) -> tuple[str, ...]:
        """Metric names, the main one first, e.g. ("top1", "top5")."""
        ...

    @property
    def class_ids(self) -> tuple[str, ...]: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def class_groups(self) -> tuple[str, ...]: ...
    @property
    def subsets(self) -> Mapping[str, tuple[str, ...] | None]: ...
    @property
    def templates(self) -> tuple[str, ...]:
        """Prompt templates with one `{}` for the class name."""
        ...

    @property
    def validation(self) -> str | None:
        """Name of the benchmark whose VALIDATION role selects hyper-parameters for this one (`None`: there is none)."""
        ...

    def samples(self, role: Role = Role.TEST) -> Sequence[Sample]: ...

    def fingerprint(self, role: Role = Role.TEST) -> str:
        """Hash of class names, split ids, picture hashes (with regions), templates and metric code."""
        ...

    def score(self, ranked: Ints, labels: Ints) -> Mapping[str, Floats]:
        """Per-sample values in [0, 1] of every metric; ranked (n, m) class indices, -1 padded; labels (n,)."""
        ...


class Evaluator(Protocol):
    """Metrics that are no mean over samples (an AP, an AUC, a harmonic mean) of one set of predictions.

    Its samples fall into units that are independent of each other, such as the pictures of a detection set. What the
    metrics would be if the units had been drawn with other counts gives their interval (bootstrap).
    """

    @property
    def units(self) -> int:
        """How many units there are, u."""
        ...

    @property
    def sizes(self) -> Mapping[tuple[str, str], int]:
        """{(subset, metric): how many things it counts}; every metric that `values` gives is there."""
        ...

    def values(self, counts: Ints) -> Mapping[tuple[str, str], float]:
        """{(subset, metric): value in [0, 1], NaN where it is not defined}, as if unit i occurred counts[i] times.

        Args:
            counts: (u,) from 0; all ones for what was predicted.
        """
        ...


@runtime_checkable
class SetBenchmark(Protocol):
    """A benchmark some of whose metrics are those of an `Evaluator`."""

    @property
    def set_metrics(self) -> tuple[str, ...]:
        """Which of `metrics` the evaluator gives; `score` gives the others."""
        ...

    def evaluator(self, predictions: Any, role: Role = Role.TEST) -> Evaluator:
        """The metrics of predictions.

        Args:
            predictions: a `pyarrow.Table` with the columns sample_id, label, group, status ("ok" or "failed"), ranked
                (list of class indices, best first) and scores (list, in the same order); one row a sample of `role`.
        """
        ...


RANKED: Final = 20
"""How many ranked classes a prediction lists, unless its benchmark asks for another number by an attribute `keep`."""


@dataclass(slots=True)
class Predictions:
    """What a method says about n samples, in the order it was asked.

    Attributes:
        ranked: (n, m) int64 class indices, best first; -1 pads a row that ranks fewer.
        scores: (n, m) float32 in the same order, higher is better.
        extras: named columns of length n (retrieved pair ids, raw replies, parse status ...), stored beside them.
        candidates: (n, k) class indices that a re-ranker chose among, -1 padded; the share of samples whose class is
            one of them is its ceiling (hit@k). None for methods that do not re-rank.
    """

    ranked: Ints
    scores: Floats
    extras: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    candidates: Ints | None = None


@dataclass(frozen=True, slots=True)
class Supervision:
    """Who was told what, and when: each of "none", "captions" or "labels"."""

    training: str = "none"
    inference: str = "none"
