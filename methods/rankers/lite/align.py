"""The first stage of a `lite` ranker's training: picture tokens become soft words, before the language model trains.

Every picture token is a vector in the space of the language model's word embeddings. Their mean over a picture is
pulled to the mean word embedding of the picture's class name, against the names of all classes trained on, so that the
language model finds in the picture what it would find in the name. Trains the projector and the last stage of the
vision tower; everything before that stage is frozen and computed once. The idea is LLaVA's feature alignment, with a
contrastive loss in place of a language model's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trireme.progress import progress
from trireme.retrieval.encoders.lite import trunk

STAGE = "blocks.6."
LAST = (STAGE, "conv_head.", "bn2.")
"""Names of the vision tower's last stage below the timm model."""


@dataclass
class AlignConfig:
    """How picture tokens are aligned.

    Attributes:
        steps, batch, lr: AdamW, betas (0.9, 0.98), linear warm-up over 40 steps, cosine to 1 %.
        dropout: of the frozen stage's channels and of the last stage's.
        token_dropout: share of a picture's tokens left out of its mean.
        size: weight of the term that keeps a token as long as a word embedding.
    """

    steps: int = 800
    batch: int = 256
    lr: float = 1e-3
    weight_decay: float = 0.05
    dropout: float = 0.1
    token_dropout: float = 0.3
    size: float = 0.1


class LastStage(nn.Module):
    """From the frozen stage's tokens (n, 16, 192) to those of the whole tower (n, 16, 1280)."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.block, self.head, self.bn = tower.blocks[6], tower.conv_head, tower.bn2

    def forward(self, tokens: Tensor) -> Tensor:
        side = trunk.GRID
        grid = tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)
        found: Tensor = self.bn(self.head(self.block(grid.contiguous(memory_format=torch.channels_last))))
        return found.flatten(2).transpose(1, 2)


def align(
    model: Any, tokeniser: Any, tokens: Tensor, labels: Tensor, names: Sequence[str], config: AlignConfig, seed: int
) -> dict[str, Any]:
    """Train in place; what the record should say.

    Args:
        model: a FastVLM model, float32.
        tokens: (views, n, 16, 192) of the frozen stage.
        labels: (n,) indices of `names`.
    """
    words = model.get_input_embeddings().weight.detach()
    means = torch.stack([words[tokeniser(name, add_special_tokens=False)["input_ids"]].mean(0) for name in names])
    centre, typical = means.mean(0), words.norm(dim=1).mean()
    targets = F.normalize(means - centre, dim=-1)
    device = words.device
    unseen = torch.ones(len(names), dtype=torch.bool, device=device)
    unseen[labels.to(device)] = False
    stage, projector = LastStage(model.model.vision_tower.timm_model).eval(), model.model.multi_modal_projector
    with torch.no_grad():
        projector.linear_2.bias.copy_(centre)
    scale = nn.Parameter(torch.tensor(math.log(15.0), device=device))
    trained = [*stage.parameters(), *projector.parameters()]
    for parameter in trained:
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW([*trained, scale], lr=config.lr, betas=(0.9, 0.98), weight_decay=config.weight_decay)
    running = 0.0
    with torch.random.fork_rng(), progress("align picture tokens", config.steps, "steps") as bar:
        torch.manual_seed(seed)
        for step in range(config.steps):
            for group in optimiser.param_groups:
                group["lr"] = config.lr * _schedule(step, config.steps)
            rows = torch.randint(len(labels), (config.batch,))
            views = torch.randint(len(tokens), (config.batch,))
            with torch.autocast(device.type, torch.bfloat16):
                shown = stage(F.dropout(tokens[views, rows].to(device).float(), config.dropout))
                found = projector(F.dropout(shown, config.dropout))
            found = found.float()
            kept = (torch.rand(*found.shape[:2], 1, device=device) >= config.token_dropout).float()
            mean = (found * kept).sum(1) / kept.sum(1).clamp(min=1)
            logits = F.normalize(mean - centre, dim=-1) @ targets.T * scale.exp().clamp(max=100)
            loss = F.cross_entropy(logits.masked_fill(unseen, -1e4), labels[rows].to(device))
            length = (found - centre).norm(dim=-1) / typical
            loss = loss + config.size * ((length - 1) ** 2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            running = 0.95 * running + 0.05 * float(loss.detach()) if step else float(loss.detach())
            bar.advance()
    for parameter in trained:
        parameter.requires_grad_(False)
    return {"steps": config.steps, "loss": round(running, 4)}


def _schedule(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 40) * (0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01)
