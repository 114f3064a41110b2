"""Checksums of a user's pictures, remembered between runs by path, size and modification time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trireme.files import fingerprint, home, locked, sha256_file, write_json
from trireme.progress import progress


def picture_hashes(name: str, paths: Sequence[Path]) -> list[str | None]:
    """SHA-256 of every file in the order given, None where there is none to read.

    Args:
        name: what the pictures belong to; its checksums are remembered together.
    """
    memo = home() / "data" / "custom" / f"{fingerprint(name)}.json"
    known = _load(memo)
    stamps = [_stamp(path) for path in paths]
    wanted = [
        (str(path), stamp)
        for path, stamp in zip(paths, stamps, strict=True)
        if stamp is not None and known.get(str(path), [None])[:2] != stamp
    ]
    if wanted:
        with progress("hash pictures", len(wanted), "pictures") as bar, ThreadPoolExecutor(2) as pool:
            for (path, stamp), sha256 in zip(wanted, pool.map(lambda one: _hash(Path(one[0])), wanted), strict=True):
                known[path] = [*stamp, sha256]
                bar.advance()
        with locked(memo):
            write_json(memo, {**_load(memo), **known})
    return [None if stamp is None else _sha256(known[str(path)]) for path, stamp in zip(paths, stamps, strict=True)]


def _sha256(entry: list[int | str | None]) -> str | None:
    return str(entry[2]) if entry[2] is not None else None


def _load(memo: Path) -> dict[str, list[int | str | None]]:
    try:
        loaded = json.loads(memo.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _stamp(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns] if path.is_file() else None


def _hash(path: Path) -> str | None:
    try:
        return sha256_file(path)
    except OSError:
        return None
