"""`trireme train lite`: fit the head on pictures of common classes, with the trunk and the text tower frozen.

The trunk runs once over a few augmented views of each picture; an epoch then costs the small head alone. The numbers
printed on the way come from the validation role; no weights are chosen by them.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trireme.errors import DataError, UsageError
from trireme.files import fingerprint
from trireme.progress import progress, say
from trireme.retrieval.encoders.lite import text, trunk
from trireme.retrieval.encoders.lite.checkpoint import write_head
from trireme.retrieval.encoders.lite.losses import contrastive, keep_neighbours
from trireme.retrieval.encoders.lite.model import HeadShape, LiteHead
from trireme.retrieval.encoders.lite.validation import Validation
from trireme.retrieval.encoders.lite.views import read_pixels, token_views
from trireme.types import Benchmark, Pair, PairSet, Role


@dataclass
class TrainLiteConfig:
    """
    Attributes:
        epochs: passes over the pictures, one random view of each picture a pass.
        views: views of each picture kept in memory, the plain one included.
        caption_share: share of pictures that are trained against their own caption, not their class name.
        neighbour_weight, neighbour_temperature: of the loss that keeps the trunk's neighbours.
        averaging: decay of the running mean of the weights that is kept in the end.
        evaluate_every: epochs between two lines of validation numbers.
        precision: "bfloat16" (autocast; where the CPU has it, five times faster) or "float32".
    """

    epochs: int = 60
    views: int = 12
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 40
    layers: int = 2
    width: int = 256
    dropout: float = 0.1
    feature_dropout: float = 0.1
    token_dropout: float = 0.5
    caption_share: float = 0.0
    neighbour_weight: float = 0.3
    neighbour_temperature: float = 0.1
    averaging: float = 0.99
    evaluate_every: int = 10
    precision: str = "bfloat16"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """What an epoch reads. n pictures, v views, c classes.

    Attributes:
        tokens: (v, n, tokens, width) bfloat16.
        labels: (n,) class indices.
        classes: (c, d) text embeddings of the class names, all templates averaged.
        captions: (n, d) text embeddings of the captions (of the class names where captions are not trained on).
    """

    tokens: Tensor
    labels: Tensor
    classes: Tensor
    captions: Tensor


def train(
    config: TrainLiteConfig, pictures: PairSet, validation: Benchmark, out: Path, memory: PairSet | None = None
) -> dict[str, Any]:
    """Train the head and write `lite.safetensors` and `lite.json` into `out`.

    Args:
        pictures: labelled pictures of the classes to train on (`world/train-common`).
        validation: names, templates and the VALIDATION samples whose scores are printed (`world/validation`).
        memory: where given, validation also reports 1-NN in these pairs. They are never trained on.

    Returns:
        The record that is written.

    Raises:
        UsageError: the configuration makes no sense.
        DataError: a picture is unreadable or has a class that the benchmark does not name.
    """
    _check(config)
    started = time.monotonic()
    torch.manual_seed(config.seed)
    pairs = pictures.pairs()
    labels = _labels(pairs, validation)
    frozen, tower = trunk.load_trunk(), text.TextTower()
    names = class_embeddings(tower, validation)
    checks = Validation.prepare(validation, names, frozen, memory)
    tokens = token_views(frozen, read_pixels([pair.image for pair in pairs]), config.views, config.seed)
    captions = tower.encode([pair.caption for pair in pairs]) if config.caption_share else names[labels]
    head, epochs = fit(config, TrainingSet(tokens, labels, names, captions), checks)
    record = {
        "command": "trireme train lite",
        "config": asdict(config),
        "training": _source(pictures, pairs),
        "validation": {
            "benchmark": validation.name,
            "fingerprint": validation.fingerprint(Role.VALIDATION),
            "samples": len(checks.labels),
            "memory": memory.fingerprint if memory else None,
        },
        "frozen": {"trunk": trunk.WHEEL_SHA256, "text": text.WHEEL_SHA256},
        "trained_parameters": sum(value.numel() for value in head.parameters()),
        "epochs": epochs,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "seconds": round(time.monotonic() - started, 1),
    }
    path = write_head(out, head, record)
    say(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB) after {record['seconds']:.0f} s")
    return record


def fit(
    config: TrainLiteConfig, data: TrainingSet, checks: Validation | None
) -> tuple[LiteHead, list[dict[str, float]]]:
    """Train a new head. Returns it, its weights averaged, and what was measured on the way."""
    torch.manual_seed(config.seed)
    head = LiteHead(
        HeadShape(config.layers, config.width), config.dropout, config.feature_dropout, config.token_dropout
    )
    head.standardise(data.tokens[0])
    centre = head.neighbour_features(data.tokens[0]).mean(0)
    averaged = _Average(head, config.averaging)
    optimiser = torch.optim.AdamW(
        _groups(head, config.weight_decay), lr=config.learning_rate, betas=(0.9, 0.98), fused=True
    )
    rng = np.random.default_rng(config.seed)
    per_epoch = _steps(config, len(data.labels))
    steps = config.epochs * per_epoch
    measured: list[dict[str, float]] = []
    running = 0.0
    with progress("train lite", steps, "steps") as bar:
        for step, rows in enumerate(_batches(config, len(data.labels), rng)):
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * _schedule(step, steps, config.warmup_steps)
            loss = _loss(config, head.train(), data, rows, rng, centre)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimiser.step()
            averaged.update(head, step)
            running = 0.95 * running + 0.05 * float(loss.detach()) if step else float(loss.detach())
            bar.advance()
            if checks and ((step + 1) % (config.evaluate_every * per_epoch) == 0 or step + 1 == steps):
                measured.append(_measure(averaged.head, checks, (step + 1) // per_epoch, running))
    if not math.isfinite(running):
        raise DataError("the loss of `trireme train lite` is not finite; lower learning_rate")
    return averaged.head.eval().requires_grad_(False), measured


def class_embeddings(tower: text.TextTower, benchmark: Benchmark) -> Tensor:
    """(c, d), L2-normalised: each class name's text embedding, averaged over the templates as zero-shot does."""
    per_template = [tower.encode([t.format(name) for name in benchmark.class_names]) for t in benchmark.templates]
    return F.normalize(torch.stack(per_template).mean(0), dim=-1)


def _loss(
    config: TrainLiteConfig, head: LiteHead, data: TrainingSet, rows: Tensor, rng: np.random.Generator, centre: Tensor
) -> Tensor:
    view = torch.from_numpy(rng.integers(0, len(data.tokens), len(rows)))
    tokens, labels = data.tokens[view, rows], data.labels[rows]
    with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16"):
        images = head(tokens)
    images = images.float()
    own_caption = torch.from_numpy(rng.random(len(rows)) < config.caption_share)
    texts = torch.where(own_caption[:, None], data.captions[rows], data.classes[labels])
    loss = contrastive(images, texts, labels, head.logit_scale.exp().clamp(max=100.0))
    if config.neighbour_weight:
        features = F.normalize(head.neighbour_features(tokens) - centre, dim=-1)
        loss = loss + config.neighbour_weight * keep_neighbours(images, features, config.neighbour_temperature)
    return loss


class _Average:
    """An exponential running mean of a head's weights, warmed up so that early steps fade fast."""

    def __init__(self, head: LiteHead, decay: float) -> None:
        self.head, self.decay = head.clone(), decay

    @torch.no_grad()
    def update(self, head: LiteHead, step: int) -> None:
        decay = min(self.decay, (step + 1) / (step + 10))
        for mean, value in zip(self.head.parameters(), head.parameters(), strict=True):
            mean.lerp_(value, 1.0 - decay)


def _measure(head: LiteHead, checks: Validation, epoch: int, loss: float) -> dict[str, float]:
    row = {"epoch": epoch, "loss": round(loss, 3), **checks.measure(head.eval())}
    say("  ".join(f"{name} {value}" for name, value in row.items()))
    return row


def _batches(config: TrainLiteConfig, n: int, rng: np.random.Generator) -> Iterator[Tensor]:
    """Row numbers of each step: a new order every epoch, the remainder that fills no batch is left out."""
    size = min(config.batch_size, n)
    for _ in range(config.epochs):
        order = torch.from_numpy(rng.permutation(n))
        yield from torch.split(order[: n - n % size], size)


def _steps(config: TrainLiteConfig, n: int) -> int:
    return n // min(config.batch_size, n)


def _schedule(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then half a cosine down to 1 %."""
    return min(1.0, (step + 1) / max(1, warmup)) * (0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01)


def _groups(head: LiteHead, weight_decay: float) -> list[dict[str, Any]]:
    """Biases, norms, the class token and the scale are not decayed."""
    matrices = [value for value in head.parameters() if value.ndim > 1]
    vectors = [value for value in head.parameters() if value.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def _labels(pairs: Sequence[Pair], benchmark: Benchmark) -> Tensor:
    index = {class_id: row for row, class_id in enumerate(benchmark.class_ids)}
    unknown = next((pair for pair in pairs if pair.label not in index), None)
    if unknown is not None:
        raise DataError(
            f"training picture {unknown.id} has class '{unknown.label}', which {benchmark.name} does not name"
        )
    if not pairs:
        raise DataError("there is no picture to train lite on; run `trireme data prepare world`")
    return torch.tensor([index[pair.label] for pair in pairs])


def _source(pictures: PairSet, pairs: Sequence[Pair]) -> dict[str, Any]:
    classes = sorted({pair.label for pair in pairs})
    return {
        "pairs": pictures.name,
        "fingerprint": pictures.fingerprint,
        "pictures": len(pairs),
        "sources": sorted({pair.source for pair in pairs}),
        "classes": len(classes),
        "classes_fingerprint": fingerprint(classes),
        "pictures_fingerprint": fingerprint(sorted(pair.id for pair in pairs)),
    }


def _check(config: TrainLiteConfig) -> None:
    if config.epochs < 1 or config.views < 1 or config.batch_size < 2:
        raise UsageError("train lite needs epochs and views of at least 1 and a batch_size of at least 2")
    if config.precision not in ("bfloat16", "float32"):
        raise UsageError(f"unknown precision '{config.precision}'; use bfloat16 or float32")
