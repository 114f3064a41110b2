"""A benchmark as methods get it to choose on: its validation pictures, and none of its test labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trireme.errors import BrokenRuleError
from trireme.types import Benchmark, Floats, Ints, Role, Sample, Task


class ValidationOnly:
    """The VALIDATION role of a benchmark, which may hold test pictures too; a `trireme.types.Benchmark` itself."""

    __slots__ = ("_benchmark",)

    def __init__(self, benchmark: Benchmark) -> None:
        self._benchmark = benchmark

    @property
    def name(self) -> str:
        return self._benchmark.name

    @property
    def version(self) -> str:
        return self._benchmark.version

    @property
    def task(self) -> Task:
        return self._benchmark.task

    @property
    def metrics(self) -> tuple[str, ...]:
        return self._benchmark.metrics

    @property
    def class_ids(self) -> tuple[str, ...]:
        return self._benchmark.class_ids

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._benchmark.class_names

    @property
    def class_groups(self) -> tuple[str, ...]:
        return self._benchmark.class_groups

    @property
    def subsets(self) -> Mapping[str, tuple[str, ...] | None]:
        return self._benchmark.subsets

    @property
    def templates(self) -> tuple[str, ...]:
        return self._benchmark.templates

    @property
    def validation(self) -> str | None:
        return self._benchmark.validation

    def samples(self, role: Role = Role.TEST) -> Sequence[Sample]:
        """Its labelled VALIDATION samples; those of a context's `validation.samples` are readable too.

        Raises:
            BrokenRuleError: another role is asked for.
        """
        self._refuse(role)
        return self._benchmark.samples(role)

    def fingerprint(self, role: Role = Role.TEST) -> str:
        """Hash of the VALIDATION role; BrokenRuleError for another one."""
        self._refuse(role)
        return self._benchmark.fingerprint(role)

    def score(self, ranked: Ints, labels: Ints) -> Mapping[str, Floats]:
        """Per-sample values of every metric."""
        return self._benchmark.score(ranked, labels)

    def _refuse(self, role: Role) -> None:
        if role != Role.VALIDATION:
            what = f"the {role} pictures of {self.name} are asked for; choose on validation.samples"
            raise BrokenRuleError.by("a method", "labels", what)
