"""A FAISS index written elsewhere, with its list of labels, in the place of a memory's image side.

RAR ships such files: an index of support-picture embeddings and the class of each. There are no captions and no text
side; asking for them is an error.
"""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from trireme.errors import DataError, MemoryMismatchError, UsageError
from trireme.files import fingerprint
from trireme.hashes import file_sha256
from trireme.retrieval.encoders.base import Encoder
from trireme.retrieval.index import FlatIndex
from trireme.retrieval.search import Hits, Side, checked_queries, checked_rows, padded, search_without, shares_found
from trireme.types import Floats, ImageRef, Ints

Strings = NDArray[np.object_]


class ForeignIndex:
    """N picture embeddings in a FAISS index file and one label each. Searched like the image side of a `Memory`.

    A row is the position of a vector in the index, or its own id where the index carries ids; `ids` are the row numbers
    as text.

    Args:
        index: the file that `faiss.write_index` wrote; inner product, or L2 over vectors of length 1.
        labels: .txt (one a line), .json (a list, or an object from row to label), .npy (unicode, not pickled) or
            .csv / .tsv (column `column`).
        encoder: what the queries come from. FAISS files do not say which encoder made them, so this is the user's
            word; only the dimension can be checked.

    Raises:
        DataError: a file is missing or damaged; the list does not belong to the index.
        MemoryMismatchError: the index has another dimension than the encoder.
    """

    def __init__(self, index: Path, labels: Path, encoder: Encoder, column: str = "label") -> None:
        self._index = _read_index(index)
        self.dim = int(self._index.d)
        if self.dim != encoder.dim:
            raise MemoryMismatchError(
                f"{index} holds vectors of {self.dim} dimensions, encoder {encoder.name} makes {encoder.dim}; "
                "use the encoder that the index was built with"
            )
        self._squared = _uses_distances(self._index, index)
        listed = [unicodedata.normalize("NFC", label) for label in _read_labels(labels, column)]  # as classes are
        self._check_rows(listed, index, labels)
        self.labels: Strings = np.array(listed, dtype=object)
        self.encoder_fingerprint = encoder.fingerprint
        self.fingerprint = fingerprint([file_sha256(index), file_sha256(labels), encoder.fingerprint, column])
        self.exact = isinstance(_below_ids(self._index), faiss.IndexFlat)
        kind = type(self._index).__name__
        self.manifest: Mapping[str, Any] = {
            "name": index.name,
            "fingerprint": self.fingerprint,
            "encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint, "dim": self.dim},
            "counts": {"asked": len(self), "kept": len(self), "unreadable": 0, "near_duplicates": 0},
            "near_duplicates": None,
            "index": {"kind": f"foreign:{kind}"},
            "files": {index.name: file_sha256(index), labels.name: file_sha256(labels)},
        }

    def _check_rows(self, labels: Sequence[str], index: Path, file: Path) -> None:
        if hasattr(self._index, "id_map"):
            rows = faiss.vector_to_array(self._index.id_map)
            if len(rows) and (rows.min() < 0 or rows.max() >= len(labels)):
                raise DataError(f"{index} has ids up to {rows.max()}, {file} only {len(labels)} labels")
        elif len(labels) != self._index.ntotal:
            raise DataError(
                f"{index} holds {self._index.ntotal} vectors, {file} {len(labels)} labels; they do not match"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def ids(self) -> Strings:
        return np.array([str(row) for row in range(len(self))], dtype=object)

    @cached_property
    def sources(self) -> Strings:
        return np.full(len(self), self.manifest["name"], dtype=object)

    def captions(self, rows: Ints | Sequence[int]) -> list[str]:
        raise UsageError(f"{self.manifest['name']} is a FAISS index with labels; it has no captions - use a memory")

    def refs(self, rows: Ints | Sequence[int]) -> list[ImageRef]:
        raise UsageError(f"{self.manifest['name']} is a FAISS index with labels; it has no pictures - use a memory")

    def embeddings(self, side: Side) -> Floats:
        """(N, d) vectors read back out of the index; DataError where it does not keep them by position."""
        self._check_side(side)
        if not hasattr(self, "_vectors"):
            try:
                self._vectors = _read_back(self._index, self._index.ntotal)
            except RuntimeError as error:
                raise DataError(f"{self.manifest['name']} does not give its vectors back") from error
        return self._vectors

    def search(
        self,
        queries: Floats,
        side: Side,
        k: int,
        exclude: Sequence[Collection[str]] | None = None,
        allowed: Ints | None = None,
        encoder: str | None = None,
    ) -> Hits:
        """As `Memory.search`, on side "image" only; `exclude` holds row numbers as text."""
        self._check_side(side)
        if encoder is not None and encoder != self.encoder_fingerprint:
            raise MemoryMismatchError(
                f"{self.manifest['name']} was opened for {self.encoder_fingerprint}, not {encoder}"
            )
        checked = checked_queries(queries, self.dim, k, self.manifest["name"])
        rows = None if allowed is None else checked_rows(allowed, len(self), self.manifest["name"])
        if exclude is None:
            return self._nearest(checked, k, rows)
        size = self._index.ntotal if rows is None else len(rows)
        excluded = [np.array(sorted({int(i) for i in ids if i.isdecimal()}), dtype=np.int64) for ids in exclude]
        return search_without(lambda part, depth: self._nearest(part, depth, rows), checked, k, excluded, size)

    def index_recall(self, queries: Floats, side: Side, found: Ints, allowed: Ints | None = None) -> Floats | None:
        """As `Memory.index_recall`; also None where the index does not give its vectors back to compare with."""
        if self.exact:
            return None
        try:
            vectors = self.embeddings(side)
        except DataError:
            return None
        checked = checked_queries(queries, self.dim, found.shape[1], "the index")
        return shares_found(FlatIndex(vectors).search(checked, found.shape[1], allowed).rows, found)

    def recall(self, queries: Floats, side: Side, k: int, allowed: Ints | None = None) -> float:
        """As `Memory.recall`; DataError where the index does not give its vectors back to compare with."""
        if self.exact or not len(queries):
            return 1.0
        shares = self.index_recall(queries, side, self.search(queries, side, k, allowed=allowed).rows, allowed)
        if shares is None:
            raise DataError(f"{self.manifest['name']} does not give its vectors back; its recall cannot be measured")
        return float(shares.mean())

    def _nearest(self, queries: Floats, k: int, allowed: Ints | None) -> Hits:
        depth = min(k, self._index.ntotal if allowed is None else len(allowed))
        if not depth or not len(queries):
            return padded(np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32), k)
        if allowed is None:
            scores, rows = self._index.search(queries, depth)
        else:
            # Filtering inside the search is not offered by every kind of index: look at everything, keep the allowed.
            scores, rows = self._index.search(queries, self._index.ntotal)
            scores = np.where(np.isin(rows, allowed), scores, np.inf if self._squared else -np.inf)
            rows = np.where(np.isin(rows, allowed), rows, -1)
        if self._squared:
            scores = 1 - scores / 2  # |a - b|^2 = 2 - 2 a.b for vectors of length 1
        scores = np.where(rows < 0, -np.inf, scores).astype(np.float32)
        order = np.lexsort((rows, -scores), axis=1)[:, :depth]
        return padded(np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1), k)

    def _check_side(self, side: str) -> None:
        if side != "image":
            raise UsageError(
                f"{self.manifest['name']} is a FAISS index of pictures; it has no '{side}' side - use a memory"
            )


def _read_index(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"index file {path} does not exist")
    try:
        return faiss.read_index(str(path))
    except (RuntimeError, MemoryError) as error:
        raise DataError(f"{path} is not a whole FAISS index; copy or build it again") from error


def _below_ids(index: Any) -> Any:
    """The index that a map of ids lies over; any other index itself."""
    return faiss.downcast_index(index.index) if hasattr(index, "id_map") else index


def _read_back(index: Any, count: int) -> Floats:
    """(count, d): the first vectors of an index; RuntimeError where it does not keep them by position."""
    if not isinstance(index, faiss.IndexIVF):  # those look theirs up without a map from positions
        index.reconstruct(0)  # fails in Python; `reconstruct_n` of such an index would end the process
    vectors: Floats = index.reconstruct_n(0, count)
    return vectors


def _uses_distances(index: Any, path: Path) -> bool:
    """False for inner products, True for squared distances between vectors of length 1; DataError for anything else."""
    if index.metric_type == faiss.METRIC_INNER_PRODUCT:
        return False
    if index.metric_type == faiss.METRIC_L2 and index.ntotal:
        try:
            norms = np.linalg.norm(_read_back(_below_ids(index), min(1000, index.ntotal)), axis=1)
        except RuntimeError:
            norms = np.zeros(1)
        if np.allclose(norms, 1, atol=1e-2):
            return True
    raise DataError(f"{path} compares neither by inner product nor by distances of vectors of length 1; build it again")


def _read_labels(path: Path, column: str) -> list[str]:
    readers = {".json": _from_json, ".npy": _from_npy, ".csv": _from_table, ".tsv": _from_table}
    if not path.is_file():
        raise DataError(f"label file {path} does not exist")
    try:
        return readers.get(path.suffix.lower(), _from_lines)(path, column)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot read labels from {path}: {error}") from error


def _from_lines(path: Path, column: str) -> list[str]:
    # not `splitlines`: it also ends a line at a form feed or U+2028, and every label after it would be wrong
    lines = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def _from_json(path: Path, column: str) -> list[str]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, dict):
        content = [content[str(row)] for row in range(len(content))]
    if not isinstance(content, list):
        raise ValueError("neither a list nor an object")
    for row, label in enumerate(content):
        if not isinstance(label, str | int | float):
            raise ValueError(f"row {row} has {json.dumps(label)[:80]}, which is no label")
    return [str(label) for label in content]


def _from_npy(path: Path, column: str) -> list[str]:
    array = np.load(path, allow_pickle=False)
    if array.ndim != 1:
        raise ValueError(f"an array of shape {array.shape}, not a list")
    return [str(label) for label in array.tolist()]


def _from_table(path: Path, column: str) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        if column not in (reader.fieldnames or []):
            raise ValueError(f"no column '{column}'; it has {', '.join(reader.fieldnames or [])}")
        labels = []
        for row in reader:
            if None in row or row[column] is None:
                raise ValueError(f"line {reader.line_num} has not as many cells as the header")
            labels.append(row[column])
        return labels
