"""Nearest neighbours by inner product: exact (`flat`) and approximate (`hnsw`, `ivf_flat`, `ivf_pq`) FAISS search."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np

from trireme.errors import TriremeError, UsageError, unknown_name
from trireme.files import atomic_file, fingerprint, locked
from trireme.progress import say
from trireme.retrieval.search import Hits, empty_hits, padded
from trireme.types import Floats, Ints

_faiss: Any = faiss  # its type stubs know a part of it only

# Two float32 inner products of unit vectors closer than this may be in either order by rounding alone.
_TIE = 1e-6
_CACHED_SUBSET = 512 << 20  # bytes of a subset of rows that is copied once and kept for the next call
_BLOCK = 128 << 20  # bytes copied at a time where a subset is larger
_GPU_DEPTH = 2048  # neighbours that FAISS gives at most on a GPU
_RESCORED = 64 << 20  # bytes gathered at a time to settle ties
_USES: dict[str, tuple[str, ...]] = {
    "flat": (),
    "hnsw": ("m", "ef_construction", "ef_search"),
    "ivf_flat": ("nlist", "nprobe"),
    "ivf_pq": ("nlist", "nprobe", "pq_m", "pq_bits"),
}


@dataclass(frozen=True)
class IndexConfig:
    """Which index, and its parameters; those of another kind are ignored.

    Attributes:
        kind: "flat" (exact), "hnsw", "ivf_flat" or "ivf_pq".
        m, ef_construction, ef_search: HNSW links, and candidates while building and searching; the defaults are those
            of the index files that RAR ships.
        nlist, nprobe: IVF lists (0: four times the square root of the size) and how many of them are searched.
        pq_m, pq_bits: product-quantiser codes a vector (0: one for eight dimensions) and bits a code.
    """

    kind: str = "flat"
    m: int = 64
    ef_construction: int = 40
    ef_search: int = 16
    nlist: int = 0
    nprobe: int = 16
    pq_m: int = 0
    pq_bits: int = 8

    def __post_init__(self) -> None:
        if self.kind not in _USES:
            raise unknown_name("index", self.kind, _USES)
        for field in fields(self):
            if field.name != "kind" and getattr(self, field.name) < (0 if field.name in ("nlist", "pq_m") else 1):
                raise UsageError(f"index.{field.name}={getattr(self, field.name)} must be positive")

    def facts(self) -> dict[str, Any]:
        """Kind and the parameters that it uses: what can change a neighbour."""
        return {"kind": self.kind} | {key: asdict(self)[key] for key in _USES[self.kind]}


class Index(Protocol):
    """Search over (N, d) vectors. n queries."""

    def search(self, queries: Floats, k: int, allowed: Ints | None = None) -> Hits:
        """The k best rows of each query among `allowed` (sorted distinct rows; None: all)."""
        ...


def open_index(config: IndexConfig, vectors: Floats, file: Path) -> Index:
    """The index over `vectors`; an approximate one is read from `file`, or built once and written there."""
    return FlatIndex(vectors) if config.kind == "flat" else ApproximateIndex(config, vectors, file)


class FlatIndex:
    """Exact search straight on a (memory-mapped) array.

    Equal scores are ordered by row number. Scores closer than rounding allows are computed again in float64, so
    neighbours do not depend on how many queries are asked at once.
    """

    def __init__(self, vectors: Floats) -> None:
        self.vectors = vectors
        self._subset: tuple[bytes, Floats] | None = None
        self._gpu = _to_gpu(vectors) if faiss.get_num_gpus() > 0 else None

    def search(self, queries: Floats, k: int, allowed: Ints | None = None) -> Hits:
        size = len(self.vectors) if allowed is None else len(allowed)
        if not size or not len(queries):
            return empty_hits(len(queries), k)
        depth = min(k + 1, size)
        scores, rows = self._nearest(queries, depth, allowed)
        slack = _TIE * np.maximum(np.linalg.norm(queries, axis=1), 1e-30)
        tied = np.flatnonzero((scores[:, :-1] - scores[:, 1:] < slack[:, None]).any(axis=1))
        hits = padded(rows, scores, k)
        if len(tied):
            settled = self._settle(queries[tied], slack[tied], k, Hits(rows[tied], scores[tied]), allowed)
            hits.rows[tied], hits.scores[tied] = settled
        return hits

    def _settle(self, queries: Floats, slack: Floats, k: int, found: Hits, allowed: Ints | None) -> Hits:
        """Order near-ties: look deeper until the tie at place k ends, then rank by float64 score and row."""
        size = len(self.vectors) if allowed is None else len(allowed)
        hits = empty_hits(len(queries), k)
        pending = np.arange(len(queries))
        while len(pending):
            depth = found.rows.shape[1]
            ended = found.scores[:, -1] < found.scores[:, min(k, depth) - 1] - slack[pending]
            done = ended | (depth == size)
            ranked = self._ranked(queries[pending[done]], found.rows[done], k)
            hits.rows[pending[done]], hits.scores[pending[done]] = ranked
            pending = pending[~done]
            if len(pending):
                scores, rows = self._nearest(queries[pending], min(4 * depth, size), allowed)
                found = Hits(rows, scores)
        return hits

    def _ranked(self, queries: Floats, rows: Ints, k: int) -> Hits:
        """The k best of the given rows (n, m) by float64 score, equal ones by row."""
        hits = empty_hits(len(queries), k)
        for part in _chunks(np.arange(len(queries)), _RESCORED // (8 * rows.shape[1] * queries.shape[1])):
            found = rows[part]
            wide = self.vectors[found].astype(np.float64)
            exact = np.einsum("nd,nkd->nk", queries[part].astype(np.float64), wide)
            order = np.lexsort((found, -exact), axis=1)
            scores = np.take_along_axis(exact, order, axis=1).astype(np.float32)
            hits.rows[part], hits.scores[part] = padded(np.take_along_axis(found, order, axis=1), scores, k)
        return hits

    def _nearest(self, queries: Floats, depth: int, allowed: Ints | None) -> tuple[Floats, Ints]:
        """(n, depth) scores and rows, ties in any order."""
        if allowed is None:
            if self._gpu is None or depth > _GPU_DEPTH:
                return _knn(queries, self.vectors, depth)
            scores, rows = self._gpu.search(queries, depth)
            return scores, rows
        if len(allowed) * self.vectors.shape[1] * 4 <= _CACHED_SUBSET:
            scores, places = _knn(queries, self._copy(allowed), depth)
            return scores, allowed[places]
        best_scores = np.zeros((len(queries), 0), dtype=np.float32)
        best_rows = np.zeros((len(queries), 0), dtype=np.int64)
        for part in _chunks(allowed, _BLOCK // (4 * self.vectors.shape[1])):
            scores, places = _knn(queries, self.vectors[part], min(depth, len(part)))
            best_scores = np.concatenate([best_scores, scores], axis=1)
            best_rows = np.concatenate([best_rows, part[places]], axis=1)
            order = np.argsort(-best_scores, axis=1, kind="stable")[:, :depth]
            best_scores = np.take_along_axis(best_scores, order, axis=1)
            best_rows = np.take_along_axis(best_rows, order, axis=1)
        return best_scores, best_rows

    def _copy(self, allowed: Ints) -> Floats:
        """The rows of a subset, kept for the next call: a method asks for the same ones batch after batch."""
        key = allowed.tobytes()
        if self._subset is None or self._subset[0] != key:
            self._subset = (key, np.ascontiguousarray(self.vectors[allowed]))
        return self._subset[1]


class ApproximateIndex:
    """A FAISS graph or inverted-file index, built once, on one thread (so the same every time), and kept in `file`."""

    def __init__(self, config: IndexConfig, vectors: Floats, file: Path) -> None:
        self.config, self.size = config, len(vectors)
        self._index = self._read(file, vectors)
        if self._index is None:
            with locked(file):
                self._index = self._read(file, vectors)
                if self._index is None:
                    built = _build(config, vectors)
                    _write(built, file)
                    self._index = built
        on_gpu = faiss.get_num_gpus() > 0 and config.kind != "hnsw"  # FAISS has no HNSW for GPUs
        self._gpu = faiss.index_cpu_to_all_gpus(self._index) if on_gpu else None

    def _read(self, file: Path, vectors: Floats) -> Any:
        if not file.exists():
            return None
        try:
            index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError:
            index = None
        if index is None or index.ntotal != len(vectors) or index.d != vectors.shape[1]:
            say(f"index file {file} is damaged; building it again")
            return None
        return index

    def search(self, queries: Floats, k: int, allowed: Ints | None = None) -> Hits:
        size = self.size if allowed is None else len(allowed)
        if not size or not len(queries):
            return empty_hits(len(queries), k)
        depth = min(k, size)
        index = self._gpu if self._gpu is not None and allowed is None else self._index
        scores, rows = index.search(queries, depth, params=self._parameters(depth, allowed))
        scores[rows < 0] = -np.inf
        unsorted = np.flatnonzero((scores[:, :-1] <= scores[:, 1:]).any(axis=1))  # few: FAISS leaves ties in any order
        order = np.lexsort((rows[unsorted], -scores[unsorted]), axis=1)
        rows[unsorted] = np.take_along_axis(rows[unsorted], order, axis=1)
        scores[unsorted] = np.take_along_axis(scores[unsorted], order, axis=1)
        return padded(rows, scores, k)

    def _parameters(self, depth: int, allowed: Ints | None) -> Any:
        selector: Any = None if allowed is None else faiss.IDSelectorBatch(allowed)
        if self.config.kind == "hnsw":
            # A graph walk meets allowed rows as rarely as they are: it looks at as many more candidates.
            scarcity = 1 if allowed is None else -(-self.size // len(allowed))
            breadth = min(max(self.config.ef_search, depth) * scarcity, self.size)
            return _faiss.SearchParametersHNSW(efSearch=breadth, sel=selector)
        return _faiss.SearchParametersIVF(nprobe=self.config.nprobe, sel=selector)


def index_file(folder: Path, side: str, config: IndexConfig) -> Path:
    """Where the index of one side of a memory is kept; search-time parameters do not change the file."""
    built = {key: value for key, value in config.facts().items() if key not in ("ef_search", "nprobe")}
    return folder / "index" / f"{side}-{config.kind}-{fingerprint(built)}.faiss"


def _write(index: Any, file: Path) -> None:
    try:
        with atomic_file(file) as part:
            faiss.write_index(index, str(part))
    except (OSError, RuntimeError) as error:  # FAISS reports a full disk as RuntimeError
        raise TriremeError(f"cannot write {file} ({error}); make room and run again") from error


def _build(config: IndexConfig, vectors: Floats) -> Any:
    size, dim = vectors.shape
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        if config.kind == "hnsw":
            index: Any = faiss.IndexHNSWFlat(dim, config.m, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = config.ef_construction
        else:
            index = _inverted_file(config, size, dim)
            sample = np.random.default_rng(0).permutation(size)[: 256 * max(index.nlist, 2**config.pq_bits)]
            index.train(np.ascontiguousarray(vectors[np.sort(sample)]))
        for part in _chunks(np.arange(size), max(1, _BLOCK // (4 * dim))):
            index.add(np.ascontiguousarray(vectors[part[0] : part[-1] + 1]))
    finally:
        faiss.omp_set_num_threads(threads)
    return index


def _inverted_file(config: IndexConfig, size: int, dim: int) -> Any:
    lists = min(config.nlist or round(4 * size**0.5), max(1, size // 4))
    quantizer: Any = faiss.IndexFlatIP(dim)
    if config.kind == "ivf_flat":
        index: Any = faiss.IndexIVFFlat(quantizer, dim, lists, faiss.METRIC_INNER_PRODUCT)
    else:
        codes = config.pq_m or max(1, dim // 8)
        if dim % codes:
            raise UsageError(f"index.pq_m={codes} does not divide the {dim} dimensions")
        if size < 2**config.pq_bits:
            raise UsageError(f"ivf_pq needs at least {2**config.pq_bits} vectors, the memory holds {size}; use flat")
        index = faiss.IndexIVFPQ(quantizer, dim, lists, codes, config.pq_bits, faiss.METRIC_INNER_PRODUCT)
        index.pq.cp.min_points_per_centroid = 1
    index.cp.min_points_per_centroid = 1
    index.own_fields = True
    quantizer.this.disown()
    return index


def _knn(queries: Floats, base: Floats, depth: int) -> tuple[Floats, Ints]:
    scores, rows = faiss.knn(queries, base, depth, metric=faiss.METRIC_INNER_PRODUCT)
    return scores, rows


def _to_gpu(vectors: Floats) -> Any:
    index = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(vectors.shape[1]))
    for part in _chunks(np.arange(len(vectors)), max(1, _BLOCK // (4 * vectors.shape[1]))):
        index.add(np.ascontiguousarray(vectors[part[0] : part[-1] + 1]))
    return index


def _chunks(rows: Ints, size: int) -> list[Ints]:
    return [rows[start : start + size] for start in range(0, len(rows), max(1, size))]
