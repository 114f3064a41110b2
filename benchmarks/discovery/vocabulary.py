"""Names that may be answered, and names guessed for pictures, from a user's file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trireme.benchmarks.datasets.texts import lines
from trireme.errors import DataError


def tidy(name: str) -> str:
    """A name as classes and labels are compared: without space around it, with one space between its words."""
    return " ".join(name.split())


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, in the order of its first place: FineR's lists of guesses repeat names."""
    return tuple(dict.fromkeys(map(tidy, names)))


def read_names(path: Path) -> tuple[str, ...]:
    """The vocabulary of a file: a name a line; or, where it is called *.json, a list of names (as FineR publishes its
    guesses) or an object of guesses (see `read_guesses`), all of whose names are taken.

    Raises:
        DataError: not there, no such file, or an empty name.
    """
    if path.suffix.lower() != ".json":
        return distinct(lines(path))
    found = _json(path)
    if isinstance(found, dict):
        return distinct(name for names in _guesses(path, found).values() for name in names)
    if not isinstance(found, list) or not found:
        raise DataError(f"{path} is neither a list of names nor an object of guesses")
    return distinct(_names(path, found, "its list"))


def read_guesses(path: Path) -> dict[str, tuple[str, ...]]:
    """{picture id: names guessed for it, the best first} of a JSON object whose values are a name or a list of names.

    Raises:
        DataError: not there, no such file, or a picture without a name.
    """
    found = _json(path)
    if not isinstance(found, dict) or not found:
        raise DataError(f'{path} is no object of guesses, such as {{"Abyssinian_105": ["Bengal", "Ocicat"]}}')
    return _guesses(path, found)


def _guesses(path: Path, found: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {
        key: distinct(_names(path, [value] if isinstance(value, str) else value, f"picture '{key}'"))
        for key, value in found.items()
    }


def _names(path: Path, found: Any, where: str) -> list[str]:
    if not isinstance(found, list) or not found or not all(isinstance(one, str) and tidy(one) for one in found):
        raise DataError(f"{path}: {where} has a name that is no text, or none at all; every name needs a letter")
    return found


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:  # no UTF-8, or no JSON
        raise DataError(f"{path} is no JSON file in UTF-8 ({error})") from error
