"""Engines that answer by another engine, and engines that hold their models one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from trireme.methods.rankers.base import Closable, Engine, Generated, Prompt, Scored


class Delegate:
    """Everything is that of `engine`, which a subclass gives."""

    Config: ClassVar[type[Any]] = object

    @property
    def engine(self) -> Engine:
        """Who answers."""
        raise NotImplementedError

    def asked(self) -> Engine:
        """The same, right before it is asked."""
        return self.engine

    @property
    def version(self) -> int:
        return self.engine.version

    @property
    def name(self) -> str:
        return self.engine.name

    @property
    def fingerprint(self) -> str:
        return self.engine.fingerprint

    @property
    def told(self) -> str:
        return self.engine.told

    @property
    def pictures(self) -> Sequence[Mapping[str, Any]]:
        """None where a plug-in's engine does not say."""
        return getattr(self.engine, "pictures", ())

    @property
    def batch(self) -> int:
        """0 where the engine does not say."""
        return int(getattr(self.engine, "batch", 0))

    def close(self) -> None:
        """Let the model go where there is one; it loads again when it is asked again."""
        if isinstance(self.engine, Closable):
            self.engine.close()

    def generate(self, prompts: Sequence[Prompt], max_tokens: int) -> list[Generated]:
        return self.asked().generate(prompts, max_tokens)

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[Sequence[str]]) -> list[Generated]:
        return self.asked().choose(prompts, choices)

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[Scored]:
        return self.asked().score(prompts, continuations)

    def next_token(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[Scored]:
        return self.asked().next_token(prompts, options)


class Turns:
    """Of the engines that take turns, only the one that was asked last holds its model."""

    def __init__(self) -> None:
        self._last: Closable | None = None

    def take(self, engine: Closable) -> None:
        """Close who was asked before, where that is another one."""
        if self._last is not engine:
            self.close()
        self._last = engine

    def close(self) -> None:
        """Close who was asked last."""
        if self._last is not None:
            self._last.close()
        self._last = None


class InTurn(Delegate):
    """An engine that holds a model, before which the one that was asked before lets its own go: a GPU has room for one.

    Args:
        turns: shared by those that take turns.
    """

    def __init__(self, engine: Engine, turns: Turns) -> None:
        self._engine, self._turns = engine, turns

    @property
    def engine(self) -> Engine:
        """Who answers."""
        return self._engine

    def asked(self) -> Engine:
        """The engine, after its turn began."""
        self._turns.take(self)
        return self._engine
