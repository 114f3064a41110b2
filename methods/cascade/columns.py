"""The stored columns of two methods that share the samples, and the candidates of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trireme.methods.rankers.base import REPLY_STATUS, Status
from trireme.types import Ints, Predictions

_TOKENS = ("prompt_tokens", "completion_tokens")


def columns(
    cheap: Mapping[str, Sequence[Any]], expensive: Mapping[str, Sequence[Any]], asked: NDArray[np.bool_]
) -> dict[str, Sequence[Any]]:
    """The expensive method's columns where it was asked, the cheap one's elsewhere; None where there is no value.

    Where both asked a ranker, what they cost is added, and a reply that the cheap one did not get stays missing: the
    next run asks again, since with it the expensive one might not have been asked.

    Args:
        cheap: columns of all n samples.
        expensive: columns of the asked samples, in their order.
        asked: (n,).
    """
    found = {name: list(values) for name, values in cheap.items()}
    places = np.flatnonzero(asked).tolist()
    silent = {i for i, status in enumerate(found.get(REPLY_STATUS, ())) if status == Status.TIMEOUT}
    for name, values in expensive.items():
        column = found.setdefault(name, [None] * len(asked))
        for place, value in zip(places, values, strict=True):
            if name in _TOKENS and column[place] is not None:
                column[place] += value
            elif not (place in silent and name in (REPLY_STATUS, "reply")):
                column[place] = value
    return dict(found)


def candidates(cheap: Predictions, expensive: Predictions | None, asked: NDArray[np.bool_]) -> Ints:
    """(n, k) the classes that could still become the first one, -1 padded: what each ranker chose among, and the first
    class alone where the cheap method decided without one. So hit@k is the ceiling of any ranker at this threshold.
    """
    sure = cheap.candidates if cheap.candidates is not None else cheap.ranked[:, :1]
    width = sure.shape[1]
    unsure = None
    if expensive is not None:
        unsure = expensive.candidates if expensive.candidates is not None else expensive.ranked[:, :1]
        width = max(width, unsure.shape[1])
    found = np.full((len(asked), width), -1, dtype=np.int64)
    found[:, : sure.shape[1]] = sure
    if unsure is not None:
        found[asked] = -1
        found[np.flatnonzero(asked)[:, None], np.arange(unsure.shape[1])] = unsure
    return found
