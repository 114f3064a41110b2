"""RandAugment of the official recipe reaches 0 bits by chance (two pictures in a thousand); Pillow 13 refuses them."""

from __future__ import annotations

import numpy as np
from PIL import Image
from timm.data import create_transform

from trireme.methods.react.openclip import _with_black


def test_zero_bits_are_black_and_others_are_pillows() -> None:
    transform = _with_black(create_transform(32, is_training=True, auto_augment="rand-m9-mstd0.5-inc1"))
    augment = next(step for step in transform.transforms if hasattr(step, "ops"))
    posterise = next(operation for operation in augment.ops if operation.name.startswith("Posterize"))
    image = Image.fromarray(np.full((4, 4, 3), 200, dtype=np.uint8))
    posterise.prob, posterise.magnitude_std = 1.0, 0
    seen = {}
    for magnitude in (5, 10):  # 4 - 2 = 2 bits, and 4 - 4 = 0 bits
        posterise.magnitude = magnitude
        seen[magnitude] = int(np.asarray(posterise(image)).max())
    assert seen == {5: 192, 10: 0}  # 200 = 0b11001000, of which two bits are 0b11000000
