"""From the files of a published set to a benchmark and to the pair set of its training pictures, checked on the way.

Opening compares the numbers of classes and pictures with the spec, looks whether the listed pictures are there (one
listing per folder), and hashes their bytes: a fingerprint that is blind to what a picture shows would let two different
sets share their results. Hashes are remembered by path, size and times (`trireme.hashes`), so a set is read once.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from trireme.benchmarks.base import RowBenchmark, RowPairs
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.benchmarks.datasets.places import Place, absent, locate
from trireme.benchmarks.datasets.prompts import prompts
from trireme.benchmarks.datasets.spec import SPLIT_OF, TEST, TRAIN, VALIDATION, Count, Listed, Listing, SetSpec
from trireme.errors import DataError, UsageError
from trireme.hashes import file_hashes
from trireme.parts import part_of
from trireme.progress import say
from trireme.types import Benchmark, ImageRef, Pair, PairSet, Role, Sample

MOST_LOST = 0.01
"""Share of listed pictures that may be missing or empty; a run counts those. More is a half-extracted archive."""
_EMPTY = hashlib.sha256(b"").hexdigest()


def open_benchmark(name: str, **options: object) -> Benchmark:
    """A published set as a benchmark: its official test pictures, and its validation pictures where it has a split.

    Raises:
        DataError: the set is not here, or its files are not those of the published set.
        UsageError: no such set, or options, of which published sets have none.
    """
    _no_options(name, options)
    spec = PUBLISHED[name]
    listings = {role: read(spec, split) for role, split in SPLIT_OF.items() if split in spec.counts}
    return as_benchmark(spec, listings, locate(spec).folder)


def open_pairs(name: str, **options: object) -> PairSet:
    """The training pictures of a published set, each with the set's first prompt as its caption.

    Errors are those of `open_benchmark`; a set without a training split is one.
    """
    _no_options(name, options)
    spec = PUBLISHED[name]
    if TRAIN not in spec.counts:
        raise DataError(f"data set '{name}' has no training split; use another memory")
    return as_pairs(spec.name, read(spec, TRAIN), locate(spec).folder, prompts(spec.templates)[0])


def as_benchmark(spec: SetSpec, listings: dict[Role, Listing], folder: Path, **changes: Any) -> RowBenchmark:
    """Checked listings of one set as a benchmark. `changes` are fields of `RowBenchmark`."""
    test = listings[Role.TEST]
    for listing in listings.values():
        if (listing.class_ids, listing.class_names) != (test.class_ids, test.class_names):
            raise DataError(f"data set '{spec.name}' in {folder}: its splits have different classes")
    rows = {
        role: tuple(
            Sample(row.key, ref, row.label)
            for row, ref in zip(listing.rows, image_refs(spec.name, listing.rows, folder), strict=True)
        )
        for role, listing in listings.items()
    }
    fields: dict[str, Any] = {
        "name": spec.name,
        "version": spec.version,
        "class_ids": test.class_ids,
        "class_names": test.class_names,
        "class_groups": ("",) * len(test.class_ids),
        "subsets": {"all": None},
        "templates": prompts(spec.templates),
        "rows": rows,
        "validation": spec.name if Role.VALIDATION in listings else None,
        "metrics": spec.metrics,
    }
    return RowBenchmark(**(fields | changes))


def as_pairs(name: str, listing: Listing, folder: Path, caption: str) -> RowPairs:
    """A checked listing as image-caption pairs in its own order. `caption` has one {} for the class name."""
    refs = image_refs(name, listing.rows, folder)
    return RowPairs(
        name,
        tuple(
            Pair(
                row.key,
                ref,
                row.caption or caption.format(listing.class_names[row.label]),
                listing.class_ids[row.label],
                name,
            )
            for row, ref in zip(listing.rows, refs, strict=True)
        ),
    )


def read(spec: SetSpec, split: str) -> Listing:
    """One split of a set as its files list it, checked; no picture is read.

    Raises:
        DataError: the set is not here, or is not the published one.
    """
    place = locate(spec)
    lacking = absent(place, split)
    if lacking:
        raise DataError(
            f"data set '{spec.name}' in {place.folder} has no training pictures: {lacking[0]} is missing; "
            f"what to do: trireme data status {spec.name}"
        )
    listing = _reader(place)(place.folder, split)
    check(spec, split, listing, place.folder)
    return listing


def _reader(place: Place) -> Callable[[Path, str], Listing]:
    module, _, attribute = place.layout.read.partition(":")
    reader: Callable[[Path, str], Listing] = getattr(import_module(module), attribute)
    return reader


def check(spec: SetSpec, split: str, listing: Listing, folder: Path) -> None:
    """Compare a listing with its spec and with the disk.

    Raises:
        DataError: another number of classes or pictures, a label out of range, a picture listed twice, a path that
            leaves the folder, or more than 1 % of the pictures missing.
    """
    where = f"data set '{spec.name}' in {folder}"
    check_classes(where, listing, spec.same_names)
    check_count(where, "classes", len(listing.class_ids), spec.classes)
    if split in spec.counts:
        check_count(where, f"{split} pictures", len(listing.rows), spec.counts[split])
    classes = len(listing.class_ids)
    lowest = -1 if spec.several_labels else 0
    wrong = next((row for row in listing.rows if not lowest <= row.label < classes), None)
    if wrong is not None:
        raise DataError(
            f"{where}: {wrong.key} has a label that is none of its {classes} classes (class number {wrong.label} "
            "counted from 0); the annotation file is of another version, fetch it again"
        )
    check_pictures(where, listing.rows, folder)


def check_classes(where: str, listing: Listing, same_names: bool = False) -> None:
    """Ids and names fit together and no two ids are equal, nor names unless `same_names`."""
    if len(listing.class_ids) != len(listing.class_names):
        raise DataError(f"{where}: {len(listing.class_ids)} classes but {len(listing.class_names)} class names")
    for kind, values in (("id", listing.class_ids), ("name", () if same_names else listing.class_names)):
        doubled = next((value for value, count in Counter(values).items() if count > 1), None)
        if doubled is not None:
            raise DataError(f"{where}: two classes have the {kind} '{doubled}'")


def check_count(where: str, what: str, found: int, expected: Count) -> None:
    """An error where a verified number is missed, a line where another one is."""
    if not expected.number or found == expected.number:
        return
    line = f"{where}: {found} {what}, the published set has {expected.number}"
    if expected.verified:
        raise DataError(f"{line} ({expected.source}); files are missing or of another version, fetch them again")
    say(f"note: {line} as far as is known; its own files are believed")


def check_pictures(where: str, rows: Sequence[Listed], folder: Path) -> None:
    """No picture listed twice, outside the folder, or (for more than 1 %) not there; one listing per folder."""
    doubled = next((key for key, count in Counter(row.key for row in rows).items() if count > 1), None)
    if doubled is not None:
        raise DataError(f"{where}: '{doubled}' is listed twice; the annotation file is damaged or of another version")
    for row in rows:
        if not is_below(row.path):
            raise DataError(f"{where}: '{row.path}' leaves the folder of the set; nothing outside it is read")
    there = present([row.path for row in rows], folder)
    lost = [row.path for row, found in zip(rows, there, strict=True) if not found]
    if not rows:
        raise DataError(f"{where}: the split lists no pictures")
    _check_lost(where, lost, len(rows), "are not there")


def _check_lost(where: str, lost: Sequence[str], listed: int, what: str) -> None:
    if len(lost) > MOST_LOST * listed:
        raise DataError(
            f"{where}: {len(lost)} of {listed} listed pictures {what}, more than 1 % (first: {lost[0]}); the archive "
            "is half extracted or the disk was full: extract it again"
        )


def is_below(path: str) -> bool:
    """Whether a relative path stays below where it starts; also of Windows' kind."""
    plain = path.replace("\\", "/")
    return bool(plain) and not plain.startswith("/") and ":" not in plain[:2] and ".." not in plain.split("/")


def present(paths: Iterable[str], folder: Path) -> list[bool]:
    """Whether each path is in the folder, by one listing for each folder that occurs; of a part of a file, its file."""

    @cache
    def names(parent: str) -> frozenset[str]:
        try:
            with os.scandir(folder / parent) as entries:
                return frozenset(entry.name for entry in entries)
        except OSError:
            return frozenset()

    found = []
    for path in paths:
        part = part_of(path)
        parent, _, name = (path if part is None else part.file).rpartition("/")
        found.append(name in names(parent))
    return found


def image_refs(name: str, rows: Sequence[Listed], folder: Path) -> list[ImageRef]:
    """The pictures with the hashes of their bytes; one that is missing has none, and a run counts it.

    Raises:
        DataError: more than 1 % are empty files.
    """
    paths = [f"{folder}/{row.path}" for row in rows]
    hashes = file_hashes(paths, workers=min(8, os.cpu_count() or 2))
    empty = [row.path for row, found in zip(rows, hashes, strict=True) if found == _EMPTY]
    _check_lost(f"data set '{name}' in {folder}", empty, len(rows), "have no bytes")
    return [
        ImageRef(path, found if isinstance(found, str) else None) for path, found in zip(paths, hashes, strict=True)
    ]


def verify(spec: SetSpec) -> None:
    """Read every split of a set that is here and compare it with the spec; no picture is opened.

    Raises:
        DataError: what is wrong with it.
    """
    for split in (TRAIN, VALIDATION, TEST):
        if split in spec.counts and not absent(locate(spec), split):
            read(spec, split)


def _no_options(name: str, options: dict[str, object]) -> None:
    if options:
        raise UsageError(f"'{name}' takes no options; remove {', '.join(sorted(options))}")
