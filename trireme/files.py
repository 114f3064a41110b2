"""Files that are whole or absent: atomic writes, hashes, locks, and where Trireme keeps its data."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trireme.errors import TriremeError


def home() -> Path:
    """Where downloads, pictures, embeddings, memories and trained parts live: $TRIREME_HOME or ~/.cache/trireme."""
    chosen = os.environ.get("TRIREME_HOME")
    if chosen:
        return Path(chosen).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().resolve() / "trireme"


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn a full disk or a read-only folder into one clear line that names what was being written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise TriremeError(f"the disk is full while writing {what}; free some space and run again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise TriremeError(f"no permission to write {what}") from error
        raise


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place on success, remove it on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        with disk_errors(str(path)):
            yield part
            part.chmod(0o644)
            _sync(part)
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it into place on success, remove it on failure.

    Where another process finished the same folder first, its copy stays and ours is dropped.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
    try:
        with disk_errors(str(path)):
            yield part
            part.chmod(0o755)
            for file in part.rglob("*"):
                if file.is_file():
                    _sync(file)
            try:
                part.rename(path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an inter-process lock on `lock_file(path)`; a killed holder releases it."""
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock_file(path)):
        yield


def lock_file(path: Path) -> Path:
    """The file of `locked(path)`.

    A holder may remove it only where whoever comes next finds nothing left to do: one that waits holds the removed file
    then, a later one a new file, and neither knows of the other.
    """
    return path.with_name(f"{path.name}.lock")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON atomically, keys in the order given, non-ASCII kept, one trailing newline."""
    with atomic_file(path) as part:
        part.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """Stable 16-digit hash of a JSON-serialisable value; the order of mapping keys does not matter."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
