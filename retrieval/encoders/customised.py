"""Customised encoders: what REACT's training changed in an encoder, as a file beside the unchanged base model.

The variants are those of REACT, figure "model_tuning_cmp" of the project page: full tuning, locked image (LiT), locked
text, and gated image with locked text (the default). A file holds only the tensors that differ from the base model,
under their state-dict names in the whole model of open_clip (`visual. ...`, `logit_scale`) or in the `LiteHead`, those
of lite's text model (transformers' BERT) under `text.`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from trireme.errors import DataError, UsageError, unknown_name
from trireme.files import atomic_file, fingerprint
from trireme.retrieval.encoders.gated import GATE, add_gated_blocks, image_blocks, image_tower
from trireme.retrieval.encoders.weights import differences, same_tensor, write_tensors

__all__ = [
    "TEXT_PREFIX",
    "VARIANTS",
    "Customised",
    "apply",
    "apply_text",
    "changed_tensors",
    "check_base",
    "customised_fingerprint",
    "customised_record",
    "fingerprint_with",
    "is_customised",
    "read_as",
    "read_customised",
    "write_customised",
]

TEXT_PREFIX = "text."
"""Of the names of lite's text model."""

VARIANTS = ("gated_image", "locked_text", "full", "locked_image")

_KEY, _FORMAT, _VERSION = "trireme", "customised encoder", 1
_FIELDS = {"variant", "base", "gated", "record", "fingerprint"}
_SCALES = ("logit_scale", "logit_bias")


@dataclass(frozen=True)
class Customised:
    """What a customised encoder adds to or changes in its base encoder.

    Attributes:
        variant: one of `VARIANTS`: what was trained. `gated_image` and `locked_text` leave the text tower alone,
            `locked_image` the image tower.
        base: `base_fingerprint` of the encoder that was customised.
        tensors: by state-dict name (see the module); what is not named is the base model's.
        gated: k, the number of last image layers with a gated block; 0 except for `gated_image`.
        record: of the training, JSON values only. Not part of the fingerprint.

    Raises:
        UsageError: unknown variant, or gated blocks that the variant does not have.
    """

    variant: str
    base: str
    tensors: Mapping[str, Tensor]
    gated: int
    record: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise unknown_name("variant of a customised encoder", self.variant, VARIANTS)
        if (self.gated > 0) != (self.variant == "gated_image"):
            raise UsageError(f"variant {self.variant} with {self.gated} gated layers; only gated_image has them")


def changed_tensors(model: nn.Module, base: nn.Module) -> dict[str, Tensor]:
    """What a trained model holds that its base lacks or holds otherwise, as CPU copies for `write_customised`."""
    before = base.state_dict()
    return {
        name: value.detach().cpu().clone()
        for name, value in model.state_dict().items()
        if name not in before or not same_tensor(before[name], value)
    }


def write_customised(path: Path, customised: Customised) -> None:
    """Write a .safetensors file, whole or not at all. Equal content gives equal bytes.

    Raises:
        DataError: a tensor holds NaN or infinity: the training diverged.
        TriremeError: the disk is full; a file that was there before stays.
        ValueError, TypeError: the record is not JSON.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in customised.tensors.items()}
    broken = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise DataError(f"{len(broken)} customised tensors hold NaN or infinity (first: {min(broken)}); not written")
    about = {
        "format": _FORMAT,
        "version": _VERSION,
        "variant": customised.variant,
        "base": customised.base,
        "gated": customised.gated,
        "record": customised.record,
        "fingerprint": _digest(customised.variant, tensors),
    }
    # One key: safetensors writes several in an order of its own, and the bytes would differ from time to time.
    text = json.dumps(about, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    with atomic_file(path) as part:
        write_tensors(part, tensors, {_KEY: text})


def read_customised(path: Path) -> Customised:
    """The file's content, its tensors on the CPU.

    Raises:
        DataError: missing, truncated, damaged, not written by `write_customised`, or by another version of it.
    """
    about = _about(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        found = Customised(about["variant"], about["base"], tensors, about["gated"], about["record"])
    except (SafetensorError, OSError, UsageError) as error:
        raise DataError(f"{path} is damaged ({_first_line(error)}); customise the encoder again") from error
    if _digest(found.variant, tensors) != about["fingerprint"]:
        raise DataError(f"{path} is damaged: its tensors are not those that were written; customise the encoder again")
    return found


def read_as(path: Path, base: str, expected: str) -> Customised:
    """The file's content, where it still gives the encoder fingerprint `expected`.

    Raises:
        DataError: as `read_customised`, or the file was replaced since the encoder was opened: its embeddings would be
            cached as those of the old one.
    """
    found = read_customised(path)
    if fingerprint({"base": base, "react": _digest(found.variant, found.tensors)}) != expected:
        raise DataError(f"{path} was replaced while it was in use; run the same command again")
    return found


def customised_record(path: Path) -> Mapping[str, Any]:
    """The record alone, out of the head of the file. DataError as `read_customised`."""
    found: Mapping[str, Any] = _about(path)["record"]
    return found


def is_customised(path: Path) -> bool:
    """Whether a file is one of ours, of whatever version.

    Raises:
        DataError: missing, or a .safetensors file that is not whole.
    """
    if not path.is_file():
        raise DataError(f"customised encoder {path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            return _KEY in (file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        if path.suffix == ".safetensors":
            raise DataError(f"{path} is not a whole safetensors file ({_first_line(error)})") from error
        return False


def customised_fingerprint(path: Path) -> str:
    """16 hex digits over the tensors and the variant; neither path nor record count. Reads the head of the file only.

    The digits are as written; `read_customised` holds the tensors against them. DataError as there.
    """
    return str(_about(path)["fingerprint"])


def check_base(path: Path, name: str, base: str) -> None:
    """Refuse a base encoder other than the one that was customised.

    Args:
        path: the customised encoder's file.
        name: of the encoder at hand.
        base: its `base_fingerprint`.

    Raises:
        UsageError: the file was made from an encoder with another fingerprint; names both.
        DataError: as for `read_customised`.
    """
    wanted = _about(path)["base"]
    if wanted != base:
        raise UsageError(
            f"{path.name} customises the encoder with fingerprint {wanted}, but the base of {name} has {base}: "
            "choose the model, weights and dtype that it was made from"
        )


def fingerprint_with(base: str, name: str, path: Path | None) -> str:
    """The fingerprint of an encoder whose `base_fingerprint` is `base`; that itself where `path` is None.

    Raises UsageError and DataError as `check_base` does.
    """
    if path is None:
        return base
    check_base(path, name, base)
    return fingerprint({"base": base, "react": customised_fingerprint(path)})


def apply(model: nn.Module, customised: Customised) -> None:
    """Turn a base model into the customised one, in place: add its gated blocks and load its tensors.

    Args:
        model: the whole open_clip model, or the `LiteHead` (its text model: `apply_text`), with the base encoder's
            weights and no gated blocks.

    Raises:
        DataError: the tensors do not fit the model, or belong to a part that the variant leaves alone. The model must
            not be used then.
        UsageError: the model has gated blocks already, or an image tower without transformer layers.
    """
    tower = image_tower(model)
    if customised.gated:
        layers = len(image_blocks(tower))
        if customised.gated > layers:
            raise _other(f"{customised.gated} gated layers, the image tower has {layers}")
        add_gated_blocks(tower, customised.gated, seed=0)
    head = tower is model
    outside = sorted(name for name in customised.tensors if not _trains(customised.variant, name, head))
    if outside:
        names = f"{len(outside)} tensors (first: {outside[0]})"
        raise DataError(f"variant {customised.variant} of a customised encoder leaves {names} alone, but brings them")
    _load(model, {name: value for name, value in customised.tensors.items() if not (head and _of_text(name))})


def apply_text(model: nn.Module, customised: Customised) -> None:
    """Load the `text.` tensors of a customised lite encoder into its text model, in place; DataError as for `apply`."""
    _load(
        model, {name.removeprefix(TEXT_PREFIX): value for name, value in customised.tensors.items() if _of_text(name)}
    )


def _load(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Strict for what is new; of the base model's own tensors a file names only those that training changed."""
    wanted = {name: value for name, value in model.state_dict().items() if name in tensors or GATE in name}
    found = differences(wanted, tensors)
    if found:
        raise _other(found)
    model.load_state_dict(dict(tensors), strict=False)


def _trains(variant: str, name: str, head: bool) -> bool:
    """Whether a variant may change a tensor. Of lite (`head`), all that is not the text model is image tower."""
    image = not _of_text(name) if head else name.startswith("visual.")
    allowed = {"gated_image": GATE in name, "locked_text": image, "full": True, "locked_image": not image}
    return name in _SCALES or allowed[variant]


def _of_text(name: str) -> bool:
    return name.startswith(TEXT_PREFIX)


def _about(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"customised encoder {path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
        about = {} if text is None else json.loads(text)
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path} is not a whole safetensors file ({_first_line(error)})") from error
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        raise DataError(f"{path} is no customised encoder of Trireme")
    if about.get("version") != _VERSION:
        other = about.get("version")
        raise DataError(f"{path} has version {other} of the format, this Trireme reads version {_VERSION}")
    if not about.keys() >= _FIELDS:
        raise DataError(f"{path} is damaged: its head lacks {', '.join(sorted(_FIELDS - about.keys()))}")
    return about


def _digest(variant: str, tensors: Mapping[str, Tensor]) -> str:
    """Over names, dtypes, shapes and bytes, so that no two different sets of tensors read alike."""
    digest = hashlib.sha256(variant.encode())
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _other(how: str) -> DataError:
    return DataError(f"checkpoint of another architecture: {how}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
