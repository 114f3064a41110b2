"""`LiteEncoder`: CLIP-shaped, from weights that pip alone can bring, plus a small head that ships with Trireme."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from trireme.files import fingerprint
from trireme.retrieval.encoders import customised
from trireme.retrieval.encoders.base import EncoderConfig, normalise, resolve_device, resolve_dtype
from trireme.retrieval.encoders.lite import text, trunk
from trireme.retrieval.encoders.lite.checkpoint import (
    HEAD_FILE,
    committed_weights,
    head_digest,
    read_head,
    read_logit_scale,
)
from trireme.retrieval.encoders.lite.model import LiteHead
from trireme.types import Floats

TEXT_PREFIX = customised.TEXT_PREFIX
"""What the names of the text transformer's tensors start with in a customised encoder; the others are the head's."""
PREPROCESSING = "white square, bicubic antialias, 128 px, mean 0.5, std 0.5"


class LiteEncoder:
    """EfficientNet-Lite0 (frozen), a small transformer on its patch tokens (trained), MiniLM for texts (frozen)."""

    dim = text.DIM

    @dataclass
    class Config(EncoderConfig):
        """
        Attributes:
            weights: safetensors file of the head; "" is the one that ships with Trireme.
            react: a customised encoder made from this one (retrieval/encoders/customised.py); "" is none.
        """

        weights: str = ""
        react: str = ""

    def __init__(self, config: LiteEncoder.Config | None = None) -> None:
        self.config = config or self.Config()
        self.device = resolve_device(self.config.device)
        self.dtype = resolve_dtype(self.config.dtype)
        self.weights = Path(self.config.weights).expanduser() if self.config.weights else committed_weights()
        self.react = Path(self.config.react).expanduser() if self.config.react else None

    @cached_property
    def name(self) -> str:
        """Shown in tables: "lite", "lite(weights=mine)" with other weights, "lite+react(gated)" where customised."""
        own = self.weights.resolve()
        base = "lite" if own == committed_weights().resolve() else f"lite(weights={_weights_name(own)})"
        return base if self.react is None else f"{base}+react({self.react.stem})"

    @cached_property
    def fingerprint(self) -> str:
        """`base_fingerprint`, and the customised tensors where there are any.

        Raises:
            DataError: weights are missing or damaged.
            UsageError: `react` customises another encoder than this one.
        """
        return customised.fingerprint_with(self.base_fingerprint, self.name, self.react)

    @cached_property
    def base_fingerprint(self) -> str:
        """Over both wheels, the head's weights, preprocessing and dtype; not over how a file lays the weights out.

        Raises DataError where they are missing or damaged.
        """
        return fingerprint(
            {
                "encoder": "lite",
                "trunk": trunk.WHEEL_SHA256,
                "text": text.WHEEL_SHA256,
                "head": head_digest(self.weights),
                "preprocessing": PREPROCESSING,
                "text_tokens": text.MAX_TOKENS,
                "dtype": self.config.dtype,
            }
        )

    @cached_property
    def logit_scale(self) -> float:
        """The factor on cosines that the head was trained with."""
        own = self._customised.tensors.get("logit_scale") if self._customised else None
        return math.exp(read_logit_scale(self.weights) if own is None else float(own))

    def preprocess(self, image: Image.Image) -> Tensor:
        """(3, 128, 128) float32 in [-1, 1], padded to a square on white."""
        return trunk.preprocess(image)

    @torch.inference_mode()
    def encode_pixels(self, pixels: Tensor) -> Floats:
        """(n, 3, 128, 128) -> (n, 384), L2-normalised."""
        return self.encode_features(self._trunk(self._placed(pixels)))

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """n texts -> (n, 384), L2-normalised."""
        return normalise(self._text.encode(texts), self.name)

    @torch.inference_mode()
    def encode_tokens(self, pixels: Tensor) -> Floats:
        """(n, 3, 128, 128) -> (n, 16, 640): the frozen trunk's patch tokens, row by row of a 4 x 4 grid."""
        tokens: Floats = self._trunk(self._placed(pixels)).float().cpu().numpy()
        return tokens

    @torch.inference_mode()
    def encode_features(self, tokens: Tensor) -> Floats:
        """(n, 16, 640) trunk tokens, as `encode_tokens` gives them -> (n, 384), L2-normalised."""
        return normalise(self.head(self._placed(tokens)), self.name)

    def trunk_tokens(self, pixels: Tensor) -> Tensor:
        """`encode_tokens` as a tensor on this encoder's device and in its dtype, to train a head on."""
        with torch.no_grad():
            tokens: Tensor = self._trunk(self._placed(pixels))
        return tokens

    def trainable(self) -> LiteHead:
        """A copy of `head` whose every parameter takes gradients, in evaluation mode; the encoder keeps its own."""
        return copy.deepcopy(self.head).requires_grad_(True)

    def trainable_text(self) -> nn.Module:
        """A copy of the text tower's transformers model, as `trainable` copies the head."""
        return copy.deepcopy(self._text.model).requires_grad_(True)

    def tokenise(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """n texts, each cut at 128 tokens -> `input_ids` and `attention_mask` of the text model, (n, t) int64, CPU."""
        return self._text.tokenise(texts)

    @cached_property
    def head(self) -> LiteHead:
        """The trained part, customised where `react` says so, in evaluation mode, on this encoder's device.

        Raises DataError and UsageError as `fingerprint` does.
        """
        with torch.inference_mode(False):  # tensors made inside inference mode could never be trained
            head = read_head(self.weights).to(device=self.device, dtype=self.dtype)
            if self._customised is not None:
                customised.apply(head, self._customised)
            return head.eval().requires_grad_(False)

    @cached_property
    def _customised(self) -> customised.Customised | None:
        if self.react is None:
            return None
        customised.check_base(self.react, self.name, self.base_fingerprint)
        return customised.read_as(self.react, self.base_fingerprint, self.fingerprint)

    @cached_property
    def _trunk(self) -> trunk.Trunk:
        return trunk.load_trunk().to(device=self.device, dtype=self.dtype)

    @cached_property
    def _text(self) -> text.TextTower:
        with torch.inference_mode(False):
            tower = text.TextTower(self.device, self.dtype)
            if self._customised is not None:
                customised.apply_text(tower.model, self._customised)
            return tower

    def _placed(self, values: Tensor) -> Tensor:
        return values.to(device=self.device, dtype=self.dtype)


def _weights_name(path: Path) -> str:
    """The file's name or, where it is the one that `trireme train lite` gives to every file, its folder's."""
    return path.parent.name if path.name == HEAD_FILE else path.stem
