"""Tip-Adapter-F: the keys of the cache are trained by the cross-entropy of the support pictures' own logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from trireme.types import Floats

if TYPE_CHECKING:
    from trireme_tip_adapter import Cache, TipAdapterConfig


def train(cache: Cache, config: TipAdapterConfig, seed: int, device: str) -> Floats:
    """The keys (N, d) after the last epoch; they are not normalised again, as in the authors' code."""
    pictures, texts = (torch.from_numpy(part).to(device) for part in (cache.keys, cache.texts))
    labels = torch.from_numpy(cache.labels).to(device)
    keys = pictures.clone().requires_grad_(True)
    optimiser = torch.optim.AdamW([keys], lr=config.lr, eps=config.eps)
    steps = config.epochs * -(-len(pictures) // config.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    drawn = torch.Generator().manual_seed(seed)
    for _ in range(config.epochs):
        order = torch.randperm(len(pictures), generator=drawn)
        for rows in (order[start : start + config.batch] for start in range(0, len(order), config.batch)):
            shown = pictures[rows.to(device)]
            weights = torch.exp(config.beta * (shown @ keys.T - 1))
            votes = torch.zeros(len(shown), len(texts), device=device).index_add(1, labels, weights)
            loss = cross_entropy(config.scale * shown @ texts.T + config.alpha * votes, labels[rows.to(device)])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    found: Floats = keys.detach().cpu().numpy()
    return found
