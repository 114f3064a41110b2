"""The trained parts of the `lite` rankers, which ship with Trireme, put onto their base.

One safetensors file a ranker: the projector, the last stage of the vision tower, and a LoRA of the language model. Its
metadata says how the LoRA is shaped; `<name>.json` beside it is the record of the training (`trireme train ranker`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from trireme.errors import DataError
from trireme.files import atomic_file, atomic_folder, fingerprint, home, locked, write_json
from trireme.hashes import file_sha256
from trireme.methods.rankers.lite import base
from trireme.progress import say
from trireme.retrieval.encoders.lite import trunk

PROJECTOR, TOWER, LORA = "projector.", "tower.", "lora."
"""What the names of the three parts start with in a file."""
_PLACES = {PROJECTOR: "model.multi_modal_projector.", TOWER: "model.vision_tower.timm_model."}
_ADAPTED = "base_model.model.model.language_model."
"""Before a LoRA's tensors, as peft names them on the whole model."""
ADAPTER = "adapter"
_KEY = "ranker"


@dataclass(frozen=True, slots=True)
class Shipped:
    """A `lite` ranker."""

    name: str

    @property
    def file(self) -> Path:
        """Its trained parts."""
        return Path(__file__).with_name("weights") / f"{self.name}.safetensors"

    @property
    def record(self) -> Path:
        """How they were trained, told what, on which pictures."""
        return self.file.with_suffix(".json")

    @property
    def identity(self) -> str:
        """Hash of what its checkpoint is made from; nothing is assembled for it. DataError where parts are missing."""
        return fingerprint([base.FORMAT, base.WHEEL_SHA256, trunk.WHEEL_SHA256, file_sha256(self.file)])

    @property
    def folder(self) -> Path:
        """Where its checkpoint is, or will be."""
        return home() / "models" / f"{self.name}-ranker-{self.identity}"


SHIPPED: Mapping[str, Shipped] = {name: Shipped(name) for name in ("lite", "lite-support")}


def assemble(own: Shipped) -> Path:
    """The checkpoint folder of a shipped ranker, made where it is missing; its adapter lies in `ADAPTER` below it.

    Raises:
        DataError: its parts or a package are damaged. TriremeError: a package cannot be fetched.
    """
    folder = own.folder
    if not folder.is_dir():
        start = base.base_folder()
        with locked(folder):
            if not folder.is_dir():
                say(f"putting the trained parts of ranker {own.name} onto its base (once)")
                put_together(start, own.file, folder)
    return folder


def put_together(
    start: Path, parts: Path, folder: Path, records: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Write the checkpoint `start` with the projector and tower of `parts`, and the LoRA as peft's adapter.

    Args:
        records: {file name: content} of JSON files to lie beside them.
    """
    about, tensors = read_parts(parts)
    state = load_file(start / "model.safetensors")
    for prefix, place in _PLACES.items():
        for name, value in _below(tensors, prefix).items():
            known = state.get(f"{place}{name}")
            if known is None or known.shape != value.shape:
                raise DataError(f"{parts} does not fit the base ranker: {prefix}{name}; train it again")
            state[f"{place}{name}"] = value.to(known.dtype)
    with atomic_folder(folder) as part:
        for path in start.iterdir():
            if path.suffix != ".safetensors":
                (part / path.name).write_bytes(path.read_bytes())
        save_file(state, part / "model.safetensors", metadata={"format": "pt"})
        write_adapter(part / ADAPTER, about["lora"], _below(tensors, LORA))
        for name, record in (records or {}).items():
            write_json(part / name, record)


def write_adapter(folder: Path, shape: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """A LoRA in peft's format, as peft and vLLM load it.

    Args:
        shape: `r`, `lora_alpha`, `target_modules`, and `layers`, the numbers of the blocks that have one.
        tensors: by their names below the language model: "layers.0.self_attn.q_proj.lora_A.weight".
    """
    from peft import LoraConfig

    config = LoraConfig(
        r=int(shape["r"]),
        lora_alpha=int(shape["lora_alpha"]),
        target_modules=[str(name) for name in shape["target_modules"]],
        layers_to_transform=[int(number) for number in shape["layers"]],
        layers_pattern="layers",
        base_model_name_or_path="",
        task_type="CAUSAL_LM",
    )
    config.inference_mode = True
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    named = {f"{_ADAPTED}{name}": value.float().contiguous() for name, value in tensors.items()}
    save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def read_parts(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a file of parts says about itself, and its tensors. Raises DataError where it is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})[_KEY])
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise DataError(f"{path} holds no parts of a lite ranker ({error}); install Trireme again") from error


def write_parts(path: Path, shape: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a file of parts, float16. Equal tensors give equal bytes."""
    halves = {name: tensors[name].detach().cpu().half().contiguous() for name in sorted(tensors)}
    with atomic_file(path) as part:
        save_file(halves, part, metadata={_KEY: json.dumps({"lora": dict(shape)}, sort_keys=True)})


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
