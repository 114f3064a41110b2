"""What the head of `lite` is trained for. n pictures in a batch, d = 384."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def contrastive(images: Tensor, texts: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE in which every text of a picture's class is its positive.

    With all classes different it is CLIP's loss (Radford et al. 2021, section 2.3); a class met m times shares its
    target among m.

    Args:
        images, texts: (n, d), L2-normalised.
        labels: (n,) class indices.
        scale: factor on the cosines.
    """
    logits = scale * images @ texts.T
    positive = (labels[:, None] == labels[None]).to(logits.dtype)
    target = positive / positive.sum(1, keepdim=True)
    return (_cross_entropy(logits, target) + _cross_entropy(logits.T, target)) / 2


def keep_neighbours(images: Tensor, features: Tensor, temperature: float) -> Tensor:
    """Divergence of the similarities among a batch's embeddings from those among its frozen trunk features.

    It keeps what the trunk tells apart, on which classes without training rest. The idea is relational distillation
    (Park et al. 2019); the form, a softmax over similarities, is SEED's (Fang et al. 2021); the trunk is the teacher.

    Args:
        images: (n, d), L2-normalised.
        features: (n, f), centred and L2-normalised.
    """
    own = torch.eye(len(images), dtype=torch.bool, device=images.device)
    student = (images @ images.T / temperature).masked_fill(own, -1e4)
    teacher = (features @ features.T / temperature).masked_fill(own, -1e4)
    return F.kl_div(F.log_softmax(student, 1), F.softmax(teacher, 1), reduction="batchmean")


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return -(target * F.log_softmax(logits, 1)).sum(1).mean()
