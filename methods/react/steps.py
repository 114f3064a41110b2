"""One optimiser step of the customisation: precision, accumulation, several processes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trireme.methods.react.config import ReactConfig
from trireme.methods.react.distributed import processes, rank
from trireme.methods.react.loss import contrastive, gathered
from trireme.methods.react.towers import Inputs, Tower
from trireme.types import Ints

_LARGEST_SCALE = math.log(100)
"""CLIP clips logit_scale so that cosines are multiplied by at most 100 (Radford et al. 2021, 2.5)."""


def batches(pairs: int, config: ReactConfig, seed: int, epoch: int) -> list[list[Ints]]:
    """The plan of an epoch for this process: for every step its forward passes, each some of the numbers 0 .. pairs-1.

    All pairs are shuffled; those that fill no whole batch wait for the next epoch, as in open_clip's loaders.
    """
    order = np.random.default_rng([seed, epoch]).permutation(pairs).astype(np.int64)
    size = batch_size(pairs, config)
    plan: list[list[Ints]] = []
    if not size:
        return plan
    for start in range(0, pairs - size + 1, size):
        own = order[start : start + size].reshape(config.accumulation, processes(), -1)[:, rank()]
        plan.append(list(own))
    return plan


def batch_size(pairs: int, config: ReactConfig) -> int:
    """Pairs of a step: `batch`, or as many as there are, cut so that every pass of every process gets the same."""
    unit = config.accumulation * processes()
    return min(config.batch, pairs) // unit * unit


def optimiser_of(trainable: Mapping[str, nn.Parameter], config: ReactConfig, device: torch.device) -> torch.optim.AdamW:
    """AdamW of the recipe: no decay on gains, biases, gates and logit_scale, which are the parameters below 2-D."""
    gates = [value for name, value in trainable.items() if "alpha_" in name]
    others = [value for name, value in trainable.items() if "alpha_" not in name]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": config.weight_decay, "factor": 1.0},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0, "factor": 1.0},
        {"params": gates, "weight_decay": 0.0, "factor": config.gate_lr},
    ]
    kept = [group for group in groups if group["params"]]
    return torch.optim.AdamW(kept, lr=config.lr, betas=(0.9, 0.98), eps=1e-6, fused=True)


class Stepper:
    """Forward and backward passes of a step.

    Args:
        tower: what trains.
        precision: "float32", "bfloat16" or "float16".
    """

    def __init__(self, tower: Tower, config: ReactConfig, device: torch.device, precision: str, seed: int) -> None:
        self._tower, self._config, self._device, self._seed = tower, config, device, seed
        self._dtype = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
        self.module: Any = tower.module
        if processes() > 1:
            ids = [torch.cuda.current_device()] if device.type == "cuda" else None
            self.module = nn.parallel.DistributedDataParallel(tower.module, device_ids=ids, broadcast_buffers=False)

    def backward(self, inputs: Sequence[Inputs], step: int) -> Tensor:
        """Gradients of the loss of one batch, given as its forward passes; returns the loss.

        With several passes every pass is computed twice: first without gradients, for the embeddings of the whole
        batch, then with them, its own embeddings put in their place. The gradient is that of the whole batch.
        """
        scale = self._tower.scale
        if len(inputs) == 1:
            images, texts = self._embed(inputs[0], step, 0)
            loss = contrastive(gathered(images), gathered(texts), scale.exp())
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            return loss.detach()
        with torch.no_grad():
            frozen = [self._embed(part, step, number) for number, part in enumerate(inputs)]
        for number, part in enumerate(inputs):
            last = number == len(inputs) - 1
            with nullcontext() if last or processes() == 1 else self.module.no_sync():
                own = self._embed(part, step, number)
                embedded = [own if other == number else pair for other, pair in enumerate(frozen)]
                images, texts = (gathered(torch.cat([pair[side] for pair in embedded])) for side in (0, 1))
                # every pass sees the whole loss; the scale's own gradient must count once
                loss = contrastive(images, texts, scale.exp() if last else scale.detach().exp())
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _embed(self, inputs: Inputs, step: int, number: int) -> tuple[Tensor, Tensor]:
        """Dropout depends on the seed, the step, the pass and the process alone, so a resumed step is the same one."""
        seed = np.random.SeedSequence([self._seed, step, number, rank()]).generate_state(1)[0]
        torch.manual_seed(int(seed))
        with self._autocast():
            found: tuple[Tensor, Tensor] = self.module(inputs)
        return found

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self._device.type, self._dtype) if self._dtype is not None else nullcontext()

    @torch.no_grad()
    def update(self, optimiser: torch.optim.Optimizer, factor: float) -> None:
        """Clip, step, and keep logit_scale in its range. `factor` is the schedule's."""
        for group in optimiser.param_groups:
            group["lr"] = self._config.lr * group["factor"] * factor
        if self._config.clip:
            self.scaler.unscale_(optimiser)
            nn.utils.clip_grad_norm_(list(self._tower.trainable.values()), self._config.clip)
        self.scaler.step(optimiser)
        self.scaler.update()
        optimiser.zero_grad(set_to_none=True)
        self._tower.scale.clamp_(0, _LARGEST_SCALE)


def epochs_left(step: int, per_epoch: int, epochs: int) -> Iterator[tuple[int, int]]:
    """(epoch, first step within it) of a training that has done `step` steps."""
    for epoch in range(step // per_epoch, epochs):
        yield epoch, step % per_epoch if epoch == step // per_epoch else 0


def precision_of(config: ReactConfig, device: torch.device) -> str:
    """What "auto" means on a device: bfloat16 where it is fast, else float32."""
    if config.precision != "auto":
        return config.precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return "bfloat16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "float32"
