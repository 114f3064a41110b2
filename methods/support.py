"""The labelled pictures of a memory that belong to the classes of a task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from trireme.errors import DataError
from trireme.progress import say
from trireme.types import Ints

_FEW = 100
"""Classes without a picture that are told of even where they are most of the classes."""
_NAMED = 3


class Support(NamedTuple):
    """The memory rows that are labelled with one of c classes."""

    labels: Ints
    """(N,) class index of every memory row, -1 where it is none of the classes"""
    allowed: Ints | None
    """the labelled rows, None where that is all of them"""
    classes: int

    @property
    def unpictured(self) -> Ints:
        """Indices of the classes that no memory picture shows."""
        shown = np.bincount(self.labels[self.labels >= 0], minlength=self.classes)
        return np.flatnonzero(shown == 0).astype(np.int64)


def support(labels: Iterable[str], class_ids: Sequence[str], class_names: Sequence[str]) -> Support:
    """The rows whose label is a class. A label is a class id, or a class name in index files written elsewhere.

    Raises:
        DataError: there is none.
    """
    index = {name: i for i, name in reversed(list(enumerate(class_names)))}
    index |= {class_id: i for i, class_id in enumerate(class_ids)}
    held = np.array([index.get(str(label), -1) for label in labels], dtype=np.int64)
    rows = np.flatnonzero(held >= 0).astype(np.int64)
    if len(rows) == 0:
        raise DataError("no picture of the memory is labelled with a class of this benchmark; nothing can be searched")
    return Support(held, None if len(rows) == len(held) else rows, len(class_ids))


def support_facts(held: Support | None) -> dict[str, Any]:
    """For the record: how many memory pictures show a class of the task, and how many classes none of them shows.

    Args:
        held: None where no pictures are searched.
    """
    if held is None:
        return {"support": 0}
    return {"support": int((held.labels >= 0).sum()), "classes_without_picture": len(held.unpictured)}


def note_unpictured(held: Support, class_names: Sequence[str]) -> None:
    """Say in one line which classes no memory picture shows: the nearest pictures are never of them.

    Where they are over a hundred and most of all, those are a vocabulary (OVEN's candidates, discovery's names),
    which no memory is expected to show; then it is only in the record.
    """
    absent = held.unpictured
    if not 0 < len(absent) <= max(_FEW, held.classes // 2):
        return
    named = ", ".join(class_names[label] for label in absent[:_NAMED].tolist())
    more = " ..." if len(absent) > _NAMED else ""
    say(f"note: {len(absent)} of {held.classes} classes have no picture in the memory to be found by: {named}{more}")
