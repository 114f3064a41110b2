"""Ranking pictures and captions for each other, against numpy on the whole matrix and by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trireme.benchmarks.image_text.benchmark import ImageTextBenchmark, subsets_of
from trireme.errors import DataError, TriremeError
from trireme.methods import both_ways, classes
from trireme.methods.base import Validation
from trireme.methods.both_ways import BothWays, nearest, validation_scores
from trireme.types import Floats, ImageRef, Role, Sample


class Known:
    """A method that looks embeddings up."""

    def __init__(self, images: Mapping[str, Sequence[float]], texts: Mapping[str, Sequence[float]]) -> None:
        self._images, self._texts = images, texts

    def embed_images(self, images: Sequence[ImageRef]) -> Floats:
        return np.array([self._images[one.path] for one in images], dtype=np.float32)

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        return np.array([self._texts[one] for one in texts], dtype=np.float32)


def samples_of(labels: Sequence[int], captions: int) -> list[Sample]:
    """Pictures "0", "1" ... with a caption "0.0", "0.1" ... each, sorted by id as a run has them."""
    found = [Sample(f"i2t/{i}", ImageRef(str(i)), label, group="i2t") for i, label in enumerate(labels)]
    for i, label in enumerate(labels):
        found += [Sample(f"t2i/{i}.{j}", ImageRef(str(i)), label, f"{i}.{j}", "t2i") for j in range(captions)]
    return sorted(found, key=lambda one: one.id)


@given(st.integers(1, 9), st.integers(1, 30), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_nearest_is_the_whole_matrix_sorted(n: int, m: int, keep: int, seed: int) -> None:
    """Small whole numbers: products are exact and ties are many, and they go to the earlier candidate."""
    rng = np.random.default_rng(seed)
    queries, candidates = (rng.integers(-2, 3, (size, 3)).astype(np.float32) for size in (n, m))
    expected = np.argsort(-(queries @ candidates.T), axis=1, kind="stable")[:, :keep]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(both_ways, "_QUERIES", 4)
        patch.setattr(classes, "BLOCK", 7)
        positions, scores = nearest(queries, candidates, keep)
    np.testing.assert_array_equal(positions, expected)
    np.testing.assert_array_equal(scores, np.take_along_axis(queries @ candidates.T, expected, axis=1))


def test_nothing_asked_and_broken_embeddings() -> None:
    one = np.ones((1, 2), dtype=np.float32)
    assert [part.shape for part in nearest(one[:0], one, 5)] == [(0, 1), (0, 1)]
    with pytest.raises(DataError, match="NaN"):
        nearest(one, one * np.nan)


def test_by_hand() -> None:
    """Two pictures on the axes. Caption 0.1 is nearer to picture 1 than to its own."""
    texts = {"0.0": (0.9, 0.1), "0.1": (0.2, 0.7), "1.0": (0.1, 0.8), "1.1": (0.3, 0.4)}
    samples = samples_of((5, 8), 2)
    ranked = BothWays(Known({"0": (1, 0), "1": (0, 1)}, texts), samples).predict(samples)  # type: ignore[arg-type]
    assert [row[row >= 0].tolist() for row in ranked.ranked] == [
        [5, 8, 5, 8],  # picture 0: captions 0.0 .9, 1.1 .3, 0.1 .2, 1.0 .1
        [8, 5, 8, 5],  # picture 1: 1.0 .8, 0.1 .7, 1.1 .4, 0.0 .1
        [5, 8],  # caption 0.0: picture 0 .9, 1 .1
        [8, 5],
        [8, 5],
        [8, 5],
    ]
    assert ranked.extras["found"][0] == ["t2i/0.0", "t2i/1.1", "t2i/0.1", "t2i/1.0"]
    assert ranked.extras["found"][3] == ["i2t/1", "i2t/0"]
    np.testing.assert_allclose(ranked.scores[0, :4], (0.9, 0.3, 0.2, 0.1), rtol=1e-6)


def random_case(seed: int, captions: int = 3) -> tuple[list[Sample], Known, Any, Any]:
    rng = np.random.default_rng(seed)
    samples = samples_of(range(40), captions)
    images = rng.standard_normal((40, 6)).astype(np.float32)
    texts = (images.repeat(captions, axis=0) + 1.5 * rng.standard_normal((40 * captions, 6))).astype(np.float32)
    known = Known(
        {str(i): row for i, row in enumerate(images)},
        {f"{i // captions}.{i % captions}": row for i, row in enumerate(texts)},
    )
    return samples, known, images, texts


def recalls(images: Any, texts: Any, captions: int, k: int) -> tuple[float, float]:
    """An independent R@k, both ways: how many of the others are above the best right one."""
    products = images @ texts.T
    own = np.arange(len(images))[:, None] == np.arange(len(texts))[None, :] // captions
    best = np.where(own, products, -np.inf).max(axis=1)
    i2t = ((products > best[:, None]).sum(axis=1) < k).mean()
    t2i = ((products > products[own.T.argmax(axis=1), np.arange(len(texts))]).sum(axis=0) < k).mean()
    return float(i2t), float(t2i)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_recall_at_k_equals_an_independent_computation(k: int) -> None:
    samples, known, images, texts = random_case(3)
    benchmark = ImageTextBenchmark("x", "1", (), (), ("",) * 40, subsets_of(), ("{}",), {Role.TEST: samples})
    method = BothWays(known, samples)  # type: ignore[arg-type]
    ranked = np.concatenate([method.predict(samples[start : start + 7]).ranked for start in range(0, len(samples), 7)])
    values = benchmark.score(ranked, np.array([one.label for one in samples]))[f"r@{k}"]
    found = [float(values[[one.group == way for one in samples]].mean()) for way in ("i2t", "t2i")]
    assert found == pytest.approx(recalls(images, texts, 3, k))
    assert 0.1 < min(found) < max(found) < 1


def test_a_query_is_compared_with_its_own_gallery_alone() -> None:
    """Recall in each of four galleries by itself, and the mean over them: all are equally large."""
    samples, known, images, texts = random_case(6)
    folds = tuple(str(label // 10) for label in range(40))
    rows: Any = {Role.TEST: samples}
    benchmark = ImageTextBenchmark("x", "1", (), (), ("",) * 40, subsets_of(), ("{}",), rows, folds=folds)
    method = BothWays(known, samples, gallery_of=benchmark.gallery_of)  # type: ignore[arg-type]
    asked = [method.predict(samples[start : start + 7]) for start in range(0, len(samples), 7)]
    labels = np.array([one.label for one in samples])
    ranked = np.concatenate([part.ranked for part in asked])
    assert all((row[row >= 0] // 10 == label // 10).all() for row, label in zip(ranked, labels, strict=True))
    values = benchmark.score(ranked, labels)["r@1"]
    found = [float(values[[one.group == way for one in samples]].mean()) for way in ("i2t", "t2i")]
    parts = [recalls(images[i : i + 10], texts[3 * i : 3 * i + 30], 3, 1) for i in range(0, 40, 10)]
    assert found == pytest.approx(np.mean(parts, axis=0))
    assert found != pytest.approx(recalls(images, texts, 3, 1))
    assert method.gallery != BothWays(known, samples).gallery  # type: ignore[arg-type]


def test_validation_scores_are_r_at_1_of_both_directions() -> None:
    samples, known, images, texts = random_case(4)
    benchmark = ImageTextBenchmark("x", "1", (), (), ("",) * 40, subsets_of(), ("{}",), {Role.TEST: samples})
    told = sorted((one for one in samples if one.text), key=lambda one: one.id)
    given = validation_scores(
        Validation(benchmark, samples),
        known.embed_images([one.image for one in samples if not one.text]),
        known.embed_texts([one.text for one in told]),
    )
    i2t, t2i = recalls(images, texts, 3, 1)
    assert given == pytest.approx({"i2t": 100 * i2t, "t2i": 100 * t2i})


def test_answers_of_other_candidates_are_not_true_any_more() -> None:
    samples, known, *_ = random_case(5)
    before, after = (BothWays(known, part) for part in (samples[1:], samples))  # type: ignore[arg-type]
    stored = pa.table({"sample_id": ["a", "b"], "gallery": [before.gallery, after.gallery]})
    kept = after.still_true(stored)
    assert kept is not None
    assert kept["sample_id"].to_pylist() == ["b"]
    assert after.still_true(None) is None


def test_a_method_without_both_sides() -> None:
    class OneSided:
        def embed_images(self, images: Sequence[ImageRef]) -> Floats: ...

    with pytest.raises(TriremeError, match="'OneSided' declares the task retrieval and lacks embed_images or embed_te"):
        BothWays(OneSided(), samples_of((0,), 1))  # type: ignore[arg-type]
