"""Trunk tokens of a training set, once plain and many times augmented, held in memory as bfloat16."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trireme.progress import progress
from trireme.retrieval.encoders.lite.augment import augment
from trireme.retrieval.encoders.lite.trunk import Trunk, preprocess
from trireme.retrieval.pictures import open_picture
from trireme.types import ImageRef

BATCH = 64
VERSION = 1
"""Raise it when the same pictures, number of views and seed give other tokens: some are kept on disk."""


def read_pixels(refs: Sequence[ImageRef]) -> Tensor:
    """n pictures -> (n, 3, 128, 128) float32. Raises DataError naming a picture that cannot be read."""
    return torch.stack([preprocess(open_picture(ref)) for ref in refs])


@torch.inference_mode()
def plain_tokens(trunk: Trunk, pixels: Tensor) -> Tensor:
    """(n, 3, 128, 128) -> (n, tokens, width) bfloat16."""
    return torch.cat([trunk(batch).bfloat16() for batch in torch.split(pixels, BATCH)])


@torch.inference_mode()
def token_views(trunk: Trunk, pixels: Tensor, views: int, seed: int) -> Tensor:
    """(n, 3, 128, 128) -> (views, n, tokens, width) bfloat16. The first view is the plain one."""
    generator = torch.Generator().manual_seed(seed)
    first = plain_tokens(trunk, pixels)
    out = torch.empty(views, *first.shape, dtype=torch.bfloat16)
    out[0] = first
    with progress("trunk tokens of augmented views", (views - 1) * len(pixels)) as bar:
        for view in out[1:]:
            for start in range(0, len(pixels), BATCH):
                batch = pixels[start : start + BATCH]
                view[start : start + BATCH] = trunk(augment(batch, generator)).bfloat16()
                bar.advance(len(batch))
    return out
