"""REACT's gated blocks: small trainable layers that run before the last layers of a frozen image tower.

Facts are from microsoft/react a1a796f, react_customization/src/open_clip/transformer.py (`GatedResidualAttentionBlock`,
`ResidualAttentionBlock.forward`, `Transformer.__init__`). With q the tokens that come into a layer:

    x = q + tanh(alpha_attn) * ls_1(SelfAttention(LN1(q)))
    x = x + tanh(alpha_dense) * ls_2(MLP(LN2(x)))

and x, not q, is what the layer itself works on. Both alphas start at 0, so at the start a tower gives bit for bit what
it gave without the blocks.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trireme.errors import UsageError

__all__ = ["GATE", "GatedBlock", "add_gated_blocks", "check_last", "image_blocks", "image_tower"]

GATE = "gated_attn_block"
"""The name under which a layer holds its gated block; part of the official checkpoints' keys."""

_Args = tuple[Any, ...]

_MLP_RATIO = 4
"""Of every gated block: the ratio of the host (4.9231 in bigG) is not passed on in the official code."""

_FEW = 32
"""Tokens up to which the backward pass of PyTorch's fused attention costs more than the products written out."""

_LAYER_SCALE = 1e-5
"""Where the host scales its branches: open_clip's default start. A built model no longer knows its own start."""


class _LayerScale(nn.Module):
    """A learned factor for each channel; `gamma` is open_clip's name for it."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> the same shape."""
        return x * self.gamma


class GatedBlock(nn.Module):
    """One gated block; names and shapes of its parameters are those of the official code (see the module).

    Args:
        width: channels of a token.
        heads: attention heads, as many as the host layer has.
        norm: makes a layer norm of a width, of the host's kind.
        activation: makes the activation of the MLP, of the host's kind.
        layer_scale: start of the branches' `ls_1` and `ls_2`; None where the host has none (every released model).
        batch_first: whether tokens come as (n, tokens, width), as the host takes them, or as (tokens, n, width).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        activation: Callable[[], nn.Module] = nn.GELU,
        layer_scale: float | None = None,
        batch_first: bool = True,
    ) -> None:
        super().__init__()
        hidden = width * _MLP_RATIO
        self.ln_1 = norm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=batch_first)
        self.ls_1 = nn.Identity() if layer_scale is None else _LayerScale(width, layer_scale)
        self.ln_2 = norm(width)
        steps = [("c_fc", nn.Linear(width, hidden)), ("gelu", activation()), ("c_proj", nn.Linear(hidden, width))]
        self.mlp = nn.Sequential(OrderedDict[str, nn.Module](steps))
        self.ls_2 = nn.Identity() if layer_scale is None else _LayerScale(width, layer_scale)
        self.alpha_attn = nn.Parameter(torch.zeros(()))
        self.alpha_dense = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens, (n, tokens, width) or (tokens, n, width) by `batch_first`, to the same shape and dtype."""
        normed = self.ln_1(x)
        few = x.shape[1 if self.attn.batch_first else 0] <= _FEW
        # Asked for its weights, attention is written out, which for few tokens halves the time of a training step.
        written_out = few and torch.is_grad_enabled() and self.training
        attended = self.attn(normed, normed, normed, need_weights=written_out, average_attn_weights=False)[0]
        x = x + self.alpha_attn.tanh() * self.ls_1(attended)
        out: Tensor = x + self.alpha_dense.tanh() * self.ls_2(self.mlp(self.ln_2(x)))
        return out


@dataclass(frozen=True)
class _Host:
    """What a gated block takes over from the layer that it runs before."""

    norm: nn.Module
    width: int
    heads: int
    activation: nn.Module
    batch_first: bool
    layer_scale: float | None
    weight: Tensor

    def gated_block(self) -> GatedBlock:
        """A block of the host's kind, dtype and device. Matrices are drawn on the CPU, so that devices agree."""
        meta = self.weight.is_meta
        with torch.device("meta" if meta else "cpu"):
            block = GatedBlock(
                self.width,
                self.heads,
                lambda width: _fresh(self.norm),
                lambda: copy.deepcopy(self.activation),
                self.layer_scale,
                self.batch_first,
            )
        if not meta:
            block = block.to(self.weight.device)
        for part in (block.attn, block.ls_1, block.mlp, block.ls_2):
            part.to(self.weight.dtype)
        # Half-precision models of open_clip keep norms in float32, and the official code's alphas with them.
        norm_dtype = next(iter(self.norm.parameters()), self.weight).dtype
        for alpha in (block.alpha_attn, block.alpha_dense):
            alpha.data = alpha.data.to(norm_dtype)
        return block.requires_grad_(True).train(self.norm.training)


def image_tower(model: nn.Module) -> nn.Module:
    """The image tower of an open_clip model (`visual`); a lite head is its own."""
    visual = getattr(model, "visual", None)
    return visual if isinstance(visual, nn.Module) else model


def image_blocks(tower: nn.Module) -> list[nn.Module]:
    """The transformer layers of an image tower, the first one first.

    Args:
        tower: open_clip's `VisionTransformer` or `TimmModel` with a vision transformer, or a `LiteHead`.

    Raises:
        UsageError: the tower is no vision transformer, or a whole model with two towers is given.
    """
    if isinstance(getattr(tower, "visual", None), nn.Module):
        raise UsageError(f"{type(tower).__name__} has two towers; give its image tower, model.visual")
    found = getattr(getattr(tower, "transformer", None), "resblocks", None)
    if found is None:
        found = getattr(getattr(tower, "trunk", None), "blocks", None)
    layers = list(found) if isinstance(found, nn.ModuleList | nn.Sequential) else []
    if not layers or any(_host(layer) is None for layer in layers):
        kind = type(getattr(tower, "trunk", tower)).__name__
        raise UsageError(f"the image tower ({kind}) has no transformer layers for gated blocks; choose a ViT")
    return layers


def add_gated_blocks(tower: nn.Module, last: int, seed: int) -> list[GatedBlock]:
    """Put a gated block before each of the last layers of an image tower, in place.

    Each is the submodule `gated_attn_block` of its layer and runs whenever the layer is called, also inside gradient
    checkpointing and in copies of the tower. Its parameters require gradients, whatever those of the tower do.

    Args:
        tower: as for `image_blocks`.
        last: how many layers get one, counted from the end; REACT: 6, and 12 in bigG (model_configs/react_ViT-*.json).
        seed: of the new weights, PyTorch's default start as in the official code; other random numbers stay untouched.

    Returns:
        The new blocks, the one of the earliest layer first.

    Raises:
        UsageError: `last` below 1 or above the number of layers, the tower has gated blocks, or no transformer layers.
    """
    layers = image_blocks(tower)
    check_last(last, len(layers))
    if any(hasattr(layer, GATE) for layer in layers):
        raise UsageError("the image tower has gated blocks already; start from a model without them")
    chosen = layers[-last:]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        blocks = [host.gated_block() for host in map(_host, chosen) if host is not None]
    for layer, block in zip(chosen, blocks, strict=True):
        layer.add_module(GATE, block)
        layer.register_forward_pre_hook(_run_gate, with_kwargs=True)
    return blocks


def check_last(last: int, layers: int) -> None:
    """UsageError where an image tower of so many layers cannot take gated blocks before the `last` of them."""
    if not 1 <= last <= layers:
        raise UsageError(f"gated blocks go before 1 to {layers} layers, this image tower has no more; not {last}")


def _run_gate(layer: nn.Module, args: _Args, kwargs: dict[str, Any]) -> tuple[_Args, dict[str, Any]]:
    """Replace the layer's tokens by what its gated block makes of them; a mask is the layer's alone, as officially.

    A function of the module and not a method: copies of the layer must run their own block.
    """
    gate = layer.get_submodule(GATE)
    if args:
        return (gate(args[0]), *args[1:]), kwargs
    name = "q_x" if "q_x" in kwargs else "x"  # open_clip's and timm's names of the tokens
    return args, {**kwargs, name: gate(kwargs[name])}


def _host(layer: nn.Module) -> _Host | None:
    """What is known of a layer; None where it is no transformer layer. lite's own layers hold `heads` themselves."""
    attention = getattr(layer, "attn", None)
    norm = getattr(layer, "ln_1", None) or getattr(layer, "norm1", None)
    heads = getattr(attention, "num_heads", getattr(layer, "heads", None))
    activation = _activation(getattr(layer, "mlp", None))
    shape = getattr(norm, "normalized_shape", None)
    matrix = next((part.weight for part in layer.modules() if isinstance(part, nn.Linear)), None)
    if norm is None or not shape or heads is None or activation is None or matrix is None:
        return None
    scaled = any(hasattr(getattr(layer, name, None), "gamma") for name in ("ls_1", "ls1"))
    return _Host(
        norm=norm,
        width=int(shape[-1]),
        heads=int(heads),
        activation=activation,
        # timm's, lite's and open_clip's own attention take batches first; PyTorch's takes what it was made for
        batch_first=bool(getattr(attention, "batch_first", True)),
        layer_scale=_LAYER_SCALE if scaled else None,
        weight=matrix,
    )


def _activation(mlp: nn.Module | None) -> nn.Module | None:
    """open_clip calls it `gelu`, timm `act`; in lite it is the second step."""
    steps = list(mlp) if isinstance(mlp, nn.Sequential) else []
    found = getattr(mlp, "gelu", None) or getattr(mlp, "act", None) or (steps[1] if len(steps) > 1 else None)
    return found if isinstance(found, nn.Module) else None


def _fresh(norm: nn.Module) -> nn.Module:
    """A norm of the same kind, epsilon, dtype and device, as PyTorch starts it: scale 1, offset 0."""
    fresh = copy.deepcopy(norm)
    for name, value in fresh.named_parameters():
        value.data = torch.zeros_like(value) if name == "bias" else torch.ones_like(value)
    return fresh
