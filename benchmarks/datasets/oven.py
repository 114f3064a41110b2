"""OVEN (Hu et al., arXiv 2302.11154, ICCV 2023): which Wikipedia entity does a picture show?

`oven/entity` and `oven/query` are the two splits of its annotations. The score of a split is the harmonic mean of the
accuracies on seen and on unseen entities; the final score, that of both splits, is no benchmark's own. What stands
for an answer is an option: without `candidates` a method chooses among the entities that the split's own annotations
name, thousands instead of six million, which is another and much easier task, and its version says so.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from trireme.benchmarks.base import RowBenchmark
from trireme.benchmarks.datasets import oven_files
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.benchmarks.datasets.opening import as_benchmark, check
from trireme.benchmarks.datasets.oven_files import PATHS, PICTURES, SEEN, UNSEEN, EntityListing
from trireme.benchmarks.datasets.places import locate
from trireme.benchmarks.datasets.spec import TEST, TRAIN, Count, Layout, Listed, SetSpec
from trireme.benchmarks.metrics import metric_code, score
from trireme.benchmarks.set_metrics import HarmonicAccuracy, SampleEvaluator, harmonic_mean
from trireme.errors import DataError, unknown_name
from trireme.files import fingerprint
from trireme.types import Benchmark, Evaluator, Floats, Ints, Role, Sample

HARMONIC = "harmonic"
SPLITS = ("val", "test")


@dataclass(frozen=True)
class OvenBenchmark(RowBenchmark):
    """A `RowBenchmark` with OVEN's score of a split. The group of a class is "seen", "unseen", or "" (no sample's); a
    sample that its own `data_split` counts otherwise has a group of its own.
    """

    @property
    def set_metrics(self) -> tuple[str, ...]:
        return tuple(name for name in self.metrics if name == HARMONIC)

    def score(self, ranked: Ints, labels: Ints) -> Mapping[str, Floats]:
        """Per-sample values of the other metrics."""
        return score([name for name in self.metrics if name != HARMONIC], ranked, labels)

    def metric_codes(self) -> list[list[str]]:
        sources = [HARMONIC, inspect.getsource(HarmonicAccuracy), inspect.getsource(harmonic_mean)]
        return [[name, fingerprint(sources) if name == HARMONIC else metric_code(name)] for name in self.metrics]

    def fingerprint(self, role: Role = Role.TEST) -> str:
        """That of the rows, with the groups that samples have of their own, where there are some."""
        own = {one.id: one.group for one in self.samples(role) if one.group}
        return fingerprint([super().fingerprint(role), own]) if own else super().fingerprint(role)

    def evaluator(self, predictions: Any, role: Role = Role.TEST) -> Evaluator:
        """The harmonic mean of the accuracies on seen and unseen entities; a unit is a sample."""
        groups, ranked = predictions["group"].to_pylist(), predictions["ranked"].to_pylist()
        counted = np.array([state == "ok" for state in predictions["status"].to_pylist()], dtype=np.bool_)
        right = [row[:1] == [label] for row, label in zip(ranked, predictions["label"].to_pylist(), strict=True)]
        unseen = np.array([group == UNSEEN for group in groups], dtype=np.int64)
        metric = HarmonicAccuracy(np.array(right, dtype=np.int64)[counted], unseen[counted])
        return SampleEvaluator(dict.fromkeys(self.set_metrics, metric), counted)


def open_benchmark(name: str, candidates: str = "", split: str = "val") -> Benchmark:
    """A split of OVEN as a benchmark.

    Args:
        candidates: a file in JSON lines of what may be answered (`oven_files.CANDIDATES`); "": the entities that the
            annotations of this split name.
        split: "val" or "test", the official ones; the latter only where its file has labels.

    Raises:
        DataError: the set is not here or damaged, labels are withheld, or the answer of a sample is no candidate.
        UsageError: another split.
    """
    if split not in SPLITS:
        raise unknown_name("split of OVEN", split, SPLITS)
    spec = PUBLISHED[name]
    place = locate(spec)
    listing = oven_files.read(place.folder, f"{name.replace('/', '_')}_{split}.jsonl")
    check(spec, TEST, listing, place.folder)
    untold = next((row for row, part in zip(listing.rows, listing.row_parts, strict=True) if not part), None)
    if untold is not None:
        raise DataError(
            f"data set '{name}' in {place.folder}: the `data_split` of {untold.key} does not say whether "
            f"{listing.class_ids[untold.label]} is seen or unseen"
        )
    if candidates:
        listing = _among(listing, Path(candidates).expanduser())
    told = "candidates of a file" if candidates else "its own entities as candidates"
    opened = as_benchmark(
        spec,
        {Role.TEST: listing},
        place.folder,
        version=f"{spec.version}, {split}, {told}",
        class_groups=listing.parts,
        subsets={"all": None, SEEN: (SEEN,), UNSEEN: (UNSEEN,)},
    )
    rows = {Role.TEST: _grouped(opened.rows[Role.TEST], listing)}
    kept = {one.name: getattr(opened, one.name) for one in fields(RowBenchmark) if one.repr}
    return OvenBenchmark(**(kept | {"rows": rows}))


def _grouped(samples: Sequence[Sample], listing: EntityListing) -> tuple[Sample, ...]:
    """The samples, those with a group of their own that are counted otherwise than their entity."""
    return tuple(
        one if part == listing.parts[one.label] else replace(one, group=part)
        for one, part in zip(samples, listing.row_parts, strict=True)
    )


def _among(listing: EntityListing, path: Path) -> EntityListing:
    """The same pictures with the candidates of a file as classes, in the order of the file."""
    names = oven_files.candidates(path)
    label = {key: number for number, key in enumerate(names)}
    lost = [key for key in listing.class_ids if key not in label]
    if lost:
        raise DataError(
            f"{path} lacks {len(lost)} of the {len(listing.class_ids)} entities that the samples show (first: "
            f"{lost[0]}, {listing.class_names[listing.class_ids.index(lost[0])]}); add them, or they can never be found"
        )
    parts = dict(zip(listing.class_ids, listing.parts, strict=True))
    rows = tuple(Listed(row.path, label[listing.class_ids[row.label]], row.id) for row in listing.rows)
    told = tuple(parts.get(key, "") for key in names)
    return EntityListing(tuple(names), tuple(names.values()), rows, told, listing.row_parts)


def _spec(kind: str) -> SetSpec:
    train, val = f"oven_{kind}_train.jsonl", f"oven_{kind}_val.jsonl"
    read = f"trireme.benchmarks.datasets.oven_files:{kind}"
    return SetSpec(
        name=f"oven/{kind}",
        title=f"OVEN, {kind} split, tested on its validation pictures",
        version="1",
        layouts=(
            Layout(("oven",), (val, PICTURES), read, "pictures merged: oven_images/04/oven_04925844.jpg", (train,)),
            Layout(
                ("oven",), (val, PATHS), read, "pictures of the source sets, where ovenid2impath.csv says", (train,)
            ),
        ),
        classes=Count(0),
        counts=MappingProxyType({TRAIN: Count(0), TEST: Count(0)}),
        metrics=(HARMONIC, "top1", "top5"),
        templates="oven",
        same_names=True,
        bring=f"{val} (for a memory also {train}) from the page; pictures by image_downloads/ of edchengg/oven_eval, "
        "or its snapshot ychenNLP/oven on the Hugging Face hub",
        page="https://github.com/open-vision-language/oven",
        licence="annotations as the page says, pictures as the 14 sets that they come from",
    )


SPECS: tuple[SetSpec, ...] = (_spec("entity"), _spec("query"))
