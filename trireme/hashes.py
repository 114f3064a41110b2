"""Content hashes of files and of parts of them, remembered by path, size and times: a warm run reads none twice."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from hashlib import sha256
from pathlib import Path

from trireme.errors import DataError
from trireme.files import home, sha256_file
from trireme.parts import file_stat, part_of, read_bytes
from trireme.progress import Progress, progress

# A file changed this many nanoseconds before it is hashed could change again under the same time stamp: not remembered.
_SETTLED_NS = 2_000_000_000
_SHOWN = 256  # files from which on a progress bar is shown
_BLOCK = 4096  # files after which what was read is stored
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS hashes (path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, ctime INTEGER, sha256 TEXT)"
)
_Stamp = tuple[int, int, int]


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of one file (weights, configuration), remembered between processes.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    found = file_hashes([str(path)])[0]
    if isinstance(found, OSError):
        raise DataError(f"cannot read {path}: {found.strerror or found}")
    return found


def file_hashes(paths: Sequence[str], workers: int = 1) -> list[str | OSError]:
    """Hex SHA-256 of each path, or the error that reading it gave; only files new since the last time are read.

    A part of a file (`trireme.parts`) is remembered while its file stays as it is. A path that is listed several times
    (regions of one picture) is read once.
    """
    unique = list(dict.fromkeys(paths))
    found = dict(zip(unique, _hashes(unique, workers), strict=True))
    return [found[path] for path in paths]


def _hashes(paths: Sequence[str], workers: int) -> list[str | OSError]:
    stamps = [_stamp(path) for path in paths]
    known = _recall([path for path, stamp in zip(paths, stamps, strict=True) if not isinstance(stamp, OSError)])
    results: list[str | OSError] = []
    unknown: list[int] = []
    for position, (path, stamp) in enumerate(zip(paths, stamps, strict=True)):
        if isinstance(stamp, OSError):
            results.append(stamp)
        elif path in known and known[path][0] == stamp:
            results.append(known[path][1])
        else:
            results.append("")
            unknown.append(position)
    if unknown:
        bar: AbstractContextManager[Progress | None] = nullcontext()
        if len(unknown) >= _SHOWN:
            bar = progress("hash files", len(unknown), "files")
        with ThreadPoolExecutor(max(1, workers)) as pool, bar as shown:
            for start in range(0, len(unknown), _BLOCK):  # what a killed process has read is not read again
                block = unknown[start : start + _BLOCK]
                for position, digest in zip(block, pool.map(lambda i: _digest(paths[i]), block), strict=True):
                    results[position] = digest
                    if shown is not None:
                        shown.advance()
                _remember([(paths[i], stamps[i], results[i]) for i in block])
    return results


def _stamp(path: str) -> _Stamp | OSError:
    try:
        stat = file_stat(path)
    except OSError as error:
        return error
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _digest(path: str) -> str | OSError:
    try:
        return sha256_file(Path(path)) if part_of(path) is None else sha256(read_bytes(path)).hexdigest()
    except OSError as error:
        return error


@contextmanager
def _table() -> Iterator[sqlite3.Connection]:
    path = home() / "hashes.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        connection.execute(_SCHEMA)
        yield connection


def _recall(paths: Sequence[str]) -> dict[str, tuple[_Stamp, str]]:
    found: dict[str, tuple[_Stamp, str]] = {}
    try:
        with _table() as table:
            for path in paths:
                row = table.execute("SELECT size, mtime, ctime, sha256 FROM hashes WHERE path = ?", (path,)).fetchone()
                if row:
                    found[path] = ((row[0], row[1], row[2]), row[3])
    except sqlite3.DatabaseError as error:
        _drop_damaged(error)
    except OSError:
        pass
    return found


def _remember(entries: Sequence[tuple[str, _Stamp | OSError, str | OSError]]) -> None:
    """Store fresh hashes. The table only saves time, so a full disk or a read-only home is no error here."""
    settled = time.time_ns() - _SETTLED_NS
    rows = [
        (path, *stamp, digest)
        for path, stamp, digest in entries
        if not isinstance(stamp, OSError) and isinstance(digest, str) and max(stamp[1:]) < settled
    ]
    try:
        with _table() as table:
            table.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?)", rows)
    except sqlite3.DatabaseError as error:
        _drop_damaged(error)
    except OSError:
        pass


def _drop_damaged(error: sqlite3.DatabaseError) -> None:
    """A table that is not a database any more is removed; a locked or full one is left alone."""
    if not isinstance(error, sqlite3.OperationalError):
        (home() / "hashes.sqlite").unlink(missing_ok=True)
