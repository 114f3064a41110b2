"""From labelled neighbours to ranked classes."""

from __future__ import annotations

import numpy as np

from trireme.methods.classes import rank
from trireme.types import RANKED, Floats, Ints


def class_scores(labels: Ints, similarities: Floats, k: int, temperature: float, classes: int) -> Floats:
    """Scores (n, c) of every class; -inf where no neighbour has it.

    A class with neighbours j among the first k gets T log sum_j exp(s_j / T), the logarithm of its vote sum exp(s / T)
    in the units of a similarity. It is at least the class's best similarity, so voters stand before the classes that
    only appear deeper in the list; those get their best similarity, which keeps top-5 meaningful when k is small. With
    k = 1 the score of every class is the similarity of its nearest picture, and the first class is the label of the
    nearest picture.

    Args:
        labels: (n, depth) class indices of the neighbours, nearest first; -1 where there is none.
        similarities: (n, depth), in the same order.
    """
    rows, columns = np.nonzero(labels >= 0)
    held = labels[rows, columns]
    values = similarities[rows, columns].astype(np.float64)
    best = np.full((len(labels), classes), -np.inf)
    np.maximum.at(best, (rows, held), values)
    voters = columns < k
    votes = np.zeros_like(best)
    lead = best[rows[voters], held[voters]]
    np.add.at(votes, (rows[voters], held[voters]), np.exp((values[voters] - lead) / temperature))
    with np.errstate(divide="ignore"):
        bonus = np.where(votes > 0, temperature * np.log(votes), 0)
    scores: Floats = (best + bonus).astype(np.float32)
    return scores


def ranked_votes(
    labels: Ints, similarities: Floats, k: int, temperature: float, keep: int = RANKED
) -> tuple[Ints, Floats]:
    """`rank_votes(class_scores(...))` over the classes that occur among the neighbours, of however many there are.

    Returns:
        (n, m) ranked classes, -1 padded, and their scores; m is at most `keep`, and at most how many classes occur.
    """
    classes = np.unique(labels[labels >= 0])
    places = np.where(labels >= 0, np.searchsorted(classes, labels), -1)
    ranked, best = rank_votes(class_scores(places, similarities, k, temperature, len(classes)), keep)
    found: Ints = np.full_like(ranked, -1)
    found[ranked >= 0] = classes[ranked[ranked >= 0]]
    return found, best


def rank_votes(scores: Floats, keep: int = RANKED) -> tuple[Ints, Floats]:
    """Ranked classes and scores as `rank` gives them; classes without a neighbour become -1 with score -inf."""
    ranked, best = rank(scores, keep)
    return np.where(np.isneginf(best), -1, ranked), best
