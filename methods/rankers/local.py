"""A model on this machine: vLLM serves it where it is installed, transformers where not. Tables say which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from importlib.util import find_spec
from typing import Any, ClassVar

from trireme.errors import UsageError, unknown_name
from trireme.methods.rankers.base import Engine
from trireme.methods.rankers.checkpoint import CheckpointConfig
from trireme.methods.rankers.delegate import Delegate

ENGINES = ("auto", "vllm", "transformers")


@dataclass
class LocalRankerConfig(CheckpointConfig):
    """Options of a local ranker; those of a checkpoint, and

    Attributes:
        engine: "vllm", "transformers", or "auto": vLLM where it is installed.
        device: of transformers; vLLM finds its own.
        batch: prompts computed together; 0: as many as the engine likes (128 of vLLM, 16 of transformers).
        vllm: further options of vLLM by their names (`VllmRankerConfig`): memory, cache_gib, images, implementation,
            tensor_parallel, compile, seed. Nothing is done with them where transformers answers.
    """

    engine: str = "auto"
    device: str = "auto"
    batch: int = 0
    vllm: dict[str, Any] = field(default_factory=dict)


class LocalEngine(Delegate):
    """The `Engine` that this machine has; everything is the other engine's."""

    Config: ClassVar[type[LocalRankerConfig]] = LocalRankerConfig

    def __init__(self, config: LocalRankerConfig) -> None:
        if config.engine not in ENGINES:
            raise unknown_name("ranker engine", config.engine, ENGINES)
        if config.batch < 0:
            raise UsageError(f"batch={config.batch}: 1 or more, or 0 for the engine's own")
        if config.vllm:
            _check_vllm(config.vllm)
        self.config = config

    @cached_property
    def engine(self) -> Engine:
        """The engine chosen."""
        chosen = self.config.engine
        if chosen == "vllm" or (chosen == "auto" and find_spec("vllm") is not None):
            from trireme.methods.rankers.vllm import VllmEngine

            return VllmEngine(VllmEngine.Config(**self._shared(), **self.config.vllm))
        from trireme.methods.rankers.hf import TransformersEngine

        return TransformersEngine(TransformersEngine.Config(**self._shared(), device=self.config.device))

    def _shared(self) -> dict[str, Any]:
        given = {option.name: getattr(self.config, option.name) for option in fields(CheckpointConfig)}
        return {**given, "batch": self.config.batch} if self.config.batch else given


def _check_vllm(options: Mapping[str, Any]) -> None:
    """Refuse what vLLM's configuration has not, or has outside of `vllm` already. UsageError."""
    from trireme.methods.rankers.vllm import VllmEngine, VllmRankerConfig

    shared = {option.name for option in fields(LocalRankerConfig)}
    known = {option.name: option.default for option in fields(VllmRankerConfig) if option.name not in shared}
    for name, value in options.items():
        if name in shared:
            raise UsageError(f"vllm.{name} is no option of vLLM alone; set ranker.{name}")
        if name not in known:
            raise unknown_name("option of ranker.vllm", name, known)
        kind = type(known[name])
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise UsageError(f"vllm.{name}={value} is no {kind.__name__}")
    VllmEngine(VllmRankerConfig(**options))
