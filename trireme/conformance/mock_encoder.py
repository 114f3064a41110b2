"""An encoder of 32 numbers without weights: what colour, what shape, and a trace of the pixels or the words."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from trireme.conformance.mocks import COLOURS, SHAPES, SIZE
from trireme.files import fingerprint
from trireme.retrieval.encoders.base import EncoderConfig
from trireme.types import Floats

Numbers = NDArray[np.floating]
VERSION = 1
_TRACE = 24
_DARK = 150
"""A pixel belongs to the shape where its darkest channel is below; the ground is 170 or more."""
_FILLED = {"circle": np.pi / 4, "square": 1.0}
"""How much of its own box a shape fills."""


@dataclass
class MockEncoderConfig(EncoderConfig):
    """Options of the mock encoder.

    Attributes:
        trace: length of the part that tells two pictures of one class apart, the rest being 1.
    """

    trace: float = 0.5


class MockEncoder:
    """An `Encoder` for checks: the same numbers everywhere, pictures near to their names, nothing trained."""

    Config: ClassVar[type[MockEncoderConfig]] = MockEncoderConfig
    name = "mock"
    dim = 8 + _TRACE
    logit_scale = 20.0

    def __init__(self, config: MockEncoderConfig | None = None) -> None:
        self.config = config or MockEncoderConfig()
        self.fingerprint = fingerprint(["mock", VERSION, SIZE, self.config.trace, self.config.dtype])
        self._mix = np.random.default_rng(0).standard_normal((3 * SIZE * SIZE, _TRACE)) / SIZE

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """(3, 24, 24) from 0 to 1."""
        small = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.NEAREST)
        return torch.from_numpy(np.asarray(small, dtype=np.float32).transpose(2, 0, 1) / 255)

    def encode_pixels(self, pixels: torch.Tensor) -> Floats:
        """(n, 32), each picture by itself."""
        return np.stack([self._picture(one) for one in pixels.double().numpy()])

    def _picture(self, pixels: Numbers) -> Floats:
        inside = pixels.min(axis=0) * 255 < _DARK
        if not inside.any():
            return self._joined(np.zeros(8), pixels.ravel() @ self._mix)
        rows, columns = np.nonzero(inside)
        box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        colour = pixels[:, inside].mean(axis=1) * 255
        return self._joined(_meaning(colour, len(rows) / box), (pixels - 0.8).ravel() @ self._mix)

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """(n, 32); the words for colours and shapes are understood, the others leave their trace."""
        return np.stack([self._text(text) for text in texts]) if texts else np.empty((0, self.dim), np.float32)

    def _text(self, text: str) -> Floats:
        words = text.lower().replace(",", " ").replace(".", " ").split()
        colours = [COLOURS[word] for word in words if word in COLOURS]
        shapes = [_FILLED[word] for word in words if word in _FILLED]
        seed = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
        trace = np.random.default_rng(seed).standard_normal(_TRACE)
        if not colours or not shapes:
            return self._joined(np.zeros(8), trace)
        return self._joined(_meaning(np.mean(colours, axis=0), float(np.mean(shapes))), trace)

    def _joined(self, meaning: Numbers, trace: Numbers) -> Floats:
        """A unit vector; of a picture without a shape, and of a text without its words, there is a trace only."""
        length = np.linalg.norm(meaning) or 1.0
        whole = np.concatenate([meaning / length, self.config.trace * trace / (np.linalg.norm(trace) or 1.0)])
        return (whole / (np.linalg.norm(whole) or 1.0)).astype(np.float32)

    def encode_tokens(self, pixels: torch.Tensor) -> Floats:
        """One token a picture, (n, 1, 32)."""
        return self.encode_pixels(pixels)[:, None]


def _meaning(colour: Numbers, filled: float) -> Numbers:
    """Eight numbers: how near the colour is to each that has a name, how near the shape is, and both together."""
    near = np.array([np.exp(-np.linalg.norm(colour - np.array(one)) / 60) for one in COLOURS.values()])
    shape = np.array([np.exp(-abs(filled - _FILLED[one]) / 0.08) for one in SHAPES])
    return np.concatenate([near, shape, [0.1, 0.1]])
