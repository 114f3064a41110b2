"""The options of reco, and what they stand for in the paper."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from trireme.errors import UsageError, unknown_name
from trireme.methods.reco.fusion import FUSIONS, TRAINABLE
from trireme.methods.reco.search import MODES

SIDES = ("both", "image", "text")
PROMPTS = ("ensemble", "each")
_ATTENTION = ("k", "image_scale", "text_scale")
_SUM = (*_ATTENTION, "image_gate", "text_gate")
STARTS: dict[str, tuple[str, ...]] = {
    "paired": (*_ATTENTION, "image_mix", "text_mix", "image_keep", "text_keep", "share"),
    "attention": _SUM,
    "weighted_mean": _SUM,
    "mean": ("k",),
    "transformer": ("k",),
    "mlp": ("k",),
}
"""The options that say where each fusion starts; a grid may list them."""
TRAINING: tuple[str, ...] = ("lr", "epochs", "weight_decay")
"""Options that a training grid may list."""
_ABOVE_ZERO = ("k", "heads", "mlp_dim", "batch", "image_scale", "text_scale", "lr", "loss_scale")
_AT_LEAST_ZERO = ("epochs", "weight_decay", "warmup")
_WHOLE = ("k", "epochs")


@dataclass
class RecoConfig:
    """Options of reco. Defaults are RECO's design; values that the sources do not give are marked *ours*.

    Attributes:
        k: pairs retrieved per query (*ours*: with 10 one layer has the parameters that the paper reports).
        search: "uni" searches the query's own modality (the paper), "cross" the other one.
        values: "cross" fuses the other modality of each hit (the paper), "uni" the query's own.
        fusion: "transformer" (the paper), "paired", "attention", "weighted_mean", "mean", or "mlp" (no retrieval).
        sides: which queries are refined: "both", "image" or "text".
        prompts: refine a class's ensembled prompt ("ensemble") or each of its prompts before they are ensembled
            ("each").
        image_scale, text_scale: inverse temperature of the attention over what an image or a text query retrieved, in
            units of the encoder's own logit scale (so that one value suits encoders whose cosines spread differently).
        image_gate, text_gate: weight of what was retrieved against the query (`attention`, `weighted_mean`).
        image_mix, text_mix: weight of what was retrieved in the half that the query fills itself (`paired`).
        image_keep, text_keep: weight of the query in the half that is copied (`paired`).
        share: weight of the caption halves in a comparison (`paired`).
        heads, mlp_dim, norm, positions: of the transformer (heads of `attention` too); `norm` is "post" or "pre",
            `positions` adds a learned embedding to every token.
        train_on: pair sets to train on; none leaves the fusion as it starts.
        epochs, batch, lr, weight_decay, warmup: AdamW with linear warm-up (share of the steps), then a cosine to zero.
            The paper trains 10 epochs at batch 4096 and lr 1e-3 on 10 M pairs.
        loss_scale: 1 / tau of the loss, in units of the encoder's own logit scale.
        learn_tau: whether it is trained along.
        rotate: turn the whole space at random in every batch, so that no direction can be memorised.
        distinct_captions: no batch holds a caption twice.
        choose_trained: keep the trained fusion only where validation prefers it to the start.
        grid: start options to choose from on validation pictures; empty: nothing is chosen.
        train_grid: training options to choose from, likewise.
        may_lose: points that a validation subset may lose against zero-shot; a choice that loses more is out.
    """

    k: int = 10
    search: str = "uni"
    values: str = "cross"
    fusion: str = "paired"
    sides: str = "both"
    prompts: str = "ensemble"
    image_scale: float = 1.5
    text_scale: float = 0.7
    image_gate: float = 1.0
    text_gate: float = 2.0
    image_mix: float = 0.0
    text_mix: float = 0.5
    image_keep: float = 0.25
    text_keep: float = 0.0
    share: float = 0.33
    heads: int = 1
    mlp_dim: int = 2048
    norm: str = "post"
    positions: bool = False
    train_on: list[str] = field(default_factory=list)
    epochs: int = 10
    batch: int = 512
    lr: float = 1e-3
    weight_decay: float = 0.0
    warmup: float = 0.05
    loss_scale: float = 1.0
    learn_tau: bool = False
    rotate: bool = False
    distinct_captions: bool = True
    choose_trained: bool = False
    grid: dict[str, list[float]] = field(default_factory=dict)
    train_grid: dict[str, list[float]] = field(default_factory=dict)
    may_lose: dict[str, float] = field(default_factory=dict)


def check(config: RecoConfig) -> None:
    """Refuse what cannot work.

    Raises:
        UsageError: an unknown name, or a value out of its range.
    """
    for kind, name, known in (
        ("fusion", config.fusion, FUSIONS),
        ("mode of reco's search", config.search, MODES),
        ("mode of reco's values", config.values, MODES),
        ("side of reco", config.sides, SIDES),
        ("prompts option", config.prompts, PROMPTS),
        ("norm placement", config.norm, ("post", "pre")),
    ):
        if name not in known:
            raise unknown_name(kind, name, known)
    for grid, listable in ((config.grid, STARTS[config.fusion]), (config.train_grid, TRAINING)):
        for key in grid:
            if key not in listable:
                raise unknown_name("reco grid key", key, listable)
    for name, value in _numbers(config):
        if not math.isfinite(value):
            raise UsageError(f"reco needs a finite {name}, not {value}")
        if name in _ABOVE_ZERO and value <= 0:
            raise UsageError(f"reco needs {name} above 0, not {value:g}")
        if name in _AT_LEAST_ZERO and value < 0:
            raise UsageError(f"reco needs {name} of at least 0, not {value:g}")
        if name in _WHOLE and value != int(value):
            raise UsageError(f"reco needs a whole number for {name}, not {value:g}")
    if config.train_on and config.fusion not in TRAINABLE:
        raise UsageError(f"fusion '{config.fusion}' has nothing to train; remove train_on")


def _numbers(config: RecoConfig) -> Iterator[tuple[str, float]]:
    """Every number of the configuration with the name of its option, those in the grids included."""
    for field_ in fields(config):
        value = getattr(config, field_.name)
        if isinstance(value, int | float):
            yield field_.name, value
    for grid in (config.grid, config.train_grid):
        for name, values in grid.items():
            yield from ((name, value) for value in values)


def architecture(config: RecoConfig) -> dict[str, object]:
    """The options that decide which parameters a fusion has and what it computes."""
    names = ("search", "values", "fusion", "sides", "heads", "mlp_dim", "norm", "positions")
    return {f.name: getattr(config, f.name) for f in fields(config) if f.name in names}
