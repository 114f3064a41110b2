"""Memories that were built elsewhere, and pictures of the benchmark in them. Real FAISS, a real model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.end_to_end.conftest import Place
from trireme.retrieval.encoders.openclip import OpenClipConfig, OpenClipEncoder
from trireme.retrieval.store import EmbeddingStore
from trireme.types import ImageRef

TEST = ("red square/003.png", "grey square/011.png")


@pytest.fixture
def built(place: Place, pictures: Path, model: Path) -> Callable[..., Path]:
    """`built("setting=value")`: the folder of a memory of the training pictures, as `trireme memory build` makes it."""

    def build(*settings: str) -> Path:
        encoder = ("encoder=open_clip", f"encoder.model=local-dir:{model}")
        said = place.trireme("memory", "build", f"folder:{pictures / 'train'}", *encoder, *settings).stdout
        return Path(said.split("  ")[-1].strip())

    return build


def with_memory(comparison: Sequence[str], *memory: str) -> list[str]:
    return [*(part for part in comparison if not part.startswith("memory=")), *memory]


def embeddings(model: Path, folder: Path) -> np.ndarray:
    store = EmbeddingStore(OpenClipEncoder(OpenClipConfig(model=f"local-dir:{model}", device="cpu")))
    return store.images([ImageRef(str(path)) for path in sorted(folder.rglob("*.png"))])


def test_a_memory_that_holds_a_test_picture_is_refused(
    place: Place, comparison: tuple[str, ...], pictures: Path, built: Callable[..., Path]
) -> None:
    """By its bytes; the methods without a memory still run, and both ways out that the error names work."""
    for name in TEST:
        (pictures / "train" / name).with_stem("copy").write_bytes((pictures / "test" / name).read_bytes())
    test = f"folder:{pictures / 'test'}"
    done = place.trireme(*with_memory(comparison, f"memory=built:{built()}"), code=1)
    assert f"holds 2 pictures of '{test}' or of its validation (first: grey square/copy.png)" in done.stderr
    assert f"use memory=folder:{pictures / 'train'}" in done.stderr
    assert f"memory.deduplicate_against=[{test}]" in done.stderr
    assert set(place.records()) == {"zero_shot"}
    place.trireme(*comparison, "out=whole")
    clean = built(f"memory.deduplicate_against=[{test}]")
    place.trireme(*with_memory(comparison, f"memory=built:{clean}"), "out=clean")
    sizes = {out: place.records(out)["knn"]["memory"]["size"] for out in ("whole", "clean")}  # type: ignore[index]
    assert sizes == {"whole": 60, "clean": 60}


@pytest.mark.parametrize("kind", ["built", "hnsw", "faiss"])
def test_pictures_saved_again_are_counted(
    kind: str, place: Place, comparison: tuple[str, ...], pictures: Path, model: Path, built: Callable[..., Path]
) -> None:
    """Other bytes, the same pixels. By hand: cosines of every test picture with every memory picture, in numpy."""
    for name in TEST:
        copy = (pictures / "train" / name).with_stem("saved again")
        Image.open(pictures / "test" / name).save(copy, compress_level=1)
        assert copy.read_bytes() != (pictures / "test" / name).read_bytes()
    folder = built()
    if kind == "faiss":
        vectors = np.load(folder / "image.npy")
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        faiss.write_index(index, str(place.folder / "train.index"))
        labels = pq.read_table(folder / "pairs.parquet")["label"].to_pylist()
        (place.folder / "labels.txt").write_text("\n".join(labels))
        memory = ["memory=faiss:train.index", "memory.labels=labels.txt"]
    else:  # the poorest of graphs may miss what is asked for; the count is exact all the same
        graph = ["memory.index.kind=hnsw", "memory.index.m=2", "memory.index.ef_search=1"]
        memory = [f"memory=built:{folder}", *(graph if kind == "hnsw" else [])]
    done = place.trireme(*with_memory([part.replace("zero_shot,", "") for part in comparison], *memory))
    nearest = (embeddings(model, pictures / "test") @ embeddings(model, pictures / "train").T).max(axis=1)
    found = int((nearest >= 0.999).sum())
    assert 2 <= found < 120
    near = place.records()["knn"]["memory"]["near_equal"]  # type: ignore[index]
    assert near == {"cosine": 0.999, "compared": 120, "found": found}
    assert done.stderr.count("warning: ") == 1
    assert f"for {found} of 120 test and validation pictures" in done.stderr


def test_a_memory_built_for_the_run_is_not_looked_through(place: Place, comparison: tuple[str, ...]) -> None:
    place.trireme(*comparison)
    assert place.records()["knn"]["memory"]["near_equal"] is None  # type: ignore[index]
