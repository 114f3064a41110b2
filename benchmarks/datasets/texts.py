"""Annotation files that are lines of text. Errors name the file and the line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trireme.errors import DataError


def lines(path: Path) -> list[str]:
    """The lines that are not empty, as editors count them: `splitlines` would also end one at a form feed or U+2028.

    Raises:
        DataError: the file is not there, is no UTF-8 text, or has nothing in it.
    """
    try:
        found = [line.strip() for line in path.read_bytes().decode("utf-8-sig").split("\n")]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; extract the annotations again") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8; extract the annotations again") from error
    kept = [line for line in found if line]
    if not kept:
        raise DataError(f"{path} has nothing in it; extract the annotations again")
    return kept


def table(path: Path, columns: int, at_least: int = 0) -> list[list[str]]:
    """The lines in `columns` columns; the last one keeps its spaces.

    Args:
        at_least: columns that must be there, all of them where it is 0.
    """
    rows = []
    for number, line in enumerate(lines(path), start=1):
        cells = line.split(None, columns - 1)
        if len(cells) < (at_least or columns):
            raise DataError(f"{path}, line {number}: '{line[:60]}' has {len(cells)} columns, expected {columns}")
        rows.append(cells)
    return rows


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, object) of every line that is not empty, read one at a time.

    Raises:
        DataError: the file is not there, is no UTF-8 text, or a line is no JSON object; names the line.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for place, line in enumerate(file, start=1):
                if line.strip():
                    yield place, _json_object(path, place, line)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; fetch it again") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8; fetch it again") from error


def _json_object(path: Path, place: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise DataError(
            f"{path}, line {place}: '{line.strip()[:60]}' is no JSON object; the file is damaged or cut off"
        )
    return found


def number(path: Path, text: str) -> int:
    """A whole number of an annotation file."""
    try:
        return int(text)
    except ValueError as error:
        raise DataError(f"{path}: '{text[:60]}' should be a whole number; the file is of another version") from error


def class_number(path: Path, name: str, known: Mapping[str, int] | Sequence[str]) -> int:
    """The place of a class name that another file of the set lists."""
    place = known.get(name) if isinstance(known, Mapping) else None
    if place is None:
        raise DataError(f"{path} names the class '{name}', which the set's list of classes has not; fetch both again")
    return place


def spaced(name: str) -> str:
    """A class name as people write it: "_" is a space."""
    return name.replace("_", " ").strip()


def numbered(path: Path, names: Mapping[int, str]) -> tuple[str, ...]:
    """Class names by their numbers from 0, of which none may be missing.

    Raises:
        DataError: a number is missing, so the classes are not those of the set.
    """
    gap = next((label for label in range(len(names)) if label not in names), None)
    if gap is not None:
        raise DataError(
            f"{path} has {len(names)} classes with numbers up to {max(names)}, counted from 0, and none has the "
            f"number {gap}; the file is damaged or of another version"
        )
    return tuple(names[label] for label in range(len(names)))
