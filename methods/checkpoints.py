"""What a killed training goes on from: one safetensors file, whole or absent, nothing pickled."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trireme.files import atomic_file
from trireme.progress import say
from trireme.retrieval.encoders.weights import write_tensors

_META = "trireme"
_VERSION = 1
Tensors = dict[str, Tensor]


@dataclass
class State:
    """A training after some of its steps.

    Attributes:
        step: optimiser steps done.
        weights, averaged, best: trained parameters now, their running mean, and at the best measurement so far.
        moments: AdamW's state, `name/exp_avg`, `name/exp_avg_sq` and `name/step`.
        scaler: state of the loss scaler (float16), else empty.
        losses: mean loss of every finished epoch.
        running: sum of the losses of the unfinished epoch.
        measured: {"epoch": ..., subset: top-1 ...} of every measurement on validation.
        best_at: position in `measured` of the best one, -1 where there is none.
    """

    step: int = 0
    weights: Tensors = field(default_factory=dict)
    averaged: Tensors = field(default_factory=dict)
    best: Tensors = field(default_factory=dict)
    moments: Tensors = field(default_factory=dict)
    scaler: dict[str, float] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    running: float = 0.0
    measured: list[dict[str, float]] = field(default_factory=list)
    best_at: int = -1


_GROUPS = ("weights", "averaged", "best", "moments")
_PLAIN = ("step", "scaler", "losses", "running", "measured", "best_at")


def save(path: Path, state: State) -> None:
    """Write the state in place of the one before. TriremeError where the disk is full; the one before stays."""
    tensors = {
        f"{group}:{name}": value.detach().cpu().contiguous().clone()
        for group in _GROUPS
        for name, value in getattr(state, group).items()
    }
    about = {"version": _VERSION, "checksum": _checksum(tensors), **{name: getattr(state, name) for name in _PLAIN}}
    with atomic_file(path) as part:
        write_tensors(part, tensors, {_META: json.dumps(about)})


def load(path: Path) -> State | None:
    """The state last saved; None where there is none. A damaged file is named and the training starts anew."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            about: Mapping[str, Any] = json.loads((file.metadata() or {})[_META])
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        if about["version"] != _VERSION:
            raise ValueError(f"version {about['version']}")
        if about["checksum"] != _checksum(tensors):
            raise ValueError("its tensors are not those that were written")
        state = State(**{name: about[name] for name in _PLAIN})
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        say(f"warning: the checkpoint {path} cannot be used ({reason}); the training starts anew")
        return None
    for name, value in tensors.items():
        group, _, parameter = name.partition(":")
        getattr(state, group)[parameter] = value
    return state


def _checksum(tensors: Tensors) -> int:
    """Over names and bytes; against damage, not against intent, and fast beside writing the file."""
    found = 0
    for name in sorted(tensors):
        found = zlib.crc32(name.encode(), found)
        found = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, found)
    return found


def moments_of(optimiser: torch.optim.Optimizer, names: Mapping[int, str]) -> Tensors:
    """AdamW's state by parameter name. `names` maps `id(parameter)` to it."""
    found: Tensors = {}
    for parameter, values in optimiser.state.items():
        for key, value in values.items():
            found[f"{names[id(parameter)]}/{key}"] = torch.as_tensor(value)
    return found


def restore_moments(optimiser: torch.optim.Optimizer, names: Mapping[int, str], moments: Mapping[str, Tensor]) -> None:
    """Put `moments_of` back, on each parameter's device (the step counter where AdamW keeps it)."""
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            prefix = f"{names[id(parameter)]}/"
            values = {key.removeprefix(prefix): value for key, value in moments.items() if key.startswith(prefix)}
            if values:
                optimiser.state[parameter] = {
                    key: value.clone().to(parameter.device if key != "step" or group.get("fused") else value.device)
                    for key, value in values.items()
                }
