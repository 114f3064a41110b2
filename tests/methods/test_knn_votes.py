"""Votes of labelled neighbours against a brute-force count."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trireme.methods.knn.votes import class_scores, rank_votes, ranked_votes

CLASSES = 6


@st.composite
def neighbour_lists(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n, depth = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    labels = draw(
        st.lists(st.lists(st.integers(0, CLASSES - 1), min_size=depth, max_size=depth), min_size=n, max_size=n)
    )
    steps = draw(st.lists(st.lists(st.integers(-99, 99), min_size=depth, max_size=depth), min_size=n, max_size=n))
    similarities = -np.sort(-np.array(steps, dtype=np.float32) / 100, axis=1)
    held = np.array(labels, dtype=np.int64)
    missing = draw(st.integers(0, depth - 1))
    if missing:
        held[:, -missing:] = -1
        similarities[:, -missing:] = -np.inf
    return held, similarities


@given(neighbour_lists(), st.integers(1, 12), st.sampled_from([0.01, 0.1, 1.0]))
def test_scores_are_log_vote_sums_then_best_similarities(
    lists: tuple[np.ndarray, np.ndarray], k: int, t: float
) -> None:
    labels, similarities = lists
    scores = class_scores(labels, similarities, k, t, CLASSES)
    for row, held, similar in zip(scores, labels, similarities, strict=True):
        for c in range(CLASSES):
            votes = [float(s) for s, held_class in zip(similar[:k], held[:k], strict=True) if held_class == c]
            later = [float(s) for s, held_class in zip(similar[k:], held[k:], strict=True) if held_class == c]
            if votes:
                top = max(votes)
                expected = top + t * math.log(sum(math.exp((s - top) / t) for s in votes))
            else:
                expected = max(later, default=-math.inf)
            np.testing.assert_allclose(row[c], expected, atol=1e-6)


@given(neighbour_lists())
def test_one_neighbour_ranks_classes_by_their_nearest_picture(lists: tuple[np.ndarray, np.ndarray]) -> None:
    labels, similarities = lists
    ranked, scores = rank_votes(class_scores(labels, similarities, 1, 0.05, CLASSES))
    for order, kept, held, similar in zip(ranked, scores, labels, similarities, strict=True):
        nearest = {c: float(similar[np.flatnonzero(held == c)[0]]) for c in set(held.tolist()) - {-1}}
        expected = sorted(nearest, key=lambda c: (-nearest[c], c))
        assert order[order >= 0].tolist() == expected
        np.testing.assert_allclose(kept[: len(expected)], [nearest[c] for c in expected], atol=1e-6)
        assert np.isneginf(kept[len(expected) :]).all()


def test_two_near_pictures_outvote_one_nearer() -> None:
    # class 1: exp(.9/T); class 2: exp(.85/T) + exp(.85/T) = 2 exp(.85/T); at T = .1 the ratio is 2 exp(-.5) = 1.21 > 1
    labels, similarities = np.array([[1, 2, 2]]), np.array([[0.9, 0.85, 0.85]], dtype=np.float32)
    assert rank_votes(class_scores(labels, similarities, 3, 0.1, 3))[0][0].tolist() == [2, 1, -1]
    assert rank_votes(class_scores(labels, similarities, 1, 0.1, 3))[0][0].tolist() == [1, 2, -1]


@given(neighbour_lists(), st.integers(1, 12), st.integers(1, 8))
def test_only_the_neighbours_classes_are_looked_at(lists: tuple[np.ndarray, np.ndarray], k: int, keep: int) -> None:
    """Classes 1000 apart, which nobody holds an array of: the ranking over all classes, numbered anew."""
    labels, similarities = lists
    ranked, scores = ranked_votes(np.where(labels >= 0, 1000 * labels, -1), similarities, k, 0.1, keep)
    dense, best = rank_votes(class_scores(labels, similarities, k, 0.1, CLASSES), keep)
    width = ranked.shape[1]
    np.testing.assert_array_equal(ranked, np.where(dense >= 0, 1000 * dense, -1)[:, :width])
    np.testing.assert_array_equal(scores, best[:, :width])
    assert (dense[:, width:] == -1).all()
