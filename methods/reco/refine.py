"""Retrieval and fusion as one step: frozen embeddings of a modality in, refined embeddings out."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch

from trireme.methods.reco.config import RecoConfig
from trireme.methods.reco.fusion import Frozen, Fusion, FusionShape, Start, build
from trireme.methods.reco.search import MODALITIES, Plan, gather, neighbours, plan
from trireme.retrieval.encoders.base import Encoder
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

    def rows(self, queries: Floats, modality: Side, k: int) -> Ints:
        """(n, k) memory rows, nearest first, -1 padded."""
        return neighbours(self.memory, queries, self.plans[modality], k, self._encoder)

    def recall(self, queries: Floats, modality: Side, k: int) -> Floats | None:
        """(n,) share of each query's k exact neighbours that the memory's index finds; None where it finds them all."""
        if self.memory is None or self.memory.exact:
            return None
        return self.memory.index_recall(queries, self.plans[modality].searched, self.rows(queries, modality, k))

    def refine(self, fusion: Fusion, queries: Floats, rows: Ints, modality: Side) -> Floats:
        """phi(queries, what `rows` holds), (n, e).

        Computed in float64, so that the float32 result does not depend on how many queries are refined at once.
        """
        wide = deepcopy(fusion).to(self._device, torch.float64).eval()
        refined = [np.empty((0, queries.shape[1]), dtype=np.float32)] if not len(queries) else []
        with torch.inference_mode():
            for start in range(0, len(queries), _BLOCK):
                part = slice(start, start + _BLOCK)
                query = torch.from_numpy(np.asarray(queries[part])).to(self._device, torch.float64)
                retrieved = gather(self.memory, self.plans[modality], rows[part], query)
                refined.append(wide(query, retrieved).float().cpu().numpy())
        return np.concatenate(refined)


def new_fusion(config: RecoConfig, setting: Mapping[str, Any], modality: Side, encoder: Encoder) -> Fusion:
    """An untrained fusion of one modality, which starts at a setting; frozen on a side that is not refined."""
    values = {name: float(value) for name, value in setting.items()}
    scale = values.get(f"{modality}_scale", 1.0) * encoder.logit_scale
    start = Start(scale, *(values.get(f"{modality}_{name}", 0.0) for name in ("gate", "mix", "keep")))
    shape = FusionShape(
        kind=config.fusion,
        modality=modality,
        dim=encoder.dim,
        k=int(setting["k"]),
        heads=config.heads,
        mlp_dim=config.mlp_dim,
        norm=config.norm,
        positions=config.positions,
        share=values.get("share", 0.5),
    )
    fusion = build(shape, start)
    return fusion if config.sides in ("both", modality) else Frozen(fusion)
