"""The memory: what goes in, what is left out, the four searches, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.retrieval.conftest import Pictures
from tests.retrieval.test_search import assert_equal, brute_force
from trireme.benchmarks.few_shot import FewShot
from trireme.errors import DataError, MemoryMismatchError, TriremeError, UsageError
from trireme.files import fingerprint, sha256_file
from trireme.retrieval.encoders.openclip import OpenClipEncoder
from trireme.retrieval.index import IndexConfig
from trireme.retrieval.memory import Hits, Memory
from trireme.retrieval.store import EmbeddingStore
from trireme.types import Floats, ImageRef, Pair, PairSet, Region

FLAT = IndexConfig()


@dataclass(frozen=True)
class Listed:
    """A pair set that is a list."""

    items: tuple[Pair, ...]
    name: str = "listed"

    @property
    def fingerprint(self) -> str:
        return fingerprint([(pair.id, pair.image.path, pair.caption, pair.label) for pair in self.items])

    def pairs(self) -> Sequence[Pair]:
        return self.items


def pair_set(refs: Sequence[ImageRef]) -> Listed:
    return Listed(tuple(Pair(f"p{i}", ref, f"caption {i}", f"c{i % 3}", "noise") for i, ref in enumerate(refs)))


@pytest.fixture
def store(tiny: OpenClipEncoder) -> EmbeddingStore:
    return EmbeddingStore(tiny)


@pytest.fixture
def memory(store: EmbeddingStore, pictures: Pictures) -> Memory:
    return Memory.build(pair_set(pictures(20)), store, index=FLAT)


def test_it_holds_the_pairs_in_order(memory: Memory, store: EmbeddingStore, pictures: Pictures) -> None:
    refs = pictures(20)
    assert isinstance(pair_set(refs), PairSet)
    assert len(memory) == 20
    assert memory.ids.tolist() == [f"p{i}" for i in range(20)]
    assert memory.labels.tolist() == [f"c{i % 3}" for i in range(20)]
    assert set(memory.sources) == {"noise"}
    assert memory.captions([3, 1, 3]) == ["caption 3", "caption 1", "caption 3"]
    assert [ref.path for ref in memory.refs(np.array([2, 0]))] == [refs[2].path, refs[0].path]
    assert np.array_equal(store.images(memory.refs([4])), store.images([refs[4]]))
    assert np.array_equal(memory.embeddings("image"), store.images(refs))
    assert np.array_equal(memory.embeddings("text"), store.texts([f"caption {i}" for i in range(20)]))
    assert isinstance(memory.embeddings("image"), np.memmap)
    assert not memory.embeddings("image").flags.writeable


def test_the_four_searches_equal_brute_force(memory: Memory, store: EmbeddingStore, pictures: Pictures) -> None:
    queries = {"image": store.images(pictures(5, seed=1)), "text": store.texts(["a fox", "caption 7"])}
    for asked in queries.values():
        for side in ("image", "text"):
            found = memory.search(asked, side, 6, encoder=store.encoder.fingerprint)
            assert_equal(found, brute_force(asked, memory.embeddings(side), 6))
    own = memory.search(memory.embeddings("text"), "text", 1)
    assert own.rows[:, 0].tolist() == list(range(20))


def test_excluded_and_allowed_together(memory: Memory) -> None:
    """Reference: brute force over the allowed rows that are not excluded. Ids of no pair are no error."""
    queries = np.asarray(memory.embeddings("image"))
    allowed = np.array([19, 3, 5, 7, 7, 11])
    exclude = [[f"p{i}", "elsewhere/x"] for i in range(20)]
    found = memory.search(queries, "image", 6, exclude=exclude, allowed=allowed)
    for i in range(20):
        left = np.setdiff1d(allowed, [i])
        expected = brute_force(queries[i : i + 1], memory.embeddings("image"), 6, left)
        assert_equal(Hits(found.rows[i : i + 1], found.scores[i : i + 1]), expected)


def test_no_row_allowed_and_more_than_there_are(memory: Memory) -> None:
    queries = np.asarray(memory.embeddings("image")[:2])
    assert (memory.search(queries, "image", 3, allowed=np.array([], dtype=np.int64)).rows == -1).all()
    found = memory.search(queries, "image", 30)
    assert (found.rows[:, 20:] == -1).all()
    assert (found.scores[:, 20:] == -np.inf).all()
    assert sorted(found.rows[0, :20]) == list(range(20))
    nothing = memory.search(queries, "image", 3, exclude=[list(memory.ids)] * 2)
    assert (nothing.rows == -1).all()


def test_the_same_inputs_are_opened_not_built(store: EmbeddingStore, memory: Memory, pictures: Pictures) -> None:
    before = (memory.folder / "manifest.json").stat().st_mtime_ns
    fresh = EmbeddingStore(OpenClipEncoder(store.encoder.config))
    again = Memory.build(pair_set(pictures(20)), fresh, index=FLAT)
    assert (again.folder, again.fingerprint) == (memory.folder, memory.fingerprint)
    assert (memory.folder / "manifest.json").stat().st_mtime_ns == before
    assert fresh.forwards == 0
    other = Memory.build(pair_set(pictures(19)), fresh, index=FLAT)
    assert other.fingerprint != memory.fingerprint


def test_near_duplicates_go_and_are_counted(store: EmbeddingStore, pictures: Pictures, tmp_path: Path) -> None:
    refs = pictures(10)
    Path(refs[8].path).write_bytes(b"no picture")
    shutil.copy(refs[2].path, tmp_path / "test.png")
    tests = [ImageRef(str(tmp_path / "test.png")), refs[5], *pictures(3, seed=1)]
    built = Memory.build(pair_set(refs), store, index=FLAT, near_duplicates_of=tests, threshold=0.9)
    assert built.manifest["counts"] == {"asked": 10, "kept": 7, "unreadable": 1, "near_duplicates": 2}
    assert built.ids.tolist() == ["p0", "p1", "p3", "p4", "p6", "p7", "p9"]
    assert [entry["id"] for entry in built.manifest["near_duplicates"]["removed"]] == ["p2", "p5"]
    assert built.manifest["near_duplicates"]["threshold"] == 0.9
    assert built.manifest["unreadable"][0]["id"] == "p8"
    plain = Memory.build(pair_set(refs), store, index=FLAT)
    assert len(plain) == 9
    assert plain.fingerprint != built.fingerprint
    looser = Memory.build(pair_set(refs), store, index=FLAT, near_duplicates_of=tests, threshold=0.8)
    assert looser.fingerprint != built.fingerprint


def drawn(refs: Sequence[ImageRef], shots: int, rule: str = "first") -> FewShot:
    """Of three classes: p0, p3, p6 ... are of class c0."""
    return FewShot(pair_set(refs), shots, rule)


def test_a_drawn_memory_holds_what_is_drawn_and_encodes_no_more(store: EmbeddingStore, pictures: Pictures) -> None:
    refs = pictures(20)
    built = Memory.build(drawn(refs, 2), store, index=FLAT)
    assert built.ids.tolist() == [f"p{i}" for i in range(6)]
    assert store.forwards == 6 + 6  # pictures and captions
    assert built.manifest["pairs"] == {"name": "listed@2", "fingerprint": drawn(refs, 2).fingerprint}
    told = {"shots": 2, "rule": "first", "seed": None, "classes": 3, "short": 0, "short_classes": {}}
    assert built.manifest["drawn"] == {"from": Memory.build(pair_set(refs), store, index=FLAT).fingerprint, **told}
    assert "drawn" not in Memory.build(pair_set(refs), store, index=FLAT).manifest


def test_what_a_memory_leaves_out_is_drawn_anew(store: EmbeddingStore, pictures: Pictures, tmp_path: Path) -> None:
    """p0 equals a test picture and p1 cannot be read, so p6 and p7 come in; class c2 has but 3 pictures."""
    refs = pictures(9)
    Path(refs[1].path).write_bytes(b"no picture")
    shutil.copy(refs[0].path, tmp_path / "test.png")
    tests = [ImageRef(str(tmp_path / "test.png")), *pictures(3, seed=1)]
    built = Memory.build(drawn(refs, 2), store, index=FLAT, near_duplicates_of=tests, threshold=0.9)
    assert built.ids.tolist() == [f"p{i}" for i in (2, 3, 4, 5, 6, 7)]
    assert built.manifest["counts"] == {"asked": 8, "kept": 6, "unreadable": 1, "near_duplicates": 1}
    assert built.manifest["drawn"]["short"] == 0
    more = Memory.build(drawn(refs, 3), store, index=FLAT, near_duplicates_of=tests, threshold=0.9)
    assert len(more) == 7
    told = more.manifest["drawn"]
    assert (told["short"], told["short_classes"]) == (2, {"c0": 2, "c1": 2})


def test_a_drawn_picture_that_can_be_read_again_comes_back(store: EmbeddingStore, pictures: Pictures) -> None:
    refs = pictures(9)
    content = Path(refs[1].path).read_bytes()
    Path(refs[1].path).write_bytes(b"no picture")
    known = [replace(ref, sha256=None) for ref in refs]
    built = Memory.build(drawn(known, 1), store, index=FLAT)
    assert built.ids.tolist() == ["p0", "p2", "p4"]
    Path(refs[1].path).write_bytes(content)
    again = Memory.build(drawn(known, 1), store, index=FLAT)
    assert again.ids.tolist() == ["p0", "p1", "p2"]
    assert again.manifest["counts"]["unreadable"] == 0


def test_manifest_says_where_it_comes_from(memory: Memory, store: EmbeddingStore, pictures: Pictures) -> None:
    manifest = json.loads((memory.folder / "manifest.json").read_text())
    assert manifest["encoder"] == {"name": store.encoder.name, "fingerprint": store.encoder.fingerprint, "dim": 32}
    assert manifest["pairs"] == {"name": "listed", "fingerprint": pair_set(pictures(20)).fingerprint}
    assert manifest["schema"] == 1
    assert sorted(manifest["files"]) == ["image.npy", "pairs.parquet", "text.npy"]
    assert memory.manifest["index"] == {"kind": "flat"}


def test_another_encoder_is_refused(memory: Memory, tiny: OpenClipEncoder) -> None:
    other = OpenClipEncoder(replace(tiny.config, dtype="bfloat16"))
    queries = np.asarray(memory.embeddings("image")[:1])
    with pytest.raises(MemoryMismatchError, match=f"built by encoder {tiny.name} .*come from {other.fingerprint}"):
        memory.search(queries, "image", 1, encoder=other.fingerprint)
    with pytest.raises(MemoryMismatchError, match="32 dimensions"):
        memory.search(queries[:, :16], "image", 1)


def test_wrong_requests_are_named(memory: Memory) -> None:
    queries = np.array(memory.embeddings("image")[:2])
    with pytest.raises(UsageError, match="unknown side 'img'"):
        memory.search(queries, "img", 1)
    with pytest.raises(UsageError, match="2 queries and 1 sets"):
        memory.search(queries, "image", 1, exclude=[[]])
    with pytest.raises(UsageError, match="do not all exist"):
        memory.search(queries, "image", 1, allowed=np.array([20]))
    queries[0, 0] = np.nan
    with pytest.raises(DataError, match="NaN"):
        memory.search(queries, "text", 1)


@pytest.mark.parametrize("name", ["image.npy", "text.npy", "pairs.parquet"])
@pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
def test_damaged_memory_is_named_with_the_way_out(memory: Memory, name: str, damage: str) -> None:
    path = memory.folder / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[:-4] if damage == "truncated" else content[:-9] + b"x" + content[-8:])
    with pytest.raises(DataError, match=rf"{name} .*rm -r {memory.folder}.*trireme memory build"):
        Memory.open(memory.folder)


def test_damaged_manifest_and_no_memory_at_all(memory: Memory, tmp_path: Path) -> None:
    (memory.folder / "manifest.json").write_text('{"schema": 1')
    with pytest.raises(DataError, match=r"manifest\.json is damaged"):
        Memory.open(memory.folder)
    (memory.folder / "manifest.json").write_text('{"schema": 99}')
    with pytest.raises(DataError, match="has schema 99"):
        Memory.open(memory.folder)
    with pytest.raises(DataError, match="is not a memory"):
        Memory.open(tmp_path)


def test_nothing_left_and_repeated_ids(store: EmbeddingStore, pictures: Pictures) -> None:
    refs = pictures(2)
    with pytest.raises(DataError, match="no pair of listed is left for a memory: 2 asked, 2 near-duplicates"):
        Memory.build(pair_set(refs), store, index=FLAT, near_duplicates_of=refs)
    same = Pair("p0", refs[0], "one")
    with pytest.raises(DataError, match="the id 'p0' twice"):
        Memory.build(Listed((same, same)), store, index=FLAT)


def test_broken_build_leaves_no_folder(store: EmbeddingStore, pictures: Pictures, tmp_path: Path) -> None:
    """An error half-way (here: a picture vanishes between two passes) leaves nothing that could be opened."""
    refs = pictures(4)

    class Vanishing(EmbeddingStore):
        def texts(self, texts: Sequence[str]) -> Floats:
            raise TriremeError("the disk is full")

    with pytest.raises(TriremeError, match="the disk is full"):
        Memory.build(pair_set(refs), Vanishing(store.encoder), index=FLAT, root=tmp_path / "m")
    assert not [path for path in (tmp_path / "m").iterdir() if path.is_dir()]
    assert len(Memory.build(pair_set(refs), store, index=FLAT, root=tmp_path / "m")) == 4


def test_hnsw_recall_is_counted_on_the_queries_asked(store: EmbeddingStore, pictures: Pictures) -> None:
    """Reference: overlap of the two answers, counted by hand, for image and for text queries; flat is exact."""
    config = IndexConfig("hnsw", m=2, ef_construction=2, ef_search=1)  # a poor graph, so that recall is below 1
    pairs = pair_set(pictures(300))
    flat = Memory.build(pairs, store, index=FLAT)
    built = Memory.build(pairs, store, index=config)
    assert built.folder == flat.folder
    assert built.fingerprint != flat.fingerprint
    for queries, side in (
        (store.images(pictures(30, seed=1)), "image"),
        (store.texts([f"a photo of number {i}" for i in range(30)]), "image"),
    ):
        exact, found = flat.search(queries, side, 5).rows, built.search(queries, side, 5).rows
        by_hand = [len(set(a) & set(b)) / 5 for a, b in zip(exact.tolist(), found.tolist(), strict=True)]
        assert built.index_recall(queries, side, found) == pytest.approx(by_hand)
        assert flat.index_recall(queries, side, exact) is None
        assert (built.recall(queries, side, 5), flat.recall(queries, side, 5)) == (pytest.approx(np.mean(by_hand)), 1.0)
        assert 0 < np.mean(by_hand) < 1
    reopened = Memory.open(built.folder, config)
    assert reopened.fingerprint == built.fingerprint
    queries = store.images(pictures(30, seed=1))
    assert_equal(reopened.search(queries, "image", 5), built.search(queries, "image", 5))


def test_two_builders_do_the_work_once(store: EmbeddingStore, pictures: Pictures) -> None:
    """The second waits for the first and opens its memory: 12 pictures and 12 captions go through the model once."""
    pairs = pair_set(pictures(12))
    stores = [EmbeddingStore(OpenClipEncoder(store.encoder.config)) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda each: Memory.build(pairs, each, index=FLAT), stores)
    assert one.folder == two.folder
    assert sum(each.forwards for each in stores) == 24


def test_a_memory_built_while_a_picture_was_missing_is_built_again(
    store: EmbeddingStore, pictures: Pictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures listed with their hash keep the pair set's fingerprint, whether their files are there or not."""
    refs = [replace(ref, sha256=sha256_file(Path(ref.path))) for ref in pictures(20)]
    away = tmp_path / "away"
    Path(refs[7].path).rename(away)
    lacking = Memory.build(pair_set(refs), store, index=FLAT)
    assert (len(lacking), lacking.manifest["counts"]["unreadable"]) == (19, 1)
    again = Memory.build(pair_set(refs), store, index=FLAT)
    assert (len(again), again.manifest["created"]) == (19, lacking.manifest["created"])  # still missing: kept
    away.rename(refs[7].path)
    whole = Memory.build(pair_set(refs), store, index=FLAT)
    assert (len(whole), whole.manifest["counts"]["unreadable"]) == (20, 0)
    assert "building it again" in capsys.readouterr().err


def test_regions_come_back_and_memories_of_whole_pictures_have_no_such_column(
    store: EmbeddingStore, pictures: Pictures
) -> None:
    refs = [replace(ref, sha256=sha256_file(Path(ref.path))) for ref in pictures(3)]
    mixed = [replace(refs[0], region=Region((3, 4.5, 20, 10), blur=0.1)), refs[1], replace(refs[1], region=None)]
    memory = Memory.build(pair_set(mixed), store, index=FLAT, near_duplicates_of=[refs[2]])
    assert Memory.open(memory.folder).refs([2, 0, 1]) == [mixed[2], mixed[0], mixed[1]]
    assert np.array_equal(memory.embeddings("image"), store.images(mixed))
    whole = Memory.build(replace(pair_set(refs), name="whole"), store, index=FLAT)
    assert pq.read_schema(whole.folder / "pairs.parquet").names == [
        "id", "caption", "label", "source", "path", "sha256",
    ]  # fmt: skip
    assert whole.refs([0, 2]) == [refs[0], refs[2]]


def test_a_region_of_a_test_picture_is_kept_out(store: EmbeddingStore, pictures: Pictures) -> None:
    refs, box = pictures(4), Region((3, 4, 20, 10))
    pairs = pair_set([replace(refs[0], region=box), refs[1], replace(refs[2], region=box), refs[3]])
    against = [refs[0], replace(refs[1], region=Region((20, 20, 9, 9)))]
    memory = Memory.build(pairs, store, index=FLAT, near_duplicates_of=against)
    assert memory.ids.tolist() == ["p2", "p3"]
    assert memory.manifest["counts"]["near_duplicates"] == 2
