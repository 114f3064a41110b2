"""Regions of a benchmark's pictures in what was built or trained without knowing of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.retrieval.conftest import Pictures
from tests.retrieval.test_memory import FLAT, pair_set
from trireme.retrieval.encoders.openclip import OpenClipEncoder
from trireme.retrieval.memory import Memory
from trireme.retrieval.overlap import among, near_equal, same_pictures, trained_on
from trireme.retrieval.store import EmbeddingStore
from trireme.types import ImageRef, Region

BOX, OTHER = Region((3, 4, 20, 20)), Region((18, 10, 20, 20))


def regions(refs: list[ImageRef], region: Region) -> list[ImageRef]:
    return [replace(ref, region=region) for ref in refs]


def test_by_bytes_a_region_is_its_picture(tiny: OpenClipEncoder, pictures: Pictures) -> None:
    refs = pictures(6)
    memory = Memory.build(pair_set([*regions(refs[:2], BOX), *refs[2:4]]), EmbeddingStore(tiny), index=FLAT)
    asked = [refs[0], *regions([refs[1], refs[2], refs[5]], OTHER)]
    assert same_pictures(memory, asked) == ["p0", "p1", "p2"]
    told = trained_on([*regions(refs[:3], BOX), *regions(refs[:3], OTHER)])
    assert told["count"] == 3
    assert told == trained_on(refs[:3])
    assert among(told, asked) == asked[:3]


def test_by_embedding_a_region_is_looked_up_as_shown_and_as_its_picture(
    tiny: OpenClipEncoder, pictures: Pictures
) -> None:
    """The memory holds picture 0 saved anew, and BOX of picture 1 as a file; of 2 it holds nothing."""
    refs, store = pictures(3), EmbeddingStore(tiny)
    copies = pictures(3, seed=1)
    Image.open(refs[0].path).save(copies[0].path, compress_level=1)
    Image.open(refs[1].path).crop((3, 4, 23, 24)).save(copies[1].path)
    memory = Memory.build(pair_set(copies), store, index=FLAT)
    vectors = store.images([*regions(refs, BOX), *refs])
    close = (vectors @ np.asarray(memory.embeddings("image")).T).max(axis=1) >= 0.999  # noise: others are far
    found = near_equal(memory, store, regions(refs, BOX))
    assert found.compared == 6
    assert close.tolist() == [False, True, False, True, False, False]
    assert found.paths == [refs[1].path, refs[0].path]


@pytest.mark.parametrize("count", [1, 3])
def test_whole_pictures_are_looked_up_once(tiny: OpenClipEncoder, pictures: Pictures, count: int) -> None:
    refs, store = pictures(count), EmbeddingStore(tiny)
    memory = Memory.build(pair_set(refs), store, index=FLAT)
    found = near_equal(memory, store, refs)
    assert (found.compared, found.paths) == (count, [ref.path for ref in refs])
