"""Rows of a user's data as a benchmark, and as image-caption pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trireme.benchmarks.base import RowBenchmark, RowPairs
from trireme.benchmarks.custom import folder, hub, tables, webdataset
from trireme.benchmarks.custom.rows import PAIRS, VALIDATION, Data, Row, class_name
from trireme.benchmarks.templates import templates
from trireme.errors import DataError, UsageError, unknown_name
from trireme.hashes import file_hashes
from trireme.types import Benchmark, ImageRef, Pair, PairSet, Role, Sample

_CAPTION = "a photo of {}"


@dataclass(frozen=True, slots=True)
class _Form:
    """A form of data: how its place is read, and the options that the reader takes."""

    read: Callable[[str, Mapping[str, Any]], Data]
    options: tuple[str, ...]
    place: str = "PATH"


_FORMS: Mapping[str, _Form] = {
    "folder": _Form(folder.read, ()),
    "csv": _Form(tables.read_csv, tables.COLUMNS),
    "parquet": _Form(tables.read_parquet, tables.COLUMNS),
    "webdataset": _Form(webdataset.read, webdataset.OPTIONS, "PATTERN"),
    "hf": _Form(hub.read, hub.OPTIONS, "PATH_OR_ID"),
}


def open_benchmark(name: str, **options: Any) -> Benchmark:
    """The data at `name` as a benchmark: its `test` pictures, or all of them where it has no splits.

    Args:
        name: "folder:PATH", "csv:PATH", "parquet:PATH", "webdataset:PATTERN" or "hf:PATH_OR_ID".
        options: `templates` (a list of prompts); those of the form, for tables the name of a column of
            `tables.COLUMNS`: `label="species"`.

    Raises:
        DataError: the data is not there or not of that shape. A listed picture that is missing is no error here:
            a run counts it.
        UsageError: an unknown kind of data or option.
    """
    prompts = _templates(options.pop("templates", None))
    data = _read(name, options)
    classes = data.classes or tuple(sorted({row.label for row in data.rows} - {""}))
    place = {label: number for number, label in enumerate(classes)}
    samples: dict[Role, list[Sample]] = {Role.TEST: [], Role.VALIDATION: []}
    rows = [row for row in data.rows if row.split != PAIRS]
    if not rows:
        raise DataError(f"{name} has no pictures for a benchmark: all of its rows are in the split 'memory' or 'train'")
    for row, ref in zip(rows, _refs(rows), strict=True):
        if row.label not in place or not row.label:
            raise DataError(f"{data.place}: '{row.id}' has no class; a benchmark needs the class of every picture")
        role = Role.VALIDATION if row.split == VALIDATION else Role.TEST
        samples[role].append(Sample(row.id, ref, place[row.label]))
    return RowBenchmark(
        name=name,
        version="user",
        class_ids=classes,
        class_names=classes,
        class_groups=("",) * len(classes),
        subsets={"all": None},
        templates=prompts,
        rows=samples,
        validation=name if samples[Role.VALIDATION] else None,
    )


def open_pairs(name: str, **options: Any) -> PairSet:
    """The data at `name` as image-caption pairs: its `memory` (or `train`) pictures, or all where it has no splits.

    A row without a caption says "a photo of <label>". Arguments and errors are those of `open_benchmark`.
    """
    _templates(options.pop("templates", None))
    data = _read(name, options)
    rows = [row for row in data.rows if row.split in ("", PAIRS)]
    if not rows:
        raise DataError(f"{name} has no pictures for a memory: none of its rows is in the split 'memory' or 'train'")
    for row in rows:
        if not row.label and not row.caption:
            raise DataError(f"{data.place}: '{row.id}' has neither a class nor a caption; a memory needs one of them")
    return RowPairs(
        name,
        tuple(
            Pair(row.id, ref, row.caption or _CAPTION.format(row.label), row.label, name)
            for row, ref in zip(rows, _refs(rows), strict=True)
        ),
    )


def _templates(given: Sequence[str] | None) -> tuple[str, ...]:
    if given is None:
        return templates("photos")
    if isinstance(given, str) or not given or any(text.count("{}") != 1 for text in given):
        raise UsageError(f"templates must be a list of texts with one {{}} each, got {given!r}")
    return tuple(given)


def _refs(rows: Sequence[Row]) -> list[ImageRef]:
    unknown = [row.path for row in rows if row.sha256 is None]
    found = dict(zip(unknown, file_hashes(unknown, workers=2), strict=True))
    hashes = (row.sha256 or found[row.path] for row in rows)
    return [
        ImageRef(row.path, digest if isinstance(digest, str) else None, row.region)
        for row, digest in zip(rows, hashes, strict=True)
    ]


def _read(name: str, options: Mapping[str, Any]) -> Data:
    """The rows by id. Their order would else decide ties in a memory and what a training sees first."""
    scheme, colon, place = name.partition(":")
    if scheme not in _FORMS or not colon or not place:
        raise unknown_name("kind of data", name, [f"{one}:{form.place}" for one, form in _FORMS.items()])
    form = _FORMS[scheme]
    for option in options:
        if option not in form.options:
            raise unknown_name(f"option of {scheme}:", option, ["templates", *form.options])
    data = form.read(place, options)
    if not data.rows:
        raise DataError(f"no pictures found in {data.place}")
    _check(data)
    return Data(data.place, sorted(_named(data), key=lambda row: row.id), data.classes)


def _named(data: Data) -> Iterator[Row]:
    """The rows, each class by one form of its name.

    Raises:
        DataError: the data has it in two.
    """
    given: dict[str, str] = {}
    for row in data.rows:
        name = class_name(row.label)
        first = given.setdefault(name, row.label)
        if first != row.label:
            raise DataError(
                f"{data.place}: the class '{name}' is written in two ways that look the same, {first!a} and "
                f"{row.label!a} ('{row.id}'); write it in one, best in Unicode's form NFC"
            )
        yield row if row.label == name else replace(row, label=name)


def _check(data: Data) -> None:
    seen: set[str] = set()
    for row in data.rows:
        if row.id in seen:
            raise DataError(f"{data.place}: two rows have the id '{row.id}'; remove one, or give them an `id` column")
        seen.add(row.id)
    n, unsplit = len(data.rows), sum(not row.split for row in data.rows)
    if 0 < unsplit < n:
        raise DataError(f"{data.place}: {unsplit} of {n} rows have no split; fill the `split` column in or remove it")
