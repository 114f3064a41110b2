"""Where the pictures of an Arrow file lie in it. Only their places are computed; their bytes stay on the disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trireme.errors import DataError
from trireme.parts import Part


@dataclass(frozen=True, slots=True)
class Cell:
    """A picture in a column of pictures: bytes in the file, or else the path of another file."""

    part: Part | None
    path: str


def cells(file: str, column: str, beside: Sequence[str]) -> Iterator[tuple[Cell, list[Any]]]:
    """Every row of an Arrow stream file: its picture, and its values in the columns `beside`.

    Args:
        column: pictures as `datasets` stores them, a struct of `bytes` and `path`.

    Raises:
        DataError: the file is not there, is damaged or compressed, or has no such columns.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(file) as mapped:
            start = mapped.read_buffer().address
            mapped.seek(0)
            with pa.ipc.open_stream(mapped) as reader:
                for batch in reader:
                    pictures = _pictures(file, batch.column(column), (start, start + mapped.size()))
                    values = [batch.column(name).to_pylist() for name in beside]
                    for position, (offset, size, path) in enumerate(pictures):
                        part = None if size is None else Part(file, offset, size, path.rpartition("/")[2] or column)
                        yield Cell(part, path), [column[position] for column in values]
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DataError(f"{file} is not a readable Arrow file: {error}") from error


def _pictures(file: str, column: Any, mapped: tuple[int, int]) -> Iterator[tuple[int, int | None, str]]:
    """(offset in the file, size, path) of each picture; size None for one that is only a path."""
    names = [field.name for field in column.type]
    content, paths = (column.flatten()[names.index(name)] for name in ("bytes", "path"))
    _, bounds, data = content.buffers()
    wide = np.int64 if str(content.type).startswith("large") else np.int32
    edges = np.frombuffer(bounds, dtype=wide)[content.offset : content.offset + len(content) + 1].astype(np.int64)
    if data is not None and len(data) and not (mapped[0] <= data.address and data.address + len(data) <= mapped[1]):
        raise DataError(f"{file} is compressed, so its pictures do not lie in it as they are; save it uncompressed")
    begin = 0 if data is None else data.address - mapped[0]
    for valid, first, end, path in zip(content.is_valid(), edges, edges[1:], paths, strict=False):
        size = int(end - first) if valid.as_py() else None
        yield begin + int(first), size, path.as_py() or ""
