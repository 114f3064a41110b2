"""The members of an uncompressed tar and where their bytes lie. Nothing is ever extracted."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from trireme.errors import DataError
from trireme.parts import LARGEST, Part


def members(path: str) -> Iterator[tuple[Part, Callable[[], bytes]]]:
    """Every file of a tar in its order, and what reads it; `name` is the member's, without a leading "./".

    Raises:
        DataError: it is compressed, damaged or cut short, or a member is a link, sparse, too large, listed twice, or
            would leave the folder that it is unpacked in.
    """
    seen: set[str] = set()
    try:
        with Path(path).open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep every one of them
                if not member.isdir():
                    part = _part(path, member, seen)
                    yield part, partial(_content, file, part)
            _check_end(path, file, tar.offset)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} is no sound tar file ({error}); a shard is an uncompressed .tar") from error


def _part(path: str, member: tarfile.TarInfo, seen: set[str]) -> Part:
    name = PurePosixPath(member.name)
    where = f"{path}: its member '{member.name}'"
    if name.is_absolute() or ".." in name.parts:
        raise DataError(f"{where} leaves the shard's own folder; do not trust this file")
    if not member.isreg() or member.issparse():
        raise DataError(f"{where} is no plain file (a link, a device or sparse); pack the files themselves")
    if member.size > LARGEST:
        raise DataError(f"{where} has {member.size} bytes; nothing over {LARGEST} is read")
    if str(name) in seen:
        raise DataError(f"{where} is there twice; names must be unique")
    seen.add(str(name))
    return Part(path, member.offset_data, member.size, str(name))


def _content(file: BinaryIO, part: Part) -> bytes:
    file.seek(part.offset)
    content = file.read(part.size)
    if len(content) < part.size:
        raise DataError(f"{part.file} is cut short: it ends within its member '{part.name}'; fetch or pack it again")
    return content


def _check_end(path: str, file: BinaryIO, offset: int) -> None:
    """Python's reader takes a damaged header, or the end of a file that was cut off, for the end of the tar."""
    file.seek(offset)
    block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise DataError(f"{path} is cut short: it has no end mark after {offset} bytes; fetch or pack it again")
    if block.strip(b"\0"):
        raise DataError(f"{path} is damaged at byte {offset}; fetch or pack it again")
