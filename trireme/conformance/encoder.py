"""The rules of an encoder: unit vectors of one space, the same for the same picture or text, whatever is beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from trireme.conformance.configuration import check_round_trip
from trireme.conformance.mocks import CLASSES, labelled
from trireme.conformance.report import Rule, broken
from trireme.errors import BrokenRuleError, UsageError
from trireme.retrieval.encoders.base import DTYPES, load_image
from trireme.types import Floats, without_effect

_HAS = ("name", "dim", "fingerprint", "logit_scale", "preprocess", "encode_pixels", "encode_texts", "encode_tokens")
_TEXTS = (*CLASSES, "", "ein rotes Quadrat, größer", "赤い四角", "word " * 400)
_TOLERANCE = 2e-3
"""Embeddings of one picture in two batches: kernels sum in another order, and half precision rounds as coarsely."""


@dataclass
class EncoderTrial:
    """An encoder under check, with eight pictures."""

    cls: Any
    config: Any

    @cached_property
    def encoder(self) -> Any:
        return self.cls(self.config)

    @cached_property
    def pixels(self) -> torch.Tensor:
        """(8, 3, H, W)."""
        return torch.stack([self.encoder.preprocess(load_image(one.image.path)) for one in labelled("test")[:8]])

    @cached_property
    def images(self) -> Floats:
        found: Floats = self.encoder.encode_pixels(self.pixels)
        return found

    @cached_property
    def texts(self) -> Floats:
        found: Floats = self.encoder.encode_texts(list(_TEXTS))
        return found


def declaration(trial: EncoderTrial) -> str:
    """All of the contract is there."""
    encoder = trial.encoder
    if absent := [name for name in _HAS if not hasattr(encoder, name)]:
        raise broken(f"it has no `{absent[0]}`; see trireme.retrieval.encoders.base.Encoder")
    if not isinstance(encoder.dim, int) or encoder.dim < 1:
        raise broken(f"`dim` is {encoder.dim!r}")
    if not float(encoder.logit_scale) > 0:
        raise broken(f"`logit_scale` is {encoder.logit_scale}; it is the factor on cosines, already exponentiated")
    return f"{encoder.name}, {encoder.dim} numbers"


def config(trial: EncoderTrial) -> str:
    """The config is a dataclass with defaults, and each field comes back from the command line and from JSON."""
    return check_round_trip("encoder", trial.cls)


def preprocess(trial: EncoderTrial) -> str:
    """A picture becomes (3, H, W) float32, the same every time."""
    picture = load_image(labelled("test")[0].image.path)
    first, second = trial.encoder.preprocess(picture), trial.encoder.preprocess(picture)
    if not isinstance(first, torch.Tensor) or first.dtype != torch.float32 or first.ndim != 3 or first.shape[0] != 3:
        raise broken(f"preprocess gives {getattr(first, 'shape', type(first).__name__)}; give (3, H, W) float32")
    if not torch.equal(first, second):
        raise broken("preprocess gives other pixels the second time; random views belong into training")
    return " x ".join(map(str, first.shape))


def shapes(trial: EncoderTrial) -> str:
    """Pictures and texts become (n, d) float32."""
    wanted = {"encode_pixels": (trial.images, len(trial.pixels)), "encode_texts": (trial.texts, len(_TEXTS))}
    for name, (found, n) in wanted.items():
        if not isinstance(found, np.ndarray) or found.shape != (n, trial.encoder.dim) or found.dtype != np.float32:
            shown = f"{found.shape} {found.dtype}" if isinstance(found, np.ndarray) else type(found).__name__
            raise broken(f"{name} gives {shown} for {n} inputs; give ({n}, {trial.encoder.dim}) float32")
    return ""


def unit_length(trial: EncoderTrial) -> str:
    """Every embedding is finite and has length 1, those of odd texts too."""
    for name, found in (("encode_pixels", trial.images), ("encode_texts", trial.texts)):
        lengths = np.linalg.norm(found, axis=1)
        if not np.isfinite(found).all() or np.abs(lengths - 1).max() > 1e-3:
            row = int(np.nan_to_num(np.abs(lengths - 1), nan=np.inf).argmax())
            raise broken(f"{name} gives a vector of length {lengths[row]:.4g} for input {row}; divide it by its length")
    return ""


def distinct(trial: EncoderTrial) -> str:
    """Different pictures have different embeddings, and so have different class names."""
    for name, found in (("pictures", trial.images), ("class names", trial.texts[: len(CLASSES)])):
        if len(np.unique(found.round(5), axis=0)) < len(found):
            raise broken(f"two different {name} have one embedding")
    return ""


def determinism(trial: EncoderTrial) -> str:
    """Built again, it gives the same embeddings under the same fingerprint."""
    other = trial.cls(trial.config)
    if other.fingerprint != trial.encoder.fingerprint or not re.fullmatch(r"[0-9a-f]{16}", str(other.fingerprint)):
        raise broken(
            "its fingerprint is not the same 16 hex digits when it is built again; see trireme.files.fingerprint"
        )
    _same(trial.images, other.encode_pixels(trial.pixels), "built again, it sees pictures differently")
    _same(trial.texts, other.encode_texts(list(_TEXTS)), "built again, it reads texts differently")
    return ""


def batches(trial: EncoderTrial) -> str:
    """An embedding does not depend on what else is in the batch, nor on its place."""
    encoder = trial.encoder
    alone = np.concatenate([encoder.encode_pixels(one[None]) for one in trial.pixels])
    _same(trial.images, alone, "a picture alone is seen differently than among others")
    _same(trial.images, encoder.encode_pixels(trial.pixels.flip(0))[::-1], "in the opposite order it sees differently")
    alone = np.concatenate([encoder.encode_texts([text]) for text in _TEXTS])
    _same(trial.texts, alone, "a text alone is read differently than among others")
    return ""


def inputs(trial: EncoderTrial) -> str:
    """Pixels and texts are as they were."""
    pixels, texts = trial.pixels.clone(), list(_TEXTS)
    trial.encoder.encode_pixels(pixels)
    trial.encoder.encode_texts(texts)
    if not torch.equal(pixels, trial.pixels) or texts != list(_TEXTS):
        raise broken("it changes the pixels or texts that it is given")
    return ""


def tokens(trial: EncoderTrial) -> str:
    """Patch tokens are (n, tokens, width), or refused by UsageError."""
    try:
        found = trial.encoder.encode_tokens(trial.pixels)
    except UsageError:
        return "refuses"
    if found.ndim != 3 or len(found) != len(trial.pixels):
        raise broken(f"encode_tokens gives {found.shape}; give (n, tokens, width), or raise UsageError")
    return f"{found.shape[1]} of {found.shape[2]} numbers"


def fingerprint(trial: EncoderTrial) -> str:
    """The fingerprint tells every option that changes an embedding, and not the device, which changes none."""
    idle, own = without_effect(type(trial.config)), str(trial.encoder.fingerprint)
    if "device" in idle and trial.cls(replace(trial.config, device="cpu")).fingerprint != own:
        raise broken("its fingerprint changes with the device")
    told = []
    for name in (one.name for one in fields(trial.config) if one.name not in idle):
        for value in _others(name, getattr(trial.config, name)):
            try:
                other = trial.cls(replace(trial.config, **{name: value}))
                if other.fingerprint == own and _differ(trial.encoder, other):
                    raise broken(f"with {name}={value} it gives other embeddings under the same fingerprint")
            except BrokenRuleError:
                raise
            except Exception:  # a value that it refuses, or cannot work with
                continue
            told.append(name)
            break
    return f"{own}, tried: {', '.join(told)}" if told else own


def _others(name: str, value: Any) -> tuple[Any, ...]:
    """Other values of an option. Those of a text, such as a model's name, cannot be guessed."""
    if name == "dtype":
        return tuple(one for one in DTYPES if one != value)
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int | float):
        return (value + 1, value * 2, value / 2) if isinstance(value, float) else (value + 1, value * 2, value // 2)
    return ()


def _differ(one: Any, other: Any) -> bool:
    """Whether two encoders embed two pictures, or two texts, differently: by more than kernels' order of sums does."""
    pictures = [load_image(sample.image.path) for sample in labelled("test")[:2]]
    pixels = [torch.stack([encoder.preprocess(picture) for picture in pictures]) for encoder in (one, other)]
    sides = [
        (one.encode_pixels(pixels[0]), other.encode_pixels(pixels[1])),
        (one.encode_texts(list(_TEXTS[:2])), other.encode_texts(list(_TEXTS[:2]))),
    ]
    return any(a.shape != b.shape or not np.allclose(a, b, rtol=0, atol=1e-5) for a, b in sides)


def _same(one: Floats, other: Sequence[Any] | Floats, what: str) -> None:
    far = np.abs(np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)).max()
    if not far <= _TOLERANCE:
        raise broken(f"{what} (by {far:.2g})")


RULES: Mapping[str, Rule] = {
    "declaration": declaration,
    "config": config,
    "preprocess": preprocess,
    "shapes": shapes,
    "unit-length": unit_length,
    "distinct": distinct,
    "determinism": determinism,
    "batches": batches,
    "inputs": inputs,
    "tokens": tokens,
    "fingerprint": fingerprint,
}
