"""A checkpoint with its LoRA adapter in its weights, on disk, for vLLM without a GPU.

vLLM's adapters on a CPU gather the adapter's matrices anew for every token (`lora_ops.bgmv_expand_slice`): `score` of
the lite ranker answered 2.6 questions/s with 12 GB in use, and several times as many without. The weights that this
writes are those that `transformers` gets when peft merges the adapter (W + alpha / r * B A, in the dtype of the run).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from trireme.errors import UsageError
from trireme.files import atomic_folder, fingerprint, home, locked
from trireme.methods.rankers.checkpoint import ADAPTER_FILE, Checkpoint
from trireme.progress import say
from trireme.retrieval.encoders.base import resolve_dtype

_FORMAT = 1
_PREFIX = "base_model.model."
_INDEX = "model.safetensors.index.json"
_UNMERGED = ("modules_to_save", "use_dora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "lora_bias")
"""Settings of an adapter that more than W + alpha / r * B A would have to be done for."""


def merged(checkpoint: Checkpoint, dtype: str) -> str:
    """The folder of the checkpoint with its adapter merged, made where it is missing.

    Raises:
        UsageError: an adapter or a checkpoint that cannot be merged here; `trireme train ranker --merged`, or peft's
            own `merge_and_unload`, writes a merged checkpoint.
    """
    start, adapter = Path(checkpoint.model), Path(checkpoint.adapter)
    if not start.is_dir():
        raise UsageError(f"{checkpoint.model} is on a hub; fetch it into a folder to merge {adapter} into it")
    folder = home() / "models" / f"merged-{fingerprint([_FORMAT, checkpoint.identity, dtype])}"
    with locked(folder):
        if not folder.is_dir():
            say(f"merging the adapter of {checkpoint.name} into its weights (once)")
            _write(start, adapter, folder, resolve_dtype(dtype))
    return str(folder)


def _write(start: Path, adapter: Path, folder: Path, dtype: torch.dtype) -> None:
    deltas = _deltas(adapter, _names(start))
    with atomic_folder(folder) as part:
        for path in start.iterdir():
            if path.suffix == ".safetensors":
                state = load_file(path)
                state |= {name: _sum(state[name], deltas[name], dtype) for name in state if name in deltas}
                save_file(state, part / path.name, metadata={"format": "pt"})
            elif path.is_file():
                (part / path.name).write_bytes(path.read_bytes())


def _sum(weight: Tensor, delta: Tensor, dtype: torch.dtype) -> Tensor:
    """W + delta as peft adds them on a loaded model: W in the run's dtype, delta in float32, the sum rounded once."""
    return (weight.to(dtype).float() + delta).to(dtype).contiguous()


def _names(folder: Path) -> list[str]:
    """The names of all tensors of a checkpoint, as its files have them."""
    found: list[str] = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found += list(file.keys())
    if not found:
        raise UsageError(f"{folder} holds no safetensors file that an adapter could be merged into")
    return found


def _deltas(folder: Path, names: list[str]) -> dict[str, Tensor]:
    """{tensor of the checkpoint: alpha / r * B A in float32}."""
    settings: Mapping[str, Any] = json.loads((folder / ADAPTER_FILE).read_text(encoding="utf-8"))
    odd = [option for option in _UNMERGED if settings.get(option)]
    if odd:
        raise UsageError(f"{folder} sets {odd[0]}, which is not merged here; merge it with peft's merge_and_unload")
    rank = float(settings["r"])
    scale = float(settings["lora_alpha"]) / (math.sqrt(rank) if settings.get("use_rslora") else rank)
    tensors = load_file(folder / "adapter_model.safetensors")
    found = {}
    for name in sorted(tensors):
        module, is_down, _ = name.partition(".lora_A.")
        if is_down:
            product = tensors[f"{module}.lora_B.weight"].float() @ tensors[name].float()
            found[_place(module.removeprefix(_PREFIX), names, folder)] = scale * product
    if 2 * len(found) != len(tensors):
        raise UsageError(f"{folder} holds other tensors than lora_A and lora_B; merge it with peft's merge_and_unload")
    return found


def _place(module: str, names: list[str], adapter: Path) -> str:
    """The name in a checkpoint's files of a module's weight.

    Files of one family nest their language model in several ways ("model.language_model.layers", as the module is
    called once it is loaded, or "language_model.model.layers"); from "layers" on they agree.
    """
    whole = f"{module}.weight"
    if whole in names:
        return whole
    tail = f".{whole[whole.index('layers.') :]}" if "layers." in whole else f".{whole}"
    fitting = [name for name in names if name.endswith(tail) and not ({"vision", "visual"} & set(_words(name)))]
    if len(fitting) != 1:
        raise UsageError(f"{adapter}: {module} is {len(fitting)} tensors of the checkpoint; merge it with peft instead")
    return fitting[0]


def _words(name: str) -> list[str]:
    return name.replace(".", "_").split("_")
