"""The labelled pictures of a memory that belong to the classes of a task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from trireme.errors import DataError
from trireme.types import Ints


class Support(NamedTuple):
    """The memory rows that are labelled with one of c classes."""

    labels: Ints
    """(N,) class index of every memory row, -1 where it is none of the classes"""
    allowed: Ints | None
    """the labelled rows, None where that is all of them"""
    classes: int


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
