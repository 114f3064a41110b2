"""The embedding cache: every picture and every text goes through an encoder once, whatever the number of runs.

A row is keyed by the encoder's fingerprint (a folder) and the SHA-256 of the picture's bytes (for a region of one: of
that hash and the region) or of the text. Rows reach the disk every few hundred pictures, in whole batches and in the
order asked, so a killed process goes on where it stopped and forms the same batches as one that was never interrupted.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from trireme.errors import DataError
from trireme.files import home
from trireme.hashes import file_hashes
from trireme.parts import read_bytes
from trireme.progress import progress, say
from trireme.retrieval.encoders.base import BadEmbeddingError, Encoder, load_image
from trireme.retrieval.loading import ahead, in_turns
from trireme.retrieval.pictures import content_key, region_of
from trireme.retrieval.segments import KEY_BYTES, Bytes, DamagedSegmentError, Segments
from trireme.types import Floats, ImageRef

FLUSH_ROWS = 512
FLUSH_SECONDS = 10.0
TEXT_BATCH = 256


class EmbeddingStore:
    """Cached embeddings of one encoder. n pictures or texts, d dimensions.

    Args:
        encoder: any `Encoder`; its weights are not touched while everything asked for is cached.
        root: folder of all encoders' caches; `home()/embeddings` by default.
        batch_size: pictures per forward pass.
        workers: threads that read and preprocess pictures ahead of the model; 0 means one a core, at most 16.

    Attributes:
        forwards: pictures and texts that this object pushed through the model.
        before_write: called before rows reach the disk; where it raises, they do not.
    """

    def __init__(self, encoder: Encoder, root: Path | None = None, batch_size: int = 64, workers: int = 0) -> None:
        self.encoder = encoder
        self.batch_size = max(1, batch_size)
        self.workers = workers if workers > 0 else min(16, os.cpu_count() or 2)
        self.folder = (root if root is not None else home() / "embeddings") / encoder.fingerprint
        self.forwards = 0
        self.before_write: Callable[[], None] | None = None
        self._images = Segments(self.folder / "images", encoder.dim)
        self._texts = Segments(self.folder / "texts", encoder.dim)

    def prepare(self, refs: Sequence[ImageRef]) -> dict[int, str]:
        """Encode what is missing. {position: reason} of the pictures that cannot be read; they are not cached.

        Raises:
            DataError: the encoder gives NaN for a picture, which is named.
            TriremeError: the disk is full; what was encoded before stays.
        """
        return self._prepare(refs)[1]

    def images(self, refs: Sequence[ImageRef]) -> Floats:
        """Embeddings (n, d) of the pictures, encoding the missing ones first.

        Raises:
            DataError: a picture cannot be read; names the file.
        """
        for _ in range(3):  # again where a damaged segment had to be moved aside
            keys, failed = self._prepare(refs)
            if failed:
                position = min(failed)
                raise DataError(f"{refs[position].path}: {failed[position]} ({len(failed)} unreadable in all)")
            try:
                return self._images.gather(self._images.lookup(keys))
            except DamagedSegmentError:
                continue
        raise DataError(f"segments of {self._images.folder} are damaged again and again; check the disk")

    def iterate(self, refs: Sequence[ImageRef], batch: int = 4096) -> Iterator[Floats]:
        """Embeddings in blocks of at most (batch, d), in order: for sets whose (n, d) array does not fit in memory."""
        for start in range(0, len(refs), batch):
            yield self.images(refs[start : start + batch])

    def texts(self, texts: Sequence[str]) -> Floats:
        """Embeddings (n, d) of the texts, encoding the missing ones first."""
        keys = _stack([hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts])
        for _ in range(3):
            missing = self._missing(self._texts, keys)
            if missing:
                self._encode_texts([texts[i] for i in missing], keys[missing])
            try:
                return self._texts.gather(self._texts.lookup(keys))
            except DamagedSegmentError:
                continue
        raise DataError(f"segments of {self._texts.folder} are damaged again and again; check the disk")

    def _prepare(self, refs: Sequence[ImageRef]) -> tuple[Bytes, dict[int, str]]:
        keys, failed = self._keys(refs)
        readable = np.array([i for i in range(len(refs)) if i not in failed], dtype=np.int64)
        missing = readable[self._missing(self._images, keys[readable])].tolist()
        if missing:
            reasons = self._encode_images([refs[i] for i in missing], keys[missing])
            if reasons:  # the same bytes may stand at several positions
                failed |= {i: reasons[key] for i in readable.tolist() if (key := keys[i].tobytes()) in reasons}
            self._images.refresh()
            self._images.merge()
        return keys, failed

    def _keys(self, refs: Sequence[ImageRef]) -> tuple[Bytes, dict[int, str]]:
        """Content keys (n, 32), by the manifest's hash where it has one, else the file's; any for the missing files."""
        digests = [ref.sha256 for ref in refs]
        unknown = [i for i, digest in enumerate(digests) if not digest]
        failed: dict[int, str] = {}
        for i, found in zip(unknown, file_hashes([refs[i].path for i in unknown], self.workers), strict=True):
            if isinstance(found, OSError):
                failed[i] = f"cannot read it: {found.strerror or found}"
            else:
                digests[i] = found
        return _stack([_key(digest, ref) for digest, ref in zip(digests, refs, strict=True)]), failed

    def _missing(self, segments: Segments, keys: Bytes) -> list[int]:
        """First position of every key that is not stored, in order."""
        rows = segments.lookup(keys)
        if (rows < 0).any():
            segments.refresh()  # another process may have encoded them meanwhile
            rows = segments.lookup(keys)
        first: dict[bytes, int] = {}
        for i in np.flatnonzero(rows < 0):
            first.setdefault(keys[i].tobytes(), int(i))
        return list(first.values())

    def _encode_images(self, refs: Sequence[ImageRef], keys: Bytes) -> dict[bytes, str]:
        """Encode and append; {key: reason} of the unreadable ones."""
        writer = _Writer(self._images, self.before_write)
        reasons: dict[bytes, str] = {}
        batch: list[tuple[int, torch.Tensor]] = []
        with progress(f"encode {self.encoder.name}", len(refs)) as bar, writer:
            for i, loaded in self._loaded(refs, keys):
                if isinstance(loaded, str):
                    reasons[keys[i].tobytes()] = loaded
                    bar.advance()
                    continue
                batch.append((i, loaded))
                if len(batch) == self.batch_size:
                    self._forward(batch, refs, keys, writer)
                    bar.advance(len(batch))
                    batch = []
            if batch:
                self._forward(batch, refs, keys, writer)
                bar.advance(len(batch))
        return reasons

    def _loaded(self, refs: Sequence[ImageRef], keys: Bytes) -> Iterator[tuple[int, torch.Tensor | str]]:
        """Position and pixels of every picture, in order.

        A GPU computes while the cores load what comes next. A model on the CPU wants the cores for itself: where one of
        its threads has to wait for a core, all the others wait with it.
        """
        device = getattr(self.encoder, "device", None)  # a plugin need not say
        if device is None or torch.device(device).type == "cpu":
            return in_turns(self._load, refs, keys, self.workers, self.batch_size)
        return ahead(self._load, refs, keys, self.workers, 3 * self.batch_size)

    def _load(self, refs: Sequence[ImageRef], keys: Bytes) -> list[torch.Tensor | str]:
        """Preprocessed pixels (3, H, W) of a file or of regions of it, or why there are none. Runs in a thread."""
        try:
            blob = read_bytes(refs[0].path)
        except OSError as error:
            return [f"cannot read it: {error.strerror or error}"] * len(refs)
        digest = hashlib.sha256(blob).hexdigest()
        image: Image.Image | DataError
        try:
            image = load_image(blob)
        except DataError as error:
            image = error
        same = [_key(digest, ref) == key.tobytes() for ref, key in zip(refs, keys, strict=True)]
        return [self._pixels(image, *asked) for asked in zip(refs, same, strict=True)]

    def _pixels(self, image: Image.Image | DataError, ref: ImageRef, same: bool) -> torch.Tensor | str:
        """What `ref` shows of a file that was read; `same`: whether its bytes are those of the key."""
        if not same and ref.sha256:
            return "its bytes are not those that its manifest lists (SHA-256 differs); fetch or build the set again"
        if not same:
            return "it changed while it was read; run again"
        if isinstance(image, DataError):
            return str(image)
        try:
            return self.encoder.preprocess(image if ref.region is None else region_of(image, ref.region))
        except (DataError, ValueError, OSError) as error:
            return str(error)

    def _forward(
        self, batch: list[tuple[int, torch.Tensor]], refs: Sequence[ImageRef], keys: Bytes, writer: _Writer
    ) -> None:
        positions = [i for i, _ in batch]
        try:
            vectors = self.encoder.encode_pixels(torch.stack([pixels for _, pixels in batch]))
            _check_finite(vectors, self.encoder)
        except BadEmbeddingError as error:
            names = [refs[positions[row]].path for row in error.rows[:3]]
            raise DataError(f"{error} - pictures: {', '.join(names)}") from error
        self.forwards += len(batch)
        writer.add(keys[positions], vectors)

    def _encode_texts(self, texts: Sequence[str], keys: Bytes) -> None:
        writer = _Writer(self._texts, self.before_write)
        with progress(f"encode {self.encoder.name}", len(texts), "texts") as bar, writer:
            for start in range(0, len(texts), TEXT_BATCH):
                batch = texts[start : start + TEXT_BATCH]
                try:
                    vectors = self.encoder.encode_texts(batch)
                    _check_finite(vectors, self.encoder)
                except BadEmbeddingError as error:
                    raise DataError(f"{error} - text: {batch[error.rows[0]]!r}") from error
                self.forwards += len(batch)
                writer.add(keys[start : start + len(batch)], vectors)
                bar.advance(len(batch))
        self._texts.refresh()
        self._texts.merge()


class _Writer:
    """Collects whole batches and appends them every `FLUSH_ROWS` rows or `FLUSH_SECONDS`, and when the work stops."""

    def __init__(self, segments: Segments, before: Callable[[], None] | None) -> None:
        self._segments, self._before = segments, before
        self._keys: list[Bytes] = []
        self._vectors: list[Floats] = []
        self._since = time.monotonic()

    def add(self, keys: Bytes, vectors: Floats) -> None:
        self._keys.append(keys)
        self._vectors.append(vectors)
        if sum(map(len, self._keys)) >= FLUSH_ROWS or time.monotonic() - self._since >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        keys, vectors = self._keys, self._vectors
        self._keys, self._vectors, self._since = [], [], time.monotonic()
        if keys:
            if self._before is not None:
                self._before()
            self._segments.append(np.concatenate(keys), np.concatenate(vectors))

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.flush()  # also on Ctrl-C or a broken picture: finished batches are not lost
        except Exception as error:
            if kind is None:
                raise
            say(f"the last embeddings could not be kept either: {error}")


def _check_finite(vectors: Floats, encoder: Encoder) -> None:
    """For encoders that do not normalise through `base.normalise`: nothing broken is ever cached."""
    if vectors.ndim != 2 or vectors.shape[1] != encoder.dim:
        raise DataError(f"encoder {encoder.name} says dim={encoder.dim} and gives arrays of shape {vectors.shape}")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise BadEmbeddingError(f"encoder {encoder.name} gives NaN or infinite embeddings", bad.tolist())


def _key(digest: str | None, ref: ImageRef) -> bytes:
    """The key of what `ref` shows of a file with that hash."""
    try:
        found = bytes.fromhex(digest or "00" * KEY_BYTES)
    except ValueError:
        found = b""
    if len(found) != KEY_BYTES:
        raise DataError(f"{ref.path}: its manifest lists '{digest}', which is not a SHA-256")
    return bytes.fromhex(content_key(found.hex(), ref.region))


def _stack(digests: Sequence[bytes]) -> Bytes:
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(len(digests), KEY_BYTES)
