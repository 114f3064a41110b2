"""A folder per class: PATH/<class>/<pictures>, or PATH/<split>/<class>/<pictures>."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trireme.benchmarks.custom.rows import SPLITS, Data, Row, absolute, files_below, unlisted
from trireme.errors import DataError

_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"))


def read(place: str, options: Mapping[str, Any]) -> Data:
    """The pictures of a folder.

    Raises:
        DataError: it is not there, cannot be read, or is not of that shape.
    """
    path = absolute(place)
    return Data(str(path), list(_rows(path)))


def _rows(path: Path) -> Iterator[Row]:
    if not path.is_dir():
        raise DataError(f"there is no folder {path}; it should hold one folder of pictures per class")
    tops = _subfolders(path)
    if not tops:
        has = "pictures but no class folders" if _pictures(path) else "no pictures"
        raise DataError(f"{path} holds {has}; expected {path.name}/<class>/<pictures>")
    splits = [SPLITS.get(top.name.lower(), "") for top in tops]
    if all(splits) and all(_subfolders(top) for top in tops):
        folders = [(split, label) for split, top in zip(splits, tops, strict=True) for label in _subfolders(top)]
    elif any(split and _subfolders(top) for split, top in zip(splits, tops, strict=True)):
        odd = next(top for split, top in zip(splits, tops, strict=True) if not (split and _subfolders(top)))
        raise DataError(
            f"{path} holds split folders (train, test ...) and also '{odd.name}', which is none with class folders; "
            f"move it away, or point at one split: folder:{path}/<split>"
        )
    else:
        folders = [("", label) for label in tops]
    for split, label in folders:
        pictures = _pictures(label)
        if not pictures:
            raise DataError(f"the class folder {label} holds no pictures; fill or remove it")
        for picture in pictures:
            yield Row(picture.relative_to(path).as_posix(), str(picture), label.name, "", split)


def _subfolders(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise unlisted(error) from error


def _pictures(path: Path) -> list[Path]:
    return files_below(path, _SUFFIXES)
