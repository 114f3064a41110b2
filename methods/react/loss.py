"""The symmetric contrastive loss of CLIP over the pairs of a batch, also where it is spread over processes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def contrastive(images: Tensor, texts: Tensor, scale: Tensor | float) -> Tensor:
    """Mean of both cross-entropies (CLIP, Radford et al. 2021, Fig. 3; REACT keeps it).

    L = - 1 / 2n sum_i [ log softmax_j(s v_i . t_j)_i + log softmax_j(s v_j . t_i)_i ]

    Args:
        images: (n, d), L2-normalised; row i belongs to row i of `texts`.
        texts: (n, d), L2-normalised.
        scale: s, the exponentiated logit_scale.
    """
    logits = scale * images @ texts.T
    target = torch.arange(len(images), device=images.device)
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def gathered(rows: Tensor) -> Tensor:
    """(n, d) of this process -> (processes x n, d) in the order of ranks; gradients flow back to every process.

    Each process computes the whole loss, so its backward pass sends every row's gradient `processes` times; averaging
    the gradients of the weights over the processes, as DDP does, takes that factor out again.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return rows
    if not rows.requires_grad:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(rows.contiguous()))  # type: ignore[no-untyped-call]
