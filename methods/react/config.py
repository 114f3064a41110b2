"""The options of react, and what they stand for in the paper and its official recipe."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from trireme.errors import UsageError, unknown_name
from trireme.types import WITHOUT_EFFECT, without_effect

VARIANTS = ("gated_image", "locked_text", "full", "locked_image")
SEARCHES = {"t2i": ("text", "image"), "t2t": ("text", "text"), "i2i": ("image", "image")}
"""Name of a search: (modality of the query, side of the memory that is searched)."""
GRID = ("variant", "lr", "epochs", "weight_decay", "layers", "averaging", "caption_parts", "seed_offset")
"""Options that a training grid may list."""
PAPER_LAYERS = 6


@dataclass
class ReactConfig:
    """Options of react. Defaults are the official recipe (microsoft/react, react_customization/README.md: ViT-B/32,
    gated-image, locked-text); values that it does not give are marked *ours*.

    Attributes:
        search: "t2i" (class prompts search pictures), "t2t" (class prompts search captions), or "i2i" (pictures of
            `query_pairs` search pictures; their class labels are then told in training).
        k: pairs retrieved per query (*ours*: the paper states totals only).
        prompts: ask with "each" prompt of a class or with the "ensemble" of them.
        query_pairs: pair sets whose pictures ask in "i2i". Where a task has no classes (image-text retrieval), its
            training pairs, which ask by their captions or pictures; without them all pairs of the memory are taken.
        across_classes: keep a pair for its nearest class only. Within a class a pair is kept once in any case.
        min_similarity: hits below this cosine are not retrieved.
        allow_empty: go on although a class retrieved nothing.
        pairs: "retrieved", or "random": as many pairs, drawn from the whole memory, as a control.
        variant: what trains. "gated_image": new gated blocks before the last `layers` image layers; "locked_text": the
            image tower; "full": both towers; "locked_image": the text tower (LiT). logit_scale trains in all of them.
        layers: gated blocks; 0 is the paper's 6, or every layer of a tower that has fewer.
        lr, weight_decay, epochs, batch, warmup, clip: AdamW, betas (0.9, 0.98), eps 1e-6; linear warm-up over the share
            `warmup` of the steps, then a cosine to zero; `clip` is the largest norm of the gradient, 0 for none. A
            `batch` is dealt out to all processes.
        gate_lr: factor on the learning rate of the two gate scalars of a block (*ours*: 1 is the recipe).
        accumulation: forward passes that a batch is cut into; the gradient stays that of the whole batch.
        precision: "auto" (bfloat16 on hardware that has it, else float32), "float32", "bfloat16" or "float16" (with a
            loss scaler).
        grad_checkpointing: compute the image layers again in the backward pass instead of keeping them.
        augment: "recipe" (crops, flips, colour, RandAugment, erasing), or "none".
        views: augmented views of a picture that are kept where a frozen trunk's features are trained on (*ours*).
        dropout, feature_dropout, token_dropout: of an encoder with a trainable head on a frozen trunk (*ours*).
        caption_parts: chance that a caption is cut to its first phrase, alone or with a random choice of the others
            (*ours*; 0 is the recipe).
        averaging: decay of the running mean of the trained weights that is kept in the end; 0 keeps the last ones.
        interpolation: shares of the way from the base weights to the trained ones (WiSE-FT, arXiv 2109.01903; *ours*);
            with several, validation chooses.
        evaluate_every: epochs between two measurements on validation pictures.
        patience: measurements without a better one after which training stops; 0: it never stops early.
        checkpoint_every: steps between two checkpoints that a killed training goes on from.
        train_grid: values of training options to choose from on validation pictures. Where there are none it is not
            searched, which is said and recorded (likewise several interpolations, and patience).
        may_lose: points that a subset may lose against the base encoder's zero-shot on validation.
        seed_offset: added to the run's seed, for repeated trainings of one run.
    """

    search: str = "t2i"
    k: int = 10
    prompts: str = "each"
    query_pairs: list[str] = field(default_factory=list)
    across_classes: bool = False
    min_similarity: float = -1.0
    allow_empty: bool = False
    pairs: str = "retrieved"
    variant: str = "gated_image"
    layers: int = 0
    lr: float = 5e-4
    weight_decay: float = 0.1
    epochs: int = 32
    batch: int = 4096
    warmup: float = 0.075
    clip: float = 0.0
    gate_lr: float = 1.0
    accumulation: int = 1
    precision: str = "auto"
    grad_checkpointing: bool = field(default=False, metadata=WITHOUT_EFFECT)
    augment: str = "recipe"
    views: int = 8
    dropout: float = 0.0
    feature_dropout: float = 0.0
    token_dropout: float = 0.0
    caption_parts: float = 0.0
    averaging: float = 0.0
    interpolation: list[float] = field(default_factory=lambda: [1.0])
    evaluate_every: int = 1
    patience: int = 0
    checkpoint_every: int = field(default=200, metadata=WITHOUT_EFFECT)
    train_grid: dict[str, list[Any]] = field(default_factory=dict)
    may_lose: dict[str, float] = field(default_factory=dict)
    seed_offset: int = 0


_ABOVE_ZERO = ("k", "lr", "epochs", "views", "evaluate_every", "checkpoint_every", "accumulation", "gate_lr")
_AT_LEAST_ZERO = ("layers", "weight_decay", "clip", "patience", "warmup", "seed_offset")
_SHARES = ("warmup", "dropout", "feature_dropout", "token_dropout", "averaging")
_KEYED_APART = ("precision", "accumulation", "may_lose", "train_grid", "interpolation")
"""Options of whose effect the key of a training says more than their values: see `Trainer._artifact`."""


def check(config: ReactConfig) -> None:
    """Refuse what cannot work, before anything is retrieved or trained.

    Raises:
        UsageError: an unknown name, or a value out of its range.
    """
    for variant in [config.variant, *config.train_grid.get("variant", [])]:
        if variant not in VARIANTS:
            raise unknown_name("variant of react", str(variant), VARIANTS)
    for kind, name, known in (
        ("search of react", config.search, tuple(SEARCHES)),
        ("choice of pairs", config.pairs, ("retrieved", "random")),
        ("prompts option", config.prompts, ("each", "ensemble")),
        ("precision", config.precision, ("auto", "float32", "bfloat16", "float16")),
        ("augmentation", config.augment, ("recipe", "none")),
    ):
        if name not in known:
            raise unknown_name(kind, name, known)
    for key, values in config.train_grid.items():
        if key not in GRID:
            raise unknown_name("react grid key", key, GRID)
        if not values:
            raise UsageError(f"the grid of '{key}' lists no value")
    for name, value in _numbers(config):
        _check_number(name, value)
    if config.batch < 2 or config.batch % config.accumulation:
        raise UsageError(f"react needs a batch of at least 2 that accumulation={config.accumulation} divides")
    if not config.interpolation or not all(0 < share <= 1 for share in config.interpolation):
        raise UsageError("react needs interpolation shares above 0 and up to 1")
    if config.search == "i2i" and not config.query_pairs:
        raise UsageError("react with search=i2i needs query_pairs=[PAIR SET]: the pictures that ask")


def dropped(config: ReactConfig) -> bool:
    """Whether any dropout is on."""
    return bool(config.dropout or config.feature_dropout or config.token_dropout)


def training_options(config: ReactConfig) -> dict[str, Any]:
    """The options that decide the trained weights, for the key of a training."""
    unused = {
        *without_effect(ReactConfig),
        *_KEYED_APART,
        *(() if config.variant == "gated_image" else ("layers", "gate_lr")),
    }
    return {f.name: getattr(config, f.name) for f in fields(config) if f.name not in unused}


def unchosen(config: ReactConfig) -> dict[str, str]:
    """The options that only validation pictures can carry out, and what stands in for each where there are none."""
    found = {}
    if config.train_grid:
        stated = ", ".join(f"{name}={getattr(config, name)}" for name in config.train_grid)
        found["train_grid"] = f"not searched, {stated} is trained"
    if len(set(config.interpolation)) > 1:
        found["interpolation"] = f"{max(config.interpolation):g}"
    if config.patience:
        found["patience"] = f"all {config.epochs} epochs are trained"
    return found


def _numbers(config: ReactConfig) -> Iterator[tuple[str, float]]:
    for option in fields(config):
        value = getattr(config, option.name)
        if isinstance(value, int | float):
            yield option.name, value
    for name, values in config.train_grid.items():
        if name != "variant":
            for value in values:
                if not isinstance(value, int | float):
                    raise UsageError(f"react needs numbers in the grid of {name}, not '{value}'")
                if isinstance(getattr(config, name), int) and not float(value).is_integer():
                    raise UsageError(f"react needs a whole number for {name}, not {value:g}")
                yield name, value


def _check_number(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise UsageError(f"react needs a finite {name}, not {value}")
    if name in _ABOVE_ZERO and value <= 0:
        raise UsageError(f"react needs {name} above 0, not {value:g}")
    if name in _AT_LEAST_ZERO and value < 0:
        raise UsageError(f"react needs {name} of at least 0, not {value:g}")
    if name in _SHARES and not 0 <= value < 1:
        raise UsageError(f"react needs {name} of at least 0 and below 1, not {value:g}")
    if name == "caption_parts" and not 0 <= value <= 1:
        raise UsageError(f"react needs caption_parts between 0 and 1, not {value:g}")
