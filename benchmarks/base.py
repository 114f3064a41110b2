"""Benchmarks and pair sets that are held in memory as rows; the world and a user's own data share them.

Fingerprints take rows as they come, since the order of pairs decides ties in a memory and what a training sees first.
So whoever reads data gives its rows an order that follows from the data alone: the world by class and art family, a
user's own pictures by id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from trireme.benchmarks.metrics import metric_code, score
from trireme.errors import UsageError
from trireme.files import fingerprint
from trireme.types import Floats, ImageRef, Ints, Pair, Role, Sample, Task


@dataclass(frozen=True)
class RowBenchmark:
    """Classification over fixed classes. The fields are those of `trireme.types.Benchmark`; `rows` is by role."""

    name: str
    version: str
    class_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    class_groups: tuple[str, ...]
    subsets: Mapping[str, tuple[str, ...] | None]
    templates: tuple[str, ...]
    rows: Mapping[Role, Sequence[Sample]]
    validation: str | None = None
    task: Task = Task.ZERO_SHOT
    metrics: tuple[str, ...] = ("top1", "top5")
    _fingerprints: dict[Role, str] = field(default_factory=dict, repr=False, compare=False)

    def samples(self, role: Role = Role.TEST) -> Sequence[Sample]:
        """The labelled samples of a role.

        Raises:
            UsageError: the benchmark has no samples of that role.
        """
        found = self.rows.get(role, ())
        if not found:
            elsewhere = f"use '{self.validation}'" if role is Role.VALIDATION and self.validation else "it has none"
            raise UsageError(f"benchmark '{self.name}' has no {role.value} samples; {elsewhere}")
        return found

    def fingerprint(self, role: Role = Role.TEST) -> str:
        """Hash of classes, groups, subsets, samples with picture hashes (and regions), templates and metric code."""
        if role not in self._fingerprints:
            self._fingerprints[role] = fingerprint(
                {
                    "version": self.version,
                    "task": self.task,
                    "classes": list(zip(self.class_ids, self.class_names, self.class_groups, strict=True)),
                    "subsets": {name: groups and sorted(groups) for name, groups in self.subsets.items()},
                    "samples": [[one.id, _content(one.image), one.label] for one in self.samples(role)],
                    "templates": self.templates,
                    "metrics": self.metric_codes(),
                }
            )
        return self._fingerprints[role]

    def metric_codes(self) -> list[list[str]]:
        """[name, hash of its source] of every metric."""
        return [[name, metric_code(name)] for name in self.metrics]

    def score(self, ranked: Ints, labels: Ints) -> Mapping[str, Floats]:
        """Per-sample values of every metric; see `trireme.benchmarks.metrics.score`."""
        return score(self.metrics, ranked, labels)


@dataclass(frozen=True)
class RowPairs:
    """A named set of image-caption pairs."""

    name: str
    rows: tuple[Pair, ...]

    def pairs(self) -> Sequence[Pair]:
        return self.rows

    @cached_property
    def fingerprint(self) -> str:
        """Hash of ids, picture hashes (and regions), captions and labels."""
        return fingerprint([[one.id, _content(one.image), one.caption, one.label] for one in self.rows])


def _content(ref: ImageRef) -> str | list[str | None] | None:
    """What tells a picture; for a whole one its hash alone, as before there were regions."""
    return ref.sha256 if ref.region is None else [ref.sha256, ref.region.text]
