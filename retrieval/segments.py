"""Rows of vectors on disk under content keys: a folder of immutable segment files that many processes may share.

A segment is a safetensors file with `keys` (n, 32) uint8, `checks` (n,) uint32 and `vectors` (n, d) float32.
Segments are written whole or not at all and never changed; the store is their union. So a writer that dies loses
what it had not appended yet and nothing else, and two writers at worst hold a row twice.
"""

from __future__ import annotations

import json
import mmap
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from trireme.errors import DataError, TriremeError
from trireme.files import atomic_file, fingerprint, locked
from trireme.progress import say
from trireme.types import Floats, Ints

KEY_BYTES = 32
_SMALL = 16 << 20  # bytes; smaller segments are merged ...
_MANY = 16  # ... once there are this many of them, ...
_LARGE = 32 << 20  # ... into files of about this size; joining one needs several times as much memory

Bytes = NDArray[np.uint8]


class DamagedSegmentError(DataError):
    """A segment does not hold what was written; it has been moved aside."""


@dataclass(frozen=True, slots=True)
class _Segment:
    path: Path
    keys: Bytes  # (n, 32), in memory
    checks: NDArray[np.uint32]  # (n,)
    vectors: Floats  # (n, d), memory-mapped


class Segments:
    """The union of the segment files of one folder.

    Args:
        folder: made at the first append.
        dim: d; a segment of another width counts as damaged.
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder, self.dim = folder, dim
        self._segments: dict[str, _Segment] = {}
        self._starts: Ints = np.zeros(1, dtype=np.int64)
        self._prefixes: NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
        self._order: Ints = np.zeros(0, dtype=np.int64)
        self._keys: Bytes = np.zeros((0, KEY_BYTES), dtype=np.uint8)
        self.refresh()

    def refresh(self) -> None:
        """See the segments that other processes added, or that were merged or moved aside."""
        while True:
            names = sorted(path.name for path in self.folder.glob("*.safetensors"))
            try:
                fresh = {name: self._segments.get(name) or self._open(self.folder / name) for name in names}
            except FileNotFoundError:
                continue  # merged away between the listing and the opening: list again
            break
        self._segments = {name: segment for name, segment in fresh.items() if segment is not None}
        parts = list(self._segments.values())
        self._starts = np.cumsum([0, *(len(part.keys) for part in parts)]).astype(np.int64)
        self._keys = np.concatenate([np.zeros((0, KEY_BYTES), dtype=np.uint8), *(part.keys for part in parts)])
        prefixes = _prefixes(self._keys)
        self._order = np.argsort(prefixes, kind="stable").astype(np.int64)
        self._prefixes = prefixes[self._order]

    def __len__(self) -> int:
        return len(self._keys)

    def lookup(self, keys: Bytes) -> Ints:
        """Row of each key (n, 32), -1 where it is not stored. (n,) int64, valid until the next refresh."""
        rows = np.full(len(keys), -1, dtype=np.int64)
        if not len(self._keys) or not len(keys):
            return rows
        wanted = _prefixes(keys)
        at = np.searchsorted(self._prefixes, wanted, side="left")
        near = self._order[np.minimum(at, len(self._order) - 1)]
        same = (self._keys[near] == keys).all(axis=1)
        rows[same] = near[same]
        for i in np.flatnonzero(~same):  # absent, or behind another key with the same first eight bytes
            j = at[i]
            while j < len(self._prefixes) and self._prefixes[j] == wanted[i]:
                if (self._keys[self._order[j]] == keys[i]).all():
                    rows[i] = self._order[j]
                    break
                j += 1
        return rows

    def gather(self, rows: Ints) -> Floats:
        """Vectors of the given rows, (n, d), copied out of the mapped files and checked one by one.

        Raises:
            DamagedSegmentError: a row is not what was written; its segment is moved aside, so encode again and retry.
        """
        result = np.empty((len(rows), self.dim), dtype=np.float32)
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        for number, segment in enumerate(self._segments.values()):
            here = np.flatnonzero(owner == number)
            if not len(here):
                continue
            local = rows[here] - self._starts[number]
            vectors = segment.vectors[local]
            for key, check, vector in zip(segment.keys[local], segment.checks[local], vectors, strict=True):
                if _check(key, vector) != check:
                    self._move_aside(segment.path, "a row does not match its checksum")
                    del self._segments[segment.path.name]
                    self.refresh()
                    raise DamagedSegmentError(f"{segment.path} was damaged and is moved aside; run again")
            result[here] = vectors
            _let_go(segment)
        return result

    def append(self, keys: Bytes, vectors: Floats) -> None:
        """Write one segment, atomically. `lookup` sees it after the next `refresh`.

        Raises:
            TriremeError: the disk is full or the folder cannot be written.
        """
        if not len(keys):
            return
        checks = np.array([_check(key, vector) for key, vector in zip(keys, vectors, strict=True)], dtype=np.uint32)
        self._write(keys, checks, vectors)

    def merge(self) -> None:
        """Join small segments where there are many. Readers keep what they mapped; a killed merge leaves copies."""
        if sum(_is_small(path) for path in self.folder.glob("*.safetensors")) < _MANY:
            return
        with locked(self.folder / "merge"):
            self.refresh()
            small = [part for part in self._segments.values() if _is_small(part.path)]
            if len(small) < _MANY:
                return
            group: list[_Segment] = []
            for part in small:
                group.append(part)
                if sum(member.vectors.nbytes for member in group) >= _LARGE:
                    self._join(group)
                    group = []
            self._join(group)
        self.refresh()

    def _join(self, group: Sequence[_Segment]) -> None:
        if len(group) < 2:
            return
        keys = np.concatenate([part.keys for part in group])
        _, first = np.unique(keys, axis=0, return_index=True)
        keep = np.sort(first)
        checks = np.concatenate([part.checks for part in group])
        vectors = np.concatenate([part.vectors for part in group])
        for part in group:
            _let_go(part)
        if len(keep) < len(keys):
            keys, checks, vectors = keys[keep], checks[keep], vectors[keep]
        written = self._write(keys, checks, vectors)
        for part in group:
            if part.path != written:
                part.path.unlink(missing_ok=True)

    def _write(self, keys: Bytes, checks: NDArray[np.uint32], vectors: Floats) -> Path:
        # The name is a hash of the keys: two processes that encode the same pictures write the same file.
        path = self.folder / f"{fingerprint(keys.tobytes().hex())}.safetensors"
        blob = save({"keys": np.ascontiguousarray(keys), "checks": checks, "vectors": np.ascontiguousarray(vectors)})
        try:
            with atomic_file(path) as part:
                part.write_bytes(blob)
        except OSError as error:
            raise TriremeError(f"cannot write {path}: {error.strerror or error}; make room and run again") from error
        return path

    def _open(self, path: Path) -> _Segment | None:
        try:
            return _read(path, self.dim)
        except FileNotFoundError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._move_aside(path, str(error))
            return None

    def _move_aside(self, path: Path, reason: str) -> None:
        target = path.with_suffix(".damaged")
        try:
            path.replace(target)
        except FileNotFoundError:
            return  # another process was faster
        say(f"{path} is damaged ({reason}); moved to {target.name}, what it held is encoded again")


def _read(path: Path, dim: int) -> _Segment:
    """Map one segment. ValueError, KeyError or TypeError where it is not one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > size - 8:
            raise ValueError("truncated")
        header = json.loads(file.read(length))
        base = 8 + length
        count = header["keys"]["shape"][0]
        end = base + max(entry["data_offsets"][1] for entry in header.values())
        if end != size or header["vectors"]["shape"] != [count, dim] or header["vectors"]["dtype"] != "F32":
            raise ValueError(f"truncated, or not {count} vectors of {dim} float32")
        file.seek(base + header["keys"]["data_offsets"][0])
        keys = np.frombuffer(file.read(count * KEY_BYTES), dtype=np.uint8).reshape(count, KEY_BYTES)
        file.seek(base + header["checks"]["data_offsets"][0])
        checks = np.frombuffer(file.read(count * 4), dtype="<u4")
        start = base + header["vectors"]["data_offsets"][0]
        vectors = np.memmap(file, dtype="<f4", mode="r", offset=start, shape=(count, dim))
    return _Segment(path, keys, checks, vectors)


def _let_go(segment: _Segment) -> None:
    """Count what was read of a mapped file no longer as memory of this process; the kernel still caches the file.

    A walk over a large set would else end with all of it resident, and look as if it needed that.
    """
    held, drop = getattr(segment.vectors, "_mmap", None), getattr(mmap, "MADV_DONTNEED", None)
    if held is not None and drop is not None:  # numpy and the system need not have them
        held.madvise(drop)


def _is_small(path: Path) -> bool:
    try:
        return path.stat().st_size < _SMALL
    except FileNotFoundError:
        return False


def _check(key: Bytes, vector: Floats) -> int:
    return zlib.crc32(vector.data, zlib.crc32(key.data))


def _prefixes(keys: Bytes) -> NDArray[np.uint64]:
    return np.ascontiguousarray(keys[:, :8]).view("<u8").reshape(len(keys)).astype(np.uint64)
