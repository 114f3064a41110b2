"""What an encoder is, and what every backend shares: reading pictures, devices, normalisation."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from trireme.errors import DataError, UsageError
from trireme.hashes import file_sha256
from trireme.parts import read_bytes
from trireme.types import WITHOUT_EFFECT, Floats

__all__ = [
    "BadEmbeddingError",
    "Encoder",
    "EncoderConfig",
    "file_sha256",
    "load_image",
    "normalise",
    "resolve_device",
    "resolve_dtype",
]

# Pillow refuses a picture of more than twice its limit of pixels; that it is above the limit is nothing to tell a user.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_HOLE = bytes(64)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@runtime_checkable
class Encoder(Protocol):
    """Pictures and texts into one shared space. n samples, d embedding dimension.

    Building one reads configuration and hashes files; the weights load at the first forward pass.

    Attributes:
        name: shown in tables, e.g. "lite" or "open_clip:ViT-B-32:openai".
        dim: d.
        fingerprint: 16 hex digits over architecture, weights, preprocessing and dtype; not over device or path.
        logit_scale: the factor on cosines, already exponentiated.
    """

    @property
    def name(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def logit_scale(self) -> float: ...

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """An RGB picture to (3, H, W) float32, as the weights were trained. Safe to call from several threads."""
        ...

    def encode_pixels(self, pixels: torch.Tensor) -> Floats:
        """(n, 3, H, W) preprocessed pictures to (n, d), L2-normalised."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """n texts to (n, d), L2-normalised."""
        ...

    def encode_tokens(self, pixels: torch.Tensor) -> Floats:
        """(n, 3, H, W) to the patch tokens of the image tower, (n, tokens, width); UsageError where it has none."""
        ...


@dataclass
class EncoderConfig:
    """What every encoder's `Config` starts with.

    Attributes:
        device: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1" ... Never changes a fingerprint.
        dtype: "float32", "bfloat16" or "float16".
    """

    device: str = field(default="auto", metadata=WITHOUT_EFFECT)
    dtype: str = "float32"


class BadEmbeddingError(DataError):
    """A model gave NaN, infinity or a zero vector; `rows` says for which of its inputs."""

    def __init__(self, message: str, rows: Sequence[int]) -> None:
        super().__init__(message)
        self.rows = tuple(rows)


def resolve_device(name: str) -> torch.device:
    """The torch device of a configuration value. UsageError where it does not exist."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device '{name}'; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device '{name}' asked for, but torch sees {torch.cuda.device_count()} GPUs; use device=auto")
    return device


def resolve_dtype(name: str) -> torch.dtype:
    """The torch dtype of a configuration value. UsageError where Trireme does not offer it."""
    if name not in DTYPES:
        raise UsageError(f"unknown dtype '{name}'; use {', '.join(DTYPES)}")
    return DTYPES[name]


def normalise(embeddings: torch.Tensor, encoder: str) -> Floats:
    """(n, d) of any float dtype on any device to float32 rows of length 1.

    Raises:
        BadEmbeddingError: a row holds NaN or infinity, or is zero; names the encoder and the rows.
    """
    rows = embeddings.detach().float()
    norms = rows.norm(dim=1, keepdim=True)
    bad = (~torch.isfinite(norms) | (norms == 0)).squeeze(1)
    if bool(bad.any()):
        where = torch.nonzero(bad).squeeze(1).tolist()
        kind = "NaN or infinite" if bool((~torch.isfinite(norms)).any()) else "zero"
        message = (
            f"encoder {encoder} gives {kind} embeddings for {len(where)} of {len(rows)} inputs (first: {where[0]})"
        )
        raise BadEmbeddingError(message + "; its weights or its dtype are broken", where)
    result: Floats = (rows / norms).cpu().numpy()
    return result


def load_image(source: str | Path | bytes) -> Image.Image:
    """Read a picture as RGB.

    Transparency is laid on white, 16-bit greys are scaled to 8 bits, the first frame of an animation is taken. EXIF
    orientation is ignored, as the loaders of CLIP, open_clip and of the three papers do. A large picture is decoded
    whole: a JPEG decoded at a reduced size has other pixels than the loaders of the papers give.

    Args:
        source: a path (of a part of a file, too, `trireme.parts`), or the bytes of the file.

    Raises:
        DataError: missing, truncated, corrupt, not a picture, or of more than 179 million pixels (Pillow's own limit).
    """
    name = "the picture" if isinstance(source, bytes) else str(source)
    try:
        content = source if isinstance(source, bytes) else read_bytes(str(source))
        _check_whole(content)
        with Image.open(io.BytesIO(content)) as image:
            return _to_rgb(image)
    except UnidentifiedImageError as error:
        raise DataError(f"cannot read {name}: not a picture, or damaged from its first bytes on") from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, zlib.error, struct.error and more
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"cannot read {name}: {' '.join(reason.split())}") from error


def _check_whole(content: bytes) -> None:
    """Refuse damage that Pillow decodes to pixels which were never there.

    It compares no checksum of a PNG. And a JPEG whose rest is zeros, as downloads that were broken off leave it, gives
    grey; those that lack their end mark for another reason are left to the decoder.
    """
    if content.startswith(b"\x89PNG"):
        with Image.open(io.BytesIO(content)) as image:
            image.verify()
    elif content.startswith(b"\xff\xd8") and content.endswith(_HOLE):
        end, scan = content.rfind(b"\xff\xd9"), content.rfind(b"\xff\xda")
        if end < scan:
            raise ValueError("it ends in zeros instead of its last pixels; fetch it again")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; save it with 8 bits a channel")
    if image.mode.startswith("I"):  # 16-bit greys; Pillow's own conversion clips them to white
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError("32-bit pixels have no known range; save it with 8 bits a channel")
        return Image.fromarray((grey >> 8 if grey.max() > 255 else grey).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
