"""Customised encoders on disk: one folder per training with the encoder, its record and the retrieved pairs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from trireme.errors import DataError
from trireme.files import atomic_folder, fingerprint, locked, write_json
from trireme.methods.react.distributed import barrier, check_same, decided, rank
from trireme.methods.react.retrieve import RetrievedSet
from trireme.progress import say
from trireme.retrieval.encoders.customised import Customised, read_customised, write_customised

RECORD, RETRIEVED = "record.json", "retrieved.parquet"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Artifact:
    """A finished training.

    Attributes:
        name: the hash of everything that decides it; its folder's name.
        encoder: the file for `encoder.react=`.
        record: of the training.
    """

    name: str
    encoder: Path
    record: dict[str, Any]


def customised(
    root: Path,
    key: Mapping[str, Any],
    retrieved: RetrievedSet,
    device: torch.device,
    train: Callable[[Path], Customised],
) -> Artifact:
    """The customised encoder of an earlier training with the same key, or a new one, stored whole.

    Two commands may ask at once: one trains, the other waits. The processes of one command train together, and the
    first of them writes.

    Args:
        root: folder of all trainings.
        key: everything that the weights depend on, JSON-serialisable.
        train: trains, keeping its checkpoints in the folder that it is given.

    Raises:
        DataError: this process has another key than the first one.
    """
    name = fingerprint({"format": FORMAT, **key})
    folder = root / name
    other = "would train something else than the first one: give all of them the same data, settings and kind of device"
    check_same(name, device, other)
    with locked(folder) if rank() == 0 else nullcontext():
        if decided(lambda: _whole(folder), device):
            return _open(folder)
        partial = root / f"{name}.partial"
        found = train(partial)
        if rank() == 0:
            with atomic_folder(folder) as part:
                write_customised(part / f"{found.variant}-{name[:6]}.safetensors", found)
                pq.write_table(retrieved.table, part / RETRIEVED)
                write_json(part / RECORD, {"format": FORMAT, "key": dict(key), **found.record})
            shutil.rmtree(partial, ignore_errors=True)
        barrier()
    return _open(folder)


def _whole(folder: Path) -> bool:
    if not folder.exists():
        return False
    try:
        read_customised(_open(folder).encoder)
        pq.read_metadata(folder / RETRIEVED)
    except (DataError, OSError, pa.ArrowException) as error:
        say(f"the customised encoder in {folder} is damaged ({error}); training it again")
        shutil.rmtree(folder)
        return False
    return True


def _open(folder: Path) -> Artifact:
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / RECORD} cannot be read ({error})") from error
    if not isinstance(record, dict) or "variant" not in record:
        raise DataError(f"{folder / RECORD} does not say what was trained")
    # tables show the file's name: it tells trainings apart
    return Artifact(folder.name, folder / f"{record['variant']}-{folder.name[:6]}.safetensors", record)
