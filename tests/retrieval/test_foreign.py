"""FAISS indexes written elsewhere, with their label lists."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import faiss
import numpy as np
import pytest

from tests.retrieval.test_search import assert_equal, brute_force, vectors
from trireme.errors import DataError, MemoryMismatchError, UsageError
from trireme.retrieval.encoders.openclip import OpenClipEncoder
from trireme.retrieval.foreign import ForeignIndex

N, DIM = 200, 32
LABELS = [f"class {i % 7}" for i in range(N)]


@pytest.fixture
def hnsw(tmp_path: Path) -> Path:
    """As RAR writes them: HNSW over inner products, M = 64."""
    index = faiss.IndexHNSWFlat(DIM, 64, faiss.METRIC_INNER_PRODUCT)
    index.add(vectors(N, DIM))
    faiss.write_index(index, str(tmp_path / "rar.index"))
    return tmp_path / "rar.index"


def _write_labels(folder: Path, kind: str, labels: list[str] = LABELS) -> Path:
    path = folder / f"labels.{kind}"
    if kind == "txt":
        path.write_text("\n".join(labels) + "\n")
    elif kind == "json":
        path.write_text(json.dumps(labels))
    elif kind == "npy":
        np.save(path, np.array(labels))
    else:
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if kind == "tsv" else ",")
            writer.writerow(["id", "label"])
            writer.writerows(enumerate(labels))
    return path


@pytest.mark.parametrize("kind", ["txt", "json", "npy", "csv", "tsv"])
def test_labels_and_neighbours(hnsw: Path, tiny: OpenClipEncoder, tmp_path: Path, kind: str) -> None:
    """Reference: brute force; 200 vectors with M = 64 and ef >= 16 leave nothing to miss for k = 5."""
    opened = ForeignIndex(hnsw, _write_labels(tmp_path, kind), tiny)
    assert opened.labels.tolist() == LABELS
    assert len(opened) == N
    queries = vectors(20, DIM, seed=1)
    found = opened.search(queries, "image", 5, encoder=tiny.fingerprint)
    assert_equal(found, brute_force(queries, vectors(N, DIM), 5))
    assert opened.index_recall(queries, "image", found.rows) == pytest.approx(np.ones(20))
    gone = np.where(np.arange(5) < 2, -1, found.rows)
    assert opened.index_recall(queries, "image", gone) == pytest.approx(np.full(20, 3 / 5))
    assert opened.recall(queries, "image", 5) == 1.0


def test_exclusion_and_subset(hnsw: Path, tiny: OpenClipEncoder, tmp_path: Path) -> None:
    opened = ForeignIndex(hnsw, _write_labels(tmp_path, "txt"), tiny)
    base = vectors(N, DIM)
    own = opened.search(base, "image", 1, exclude=[[opened.ids[i]] for i in range(N)])
    expected = [brute_force(base[i : i + 1], base, 1, np.setdiff1d(np.arange(N), [i])).rows[0, 0] for i in range(N)]
    assert (own.rows[:, 0] == expected).mean() > 0.98  # a graph may miss one
    allowed = np.arange(0, N, 9)
    found = opened.search(base[:5], "image", 4, allowed=allowed)
    assert_equal(found, brute_force(base[:5], base, 4, allowed))


def test_distances_become_cosines(tiny: OpenClipEncoder, tmp_path: Path) -> None:
    """For unit vectors |a - b|^2 = 2 - 2 a.b, so an L2 index gives the same order and the same scores."""
    index = faiss.IndexFlatL2(DIM)
    index.add(vectors(N, DIM))
    faiss.write_index(index, str(tmp_path / "l2.index"))
    opened = ForeignIndex(tmp_path / "l2.index", _write_labels(tmp_path, "txt"), tiny)
    queries = vectors(5, DIM, seed=1)
    assert_equal(opened.search(queries, "image", 5), brute_force(queries, vectors(N, DIM), 5))
    assert_equal(opened.search(queries, "image", N + 3), brute_force(queries, vectors(N, DIM), N + 3))
    assert opened.index_recall(queries, "image", opened.search(queries, "image", 5).rows) is None, "it is exact"
    named = faiss.IndexIDMap(faiss.IndexFlatL2(DIM))
    named.add_with_ids(vectors(N, DIM), np.arange(N))
    faiss.write_index(named, str(tmp_path / "named.index"))
    assert_equal(
        ForeignIndex(tmp_path / "named.index", _write_labels(tmp_path, "txt"), tiny).search(queries, "image", 5),
        brute_force(queries, vectors(N, DIM), 5),
    )
    long = faiss.IndexFlatL2(DIM)
    long.add(3 * vectors(N, DIM))
    faiss.write_index(long, str(tmp_path / "long.index"))
    with pytest.raises(DataError, match="compares neither"):
        ForeignIndex(tmp_path / "long.index", _write_labels(tmp_path, "txt"), tiny)


def test_own_ids_are_rows_of_the_list(tiny: OpenClipEncoder, tmp_path: Path) -> None:
    index = faiss.IndexIDMap(faiss.IndexFlatIP(DIM))
    index.add_with_ids(vectors(3, DIM), np.array([5, 0, 2]))
    faiss.write_index(index, str(tmp_path / "map.index"))
    opened = ForeignIndex(tmp_path / "map.index", _write_labels(tmp_path, "txt", list("abcdef")), tiny)
    found = opened.search(vectors(3, DIM), "image", 1).rows
    assert found[:, 0].tolist() == [5, 0, 2]
    assert opened.index_recall(vectors(3, DIM), "image", found) is None, "the map lies over an exact index"
    with pytest.raises(DataError, match=r"ids up to 5, .* only 5 labels"):
        ForeignIndex(tmp_path / "map.index", _write_labels(tmp_path, "txt", list("abcde")), tiny)


def test_an_index_that_keeps_no_vectors_by_position_has_no_recall(tiny: OpenClipEncoder, tmp_path: Path) -> None:
    """FAISS gives no vectors back through a map of ids: what the index missed cannot be told, and nothing breaks."""
    graph = faiss.IndexHNSWFlat(DIM, 8, faiss.METRIC_INNER_PRODUCT)
    index = faiss.IndexIDMap(graph)
    index.add_with_ids(vectors(N, DIM), np.arange(N)[::-1].copy())
    faiss.write_index(index, str(tmp_path / "map.index"))
    opened = ForeignIndex(tmp_path / "map.index", _write_labels(tmp_path, "txt"), tiny)
    found = opened.search(vectors(3, DIM), "image", 1).rows
    assert found[:, 0].tolist() == [N - 1, N - 2, N - 3]
    assert opened.index_recall(vectors(3, DIM), "image", found) is None
    for asked in (lambda: opened.embeddings("image"), lambda: opened.recall(vectors(3, DIM), "image", 1)):
        with pytest.raises(DataError, match="does not give its vectors back"):
            asked()


def test_what_does_not_belong_together_is_refused(hnsw: Path, tiny: OpenClipEncoder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds 200 vectors, .* 199 labels"):
        ForeignIndex(hnsw, _write_labels(tmp_path, "txt", LABELS[:-1]), tiny)
    other = faiss.IndexFlatIP(16)
    other.add(vectors(N, 16))
    faiss.write_index(other, str(tmp_path / "16.index"))
    labels = _write_labels(tmp_path, "txt")
    with pytest.raises(MemoryMismatchError, match=r"16 dimensions, encoder .* makes 32"):
        ForeignIndex(tmp_path / "16.index", labels, tiny)
    hnsw.write_bytes(hnsw.read_bytes()[:3000])
    with pytest.raises(DataError, match="not a whole FAISS index"):
        ForeignIndex(hnsw, labels, tiny)
    with pytest.raises(DataError, match="does not exist"):
        ForeignIndex(tmp_path / "absent.index", labels, tiny)


def test_a_line_of_labels_ends_where_editors_end_it(hnsw: Path, tiny: OpenClipEncoder, tmp_path: Path) -> None:
    """A label may hold what `splitlines` takes for ends of lines; an accent may be written in two ways."""
    odd = ["a\u2028b", "c\x0bd", "e\x1cf", "g\x85h", "", "i\rj", *LABELS[6:-1], "cafe\u0301"]
    for end in ("\n", "\r\n"):
        (tmp_path / "labels.txt").write_bytes((end.join(odd) + end).encode())
        assert ForeignIndex(hnsw, tmp_path / "labels.txt", tiny).labels.tolist() == [*odd[:-1], "caf\u00e9"]


def test_labels_that_are_none_are_named(hnsw: Path, tiny: OpenClipEncoder, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(json.dumps([*LABELS[:-1], None]))
    with pytest.raises(DataError, match="row 199 has null, which is no label"):
        ForeignIndex(hnsw, tmp_path / "labels.json", tiny)
    for row in ("7", "7,owl,2"):
        (tmp_path / "labels.csv").write_text(f"id,label\n{row}\n" + "1,fox\n" * 199)
        with pytest.raises(DataError, match="line 2 has not as many cells as the header"):
            ForeignIndex(hnsw, tmp_path / "labels.csv", tiny)


def test_pickled_labels_are_not_read(hnsw: Path, tiny: OpenClipEncoder, tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.array(LABELS, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"cannot read labels .*allow_pickle=False"):
        ForeignIndex(hnsw, tmp_path / "labels.npy", tiny)
    with pytest.raises(DataError, match=r"no column 'class'; it has id, label"):
        ForeignIndex(hnsw, _write_labels(tmp_path, "csv"), tiny, column="class")


def test_there_is_no_text_side(hnsw: Path, tiny: OpenClipEncoder, tmp_path: Path) -> None:
    opened = ForeignIndex(hnsw, _write_labels(tmp_path, "txt"), tiny)
    with pytest.raises(UsageError, match="has no 'text' side"):
        opened.search(vectors(1, DIM), "text", 1)
    with pytest.raises(UsageError, match="has no captions"):
        opened.captions([0])
    with pytest.raises(MemoryMismatchError, match="was opened for"):
        opened.search(vectors(1, DIM), "image", 1, encoder="0" * 16)
