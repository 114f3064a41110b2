"""Ranking data as RAR builds it (finetune/build_finetuning_data.ipynb of the authors' code; paper, section 3.4).

For every labelled picture its nearest neighbours are searched, windows of their classes slide over them, and a window
that holds the picture's own class becomes a sample: the question lists the window in retrieval order, the answer lists
it with the right class first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trireme.methods.rankers.base import Prompt, Question
from trireme.methods.rankers.prompts import NAMELESS, continuation, list_prompt
from trireme.types import ImageRef, Ints


@dataclass(frozen=True, slots=True)
class Lesson:
    """A prompt and the answer that is taught, without the end of the turn."""

    prompt: Prompt
    answer: str


def windows(label: int, neighbours: Ints, size: int) -> list[tuple[int, ...]]:
    """Every window of `size` consecutive neighbours that holds the label, nearest first.

    20 neighbours give 16 windows of 5. Classes may repeat, as in the authors' data.

    Args:
        neighbours: (n,) class indices, nearest first; negative ones (no class of the task) are left out.
    """
    found = [int(c) for c in neighbours if c >= 0]
    slides = (tuple(found[start : start + size]) for start in range(max(0, len(found) - size + 1)))
    return [slide for slide in slides if label in slide]


def ranked_answer(label: int, window: Sequence[int]) -> list[int]:
    """The target: every entry of the right class first, then the others in retrieval order."""
    return [c for c in window if c == label] + [c for c in window if c != label]


def ranking_lessons(
    refs: Sequence[ImageRef],
    labels: Sequence[int],
    neighbours: Ints,
    names: Sequence[str],
    size: int = 5,
    wording: str = "paper",
    shuffle: int | None = None,
) -> list[Lesson]:
    """The samples of all pictures.

    Args:
        refs, labels: n pictures and their class indices.
        neighbours: (n, k) class indices of each picture's neighbours, the picture itself excluded, -1 where none.
        names: of the classes.
        shuffle: seed of a random order of every question's candidates (the paper says shuffled, the authors' code does
            not); None keeps the retrieval order.
    """
    rng = None if shuffle is None else np.random.default_rng(shuffle)
    lessons = []
    for ref, label, row in zip(refs, labels, neighbours, strict=True):
        for window in windows(label, row, size):
            asked = window if rng is None else tuple(window[i] for i in rng.permutation(len(window)))
            question = Question(ref, tuple(names[c] for c in asked))
            target = [names[c] for c in ranked_answer(label, window)]
            lessons.append(Lesson(list_prompt(question, wording), repr(target)))
    return lessons


def naming_lessons(refs: Sequence[ImageRef], labels: Sequence[int], names: Sequence[str]) -> list[Lesson]:
    """One sample a picture: its name, asked without candidates (the wording `name`, for `score`)."""
    return [
        Lesson(list_prompt(Question(ref, (names[label],)), NAMELESS), continuation(names[label], NAMELESS))
        for ref, label in zip(refs, labels, strict=True)
    ]
