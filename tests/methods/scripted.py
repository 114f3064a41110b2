"""An engine whose answers are written down, for what surrounds a model: modes, replies kept, methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from trireme.methods.rankers.base import Generated, Prompt, PromptError, Scored


class ScriptedEngine:
    """Answers by functions of (prompt, options); keeps what it was asked.

    Args:
        reply: text of `generate` and `choose`; the text of a RuntimeError or PromptError becomes `failed`.
        value: log-probability of one continuation in `score` and `next_token`.
    """

    @dataclass
    class Config:
        name: str = "scripted"

    version: ClassVar[int] = 1
    told = "none"
    pictures = ()

    def __init__(
        self,
        reply: Callable[[Prompt], str] = lambda prompt: "",
        value: Callable[[Prompt, str], float] = lambda prompt, text: 0.0,
        name: str = "scripted",
    ) -> None:
        self.name = self.fingerprint = name
        self.config: Any = self.Config(name)
        self._reply, self._value = reply, value
        self.prompts: list[Prompt] = []

    def generate(self, prompts: Sequence[Prompt], max_tokens: int) -> list[Generated]:
        return [self._said(prompt) for prompt in prompts]

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[Sequence[str]]) -> list[Generated]:
        return [self._said(prompt) for prompt in prompts]

    def _said(self, prompt: Prompt) -> Generated:
        self.prompts.append(prompt)
        try:
            return Generated(self._reply(prompt), 10, 3)
        except PromptError as error:
            return Generated.without(error)
        except RuntimeError as error:
            return Generated("", failed=str(error))

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[Scored]:
        return [self._scored(prompt, texts) for prompt, texts in zip(prompts, continuations, strict=True)]

    def next_token(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[Scored]:
        return [self._scored(prompt, texts) for prompt, texts in zip(prompts, options, strict=True)]

    def _scored(self, prompt: Prompt, texts: Sequence[str]) -> Scored:
        self.prompts.append(prompt)
        try:
            sums = tuple(self._value(prompt, text) for text in texts)
        except PromptError as error:
            return Scored.without(error, [0 for _ in texts])
        except RuntimeError as error:
            return Scored((), (), failed=str(error))
        return Scored(sums, tuple(len(text.split()) for text in texts), 10, len(texts))
