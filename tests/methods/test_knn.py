"""knn on a real memory, and on a FAISS index written elsewhere, against brute force in numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trireme.errors import DataError, MemoryMismatchError, UsageError
from trireme.methods.base import Context, Method
from trireme.methods.knn import Knn, KnnConfig
from trireme.retrieval.foreign import ForeignIndex
from trireme.retrieval.index import IndexConfig
from trireme.retrieval.memory import Memory
from trireme.types import Sample

from .synthetic import CONCEPTS, VectorWorld, unlabelled


def fitted(context: Context, **options: Any) -> Knn:
    method = Knn(KnnConfig(**options))
    method.fit(context)
    return method


def brute_force(context: Context, samples: list[Sample], k: int, temperature: float) -> np.ndarray:
    """The class with the largest sum of exp(s / T) over the k nearest pictures, one sample at a time."""
    assert context.memory is not None
    keys = np.asarray(context.memory.embeddings("image"), dtype=np.float64)
    labels = np.array([context.class_ids.index(label) for label in context.memory.labels])
    best = []
    for query in context.store.images([sample.image for sample in samples]):
        scores = keys @ query.astype(np.float64)
        nearest = np.argsort(-scores, kind="stable")[:k]
        votes = np.bincount(labels[nearest], np.exp(scores[nearest] / temperature), len(context.class_ids))
        best.append(int(votes.argmax()))
    return np.array(best)


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(k=st.integers(1, 40), temperature=st.sampled_from([0.02, 0.1, 1.0]))
def test_votes_equal_brute_force(vectors: VectorWorld, k: int, temperature: float) -> None:
    context, samples = vectors.context(), vectors.samples("test", 1)
    got = fitted(context, k=k, temperature=temperature).predict(samples)
    np.testing.assert_array_equal(got.ranked[:, 0], brute_force(context, samples, k, temperature))


def test_one_neighbour_is_the_label_of_the_nearest_picture(vectors: VectorWorld) -> None:
    context, samples = vectors.context(), vectors.samples("test", 2)
    method = fitted(context)
    got = method.predict(samples)
    assert isinstance(method, Method)
    assert context.memory is not None
    for ranked, scores, ids, labels in zip(
        got.ranked, got.scores, got.extras["retrieved"], got.extras["retrieved_labels"], strict=True
    ):
        assert context.class_ids[ranked[0]] == labels[0]
        assert ids[0].startswith("memory/")
        # the classes in the order in which the neighbours first show them
        first_seen = list(dict.fromkeys(labels))
        assert [context.class_ids[c] for c in ranked[: len(first_seen)]] == first_seen
        assert (np.diff(scores) <= 0).all()


def test_only_pictures_of_the_benchmarks_classes_are_searched(vectors: VectorWorld) -> None:
    context = vectors.context()
    context.class_ids, context.class_names = context.class_ids[5:9], context.class_names[5:9]
    method = fitted(context)
    got = method.predict(vectors.samples("test", 1))
    assert method.facts()["support"] == 16  # 4 classes with 4 memory pictures each
    assert got.ranked.shape == (CONCEPTS, 4)
    assert {label for row in got.extras["retrieved_labels"] for label in row} == {"c5", "c6", "c7", "c8"}


def test_classes_that_the_memory_does_not_show_are_told_of(
    vectors: VectorWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 24 classes the memory shows all, all but five, and none but two; four pictures a class."""
    assert fitted(vectors.context()).facts()["classes_without_picture"] == 0
    assert capsys.readouterr().err == ""
    for held, count, named in (
        ({f"c{n}" for n in range(5, 24)}, 5, "concept 0, concept 1, concept 2 ..."),
        ({"c2", "c3"}, 22, "concept 0, concept 1, concept 4 ..."),
    ):
        few = [pair for pair in vectors.pairs("memory") if pair.label in held]
        facts = fitted(vectors.context(memory=few)).facts()
        assert (facts["support"], facts["classes_without_picture"]) == (4 * len(held), count)
        told = f"note: {count} of 24 classes have no picture in the memory to be found by: {named}\n"
        assert capsys.readouterr().err == told


def test_k_and_t_are_chosen_on_validation_classes(vectors: VectorWorld) -> None:
    """The validation benchmark has all 24 classes, the context only 4; labels of one are not read as the other's."""
    context = vectors.context()
    context.class_ids, context.class_names = context.class_ids[5:9], context.class_names[5:9]
    facts = fitted(context, grid={"k": [1.0, 4.0, 90.0], "temperature": [10.0]}).facts()
    assert facts["selection"]["tried"] == 3
    assert facts["k"] in (1, 4)  # 90 of 96 pictures voting alike is chance
    assert facts["selection"]["scores"]["unknown"] > 50


def test_a_grid_without_validation_pictures_is_told(vectors: VectorWorld, capsys: pytest.CaptureFixture[str]) -> None:
    context = vectors.context()
    context.validation = None
    facts = fitted(context, grid={"k": [4.0, 9.0]}).facts()
    assert (facts["k"], facts["without_validation"]) == (1, {"k": 1})
    assert "no validation pictures to choose on; k=1 stay as configured" in capsys.readouterr().err


def test_as_many_classes_are_listed_as_the_benchmark_asks_for(vectors: VectorWorld) -> None:
    context = vectors.context()
    assert fitted(context).predict(vectors.samples("test", 1)).ranked.shape == (CONCEPTS, 20)
    context.keep = 3
    assert fitted(context).predict(vectors.samples("test", 1)).ranked.shape == (CONCEPTS, 3)


def test_every_class_is_ranked_where_the_metric_needs_it(vectors: VectorWorld) -> None:
    """24 classes with 4 pictures each: ten neighbours hold some of them, the whole memory all."""
    context = vectors.context()
    context.keep = CONCEPTS
    few = fitted(context, depth=10, recorded=10).predict(vectors.samples("test", 1))
    assert (few.ranked == -1).any()
    context.every_class = True
    whole = fitted(context, depth=10, recorded=10).predict(vectors.samples("test", 1))
    assert (np.sort(whole.ranked, axis=1) == np.arange(CONCEPTS)).all()
    np.testing.assert_array_equal(whole.ranked[:, 0], few.ranked[:, 0])


def test_memory_without_labels_is_refused(vectors: VectorWorld) -> None:
    context = vectors.context(memory=unlabelled(vectors.pairs("memory")))
    with pytest.raises(DataError, match="labelled"):
        fitted(context)


def test_missing_memory_and_wrong_options(vectors: VectorWorld) -> None:
    context = vectors.context()
    context.memory = None
    with pytest.raises(UsageError, match="needs a memory"):
        fitted(context)
    with pytest.raises(UsageError, match="temperature"):
        Knn(KnnConfig(temperature=0))
    with pytest.raises(UsageError, match="did you mean 'temperature'"):
        Knn(KnnConfig(grid={"temprature": [1.0]}))


def test_a_memory_of_another_encoder_is_refused(vectors: VectorWorld) -> None:
    context = vectors.context()
    context.memory = vectors.context(spread=0.5).memory
    with pytest.raises(MemoryMismatchError):
        fitted(context).predict(vectors.samples("test", 1))


@pytest.mark.parametrize("names", [False, True])
def test_an_index_written_elsewhere_answers_like_the_memory(vectors: VectorWorld, tmp_path: Path, names: bool) -> None:
    """The memory's own vectors in a bare FAISS file; its list names classes by id, or by name as RAR's files do."""
    context, samples = vectors.context(), vectors.samples("test", 2)
    memory = context.memory
    assert memory is not None
    expected = fitted(context).predict(samples)
    index = faiss.IndexFlatIP(context.encoder.dim)
    index.add(np.ascontiguousarray(memory.embeddings("image")))
    faiss.write_index(index, str(tmp_path / "support.index"))
    shown = dict(zip(context.class_ids, context.class_names, strict=True))
    (tmp_path / "labels.txt").write_text("\n".join(shown[x] if names else x for x in memory.labels))
    foreign: Any = ForeignIndex(tmp_path / "support.index", tmp_path / "labels.txt", context.encoder)
    context.memory = foreign
    got = fitted(context).predict(samples)
    np.testing.assert_array_equal(got.ranked, expected.ranked)
    np.testing.assert_allclose(got.scores, expected.scores, atol=1e-6)


def test_each_sample_says_what_a_graph_missed(vectors: VectorWorld) -> None:
    """Reference: the exact neighbours in numpy, against the ids that the run itself recorded."""
    context, samples = vectors.context(), vectors.samples("test", 2)
    exact = context.memory
    assert exact is not None
    assert "index_recall" not in fitted(context).predict(samples).extras, "an exact index misses nothing"
    context.memory = Memory.open(exact.folder, IndexConfig("hnsw", m=2, ef_construction=2, ef_search=1))
    got = fitted(context, k=1, depth=6, recorded=6).predict(samples)
    scores = context.store.images([sample.image for sample in samples]) @ exact.embeddings("image").T
    nearest = [set(exact.ids[row]) for row in np.argsort(-scores, axis=1)[:, :6]]
    by_hand = [len(want & set(found)) / 6 for want, found in zip(nearest, got.extras["retrieved"], strict=True)]
    assert got.extras["index_recall"] == pytest.approx(by_hand)
    assert 0 < np.mean(by_hand) < 1
    parts = [fitted(context, k=1, depth=6, recorded=6).predict([one]).extras["index_recall"][0] for one in samples[:5]]
    assert parts == pytest.approx(by_hand[:5]), "a sample's recall depends on no other sample"


def test_colours_through_a_real_open_clip_model(clip_context: Context, disc_samples: list[Sample]) -> None:
    """Even random weights keep discs of one colour together."""
    got = fitted(clip_context).predict(disc_samples)
    assert (got.ranked[:, 0] == [sample.label for sample in disc_samples]).mean() > 0.8
