"""`webdataset:PATTERN`: pictures that stay inside the shards, uncompressed tar files.

PATTERN is a shard, a folder with shards below it, a glob (`shards/*.tar`), or has ranges (`shards/{00..17}.tar`). A
sample is the members that share a name up to its first dot, its key: KEY.jpg (or png, webp ...), and KEY.txt (its
caption), KEY.cls (its class, a name or an index) or KEY.json (an object with `caption` and `label`, or with the keys
that the options of these names give).

Indices are places in the list of class names: the option `classes`, a file with one name a line, or `classnames.txt` in
the shards' folder or the one above. Where there is such a list, digits are an index, even where a class is called so.

A shard's split is its folder's name, or a word of its own ("val-0007.tar").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trireme.benchmarks.custom.rows import SPLITS, Data, Row, absolute, class_name, files_below, unique_classes
from trireme.benchmarks.custom.shards import entries
from trireme.errors import DataError, UsageError
from trireme.parts import Part

OPTIONS = ("classes", "caption", "label")
CLASS_NAMES = "classnames.txt"
_BRACE = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST_SHARDS = 10**6


@dataclass(frozen=True, slots=True)
class _Reading:
    """How samples are read: the keys of a JSON member, and the class names that indices stand for."""

    caption: str
    label: str
    classes: tuple[str, ...]
    known: frozenset[str]


def read(place: str, options: Mapping[str, Any]) -> Data:
    """The samples of all shards.

    Raises:
        DataError: a shard is missing, damaged or cut short; a sample lacks its picture, has two, or has a key that
            another one has; a class is not among the names.
        UsageError: a pattern that cannot be read.
    """
    shards = _shards(place)
    names = _class_names(shards, options.get("classes"))
    reading = _Reading(
        str(options.get("caption", "caption")), str(options.get("label", "label")), names, frozenset(names)
    )
    rows: list[Row] = []
    homes: dict[str, str] = {}
    for shard in shards:
        for row in _rows(shard, _split(shard), reading):
            if row.id in homes:
                raise DataError(f"{shard} has the key '{row.id}', as {homes[row.id]} has; keys must be unique")
            homes[row.id] = str(shard)
            rows.append(row)
    return Data(place, rows, names)


def _shards(place: str) -> list[Path]:
    """Resolved and sorted.

    Raises:
        DataError: one is missing, or none is there.
    """
    if Path(place).expanduser().is_dir():
        found = files_below(absolute(place), frozenset((".tar",)))
        if not found:
            raise DataError(f"there is no shard (*.tar) in {place}")
        return found
    found = []
    for pattern in _expanded(place):
        matches = _matching(Path(pattern).expanduser())
        if not matches:
            raise DataError(f"there is no shard {pattern}; check the pattern 'webdataset:{place}'")
        found += [absolute(str(match)) for match in matches]
    return sorted(set(found))


def _matching(pattern: Path) -> list[Path]:
    if pattern.is_file():
        return [pattern]
    start = Path(pattern.anchor)
    return [path for path in start.glob(str(pattern.relative_to(start))) if path.is_file()]


def _expanded(pattern: str) -> list[str]:
    """A pattern without braces for every choice of them: "{08..10}" is 08, 09, 10; "{a,b}" is a, b."""
    brace = _BRACE.search(pattern)
    if brace is None:
        return [pattern]
    span = _RANGE.fullmatch(brace[1])
    if span is not None and int(span[1]) <= int(span[2]) < int(span[1]) + _MOST_SHARDS:
        choices = [f"{number:0{len(span[1])}}" for number in range(int(span[1]), int(span[2]) + 1)]
    elif span is None and brace[1]:
        choices = brace[1].split(",")
    else:
        raise UsageError(f"'{brace[0]}' in a pattern of shards is no range; write {{0000..0017}}, the smaller first")
    ends = _expanded(pattern[brace.end() :])
    return [pattern[: brace.start()] + choice + end for choice in choices for end in ends]


def _split(shard: Path) -> str:
    """By the folder, else by a word of the shard's own name; "" where none says."""
    if shard.parent.name.lower() in SPLITS:
        return SPLITS[shard.parent.name.lower()]
    words = {SPLITS[word] for word in re.split(r"[-_.]", shard.stem.lower()) if word in SPLITS}
    return words.pop() if len(words) == 1 else ""


def _class_names(shards: Sequence[Path], given: Any) -> tuple[str, ...]:
    if given is not None:
        file = absolute(str(given))
        if not file.is_file():
            raise DataError(f"there is no file {file}; classes= names a text file with one class name a line")
    else:
        near = {folder / CLASS_NAMES for shard in shards for folder in (shard.parent, shard.parent.parent)}
        files = sorted(file for file in near if file.is_file())
        if len(files) > 1:
            raise DataError(f"class names are in {files[0]} and in {files[1]}; say which: classes=FILE")
        if not files:
            return ()
        [file] = files
    try:
        # not `splitlines`: it also ends a line at a form feed or U+2028, and every index after it would be wrong
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as text in UTF-8: {error}") from error
    return unique_classes([line.strip() for line in (lines if lines[-1] else lines[:-1])], str(file))


def _rows(shard: Path, split: str, reading: _Reading) -> Iterator[Row]:
    for entry in entries(shard):
        where = f"{shard}: the sample '{entry.key}'"
        told = {} if entry.json is None else _object(where, entry.json)
        label = _field(where, told, reading.label) if entry.cls is None else entry.cls
        caption = _field(where, told, reading.caption) if entry.txt is None else entry.txt
        name = f"{split}/{entry.key}" if split else entry.key
        path = Part(str(shard), entry.offset, entry.size, entry.picture).path
        yield Row(name, path, _label(where, label, reading), caption, split, sha256=entry.sha256)


def _object(where: str, text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where} has a .json that is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{where} has a .json that holds {type(value).__name__}; expected an object")
    return value


def _field(where: str, told: Mapping[str, Any], key: str) -> str:
    value = told.get(key)
    if value is None:
        return ""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise DataError(f"{where} has {type(value).__name__} as '{key}' in its .json; expected text or an index")
    return str(value).strip()


def _label(where: str, label: str, reading: _Reading) -> str:
    """The class name that a label means: digits are a place in the declared names, whatever the classes are called."""
    classes = reading.classes
    if not label:
        return label
    if not label.isdecimal():
        label = class_name(label) if classes else label
        if classes and label not in reading.known:
            raise DataError(f"{where} has the class '{label}', which is not among the {len(classes)} class names")
        return label
    if not classes:
        raise DataError(
            f"{where} has the class index {label}, and nothing names it; put the names, one a line, into "
            f"{CLASS_NAMES} beside the shards, or give a file as classes="
        )
    if int(label) >= len(classes):
        raise DataError(f"{where} has the class index {label}; there are {len(classes)} class names, from 0 on")
    return classes[int(label)]
