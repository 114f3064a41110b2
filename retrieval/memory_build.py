"""Writing a memory: near-duplicates out, both sides embedded, all in one folder that appears whole or not at all.

image.npy, text.npy    (N, d) float32, L2-normalised, row i of both is pair i
pairs.parquet          id, caption, label, source, path, sha256; row i is pair i; region where a picture has one
manifest.json          where it comes from, what was left out, checksums
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trireme.errors import DataError, TriremeError
from trireme.files import atomic_folder, fingerprint, sha256_file, write_json
from trireme.progress import say
from trireme.retrieval.dedup import Duplicates, PixelSignature, near_duplicates, picture_hashes
from trireme.retrieval.store import EmbeddingStore
from trireme.types import DrawnPairs, Floats, ImageRef, Pair, PairSet

SCHEMA = 1
ARRAYS = {"image": "image.npy", "text": "text.npy"}
PAIRS = "pairs.parquet"
REGION = "region"
"""A column of `Region.text` or "", only where there are regions: memories of whole pictures stay as they are."""
MANIFEST = "manifest.json"
_BLOCK = 4096
_LISTED = 200  # pairs left out are all counted, and this many of each kind named in the manifest


def memory_key(pairs: PairSet, store: EmbeddingStore, against: Sequence[ImageRef], threshold: float) -> str:
    """Hash of everything that decides what the folder holds; the index is not part of it."""
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "pairs": pairs.fingerprint,
        "encoder": store.encoder.fingerprint,
        "near_duplicates": None,
    }
    if against:
        hashes = sorted(set(picture_hashes(against)))
        content["near_duplicates"] = [fingerprint(hashes), threshold, PixelSignature.fingerprint]
    return fingerprint(content)


def write_memory(
    folder: Path, pairs: PairSet, store: EmbeddingStore, against: Sequence[ImageRef], threshold: float
) -> None:
    """Build the memory of `pairs` at `folder`.

    Raises:
        DataError: two pairs share an id, or no pair is left.
        TriremeError: the disk is full.
    """
    drawn = pairs if isinstance(pairs, DrawnPairs) else None
    candidates = list((drawn.base if drawn else pairs).pairs())
    _check_ids(candidates, pairs.name)
    sieve = _Sieve(store, against, threshold)
    if drawn:
        kept = list(drawn.draw(sieve))
    else:
        kept = [pair for pair, stays in zip(candidates, sieve(candidates), strict=True) if stays]
    removed, unreadable = sieve.removed, sieve.unreadable
    asked = len(kept) + len(removed) + len(unreadable)
    if not kept:
        raise DataError(_nothing_left(pairs.name, asked, len(removed), unreadable))
    if unreadable:
        pair, reason = unreadable[0]
        say(f"memory {pairs.name}: {len(unreadable)} pictures are unreadable and left out (first: {pair.id}: {reason})")
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "name": pairs.name,
        "fingerprint": folder.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "encoder": {"name": store.encoder.name, "fingerprint": store.encoder.fingerprint, "dim": store.encoder.dim},
        "pairs": {"name": pairs.name, "fingerprint": pairs.fingerprint},
        "counts": {
            "asked": asked,
            "kept": len(kept),
            "unreadable": len(unreadable),
            "near_duplicates": len(removed),
        },
        "near_duplicates": {
            "threshold": threshold,
            "measure": "pixel correlation at 32 x 32 RGB, each channel less its mean; or the same bytes",
            "compared_with": len(against),
            "removed": removed[:_LISTED],
        },
        "unreadable": [{"id": pair.id, "reason": reason} for pair, reason in unreadable[:_LISTED]],
    }
    if drawn:
        manifest["drawn"] = {"from": memory_key(drawn.base, store, against, threshold), **drawn.facts(kept)}
    _write_folder(folder, kept, store, manifest)


def _write_folder(folder: Path, kept: Sequence[Pair], store: EmbeddingStore, manifest: dict[str, Any]) -> None:
    images = [pair.image for pair in kept]
    captions = [pair.caption for pair in kept]
    shape = (len(kept), store.encoder.dim)
    try:
        with atomic_folder(folder) as part:
            _write_array(part / ARRAYS["image"], shape, store.iterate(images, _BLOCK))
            texts = (store.texts(captions[start : start + _BLOCK]) for start in range(0, len(captions), _BLOCK))
            _write_array(part / ARRAYS["text"], shape, texts)
            pq.write_table(_table(kept), part / PAIRS)
            manifest["files"] = _checksums(part)
            write_json(part / MANIFEST, manifest)
    except OSError as error:  # pyarrow, too, reports a full disk as OSError
        raise TriremeError(f"cannot write the memory {folder}: {error}; make room and run again") from error


def _check_ids(pairs: Sequence[Pair], name: str) -> None:
    seen: set[str] = set()
    for pair in pairs:
        if pair.id in seen:
            raise DataError(f"pair set {name} has the id '{pair.id}' twice; ids must be unique")
        seen.add(pair.id)


class _Sieve:
    """Tells which pairs a memory can hold: readable ones that nearly equal no picture of `against`. Lists the others.

    Attributes:
        removed: near-duplicates, in the order asked: their id, and what they equal.
        unreadable: (pair, reason), in the order asked.
    """

    def __init__(self, store: EmbeddingStore, against: Sequence[ImageRef], threshold: float) -> None:
        self._store, self._against, self._threshold = store, against, threshold
        self.removed: list[Mapping[str, Any]] = []
        self.unreadable: list[tuple[Pair, str]] = []
        self._uncompared = 0

    def __call__(self, pairs: Sequence[Pair]) -> list[bool]:
        stays = self._differ(pairs) if self._against else [True] * len(pairs)
        places = [place for place, kept in enumerate(stays) if kept]
        failed = self._store.prepare([pairs[place].image for place in places])
        for number, reason in sorted(failed.items()):
            self.unreadable.append((pairs[places[number]], reason))
            stays[places[number]] = False
        return stays

    def _differ(self, pairs: Sequence[Pair]) -> list[bool]:
        images = [pair.image for pair in pairs]
        found: Duplicates = near_duplicates(images, self._against, self._threshold, self._store.folder.parent)
        self.removed += [
            {"id": pair.id, "correlation": round(float(value), 4), "of": Path(other).name}
            for pair, gone, value, other in zip(pairs, found.duplicate, found.correlation, found.nearest, strict=True)
            if gone
        ]
        if found.uncompared and not self._uncompared:
            say(f"near-duplicates: {found.uncompared} pictures to compare with could not be read")
        self._uncompared = found.uncompared
        return [not gone for gone in found.duplicate]


def _nothing_left(name: str, asked: int, removed: int, unreadable: Sequence[tuple[Pair, str]]) -> str:
    reason = f"; first unreadable: {unreadable[0][0].id}: {unreadable[0][1]}" if unreadable else ""
    return (
        f"no pair of {name} is left for a memory: {asked} asked, {removed} near-duplicates of test pictures, "
        f"{len(unreadable)} unreadable{reason}"
    )


def _table(pairs: Sequence[Pair]) -> pa.Table:
    columns = {
        "id": [pair.id for pair in pairs],
        "caption": [pair.caption for pair in pairs],
        "label": [pair.label for pair in pairs],
        "source": [pair.source for pair in pairs],
        "path": [pair.image.path for pair in pairs],
        "sha256": picture_hashes([pair.image for pair in pairs]),
    }
    if any(pair.image.region for pair in pairs):
        columns[REGION] = [pair.image.region.text if pair.image.region else "" for pair in pairs]
    return pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns]))


def _write_array(path: Path, shape: tuple[int, int], blocks: Iterable[Floats]) -> None:
    """An .npy file from blocks of rows. Plain writes: through a memory map, a full disk would kill the process."""
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype="<f4").tobytes())


def _checksums(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.is_file()}
