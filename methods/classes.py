"""Classes as text: prompt embeddings, CLIP's ensembled classifier, and the ranking that every method shares.

Shapes: n samples, c classes, p templates, d embedding dimension, m ranked classes kept. c may be a million (OVEN's
entities): whatever would be (c, p, d) or (n, c) is made in blocks of classes.
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

BLOCK = 8192
"""Classes at a time. The same numbers come out whatever it is; with 256 pictures a block of scores takes 50 MB."""


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


def class_embeddings(store: EmbeddingStore, names: Sequence[str], templates: Sequence[str]) -> Floats:
    """The `ensemble` of every class's `prompt_embeddings`, (c, d), with the prompts of one block of classes at a time.

    Raises:
        UsageError: see `prompt_embeddings`.
    """
    starts = range(0, max(len(names), 1), BLOCK)  # no class is an error too
    blocks = [ensemble(prompt_embeddings(store, names[start : start + BLOCK], templates)) for start in starts]
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


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
    _check_numbers(scores)
    order: Ints = np.argsort(-scores, axis=1, kind="stable")[:, :keep].astype(np.int64)
    best: Floats = np.take_along_axis(scores, order, axis=1).astype(np.float32)
    return order, best


def rank_similar(queries: Floats, targets: Floats, keep: int = RANKED) -> tuple[Ints, Floats]:
    """`rank(similarity(queries, targets), keep)`, the same numbers, without ever holding all (n, c) of them.

    Raises:
        DataError: a score is NaN.
    """
    ranked: Ints = np.empty((len(queries), 0), dtype=np.int64)
    best: Floats = np.empty((len(queries), 0), dtype=np.float32)
    for start in range(0, len(targets), BLOCK):
        scores = similarity(queries, targets[start : start + BLOCK])
        _check_numbers(scores)
        columns = np.arange(scores.shape[1])
        if best.shape[1] == keep:  # an equal score stands behind, as its class is a higher one
            columns = np.flatnonzero((scores > best[:, -1:]).any(axis=0))
        ranked = np.hstack([ranked, np.broadcast_to(columns + start, (len(queries), len(columns)))])
        best = np.hstack([best, scores[:, columns]])
        order = np.argsort(-best, axis=1, kind="stable")[:, :keep]
        ranked, best = np.take_along_axis(ranked, order, axis=1), np.take_along_axis(best, order, axis=1)
    return ranked, best


def _check_numbers(scores: NDArray[np.floating]) -> None:
    if np.isnan(scores).any():
        raise DataError(
            "a class score is NaN; an embedding is damaged: remove the encoder's folder of embeddings and run again"
        )
