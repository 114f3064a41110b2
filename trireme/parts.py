"""Bytes by path: of whole files, and of parts of files, written FILE!/OFFSET+SIZE/NAME.

A picture in a tar, and a cell of an Arrow file, lie in one piece in their file. Whoever lists such a set finds the
places; whoever reads a picture needs neither an index nor the format: it reads SIZE bytes from OFFSET on. NAME says
what they are to people and decides nothing.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

LARGEST = 2**30
"""Bytes from which on nothing is read as a picture: it would not fit in memory once for every thread that reads."""

_PART = re.compile(r"(.+?)!/(\d+)\+(\d+)/(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Part:
    """`size` bytes of `file` from `offset` on."""

    file: str
    offset: int
    size: int
    name: str

    @property
    def path(self) -> str:
        """The part as a path."""
        return f"{self.file}!/{self.offset}+{self.size}/{self.name}"


def part_of(path: str) -> Part | None:
    """The part that a path means; None for one of a whole file."""
    found = _PART.fullmatch(path)
    return None if found is None else Part(found[1], int(found[2]), int(found[3]), found[4])


def file_stat(path: str) -> os.stat_result:
    """What the file of a path is; of a part, the file that holds it.

    Raises:
        OSError: it is not there, or it is no regular file: a folder, a pipe, a device.
    """
    part = part_of(path)
    found = Path(path if part is None else part.file).stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(found.st_mode):  # reading a pipe waits for ever, a device never ends
        raise OSError(errno.EINVAL, "it is no regular file", path)
    return found


def read_bytes(path: str) -> bytes:
    """All bytes of a picture file, or of the part of a file that holds one.

    Raises:
        OSError: it cannot be read, is larger than any picture, or its file ends before it does.
    """
    part, held = part_of(path), file_stat(path).st_size
    offset, size = (0, held) if part is None else (part.offset, part.size)
    if size > LARGEST:
        raise OSError(errno.EINVAL, f"it has {size} bytes; nothing over {LARGEST} is read as a picture", path)
    with Path(path if part is None else part.file).open("rb") as file:
        file.seek(offset)
        content = file.read() if part is None else file.read(size)
    if part is not None and len(content) < size:
        raise OSError(errno.EIO, f"{part.file} ends at {held} bytes, before the picture does; fetch it again", path)
    return content
