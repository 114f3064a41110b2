"""Weights of others: reading a file without running code of it, and saying how two sets of tensors differ."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from trireme.errors import DataError

__all__ = ["differences", "read_state", "same_tensor", "write_tensors"]

_SHOWN = 3


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict of a .safetensors, .pt or .bin file, on the CPU, names as in the file.

    Training writes {"state_dict": ..., "optimizer": ...}; only the first is taken. Nothing is unpickled but tensors and
    plain values. Large files are mapped, not read, so that an optimiser in them costs no memory.

    Raises:
        DataError: missing, truncated, holding Python objects, or holding no tensors by name.
    """
    if not path.is_file():
        raise DataError(f"weights file {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found:
            what = f"the Python object {found[1]}, whose loading would run code"
            raise DataError(f"{path} holds {what}; only tensors and plain values are loaded") from error
        raise DataError(f"{path} is no weights file of PyTorch, or damaged") from error
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError) as error:
        raise DataError(f"{path} is damaged or no weights file ({_first_sentence(error)})") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{path} holds no state dict: tensors by name, bare or under 'state_dict'")
    return {str(name): value for name, value in state.items()}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a .safetensors file.

    Raises:
        OSError: the disk is full, or the like; safetensors itself tells the system's reason in a text only.
    """
    try:
        save_file(dict(tensors), path, metadata=dict(metadata))
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error


def differences(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """How many and which names and shapes of `given` do not fit `wanted`, a few of each; "" where all fit."""
    missing = sorted(wanted.keys() - given.keys())
    unknown = sorted(given.keys() - wanted.keys())
    shapes = [
        f"{name} {tuple(given[name].shape)} for {tuple(wanted[name].shape)}"
        for name in sorted(wanted.keys() & given.keys())
        if given[name].shape != wanted[name].shape
    ]
    parts = [
        f"{len(names)} {what} ({_few(names)})"
        for names, what in ((missing, "missing"), (unknown, "unknown"), (shapes, "of another shape"))
        if names
    ]
    return ", ".join(parts)


def same_tensor(one: Tensor, other: Tensor) -> bool:
    """Whether dtype, shape and every value agree; NaN agrees with nothing."""
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other.to(one.device))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _first_sentence(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0][:160]
