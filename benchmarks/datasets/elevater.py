"""ELEVATER's 20 image classification sets, on which REACT is evaluated, as its own downloader brings them.

Folders, files, numbers, class names, prompts and metrics are those of Computer-Vision-in-the-Wild/Elevater_Toolkit_IC
@00d0af7 and stand in `elevater.json`. They are other benchmarks than CoOp's of the same pictures: other splits, other
names, other metrics. The toolkit ignores a set's validation pictures and takes 20 % of those for training instead;
here a method that chooses settings chooses them on the set's validation pictures where it has some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from trireme.benchmarks.base import RowBenchmark
from trireme.benchmarks.datasets import opening
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.benchmarks.datasets.elevater_files import LabelledListing, entries
from trireme.benchmarks.datasets.places import locate
from trireme.benchmarks.datasets.prompts import prompts
from trireme.benchmarks.datasets.spec import TEST, TRAIN, VALIDATION, Count, Layout, Listed, Listing, SetSpec
from trireme.benchmarks.set_benchmark import SetRowBenchmark
from trireme.types import Benchmark, PairSet, Role

PREFIX = "elevater/"
METRICS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "accuracy": ("top1", "top5"),
        "mean-per-class": ("mean_per_class", "top1", "top5"),
        "11point_mAP": ("map", "map_voc"),
        "roc_auc": ("roc_auc", "top1"),
    }
)
"""The toolkit's word for a set's metric -> ours, that metric first."""

_TOOLKIT = "the toolkit's vision_datasets.json @00d0af7"


def open_benchmark(name: str, **options: object) -> Benchmark:
    """A set as a benchmark, with the metric that the toolkit has for it; see `opening.open_benchmark`.

    A sample with several labels (VOC 2007) has the label -1; the benchmark keeps its labels. Settings are not chosen on
    such samples, so the benchmark has no validation.
    """
    rows = opening.open_benchmark(name, **options)
    spec, entry = PUBLISHED[name], entries()[name.removeprefix(PREFIX)]
    if entry["metric"] not in ("11point_mAP", "roc_auc") or not isinstance(rows, RowBenchmark):
        return rows
    held: dict[str, Any] = {one.name: getattr(rows, one.name) for one in fields(RowBenchmark) if one.repr}
    if entry["several_labels"]:
        listing = opening.read(spec, TEST)
        assert isinstance(listing, LabelledListing)
        held |= {"label_sets": listing.label_sets, "validation": None, "rows": {Role.TEST: rows.samples()}}
    return SetRowBenchmark(**held)


def open_pairs(name: str, **options: object) -> PairSet:
    """The training pictures of a set; see `opening.open_pairs`.

    A picture with several labels is a pair for each of them, so that whatever asks for a class's pictures finds it.
    """
    if not entries()[name.removeprefix(PREFIX)]["several_labels"] or options:
        return opening.open_pairs(name, **options)
    spec = PUBLISHED[name]
    listing = opening.read(spec, TRAIN)
    assert isinstance(listing, LabelledListing)
    rows = tuple(
        Listed(row.path, label, f"{row.key}#{listing.class_ids[label]}")
        for row in listing.rows
        for label in listing.label_sets[row.key]
    )
    single = Listing(listing.class_ids, listing.class_names, rows)
    return opening.as_pairs(name, single, locate(spec).folder, prompts(spec.templates)[0])


def _spec(name: str, entry: Mapping[str, Any]) -> SetSpec:
    splits, folder = entry["splits"], entry["folder"]
    needs = (*filter(None, [entry["labelmap"]]), *(splits[split]["index"] for split in splits if split != TRAIN))
    archives = dict.fromkeys(archive for split in splits.values() for archive in split["archives"])
    return SetSpec(
        name=PREFIX + name,
        title=f"{entry['toolkit']} as ELEVATER has it",
        version="1",
        layouts=(
            Layout(
                (f"elevater/{folder}", folder),
                needs,
                "trireme.benchmarks.datasets.elevater_files:read",
                "ELEVATER's DataDownload",
                train=(splits[TRAIN]["index"],),
            ),
        ),
        classes=Count(len(entry["classes"]), True, _TOOLKIT),
        counts=MappingProxyType(
            {
                split: Count(splits[split]["pictures"], split == TEST, _TOOLKIT if split == TEST else "")
                for split in (TRAIN, VALIDATION, TEST)
                if split in splits
            }
        ),
        metrics=METRICS[entry["metric"]],
        several_labels=entry["several_labels"],
        templates=f"elevater:{name}",
        bring=f"python download_datasets.py --ds {entry['toolkit']} --output_dir <data root>/elevater, from the page; "
        f"leave {', '.join(archives)} as they are",
        page="https://github.com/Computer-Vision-in-the-Wild/DataDownload",
        licence="that of the set's own pictures; the collection is for academic research",
    )


SPECS: tuple[SetSpec, ...] = tuple(_spec(name, entry) for name, entry in entries().items())
