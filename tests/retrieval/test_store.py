"""The embedding cache: each picture once per encoder, equal to recomputation, and named failures."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.retrieval.conftest import Pictures
from trireme.errors import DataError
from trireme.retrieval import store as store_module
from trireme.retrieval.encoders.openclip import OpenClipConfig, OpenClipEncoder
from trireme.retrieval.pictures import content_key, open_picture
from trireme.retrieval.segments import Segments
from trireme.retrieval.store import EmbeddingStore
from trireme.types import Floats, ImageRef, Region


def recomputed(encoder: OpenClipEncoder, refs: list[ImageRef]) -> Floats:
    """One picture after the other, no cache."""
    rows = [encoder.encode_pixels(encoder.preprocess(open_picture(ref))[None]) for ref in refs]
    return np.concatenate(rows)


def test_cache_hit_equals_recomputation_and_needs_no_forward(tiny: OpenClipEncoder, pictures: Pictures) -> None:
    refs = pictures(10)
    first = EmbeddingStore(tiny, batch_size=4)
    found = first.images(refs)
    np.testing.assert_allclose(found, recomputed(tiny, refs), atol=1e-6)
    assert first.forwards == 10
    again = EmbeddingStore(OpenClipEncoder(tiny.config), batch_size=4)
    assert np.array_equal(again.images(refs), found)
    assert again.forwards == 0
    assert "model" not in vars(again.encoder)  # the weights were not even loaded


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.lists(st.integers(0, 9), max_size=15), batch=st.integers(1, 7))
def test_order_repetition_and_batch_size_do_not_matter(
    tiny: OpenClipEncoder, pictures: Pictures, tmp_path_factory: pytest.TempPathFactory, order: list[int], batch: int
) -> None:
    refs = pictures(10)
    store = EmbeddingStore(tiny, tmp_path_factory.mktemp("root"), batch_size=batch)
    found = store.images([refs[i] for i in order])
    assert found.shape == (len(order), 32)
    assert store.forwards == len(set(order))
    if order:
        np.testing.assert_allclose(found, recomputed(tiny, [refs[i] for i in order]), atol=1e-6)


def test_changed_file_is_encoded_again_and_equal_bytes_are_not(tiny: OpenClipEncoder, pictures: Pictures) -> None:
    one, two = pictures(2)
    store = EmbeddingStore(tiny)
    before = store.images([one])
    Path(one.path).write_bytes(Path(two.path).read_bytes())
    assert np.array_equal(store.images([one]), store.images([two]))
    assert not np.array_equal(store.images([one]), before)
    assert store.forwards == 2


def test_encoders_do_not_share_rows(tiny: OpenClipEncoder, pictures: Pictures) -> None:
    half = OpenClipEncoder(replace(tiny.config, dtype="bfloat16"))
    refs = pictures(3)
    one, other = EmbeddingStore(tiny), EmbeddingStore(half)
    assert not np.array_equal(one.images(refs), other.images(refs))
    assert other.forwards == 3


def test_texts_are_cached_too(tiny: OpenClipEncoder) -> None:
    texts = ["a fox", "a clock", "a fox", "", "naïve 🦊"]
    store = EmbeddingStore(tiny)
    found = store.texts(texts)
    np.testing.assert_allclose(found, np.concatenate([tiny.encode_texts([text]) for text in texts]), atol=1e-6)
    assert store.forwards == 4
    again = EmbeddingStore(tiny)
    assert np.array_equal(again.texts(texts[::-1]), found[::-1])
    assert again.forwards == 0
    assert store.texts([]).shape == (0, 32)


def test_iterate_gives_the_same_rows_in_blocks(tiny: OpenClipEncoder, pictures: Pictures) -> None:
    refs = pictures(7)
    store = EmbeddingStore(tiny)
    blocks = list(store.iterate(refs, batch=3))
    assert [len(block) for block in blocks] == [3, 3, 1]
    assert np.array_equal(np.concatenate(blocks), store.images(refs))


def test_unreadable_pictures_are_reported_and_not_cached(tiny: OpenClipEncoder, pictures: Pictures) -> None:
    refs = pictures(6)
    whole = Path(refs[1].path).read_bytes()
    Path(refs[1].path).write_bytes(whole[:200])
    Path(refs[3].path).unlink()
    refs[4] = replace(refs[4], sha256="0" * 64)
    refs.append(refs[1])
    store = EmbeddingStore(tiny)
    failed = store.prepare(refs)
    assert sorted(failed) == [1, 3, 4, 6]
    assert "truncated" in failed[1].lower()
    assert failed[6] == failed[1]
    assert "No such file" in failed[3]
    assert "SHA-256 differs" in failed[4]
    assert store.forwards == 3
    with pytest.raises(DataError, match=r"0001\.png: .*[Tt]runcated.*4 unreadable in all"):
        store.images(refs)
    Path(refs[1].path).write_bytes(whole)
    assert sorted(store.prepare(refs[:3])) == []


class _NanFor(OpenClipEncoder):
    """The real encoder, broken for white pictures."""

    def encode_pixels(self, pixels: torch.Tensor) -> Floats:
        found = super().encode_pixels(pixels)
        found[pixels.amin(dim=(1, 2, 3)).numpy() > 1.5] = np.nan
        return found


def test_nan_embeddings_are_refused_by_name(tiny_config: OpenClipConfig, pictures: Pictures, tmp_path: Path) -> None:
    refs = pictures(6)
    Image.new("RGB", (40, 40), "white").save(tmp_path / "white.png")
    refs.append(ImageRef(str(tmp_path / "white.png")))
    store = EmbeddingStore(_NanFor(tiny_config), batch_size=2)
    with pytest.raises(DataError, match=r"NaN .*white\.png"):
        store.prepare(refs)
    assert store.forwards == 6  # the batches before it
    again = EmbeddingStore(OpenClipEncoder(tiny_config))
    again.prepare(refs[:6])
    assert again.forwards == 0  # and they were kept


def test_damaged_segment_is_encoded_again(
    tiny: OpenClipEncoder, pictures: Pictures, capsys: pytest.CaptureFixture[str]
) -> None:
    refs = pictures(8)
    store = EmbeddingStore(tiny)
    expected = store.images(refs)
    path = next((store.folder / "images").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-100])
    again = EmbeddingStore(tiny)
    assert np.array_equal(again.images(refs), expected)
    assert again.forwards == 8
    content = bytearray(path.read_bytes())
    content[bytes(content).find(expected[3].tobytes()) + 10] ^= 255
    path.write_bytes(content)
    third = EmbeddingStore(tiny)
    assert np.array_equal(third.images(refs), expected)
    assert third.forwards == 8
    assert capsys.readouterr().err.count(f"{path} is damaged") == 2


def test_manifest_hash_saves_reading(tiny: OpenClipEncoder, pictures: Pictures) -> None:
    """A picture whose manifest gives its hash is served from the cache even where the file is gone."""
    refs = [replace(ref, sha256=hashlib.sha256(Path(ref.path).read_bytes()).hexdigest()) for ref in pictures(3)]
    expected = EmbeddingStore(tiny).images(refs)
    Path(refs[0].path).unlink()
    assert np.array_equal(EmbeddingStore(tiny).images(refs), expected)


def test_hash_that_is_none_is_named(tiny: OpenClipEncoder, pictures: Pictures) -> None:
    for digest in ("xyz", "ab"):
        with pytest.raises(DataError, match=rf"0000\.png: its manifest lists '{digest}', which is not a SHA-256"):
            EmbeddingStore(tiny).prepare([replace(pictures(1)[0], sha256=digest)])


def test_rows_reach_the_disk_in_chunks(
    tiny: OpenClipEncoder, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: batches of 4, a flush at 8 rows, 20 pictures: segments of 8, 8 and 4 rows."""
    monkeypatch.setattr(store_module, "FLUSH_ROWS", 8)
    store = EmbeddingStore(tiny, batch_size=4)
    store.prepare(pictures(20))
    assert len(list((store.folder / "images").glob("*.safetensors"))) == 3


BOXES = [Region((x, y, 12, 9), crop=1.5, blur=0.2) for x in range(0, 20, 4) for y in range(0, 20, 4)]


def test_whole_pictures_keep_the_key_that_they_had(tiny: OpenClipEncoder, pictures: Pictures) -> None:
    """The SHA-256 of their bytes: what was cached before there were regions is found."""
    refs = pictures(2)
    store = EmbeddingStore(tiny)
    vectors = store.images([*refs, replace(refs[0], region=BOXES[0])])
    digests = [hashlib.sha256(Path(ref.path).read_bytes()).hexdigest() for ref in refs]
    keys = [*digests, content_key(digests[0], BOXES[0])]
    stored = Segments(store.folder / "images", 32)
    rows = stored.lookup(np.array([list(bytes.fromhex(key)) for key in keys], dtype=np.uint8))
    assert (rows >= 0).all()
    assert np.array_equal(stored.gather(rows), vectors)


def test_regions_are_pictures_of_their_own(tiny: OpenClipEncoder, pictures: Pictures) -> None:
    refs = pictures(2)
    asked = [replace(ref, region=box) for ref in refs for box in (*BOXES, None)]
    store = EmbeddingStore(tiny, batch_size=7)
    found = store.images(asked)
    np.testing.assert_allclose(found, recomputed(tiny, asked), atol=1e-6)
    assert len(np.unique(found, axis=0)) == len(asked) == store.forwards == 52
    again = EmbeddingStore(tiny)
    listed = [replace(ref, sha256=hashlib.sha256(Path(ref.path).read_bytes()).hexdigest()) for ref in asked]
    assert np.array_equal(again.images(listed[::-1]), found[::-1])
    assert again.forwards == 0


def test_regions_of_one_file_are_read_together(
    tiny: OpenClipEncoder, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: 25 regions a file, 16 of them at once: two readings of each of three files."""
    read = []
    decode = store_module.load_image
    monkeypatch.setattr(store_module, "load_image", lambda blob: read.append(blob) or decode(blob))
    store = EmbeddingStore(tiny, batch_size=7)
    assert store.prepare([replace(ref, region=box) for ref in pictures(3) for box in BOXES]) == {}
    assert (len(read), len(set(read)), store.forwards) == (6, 3, 75)


def test_a_wrong_region_is_reported_and_the_others_of_its_file_are_not(
    tiny: OpenClipEncoder, pictures: Pictures
) -> None:
    [ref, other] = pictures(2)
    Path(other.path).unlink()
    wrong = [Region((50, 0, 5, 5)), Region((0, 0, 0, 5))]
    asked = [replace(ref, region=box) for box in (BOXES[0], *wrong, BOXES[1])] + [replace(other, region=BOXES[0])]
    store = EmbeddingStore(tiny)
    failed = store.prepare(asked)
    assert sorted(failed) == [1, 2, 4]
    assert failed[1] == "its box (50, 0, 5, 5) lies outside of the picture (40 x 40 pixels)"
    assert "no area" in failed[2]
    assert "No such file" in failed[4]
    assert store.forwards == 2
    with pytest.raises(DataError, match=r"0000\.png: its box \(50, 0, 5, 5\) lies outside"):
        store.images(asked)


def test_a_region_of_other_bytes_than_its_manifest_lists_is_refused(tiny: OpenClipEncoder, pictures: Pictures) -> None:
    ref = replace(pictures(1)[0], sha256="0" * 64, region=BOXES[0])
    assert "SHA-256 differs" in EmbeddingStore(tiny).prepare([ref])[0]
