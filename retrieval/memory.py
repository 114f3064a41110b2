"""The memory: image-caption pairs with both embeddings, searched from either side, shared by every method."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trireme.errors import DataError, MemoryMismatchError, UsageError
from trireme.files import fingerprint, home, locked
from trireme.hashes import file_sha256
from trireme.progress import say
from trireme.retrieval.index import Index, IndexConfig, index_file, open_index
from trireme.retrieval.memory_build import ARRAYS, MANIFEST, PAIRS, REGION, SCHEMA, memory_key, write_memory
from trireme.retrieval.search import SIDES, Hits, Side, checked_queries, checked_rows, search_without, shares_found
from trireme.retrieval.store import EmbeddingStore
from trireme.types import DrawnPairs, Floats, ImageRef, Ints, PairSet, Region

__all__ = ["Hits", "Memory", "Side"]

Strings = NDArray[np.object_]


class Memory:
    """N pairs on disk; d dimensions. Arrays are memory-mapped, metadata columns are read when asked for.

    Attributes:
        folder: what it is read from; immutable but for the index files kept in it.
        manifest: source, counts, near-duplicates, checksums (see `memory_build`), and the index used.
        fingerprint: changes with everything that can change a neighbour, an approximate index included.
        encoder_fingerprint: the only encoder whose queries it answers.
        exact: whether its index misses no neighbour.
    """

    def __init__(self, folder: Path, index: IndexConfig | None = None) -> None:
        self.folder = folder
        self.index = index or IndexConfig()
        content = _read_manifest(folder)
        _check_files(folder, content["files"])
        self.manifest: Mapping[str, Any] = content | {"index": self.index.facts()}
        self.encoder_fingerprint: str = content["encoder"]["fingerprint"]
        self.exact = self.index.kind == "flat"
        self.fingerprint: str = (
            content["fingerprint"] if self.exact else fingerprint([content["fingerprint"], self.index.facts()])
        )
        self._arrays = {side: _map_array(folder / name) for side, name in ARRAYS.items()}
        self._indexes: dict[tuple[str, str], Index] = {}

    @classmethod
    def build(
        cls,
        pairs: PairSet,
        store: EmbeddingStore,
        *,
        index: IndexConfig,
        near_duplicates_of: Sequence[ImageRef] = (),
        threshold: float = 0.9,
        root: Path | None = None,
    ) -> Memory:
        """The memory of a pair set under the store's encoder; opened where the same one was built before.

        Args:
            near_duplicates_of: test (and validation) pictures; pairs whose pixel correlation with one of them exceeds
                `threshold`, or whose bytes are the same, are left out and counted.
            root: folder of all memories; `home()/memories` by default.

        Raises:
            DataError: no pair is left, ids repeat, or the folder found is damaged.
            TriremeError: the disk is full.
        """
        base = root if root is not None else home() / "memories"
        folder = base / memory_key(pairs, store, near_duplicates_of, threshold)
        if not folder.exists() or _repaired(folder, pairs, store):
            with locked(folder):  # a second builder waits and then opens what the first one made
                if _repaired(folder, pairs, store):
                    say(f"memory {pairs.name}: pictures that were unreadable can be read now; building it again")
                    shutil.rmtree(folder)
                if not folder.exists():
                    write_memory(folder, pairs, store, near_duplicates_of, threshold)
        return cls(folder, index)

    @classmethod
    def open(cls, folder: Path, index: IndexConfig | None = None) -> Memory:
        """A memory built before.

        Raises:
            DataError: the folder is not a memory, or a file is missing, truncated or does not match its checksum.
        """
        return cls(Path(folder), index)

    def __len__(self) -> int:
        return len(self._arrays["image"])

    @property
    def dim(self) -> int:
        return int(self._arrays["image"].shape[1])

    @cached_property
    def ids(self) -> Strings:
        """(N,) pair ids."""
        return self._strings("id")

    @cached_property
    def labels(self) -> Strings:
        """(N,) class ids, "" where unknown. For methods that declare labels as their supervision."""
        return self._strings("label")

    @cached_property
    def sources(self) -> Strings:
        """(N,) where each pair comes from."""
        return self._strings("source")

    @cached_property
    def hashes(self) -> Strings:
        """(N,) SHA-256 of each picture's bytes, as hex digits."""
        return self._strings("sha256")

    def captions(self, rows: Ints | Sequence[int]) -> list[str]:
        """Captions of the given rows."""
        return self._take("caption", rows)

    def refs(self, rows: Ints | Sequence[int]) -> list[ImageRef]:
        """Pictures of the given rows, or the regions of pictures that they are."""
        paths, hashes = self._take("path", rows), self._take("sha256", rows)
        texts = self._take(REGION, rows) if self._has_regions else [""] * len(paths)
        return [
            ImageRef(path, digest or None, Region.parse(text) if text else None)
            for path, digest, text in zip(paths, hashes, texts, strict=True)
        ]

    def embeddings(self, side: Side) -> Floats:
        """(N, d) memory-mapped, read-only."""
        return self._arrays[_checked_side(side)]

    def search(
        self,
        queries: Floats,
        side: Side,
        k: int,
        exclude: Sequence[Collection[str]] | None = None,
        allowed: Ints | None = None,
        encoder: str | None = None,
    ) -> Hits:
        """The k nearest pairs of each query by inner product; equal scores in the order of rows.

        Image queries against side "image" (i2i) or "text" (i2t), text queries likewise (t2i, t2t).

        Args:
            queries: (n, d).
            exclude: per query, pair ids that are never returned (a training pair among its own neighbours).
            allowed: rows to search, e.g. those of a benchmark's classes; None for all.
            encoder: fingerprint of the encoder that made the queries.

        Returns:
            (n, k) rows and scores, -1 and -inf where fewer than k pairs can be returned.

        Raises:
            MemoryMismatchError: another encoder or dimension.
            DataError: NaN in a query. UsageError: k < 1, an unknown row, a wrong number of exclusions.
        """
        self._check_encoder(encoder)
        what = f"memory {self.manifest['name']}"
        checked = checked_queries(queries, self.dim, k, what)
        rows = None if allowed is None else checked_rows(allowed, len(self), what)
        index = self._index(_checked_side(side), self.index)
        if exclude is None:
            return index.search(checked, k, rows)
        if len(exclude) != len(checked):
            raise UsageError(f"{len(checked)} queries and {len(exclude)} sets of excluded ids; give one a query")
        size = len(self) if rows is None else len(rows)
        excluded = [self._rows_of(ids) for ids in exclude]
        return search_without(lambda part, depth: index.search(part, depth, rows), checked, k, excluded, size)

    def index_recall(self, queries: Floats, side: Side, found: Ints, allowed: Ints | None = None) -> Floats | None:
        """What an approximate index missed: for each query the share of its exact k nearest rows among `found`.

        Args:
            found: (n, k) rows that `search` gave for these queries, -1 padded.

        Returns:
            (n,), or None where the index is exact.
        """
        if self.exact:
            return None
        what, k = f"memory {self.manifest['name']}", found.shape[1]
        checked = checked_queries(queries, self.dim, k, what)
        rows = None if allowed is None else checked_rows(allowed, len(self), what)
        return shares_found(self._index(_checked_side(side), IndexConfig()).search(checked, k, rows).rows, found)

    def recall(self, queries: Floats, side: Side, k: int, allowed: Ints | None = None) -> float:
        """Mean of `index_recall` over a search for these queries; 1.0 where the index is exact."""
        if self.exact or not len(queries):
            return 1.0
        shares = self.index_recall(queries, side, self.search(queries, side, k, allowed=allowed).rows, allowed)
        return 1.0 if shares is None else float(shares.mean())

    def _check_encoder(self, encoder: str | None) -> None:
        if encoder is not None and encoder != self.encoder_fingerprint:
            built = self.manifest["encoder"]
            raise MemoryMismatchError(
                f"memory {self.manifest['name']} was built by encoder {built['name']} ({built['fingerprint']}), the "
                f"queries come from {encoder}; build the memory with that encoder (`trireme memory build`)"
            )

    def _index(self, side: str, config: IndexConfig) -> Index:
        key = (side, config.kind)
        if key not in self._indexes:
            vectors = self._arrays[side]
            self._indexes[key] = open_index(config, vectors, index_file(self.folder, side, config))
        return self._indexes[key]

    @cached_property
    def _has_regions(self) -> bool:
        return REGION in pq.read_schema(self.folder / PAIRS).names

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {pair_id: row for row, pair_id in enumerate(self.ids)}

    def _rows_of(self, ids: Collection[str]) -> Ints:
        """Rows of the ids that the memory holds; a training pair may well not be in it."""
        known = self._row_of
        return np.array(sorted({known[pair_id] for pair_id in ids if pair_id in known}), dtype=np.int64)

    def _strings(self, column: str) -> Strings:
        values: Strings = np.array(self._column(column).to_pylist(), dtype=object)
        return values

    def _take(self, column: str, rows: Ints | Sequence[int]) -> list[str]:
        values: list[str] = self._column(column).take(pa.array(np.asarray(rows, dtype=np.int64))).to_pylist()
        return values

    def _column(self, name: str) -> Any:
        if name not in self._columns:
            self._columns[name] = pq.read_table(self.folder / PAIRS, columns=[name]).column(0)
        return self._columns[name]

    @cached_property
    def _columns(self) -> dict[str, Any]:
        return {}


def _checked_side(side: str) -> str:
    if side not in SIDES:
        raise UsageError(f"unknown side '{side}' of a memory; use {' or '.join(SIDES)}")
    return side


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise DataError(f"{path} has schema {content['schema']}, this version reads {SCHEMA}; {_rebuild(folder)}")
        return content
    except OSError as error:
        raise DataError(
            f"{folder} is not a memory ({error.strerror}: {MANIFEST}); build one with `trireme memory build`"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); {_rebuild(folder)}") from error


def _check_files(folder: Path, checksums: Mapping[str, str]) -> None:
    """Compare every file with its checksum. A file is read again only when it changed: its hash is remembered."""
    for name in [*ARRAYS.values(), PAIRS]:
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path} is missing; {_rebuild(folder)}")
        if file_sha256(path) != checksums.get(name):
            raise DataError(f"{path} does not match its checksum (truncated or changed); {_rebuild(folder)}")


def _rebuild(folder: Path) -> str:
    return f"remove the folder (`rm -r {folder}`) and run `trireme memory build` or the same command again"


def _map_array(path: Path) -> Floats:
    try:
        array: Floats = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a whole array ({error}); {_rebuild(path.parent)}") from error
    return array


def _repaired(folder: Path, pairs: PairSet, store: EmbeddingStore) -> bool:
    """Whether a finished memory lacks pictures that can be read by now. Its key does not tell."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        lacking = {entry["id"] for entry in manifest["unreadable"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False  # absent, or damaged: opening it says so
    held = pairs.base if isinstance(pairs, DrawnPairs) else pairs
    refs = [pair.image for pair in held.pairs() if pair.id in lacking] if lacking else []
    return len(store.prepare(refs)) < len(refs)
