"""Frozen trunk tokens of pictures: computed once a process, and kept beside the checkpoint for one that goes on."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trireme.errors import TriremeError
from trireme.files import atomic_file, fingerprint
from trireme.methods.react.distributed import rank
from trireme.progress import say
from trireme.retrieval.dedup import picture_hashes
from trireme.retrieval.encoders.lite.encoder import PREPROCESSING
from trireme.retrieval.encoders.lite.trunk import WHEEL_SHA256, load_trunk
from trireme.retrieval.encoders.lite.views import VERSION, plain_tokens, read_pixels, token_views
from trireme.retrieval.pictures import content_key
from trireme.types import ImageRef

_views: dict[str, Tensor] = {}
"""The last views computed, shared by the variants that a comparison trains one after the other."""


def views_of(refs: Sequence[ImageRef], views: int, seed: int, folder: Path | None) -> Tensor:
    """(views, n, 16, 640) bfloat16, the plain view first; the last training set and its validation are remembered.

    Args:
        folder: keeps them for a later process, and may hold those of an earlier one; None keeps nothing on disk.
    """
    shown = [content_key(digest, ref.region) for digest, ref in zip(picture_hashes(refs), refs, strict=True)]
    key = fingerprint([VERSION, WHEEL_SHA256, PREPROCESSING, shown, views, seed])
    if key not in _views:
        kept = None if folder is None else _read(folder, key)
        if views > 1:  # views are large: remember one set of them
            for old in [name for name, value in _views.items() if len(value) > 1]:
                del _views[old]
        _views[key] = _computed(refs, views, seed) if kept is None else kept
    if folder is not None and rank() == 0 and not _files(folder, key):
        _write(folder, key, _views[key])
    return _views[key]


def _computed(refs: Sequence[ImageRef], views: int, seed: int) -> Tensor:
    trunk, pixels = load_trunk(), read_pixels(refs)
    return token_views(trunk, pixels, views, seed) if views > 1 else plain_tokens(trunk, pixels)[None]


def _read(folder: Path, key: str) -> Tensor | None:
    """Mapped, not read: as much of them is in memory as there is room for. A damaged file is named and removed."""
    for path in _files(folder, key):
        try:
            numbers = np.load(path, mmap_mode="c", allow_pickle=False)  # copy on write: torch wants writable memory
            if path.name != _name(key, numbers):
                raise ValueError("its numbers are not those that were written")
        except (OSError, ValueError, EOFError) as error:
            say(f"warning: {path} cannot be used ({error}); its pictures go through the trunk again")
            path.unlink(missing_ok=True)
            continue
        if len(numbers) > 1:
            say(f"{len(numbers)} views of {numbers.shape[1]} pictures were kept by the training that was stopped")
        return torch.from_numpy(numbers).view(torch.bfloat16)
    return None


def _write(folder: Path, key: str, views: Tensor) -> None:
    """Keep them; where there is no room the training goes on without."""
    numbers = views.view(torch.int16).numpy()  # numpy has no bfloat16
    try:
        with atomic_file(folder / _name(key, numbers)) as part, part.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(numbers))
            file.write(numbers.data.cast("B"))
    except (TriremeError, OSError) as error:
        say(f"note: {error}; the training goes on, but were it stopped, its pictures would go through the trunk again")


def _files(folder: Path, key: str) -> list[Path]:
    return sorted(folder.glob(f"views-{key}-*.npy"))


def _name(key: str, numbers: np.ndarray) -> str:
    """Ends with the checksum: the file proves itself."""
    return f"views-{key}-{zlib.crc32(numbers.data.cast('B')):08x}.npy"
