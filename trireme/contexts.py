"""What a method is given: the context of a run, and the seconds that making it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from trireme.benchmarks.validation_only import ValidationOnly
from trireme.errors import TriremeError
from trireme.methods.base import Context, Validation
from trireme.plan import Run
from trireme.types import RANKED, Benchmark, PairSet, Role, Task
from trireme.workbench import Workbench


class Phases:
    """Seconds by phase of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 4)


def make_context(run: Run, bench: Workbench, benchmark: Benchmark, phases: Phases) -> Context:
    """Everything that the method of a run may use, encoded and opened."""
    part = bench.encoder(run.encoder)
    memory = None
    if run.memory is not None:
        with phases("memory"):
            memory = bench.memory(run.memory, run.encoder, run.benchmark, run.seed)
    validation = None
    if run.validation is not None:
        with phases("encode"):
            kept = bench.readable(run.validation, Role.VALIDATION, run.encoder)
        validation = Validation(ValidationOnly(bench.benchmark(run.validation)), kept.samples)
    named = benchmark.task is not Task.RETRIEVAL  # its labels tell which caption belongs to which picture
    return Context(
        encoder=part.encoder,
        store=part.store,
        memory=memory,
        class_ids=benchmark.class_ids if named else (),
        class_names=benchmark.class_names if named else (),
        templates=benchmark.templates if named else (),
        validation=validation,
        pair_set=_declared_sets(run, bench),
        seed=run.seed,
        device=bench.device,
        artifacts=bench.artifacts,
        ranker=bench.ranker,
        keep=getattr(benchmark, "keep", RANKED),
        every_class=getattr(benchmark, "every_class", False),
    )


def _declared_sets(run: Run, bench: Workbench) -> Callable[[str], PairSet]:
    """Opens training pair sets, only those that the run's hash knows of."""

    def pair_set(name: str) -> PairSet:
        if name not in run.training_sets:
            raise TriremeError(
                f"method '{run.method.label}' asks for the pair set '{name}', which its configuration does not name"
            )
        return bench.pair_set(name)

    return pair_set
