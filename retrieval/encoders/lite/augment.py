"""Augmented views of drawings, for training `lite`: other poses, palettes and line widths of the same picture."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_LUMA = (0.299, 0.587, 0.114)
_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """One random view of each picture: pose (flip, rotation, scale, shear, shift), line width and palette.

    Args:
        pixels: (n, 3, h, w) in [-1, 1], drawn on white.
        generator: the only source of randomness.

    Returns:
        The same shape and range.
    """
    view = (pixels + 1.0) / 2.0
    view = _pose(view, generator)
    view = _line_width(view, generator)
    view = _palette(view, generator)
    return view * 2.0 - 1.0


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator) * (high - low) + low


def _happens(n: int, probability: float, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator) < probability


def _pose(view: Tensor, generator: torch.Generator) -> Tensor:
    """A random affine map; what lies outside of the picture is white."""
    n = len(view)
    angle = _uniform(n, -1, 1, generator) * math.radians(15)
    shear = _uniform(n, -0.12, 0.12, generator)
    scale = _uniform(n, 0.85, 1.35, generator)  # of the sampling grid: above 1 the drawing shrinks
    stretch = (_uniform(n, -1, 1, generator) * 0.12).exp()
    flip = torch.where(_happens(n, 0.5, generator), -1.0, 1.0)
    shift = _uniform(2 * n, -0.12, 0.12, generator).view(n, 2, 1)
    rows = (
        torch.stack([angle.cos() * scale * stretch * flip, (shear - angle.sin()) * scale], 1),
        torch.stack([angle.sin() * scale * flip, angle.cos() * scale / stretch], 1),
    )
    maps = torch.cat([torch.stack(rows, 1), shift], 2)
    grid = F.affine_grid(maps, list(view.shape), align_corners=False)
    return 1.0 - F.grid_sample(1.0 - view, grid, mode="bilinear", align_corners=False)


def _line_width(view: Tensor, generator: torch.Generator) -> Tensor:
    """Thicken or thin dark lines by a 3 x 3 minimum or maximum, or blur a little, in three views of ten."""
    kind = torch.randint(0, 10, (len(view),), generator=generator)
    view = view.clone()
    view[kind == 0] = -F.max_pool2d(-view[kind == 0], 3, 1, 1)
    view[kind == 1] = F.max_pool2d(view[kind == 1], 3, 1, 1)
    view[kind == 2] = F.avg_pool2d(F.pad(view[kind == 2], (1, 1, 1, 1), mode="replicate"), 3, 1)
    return view


def _palette(view: Tensor, generator: torch.Generator) -> Tensor:
    """Turn the hue, scale the saturation (to grey at times) and the contrast. White stays white."""
    n = len(view)
    grey = (view * torch.tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    saturation = _uniform(n, 0.3, 1.5, generator) * ~_happens(n, 0.15, generator)
    view = grey + (view - grey) * saturation.view(n, 1, 1, 1)
    turn = _uniform(n, -1, 1, generator) * (0.15 * math.pi) * _happens(n, 0.5, generator)
    rotation = torch.zeros(n, 3, 3)
    rotation[:, 0, 0] = 1.0
    rotation[:, 1, 1], rotation[:, 1, 2] = turn.cos(), -turn.sin()
    rotation[:, 2, 1], rotation[:, 2, 2] = turn.sin(), turn.cos()
    to_yiq = torch.tensor(_YIQ)
    view = torch.einsum("nij,njhw->nihw", torch.linalg.inv(to_yiq) @ rotation @ to_yiq, view)
    contrast = _uniform(n, 0.65, 1.15, generator).view(n, 1, 1, 1)
    return (1.0 - (1.0 - view) * contrast).clamp(0.0, 1.0)
