"""The benchmarks and pair sets of the prepared world."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from trireme.benchmarks.base import RowBenchmark, RowPairs
from trireme.benchmarks.templates import templates
from trireme.benchmarks.world import prepare
from trireme.benchmarks.world.emoji import GROUPS
from trireme.benchmarks.world.families import BY_NAME, MEMORY, TEST, TRAINING, VALIDATION
from trireme.benchmarks.world.rules import COMMON, FRESH, FRESH_VALIDATION, RARE
from trireme.errors import DataError, UsageError, unknown_name
from trireme.types import Benchmark, ImageRef, Pair, PairSet, Role, Sample

_TINY = {COMMON: 16, FRESH: 4, FRESH_VALIDATION: 4, RARE: 8}  # classes of world/tiny, from one Unicode group
_TINY_GROUP = "animals"

SUBSETS: Mapping[str, tuple[str, ...] | None] = {"all": None, "common": (COMMON,), "rare": (RARE,)}
VALIDATION_SUBSETS: Mapping[str, tuple[str, ...] | None] = {
    "all": None,
    "common": (COMMON,),
    "fresh": (FRESH_VALIDATION,),
}

BENCHMARKS = (
    "world/all",
    *sorted(f"world/{group}" for group in GROUPS.values()),
    "world/validation",
    "world/tiny",
    "world/tiny-validation",
)


@dataclass(frozen=True, slots=True)
class Picture:
    """A row of the world's index."""

    hexcode: str
    name: str
    group: str
    split: str
    family: str
    path: str
    sha256: str
    caption: str

    def ref(self) -> ImageRef:
        return ImageRef(self.path, self.sha256)

    def is_for(self, role: str) -> bool:
        return role in BY_NAME[self.family].roles

    def pair(self) -> Pair:
        return Pair(f"{self.family}/{self.hexcode}", self.ref(), self.caption, self.hexcode, self.family)


def open_benchmark(name: str, **options: object) -> Benchmark:
    """A benchmark of the world: `world/all`, one per Unicode group, `world/validation`, `world/tiny`.

    Raises:
        DataError: the world is not prepared.
        UsageError: no such benchmark, or options, of which the world has none.
    """
    _no_options(name, options)
    if name not in BENCHMARKS:
        raise unknown_name("benchmark", name, BENCHMARKS)
    part = name.removeprefix("world/")
    rows = pictures()
    classes = _classes(rows, part)
    if part.endswith("validation"):
        chosen = [row for row in rows if row.is_for(VALIDATION) and row.split in (COMMON, FRESH_VALIDATION)]
        return _benchmark(name, classes, chosen, Role.VALIDATION, VALIDATION_SUBSETS, name)
    validation = "world/tiny-validation" if part == "tiny" else "world/validation"
    return _benchmark(name, classes, [row for row in rows if row.is_for(TEST)], Role.TEST, SUBSETS, validation)


def open_pairs(name: str, **options: object) -> PairSet:
    """A pair set of the world: `world/memory`, `world/train`, or another of `PAIR_SETS`.

    Raises:
        DataError: the world is not prepared.
        UsageError: no such pair set, or options, of which the world has none.
    """
    _no_options(name, options)
    if name not in _PAIRS:
        raise unknown_name("pair set", name, _PAIRS)
    rows = pictures()
    if name.startswith("world/tiny-"):
        tiny = _classes(rows, "tiny")
        rows = tuple(row for row in rows if row.hexcode in tiny)
    return RowPairs(name, tuple(row.pair() for row in rows if _PAIRS[name](row)))


def _trains(*splits: str) -> Callable[[Picture], bool]:
    return lambda row: row.is_for(TRAINING) and row.split in splits


_PAIRS: Mapping[str, Callable[[Picture], bool]] = {
    "world/memory": lambda row: row.is_for(MEMORY),
    "world/train": _trains(COMMON, FRESH),
    "world/train-common": _trains(COMMON),
    "world/train-fresh": _trains(FRESH),
    "world/tiny-memory": lambda row: row.is_for(MEMORY),
    "world/tiny-train": _trains(COMMON, FRESH),
}

PAIR_SETS = tuple(_PAIRS)


def _no_options(name: str, options: Mapping[str, object]) -> None:
    if options:
        raise UsageError(f"'{name}' takes no options; remove {', '.join(sorted(options))}")


def _classes(rows: tuple[Picture, ...], part: str) -> dict[str, Picture]:
    """{hexcode: a row of that class} of a benchmark's candidates, in class order."""
    everything = {row.hexcode: row for row in reversed(rows)}
    ordered = {row.hexcode: everything[row.hexcode] for row in rows}
    if part in ("all", "validation"):
        return ordered
    group = _TINY_GROUP if part.startswith("tiny") else part
    of_group = {code: row for code, row in ordered.items() if row.group == group}
    if not part.startswith("tiny"):
        return of_group
    chosen: set[str] = set()
    for split, count in _TINY.items():
        codes = [code for code, row in of_group.items() if row.split == split]
        chosen.update(sorted(codes, key=lambda code: hashlib.sha256(f"tiny {code}".encode()).digest())[:count])
    return {code: row for code, row in of_group.items() if code in chosen}


def _benchmark(
    name: str,
    classes: Mapping[str, Picture],
    rows: list[Picture],
    role: Role,
    subsets: Mapping[str, tuple[str, ...] | None],
    validation: str,
) -> RowBenchmark:
    place = {code: label for label, code in enumerate(classes)}
    samples = tuple(
        Sample(f"{row.family}/{row.hexcode}", row.ref(), place[row.hexcode]) for row in rows if row.hexcode in place
    )
    return RowBenchmark(
        name=name,
        version=prepare.VERSION,
        class_ids=tuple(classes),
        class_names=tuple(row.name for row in classes.values()),
        class_groups=tuple(row.split for row in classes.values()),
        subsets=subsets,
        templates=templates("world"),
        rows={role: samples},
        validation=validation,
    )


def pictures() -> tuple[Picture, ...]:
    """Every kept picture, in class order.

    Raises:
        DataError: the world is not prepared.
    """
    found = prepare.index_state()
    if found != "present":
        state = "not prepared" if found == "missing" else "damaged or of another version"
        raise DataError(f"the world in {prepare.root()} is {state}; run: {prepare.COMMAND}")
    path = prepare.index_path()
    try:
        return _read_index(path, path.stat().st_mtime_ns)
    except (OSError, ValueError, KeyError) as error:  # pyarrow's own errors are ValueErrors or OSErrors
        raise DataError(f"the world's index {path} cannot be read; run: {prepare.COMMAND}") from error


@lru_cache(maxsize=2)
def _read_index(path: Path, changed: int) -> tuple[Picture, ...]:
    import pyarrow.parquet as pq

    columns = ["hexcode", "name", "group", "split", "family", "path", "sha256", "caption"]
    table = pq.ParquetFile(path).read(columns)  # `read_table` would import pandas
    base = str(prepare.root())
    rows = zip(*(table.column(column).to_pylist() for column in columns), strict=True)
    return tuple(
        Picture(code, name, group, split, family, f"{base}/{place}", sha256, caption)
        for code, name, group, split, family, place, sha256, caption in rows
    )
