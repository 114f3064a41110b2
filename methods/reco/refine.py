"""Retrieval and fusion as one step: frozen embeddings of a modality in, refined embeddings out."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import torch

from trireme.methods.recall import Recall
from trireme.methods.reco.config import RecoConfig
from trireme.methods.reco.fusion import Fusion, FusionShape, Identity, Start, build
from trireme.methods.reco.search import MODALITIES, Plan, gather, neighbours, plan
from trireme.retrieval.memory import Memory, Side
from trireme.types import Floats, Ints

_BLOCK = 1024


class Retriever:
    """Neighbours of image and text queries in one memory, by the plan of each modality.

    `memory` is None for a fusion that sees nothing retrieved; its neighbour lists are empty.
    """

    def __init__(self, memory: Memory | None, config: RecoConfig, encoder: str, device: str) -> None:
        self.memory, self._encoder = memory, encoder
        self._device = device if device.startswith("cuda") else "cpu"  # the others lack float64
        self.plans: dict[Side, Plan] = {side: plan(side, config.search, config.values) for side in MODALITIES}
        self.recall: dict[Side, Recall] = {side: Recall() for side in MODALITIES}

    def rows(self, queries: Floats, modality: Side, k: int) -> Ints:
        """(n, k) memory rows, nearest first, -1 padded."""
        return neighbours(self.memory, queries, self.plans[modality], k, self._encoder)

    def measure(self, queries: Floats, modality: Side, k: int) -> None:
        """Note how many of these queries' exact neighbours the memory's index finds; costs nothing for an exact one."""
        if self.memory is not None and len(queries):
            self.recall[modality].add(self.memory.recall(queries, self.plans[modality].searched, k), len(queries))

    def refine(self, fusion: Fusion, queries: Floats, rows: Ints, modality: Side) -> Floats:
        """phi(queries, what `rows` holds), (n, d).

        Computed in float64, so that the float32 result does not depend on how many queries are refined at once.
        """
        wide = deepcopy(fusion).to(self._device, torch.float64).eval()
        refined = np.empty(queries.shape, dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(queries), _BLOCK):
                part = slice(start, start + _BLOCK)
                query = torch.from_numpy(np.asarray(queries[part])).to(self._device, torch.float64)
                retrieved = gather(self.memory, self.plans[modality], rows[part], query)
                refined[part] = wide(query, retrieved).float().cpu().numpy()
        return refined


def start_of(setting: dict[str, Any], modality: Side) -> Start:
    """Where the fusion of a modality starts, out of a full setting."""
    return Start(*(float(setting[f"{modality}_{name}"]) for name in ("scale", "gate", "residual")))


def new_fusion(config: RecoConfig, setting: dict[str, Any], modality: Side, dim: int) -> Fusion:
    """An untrained fusion of one modality; the identity on a side that is not refined."""
    if config.sides not in ("both", modality):
        return Identity()
    k = int(setting["k"])
    shape = FusionShape(config.fusion, dim, k, config.heads, config.mlp_dim, config.norm, config.positions)
    return build(shape, start_of(setting, modality))
