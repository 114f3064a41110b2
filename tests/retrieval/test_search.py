"""Flat search against brute force, exclusion and subsets against brute force on what is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trireme.errors import DataError, MemoryMismatchError, UsageError
from trireme.retrieval import index as index_module
from trireme.retrieval.index import ApproximateIndex, FlatIndex, IndexConfig, index_file, open_index
from trireme.retrieval.search import Hits, checked_queries, checked_rows, search_without
from trireme.types import Floats, Ints


def vectors(n: int, dim: int = 8, seed: int = 0, copies: int = 0) -> Floats:
    """n unit vectors, the last `copies` of which repeat earlier ones exactly."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, dim)).astype(np.float32)
    if copies:
        rows[-copies:] = rows[rng.integers(0, n - copies, copies)]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def brute_force(queries: Floats, base: Floats, k: int, rows: Ints | None = None) -> Hits:
    """All inner products in float64, sorted by score, equal ones by row number."""
    rows = np.arange(len(base)) if rows is None else rows
    scores = np.einsum("qd,nd->qn", queries.astype(np.float64), base[rows].astype(np.float64))
    order = np.stack([np.lexsort((rows, -line)) for line in scores]) if len(rows) else np.zeros((len(queries), 0), int)
    found = np.full((len(queries), k), -1, dtype=np.int64)
    values = np.full((len(queries), k), -np.inf, dtype=np.float32)
    width = min(k, len(rows))
    found[:, :width] = rows[order[:, :width]]
    values[:, :width] = np.take_along_axis(scores, order[:, :width], axis=1)
    return Hits(found, values)


def assert_equal(found: Hits, expected: Hits) -> None:
    assert np.array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)


sizes = st.integers(1, 60)


@settings(max_examples=60, deadline=None)
@given(n=sizes, k=st.integers(1, 70), copies=st.integers(0, 40), seed=st.integers(0, 999))
def test_flat_equals_brute_force(n: int, k: int, copies: int, seed: int) -> None:
    """Also with many equal vectors (ties in the order of rows) and with k beyond the size (padded)."""
    base = vectors(n, seed=seed, copies=min(copies, n // 2))
    queries = vectors(5, seed=seed + 1)
    assert_equal(FlatIndex(base).search(queries, k), brute_force(queries, base, k))


def test_flat_with_all_vectors_equal() -> None:
    """By hand: every score ties, so the first k rows are the answer."""
    base = np.repeat(vectors(1), 500, axis=0)
    found = FlatIndex(base).search(vectors(3, seed=1), 7)
    assert np.array_equal(found.rows, np.tile(np.arange(7), (3, 1)))


def test_flat_does_not_depend_on_the_number_of_queries() -> None:
    """FAISS computes few queries and many queries by different code, which rounds differently; the order stays."""
    base = vectors(2000, dim=64, copies=1000)
    queries = np.concatenate([base[:50], vectors(50, dim=64, seed=1)])
    together = FlatIndex(base).search(queries, 10).rows
    alone = np.concatenate([FlatIndex(base).search(query[None], 10).rows for query in queries])
    assert np.array_equal(together, alone)


@settings(max_examples=60, deadline=None)
@given(n=sizes, k=st.integers(1, 10), seed=st.integers(0, 999), data=st.data())
def test_allowed_equals_brute_force_on_the_subset(n: int, k: int, seed: int, data: st.DataObject) -> None:
    allowed = np.array(sorted(data.draw(st.sets(st.integers(0, n - 1)))), dtype=np.int64)
    base, queries = vectors(n, seed=seed, copies=n // 3), vectors(4, seed=seed + 1)
    index = FlatIndex(base)
    assert_equal(index.search(queries, k, allowed), brute_force(queries, base, k, allowed))
    assert_equal(index.search(queries, k), brute_force(queries, base, k))  # the kept subset does not leak
    assert_equal(index.search(queries, k, allowed), brute_force(queries, base, k, allowed))


def test_subset_too_large_to_keep_is_searched_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "_CACHED_SUBSET", 0)
    monkeypatch.setattr(index_module, "_BLOCK", 4 * 8 * 10)  # ten rows
    base, queries = vectors(100, copies=40), vectors(6, seed=1)
    allowed = np.arange(3, 100, 2)
    assert_equal(FlatIndex(base).search(queries, 12, allowed), brute_force(queries, base, 12, allowed))


@settings(max_examples=60, deadline=None)
@given(n=sizes, k=st.integers(1, 10), seed=st.integers(0, 999), data=st.data())
def test_exclusion_equals_brute_force_without_those_rows(n: int, k: int, seed: int, data: st.DataObject) -> None:
    base, queries = vectors(n, seed=seed, copies=n // 3), vectors(4, seed=seed + 1)
    excluded = [np.array(sorted(data.draw(st.sets(st.integers(0, n - 1)))), dtype=np.int64) for _ in queries]
    index = FlatIndex(base)
    found = search_without(index.search, queries, k, excluded, n)
    for i, gone in enumerate(excluded):
        left = np.setdiff1d(np.arange(n), gone)
        assert_equal(
            Hits(found.rows[i : i + 1], found.scores[i : i + 1]), brute_force(queries[i : i + 1], base, k, left)
        )


def test_memory_mapped_rows_are_searched_in_place(tmp_path: Path) -> None:
    base, queries = vectors(300), vectors(4, seed=1)
    np.save(tmp_path / "base.npy", base)
    mapped = np.load(tmp_path / "base.npy", mmap_mode="r")
    assert_equal(FlatIndex(mapped).search(queries, 5), brute_force(queries, base, 5))


CONFIGS = [
    IndexConfig("hnsw"),
    IndexConfig("ivf_flat", nlist=8, nprobe=8),
    IndexConfig("ivf_pq", nlist=4, nprobe=4, pq_m=8, pq_bits=6),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_approximate_index_is_built_once_and_the_same_every_time(config: IndexConfig, tmp_path: Path) -> None:
    base, queries = vectors(600, dim=16), vectors(40, dim=16, seed=1)
    file = index_file(tmp_path, "image", config)
    first = open_index(config, base, file).search(queries, 5)
    written = file.stat().st_mtime_ns
    again = open_index(config, base, file).search(queries, 5)
    assert file.stat().st_mtime_ns == written
    other = open_index(config, base, tmp_path / "other.faiss").search(queries, 5)
    assert file.read_bytes() == (tmp_path / "other.faiss").read_bytes()
    for hits in (again, other):
        assert np.array_equal(hits.rows, first.rows)
    assert (np.diff(first.scores, axis=1) <= 0).all()


@pytest.mark.parametrize("config", CONFIGS[:2], ids=lambda config: config.kind)
def test_exhaustive_parameters_find_what_flat_finds(config: IndexConfig, tmp_path: Path) -> None:
    """All lists probed, or a beam as wide as the index: nothing approximate is left. Subsets included."""
    config = IndexConfig(config.kind, ef_search=600, nlist=8, nprobe=8)
    base, queries = vectors(600, dim=16), vectors(40, dim=16, seed=1)
    index = open_index(config, base, tmp_path / "i.faiss")
    assert_equal(index.search(queries, 5), brute_force(queries, base, 5))
    allowed = np.arange(0, 600, 7)
    assert_equal(index.search(queries, 5, allowed), brute_force(queries, base, 5, allowed))
    assert (index.search(queries, 700).rows[:, 600:] == -1).all()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_narrow_subsets_still_get_k_neighbours(config: IndexConfig, tmp_path: Path) -> None:
    """30 allowed rows of 600: no more than a handful of the answers may be missing, whatever the index."""
    index = open_index(config, vectors(600, dim=16), tmp_path / "i.faiss")
    allowed = np.arange(0, 600, 20)
    found = index.search(vectors(40, dim=16, seed=1), 5, allowed).rows
    assert np.isin(found[found >= 0], allowed).all()
    assert (found >= 0).mean() > 0.95


def test_damaged_index_file_is_built_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, file = vectors(300), tmp_path / "i.faiss"
    expected = open_index(IndexConfig("hnsw"), base, file).search(base[:5], 3)
    file.write_bytes(file.read_bytes()[:2000])
    assert_equal(open_index(IndexConfig("hnsw"), base, file).search(base[:5], 3), expected)
    assert f"index file {file} is damaged" in capsys.readouterr().err
    assert isinstance(open_index(IndexConfig("hnsw"), vectors(301), file), ApproximateIndex)  # of another memory


def test_index_configurations_are_checked() -> None:
    with pytest.raises(UsageError, match=r"unknown index 'hnws'; did you mean 'hnsw'"):
        IndexConfig("hnws")
    with pytest.raises(UsageError, match=r"index\.ef_search=0 must be positive"):
        IndexConfig("hnsw", ef_search=0)
    assert IndexConfig("hnsw").facts() == {"kind": "hnsw", "m": 64, "ef_construction": 40, "ef_search": 16}
    assert IndexConfig("flat", m=3).facts() == {"kind": "flat"}


def test_ivf_pq_says_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"needs at least 256 vectors"):
        open_index(IndexConfig("ivf_pq"), vectors(100), tmp_path / "i.faiss")
    with pytest.raises(UsageError, match="does not divide the 8 dimensions"):
        open_index(IndexConfig("ivf_pq", pq_m=3), vectors(300), tmp_path / "i.faiss")


def test_wrong_queries_are_named() -> None:
    queries = vectors(3)
    with pytest.raises(UsageError, match="k=0"):
        checked_queries(queries, 8, 0, "m")
    with pytest.raises(MemoryMismatchError, match=r"m holds vectors of 9 dimensions, .*\(3, 8\)"):
        checked_queries(queries, 9, 1, "m")
    queries[1, 2] = np.nan
    with pytest.raises(DataError, match=r"1 of 3 queries to m hold NaN .*row 1"):
        checked_queries(queries, 8, 1, "m")
    with pytest.raises(UsageError, match=r"-1\.\.2 do not all exist in m of 3 rows"):
        checked_rows(np.array([2, -1]), 3, "m")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), scale=st.floats(0.01, 100))
def test_queries_need_not_be_normalised(seed: int, scale: float) -> None:
    """A positive factor on a query changes scores by that factor and no order."""
    base, queries = vectors(50, seed=seed), vectors(3, seed=seed + 1)
    one = FlatIndex(base).search(queries, 5)
    other = FlatIndex(base).search((queries * np.float32(scale)).astype(np.float32), 5)
    assume(len(np.unique(one.scores)) == one.scores.size)
    assert np.array_equal(one.rows, other.rows)
    np.testing.assert_allclose(other.scores, one.scores * scale, rtol=1e-4, atol=1e-6)
