"""The samples of a shard. A shard is read once; what it holds, but for the pictures, is kept as an index in the home.

The index holds a row a sample: where its picture lies, the SHA-256 of that, and its texts. It is made anew when the
shard is another file by size or times, and costs about as much as the shard's captions.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from trireme.benchmarks.custom.tars import members
from trireme.errors import DataError, TriremeError
from trireme.files import atomic_file, fingerprint, home
from trireme.parts import Part, file_stat

PICTURES = frozenset(("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm"))
TEXTS = ("txt", "cls", "json")
TEXT_BYTES = 2**20
# A file changed this many nanoseconds before it is read could change again under the same time stamp: not remembered.
_SETTLED_NS = 2_000_000_000
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A sample: its picture as part of the shard, and its texts, None where it has no such member."""

    key: str
    picture: str
    offset: int
    size: int
    sha256: str
    txt: str | None = None
    cls: str | None = None
    json: str | None = None


def entries(shard: Path) -> Iterator[Entry]:
    """The samples of a shard, in its order.

    Raises:
        DataError: the shard is damaged or cut short, or a sample lacks its picture, has two, or has no text as text.
    """
    import pyarrow as pa

    try:
        found = file_stat(str(shard))
    except OSError as error:
        raise DataError(f"cannot read {shard}: {error.strerror or error}") from error
    stamp = f"{_VERSION} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
    index = home() / "shards" / f"{fingerprint(str(shard))}.parquet"
    table = _kept(index, stamp)
    if table is None:
        rows = [asdict(entry) for entry in _read(shard)]
        kinds = [pa.int64() if field.type == "int" else pa.string() for field in fields(Entry)]
        schema = pa.schema(list(zip((field.name for field in fields(Entry)), kinds, strict=True)))
        table = pa.Table.from_pylist(rows, schema.with_metadata({"stamp": stamp}))
        if max(found.st_mtime_ns, found.st_ctime_ns) < time.time_ns() - _SETTLED_NS:
            _keep(index, table)
    for batch in table.to_batches(max_chunksize=4096):
        for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield Entry(*values)


def _kept(index: Path, stamp: str) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(index)
    except (OSError, pa.ArrowException):  # none yet, or a damaged one
        return None
    return table if (table.schema.metadata or {}).get(b"stamp") == stamp.encode() else None


def _keep(index: Path, table: Any) -> None:
    """It only saves time, so a full disk or a read-only home is no error here."""
    import pyarrow.parquet as pq

    try:
        with atomic_file(index) as part:
            pq.write_table(table, part, compression="zstd")
    except (OSError, TriremeError):
        pass


def _read(shard: Path) -> Iterator[Entry]:
    """Members that share a name up to its first dot. Other members, and hidden files, are none of ours."""
    pictures: dict[str, tuple[Part, str]] = {}
    texts: dict[str, dict[str, str]] = {}
    for part, read in members(str(shard)):
        folder, slash, name = part.name.rpartition("/")
        key, _, ending = name.partition(".")
        key, ending = folder + slash + key, ending.lower()
        if name.startswith(".") or not (ending in PICTURES or ending in TEXTS):
            continue
        if ending in PICTURES:
            if key in pictures:
                raise DataError(
                    f"{shard}: the sample '{key}' has two pictures, {pictures[key][0].name} and {part.name}; "
                    "every key needs exactly one"
                )
            pictures[key] = part, sha256(read()).hexdigest()
        else:
            told = texts.setdefault(key, {})
            if ending in told:
                raise DataError(f"{shard}: the sample '{key}' has two .{ending} members")
            if part.size > TEXT_BYTES:
                raise DataError(f"{shard}: '{part.name}' has {part.size} bytes; a text of over {TEXT_BYTES} is none")
            told[ending] = _text(shard, part, read())
    for key in texts:
        if key not in pictures:
            raise DataError(f"{shard}: the sample '{key}' has no picture; every key needs exactly one")
    for key, (part, digest) in pictures.items():
        yield Entry(key, part.name, part.offset, part.size, digest, **texts.get(key, {}))


def _text(shard: Path, part: Part, content: bytes) -> str:
    try:
        return content.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{shard}: '{part.name}' is not text in UTF-8: {error}") from error
