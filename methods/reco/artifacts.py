"""Trained fusions and choices on disk: one folder per training, safetensors and a record; whole or absent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from trireme.files import atomic_folder, fingerprint, locked, sha256_file, write_json
from trireme.progress import say

WEIGHTS, RECORD = "fusion.safetensors", "record.json"
FORMAT = 1


def trained(
    root: Path, key: Mapping[str, Any], module: nn.Module, train: Callable[[], dict[str, Any]]
) -> tuple[str, dict[str, Any]]:
    """Load the weights of an earlier training with the same key into `module`, or train it and save them.

    Two processes may ask at once: one trains, the other waits and loads. A damaged folder is named and trained anew.

    Args:
        root: the folder that holds all trainings.
        key: everything that the weights depend on, JSON-serialisable.
        train: trains `module` in place and returns what is worth recording (losses, counts).

    Returns:
        The hash of the key, which is the folder's name, and the record.
    """
    name = fingerprint({"format": FORMAT, **key})
    folder = root / name
    with locked(folder):
        if folder.exists():
            record = _load(folder, module)
            if record is not None:
                return name, record
            say(f"the trained fusion in {folder} is damaged; training it again")
            shutil.rmtree(folder)
        outcome = train()
        with atomic_folder(folder) as part:
            save_file({n: t.detach().cpu().contiguous() for n, t in module.state_dict().items()}, part / WEIGHTS)
            record = {"format": FORMAT, "key": dict(key), "sha256": sha256_file(part / WEIGHTS), **outcome}
            (part / RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return name, record


def remembered(root: Path, key: Mapping[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The JSON-able answer that an earlier call with the same key gave, or a new one, kept for the next call.

    A damaged file is named and computed anew.
    """
    path = root / f"choice-{fingerprint({'format': FORMAT, **key})}.json"
    with locked(path):
        if path.exists():
            try:
                answer: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["answer"]
                return answer
            except (OSError, ValueError, KeyError, TypeError):
                say(f"the choice in {path} is damaged; choosing again")
        answer = compute()
        write_json(path, {"key": dict(key), "answer": answer})
        return answer


def _load(folder: Path, module: nn.Module) -> dict[str, Any] | None:
    """The record, after its weights went into `module`; None where anything is missing, truncated or changed."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record["sha256"] != sha256_file(folder / WEIGHTS):
            return None
        module.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError):
        return None
    return record
