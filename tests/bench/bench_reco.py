"""Training samples/s of RECO's fusion with neighbours found once, beside a loop that searches again every epoch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

import numpy as np

from tests.bench.bench_retrieval import alternating
from trireme.methods.reco.fusion import Fusion, FusionShape, Start, build
from trireme.methods.reco.search import MODALITIES, plan
from trireme.methods.reco.training import Recipe, TrainingSet, train
from trireme.retrieval.index import FlatIndex
from trireme.retrieval.memory import Memory, Side
from trireme.retrieval.search import Hits, search_without
from trireme.types import Floats, Ints

PAIRS, SIZE, DIM, K, REPEATS = 2048, 20_000, 384, 10, 3
RECIPE = Recipe(
    epochs=1,
    batch=512,
    lr=1e-4,
    weight_decay=0.0,
    warmup=0.0,
    scale=16.0,
    learn_scale=False,
    rotate=False,
    distinct_captions=True,
)


class _Vectors:
    """The two things that training asks a memory for, over random vectors: embeddings, search without the pair."""

    def __init__(self) -> None:
        self._sides: dict[str, Floats] = {"image": _unit(SIZE, 0), "text": _unit(SIZE, 1)}
        self._indexes = {side: FlatIndex(vectors) for side, vectors in self._sides.items()}

    def embeddings(self, side: Side) -> Floats:
        return self._sides[side]

    def search(self, queries: Floats, side: Side, k: int, exclude: Sequence[Collection[int]]) -> Hits:
        excluded = [np.array(sorted(rows), dtype=np.int64) for rows in exclude]
        return search_without(self._indexes[side].search, queries, k, excluded, SIZE)


def bench_reco_training() -> list[dict[str, Any]]:
    """One epoch over pairs of the memory itself, for our fusion and for the paper's transformer layer."""
    memory = _Vectors()
    own = [{i} for i in range(PAIRS)]
    queries: dict[Side, Floats] = {side: memory.embeddings(side)[:PAIRS] for side in MODALITIES}
    plans = {side: plan(side, "uni", "cross") for side in MODALITIES}

    def search() -> dict[Side, Ints]:
        return {side: memory.search(queries[side], plans[side].searched, K, own).rows for side in MODALITIES}

    data = TrainingSet([str(i) for i in range(PAIRS)], queries, search(), plans, np.arange(PAIRS))
    rows = []
    for kind in ("paired", "transformer"):
        fusions: dict[Side, Fusion] = {
            side: build(FusionShape(kind, side, DIM, K, 8), Start(20.0, gate=1.0)) for side in MODALITIES
        }

        def epoch(fusions: dict[Side, Fusion] = fusions) -> object:
            return train(fusions, data, cast(Memory, memory), RECIPE, 0, "cpu")

        cached, again = alternating(epoch, lambda epoch=epoch: (search(), epoch()), REPEATS)
        what = f"RECO training, {kind}, {PAIRS:,} pairs, memory {SIZE:,} x {DIM}, k={K}, batch {RECIPE.batch}"
        rows.append(
            {
                "what": what,
                "cached samples/s": PAIRS / cached,
                "searching every epoch samples/s": PAIRS / again,
                "time ratio": cached / again,
            }
        )
    return rows


def _unit(n: int, seed: int) -> Floats:
    rows = np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)
    return cast(Floats, rows / np.linalg.norm(rows, axis=1, keepdims=True))
