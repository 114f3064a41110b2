"""REACT's retrieval on the vector world, held against a plain search written out in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trireme.errors import DataError, MemoryMismatchError, UsageError
from trireme.methods.base import Context
from trireme.methods.react import ReactConfig
from trireme.methods.react.retrieve import RetrievedSet, retrieve
from trireme.retrieval.index import IndexConfig
from trireme.retrieval.memory import Memory
from trireme.types import Pair

from .synthetic import CONCEPTS, Pairs, VectorWorld


@dataclass(frozen=True)
class Hit:
    """One answer to one query."""

    class_index: int
    row: int
    score: float
    rank: int
    query: str


def found(context: Context, **options: Any) -> RetrievedSet:
    return retrieve(context, ReactConfig(**options))


def by_hand(context: Context, search: str, k: int, prompts: str = "each") -> list[Hit]:
    """Every hit of every query, from the definitions: query side, searched side, k largest inner products."""
    memory, encoder = context.memory, context.encoder
    assert memory is not None
    queries: list[tuple[str, int, np.ndarray]] = []
    if search == "i2i":
        for pair in context.pair_set("vectors/train").pairs():
            queries.append((pair.id, int(pair.label[1:]), context.store.images([pair.image])[0]))
    else:
        for c, name in enumerate(context.class_names):
            texts = [template.replace("{}", name) for template in context.templates]
            vectors = encoder.encode_texts(texts)
            if prompts == "ensemble":
                mean = vectors.mean(axis=0)
                texts, vectors = [name], (mean / np.linalg.norm(mean))[None]
            queries += [(text, c, vector) for text, vector in zip(texts, vectors, strict=True)]
    keys = np.asarray(memory.embeddings("text" if search == "t2t" else "image"), dtype=np.float64)
    hits = []
    for text, c, vector in queries:
        scores = keys @ vector.astype(np.float64)
        for rank, row in enumerate(np.argsort(-scores, kind="stable")[:k], start=1):
            hits.append(Hit(c, int(row), float(scores[row]), rank, text))
    return hits


def nearest(hits: list[Hit], kind: Callable[[Hit], Any]) -> list[Hit]:
    """The best hit of each kind, by class and then from near to far."""
    best: dict[Any, Hit] = {}
    for hit in hits:
        if kind(hit) not in best or hit.score > best[kind(hit)].score:
            best[kind(hit)] = hit
    return sorted(best.values(), key=lambda hit: (hit.class_index, -hit.score))


def same(context: Context, result: RetrievedSet, expected: list[Hit]) -> None:
    memory = context.memory
    assert memory is not None
    rows = [hit.row for hit in expected]
    np.testing.assert_array_equal(result.rows, rows)
    table = result.table.to_pydict()
    assert table["class_id"] == [f"c{hit.class_index}" for hit in expected]
    assert table["class_name"] == [f"concept {hit.class_index}" for hit in expected]
    assert table["query"] == [hit.query for hit in expected]
    assert table["rank"] == [hit.rank for hit in expected]
    np.testing.assert_allclose(table["distance"], [1 - hit.score for hit in expected], atol=1e-6)
    assert table["pair_id"] == [memory.ids[row] for row in rows]
    assert table["caption"] == memory.captions(rows)


@pytest.mark.parametrize(
    ("search", "prompts", "queries"),
    [("t2i", "each", 48), ("t2i", "ensemble", 24), ("t2t", "each", 48), ("t2t", "ensemble", 24), ("i2i", "each", 96)],
)
def test_retrieval_is_the_plain_search(vectors: VectorWorld, search: str, prompts: str, queries: int) -> None:
    """24 concepts, two templates, four training pictures each: 48, 24 or 96 queries of 9 hits."""
    context = vectors.context()
    result = found(context, search=search, prompts=prompts, k=9, query_pairs=["vectors/train"])
    hits = by_hand(context, search, 9, prompts)
    expected = nearest(hits, lambda hit: (hit.class_index, hit.row))
    same(context, result, expected)
    assert result.facts["search"] == search
    assert (result.facts["queries"], result.facts["hits"]) == (queries, 9 * queries)
    assert result.facts["pairs"] == len(expected)
    assert result.facts["distinct_pairs"] == len({hit.row for hit in expected})
    assert result.facts["mean_distance"] == pytest.approx(np.mean([1 - hit.score for hit in expected]), abs=1e-4)
    assert result.facts["retrieval_recall"] == 1.0


def test_within_a_class_the_best_hit_is_kept(vectors: VectorWorld) -> None:
    """Both prompts of a concept find some of the same pairs; each stands there once, with the nearer prompt."""
    context = vectors.context()
    hits = by_hand(context, "t2i", 9)
    result = found(context, k=9)
    keys = list(zip(result.table["class_id"].to_pylist(), result.table["pair_id"].to_pylist(), strict=True))
    assert len(keys) == len(set(keys)) < len(hits)
    assert len(set(result.rows.tolist())) < len(keys), "classes share pairs here"


def test_across_classes_the_nearest_class_keeps_the_pair(vectors: VectorWorld) -> None:
    context = vectors.context()
    result = found(context, k=9, across_classes=True)
    same(context, result, nearest(by_hand(context, "t2i", 9), lambda hit: hit.row))
    assert len(set(result.rows.tolist())) == len(result.rows)
    assert result.facts["classes_without_pairs"] == CONCEPTS - len(set(result.table["class_id"].to_pylist()))


def test_more_neighbours_than_the_memory_holds(vectors: VectorWorld) -> None:
    context = vectors.context(memory=vectors.pairs("memory", 1)[:3])
    result = found(context, k=10)
    same(context, result, nearest(by_hand(context, "t2i", 3), lambda hit: (hit.class_index, hit.row)))
    assert len(result.rows) == 3 * CONCEPTS


def test_classes_that_retrieve_nothing_are_named_and_counted(
    vectors: VectorWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """A threshold between the third and the fourth lowest of the classes' best similarities empties three classes."""
    context = vectors.context()
    hits = by_hand(context, "t2i", 9)
    best = {c: max(hit.score for hit in hits if hit.class_index == c) for c in range(CONCEPTS)}
    order = sorted(best, key=lambda c: best[c])
    threshold = (best[order[2]] + best[order[3]]) / 2
    names = ", ".join(f"concept {c}" for c in sorted(order[:3]))
    message = f"3 of 24 classes retrieved no pair: {names}; lower min_similarity.*allow_empty=true"
    with pytest.raises(DataError, match=message):
        found(context, k=9, min_similarity=threshold)
    result = found(context, k=9, min_similarity=threshold, allow_empty=True)
    assert f"warning: 3 of 24 classes retrieved no pair: {names}" in capsys.readouterr().err
    near = [hit for hit in hits if hit.score >= threshold]
    same(context, result, nearest(near, lambda hit: (hit.class_index, hit.row)))
    assert result.facts["classes_without_pairs"] == 3
    assert result.facts["hits"] == len(near)


def test_many_empty_classes_are_counted_and_five_of_them_named(vectors: VectorWorld) -> None:
    """No two vectors of this world are equal, so that a threshold of 1 lets nothing through."""
    names = "concept 0, concept 1, concept 2, concept 3, concept 4 \\.\\.\\."
    for allowed in (False, True):
        with pytest.raises(DataError, match=f"24 of 24 classes retrieved no pair: {names}") as caught:
            found(vectors.context(), min_similarity=1.0, allow_empty=allowed)
        assert "allow_empty" not in str(caught.value), "going on without any class is not offered"


def test_pictures_ask_for_their_own_class(vectors: VectorWorld) -> None:
    """Pictures of other classes do not ask; a class without one is named; an unreadable one is left out."""
    context = vectors.context()
    train = vectors.pairs("train")
    foreign = [replace(pair, id=f"{pair.id}?", label="somewhere else") for pair in train]
    context.pair_set = {"vectors/train": Pairs("vectors/train", [*train[4:], *foreign])}.__getitem__
    options = {"search": "i2i", "query_pairs": ["vectors/train"]}
    with pytest.raises(DataError, match="1 of 24 classes retrieved no pair: concept 0; ask with query_pairs"):
        found(context, **options)
    assert found(context, **options, allow_empty=True).facts["queries"] == 92
    Path(train[5].image.path).write_bytes(b"no picture")
    assert found(context, **options, allow_empty=True).facts["queries"] == 91
    context.pair_set = {"vectors/train": Pairs("vectors/train", foreign)}.__getitem__
    with pytest.raises(DataError, match="no picture of vectors/train is labelled with a class"):
        found(context, **options)


def test_random_pairs_are_as_many_and_seeded(vectors: VectorWorld) -> None:
    context = vectors.context()
    memory = context.memory
    assert memory is not None
    retrieved = found(context, k=2)
    count = retrieved.facts["distinct_pairs"]
    assert count < len(memory)
    drawn = found(context, k=2, pairs="random")
    assert len(set(drawn.rows.tolist())) == count == drawn.facts["distinct_pairs"]
    # an epoch is as long: what several classes retrieved counts as often
    times = [sorted(np.unique(one.rows, return_counts=True)[1]) for one in (retrieved, drawn)]
    assert times[0] == times[1]
    assert drawn.facts["search"] == "random"
    assert drawn.table.to_pydict() == {
        "pair_id": [memory.ids[row] for row in drawn.rows],
        "caption": memory.captions(drawn.rows),
    }
    np.testing.assert_array_equal(found(context, k=2, pairs="random").rows, drawn.rows)
    offset = found(context, k=2, pairs="random", seed_offset=1).rows
    assert set(offset.tolist()) != set(drawn.rows.tolist())
    context.seed = 1
    np.testing.assert_array_equal(found(context, k=2, pairs="random").rows, offset)
    assert found(context, k=2, pairs="random").fingerprint != drawn.fingerprint


def test_random_pairs_come_from_the_whole_memory(vectors: VectorWorld) -> None:
    """One class asks for one pair of 96 at a time: over 24 seeds nearly every row but few near ones would come up."""
    context = vectors.context()
    context.class_ids, context.class_names = context.class_ids[:1], context.class_names[:1]
    near = set(found(context, k=2).rows.tolist())
    drawn = {row for seed in range(24) for row in found(context, k=2, pairs="random", seed_offset=seed).rows.tolist()}
    assert len(near) == 2
    assert len(drawn) > 30  # 48 draws of 96 rows: 96 (1 - (1 - 2/96)^24) = 38 expected


def test_missing_captions_are_named_and_counted(clip_context: Context, discs: Callable[[str, int], list[Pair]]) -> None:
    """Two of twenty pairs are blank; blank pairs that no class retrieves do no harm."""
    pairs = discs("memory", 4)
    near = set(found(clip_context, k=1).rows.tolist())
    far = [row for row in range(20) if row not in near][:2]
    for row, caption in zip(far, ("", " \n"), strict=True):
        pairs[row] = replace(pairs[row], caption=caption)
    clip_context.memory = Memory.build(Pairs("discs/blank", pairs), clip_context.store, index=IndexConfig())
    first = pairs[min(far)].id
    with pytest.raises(DataError, match=rf"2 of 20 retrieved pairs have no caption \(first: {first}\)"):
        found(clip_context, k=20)
    assert set(found(clip_context, k=1).rows.tolist()) == near


def test_no_memory_or_another_encoders_memory(vectors: VectorWorld) -> None:
    context = vectors.context()
    context.memory = vectors.context(spread=0.5).memory
    with pytest.raises(MemoryMismatchError, match="was built by encoder vectors"):
        found(context)
    context.memory = None
    with pytest.raises(UsageError, match="method 'react' needs a memory"):
        found(context)


def test_one_pair_is_too_few(vectors: VectorWorld) -> None:
    context = vectors.context(memory=vectors.pairs("memory", 1)[:1])
    with pytest.raises(DataError, match="only 1 pair was retrieved; a contrastive loss needs negatives"):
        found(context)


def test_an_approximate_index_reports_its_recall(vectors: VectorWorld) -> None:
    """A graph with two links a node, searched one node wide, misses neighbours."""
    context = vectors.context()
    poor = IndexConfig(kind="hnsw", m=2, ef_construction=2, ef_search=1)
    context.memory = Memory.build(Pairs("vectors/memory", vectors.pairs("memory")), context.store, index=poor)
    result = found(context, k=5)
    exact = {(hit.query, hit.row) for hit in by_hand(context, "t2i", 5)}
    memory = context.memory
    queries = np.concatenate(
        [context.encoder.encode_texts([t.replace("{}", n) for t in context.templates]) for n in context.class_names]
    )
    rows = memory.search(queries, "image", 5).rows
    texts = [t.replace("{}", n) for n in context.class_names for t in context.templates]
    hit = [(text, row) in exact for text, line in zip(texts, rows.tolist(), strict=True) for row in line]
    assert result.facts["retrieval_recall"] == pytest.approx(np.mean(hit))
    assert result.facts["retrieval_recall"] < 1


def test_the_fingerprint_follows_pairs_and_captions(vectors: VectorWorld) -> None:
    context = vectors.context()
    first = found(context, k=3)
    assert found(context, k=3).fingerprint == first.fingerprint
    assert found(context, k=4).fingerprint != first.fingerprint
    other = [replace(pair, caption=f"{pair.caption}.") for pair in vectors.pairs("memory")]
    assert found(vectors.context(memory=other), k=3).fingerprint != first.fingerprint
