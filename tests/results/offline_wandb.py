"""Reads what wandb stored offline: a log of LevelDB's form (blocks of 32 KiB) that holds wandb's own protocol messages.

Form: 7 bytes before the first record, then records of checksum (4 bytes), length (2), type (1: whole, 2 to 4: first,
middle and last part) and content; no record's head crosses a block's end
(https://github.com/google/leveldb/blob/main/doc/log_format.md).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BLOCK, _HEAD, _BEFORE = 32768, 7, 7


@dataclass
class Stored:
    """One offline run."""

    id: str = ""
    name: str = ""
    project: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, list[str]] = field(default_factory=dict)
    finished: bool = False


def stored_runs(folder: Path) -> list[Stored]:
    """Every offline run below a folder named `wandb`."""
    return [_stored(path) for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]


def _messages(data: bytes) -> Iterator[bytes]:
    position, parts = _BEFORE, b""
    while position + _HEAD <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEAD:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        position += _HEAD
        parts += data[position : position + length]
        position += length
        if kind in (1, 4):
            yield parts
            parts = b""


def _stored(path: Path) -> Stored:
    from wandb.proto import wandb_internal_pb2

    found = Stored()
    for data in _messages(path.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.id, found.name, found.project = record.run.run_id, record.run.display_name, record.run.project
            found.config |= {one.key: json.loads(one.value_json) for one in record.run.config.update}
        elif kind == "summary":
            for one in record.summary.update:
                if not (name := one.key or one.nested_key[0]).startswith("_"):  # wandb's own
                    found.summary[name] = json.loads(one.value_json)
        elif kind == "artifact":
            found.artifacts[record.artifact.name] = sorted(entry.path for entry in record.artifact.manifest.contents)
        elif kind == "exit":
            found.finished = True
    return found
