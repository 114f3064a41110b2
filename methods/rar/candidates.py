"""RAR's first stage: the candidate classes of a picture, in retrieval order.

Shapes: n pictures, k candidates, c classes, N memory pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from trireme.files import fingerprint
from trireme.methods.base import Context, require_memory
from trireme.methods.classes import class_embeddings, normalise
from trireme.methods.knn.votes import ranked_votes
from trireme.methods.rar.config import RarConfig
from trireme.methods.support import Support, support
from trireme.retrieval.index import Index, IndexConfig, open_index
from trireme.types import Floats, Ints

_RECIPROCAL = 60
"""The constant of reciprocal rank fusion (Cormack et al., SIGIR 2009)."""
_LINKS = 64
"""HNSW links of the authors' indexes (microscopic for class names, kept for their protocol)."""


class Candidates(NamedTuple):
    """What n pictures retrieved.

    Attributes:
        classes: (n, k) class indices, retrieval order; -1 where fewer were found.
        scores: (n, k) retrieval scores in the same order, -inf where classes is -1.
        rows: (n, k) the memory row that brought each candidate, -1 for class names.
        order: (n, m) the first classes of the whole retrieval ranking, -1 padded: what follows after the candidates.
        recall: (n,) share of exact neighbours that an approximate index found, None for exact ones.
    """

    classes: Ints
    scores: Floats
    rows: Ints
    order: Ints
    recall: Floats | None


class Retriever:
    """Finds the candidates among the classes of one task.

    Raises:
        UsageError: no memory where pictures are searched. DataError: no memory picture has a label of these classes.
    """

    def __init__(self, context: Context, config: RarConfig, ids: Sequence[str], names: Sequence[str]) -> None:
        self._context, self._config, self._names = context, config, names
        self.support: Support | None = None
        """the memory pictures of these classes, None where only names are searched"""
        if config.retriever != "i2t":
            self.support = support(require_memory(context, "rar").labels, ids, names)

    def __call__(self, queries: Floats, config: RarConfig) -> Candidates:
        """Candidates of (n, d) picture embeddings. `config` may differ from that of `__init__` in options of a grid."""
        if config.retriever == "i2t":
            return self._by_name(queries, config)
        if config.retriever == "i2i":
            return self._by_picture(queries, config)
        pictures, names = self._by_picture(queries, config), self._by_name(queries, config)
        joined = np.stack([_joined(*orders) for orders in zip(pictures.order, names.order, strict=True)])
        scores = _reciprocal(joined, pictures.order) + _reciprocal(joined, names.order)
        k = min(config.k, joined.shape[1])
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        found = np.where(joined >= 0, scores, -np.inf).astype(np.float32)
        return Candidates(joined[:, :k], found[:, :k], rows, joined, pictures.recall)

    def _by_picture(self, queries: Floats, config: RarConfig) -> Candidates:
        memory, held = require_memory(self._context, "rar"), self.support
        assert held is not None  # made for every retriever that searches pictures
        hits = memory.search(
            queries,
            "image",
            len(memory) if self._context.every_class else max(config.depth, config.votes),
            allowed=held.allowed,
            encoder=self._context.encoder.fingerprint,
        )
        labels = np.where(hits.rows >= 0, held.labels[hits.rows], -1)
        recall = memory.index_recall(queries, "image", hits.rows[:, : config.k], held.allowed)
        keep = max(self._context.keep, config.k)
        order, values = ranked_votes(labels, hits.scores, config.votes, config.temperature, keep)
        if not config.distinct:
            return Candidates(
                labels[:, : config.k], hits.scores[:, : config.k], hits.rows[:, : config.k], order, recall
            )
        classes, scores = order[:, : config.k], values[:, : config.k]
        first = (labels[:, None, :] == classes[:, :, None]).argmax(axis=2)  # (n, k): the nearest hit of each class
        rows = np.where(classes >= 0, np.take_along_axis(hits.rows, first, axis=1), -1)
        return Candidates(classes, scores, rows, order, recall)

    @cached_property
    def _class_index(self) -> Index:
        """Over the class names' prompts, made once for all batches."""
        context, kind = self._context, self._config.class_index
        vectors = class_embeddings(context.store, self._names, context.templates)
        index = IndexConfig(kind=kind, m=_LINKS)
        key = fingerprint([context.encoder.fingerprint, list(self._names), list(context.templates), index.facts()])
        folder = context.artifacts / "rar"
        if kind != "flat":
            folder.mkdir(parents=True, exist_ok=True)
        return open_index(index, vectors, folder / f"classes-{key}.faiss")

    def _by_name(self, queries: Floats, config: RarConfig) -> Candidates:
        searched = self._class_index
        depth = min(max(self._context.keep, config.k), len(self._names))
        hits = searched.search(np.ascontiguousarray(normalise(queries)), depth)
        k = min(config.k, depth)
        nothing = np.full((len(queries), k), -1, dtype=np.int64)
        return Candidates(hits.rows[:, :k], hits.scores[:, :k], nothing, hits.rows, None)


def _joined(pictures: Ints, names: Ints) -> Ints:
    """Two rankings as one by the sum of reciprocal ranks, as many as the longer one has, -1 padded."""
    size = max(len(pictures), len(names))
    values: dict[int, float] = {}
    for ranking in (pictures, names):
        for place, found in enumerate(ranking[ranking >= 0].tolist()):
            values[found] = values.get(found, 0.0) + 1 / (_RECIPROCAL + place + 1)
    best = sorted(values, key=lambda found: (-values[found], found))[:size]
    return np.array(best + [-1] * (size - len(best)), dtype=np.int64)


def _reciprocal(wanted: Ints, ranking: Ints) -> Floats:
    """1 / (60 + place) of each wanted class (n, m) in its row's ranking, 0 where it does not stand there."""
    same = (wanted[:, :, None] == ranking[:, None, :]) & (wanted[:, :, None] >= 0)
    place = same.argmax(axis=2) + 1
    found: Floats = np.where(same.any(axis=2), 1.0 / (_RECIPROCAL + place), 0.0).astype(np.float32)
    return found
