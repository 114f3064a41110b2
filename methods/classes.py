"""Classes as text: prompt embeddings, CLIP's ensembled classifier, and the ranking that every method shares.

Shapes: n samples, c classes, p templates, d embedding dimension, m ranked classes kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trireme.errors import DataError, UsageError
from trireme.types import RANKED, Floats, Ints

if TYPE_CHECKING:
    from trireme.retrieval.store import EmbeddingStore


def prompt_embeddings(store: EmbeddingStore, names: Sequence[str], templates: Sequence[str]) -> Floats:
    """Embeddings of every class in every template, (c, p, d), L2-normalised.

    Raises:
        UsageError: no class, no template, or a template without `{}`.
    """
    if not names or not templates:
        raise UsageError("a classifier needs at least one class name and one template")
    for template in templates:
        if "{}" not in template:
            raise UsageError(f"the template '{template}' has no {{}} for the class name")
    prompts = [template.replace("{}", name) for name in names for template in templates]
    return store.texts(prompts).reshape(len(names), len(templates), -1)


def normalise(rows: NDArray[np.floating]) -> Floats:
    """Rows (..., d) divided by their L2 norm; a row of zeros stays zero."""
    wide = rows.astype(np.float64)
    norms = np.linalg.norm(wide, axis=-1, keepdims=True)
    unit: Floats = (wide / np.where(norms == 0, 1, norms)).astype(np.float32)
    return unit


def ensemble(prompts: Floats) -> Floats:
    """CLIP's prompt ensembling (Radford et al. 2021, 3.1.4): the mean of a class's normalised prompts, normalised
    again.

    (c, p, d) -> (c, d).
    """
    return normalise(prompts.astype(np.float64).mean(axis=1))


def similarity(queries: Floats, targets: Floats) -> Floats:
    """Inner products (n, c).

    They are summed in float64. The order of that sum depends on how many rows are computed at once; where its error
    could show in the float32 result, which is rare, the exact sum is taken (products of two float32 are exact in it).
    """
    rows, columns = queries.astype(np.float64), targets.astype(np.float64)
    products = rows @ columns.T
    error = rows.shape[1] * 2.0**-52 * np.outer(np.linalg.norm(rows, axis=1), np.linalg.norm(columns, axis=1))
    found: Floats = products.astype(np.float32)
    unsure = (products - error).astype(np.float32) != (products + error).astype(np.float32)
    for row, column in zip(*np.nonzero(unsure), strict=True):
        found[row, column] = math.fsum(rows[row] * columns[column])
    return found


def rank(scores: NDArray[np.floating], keep: int = RANKED) -> tuple[Ints, Floats]:
    """The best classes of each row, best first, and their scores: (n, c) -> two (n, min(keep, c)). Ties: the lower
    class first.

    Raises:
        DataError: a score is NaN; it could be ranked anywhere.
    """
    if np.isnan(scores).any():
        raise DataError(
            "a class score is NaN; an embedding is damaged: remove the encoder's folder of embeddings and run again"
        )
    order: Ints = np.argsort(-scores, axis=1, kind="stable")[:, :keep].astype(np.int64)
    best: Floats = np.take_along_axis(scores, order, axis=1).astype(np.float32)
    return order, best
