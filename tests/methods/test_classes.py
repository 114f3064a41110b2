"""Ranking and prompt ensembling."""

from __future__ import annotations

import tracemalloc
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import trireme.methods.classes as classes_module
from trireme.errors import DataError, UsageError
from trireme.methods.classes import (
    class_embeddings,
    ensemble,
    normalise,
    prompt_embeddings,
    rank,
    rank_similar,
    similarity,
)


def test_ensemble_is_the_normalised_mean_of_a_classs_prompts() -> None:
    prompts = np.array([[[1, 0], [0, 1]], [[1, 0], [1, 0]]], dtype=np.float32)
    half = 0.5**0.5  # the mean of two orthogonal unit vectors, brought back to length 1
    np.testing.assert_allclose(ensemble(prompts), [[half, half], [1, 0]], atol=1e-6)


def test_normalise_keeps_a_zero_row() -> None:
    np.testing.assert_array_equal(normalise(np.zeros((1, 3), dtype=np.float32)), np.zeros((1, 3)))


scores = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 6), st.integers(1, 30)), elements=st.integers(-4, 4).map(float)
)


@given(scores)
def test_rank_is_a_stable_sort_by_score(values: np.ndarray) -> None:
    """Small integers force ties; python's stable sort is the reference."""
    ranked, best = rank(values)
    for row, order, kept in zip(values, ranked, best, strict=True):
        expected = sorted(range(len(row)), key=lambda i: (-row[i], i))[:20]
        assert order.tolist() == expected
        assert kept.tolist() == [row[i] for i in expected]


@given(st.integers(0, 1000), st.integers(1, 40))
@example(seed=43, n=28)  # float64 sums of two orders lie on both sides of the middle between two float32
def test_a_row_scores_the_same_alone_and_among_others(seed: int, n: int) -> None:
    generator = np.random.default_rng(seed)
    queries = generator.standard_normal((n, 64)).astype(np.float32)
    targets = generator.standard_normal((30, 64)).astype(np.float32)
    together = similarity(queries, targets)
    alone = np.concatenate([similarity(queries[i : i + 1], targets) for i in range(n)])
    np.testing.assert_array_equal(together, alone)


def test_a_nan_score_is_an_error() -> None:
    with pytest.raises(DataError, match="NaN"):
        rank(np.array([[0.0, np.nan]]))
    with pytest.raises(DataError, match="NaN"):
        rank_similar(np.ones((1, 2), np.float32), np.array([[0, 1], [np.nan, 1]], np.float32))


@given(st.integers(0, 1000), st.integers(1, 60), st.integers(1, 25), st.integers(1, 17))
def test_blocks_of_classes_rank_as_all_at_once(seed: int, classes: int, keep: int, block: int) -> None:
    """Few values, so that scores are equal within and across blocks; the dense form is the reference, bit for bit."""
    generator = np.random.default_rng(seed)
    queries, targets = (generator.integers(-1, 2, (n, 3)).astype(np.float32) for n in (5, classes))
    with patch.object(classes_module, "BLOCK", block):
        ranked, best = rank_similar(queries, targets, keep)
    expected, scores = rank(similarity(queries, targets), keep)
    np.testing.assert_array_equal(ranked, expected)
    np.testing.assert_array_equal(best, scores)


def test_a_hundred_thousand_classes_take_little_memory() -> None:
    """The dense form of 256 pictures holds several arrays of 256 x 100,000 numbers of 8 bytes, 205 MB each."""
    generator = np.random.default_rng(0)
    queries, targets = (generator.standard_normal((n, 16)).astype(np.float32) for n in (256, 100_000))
    tracemalloc.start()
    rank_similar(queries, targets)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6


class _Store:
    """Answers with a row that spells out which prompt it was, so that the layout can be read back."""

    def texts(self, texts: list[str]) -> np.ndarray:
        self.seen = list(texts)
        return np.arange(len(texts), dtype=np.float32)[:, None]


def test_prompts_are_laid_out_class_by_template() -> None:
    store = _Store()
    prompts = prompt_embeddings(store, ["a {brace}", "b"], ["{}", "art of {}."])  # type: ignore[arg-type]
    assert store.seen == ["a {brace}", "art of a {brace}.", "b", "art of b."]
    assert prompts[:, :, 0].tolist() == [[0, 1], [2, 3]]


class _Hashes:
    """A text's embedding follows from the text alone."""

    def texts(self, texts: list[str]) -> np.ndarray:
        rows = [np.random.default_rng(list(text.encode())).standard_normal(4) for text in texts]
        return np.array(rows, dtype=np.float32)


def test_class_embeddings_do_not_depend_on_the_block() -> None:
    names, templates = [f"thing {number}" for number in range(7)], ("a {}.", "the {}.")
    expected = ensemble(prompt_embeddings(_Hashes(), names, templates))  # type: ignore[arg-type]
    with patch.object(classes_module, "BLOCK", 3):
        found = class_embeddings(_Hashes(), names, templates)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(UsageError):
        class_embeddings(_Hashes(), [], templates)  # type: ignore[arg-type]


@pytest.mark.parametrize(("names", "templates"), [([], ["{}"]), (["a"], []), (["a"], ["no slot"])])
def test_prompts_need_classes_and_slots(names: list[str], templates: list[str]) -> None:
    with pytest.raises(UsageError):
        prompt_embeddings(_Store(), names, templates)  # type: ignore[arg-type]
