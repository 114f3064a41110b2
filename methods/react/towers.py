"""A model while it is customised: which of its parameters train, what a step feeds it, and its weights by name.

Shapes: n pairs of a forward pass on this process, d embedding dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from trireme.errors import UsageError
from trireme.methods.react.config import PAPER_LAYERS, ReactConfig
from trireme.retrieval.encoders.base import Encoder
from trireme.retrieval.encoders.gated import check_last
from trireme.retrieval.encoders.lite import LiteEncoder
from trireme.retrieval.encoders.openclip import OpenClipEncoder
from trireme.retrieval.store import EmbeddingStore
from trireme.types import Floats, ImageRef, Ints

Inputs = Mapping[str, Tensor]
_UNUSED = ("text_decoder.", "text.pooler.")
"""Parts of text towers that no embedding comes from: CoCa's decoder, the pooler of lite's text model."""


class Tower(Protocol):
    """What the training loop knows of an encoder.

    Attributes:
        module: called with `Inputs` it gives unit image and text embeddings, two (n, d).
        trainable: state-dict name -> parameter; everything else is frozen.
        scale: the parameter logit_scale, a logarithm.
        gated: k, the image layers with a gated block.
        facts: what the record should say.
    """

    module: nn.Module
    trainable: dict[str, nn.Parameter]
    scale: nn.Parameter
    gated: int
    facts: dict[str, Any]

    def feed(self, plan: Sequence[Sequence[Ints]], epoch: int) -> Iterator[list[Inputs]]:
        """For every step of a plan (a list of forward passes, each the pairs of this process) its inputs.

        The same pairs in the same epoch give the same inputs, wherever in the epoch the plan starts.
        """
        ...

    def embed_images(self, refs: Sequence[ImageRef]) -> Floats:
        """(n, d) of pictures as they are, L2-normalised; readable ones only."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """(n, d), L2-normalised."""
        ...


def check_encoder(encoder: Encoder, config: ReactConfig) -> None:
    """Refuse what cannot be customised as the configuration says, before anything is retrieved or encoded for it.

    Raises:
        UsageError: another backend, an encoder that is customised already, an option that the encoder does not have, or
            an image tower with too few layers for the gated blocks.
    """
    if not isinstance(encoder, LiteEncoder | OpenClipEncoder):
        raise UsageError(f"react customises open_clip and lite encoders, not {encoder.name}")
    if encoder.config.react:
        raise UsageError(f"{encoder.name} is customised already; customise its base encoder")
    if isinstance(encoder, LiteEncoder):
        from trireme.methods.react.lite import check_lite

        check_lite(encoder, config)
    else:
        from trireme.methods.react.openclip import check_openclip

        check_openclip(encoder, config)


def gated_layers(config: ReactConfig, layers: int) -> int:
    """How many of the image tower's layers get a gated block. UsageError where it has fewer than are asked for."""
    if config.variant != "gated_image":
        return 0
    last = config.layers or min(PAPER_LAYERS, layers)
    check_last(last, layers)
    return last


def make_tower(
    encoder: Encoder,
    config: ReactConfig,
    refs: Sequence[ImageRef],
    captions: Sequence[str],
    store: EmbeddingStore,
    seed: int,
    folder: Path | None = None,
) -> Tower:
    """The trainable copy of an encoder for the n pairs of a training; UsageError as `check_encoder`.

    Args:
        folder: where a tower may keep what is dear to compute until the training is done.
    """
    check_encoder(encoder, config)
    if isinstance(encoder, LiteEncoder):
        from trireme.methods.react.lite import LiteTower

        return LiteTower(encoder, config, refs, captions, store, seed, folder)
    from trireme.methods.react.openclip import OpenClipTower

    return OpenClipTower(cast(OpenClipEncoder, encoder), config, refs, captions, store, seed)


def select_trainable(
    parameters: Mapping[str, nn.Parameter], variant: str, image: str, gate: str
) -> dict[str, nn.Parameter]:
    """Freeze all parameters but those of a variant, which are returned.

    Args:
        parameters: every parameter by its state-dict name; `logit_scale` among them.
        image: what the names of the image tower start with.
        gate: the part of a name that marks a gated block.
    """
    chosen = {}
    for name, parameter in parameters.items():
        ours = {
            "gated_image": gate in name,
            "locked_text": name.startswith(image),
            "locked_image": not name.startswith(image),
            "full": True,
        }[variant]
        idle = name == "logit_bias" or name.startswith(_UNUSED)
        trains = (ours and not idle) or name == "logit_scale"
        parameter.requires_grad_(trains)
        if trains:
            chosen[name] = parameter
    return chosen


def train_mode(module: nn.Module) -> None:
    """Training mode, but batch norms keep the statistics of the base weights: those are no parameters to customise."""
    module.train()
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()


def tensors_of(tower: Tower) -> dict[str, Tensor]:
    """CPU copies of the trained parameters by name."""
    return {name: parameter.detach().cpu().clone() for name, parameter in tower.trainable.items()}


@torch.no_grad()
def load_tensors(tower: Tower, tensors: Mapping[str, Tensor]) -> None:
    """Put weights of `tensors_of` back."""
    for name, parameter in tower.trainable.items():
        parameter.copy_(tensors[name])


def unit(rows: Tensor) -> Tensor:
    """Rows of length 1, float32."""
    return nn.functional.normalize(rows.float(), dim=-1)
