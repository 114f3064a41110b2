"""REACT's released checkpoints: full open_clip models, gated-image or locked-text, in and out.

Facts are from microsoft/react a1a796f, react_customization/src/open_clip/: `pretrained.py` lists the released files,
their backbones and their mean and std; `factory.py` reads them ({"state_dict": ...} or bare, names maybe under
`module.`) and makes QuickGELU of the models from OpenAI's backbones (tags `react_clip_*`), of no other;
`model_configs/react_ViT-*.json` puts gated blocks before the last 6 layers, 12 in bigG.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn

from trireme.errors import DataError, UsageError, unknown_name
from trireme.files import atomic_file
from trireme.retrieval.encoders.gated import GATE, add_gated_blocks, image_blocks
from trireme.retrieval.encoders.weights import differences, read_state

__all__ = ["BACKBONES", "RELEASED", "backbone_of", "export_official", "load_official", "preprocessing_of"]

BACKBONES = ("openai", "laion400m", "laion2b")
"""What a released model was tuned from: OpenAI's CLIP, or OpenCLIP on LAION-400M or LAION-2B."""

RELEASED = {
    "clip-vit-base-32-locked-text": "openai",
    "clip-vit-base-32-gated-image": "openai",
    "clip-vit-base-16-locked-text": "openai",
    "clip-vit-base-16-gated-image": "openai",
    "clip-vit-large-14-gated-image": "openai",
    "clip-vit-large-14-gated-image-laion2b": "openai",
    "openclip-vit-base-32-locked-text": "laion400m",
    "openclip-vit-base-32-gated-image": "laion400m",
    "openclip-laion2b-vit-base-32-locked-text": "laion2b",
    "openclip-laion2b-vit-base-32-gated-image": "laion2b",
    "openclip-vit-large-14-gated-image": "laion2b",
    "openclip-vit-large-14-gated-image-laion2b": "laion2b",
    "openclip-vit-bigG-14-gated-image-laion2b": "laion2b",
}
"""The backbone of every released file (`pretrained.py`, lines 202 to 232); "-laion2b" at the end: retrieved from."""

_OPENAI = {"mean": OPENAI_DATASET_MEAN, "std": OPENAI_DATASET_STD}
_HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

_LAYER = re.compile(rf"^visual\.transformer\.resblocks\.(\d+)\.({GATE}\.)?")
_TEXT = ("positional_embedding", "token_embedding.", "transformer.", "ln_final.", "text_projection")
# Buffers and constants that older releases of CLIP and open_clip saved and the installed one computes.
_COMPUTED = {"attn_mask", "text.attn_mask", "input_resolution", "context_length", "vocab_size"}


def backbone_of(path: Path, chosen: str) -> str:
    """One of `BACKBONES`: by the file's name, else as chosen by the option `react_base`.

    Raises:
        UsageError: the name does not tell and nothing is chosen, the choice contradicts the name, or is unknown.
    """
    if chosen and chosen not in BACKBONES:
        raise unknown_name("react_base", chosen, BACKBONES)
    told = RELEASED.get(path.stem, "")
    if not told and path.stem.startswith("clip-vit-"):
        told = "openai"
    if told and chosen and told != chosen:
        raise UsageError(f"{path.name} was tuned from {told}, as its name says; drop react_base={chosen}")
    if not told and not chosen:
        raise UsageError(
            f"the name {path.name} does not tell which CLIP it was tuned from, and so neither its activation nor its "
            f"mean and std; add react_base={'|'.join(BACKBONES)}"
        )
    return told or chosen


def preprocessing_of(model: str, backbone: str) -> Mapping[str, Any]:
    """Mean and std: OpenAI's, but 0.5 for ViT-L-14 from LAION-2B (`pretrained.py`, lines 222 to 227)."""
    return _HALF if backbone == "laion2b" and model == "ViT-L-14" else _OPENAI


def load_official(model: nn.Module, path: Path) -> None:
    """Load a full checkpoint into an open_clip model, in place, adding gated blocks where the file has them.

    Every name and shape must fit, buffers aside that the installed open_clip computes; position embeddings of another
    size are refused, not interpolated.

    Raises:
        DataError: missing, damaged, holding code, of another architecture, or gated elsewhere than in the last layers.
        UsageError: gated blocks for an image tower without transformer layers.
    """
    own = model.state_dict()
    given = _named_like(own, read_state(path))
    gated = _gated_layers(given, path)
    if gated:
        tower = model.get_submodule("visual")
        add_gated_blocks(tower, min(gated, len(image_blocks(tower))), seed=0)
        own = model.state_dict()
    found = differences(own, given)
    if found:
        raise DataError(f"{path} is a checkpoint of another architecture: {found}")
    model.load_state_dict(given)


def export_official(model: nn.Module, path: Path) -> None:
    """Write an open_clip model as the official code saves its own: {"state_dict": ...}, names without `module.`.

    Args:
        model: the whole model, gated or not.
        path: ends in .pt or .bin.

    Raises:
        UsageError: another suffix, or a model that the official code does not have (it knows CLIP with a ViT).
    """
    if path.suffix not in (".pt", ".bin"):
        raise UsageError(f"official checkpoints end in .pt or .bin, not {path.suffix or 'nothing'}: {path.name}")
    state = model.state_dict()
    if "text_projection" not in state or not any(_LAYER.match(name) for name in state):
        raise UsageError(f"{type(model).__name__} has no official form: REACT's code knows CLIP with a ViT only")
    with atomic_file(path) as part:
        torch.save({"state_dict": {name: value.detach().cpu() for name, value in state.items()}}, part)


def _named_like(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The file's tensors under the names of the installed open_clip.

    A distributed run saved them under `module.`; models with a text tower of their own hold it under `text.`.
    """
    if all(name.startswith("module.") for name in given):
        given = {name.removeprefix("module."): value for name, value in given.items()}
    given = {name: value for name, value in given.items() if name in own or name not in _COMPUTED}
    apart = {nested: "text.text_projection" in names for nested, names in (("own", own), ("given", given))}
    if apart["given"] and not apart["own"]:
        return {name.removeprefix("text."): value for name, value in given.items()}
    if apart["own"] and not apart["given"]:
        return {f"text.{name}" if name.startswith(_TEXT) else name: value for name, value in given.items()}
    return dict(given)


def _gated_layers(given: Mapping[str, Tensor], path: Path) -> int:
    """How many image layers have a gated block, by the names. DataError unless they are the last ones."""
    found = [match for match in map(_LAYER.match, given) if match]
    layers = {int(match[1]) for match in found}
    gated = sorted({int(match[1]) for match in found if match[2]})
    if gated and gated != sorted(layers)[-len(gated) :]:
        places = ", ".join(map(str, gated))
        raise DataError(f"{path} has gated blocks before layers {places} of {len(layers)}; only the last ones can be")
    return len(gated)
