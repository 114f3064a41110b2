"""A ranker as another distribution would bring it: installed by an entry point, told what to do by files.

It answers from the prompt and the picture's name alone. In the folder $STAND_IN, `asked.txt` holds the picture of every
question that it answered or left without a reply; `silent.txt` parts of the paths of pictures for which it has no
reply; `dies.txt` how it ends before it answers, and at which call, counted from 1 for each object.
"""

from __future__ import annotations

import ast
import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

from trireme.errors import UsageError
from trireme.methods.rankers.base import Generated, Prompt, Scored

REFUSAL = "I'm sorry, I cannot help with that."
NONSENSE = "no idea"


class StandIn:
    """Keeps or turns the list of candidates; for some pictures it refuses, talks nonsense or names one class only."""

    @dataclass
    class Config:
        name: str = "stand-in"

    version: ClassVar[int] = 1
    told = "none"

    def __init__(self, config: Config) -> None:
        self.name = self.fingerprint = config.name
        self._folder = Path(os.environ["STAND_IN"])
        self._calls = 0

    def generate(self, prompts: Sequence[Prompt], max_tokens: int) -> list[Generated]:
        self._calls += 1
        self._perhaps_die()
        silent = self._lines("silent.txt")
        return [self._answer(prompt, silent) for prompt in prompts]

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[Sequence[str]]) -> list[Generated]:
        raise UsageError("the stand-in writes lists only")

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[Scored]:
        raise UsageError("the stand-in writes lists only")

    next_token = score

    def _lines(self, name: str) -> list[str]:
        path = self._folder / name
        return path.read_text().splitlines() if path.exists() else []

    def _perhaps_die(self) -> None:
        for line in self._lines("dies.txt"):
            how, call = line.split()
            if int(call) == self._calls and how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if int(call) == self._calls:
                raise KeyboardInterrupt

    def _answer(self, prompt: Prompt, silent: Sequence[str]) -> Generated:
        image = prompt.images[-1]
        assert image is not None
        with (self._folder / "asked.txt").open("a") as file:
            file.write(f"{image.path}\n")
        if any(part in image.path for part in silent):
            return Generated("", failed="connection refused")
        return Generated(reply(image.path, names_in(prompt)), 10, 3)


def names_in(prompt: Prompt) -> list[str]:
    """The candidates, which the prompt writes as Python does."""
    found = re.search(r"categories:(\[.*\])\.", prompt.texts[-1])
    assert found is not None
    names: list[str] = ast.literal_eval(found[1])
    return names


def reply(path: str, names: Sequence[str]) -> str:
    """By the first byte of a hash of the picture's name and its folder's."""
    byte = sha256("/".join(Path(path).parts[-2:]).encode()).digest()[0]
    if byte % 16 == 0:
        return REFUSAL
    if byte % 16 == 1:
        return NONSENSE
    if byte % 16 == 2:
        return repr(list(names[:1]))
    return repr(list(names[::-1] if byte % 4 == 3 else names))
