"""Scores of a head while it trains, on the validation role only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trireme.retrieval.encoders.lite.model import LiteHead
from trireme.retrieval.encoders.lite.trunk import Trunk
from trireme.retrieval.encoders.lite.views import plain_tokens, read_pixels
from trireme.types import Benchmark, PairSet, Role


@dataclass(frozen=True, slots=True)
class Validation:
    """n validation pictures and, where given, m memory pictures, as trunk tokens.

    Attributes:
        subsets: name of a subset -> (n,) which pictures belong to it.
        unseen: (m,) memory pictures of classes outside of `common`: queries against the other sources of the memory.
    """

    tokens: Tensor
    labels: NDArray[np.int64]
    classes: Tensor
    subsets: dict[str, NDArray[np.bool_]]
    memory_tokens: Tensor
    memory_labels: NDArray[np.int64]

    @classmethod
    def prepare(cls, benchmark: Benchmark, classes: Tensor, trunk: Trunk, memory: PairSet | None) -> Validation:
        """Run the trunk over the VALIDATION samples of `benchmark` and over `memory`."""
        samples = benchmark.samples(Role.VALIDATION)
        labels = np.array([sample.label for sample in samples], dtype=np.int64)
        groups = np.array(benchmark.class_groups)[labels]
        subsets = {name: np.isin(groups, wanted) for name, wanted in benchmark.subsets.items() if wanted is not None}
        index = {class_id: row for row, class_id in enumerate(benchmark.class_ids)}
        pairs = [] if memory is None else [pair for pair in memory.pairs() if pair.label in index]
        tokens = plain_tokens(trunk, read_pixels([sample.image for sample in samples]))
        stored = plain_tokens(trunk, read_pixels([pair.image for pair in pairs])) if pairs else tokens[:0]
        stored_labels = np.array([index[pair.label] for pair in pairs], dtype=np.int64)
        return cls(tokens, labels, classes, subsets, stored, stored_labels)

    @torch.inference_mode()
    def measure(self, head: LiteHead) -> dict[str, float]:
        """Top-1 in percent of zero-shot, and of 1-NN in the memory, for every subset."""
        images = embed(head, self.tokens)
        right = {"zero_shot": (images @ self.classes.T).argmax(1).numpy() == self.labels}
        if len(self.memory_labels):
            nearest = (images @ embed(head, self.memory_tokens).T).argmax(1).numpy()
            right["1nn"] = self.memory_labels[nearest] == self.labels
        return {
            f"{method}/{subset}": round(100 * float(values[rows].mean()), 1)
            for method, values in right.items()
            for subset, rows in self.subsets.items()
            if rows.any()
        }


@torch.inference_mode()
def embed(head: LiteHead, tokens: Tensor, batch: int = 256) -> Tensor:
    """(n, tokens, width) of any float dtype -> (n, 384) float32."""
    return torch.cat([head(part.float()) for part in torch.split(tokens, batch)])
