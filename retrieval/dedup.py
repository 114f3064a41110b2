"""Near-duplicates by pixel correlation: which pictures of a memory would give test pictures away. No encoder involved.

The signature of a picture is its 32 x 32 RGB reduction, each channel less its mean, scaled to length 1 as a whole: the
inner product of two signatures is the correlation of their pixels, with a common colour cast left out. A coarser
reduction takes different drawings of simple things (faces, clocks, hearts) for copies. A picture of one flat colour
correlates with nothing: its signature is zero, and it is a duplicate only of a file with the same bytes.

A region counts as the picture that it is cut from, on both sides: whoever saw one box of a test picture saw the test
picture. Boxes are not compared as such: reduced to 32 x 32, small ones of different things correlate (a blurred blob on
a plain ground), and correlation cannot tell a picture in its own enlarged part anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from trireme.errors import UsageError
from trireme.files import fingerprint
from trireme.hashes import file_hashes
from trireme.retrieval.store import EmbeddingStore
from trireme.types import Floats, ImageRef

SIDE = 32
BLOCK = 4096
"""Signatures held at a time on either side, 50 MB."""
# Standard deviation of pixel values (0..255) under which a picture counts as flat: noise of a compressed flat colour.
_FLAT = 0.5


class PixelSignature:
    """The signature as an `Encoder`, so that the embedding cache computes it once a picture."""

    name = "pixels32"
    dim = SIDE * SIDE * 3
    fingerprint = fingerprint({"signature": "rgb-box-channel-mean-unit-norm", "side": SIDE, "flat": _FLAT})
    logit_scale = 1.0

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        small = image.resize((SIDE, SIDE), Image.Resampling.BOX)
        return torch.from_numpy(np.asarray(small, dtype=np.float32).transpose(2, 0, 1).copy())

    def encode_pixels(self, pixels: torch.Tensor) -> Floats:
        """(n, 3, 32, 32) to (n, 3072): zero mean in each channel, length 1; zero where the picture is flat."""
        channels: Floats = pixels.numpy().reshape(len(pixels), 3, -1).astype(np.float32)
        rows = (channels - channels.mean(axis=2, keepdims=True)).reshape(len(pixels), -1)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        flat = norms < _FLAT * np.sqrt(self.dim)
        return np.where(flat, 0, rows / np.where(flat, 1, norms)).astype(np.float32)

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        raise UsageError("pixel signatures have no text side")

    def encode_tokens(self, pixels: torch.Tensor) -> Floats:
        raise UsageError("pixel signatures have no patch tokens")


@dataclass(frozen=True)
class Duplicates:
    """What was found for n candidates.

    Attributes:
        duplicate: (n,) bool: correlation above the threshold, or the same bytes.
        correlation: (n,) highest correlation with any picture compared against; 1 for the same bytes, 0 for unreadable.
        nearest: (n,) path of that picture, "" where there is none.
        uncompared: how many pictures to compare against could not be read.
    """

    duplicate: NDArray[np.bool_]
    correlation: Floats
    nearest: list[str]
    uncompared: int


def near_duplicates(
    candidates: Sequence[ImageRef], against: Sequence[ImageRef], threshold: float, root: Path | None = None
) -> Duplicates:
    """Compare every candidate with every picture of `against`, regions as the pictures that they are cut from.

    Args:
        threshold: correlations above it are near-duplicates; in (0, 1].
        root: as for `EmbeddingStore`.

    Raises:
        UsageError: the threshold is outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"near-duplicate threshold {threshold} must be above 0 and at most 1 (a pixel correlation)")
    wholes = [ref.whole() for ref in candidates]
    place = {ref: number for number, ref in enumerate(dict.fromkeys(wholes))}
    found = _compared(list(place), list(dict.fromkeys(ref.whole() for ref in against)), threshold, root)
    rows = [place[ref] for ref in wholes]
    nearest = [found.nearest[row] for row in rows]
    return Duplicates(found.duplicate[rows], found.correlation[rows], nearest, found.uncompared)


def _compared(
    candidates: Sequence[ImageRef], against: Sequence[ImageRef], threshold: float, root: Path | None
) -> Duplicates:
    """`near_duplicates` of whole pictures, each listed once."""
    n = len(candidates)
    correlation, nearest = np.zeros(n, dtype=np.float32), [""] * n
    store = EmbeddingStore(PixelSignature(), root, batch_size=256)
    failed_against = store.prepare(against)
    failed = store.prepare(candidates)
    usable = [i for i in range(n) if i not in failed]
    others = [ref for i, ref in enumerate(against) if i not in failed_against]
    asked = [candidates[i] for i in usable]
    first = True
    for start in range(0, len(others) if usable else 0, BLOCK):  # a test set's signatures need not fit in memory
        part = others[start : start + BLOCK]
        reference, done = store.images(part), 0
        for block in store.iterate(asked, BLOCK):
            scores, rows = faiss.knn(block, reference, 1, metric=faiss.METRIC_INNER_PRODUCT)
            for i, score, row in zip(usable[done : done + len(block)], scores[:, 0], rows[:, 0], strict=True):
                if first or score > correlation[i]:
                    correlation[i], nearest[i] = min(float(score), 1.0), part[int(row)].path
            done += len(block)
        first = False
    duplicate = correlation > threshold
    same_bytes = {digest: ref.path for digest, ref in zip(picture_hashes(against), against, strict=True) if digest}
    for i, digest in enumerate(picture_hashes(candidates)):
        if digest in same_bytes:
            duplicate[i], correlation[i], nearest[i] = True, 1.0, same_bytes[digest]
    return Duplicates(duplicate, correlation, nearest, len(failed_against))


def picture_hashes(refs: Sequence[ImageRef]) -> list[str]:
    """SHA-256 of each picture's bytes: the manifest's where it has one, else the file's; "" where it cannot be read."""
    unknown = [i for i, ref in enumerate(refs) if not ref.sha256]
    digests = [ref.sha256 or "" for ref in refs]
    for i, found in zip(unknown, file_hashes([refs[i].path for i in unknown], workers=2), strict=True):
        digests[i] = "" if isinstance(found, OSError) else found
    return digests
