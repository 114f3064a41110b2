"""Encoding through the store beside a bare loop over the same model; search through retrieval beside bare FAISS.

Every row is one comparison in one process: repetitions alternate, the ratio is that of the medians (ours / bare).
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from PIL import Image

from trireme.errors import TriremeError
from trireme.progress import say
from trireme.retrieval.encoders.base import Encoder
from trireme.retrieval.encoders.openclip import OpenClipConfig, OpenClipEncoder
from trireme.retrieval.index import ApproximateIndex, FlatIndex, Index, IndexConfig
from trireme.retrieval.search import checked_queries
from trireme.retrieval.store import EmbeddingStore
from trireme.types import Floats, ImageRef

BATCH = 64
REPEATS = 7


def bench_encoding() -> list[dict[str, Any]]:
    """Images/s of a small ViT (random weights) and, where its weights are there, of `lite`; a cold cache each time."""
    with tempfile.TemporaryDirectory() as folder:
        vit = OpenClipEncoder(OpenClipConfig(model="ViT-S-32-alt", random=True))
        rows = [_encoding(vit, photos(Path(folder), 128, 320))]
        lite = _lite()
        if lite is not None:
            rows.append(_encoding(lite, photos(Path(folder), 1024, 128)))
    return rows


def bench_search() -> list[dict[str, Any]]:
    """Queries/s, flat and hnsw, over a memory of the default world's size and over a larger one."""
    rows = []
    for size, dim, queries in ((5_000, 384, 2_000), (50_000, 512, 1_000)):
        base, asked = _unit(size, dim, 0), _unit(queries, dim, 1)
        bare_flat = faiss.IndexFlatIP(dim)
        bare_flat.add(base)
        rows.append(_search(f"flat {size:,} x {dim}", FlatIndex(base), bare_flat, asked, 10))
        with tempfile.TemporaryDirectory() as folder:
            ours = ApproximateIndex(IndexConfig("hnsw"), base, Path(folder) / "hnsw.faiss")
            bare = faiss.read_index(str(Path(folder) / "hnsw.faiss"))
            bare.hnsw.efSearch = 16
            rows.append(_search(f"hnsw {size:,} x {dim}", ours, bare, asked, 10))
    return rows


def _encoding(encoder: Encoder, refs: list[ImageRef]) -> dict[str, Any]:
    encoder.encode_pixels(torch.stack([encoder.preprocess(Image.open(refs[0].path).convert("RGB"))]))

    def ours() -> Floats:
        with tempfile.TemporaryDirectory() as root:
            return EmbeddingStore(encoder, Path(root), batch_size=BATCH).images(refs)

    def bare() -> Floats:
        parts = []
        for start in range(0, len(refs), BATCH):
            images = [Image.open(ref.path).convert("RGB") for ref in refs[start : start + BATCH]]
            parts.append(encoder.encode_pixels(torch.stack([encoder.preprocess(image) for image in images])))
        return np.concatenate(parts)

    np.testing.assert_allclose(ours(), bare(), atol=1e-5)
    mine, other = alternating(ours, bare)
    what = f"encode {len(refs)} pictures, {encoder.name}, batch {BATCH}"
    return {
        "what": what,
        "ours images/s": len(refs) / mine,
        "bare images/s": len(refs) / other,
        "time ratio": mine / other,
    }


def _search(what: str, ours: Index, bare: Any, queries: Floats, k: int) -> dict[str, Any]:
    def through_retrieval() -> object:
        return ours.search(checked_queries(queries, queries.shape[1], k, "bench"), k)  # as `Memory.search` does

    mine, other = alternating(through_retrieval, lambda: bare.search(queries, k), at_least=5.0)
    n = len(queries)
    return {
        "what": f"search {what}, k={k}",
        "ours queries/s": n / mine,
        "bare queries/s": n / other,
        "time ratio": mine / other,
    }


def alternating(
    ours: Callable[[], object], bare: Callable[[], object], repeats: int = REPEATS, at_least: float = 0.0
) -> tuple[float, float]:
    """Median seconds of both, measured in turns after a warm-up, so that drift of the machine hits both alike.

    at_least: seconds that the turns take together; what takes milliseconds is measured often enough to tell 10 %.
    """
    ours(), bare()
    seconds: tuple[list[float], list[float]] = ([], [])
    began = time.perf_counter()
    while len(seconds[0]) < repeats or time.perf_counter() - began < at_least:
        for function, record in zip((ours, bare), seconds, strict=True):
            start = time.perf_counter()
            function()
            record.append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def photos(folder: Path, n: int, side: int) -> list[ImageRef]:
    """JPEG files with the structure of photographs (smooth shapes and some noise)."""
    rng = np.random.default_rng(side)
    refs = []
    for i in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
            (side, side), Image.Resampling.BICUBIC
        )
        noisy = np.asarray(coarse, dtype=np.int16) + rng.integers(-12, 13, (side, side, 3))
        path = folder / f"{side}-{i:05}.jpg"
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        os.utime(path, (1, 1))
        refs.append(ImageRef(str(path)))
    return refs


def _unit(n: int, dim: int, seed: int) -> Floats:
    rows = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _lite() -> Encoder | None:
    try:
        from trireme.retrieval.encoders.lite import LiteEncoder

        encoder: Encoder = LiteEncoder(LiteEncoder.Config())
        encoder.encode_pixels(encoder.preprocess(Image.new("RGB", (128, 128)))[None])
    except TriremeError as error:  # weights not fetched yet: the row is left out, and said so
        say(f"lite is left out of the encoding benchmark: {error}")
        return None
    return encoder
