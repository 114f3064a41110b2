"""The plots of a benchmark, as SVG: scores with intervals, two subsets, cost, shots and k."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trireme.results.report.lines import Line, Part, Score
from trireme.results.report.series import Series, by_k, by_shots
from trireme.results.report.svg import (
    WIDTH,
    Drawing,
    Labels,
    Scale,
    decades,
    linear,
    logarithmic,
    percent_ticks,
    short_number,
    shortened,
    text_width,
)

MOST_LINES = 40
_ROW = 21.0
_TOP, _BOTTOM, _LEFT, _RIGHT = 14.0, 46.0, 46.0, 14.0
_HEIGHT = 330.0


@dataclass(frozen=True, slots=True)
class Chart:
    """A plot with what is written under it."""

    title: str
    svg: str
    note: str


def charts(part: Part, families: Sequence[str], name: str) -> Iterator[Chart]:
    """Every plot that the lines of a benchmark allow.

    Args:
        families: method families of the whole report; their places are their colours.
        name: unique on the page, for ids.
    """
    known = [line for line in part.lines if not math.isnan(line.score)]
    if not known:
        return
    yield _intervals(part, known, families, f"{name}-scores")
    if pair := _two_subsets(part):
        yield from _scatter_of_subsets(part, known, pair, families, f"{name}-subsets")
    yield from _cost(part, known, families, f"{name}-cost")
    if shots := by_shots(part):
        told = "pictures a class in the memory (all: the whole memory)"
        yield _sweep(
            part, "Score against pictures a class", told, shots, _baselines(known, shots), families, f"{name}-shots"
        )
    if ks := by_k(part):
        yield _sweep(
            part, "Score against k", "k (neighbours, or candidates of a ranker)", ks, [], families, f"{name}-k"
        )


def _baselines(lines: Sequence[Line], series: Sequence[Series]) -> list[Line]:
    """`zero_shot` with the encoders of these series: the method that has no memory, whatever its score is."""
    encoders = {_encoder(line) for one in series for _, line in one.points}
    return [line for line in lines if line.family == "zero_shot" and not line.memory and _encoder(line) in encoders]


def _encoder(line: Line) -> str:
    return str(line.records[0].data["encoder"]["fingerprint"])


def _interval_text(score: Score) -> str:
    if math.isnan(score.low):
        return f"{score.value:.1f}"
    return f"{score.value:.1f}, 95 % interval {score.low:.1f} to {score.high:.1f}"


def _intervals(part: Part, lines: Sequence[Line], families: Sequence[str], name: str) -> Chart:
    subset, shown = part.subsets[0], lines[:MOST_LINES]
    scores = [line.scores[subset] for line in shown if subset in line.scores]
    shown = [line for line in shown if subset in line.scores]
    room = min(170.0, max(text_width(line.label) for line in shown) + 10)
    height = _TOP + _ROW * len(shown) + 40
    title = f"{part.name}: {part.metric} in % with 95 % intervals"
    text = "; ".join(f"{line.label} {_interval_text(s)}" for line, s in zip(shown, scores, strict=True))
    drawing = Drawing(height, title, text, name)
    marks = percent_ticks(*_span(scores))
    x = linear(marks[0], marks[-1], room + 8, WIDTH - 46)
    for value in marks:
        drawing.line(x(value), _TOP - 4, x(value), height - 34, "grid")
        drawing.write(x(value), height - 20, f"{value:g}", "number", "middle")
    drawing.write((room + WIDTH - 38) / 2, height - 4, f"{part.metric} in %, {subset}", "axis", "middle")
    for row, (line, score) in enumerate(zip(shown, scores, strict=True)):
        y = _TOP + _ROW * (row + 0.5)
        drawing.write(room, y + 4, shortened(line.label, room), "label", "end")
        place = f"c{families.index(line.family) % 8}"
        if not math.isnan(score.low):
            drawing.add("line", f"whisker {place}", x1=x(score.low), x2=x(score.high), y1=y, y2=y)
        drawing.mark(x(score.value), y, line.family, families, f"{line.label}: {_interval_text(score)}, n = {score.n}")
        drawing.write(WIDTH - 4, y + 4, f"{score.value:.1f}", "value", "end")
    more = _more(len(lines))
    return Chart("Scores with intervals", drawing.text(), f"Points are scores, bars their 95 % intervals.{more}")


def _more(lines: int) -> str:
    return f" The first {MOST_LINES} of {lines} lines." if lines > MOST_LINES else ""


def _span(scores: Sequence[Score]) -> tuple[float, float]:
    held = [value for s in scores for value in (s.value, s.low, s.high) if not math.isnan(value)]
    return min(held), max(held)


def _two_subsets(part: Part) -> tuple[str, str] | None:
    """The two subsets to set against each other: common and rare where there are such."""
    others = [subset for subset in part.subsets if subset != "all"]
    if {"common", "rare"} <= set(others):
        return "common", "rare"
    return (others[0], others[1]) if len(others) == 2 else None


def _frame(drawing: Drawing, marks: Sequence[float], y: Scale, label: str) -> None:
    """Horizontal grid lines with their numbers, and what they are."""
    for value in marks:
        drawing.line(_LEFT, y(value), WIDTH - _RIGHT, y(value), "grid")
        drawing.write(_LEFT - 6, y(value) + 4, f"{value:g}", "number", "end")
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    drawing.add(
        "text", "axis", x=12, y=middle, text_anchor="middle", transform=f"rotate(-90 12 {middle:g})", text=label
    )


def _below(drawing: Drawing, places: Sequence[tuple[float, str]], label: str) -> None:
    for x, text in places:
        drawing.line(x, _TOP, x, _HEIGHT - _BOTTOM, "grid")
        drawing.write(x, _HEIGHT - _BOTTOM + 16, text, "number", "middle")
    drawing.write((_LEFT + WIDTH - _RIGHT) / 2, _HEIGHT - 8, label, "axis", "middle")


def _area() -> tuple[float, float, float, float]:
    return _LEFT, _TOP - 6, WIDTH, _HEIGHT - _BOTTOM


def _scatter_of_subsets(
    part: Part, lines: Sequence[Line], pair: tuple[str, str], families: Sequence[str], name: str
) -> Iterator[Chart]:
    points = [(line.scores[pair[0]], line.scores[pair[1]], line) for line in lines if set(pair) <= set(line.scores)]
    points = [point for point in points if not math.isnan(point[0].value + point[1].value)][:MOST_LINES]
    if len(points) < 2:
        return
    title = f"{part.name}: {pair[0]} against {pair[1]}, {part.metric} in %"
    text = "; ".join(f"{line.label} {a.value:.1f} and {b.value:.1f}" for a, b, line in points)
    drawing = Drawing(_HEIGHT, title, text, name)
    across = percent_ticks(min(a.value for a, *_ in points), max(a.value for a, *_ in points))
    up = percent_ticks(min(b.value for _, b, _ in points), max(b.value for _, b, _ in points))
    x = linear(across[0], across[-1], _LEFT + 8, WIDTH - _RIGHT - 8)
    y = linear(up[0], up[-1], _HEIGHT - _BOTTOM - 6, _TOP + 6)
    _frame(drawing, up, y, f"{pair[1]} classes, {part.metric} in %" if pair[1] == "rare" else pair[1])
    label = f"{pair[0]} classes, {part.metric} in %" if pair[0] == "common" else pair[0]
    _below(drawing, [(x(value), f"{value:g}") for value in across], label)
    low, high = max(across[0], up[0]), min(across[-1], up[-1])
    if low < high:
        drawing.line(x(low), y(low), x(high), y(high), "equal")
    placed = [(x(a.value), y(b.value), line, f"{a.value:.1f} and {b.value:.1f}") for a, b, line in points]
    left_out = _labelled(drawing, placed, families)
    yield Chart(
        f"{pair[0].capitalize()} against {pair[1]}",
        drawing.text(),
        f"Dashed: equal on both.{left_out}{_more(len(lines))}",
    )


def _cost(part: Part, lines: Sequence[Line], families: Sequence[str], name: str) -> Iterator[Chart]:
    """By the rate of prediction where two lines have one, else by wall time."""
    kinds = [
        ("images_per_second", "images per second (more is cheaper)", 1),
        ("seconds", "seconds, all phases (less is cheaper)", -1),
    ]
    measured = [(_costs(lines, key), label, better) for key, label, better in kinds]
    chosen = next((one for one in measured if len({value for value, _ in one[0]}) > 1), None)
    if chosen is None:
        return
    points, label, better = chosen
    subset = part.subsets[0]
    title = f"{part.name}: {part.metric} in % against {label}"
    text = "; ".join(f"{line.label} {line.score:.1f} at {short_number(value)}" for value, line in points)
    drawing = Drawing(_HEIGHT, title, text, name)
    across = decades(min(value for value, _ in points), max(value for value, _ in points))
    up = percent_ticks(min(line.score for _, line in points), max(line.score for _, line in points))
    x = logarithmic(across[0], across[-1], _LEFT + 8, WIDTH - _RIGHT - 8)
    y = linear(up[0], up[-1], _HEIGHT - _BOTTOM - 6, _TOP + 6)
    _frame(drawing, up, y, f"{part.metric} in %, {subset}")
    _below(drawing, [(x(value), short_number(value)) for value in across], label)
    front = _front([(value, line.score) for value, line in points], better)
    drawing.add("polyline", "front", points=" ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in front))
    placed = [(x(value), y(line.score), line, f"{line.score:.1f} at {value:.4g}") for value, line in points]
    left_out = _labelled(drawing, placed, families)
    note = f"Logarithmic. Along the grey line, nothing is both cheaper and better.{left_out}{_more(len(lines))}"
    yield Chart("Score against cost", drawing.text(), note)


def _costs(lines: Sequence[Line], key: str) -> list[tuple[float, Line]]:
    return [(float(line.facts[key]), line) for line in lines if float(line.facts.get(key, 0)) > 0][:MOST_LINES]


def _front(points: Sequence[tuple[float, float]], better: int) -> list[tuple[float, float]]:
    """The points that no other one beats in both, cheapest first, joined by steps."""
    best = -math.inf
    kept: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (-better * point[0], -point[1])):
        if score > best:
            kept += [(cost, best), (cost, score)] if kept else [(cost, score)]
            best = score
    return kept


def _labelled(drawing: Drawing, placed: Sequence[tuple[float, float, Line, str]], families: Sequence[str]) -> str:
    """Marks with labels beside them, the best line first; says which labels found no room."""
    labels = Labels(_area())
    for x, y, *_ in placed:
        labels.keep_clear(x, y)
    for x, y, line, tip in placed:
        labels.place(drawing, x, y, shortened(line.label, 150), "label")
        drawing.mark(x, y, line.family, families, f"{line.label}: {tip}")
    return f" Not labelled: {', '.join(labels.left_out)}." if labels.left_out else ""


def _sweep(
    part: Part,
    title: str,
    axis: str,
    series: Sequence[Series],
    without: Sequence[Line],
    families: Sequence[str],
    name: str,
) -> Chart:
    """Scores over a number; lines `without` one are drawn across."""
    subset = part.subsets[0]
    values = sorted({value for one in series for value, _ in one.points if value is not None})
    whole = any(value is None for one in series for value, _ in one.points)
    text = "; ".join(
        f"{one.label}: " + ", ".join(f"{line.score:.1f} at {_step(value)}" for value, line in one.points)
        for one in series
    )
    drawing = Drawing(_HEIGHT, f"{part.name}: {title.lower()}", text, name)
    up = percent_ticks(*_span([*(line.scores[subset] for one in series for _, line in one.points), *_flat(without)]))
    room = min(130.0, max(map(text_width, [*(one.label for one in series), *(line.label for line in without)])) + 14)
    steps: list[float | None] = [*values, *([None] if whole else [])]
    place = linear(0, max(len(steps) - 1, 1), _LEFT + 16, WIDTH - room - 10)
    x = {value: place(i) for i, value in enumerate(steps)}
    y = linear(up[0], up[-1], _HEIGHT - _BOTTOM - 6, _TOP + 6)
    _frame(drawing, up, y, f"{part.metric} in %, {subset}")
    _below(drawing, [(x[value], _step(value)) for value in steps], axis)
    labels = Labels((_LEFT, _TOP - 6, WIDTH, _HEIGHT - _BOTTOM))
    for line in without:
        across = f"across c{families.index(line.family) % 8}"
        drawing.line(_LEFT, y(line.score), WIDTH - room - 4, y(line.score), across)
        drawing.write(WIDTH - room, y(line.score) + 4, shortened(line.label, room), "label")
    for one in series:
        kind = f"c{families.index(one.family) % 8}"
        points = [(x[value], line.scores[subset], line) for value, line in one.points]
        path = " ".join(f"{px:.1f},{y(score.value):.1f}" for px, score, _ in points)
        drawing.add("polyline", f"path {kind}", points=path)
        for px, score, line in points:
            if not math.isnan(score.low):
                drawing.add("line", f"whisker {kind}", x1=px, x2=px, y1=y(score.low), y2=y(score.high))
            drawing.mark(px, y(score.value), one.family, families, f"{line.label}: {_interval_text(score)}")
            labels.keep_clear(px, y(score.value))
    for one in series:
        value, line = one.points[-1]
        labels.place(drawing, x[value], y(line.score), shortened(one.label, room), "label")
    doubtful = [f"{one.label} at {_step(value)}" for one in series for value in one.doubtful]
    left_out = f" Not drawn, since several runs differ there: {', '.join(doubtful)}." if doubtful else ""
    return Chart(title, drawing.text(), f"Bars are 95 % intervals; seeds are joined.{left_out}")


def _flat(lines: Sequence[Line]) -> list[Score]:
    """Their scores without intervals, which are not drawn."""
    return [Score(line.score, math.nan, math.nan, 0) for line in lines]


def _step(value: float | None) -> str:
    return "all" if value is None else f"{value:g}"
