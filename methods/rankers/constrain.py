"""Decoding that can only begin one of the given texts, for `generate` of transformers; by characters, as in vLLM.

It ends where one text is left: what would follow is decided (`choices.completed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from torch import Tensor

_LONGEST = 64  # characters of a vocabulary piece that are looked up


class Pieces:
    """The text that each token of a vocabulary adds to what stands before it."""

    def __init__(self, tokeniser: Any) -> None:
        self._tokeniser = tokeniser

    @cached_property
    def _ids(self) -> dict[str, list[int]]:
        tokeniser = self._tokeniser
        before = tokeniser("a", add_special_tokens=False)["input_ids"][-1:]
        start = tokeniser.decode(before)
        special = set(tokeniser.all_special_ids)
        numbers = [token for token in range(len(tokeniser)) if token not in special]
        found: dict[str, list[int]] = {}
        for token, text in zip(numbers, tokeniser.batch_decode([[*before, n] for n in numbers]), strict=True):
            added = text.removeprefix(start)
            if text.startswith(start) and added and "\ufffd" not in added:  # else a part of a character
                found.setdefault(added, []).append(token)
        return found

    def beginning(self, text: str) -> list[int]:
        """The tokens that begin `text`."""
        ids = self._ids
        return [token for end in range(1, min(len(text), _LONGEST) + 1) for token in ids.get(text[:end], ())]

    def canonical(self, text: str) -> list[int]:
        """The tokens of `text` as the tokeniser itself cuts it."""
        found: list[int] = self._tokeniser(text, add_special_tokens=False)["input_ids"]
        return found

    def spelled(self, tokens: Sequence[int]) -> str:
        """The text of tokens that follow something."""
        before = self._tokeniser("a", add_special_tokens=False)["input_ids"][-1:]
        text: str = self._tokeniser.decode([*before, *tokens])
        return text.removeprefix(self._tokeniser.decode(before))


class Constraint:
    """`prefix_allowed_tokens_fn` for rows that each have their own choices.

    Args:
        length: of the prompts, which all have the same.
        ends: tokens that end a turn; the first of them follows a whole choice.
    """

    def __init__(self, choices: Sequence[Sequence[str]], length: int, ends: Sequence[int], pieces: Pieces) -> None:
        self._choices, self._length, self._ends, self._pieces = choices, length, list(ends), pieces
        self._canonical = [[pieces.canonical(text) for text in options] for options in choices]

    def __call__(self, row: int, ids: Tensor) -> list[int]:
        """The tokens that may come next in a row."""
        written = ids[self._length :].tolist()
        if any(token in self._ends for token in written):
            return self._ends[:1]
        text = self._pieces.spelled(written)
        allowed: set[int] = set()
        left: set[str] = set()
        for option, tokens in zip(self._choices[row], self._canonical[row], strict=True):
            if option.startswith(text):
                left.add(option)
                allowed.update(self._pieces.beginning(option[len(text) :]) if option != text else self._ends[:1])
            if tokens[: len(written)] == written:  # also where a character is cut into several tokens
                left.add(option)
                allowed.add(tokens[len(written)] if len(tokens) > len(written) else self._ends[0])
        going_on = len(left) > 1 or "\ufffd" in text  # never in the middle of a character
        return sorted(allowed) if going_on and allowed else self._ends[:1]
