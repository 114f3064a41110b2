"""The predictions of a benchmark's methods on the same samples, side by side, for cases and confusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trireme.errors import DataError
from trireme.progress import say
from trireme.results.records import column_metrics, read_predictions
from trireme.results.report.lines import Line, Part

MOST_METHODS = 8
RIGHT = "top1"


@dataclass(frozen=True, slots=True)
class Answers:
    """n samples that m methods answered, in one setting.

    Attributes:
        lines: (m) the methods, by falling score.
        tables: (m) their predictions, rows in the order of `samples`.
        samples: (n,) ids.
        labels: (n,) class indices.
        right: (m, n) whether what ranks first is right.
        answered: (n,) whether every method answered, and the label is known.
    """

    lines: Sequence[Line]
    tables: Sequence[Any]
    samples: Sequence[str]
    labels: NDArray[np.int64]
    right: NDArray[np.bool_]
    answered: NDArray[np.bool_]


def answers(part: Part) -> Answers | None:
    """The methods of the setting (encoder, memory, samples) that has most of them; None where nothing can be read.

    At most `MOST_METHODS`: the best one of each family, then the best of the rest.
    """
    kept: list[tuple[Line, Any, list[str]]] = []
    for line in _chosen(part):
        try:
            table = read_predictions(line.records[0])
        except DataError as error:
            say(f"warning: left out of the pictures: {error}")
            continue
        table = table.sort_by("sample_id")
        samples = table["sample_id"].to_pylist()
        if not kept or samples == kept[0][2]:
            kept.append((line, table, samples))
    if not kept:
        return None
    labels = kept[0][1]["label"].to_numpy().astype(np.int64)
    answered = labels >= 0
    for _, table, _ in kept:
        answered &= table["status"].cast("string").to_numpy(zero_copy_only=False) == "ok"
    right = np.stack([_right(line, table, labels) for line, table, _ in kept])
    return Answers([one[0] for one in kept], [one[1] for one in kept], kept[0][2], labels, right, answered)


def _chosen(part: Part) -> list[Line]:
    groups: dict[tuple[str, str, str], list[Line]] = {}
    for line in part.lines:
        print_ = str(line.records[0].data["benchmark"]["fingerprint"])
        groups.setdefault((print_, line.encoder, line.memory), []).append(line)
    for (print_, encoder, memory), lines in groups.items():
        if memory:  # a method without a memory goes with any
            lines.extend(groups.get((print_, encoder, ""), []))
    most = max(groups.values(), key=lambda lines: (len({line.family for line in lines}), len(lines)))
    ordered = sorted(most, key=lambda line: part.lines.index(line))
    first = {line.family: line for line in reversed(ordered)}
    rest = [line for line in ordered if first[line.family] is not line]
    chosen = [*first.values(), *rest][:MOST_METHODS]
    return sorted(chosen, key=lambda line: part.lines.index(line))


def _right(line: Line, table: Any, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    if RIGHT in column_metrics(line.records[0].data):
        found: NDArray[np.bool_] = table[RIGHT].to_numpy(zero_copy_only=False) == 1
        return found
    said: NDArray[np.bool_] = np.array(first_choices(table)) == labels
    return said


def first_choices(table: Any) -> list[int]:
    """What ranks first, -1 where nothing does."""
    return [row[0] if row else -1 for row in table["ranked"].to_pylist()]
