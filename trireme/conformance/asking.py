"""Asking a fitted method about samples, and comparing what it answers.

Shapes: n samples, m ranked classes, d embedding dimension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from trireme.answers import answered
from trireme.conformance.report import broken
from trireme.errors import BrokenRuleError
from trireme.types import Floats, ImageRef, Sample, Task

Answers = Mapping[str, Any]
"""Sample id -> its answer: (m,) ranked classes and scores, or in retrieval an embedding (d,)."""
_TOLERANCE = 1e-5
"""Scores are equal within this: sums of float32 in another order differ by less on the mock tasks."""


def ask(method: Any, samples: Sequence[Sample], task: Task, classes: int, batch: int = 7) -> dict[str, Any]:
    """The answers to samples in their order, so many at a time.

    Raises:
        BrokenRuleError: what it gives has the wrong shape, holds NaN or a class that is not there.
    """
    found: dict[str, Any] = {}
    for start in range(0, len(samples), batch):
        part = list(samples[start : start + batch])
        found |= _embedded(method, part) if task is Task.RETRIEVAL else _ranked(method, part, classes)
    return found


def _ranked(method: Any, samples: list[Sample], classes: int) -> dict[str, Any]:
    predictions = answered(method, samples, classes, type(method).__name__)
    rows = zip(samples, predictions.ranked, predictions.scores, strict=True)
    return {sample.id: (ranked[ranked >= 0], scores[ranked >= 0]) for sample, ranked, scores in rows}


def _embedded(method: Any, samples: Sequence[Sample]) -> dict[str, Any]:
    shown, told = [one for one in samples if not one.text], [one for one in samples if one.text]
    sides: list[tuple[str, Any, list[Sample], list[Any]]] = [
        ("embed_images", method.embed_images, shown, [one.image for one in shown]),
        ("embed_texts", method.embed_texts, told, [one.text for one in told]),
    ]
    found: dict[str, Any] = {}
    for name, embed, asked, items in sides:
        if not items:
            continue
        rows = embed(list(items))
        if not isinstance(rows, np.ndarray) or rows.ndim != 2 or len(rows) != len(items):
            shape = getattr(rows, "shape", type(rows).__name__)
            raise BrokenRuleError("shapes", f"{name} gives {shape} for {len(items)} items; give an array (n, d)")
        if not np.isfinite(rows).all():
            raise BrokenRuleError("numbers", f"{name} gives NaN or infinity")
        found |= {one.id: row for one, row in zip(asked, rows, strict=True)}
    if len({row.shape for row in found.values()}) > 1:
        raise BrokenRuleError("shapes", "embed_images and embed_texts give embeddings of different sizes")
    return found


def difference(before: Answers, after: Answers) -> str:
    """What differs between two sets of answers, "" where nothing does."""
    changed = [one for one in before if not _same(before[one], after[one])]
    return f"{len(changed)} of {len(before)} answers differ (first: sample {changed[0]})" if changed else ""


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        return np.array_equal(one[0], other[0]) and _near(one[1], other[1])
    return _near(one, other)


def _near(one: Floats, other: Floats) -> bool:
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True))


def require_same(before: Answers, after: Answers, why: str) -> None:
    """BrokenRuleError where answers differ; `why` says what they must not depend on."""
    if found := difference(before, after):
        raise broken(f"{found}; {why}")


def repeated(samples: Sequence[Sample], times: int) -> list[list[Sample]]:
    """The samples so many times over, each time under other ids."""
    return [[replace(one, id=f"{one.id}-again-{time}") for one in samples] for time in range(times)]


def poisoned(samples: Sequence[Sample], classes: int, paths: Mapping[str, str]) -> dict[str, Sample]:
    """Id -> the same picture under another id and path, with a wrong label and group.

    Args:
        paths: of copies of the pictures, by path.
    """
    found = {}
    for place, one in enumerate(samples):
        copy = ImageRef(paths[one.image.path], one.image.sha256, one.image.region)
        found[one.id] = Sample(f"poison-{place}", copy, place % classes, group="poison")
    return found
