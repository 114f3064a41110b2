"""What every answer of a method must be. A run that breaks one of these rules fails by its name; it never scores.

Shapes: n samples, m ranked classes, k candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from trireme.errors import BrokenRuleError
from trireme.types import Predictions, Sample

_AGAIN = 5
"""How many samples are asked about twice in a run."""
_NEAR = 1e-3
"""Scores are equal within this share of the largest: another size of a batch sums in another order, on a GPU in half
precision too."""


def answered(method: Any, samples: Sequence[Sample], classes: int, name: str, repeats: bool = False) -> Predictions:
    """What a method predicts for samples, which it gets in a list of its own.

    Args:
        classes, name, repeats: see `check_answers`.

    Raises:
        BrokenRuleError: the predictions cannot be scored, or it changes the list.
    """
    given = list(samples)
    predictions: Predictions = method.predict(given)
    if given != list(samples):
        what = "predict changes the list of samples that it is given; copy it"
        raise BrokenRuleError.by(f"method '{name}'", "inputs", what)
    check_answers(predictions, len(samples), classes, name, repeats)
    return predictions


def check_repeated(method: Any, samples: Sequence[Sample], before: Predictions, name: str) -> None:
    """Ask about a batch's first few samples once more, now that the method has answered everything else.

    Args:
        before: what it answered about them in their batch.

    Raises:
        BrokenRuleError: it answers otherwise: it draws at random, learns from what it is asked, or looks at the batch.
    """
    after = method.predict(list(samples[:_AGAIN]))
    for row, sample in enumerate(samples[:_AGAIN]):
        if not _same_row(before, after, row):
            what = f"asked again about sample {sample.id} it answers otherwise; an answer depends on the sample alone"
            raise BrokenRuleError.by(f"method '{name}'", "determinism", what)


def _same_row(one: Predictions, other: Predictions, row: int) -> bool:
    """Whether a row has the same scores, and the same classes but where scores are nearly equal."""
    if one.ranked.shape[1] != other.ranked.shape[1]:
        return False
    scores, again = np.asarray(one.scores[row], np.float64), np.asarray(other.scores[row], np.float64)
    kept = one.ranked[row] >= 0
    if (kept != (other.ranked[row] >= 0)).any():
        return False
    finite = np.abs(scores[kept & np.isfinite(scores)])  # -inf stands for classes that were not looked at
    within = _NEAR * max(1.0, float(finite.max(initial=0.0)))
    if not np.allclose(scores[kept], again[kept], rtol=0, atol=within):
        return False
    found = dict(zip(other.ranked[row][kept].tolist(), again[kept].tolist(), strict=True))
    lowest = float(again[kept].min(initial=np.inf))  # a class that fell off the end had about this score
    pairs = zip(one.ranked[row][kept].tolist(), scores[kept].tolist(), strict=True)
    return all(score == (now := found.get(label, lowest)) or abs(now - score) <= within for label, score in pairs)


def check_answers(predictions: Any, samples: int, classes: int, method: str, repeats: bool = False) -> None:
    """Refuse predictions that cannot be scored.

    Args:
        samples: how many were asked about, n.
        classes: how many there are.
        method: its name, for the message.
        repeats: a class may stand twice in a row (in retrieval, where rows are labels of what was found).

    Raises:
        BrokenRuleError: naming the method and the first rule that it breaks: shapes, numbers or ids.
    """
    for rule, fault in faults(predictions, samples, classes, repeats):
        raise BrokenRuleError.by(f"method '{method}'", rule, fault)


def faults(predictions: Any, samples: int, classes: int, repeats: bool = False) -> Iterator[tuple[str, str]]:
    """(rule, what is wrong), shapes first: where they are wrong, nothing else is looked at."""
    if wrong := _wrong_shape(predictions, samples):
        yield "shapes", wrong
        return
    ranked, scores = predictions.ranked, predictions.scores
    kept = ranked >= 0
    if bad := int((np.isnan(scores[kept]) | (scores[kept] == np.inf)).sum()):  # -inf: a class that is ruled out
        yield "numbers", f"{bad} of {int(kept.sum())} scores are NaN or +infinity; give each class a number"
    parts = {"ranked": ranked} | ({} if predictions.candidates is None else {"candidates": predictions.candidates})
    for name, part in parts.items():
        outside = np.unique(part[(part < -1) | (part >= classes)])
        if len(outside):
            yield "ids", f"{name} holds class {outside[0]} of {classes} classes; give 0 to {classes - 1}, -1 for none"
    if (kept[:, 1:] & ~kept[:, :-1]).any():
        yield "ids", "ranked has a class after a -1; -1 stands only at the end of a row"
    ordered = np.sort(ranked, axis=1)
    if not repeats and ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        yield "ids", "ranked names a class twice in one row"


def _wrong_shape(predictions: Any, n: int) -> str:
    if not isinstance(predictions, Predictions):
        return f"predict gives {type(predictions).__name__}; give trireme.types.Predictions"
    ranked, scores, candidates = predictions.ranked, predictions.scores, predictions.candidates
    named = {"ranked": (ranked, "i"), "scores": (scores, "f")}
    if candidates is not None:
        named["candidates"] = (candidates, "i")
    for name, (part, kind) in named.items():
        if not isinstance(part, np.ndarray) or part.ndim != 2:
            return f"{name} is {_shown(part)}; give an array (n, m)"
        if part.dtype.kind != kind:
            return f"{name} has dtype {part.dtype}; give {'int64' if kind == 'i' else 'float32'}"
        if len(part) != n:
            return f"asked for {n} samples it answered with {name} {part.shape}; give one row a sample"
    if ranked.shape != scores.shape:
        return f"ranked is {ranked.shape} and scores are {scores.shape}; give one score a class"
    lengths = {name: len(values) for name, values in predictions.extras.items()}
    return next(
        (f"the extra '{name}' has {size} values for {n} samples" for name, size in lengths.items() if size != n), ""
    )


def _shown(part: Any) -> str:
    return f"an array {part.shape}" if isinstance(part, np.ndarray) else type(part).__name__
