"""Ranking and prompt ensembling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trireme.errors import DataError, UsageError
from trireme.methods.classes import ensemble, normalise, prompt_embeddings, rank, similarity


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


@pytest.mark.parametrize(("names", "templates"), [([], ["{}"]), (["a"], []), (["a"], ["no slot"])])
def test_prompts_need_classes_and_slots(names: list[str], templates: list[str]) -> None:
    with pytest.raises(UsageError):
        prompt_embeddings(_Store(), names, templates)  # type: ignore[arg-type]
