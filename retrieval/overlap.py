"""Pictures of a benchmark in a memory that was not built for it: told by their bytes, and by their embeddings.

By bytes, a region counts as the picture that it is cut from. By embedding it is looked up both as it is shown and as
that picture.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trireme.retrieval.dedup import picture_hashes
from trireme.retrieval.memory import Memory
from trireme.retrieval.store import EmbeddingStore
from trireme.types import ImageRef

NEARLY_EQUAL = 0.999
"""Cosine from which two embeddings are taken for those of one picture, saved twice."""

LISTED = 500_000
"""Pictures that a trained part lists at most: 4 MB of text."""

_BLOCK = 4096
_BYTES = 6


@dataclass(frozen=True, slots=True)
class NearEqual:
    """Pictures whose nearest memory picture has nearly their own embedding.

    Attributes:
        compared: how many pictures and regions were looked up; unreadable ones are not.
        paths: those that were found, in the order asked, pictures of regions last.
    """

    compared: int
    paths: list[str]


def trained_on(refs: Sequence[ImageRef]) -> dict[str, Any]:
    """What a trained part says of its pictures, so that nobody tests on them: the first bytes of their SHA-256.

    Above `LISTED` pictures they are only counted.
    """
    digests = sorted({digest[: 2 * _BYTES] for digest in picture_hashes(refs)} - {""})
    listed = base64.b64encode(bytes.fromhex("".join(digests))).decode() if len(digests) <= LISTED else None
    return {"count": len(digests), "sha256_starts": listed}


def among(told: Mapping[str, Any], refs: Sequence[ImageRef]) -> list[ImageRef]:
    """The pictures of `refs` that `trained_on` told."""
    content = base64.b64decode(told.get("sha256_starts") or "")
    starts = {content[at : at + _BYTES].hex() for at in range(0, len(content), _BYTES)}
    hashes = picture_hashes(refs) if starts else []
    return [ref for ref, digest in zip(refs, hashes, strict=False) if digest[: 2 * _BYTES] in starts]


def same_pictures(memory: Memory, refs: Sequence[ImageRef]) -> list[str]:
    """Ids of the pairs whose picture has the bytes of one of `refs`, in the order of rows."""
    hashes = set(picture_hashes(refs)) - {""}
    return [str(memory.ids[row]) for row, digest in enumerate(memory.hashes) if digest in hashes]


def near_equal(memory: Memory, store: EmbeddingStore, refs: Sequence[ImageRef]) -> NearEqual:
    """Look every picture up in the memory's image side; what is not encoded yet is encoded by `store`.

    Raises:
        MemoryMismatchError: another encoder built the memory.
    """
    asked = [*refs, *dict.fromkeys(ref.whole() for ref in refs if ref.region)]
    failed = store.prepare(asked)
    readable = [ref for position, ref in enumerate(asked) if position not in failed]
    paths: list[str] = []
    for start in range(0, len(readable), _BLOCK):
        block = readable[start : start + _BLOCK]
        nearest = memory.search(store.images(block), "image", 1, encoder=store.encoder.fingerprint).scores[:, 0]
        paths += [block[position].path for position in np.flatnonzero(nearest >= NEARLY_EQUAL)]
    return NearEqual(len(readable), paths)
