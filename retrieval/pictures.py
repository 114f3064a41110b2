"""Pictures as models are shown them: whole files, and regions of files (`trireme.types.Region`).

Boxes are (left, upper, right, lower) in whole pixels here, right and lower not included, as Pillow has them.
"""

from __future__ import annotations

import hashlib
import math

from PIL import Image, ImageFilter, ImageOps

from trireme.errors import DataError
from trireme.retrieval.encoders.base import load_image
from trireme.types import ImageRef, Region

_Box = tuple[int, int, int, int]

# Pillow's Gaussian blur is three box blurs, of a radius of at most one standard deviation and a pixel each.
_REACH = 3


def open_picture(ref: ImageRef) -> Image.Image:
    """What a model is shown of `ref`, RGB: the whole picture as `load_image` reads it, or its region.

    Raises:
        DataError: the file cannot be read, or has no such region; names the file.
    """
    image = load_image(ref.path)
    if ref.region is None:
        return image
    try:
        return region_of(image, ref.region)
    except DataError as error:
        raise DataError(f"{ref.path}: {error}") from error


def region_of(image: Image.Image, region: Region) -> Image.Image:
    """The part of an RGB picture that a region shows; see `Region` for what each of its fields does.

    The picture is blurred before it is cut, so that what lies outside of it never runs into it. The pixels of the box
    are those of the picture, whatever is done around them.

    Raises:
        DataError: the box has no area, is not made of numbers, lies outside the picture, or shows too much.
    """
    if region.fault:
        raise DataError(region.fault)
    whole = (0, 0, *image.size)
    box = _pixels(region)
    view = _view(box, region)
    seen = _common(view, whole)
    inner = _common(box, seen)
    size = f"{image.width} x {image.height} pixels"
    if not _size(inner):
        raise DataError(f"its box ({_numbers(region)}) lies outside of the picture ({size})")
    if Image.MAX_IMAGE_PIXELS and _size(view) > 2 * Image.MAX_IMAGE_PIXELS:  # where Pillow refuses a file
        raise DataError(f"its box ({_numbers(region)}) at crop={region.crop:g} shows too much for the picture ({size})")
    part = _blurred(image, seen, inner, region) if region.blur else image.crop(seen)
    border = (seen[0] - view[0], seen[1] - view[1], view[2] - seen[2], view[3] - seen[3])
    return ImageOps.expand(part, border, region.fill) if any(border) else part


def content_key(digest: str, region: Region | None) -> str:
    """64 hex digits that tell what is shown: the SHA-256 of the file, or of that and the region."""
    if region is None:
        return digest
    return hashlib.sha256(f"{digest.lower()} {region.text}".encode()).hexdigest()


def _blurred(image: Image.Image, seen: _Box, inner: _Box, region: Region) -> Image.Image:
    """`seen` out of the blurred picture, with the pixels of `inner` as they were.

    Only what reaches into `seen` is blurred: a box can be small in a large picture.
    """
    deviation = min(region.blur * max(region.box[2:]), max(image.size))
    reach = math.ceil(_REACH * (deviation + 1))
    left, upper, right, lower = seen
    around = _common((left - reach, upper - reach, right + reach, lower + reach), (0, 0, *image.size))
    soft = image.crop(around).filter(ImageFilter.GaussianBlur(deviation))
    soft = soft.crop((left - around[0], upper - around[1], right - around[0], lower - around[1]))
    soft.paste(image.crop(inner), (inner[0] - left, inner[1] - upper))
    return soft


def file_key(ref: ImageRef) -> str:
    """Of a region, too, the file: whoever was shown a part of a picture was shown the picture."""
    return ref.sha256 or ref.path


def shown(ref: ImageRef) -> tuple[str, str]:
    """A picture by its bytes, and which region of it."""
    return file_key(ref), ref.region.text if ref.region else ""


def _pixels(region: Region) -> _Box:
    """The box with every edge at the nearest pixel edge."""
    x, y, width, height = region.box
    (left, right), (upper, lower) = _edges(x, width), _edges(y, height)
    return left, upper, right, lower


def _edges(start: float, length: float) -> tuple[int, int]:
    """At least one pixel: that of the middle where both edges are nearest to the same one."""
    first, end = math.floor(start + 0.5), math.floor(start + length + 0.5)
    middle = math.floor(start + length / 2)
    return (first, end) if first < end else (middle, middle + 1)


def _view(box: _Box, region: Region) -> _Box:
    """What is shown, about the centre of the box; half a pixel goes to the right and down."""
    left, upper, right, lower = box
    width, height = right - left, lower - upper
    if region.square:
        width = height = max(width, height)
    width, height = (max(1, math.floor(side * region.crop + 0.5)) for side in (width, height))
    left, upper = (left + right - width + 1) // 2, (upper + lower - height + 1) // 2
    return left, upper, left + width, upper + height


def _common(one: _Box, other: _Box) -> _Box:
    """What two boxes share; no right or no lower edge beyond the others where they share nothing."""
    return max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])


def _size(box: _Box) -> int:
    """Pixels in a box."""
    return max(0, box[2] - box[0]) * max(0, box[3] - box[1])


def _numbers(region: Region) -> str:
    return ", ".join(f"{value:g}" for value in region.box)
