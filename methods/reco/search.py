"""Whose keys are searched and whose embeddings are fused: RECO's uni-modal search, cross-modal fusion, and its
ablations.

Shapes: n queries, k neighbours, d embedding dimension, N memory pairs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trireme.errors import unknown_name
from trireme.retrieval.memory import Memory, Side
from trireme.types import Floats, Ints

MODES = ("uni", "cross")
MODALITIES: tuple[Side, Side] = ("image", "text")


@dataclass(frozen=True, slots=True)
class Plan:
    """The sides of the memory that queries of one modality use.

    Attributes:
        searched: the side whose embeddings are compared with the query, and the keys of the fusion's attention.
        fused: the side whose embeddings are fused into the query, the values.
    """

    searched: Side
    fused: Side


def plan(modality: Side, search: str, values: str) -> Plan:
    """The plan of one modality.

    `search` "uni" compares the query with its own modality, "cross" with the other one. `values` "cross" fuses
    embeddings of the other modality, "uni" of the query's own. RECO is ("uni", "cross"); Table 5 of the paper has the
    rest.

    Raises:
        UsageError: a mode is neither "uni" nor "cross".
    """
    for mode in (search, values):
        if mode not in MODES:
            raise unknown_name("reco mode of search or fusion", mode, MODES)
    other: Side = "text" if modality == "image" else "image"
    return Plan(modality if search == "uni" else other, modality if values == "uni" else other)


class Retrieved(NamedTuple):
    """What a fusion sees of the memory for n queries."""

    keys: Tensor
    """(n, k, d) embeddings of the searched side"""
    values: Tensor
    """(n, k, d) embeddings of the fused side"""
    found: Tensor
    """(n, k) bool; False where the memory had fewer than k pairs to give"""


def neighbours(
    memory: Memory | None,
    queries: Floats,
    chosen: Plan,
    k: int,
    encoder: str,
    exclude: Sequence[Collection[str]] | None = None,
) -> Ints:
    """(n, k) memory rows of the nearest pairs, nearest first, -1 padded. Labels play no part.

    A fusion that sees nothing retrieved has no memory; its lists are (n, 0).
    """
    if memory is None:
        return np.zeros((len(queries), 0), dtype=np.int64)
    return memory.search(queries, chosen.searched, k, exclude=exclude, encoder=encoder).rows


def gather(memory: Memory | None, chosen: Plan, rows: Ints, like: Tensor) -> Retrieved:
    """The embeddings of both sides for (n, k) rows, on the device and in the dtype of `like`, which is (n, d)."""
    if memory is None:
        nothing = like.new_zeros(len(rows), 0, like.shape[1])
        return Retrieved(nothing, nothing, torch.zeros(len(rows), 0, dtype=torch.bool, device=like.device))
    return Retrieved(
        _take(memory.embeddings(chosen.searched), rows, like),
        _take(memory.embeddings(chosen.fused), rows, like),
        torch.from_numpy(rows >= 0).to(like.device),
    )


def _take(embeddings: Floats, rows: Ints, like: Tensor) -> Tensor:
    taken = np.asarray(embeddings[np.maximum(rows, 0).ravel()], dtype=np.float32)
    return torch.from_numpy(taken).view(*rows.shape, -1).to(device=like.device, dtype=like.dtype)
