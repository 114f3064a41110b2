"""Drawing: an SVG of elements, scales with readable ticks, marks, and labels that do not lie on each other.

Colours and fonts are the page's (classes), so that a drawing follows dark mode and print. ElementTree escapes texts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, SubElement, tostring

WIDTH = 400.0
"""Of every chart, so that on a phone of 390 pixels its 12-pixel texts are still 10 pixels high."""
_CHARACTER = 6.3
"""Average width of a character at 12 pixels in the page's fonts, rounded up from what a browser shows."""
FAMILIES = ("zero_shot", "knn", "reco", "react", "rar")

Scale = Callable[[float], float]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


class Drawing:
    """An SVG with a title and a description for those who cannot see it."""

    def __init__(self, height: float, title: str, description: str, name: str) -> None:
        self.height = height
        self.root = Element(
            "svg",
            {
                "viewBox": f"0 0 {WIDTH:g} {height:g}",
                "role": "img",
                "aria-labelledby": f"{name}-title {name}-text",
                "class": "chart",
            },
        )
        SubElement(self.root, "title", {"id": f"{name}-title"}).text = title
        SubElement(self.root, "desc", {"id": f"{name}-text"}).text = description

    def add(self, tag: str, kind: str = "", tip: str = "", text: str = "", **attributes: float | str) -> None:
        """An element; `tip` is shown where the pointer rests on it."""
        given = {key.replace("_", "-"): _text(value) for key, value in attributes.items()}
        element = SubElement(self.root, tag, {**({"class": kind} if kind else {}), **given})
        if tip:
            SubElement(element, "title").text = tip
        if text:
            element.text = text

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        self.add("line", kind, x1=x1, y1=y1, x2=x2, y2=y2)

    def write(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        self.add("text", kind, x=x, y=y, text_anchor=anchor, text=text)

    def mark(self, x: float, y: float, family: str, families: Sequence[str], tip: str = "", size: float = 5) -> None:
        """The family's own colour and shape."""
        place = families.index(family)
        kind = f"mark c{place % 8}"
        shape = place % 5
        if shape == 0:
            self.add("circle", kind, tip, cx=x, cy=y, r=size)
            return
        corners = {
            1: [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
            2: [(0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
            3: [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
            4: [(-1.1, -0.8), (1.1, -0.8), (0, 1.2)],
        }[shape]
        points = " ".join(f"{x + size * dx:.1f},{y + size * dy:.1f}" for dx, dy in corners)
        self.add("polygon", kind, tip, points=points)

    def text(self) -> str:
        return tostring(self.root, encoding="unicode")


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")


def families_of(found: Sequence[str]) -> list[str]:
    """The families of a report in the order of their colours: ours first, so that they look alike in every report."""
    others = sorted({name for name in found if name not in FAMILIES})
    return [*FAMILIES, *others]


def text_width(text: str) -> float:
    """About how wide a label is, in units of the drawing."""
    return _CHARACTER * len(text)


def shortened(text: str, width: float) -> str:
    """With an ellipsis where it is wider than `width`."""
    most = max(2, int(width / _CHARACTER))
    return text if len(text) <= most else text[: most - 1] + "…"


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """From values between `low` and `high` to places between `start` and `end`."""
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """As `linear`, in powers of ten; all values above 0."""
    inner = linear(math.log10(low), math.log10(high), start, end)
    return lambda value: inner(math.log10(value))


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten from the last one below `low` to the first above `high`."""
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10, 20) if span / (power * factor) <= most - 1)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * i, 10) for i in range(first, max(last, first + 1) + 1)]


def percent_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """The same, within 0 and 100, and never one alone."""
    if high - low < 1:
        low, high = low - 1, high + 1
    return [value for value in ticks(max(0.0, low), min(100.0, high), most) if 0 <= value <= 100]


def decades(low: float, high: float) -> list[float]:
    """1, 2, 5, 10 ... around positive values; only powers of ten where they span many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if last - first <= 2 else (1,)
    found = [factor * 10.0**power for power in range(first, last + 1) for factor in steps]
    below = max((value for value in found if value <= low), default=found[0])
    above = min((value for value in found if value >= high), default=found[-1])
    kept = [value for value in found if below <= value <= above]
    return kept if len(kept) > 1 else [below, below * 10]


def short_number(value: float) -> str:
    """1,200 as 1.2k: for axes."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.3g}"


@dataclass
class Labels:
    """Places labels beside their points so that none lies on a point, on another label or outside.

    Attributes:
        area: where labels may lie.
        left_out: the ones for which there was no room.
    """

    area: Box
    taken: list[Box] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def keep_clear(self, x: float, y: float, size: float = 6) -> None:
        self.taken.append((x - size, y - size, x + size, y + size))

    def place(self, drawing: Drawing, x: float, y: float, text: str, kind: str = "label") -> None:
        """Nearest free place first; a thin line leads to it where it is not beside the point."""
        width, height = text_width(text), 12.0
        for distance in (9, 16, 26, 38, 52, 68):
            for dx, dy in ((1, 0), (-1, 0), (0.7, -0.7), (0.7, 0.7), (-0.7, -0.7), (-0.7, 0.7), (0, -1), (0, 1)):
                px, py = x + distance * dx, y + distance * dy
                left = px if dx > 0 else px - width if dx < 0 else px - width / 2
                box = (left, py - height / 2, left + width, py + height / 2)
                if self._free(box):
                    if distance > 16:
                        edge = min(max(x, box[0]), box[2])
                        drawing.line(x, y, edge, py, "leader")
                    drawing.write(left, py + 4, text, kind)
                    self.taken.append(box)
                    return
        self.left_out.append(text)

    def _free(self, box: Box) -> bool:
        left, top, right, bottom = self.area
        if box[0] < left or box[1] < top or box[2] > right or box[3] > bottom:
            return False
        return not any(
            box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in self.taken
        )
