"""What every form of a user's own data is read into, and what the forms share."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trireme.errors import DataError
from trireme.types import Region

TEST, VALIDATION, PAIRS = "test", "validation", "memory"
SPLITS: Mapping[str, str] = {
    "test": TEST,
    "validation": VALIDATION, "valid": VALIDATION, "val": VALIDATION, "dev": VALIDATION,
    "memory": PAIRS, "train": PAIRS, "training": PAIRS, "support": PAIRS,
}  # fmt: skip
"""What a split may be called, in lower case, and what it is used for."""


@dataclass(frozen=True, slots=True)
class Row:
    """One picture of a user's data, or a region of one.

    Attributes:
        path: of the picture's file, or of the part of a file that holds it (`trireme.parts`).
        label: the class, "" where it has none: good for a memory with captions, not for a benchmark.
        split: a value of `SPLITS`, "" where the data has no splits.
        sha256: of the picture's bytes, where the reader knows it.
    """

    id: str
    path: str
    label: str
    caption: str
    split: str
    region: Region | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Data:
    """The rows of a user's data, in any order.

    Attributes:
        place: what to call it in a message.
        classes: all classes in the data's own order, where it declares them; else () and the labels are the classes.
    """

    place: str
    rows: Sequence[Row]
    classes: tuple[str, ...] = ()


def absolute(place: str) -> Path:
    """A path as typed, without links, `~` or dots; it need not exist.

    Raises:
        DataError: its links lead in a circle.
    """
    try:
        return Path(place).expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise DataError(f"{place} cannot be followed to a file: {error}") from error


def files_below(path: Path, endings: frozenset[str]) -> list[Path]:
    """Files with one of these endings, in lower case, anywhere below a folder; hidden ones are left out, sorted.

    A link that leads nowhere is one of them: what is gone is counted by the run, not silently taken out of the set.

    Raises:
        DataError: a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise unlisted(error)

    found = []
    for folder, _, names in os.walk(path, onerror=refuse):
        for name in names:
            file = Path(folder, name)
            if file.suffix.lower() in endings and not name.startswith("."):
                found.append(file)
    return sorted(found)


def unlisted(error: OSError) -> DataError:
    """The error for a folder that cannot be listed."""
    return DataError(f"cannot list the folder {error.filename}: {error.strerror}; pictures could be missing")


def listed(names: Iterable[str]) -> str:
    """Names in quotes, for a message."""
    return ", ".join(f"'{name}'" for name in names)


def class_name(text: str) -> str:
    """A class's name in Unicode's composed form (NFC), so that it is one class however an editor wrote its accents."""
    return unicodedata.normalize("NFC", text)


def unique_classes(names: Sequence[str], place: str) -> tuple[str, ...]:
    """Declared class names, checked, in the form of `class_name`.

    Raises:
        DataError: one is empty, or two are the same.
    """
    seen: dict[str, int] = {}
    for number, given in enumerate(names):
        name = class_name(given)
        if not name:
            raise DataError(f"{place}: class {number} has no name")
        if name in seen:
            other = names[seen[name]]
            forms = "" if other == given else f" ({other!a} and {given!a} are one name to a reader)"
            raise DataError(
                f"{place}: the classes {seen[name]} and {number} are both called '{name}'{forms}; "
                "class names tell classes apart here: rename one"
            )
        seen[name] = number
    return tuple(seen)
