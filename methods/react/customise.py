"""REACT's second stage: continue the contrastive loss on the retrieved pairs, resumable at any step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trireme.errors import DataError
from trireme.methods import checkpoints
from trireme.methods.checkpoints import State
from trireme.methods.react.config import ReactConfig
from trireme.methods.react.distributed import barrier, check_same, rank
from trireme.methods.react.steps import (
    Stepper,
    batch_size,
    batches,
    epochs_left,
    optimiser_of,
    precision_of,
)
from trireme.methods.react.towers import Tower, load_tensors, tensors_of, train_mode
from trireme.methods.schedules import warm_cosine
from trireme.progress import progress, say
from trireme.types import Ints

CHECKPOINT = "checkpoint.safetensors"
Measure = Callable[[Tower], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Trained:
    """Weights of the trained parameters by name, and what the record should say about the training."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class Customisation:
    """One training.

    Args:
        tower: the model, with its base weights.
        pairs: (n,) positions of the pictures of the tower, one for every pair of an epoch.
        folder: where checkpoints are kept until the training is done.
        measure: scores of a tower on validation pictures by subset, the same in every process; None where there are
            none.
        value: what early stopping maximises, from such scores.
        seed: of batches, dropout and augmentation.
    """

    def __init__(
        self,
        tower: Tower,
        config: ReactConfig,
        pairs: Ints,
        folder: Path,
        device: torch.device,
        seed: int,
        measure: Measure | None = None,
        value: Callable[[dict[str, float]], float] | None = None,
    ) -> None:
        self._tower, self._config, self._pairs, self._seed = tower, config, pairs, seed
        self._device = device
        self._path = folder / CHECKPOINT
        self._measure, self._value = measure, value
        precision = precision_of(config, device)
        self._stepper = Stepper(tower, config, device, precision, seed)
        self._optimiser = optimiser_of(tower.trainable, config, device)
        self._names = {id(parameter): name for name, parameter in tower.trainable.items()}
        self._per_epoch = len(batches(len(pairs), config, seed, 0))
        self._steps = self._per_epoch * config.epochs
        self._facts = {"precision": precision, "batch": batch_size(len(pairs), config), "steps": self._steps}
        self._state = State()

    def run(self) -> Trained:
        """Train, or go on where a killed process stopped.

        Raises:
            DataError: no batch can be made, a picture cannot be read, loss or weights are no longer finite, or the
                processes find different checkpoints.
        """
        if not self._per_epoch:
            raise DataError(f"{len(self._pairs)} pairs do not fill one batch; retrieve more of them")
        state = checkpoints.load(self._path)
        done = 0 if state is None else state.step
        check_same(done, self._device, f"does not find the first one's {self._path}; give all the same $TRIREME_HOME")
        if state is not None:
            self._restore(state)
        elif self._config.averaging:
            self._state.averaged = {name: p.detach().clone() for name, p in self._tower.trainable.items()}
        with torch.random.fork_rng(), progress(f"customise {self._config.variant}", self._steps, "steps") as bar:
            bar.advance(self._state.step)
            for epoch, first in epochs_left(self._state.step, self._per_epoch, self._config.epochs):
                if self._stopped():
                    break
                self._epoch(epoch, first, bar)
        return self._finished()

    def _epoch(self, epoch: int, first: int, bar: Any) -> None:
        state = self._state
        plan = batches(len(self._pairs), self._config, self._seed, epoch)[first:]
        placed = [[self._pairs[rows] for rows in step] for step in plan]
        train_mode(self._tower.module)
        for inputs in self._tower.feed(placed, epoch):
            loss = float(self._stepper.backward(inputs, state.step))
            if not math.isfinite(loss):
                raise self._diverged(f"the loss is not finite in step {state.step + 1}", epoch)
            self._stepper.update(self._optimiser, warm_cosine(state.step, self._steps, self._config.warmup))
            state.step += 1
            state.running += loss
            self._average()
            bar.advance()
            ends = state.step % self._per_epoch == 0
            due = state.step % self._config.checkpoint_every == 0
            if (ends or due) and not all(bool(value.isfinite().all()) for value in self._tower.trainable.values()):
                raise self._diverged(f"the weights are not finite after step {state.step}", epoch)
            if ends:
                state.losses.append(round(state.running / self._per_epoch, 6))
                state.running = 0.0
                self._evaluate(epoch)
            if due or (ends and self._measured(epoch)):
                self._save()

    def _diverged(self, what: str, epoch: int) -> DataError:
        kept = "the checkpoint before it stays" if self._path.is_file() else "nothing was kept"
        return DataError(
            f"{what} (epoch {epoch + 1}); lower method.react.lr (now {self._config.lr:g}), lengthen warmup, or set "
            f"precision=float32; {kept}"
        )

    @torch.no_grad()
    def _average(self) -> None:
        """Running mean of the weights; its decay grows with the steps, so that the start is forgotten."""
        if not self._config.averaging:
            return
        step = self._state.step
        decay = min(self._config.averaging, (1 + step) / (10 + step))
        for name, parameter in self._tower.trainable.items():
            self._state.averaged[name].lerp_(parameter.detach(), 1 - decay)

    def _measured(self, epoch: int) -> bool:
        every, last = self._config.evaluate_every, epoch + 1 == self._config.epochs
        return self._measure is not None and ((epoch + 1) % every == 0 or last)

    def _evaluate(self, epoch: int) -> None:
        if self._measure is None or self._value is None or not self._measured(epoch):
            return
        state, now = self._state, tensors_of(self._tower)
        kept = state.averaged or now
        load_tensors(self._tower, kept)
        self._tower.module.eval()
        scores = self._measure(self._tower)
        train_mode(self._tower.module)
        load_tensors(self._tower, now)
        state.measured.append({"epoch": epoch + 1, **{name: round(score, 2) for name, score in scores.items()}})
        best = -math.inf if state.best_at < 0 else self._value(_scores(state.measured[state.best_at]))
        if self._value(_scores(state.measured[-1])) > best:
            state.best_at = len(state.measured) - 1
            state.best = {name: value.cpu().clone() for name, value in kept.items()} if self._config.patience else {}

    def _stopped(self) -> bool:
        state = self._state
        waited = len(state.measured) - 1 - state.best_at
        return bool(self._config.patience and state.measured and waited >= self._config.patience)

    def _save(self) -> None:
        if rank() == 0:
            state = self._state
            state.weights = tensors_of(self._tower)
            state.moments = checkpoints.moments_of(self._optimiser, self._names)
            state.scaler = self._stepper.scaler.state_dict()
            checkpoints.save(self._path, state)
        barrier()

    def _restore(self, state: State) -> None:
        self._state = state
        trainable = self._tower.trainable
        state.averaged = {name: value.to(trainable[name].device) for name, value in state.averaged.items()}
        load_tensors(self._tower, state.weights)
        checkpoints.restore_moments(self._optimiser, self._names, state.moments)
        if state.scaler:
            self._stepper.scaler.load_state_dict(state.scaler)
        say(f"going on after step {state.step} of {self._steps}")

    def _finished(self) -> Trained:
        state = self._state
        early = self._stopped()
        kept = state.best if self._config.patience and state.best else state.averaged or tensors_of(self._tower)
        load_tensors(self._tower, kept)
        self._tower.module.eval()
        facts = {
            **self._facts,
            **self._tower.facts,
            "steps_done": state.step,
            "stopped_early": early,
            "losses": state.losses,
            "measured": state.measured,
            "kept_epoch": state.measured[state.best_at]["epoch"] if self._config.patience and state.best else None,
            "logit_scale": round(float(self._tower.scale.detach().exp()), 3),
        }
        return Trained({name: value.detach().cpu().clone() for name, value in kept.items()}, facts)


def _scores(measured: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in measured.items() if name != "epoch"}


def interpolated(base: dict[str, Tensor], trained: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights a share of the way from the base to the trained ones (WiSE-FT, Wortsman et al., arXiv 2109.01903, eq. 2).

    A gated block starts at random behind gates of 0: there only the gates go back, which leads to the base model.
    """
    found = {}
    for name, end in trained.items():
        gate = "gated_attn_block" in name and "alpha_" not in name
        found[name] = end.clone() if gate or share == 1 else torch.lerp(base[name], end, share)
    return found


def shares_tried(config: ReactConfig) -> Sequence[float]:
    """The interpolations to measure, each once, the full way first."""
    return sorted(dict.fromkeys(config.interpolation), reverse=True)
