"""LoRA (and named parts of the model) on lessons, by peft and transformers. Only the answer is in the loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trireme.errors import DataError, UsageError
from trireme.methods import checkpoints
from trireme.methods.checkpoints import State
from trireme.methods.rankers import chat
from trireme.methods.rankers.training.data import Lesson
from trireme.methods.schedules import warm_cosine
from trireme.progress import progress, say
from trireme.retrieval.encoders.lite.augment import augment

CHECKPOINT = "checkpoint.safetensors"
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a Llama, Qwen or Vicuna block, which get a LoRA."""
_IGNORED = -100


@dataclass
class FinetuneConfig:
    """How a ranker is fine-tuned.

    Attributes:
        r, alpha, dropout: of the LoRA on every linear layer of the language model.
        layers: how many of the language model's last blocks get a LoRA; 0 is all of them.
        parts: beginnings of names of other parameters that train whole (a projector, the end of a vision tower).
        steps: optimiser steps; 0 is one pass over the lessons (the paper's one epoch).
        batch: lessons a step.
        lr, parts_lr: of the LoRA and of `parts`; linear warm-up over `warmup` of the steps, then a cosine to zero.
        clip: the largest norm of the gradient.
        augment: show each picture in another pose, palette and line width every time.
        checkpoint_every: steps between two checkpoints that a killed training goes on from.
        precision: "bfloat16" (autocast) or "float32".
    """

    r: int = 16
    alpha: int = 32
    dropout: float = 0.05
    layers: int = 0
    parts: list[str] = field(default_factory=list)
    steps: int = 0
    batch: int = 32
    lr: float = 2e-4
    parts_lr: float = 2e-4
    warmup: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    augment: bool = False
    checkpoint_every: int = 50
    precision: str = "bfloat16"


def check(config: FinetuneConfig) -> None:
    """UsageError where a value is out of its range."""
    if min(config.r, config.alpha, config.batch, config.checkpoint_every) < 1 or min(config.steps, config.layers) < 0:
        raise UsageError(
            "train ranker needs r, alpha, batch, checkpoint_every of 1 or more; steps, layers of 0 or more"
        )
    if not (config.lr > 0 and config.parts_lr > 0 and 0 <= config.warmup < 1 and 0 <= config.dropout < 1):
        raise UsageError("train ranker needs lr and parts_lr above 0, and warmup and dropout from 0 and below 1")
    if config.precision not in ("bfloat16", "float32"):
        raise UsageError(f"unknown precision '{config.precision}'; use bfloat16 or float32")


class Finetuning:
    """One training.

    Args:
        model: float32, as transformers loads it; gets the LoRA.
        processor: its processor.
        folder: where checkpoints are kept until the training is done.
        seed: of the LoRA's start, the order of lessons, dropout and augmentation.

    Attributes:
        adapted: the model with its LoRA (peft's).
        layers: numbers of the language model's blocks that got one.
        losses: mean loss of every hundred steps.
    """

    def __init__(
        self, model: Any, processor: Any, config: FinetuneConfig, lessons: Sequence[Lesson], folder: Path, seed: int
    ) -> None:
        from peft import LoraConfig, get_peft_model

        check(config)
        if not lessons:
            raise DataError("there is nothing to train the ranker on: no lesson could be built")
        self._processor, self._config, self._lessons, self._seed = processor, config, lessons, seed
        self._path = folder / CHECKPOINT
        model.requires_grad_(False)
        self.layers = _layers(model, config.layers)
        targets = rf".*language_model\.layers\.({'|'.join(map(str, self.layers))})\..*\.({'|'.join(LINEAR)})"
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            lora = LoraConfig(r=config.r, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=targets)
            self.adapted = get_peft_model(model, lora)
        self.trainable = self._trainable()
        self._device = next(model.parameters()).device
        self.steps = config.steps or -(-len(lessons) // config.batch)
        self.losses: list[float] = []
        self._ends = str(processor.tokenizer.eos_token)

    def _trainable(self) -> dict[str, nn.Parameter]:
        found = {}
        for name, parameter in self.adapted.named_parameters():
            plain = name.removeprefix("base_model.model.")
            if "lora_" in name or plain.startswith(tuple(self._config.parts)):
                found[plain] = parameter.requires_grad_(True)
        for part in self._config.parts:
            if not any(name.startswith(part) for name in found):
                raise UsageError(f"the model has no parameter whose name starts with '{part}'; see parts=")
        return found

    def run(self) -> dict[str, Any]:
        """Train, or go on where a killed process stopped; what the record should say.

        Raises:
            DataError: a picture cannot be read, or the loss is no longer finite.
        """
        config, optimiser = self._config, self._optimiser()
        names = {id(parameter): name for name, parameter in self.trainable.items()}
        state = checkpoints.load(self._path) or State()
        if state.step:
            self._restore(state, optimiser, names)
        self.adapted.train()
        for module in self.adapted.modules():  # running means of a frozen or short-trained tower stay as they are
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        with torch.random.fork_rng(), progress("train ranker", self.steps, "steps") as bar:
            bar.advance(state.step)
            for step in range(state.step, self.steps):
                loss = self._step(step, optimiser)
                if not math.isfinite(loss):
                    raise DataError(f"the loss is not finite in step {step + 1}; lower lr (now {config.lr:g})")
                state.step, state.running = step + 1, state.running + loss
                if state.step % 100 == 0 or state.step == self.steps:
                    state.losses.append(round(state.running / (state.step % 100 or 100), 4))
                    state.running = 0.0
                    say(f"step {state.step}: loss {state.losses[-1]}")
                if state.step % config.checkpoint_every == 0 and state.step < self.steps:
                    state.weights = {name: p.detach() for name, p in self.trainable.items()}
                    state.moments = checkpoints.moments_of(optimiser, names)
                    checkpoints.save(self._path, state)
                bar.advance()
        self.adapted.eval()
        self.losses = state.losses
        trained = sum(parameter.numel() for parameter in self.trainable.values())
        return {
            "steps": self.steps,
            "lessons": len(self._lessons),
            "trained_parameters": trained,
            "losses": state.losses,
        }

    def _restore(self, state: State, optimiser: torch.optim.Optimizer, names: dict[int, str]) -> None:
        with torch.no_grad():
            for name, parameter in self.trainable.items():
                parameter.copy_(state.weights[name])
        checkpoints.restore_moments(optimiser, names, state.moments)
        say(f"going on after step {state.step} of {self.steps}")

    def _optimiser(self) -> torch.optim.Optimizer:
        config = self._config
        groups: list[dict[str, Any]] = []
        for lora, lr in ((True, config.lr), (False, config.parts_lr)):
            chosen = [p for name, p in self.trainable.items() if ("lora_" in name) == lora]
            groups += [
                {"params": [p for p in chosen if p.ndim >= 2], "weight_decay": config.weight_decay, "base": lr},
                {"params": [p for p in chosen if p.ndim < 2], "weight_decay": 0.0, "base": lr},
            ]
        return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.lr, betas=(0.9, 0.98))

    def _step(self, step: int, optimiser: torch.optim.Optimizer) -> float:
        """One optimiser step; everything random in it depends on the seed and the step alone."""
        torch.manual_seed(int(np.random.SeedSequence([self._seed, step]).generate_state(1)[0]))
        inputs, labels = self._batch([self._lessons[i] for i in self._order(step)])
        first = int((labels != _IGNORED).int().argmax(1).min())  # logits of prompts are never computed
        with self._autocast():
            output = self.adapted(**inputs, logits_to_keep=labels.shape[1] - first + 1)
        answers = labels[:, first:]
        wanted = answers != _IGNORED
        loss = F.cross_entropy(output.logits[:, :-1][wanted].float(), answers[wanted])
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(list(self.trainable.values()), self._config.clip)
        for group in optimiser.param_groups:
            group["lr"] = group["base"] * warm_cosine(step, self.steps, self._config.warmup)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return float(loss.detach())

    def _order(self, step: int) -> Iterator[int]:
        """The lessons of a step; every pass over all of them has an order of its own."""
        n, size = len(self._lessons), self._config.batch
        for position in range(step * size, (step + 1) * size):
            epoch, place = divmod(position, n)
            yield int(self._permutation(epoch)[place])

    def _permutation(self, epoch: int) -> Any:
        if getattr(self, "_kept", (-1,))[0] != epoch:
            self._kept = (epoch, np.random.default_rng([self._seed, epoch]).permutation(len(self._lessons)))
        return self._kept[1]

    def _batch(self, lessons: Sequence[Lesson]) -> tuple[dict[str, Tensor], Tensor]:
        """Inputs padded on the right, and labels that ignore everything but the answers."""
        tokeniser = self._processor.tokenizer
        made = [self._example(lesson) for lesson in lessons]
        width = max(len(ids) for ids, _, _ in made)
        ids = torch.full((len(made), width), int(tokeniser.pad_token_id or 0))
        labels = torch.full((len(made), width), _IGNORED)
        mask = torch.zeros(len(made), width, dtype=torch.long)
        for row, (tokens, start, _) in enumerate(made):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
            labels[row, start : len(tokens)] = torch.tensor(tokens[start:])
        shared = [others for _, _, others in made]
        rest = {name: torch.cat([others[name] for others in shared]) for name in shared[0]}
        if self._config.augment:
            rest["pixel_values"] = self._augmented(rest["pixel_values"])
        inputs = {"input_ids": ids, "attention_mask": mask, **rest}
        return {name: value.to(self._device) for name, value in inputs.items()}, labels.to(self._device)

    def _example(self, lesson: Lesson) -> tuple[list[int], int, dict[str, Tensor]]:
        """Token ids of prompt and answer, where the answer starts, and the pictures' tensors."""
        processor = self._processor
        text = chat.render(processor, lesson.prompt)
        special = chat.adds_special_tokens(processor, text)
        pictures = [chat.pictures(lesson.prompt)]
        found = dict(processor(text=[text], images=pictures, add_special_tokens=special, return_tensors="pt"))
        prompt = found.pop("input_ids")[0].tolist()
        found.pop("attention_mask")
        found.pop("mm_token_type_ids", None)
        answer = chat.continuation_ids(processor.tokenizer, lesson.answer)
        return [*prompt, *answer, int(processor.tokenizer.eos_token_id)], len(prompt), found

    def _augmented(self, pixels: Tensor) -> Tensor:
        images = self._processor.image_processor
        if pixels.ndim != 4:
            raise UsageError("augment needs a model whose processor gives one picture as (3, h, w); leave it out")
        mean, std = (torch.tensor(getattr(images, f"image_{what}")).view(1, 3, 1, 1) for what in ("mean", "std"))
        generator = torch.Generator().manual_seed(int(torch.randint(1 << 62, (1,))))
        shown = augment(((pixels * std + mean) * 2 - 1).clamp(-1, 1), generator)
        return ((shown + 1) / 2 - mean) / std

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._config.precision == "float32":
            return nullcontext()
        return torch.autocast(self._device.type, torch.bfloat16)


def _layers(model: Any, last: int) -> list[int]:
    """The numbers of the last blocks. UsageError where there are fewer."""
    blocks = int(model.config.get_text_config().num_hidden_layers)
    if not 0 <= last <= blocks:
        raise UsageError(f"layers={last}: the language model has {blocks} blocks; 0 is all of them")
    return list(range(blocks - (last or blocks), blocks))
