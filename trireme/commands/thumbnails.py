"""Small copies of pictures as data URIs, for a page that opens without a network. No model and no encoder is loaded."""

from __future__ import annotations

import base64
import io
from collections import Counter
from typing import TYPE_CHECKING

from trireme.commands.opened import Opened
from trireme.errors import DataError
from trireme.parts import read_bytes
from trireme.types import ImageRef

if TYPE_CHECKING:
    from PIL import Image

    from trireme.results.report.cases import Picture
    from trireme.results.report.lines import Line

MOST_BYTES = 4_000_000
"""Of all data URIs of a page together: it stays a file that can be sent by mail."""
_QUERY, _WITH_BOX, _NEIGHBOUR = 150, 240, 96
_OUTLINE = (213, 94, 0)  # the vermillion of M. Okabe and K. Ito's palette (2008), which also colour-blind people see
_GONE = "picture not found"
_FULL = "left out: the page is full"


class Thumbnails:
    """Pictures of samples and of pairs (`trireme.results.report.cases.Pictures`), counted, within `MOST_BYTES`."""

    def __init__(self, opened: Opened, most: int = MOST_BYTES) -> None:
        self._opened, self._most = opened, most
        self._made: dict[tuple[ImageRef, int, bool], tuple[str, int, int, str]] = {}
        self._bytes, self._count = 0, 0
        self._missing: Counter[str] = Counter()

    def sample(self, line: Line, sample: str) -> Picture:
        """A test picture; of a region, the whole picture with the region outlined."""
        shown = self._opened.benchmark(line.records[0])
        ref = shown.pictures.get(sample)
        size = _QUERY if ref is None or ref.region is None else _WITH_BOX
        return self._picture(ref, size, shown.texts.get(sample, ""), whole=True)

    def region(self, line: Line, sample: str) -> Picture | None:
        """What the region of a sample holds; None for a whole picture."""
        ref = self._opened.benchmark(line.records[0]).pictures.get(sample)
        return None if ref is None or ref.region is None else self._picture(ref, _NEIGHBOUR, "", whole=False)

    def pair(self, line: Line, pair: str, label: int) -> Picture:
        """A pair of the memory, with its caption; `label` is the class index asked for."""
        held = self._opened.memory(line.records[0]).get(pair)
        ids = self._opened.benchmark(line.records[0]).ids
        if held is None:
            return self._picture(None, _NEIGHBOUR, pair, whole=False)
        right = held.label == ids[label] if held.label and 0 <= label < len(ids) else None
        return self._picture(held.image, _NEIGHBOUR, held.caption or pair, whole=False, right=right)

    def told(self) -> str:
        """How many pictures the page holds, and which are missing."""
        held = f"{self._count} small pictures are held in this file ({self._bytes / 1e6:.1f} MB of it)"
        missing = [f"{count} are missing ({problem})" for problem, count in self._missing.items()]
        return "; ".join([held, *missing])

    def _picture(self, ref: ImageRef | None, size: int, text: str, whole: bool, right: bool | None = None) -> Picture:
        from trireme.results.report.cases import Picture

        uri, width, height, problem = ("", 0, 0, _GONE) if ref is None else self._thumbnail(ref, size, whole)
        if uri and self._bytes + len(uri) > self._most:
            uri, problem = "", _FULL
        if uri:
            self._bytes, self._count = self._bytes + len(uri), self._count + 1
        else:
            self._missing[problem] += 1
        return Picture(uri, width, height, text, problem, right)

    def _thumbnail(self, ref: ImageRef, size: int, whole: bool) -> tuple[str, int, int, str]:
        key = (ref, size, whole)
        if key not in self._made:
            try:
                image = _outlined(ref, size) if whole else _cut(ref)
                image.thumbnail((size, size))
                self._made[key] = (_uri(image), *image.size, "")
            except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and more
                self._made[key] = ("", 0, 0, _GONE if isinstance(error, FileNotFoundError) else "cannot be read")
        return self._made[key]


def _open(ref: ImageRef) -> Image.Image:
    """RGB, transparency on white, as models are shown it."""
    from PIL import Image

    with Image.open(io.BytesIO(read_bytes(ref.path))) as image:
        layered = image.convert("RGBA")
    ground = Image.new("RGBA", layered.size, "white")
    return Image.alpha_composite(ground, layered).convert("RGB")


def _outlined(ref: ImageRef, size: int) -> Image.Image:
    from PIL import ImageDraw

    image = _open(ref)
    if ref.region is None:
        return image
    scale = min(1.0, size / max(image.size))
    image.thumbnail((size, size))
    x, y, width, height = (value * scale for value in ref.region.box)
    draw = ImageDraw.Draw(image)
    draw.rectangle((x - 3, y - 3, x + width + 2, y + height + 2), outline="white", width=1)
    draw.rectangle((x - 2, y - 2, x + width + 1, y + height + 1), outline=_OUTLINE, width=2)
    return image


def _cut(ref: ImageRef) -> Image.Image:
    image = _open(ref)
    if ref.region is None:
        return image
    if ref.region.fault:
        raise DataError(ref.region.fault)
    x, y, width, height = ref.region.box
    return image.crop((round(x), round(y), max(round(x + width), round(x) + 1), max(round(y + height), round(y) + 1)))


def _uri(image: Image.Image) -> str:
    held = io.BytesIO()
    image.save(held, "WEBP", quality=80, method=4)
    return f"data:image/webp;base64,{base64.b64encode(held.getvalue()).decode()}"
