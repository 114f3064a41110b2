"""Which classes are taken for which: a square of those that are confused most."""

from __future__ import annotations

from collections import Counter

import numpy as np

from trireme.results.report.answers import Answers, first_choices
from trireme.results.report.charts import Chart
from trireme.results.report.svg import WIDTH, Drawing, shortened, text_width
from trireme.results.shown import Shown

MOST_CLASSES = 12
_CELL_ROOM = 170.0


def confusion(found: Answers, shown: Shown, benchmark: str, name: str) -> Chart | None:
    """The classes with most confusions among them, over all the methods; None where there are hardly any.

    Rows are what a picture shows, columns what is said of it; a cell tells in how many percent of the answers.
    """
    counts, totals = _counted(found)
    classes = _hardest(counts)
    if len(classes) < 2:
        return None
    methods = len(found.lines)
    names = [shown.name(label) for label in classes]
    worst = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:5]
    text = "Most confused: " + "; ".join(
        f"{shown.name(true)} taken for {shown.name(said)}, {count} of {totals[true]} answers"
        for (true, said), count in worst
    )
    room = min(_CELL_ROOM, max(text_width(f"{i + 1} {label}") for i, label in enumerate(names)) + 8)
    size = min(34.0, (WIDTH - room - 8) / len(classes))
    height = 34 + size * len(classes) + 8
    drawing = Drawing(height, f"{benchmark}: confusion between the hardest classes", text, name)
    drawing.write(room + 4 + size * len(classes) / 2, 11, "said", "axis", "middle")
    for i, true in enumerate(classes):
        y = 34 + size * i
        drawing.write(room, y + size / 2 + 4, shortened(f"{i + 1} {names[i]}", room), "label", "end")
        drawing.write(room + 4 + size * (i + 0.5), 28, str(i + 1), "number", "middle")
        for j, said in enumerate(classes):
            share = counts[true, said] / totals[true] if i != j else _right(found, true)
            _cell(drawing, room + 4 + size * j, y, size, share, i == j, f"{names[i]} taken for {names[j]}")
    note = (
        f"Rows: what the picture shows; columns: what is said. Percent of the answers of {methods} "
        f"method{'s' if methods != 1 else ''} ({', '.join(line.label for line in found.lines)}); outlined: right."
    )
    return Chart("Confusion between the hardest classes", drawing.text(), note)


def _cell(drawing: Drawing, x: float, y: float, size: float, share: float, right: bool, tip: str) -> None:
    kind = "cell right" if right else "cell wrong"
    shade = f"{0.08 + 0.92 * share:.2f}" if share else "0"
    told = f"{tip}: {100 * share:.0f} %"
    drawing.add("rect", kind, told, x=x + 1, y=y + 1, width=size - 2, height=size - 2, rx=3, fill_opacity=shade)
    if share >= 0.005:
        strong = " strong" if share > 0.5 and not right else ""
        drawing.write(x + size / 2, y + size / 2 + 4, f"{100 * share:.0f}", f"count{strong}", "middle")


def _counted(found: Answers) -> tuple[Counter[tuple[int, int]], Counter[int]]:
    """Wrong answers by (true class, class said), and all answers by true class."""
    counts: Counter[tuple[int, int]] = Counter()
    totals: Counter[int] = Counter()
    labels = found.labels[found.answered].tolist()
    for table in found.tables:
        said = np.array(first_choices(table))[found.answered].tolist()
        totals.update(labels)
        counts.update((true, other) for true, other in zip(labels, said, strict=True) if true != other and other >= 0)
    return counts, totals


def _hardest(counts: Counter[tuple[int, int]]) -> list[int]:
    """The classes of the largest confusions, both ways together; next to each other what is confused most.

    Only such as are sometimes wrong themselves: of others there may be no sample.
    """
    both: Counter[tuple[int, int]] = Counter()
    tested = {true for true, _ in counts}
    for (true, said), count in counts.items():
        if said in tested:
            both[min(true, said), max(true, said)] += count
    classes: list[int] = []
    for pair, _ in sorted(both.items(), key=lambda one: (-one[1], one[0])):
        new = [label for label in pair if label not in classes]
        if len(classes) + len(new) > MOST_CLASSES:
            break
        for label in new:
            beside = next((other for other in pair if other in classes), None)
            classes.insert(len(classes) if beside is None else classes.index(beside) + 1, label)
    return classes


def _right(found: Answers, label: int) -> float:
    mine = found.answered & (found.labels == label)
    return float(found.right[:, mine].mean()) if mine.any() else 0.0
