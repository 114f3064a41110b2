"""The rules of a benchmark: stable ids, true fingerprints, readable pictures, metrics that know right from wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from trireme.conformance.report import NotCheckedError, Rule, broken
from trireme.errors import TriremeError, UsageError
from trireme.hashes import file_hashes
from trireme.retrieval.encoders.base import load_image
from trireme.types import Benchmark, Role, Sample, SetBenchmark, Task

_FIELDS = ("name", "version", "task", "metrics", "class_ids", "class_names", "class_groups", "subsets", "templates")
_READ = 64
"""Pictures that are opened at most; those between are left out evenly."""


@dataclass
class BenchmarkTrial:
    """A benchmark under check.

    Attributes:
        make: opens it anew.
        find: opens another one by its name.
    """

    make: Callable[[], Any]
    find: Callable[[str], Benchmark]

    @cached_property
    def benchmark(self) -> Any:
        return self.make()

    @cached_property
    def role(self) -> Role:
        """The first role that has samples."""
        for role in Role:
            try:
                if len(self.benchmark.samples(role)):
                    return role
            except UsageError:
                continue
        raise broken("it has samples of no role")

    @cached_property
    def samples(self) -> list[Sample]:
        return list(self.benchmark.samples(self.role))


def declaration(trial: BenchmarkTrial) -> str:
    """All fields of the contract are there, of their types and lengths."""
    opened = trial.benchmark
    if absent := [
        name for name in (*_FIELDS, "validation", "samples", "fingerprint", "score") if not hasattr(opened, name)
    ]:
        raise broken(f"it has no `{absent[0]}`; see trireme.types.Benchmark")
    if not isinstance(opened.task, Task):
        raise broken("`task` is no trireme.types.Task")
    if not opened.metrics or not all(isinstance(metric, str) for metric in opened.metrics):
        raise broken("`metrics` names none; the main one comes first")
    sizes = {name: len(getattr(opened, name)) for name in ("class_ids", "class_names", "class_groups")}
    if len(set(sizes.values())) != 1 or not opened.class_ids:
        raise broken(
            f"it has {', '.join(f'{size} {name}' for name, size in sizes.items())}; give as many, and one at least"
        )
    twice = [one for one, count in Counter(opened.class_ids).items() if count > 1]
    if twice:
        raise broken(f"the class id '{twice[0]}' is there twice")
    groups = {*opened.class_groups, *(sample.group for sample in trial.samples if sample.group)}
    for subset, held in opened.subsets.items():
        for group in held or ():
            if group not in groups:
                raise broken(f"the subset '{subset}' holds the group '{group}', which no class and no sample has")
    for template in opened.templates:
        if "{}" not in template:
            raise broken(f"the template '{template}' has no {{}} for the class name")
    return f"{opened.task}, {len(opened.class_ids)} classes"


def samples(trial: BenchmarkTrial) -> str:
    """Ids are there once, labels are classes, and pictures can be read."""
    found, classes = trial.samples, len(trial.benchmark.class_ids)
    twice = [one for one, count in Counter(sample.id for sample in found).items() if count > 1]
    if twice:
        raise broken(f"the sample id '{twice[0]}' is there twice")
    for sample in found:
        if not isinstance(sample, Sample) or not sample.id:
            raise broken("a sample is no trireme.types.Sample with an id")
        if not -1 <= sample.label < classes:
            raise broken(f"sample {sample.id} has the label {sample.label} of {classes} classes; -1 for withheld ones")
    for sample in found[:: max(1, len(found) // _READ)]:
        try:
            load_image(sample.image.path)
        except TriremeError as error:
            raise broken(f"sample {sample.id}: {error}") from error
        if sample.image.region is not None and sample.image.region.fault:
            raise broken(f"sample {sample.id}: {sample.image.region.fault}")
    return f"{len(found)} {trial.role}"


def hashes(trial: BenchmarkTrial) -> str:
    """A hash that a sample carries is that of its picture."""
    told = [sample for sample in trial.samples if sample.image.sha256][:: max(1, len(trial.samples) // _READ)]
    if not told:
        raise NotCheckedError("its samples carry no hashes")
    for sample, found in zip(told, file_hashes([sample.image.path for sample in told]), strict=True):
        if found != sample.image.sha256:
            raise broken(f"the picture of sample {sample.id} has another hash than the sample says")
    return ""


def stable(trial: BenchmarkTrial) -> str:
    """Opened again, it has the same samples and the same fingerprint."""
    again, before = trial.make(), trial.benchmark
    if list(again.samples(trial.role)) != trial.samples:
        raise broken("opened again it gives other samples; sort what a folder or a dictionary gives")
    prints = before.fingerprint(trial.role), again.fingerprint(trial.role)
    if prints[0] != prints[1] or not re.fullmatch(r"[0-9a-f]{16}", str(prints[0])):
        raise broken(
            f"its fingerprint is {prints[0]}, and {prints[1]} when it is opened again; see trireme.files.fingerprint"
        )
    return str(prints[0])


def score(trial: BenchmarkTrial) -> str:
    """Right answers score 1, no answers score 0, and predictions stay as they are."""
    opened = trial.benchmark
    labels = np.array([sample.label for sample in trial.samples if sample.label >= 0], dtype=np.int64)
    if not len(labels):
        raise NotCheckedError("no sample has a label")
    right, nothing = labels[:, None].copy(), np.full((len(labels), 1), -1, dtype=np.int64)
    best, worst = opened.score(right, labels), opened.score(nothing, labels)
    if (right[:, 0] != labels).any() or (nothing != -1).any():
        raise broken("score changes the predictions that it is given")
    of_sets = set(opened.set_metrics) if isinstance(opened, SetBenchmark) else set()
    if not best and not of_sets:
        raise broken("score gives no metric")
    for name, values in best.items():
        low = worst[name]
        if np.shape(values) != labels.shape or np.isnan(values).any() or np.min(values) < 0 or np.max(values) > 1:
            raise broken(f"{name} is no value from 0 to 1 for each of {len(labels)} samples")
        if not (np.allclose(values, 1) and np.allclose(low, 0)):
            raise broken(
                f"{name} is {np.mean(values):.3g} for right answers and {np.mean(low):.3g} for none, not 1 and 0"
            )
    return ", ".join(best)


def validation(trial: BenchmarkTrial) -> str:
    """Its validation benchmark is there, with samples for choosing that are no test samples."""
    name = trial.benchmark.validation
    if name is None:
        raise NotCheckedError("it has none")
    chosen = list(trial.find(name).samples(Role.VALIDATION))
    if trial.role is not Role.TEST:
        return str(name)
    tested = {(one.image.sha256 or one.image.path, one.image.region, one.text) for one in trial.samples}
    shared = [one.id for one in chosen if (one.image.sha256 or one.image.path, one.image.region, one.text) in tested]
    if shared:
        raise broken(f"{len(shared)} validation samples of {name} are test samples (first: {shared[0]})")
    return f"{name}, {len(chosen)} samples"


def roles(trial: BenchmarkTrial) -> str:
    """A role without samples is refused by trireme.errors.UsageError, not answered with nothing."""
    for role in Role:
        try:
            if not len(trial.benchmark.samples(role)):
                raise broken(f"it gives no {role} samples and does not say so; raise UsageError")
        except UsageError:
            continue
    return ""


RULES: Mapping[str, Rule] = {
    "declaration": declaration,
    "samples": samples,
    "hashes": hashes,
    "stable": stable,
    "score": score,
    "validation": validation,
    "roles": roles,
}
