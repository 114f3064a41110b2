"""Extracting an archive that a user has brought. What it says about paths is not believed.

Everything goes into a folder beside its place and is renamed from there, so an archive that is refused or damaged
leaves nothing.
"""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trireme.errors import DataError, TriremeError
from trireme.files import disk_errors
from trireme.progress import progress

_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


def extract(archive: Path, place: Path) -> None:
    """Extract a tar (also compressed) or zip file into a folder, which may hold other things already.

    Raises:
        DataError: it is damaged, or is no archive; a member would leave the folder, or is a link or a device; something
            that it holds is in the folder already.
        TriremeError: the disk is full.
    """
    if not archive.is_file():
        raise DataError(f"there is no file {archive}")
    with _beside(place) as part:
        try:
            if zipfile.is_zipfile(archive):
                _unzip(archive, part)
            else:
                _untar(archive, part)
        except _DAMAGE as error:
            raise DataError(
                f"{archive} is damaged, not complete, or no tar or zip file ({error}); fetch it again"
            ) from error
        _move(archive, part, place)


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """A folder on the same disk, removed in the end."""
    place.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}.", suffix=".part"))
    try:
        with disk_errors(str(place)):
            yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _untar(archive: Path, part: Path) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise TriremeError("this Python cannot extract archives safely; use 3.11.4 or newer, or extract it by hand")
    size = archive.stat().st_size
    with (
        archive.open("rb") as raw,
        tarfile.open(fileobj=raw) as tar,
        progress(f"extract {archive.name}", size, "B") as bar,
    ):
        done = 0
        for member in tar:
            _check_name(archive, member.name)
            if not (member.isfile() or member.isdir()):
                raise DataError(
                    f"{archive}: '{member.name}' is a link or a device, which no data set holds; not extracted"
                )
            tar.extract(member, part, filter="data")
            bar.advance(raw.tell() - done)
            done = raw.tell()


def _unzip(archive: Path, part: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        with progress(f"extract {archive.name}", sum(one.file_size for one in members), "B") as bar:
            for member in members:
                _check_name(archive, member.filename)
                if stat.S_ISLNK(member.external_attr >> 16):
                    raise DataError(f"{archive}: '{member.filename}' is a link, which no data set holds; not extracted")
                file.extract(member, part)
                bar.advance(member.file_size)


def _check_name(archive: Path, name: str) -> None:
    plain = name.replace("\\", "/")
    if plain.startswith("/") or ":" in plain[:2] or ".." in plain.split("/"):
        raise DataError(f"{archive}: '{name}' would be written outside its folder; nothing was extracted")


def _move(archive: Path, part: Path, place: Path) -> None:
    found = sorted(part.iterdir())
    if not found:
        raise DataError(f"{archive} has nothing in it; fetch it again")
    for entry in found:
        if (place / entry.name).exists():
            raise DataError(f"{place / entry.name} is there already; move it away to extract {archive.name} anew")
    if not place.exists():
        part.chmod(0o755)
        part.rename(place)
        return
    for entry in found:
        entry.rename(place / entry.name)
