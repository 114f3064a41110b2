"""Watching that a method leaves alone what it is given, and what all methods of one process share."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from trireme.guard import probe
from trireme.methods.base import Context
from trireme.retrieval.memory import Memory
from trireme.types import Benchmark

_HELD = ("name", "task", "metrics", "class_ids", "class_names", "class_groups", "subsets", "templates")


def snapshot(config: Any, context: Context) -> dict[str, Any]:
    """Everything that a method could change, by name: its config, what a context holds, and the state of the process.

    Args:
        config: the very object that the method was made with.
    """
    memory, validation = context.memory, context.validation
    held = {f"context.{field.name}": getattr(context, field.name) for field in fields(context)}
    held = {name: value if isinstance(value, str | int | tuple) else id(value) for name, value in held.items()}
    told = asdict(config) if is_dataclass(config) and not isinstance(config, type) else {}
    return {
        "its own config": repr(told),
        **held,
        **({} if memory is None else _memory(memory)),
        "the validation samples": None if validation is None else list(validation.samples),
        **({} if validation is None else _benchmark(validation.benchmark)),
        "the encoder (encode a copy of it)": _digest(probe(context.encoder)),
        "the embedding store": _own(context.store, "forwards"),
        "torch's default dtype for the whole process": str(torch.get_default_dtype()),
        **_random_states(),
    }


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The first thing that changed between two snapshots, "" for none."""
    return next((name for name, value in before.items() if after.get(name) != value), "")


def _memory(memory: Memory) -> dict[str, Any]:
    return {
        "the memory's labels": memory.labels.tolist(),
        "the memory's ids": memory.ids.tolist(),
        "the memory's image embeddings": _digest(memory.embeddings("image")),
        "the memory's text embeddings": _digest(memory.embeddings("text")),
        "the memory": _own(memory),
    }


def _benchmark(benchmark: Benchmark) -> dict[str, Any]:
    return {f"validation.benchmark.{name}": repr(getattr(benchmark, name)) for name in _HELD}


def _own(held: Any, *counters: str) -> dict[str, int]:
    """The identities of an object's own attributes, less those that are computed when they are first asked for."""
    lazy = {name for cls in type(held).__mro__ for name, one in vars(cls).items() if isinstance(one, cached_property)}
    return {name: id(value) for name, value in vars(held).items() if name not in lazy and name not in counters}


def _random_states() -> dict[str, str]:
    _, keys, place, *rest = np.random.get_state(legacy=True)
    own = "draw from a generator of your own, or inside torch.random.fork_rng"
    return {
        f"the global state of random ({own})": _digest(np.array(random.getstate()[1])),
        f"the global state of numpy.random ({own})": f"{_digest(np.asarray(keys))} {place} {rest}",
        f"the global state of torch's generator ({own})": _digest(torch.get_rng_state().numpy()),
    }


def _digest(values: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def disturb(seed: int) -> None:
    """Set every global random state to something else: a method that draws from one of them gives itself away."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
