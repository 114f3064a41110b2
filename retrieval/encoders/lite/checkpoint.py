"""The head's weights on disk: where they are, reading and writing them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from trireme.errors import DataError
from trireme.files import atomic_file, write_json
from trireme.retrieval.encoders.lite.model import HeadShape, LiteHead

HEAD_FILE, RECORD_FILE = "lite.safetensors", "lite.json"
_KEY = "lite"


def committed_weights() -> Path:
    """The weights that ship with Trireme; the record of their training lies beside them."""
    return Path(__file__).with_name("weights") / HEAD_FILE


def write_head(folder: Path, head: LiteHead, record: Mapping[str, Any]) -> Path:
    """Write `lite.safetensors` (float16 where nothing is lost by it: the weights are rounded before) and `lite.json`.

    Each file is whole or absent, and the record comes last, so weights without their record are an unfinished pair.
    Equal weights give equal bytes.
    """
    path = folder / HEAD_FILE
    tensors = {name: value.detach().cpu().contiguous().half() for name, value in head.state_dict().items()}
    # One key: safetensors writes several in an order of its own, and the bytes would differ from time to time.
    content = save(tensors, metadata={_KEY: _described(head.shape)})
    (folder / RECORD_FILE).unlink(missing_ok=True)
    with atomic_file(path) as part:
        part.write_bytes(content)
    write_json(folder / RECORD_FILE, record)
    return path


def read_head(path: Path) -> LiteHead:
    """The head in evaluation mode, float32, frozen.

    Raises:
        DataError: the file is missing, truncated, corrupt, of another architecture, or holds NaN.
    """
    shape, tensors = _read(path)
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise DataError(f"{path} holds weights that are NaN or infinite; train them again with `trireme train lite`")
    head = LiteHead(shape)
    try:
        head.load_state_dict({name: value.float() for name, value in tensors.items()})
    except RuntimeError as error:
        raise DataError(f"{path} does not hold the weights of a lite encoder ({_first_line(error)})") from error
    return head.eval().requires_grad_(False)


def head_digest(path: Path) -> str:
    """Hex SHA-256 over the architecture and the tensors with their names, types and shapes, not over the file's bytes.

    Raises DataError as `read_head` does, but NaN is no error here.
    """
    shape, tensors = _read(path)
    digest = hashlib.sha256(_described(shape).encode())
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_logit_scale(path: Path) -> float:
    """Logarithm of the factor on cosines. Raises DataError as `read_head` does."""
    _, tensors = _read(path, only="logit_scale")
    if "logit_scale" not in tensors:
        raise DataError(f"{path} does not hold the weights of a lite encoder (no logit_scale)")
    return float(tensors["logit_scale"])


def _read(path: Path, only: str = "") -> tuple[HeadShape, dict[str, torch.Tensor]]:
    if not path.is_file():
        raise DataError(f"no lite weights at {path}; train them with `trireme train lite` or leave `weights` empty")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[_KEY])
            shape = HeadShape(**{field.name: int(about[field.name]) for field in fields(HeadShape)})
            return shape, {name: file.get_tensor(name) for name in file.keys() if only in ("", name)}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
        raise DataError(f"{path} is not a whole file of lite weights ({_first_line(error)})") from error


def _described(shape: HeadShape) -> str:
    return json.dumps(asdict(shape), sort_keys=True)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
