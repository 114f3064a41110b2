"""RECO's training loss: three symmetric contrastive terms (Iscen et al., arXiv 2306.07196)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def info_nce(images: Tensor, texts: Tensor, scale: Tensor | float) -> Tensor:
    """Symmetric InfoNCE, summed over the n pairs as the paper writes it.

    L(V, T) = - sum_i [ log softmax_j(v_i . t_j / tau)_i + log softmax_j(v_j . t_i / tau)_i ]

    Args:
        images: (n, d), row i belongs to row i of `texts`.
        texts: (n, d).
        scale: 1 / tau.
    """
    logits = scale * images @ texts.T
    target = torch.arange(len(images), device=images.device)
    return cross_entropy(logits, target, reduction="sum") + cross_entropy(logits.T, target, reduction="sum")


def reco_loss(v_bar: Tensor, t_bar: Tensor, v: Tensor, t: Tensor, scale: Tensor | float) -> Tensor:
    """L(V_bar, T_bar) + L(V_bar, T) + L(V, T_bar): refined with refined, and each refined side with the frozen other
    one.

    All four are (n, d). The sum over pairs is the paper's; the trainer divides it by n so that a step does not depend
    on the size of the batch.
    """
    return info_nce(v_bar, t_bar, scale) + info_nce(v_bar, t, scale) + info_nce(v, t_bar, scale)
