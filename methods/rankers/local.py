"""A model on this machine: vLLM serves it where it is installed, transformers where not. Tables say which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from importlib.util import find_spec
from typing import Any, ClassVar

from trireme.errors import unknown_name
from trireme.methods.rankers.base import Engine, Generated, Prompt, Scored
from trireme.methods.rankers.checkpoint import CheckpointConfig

ENGINES = ("auto", "vllm", "transformers")


@dataclass
class LocalRankerConfig(CheckpointConfig):
    """Options of a local ranker; those of a checkpoint, and

    Attributes:
        engine: "vllm", "transformers", or "auto": vLLM where it is installed.
        device: of transformers; vLLM finds its own.
    """

    engine: str = "auto"
    device: str = "auto"


class LocalEngine:
    """The `Engine` that this machine has; everything is the other engine's."""

    Config: ClassVar[type[LocalRankerConfig]] = LocalRankerConfig

    def __init__(self, config: LocalRankerConfig) -> None:
        if config.engine not in ENGINES:
            raise unknown_name("ranker engine", config.engine, ENGINES)
        self.config = config

    @cached_property
    def engine(self) -> Engine:
        """The engine chosen."""
        chosen = self.config.engine
        if chosen == "vllm" or (chosen == "auto" and find_spec("vllm") is not None):
            from trireme.methods.rankers.vllm import VllmEngine

            return VllmEngine(VllmEngine.Config(**self._shared()))
        from trireme.methods.rankers.hf import TransformersEngine

        return TransformersEngine(TransformersEngine.Config(**self._shared(), device=self.config.device))

    def _shared(self) -> dict[str, Any]:
        return {option.name: getattr(self.config, option.name) for option in fields(CheckpointConfig)}

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
        return self.engine.pictures

    def generate(self, prompts: Sequence[Prompt], max_tokens: int) -> list[Generated]:
        return self.engine.generate(prompts, max_tokens)

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[Sequence[str]]) -> list[Generated]:
        return self.engine.choose(prompts, choices)

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[Scored]:
        return self.engine.score(prompts, continuations)

    def next_token(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[Scored]:
        return self.engine.next_token(prompts, options)
