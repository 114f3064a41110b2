"""REACT's first stage: ask the memory with the task's class names and keep the pairs that answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa

from trireme.errors import DataError
from trireme.files import fingerprint
from trireme.methods.base import Context, require_memory
from trireme.methods.classes import ensemble, prompt_embeddings
from trireme.methods.react.config import SEARCHES, ReactConfig
from trireme.methods.recall import Recall
from trireme.progress import say
from trireme.retrieval.memory import Memory, Side
from trireme.types import Floats, Ints

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Queries:
    """What asks. q queries, d embedding dimension.

    Attributes:
        texts: (q,) the prompt, or the id of the picture.
        classes: (q,) class index of each.
        embeddings: (q, d).
    """

    texts: Sequence[str]
    classes: Ints
    embeddings: Floats


@dataclass(frozen=True, slots=True)
class RetrievedSet:
    """The pairs to customise on.

    Attributes:
        table: one row per kept hit: class_id, class_name, query, rank (from 1), distance (1 - cosine), pair_id,
            caption; for random pairs only pair_id and caption.
        rows: (n,) memory rows, one per kept hit: a pair that two classes retrieved stands there twice.
        facts: counts for the run record.
    """

    table: pa.Table
    rows: Ints
    facts: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Hash of the pairs in their order, and of their captions."""
        return fingerprint([self.table["pair_id"].to_pylist(), self.table["caption"].to_pylist()])


def retrieve(context: Context, config: ReactConfig) -> RetrievedSet:
    """The set that `config` asks for: the retrieved pairs, or as many random ones.

    Raises:
        UsageError: no memory, or an empty one.
        DataError: a class retrieved nothing, or captions are missing; both are named and counted.
    """
    memory = require_memory(context, "react")
    found = _searched(context, memory, config)
    if config.pairs == "random":
        found = _random(memory, found.rows, context.seed + config.seed_offset)
    _check_captions(memory, found.rows)
    return found


def _searched(context: Context, memory: Memory, config: ReactConfig) -> RetrievedSet:
    if not context.class_ids and not config.query_pairs:
        return _everything(memory)
    queries = _queries(context, config)
    side = cast(Side, SEARCHES[config.search][1])
    hits = memory.search(queries.embeddings, side, config.k, encoder=context.encoder.fingerprint)
    recall = Recall()
    recall.add(memory.recall(queries.embeddings, side, config.k), len(queries.texts))
    asked = np.repeat(np.arange(len(queries.texts)), hits.rows.shape[1])
    ranks = np.tile(np.arange(1, hits.rows.shape[1] + 1), len(queries.texts))
    rows, scores = hits.rows.ravel(), hits.scores.ravel()
    kept = (rows >= 0) & (scores >= config.min_similarity)
    asked, ranks, rows, scores = asked[kept], ranks[kept], rows[kept], scores[kept]
    classes = queries.classes[asked]
    empty = np.setdiff1d(np.arange(len(context.class_ids)), classes)
    _check_empty(context, config, empty)
    first = _first_of_each(classes, rows, scores, config.across_classes)
    lost = np.setdiff1d(classes, classes[first])
    if len(lost):
        say(f"note: {len(lost)} classes keep no pair, nearer classes took theirs: {_some(context, lost)}")
    ids, names = context.class_ids or ("",), context.class_names or ("",)
    table = pa.table(
        {
            "class_id": [ids[c] for c in classes[first]],
            "class_name": [names[c] for c in classes[first]],
            "query": [queries.texts[q] for q in asked[first]],
            "rank": pa.array(ranks[first], pa.int32()),
            "distance": pa.array((1 - scores[first]).astype(np.float32)),
            "pair_id": [str(memory.ids[row]) for row in rows[first]],
            "caption": memory.captions(rows[first]),
        }
    )
    facts = {
        "search": config.search,
        "queries": len(queries.texts),
        "hits": len(rows),
        "pairs": len(first),
        "distinct_pairs": len(np.unique(rows[first])),
        "classes_without_pairs": len(np.setdiff1d(np.arange(len(context.class_ids)), classes[first])),
        "mean_distance": round(float(table["distance"].to_numpy().mean()), 4) if len(first) else None,
        "retrieval_recall": recall.mean,
    }
    return RetrievedSet(table, rows[first], facts)


def _everything(memory: Memory) -> RetrievedSet:
    """All pairs: where a task has no class names and nothing else is told about it, there is nothing to ask with."""
    say(f"note: there are no class names to ask with; the {len(memory)} pairs of the memory are the retrieved set")
    rows = np.arange(len(memory), dtype=np.int64)
    table = pa.table({"pair_id": [str(one) for one in memory.ids], "caption": memory.captions(rows)})
    return RetrievedSet(table, rows, {"search": "none", "pairs": len(rows), "distinct_pairs": len(rows)})


def _queries(context: Context, config: ReactConfig) -> Queries:
    if not context.class_ids:
        return _pair_queries(context, config)
    if SEARCHES[config.search][0] == "image":
        return _picture_queries(context, config)
    prompts = prompt_embeddings(context.store, context.class_names, context.templates)
    numbers = np.arange(len(prompts), dtype=np.int64)
    if config.prompts == "ensemble":
        return Queries(list(context.class_names), numbers, ensemble(prompts))
    texts = [template.replace("{}", name) for name in context.class_names for template in context.templates]
    return Queries(texts, np.repeat(numbers, prompts.shape[1]), prompts.reshape(-1, prompts.shape[2]))


def _picture_queries(context: Context, config: ReactConfig) -> Queries:
    index = {class_id: number for number, class_id in enumerate(context.class_ids)}
    pairs = [p for name in config.query_pairs for p in context.pair_set(name).pairs() if p.label in index]
    failed = context.store.prepare([pair.image for pair in pairs])
    pairs = [pair for position, pair in enumerate(pairs) if position not in failed]
    if not pairs:
        raise DataError(f"no picture of {', '.join(config.query_pairs)} is labelled with a class of this benchmark")
    classes = np.array([index[pair.label] for pair in pairs], dtype=np.int64)
    return Queries([pair.id for pair in pairs], classes, context.store.images([pair.image for pair in pairs]))


def _pair_queries(context: Context, config: ReactConfig) -> Queries:
    """For a task without classes its training pairs ask, by their captions or pictures; what they find is one set."""
    pairs = [pair for name in config.query_pairs for pair in context.pair_set(name).pairs()]
    if SEARCHES[config.search][0] == "image":
        failed = context.store.prepare([pair.image for pair in pairs])
        pairs = [pair for position, pair in enumerate(pairs) if position not in failed]
        embeddings = context.store.images([pair.image for pair in pairs])
    else:
        embeddings = context.store.texts([pair.caption for pair in pairs])
    return Queries([pair.id for pair in pairs], np.zeros(len(pairs), dtype=np.int64), embeddings)


def _first_of_each(classes: Ints, rows: Ints, scores: Floats, across: bool) -> Ints:
    """Positions of the nearest hit of every (class, pair), or of every pair, by class and then by distance."""
    order = np.lexsort((classes, rows, -scores))
    kinds = rows[order] if across else classes[order] * (int(rows.max(initial=0)) + 1) + rows[order]
    _, first = np.unique(kinds, return_index=True)
    chosen = order[first]
    return chosen[np.lexsort((rows[chosen], -scores[chosen], classes[chosen]))].astype(np.int64)


def _check_empty(context: Context, config: ReactConfig, empty: Ints) -> None:
    if not len(empty):
        return
    what = f"{len(empty)} of {len(context.class_ids)} classes retrieved no pair: {_some(context, empty)}"
    some = len(empty) < len(context.class_ids)
    if config.allow_empty and some:
        say(f"warning: {what}")
        return
    hint = "; ask with query_pairs that hold them" if config.search == "i2i" else "; lower min_similarity"
    raise DataError(what + hint + (", or go on without them: method.react.allow_empty=true" if some else ""))


def _some(context: Context, classes: Ints) -> str:
    return ", ".join(context.class_names[c] for c in classes[:_NAMED]) + (" ..." if len(classes) > _NAMED else "")


def _random(memory: Memory, retrieved: Ints, seed: int) -> RetrievedSet:
    """As many distinct pairs as were retrieved, each as often as one of those, so that an epoch is as long."""
    distinct, places = np.unique(retrieved, return_inverse=True)
    drawn = np.random.default_rng(seed).choice(len(memory), len(distinct), replace=False)
    rows = np.sort(drawn[places]).astype(np.int64)
    ids = [str(memory.ids[row]) for row in rows]
    table = pa.table({"pair_id": ids, "caption": memory.captions(rows)})
    return RetrievedSet(table, rows, {"search": "random", "pairs": len(rows), "distinct_pairs": len(distinct)})


def _check_captions(memory: Memory, rows: Ints) -> None:
    distinct = np.unique(rows)
    lacking = [row for row, caption in zip(distinct, memory.captions(distinct), strict=True) if not caption.strip()]
    if lacking:
        raise DataError(
            f"{len(lacking)} of {len(distinct)} retrieved pairs have no caption (first: {memory.ids[lacking[0]]}); "
            "react trains on captions: fill them in or take the pairs out of the memory"
        )
    if len(distinct) < 2:
        raise DataError(f"only {len(distinct)} pair was retrieved; a contrastive loss needs negatives")
