"""The runs of a comparison, each with the hash of everything that can change its scores. No model is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from trireme import compose, config
from trireme.benchmarks.validation_only import ValidationOnly
from trireme.errors import DataError, TriremeError, UsageError
from trireme.faults import describe
from trireme.files import fingerprint
from trireme.methods.base import Validation
from trireme.origins import Origin, plugins_of
from trireme.plugins import config_owner
from trireme.progress import say
from trireme.registry import METHODS, PAIR_SETS
from trireme.request import Request, is_own_draw
from trireme.retrieval.pictures import shown
from trireme.types import ImageRef, Role, Task, inner_fields, without_effect
from trireme.workbench import Workbench


@dataclass(frozen=True)
class Run:
    """One cell of the comparison: method x benchmark x encoder x memory x seed.

    Attributes:
        plugins: what of it other distributions bring (`trireme.origins`).
        hash: of everything that can change a score, and of nothing else.
        name: the folder of its record; the hash is its last part.
        training_sets: pair sets that the method's configuration names.
        validation: the benchmark whose VALIDATION role the method may select on, None where there is none.
    """

    method: compose.Component
    method_class: Any = field(repr=False)
    benchmark: str
    encoder: str
    memory: str | None
    seed: int
    role: Role
    training_sets: tuple[str, ...]
    validation: str | None
    plugins: tuple[Origin, ...]
    hash: str
    name: str

    @property
    def by_plugin(self) -> bool:
        """Whether its method, or one that it holds, is another distribution's."""
        return any(one["kind"] == METHODS.kind for one in self.plugins)

    def __str__(self) -> str:
        seed = f" seed {self.seed}" if self.seed else ""
        return f"{_named(self.method)} on {self.benchmark}, {self.encoder}, memory {self.memory or 'none'}{seed}"


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that could not be computed, and why in one line."""

    what: str
    reason: str


def make_plan(request: Request, bench: Workbench) -> tuple[list[Run], list[Failure]]:
    """Every run asked for, in an order that shares work, and the ones whose inputs cannot be read.

    Raises:
        UsageError: the request is wrong as a whole: an unknown key, a memory missing for a method that needs one.
        TriremeError: no run can be planned, all for one reason.
    """
    methods, failures = _methods(request)
    benchmarks = list(dict.fromkeys(_benchmark_for_role(bench, name, request.role) for name in request.benchmarks))
    runs: dict[str, Run] = {}
    for encoder, benchmark, memory in _settings(request, benchmarks):
        for component, cls in methods:
            for seed in request.seeds:
                try:
                    run = plan_run(bench, component, cls, benchmark, encoder, memory, seed, request.role)
                except UsageError:
                    raise
                except Exception as error:
                    failures.append(Failure(f"{_named(component)} on {benchmark}, {encoder}", describe(error)[0]))
                    continue
                if run is not None and (first := runs.setdefault(run.hash, run)).method.label != component.label:
                    say(f"note: {component.label} is the same run as {first.method.label}; the table shows the latter")
    if not runs and failures and len({failure.reason for failure in failures}) == 1:
        raise TriremeError(failures[0].reason)
    if not runs and not failures:
        raise UsageError("none of these methods can do these benchmarks; see `trireme ls methods`")
    return list(runs.values()), failures


def _methods(request: Request) -> tuple[list[tuple[compose.Component, Any]], list[Failure]]:
    """The methods asked for; a plugin that cannot be used fails alone, the others go on."""
    found, failures = [], []
    for name in request.methods:
        try:
            config.find("method", name)
        except UsageError as error:
            owner = config_owner(config.config_files("method").get(name))
            if owner is None or len(request.methods) == 1:
                raise
            failures.append(Failure(f"{name} of {owner}", str(error)))
            continue
        try:
            found.append(compose.method(name, request.overrides.get(("method", name), {})))
        except UsageError:
            raise
        except Exception as error:
            plugin = METHODS.plugin(config.find("method", name).target)
            failures.append(Failure(f"{name} of {plugin}" if plugin else name, describe(error)[0]))
    return found, failures


def _named(method: compose.Component) -> str:
    """A method as messages call it, with the distribution that brings it."""
    plugin = METHODS.plugin(method.target)
    return method.label if plugin is None else f"{method.label} of {plugin}"


def _settings(request: Request, benchmarks: Sequence[str]) -> Iterator[tuple[str, str, str | None]]:
    for encoder in request.encoders:
        for benchmark in benchmarks:
            for memory in request.memories or (default_memory(benchmark),):
                yield encoder, benchmark, None if memory == "none" else _memory_of(benchmark, memory)


def _memory_of(benchmark: str, memory: str | None) -> str | None:
    """`@N` stands for N pictures a class of the benchmark's own memory.

    Raises:
        UsageError: it has none.
    """
    if memory is None or not is_own_draw(memory):
        return memory
    own = default_memory(benchmark)
    if own is None:
        raise UsageError(f"memory={memory} draws from a benchmark's own memory, and {benchmark} has none; name one")
    return own + memory


def default_memory(benchmark: str) -> str | None:
    """The memory of a benchmark where the command line names none.

    The world has its own, a published set the pair set of its training pictures; your pictures have none.
    """
    if benchmark.startswith("world/tiny"):
        return "world/tiny"
    if benchmark.startswith("world/"):
        return "world"
    if benchmark == "coco-captions-1k":
        return "coco-captions"
    return benchmark if benchmark in PAIR_SETS.targets() else None


def _benchmark_for_role(bench: Workbench, name: str, role: Role) -> str:
    """For the VALIDATION role: the benchmark that holds the validation pictures of this one."""
    if role is Role.TEST:
        return name
    return bench.benchmark(name).validation or name


def plan_run(
    bench: Workbench,
    component: compose.Component,
    cls: Any,
    benchmark: str,
    encoder: str,
    memory: str | None,
    seed: int,
    role: Role,
) -> Run | None:
    """One cell of the comparison; None where the method cannot do the benchmark's task.

    Raises:
        UsageError: the method needs a memory and there is none, or its configuration makes no sense.
    """
    opened = bench.benchmark(benchmark)
    if opened.task not in _tasks(component, cls):
        say(f"left out: {component.label} does no {opened.task} benchmark, which {benchmark} is")
        return None
    with _complaints(component):
        method = cls(deepcopy(component.config))
    part = bench.encoder(encoder)
    bench.check_customised(encoder, benchmark)
    if hasattr(method, "check"):
        with _complaints(component):
            method.check(part.encoder)
    if not method.needs_memory:
        memory = None
    elif memory is None:
        raise UsageError(
            f"method '{component.label}' needs a memory for {benchmark}; add memory=NAME or memory=folder:PATH "
            "(see `trireme ls memories`)"
        )
    check_training_sets(component.resolved())
    training = training_sets(component.resolved())
    for name in training:
        bench.check_training(name, benchmark)
    validation = opened.validation if getattr(method, "uses_validation", True) else None
    if validation and role is Role.TEST:
        bench.once(("validation checked", benchmark), lambda: _check_validation(bench, benchmark, validation))
    if validation and hasattr(method, "check_validation"):
        pictures = bench.samples(validation, Role.VALIDATION)
        with _complaints(component):
            method.check_validation(Validation(ValidationOnly(bench.benchmark(validation)), pictures))
    parts: dict[str, Any] = {
        "method": identity(component, cls),
        "benchmark": opened.fingerprint(role),
        "role": str(role),
        "encoder": part.encoder.fingerprint,
        "memory": None if memory is None else bench.memory_fingerprint(memory, encoder, benchmark, seed),
        "seed": seed,
        "training": [bench.pair_set(name).fingerprint for name in training],
        "validation": bench.validation_fingerprint(benchmark) if validation else None,
    }
    if rankers := getattr(method, "rankers", ()):  # absent from the hash of a method that asks none
        for ranker in rankers:
            bench.check_ranker(ranker, benchmark)
        parts["rankers"] = [[bench.ranker(name).fingerprint, bench.ranker(name).version] for name in rankers]
    target = "" if memory is None else bench.memory_component(memory).target
    plugins = plugins_of(component, benchmark, part.component, target, training, getattr(method, "rankers", ()))
    if plugins:  # absent from the hash of a run that is all Trireme's own
        parts["plugins"] = plugins
    run = fingerprint(parts)
    name = "--".join(map(_slug, (component.label, benchmark, part.encoder.name, str(seed)))) + f"--{run}"
    return Run(component, cls, benchmark, encoder, memory, seed, role, training, validation, plugins, run, name)


@contextmanager
def _complaints(component: compose.Component) -> Iterator[None]:
    """What a plugin's own code refuses fails its run alone, by its name; a UsageError would end the comparison."""
    try:
        yield
    except UsageError as error:
        plugin = METHODS.plugin(component.target)
        if plugin is None:
            raise
        raise TriremeError(f"method '{component.label}' of {plugin} refuses: {error}") from error


def _check_validation(bench: Workbench, benchmark: str, validation: str) -> None:
    """Refuse to choose on pictures of the test role, by their bytes; of regions on the same box of a picture.

    Boxes of one picture may be split between both. A whole picture shows all of its boxes.

    Raises:
        DataError: naming the first one.
    """
    tested = {_seen(sample.image) for sample in bench.samples(benchmark, Role.TEST)}
    wholes = {picture for picture, box in tested if box is None}
    pictures = {picture for picture, _ in tested}

    def tests(ref: ImageRef) -> bool:
        picture, box = _seen(ref)
        return picture in (wholes if box else pictures) or (picture, box) in tested

    shared = [one.id for one in bench.samples(validation, Role.VALIDATION) if tests(one.image)]
    if shared:
        raise DataError(
            f"{len(shared)} validation pictures of '{validation}' are test pictures of '{benchmark}' (first: "
            f"{shared[0]}); nothing may be chosen on test pictures: take them out of one of the two"
        )


def _tasks(component: compose.Component, cls: Any) -> frozenset[Task]:
    """What a method can do, together with those that its configuration holds."""
    held = [_tasks(one, METHODS.load(one.target)) for one in component.inner.values()]
    return frozenset.intersection(frozenset(cls.tasks), *held)


def _seen(ref: ImageRef) -> tuple[str, tuple[float, ...] | None]:
    """A picture by its bytes, and which box of it; how much around a box is shown makes no other box."""
    return shown(ref)[0], ref.region.box if ref.region else None


def effective(component: compose.Component) -> Mapping[str, Any]:
    """The settings that can change a score; those of a method in a method too, with its version."""
    left_out = {*without_effect(component.schema), *inner_fields(component.schema)}
    found = {key: value for key, value in component.resolved().items() if key not in left_out}
    return found | {key: identity(one, METHODS.load(one.target)) for key, one in component.inner.items()}


def identity(component: compose.Component, cls: Any) -> dict[str, Any]:
    """What a method is, for hashes and records."""
    return {"registry": component.target, "version": getattr(cls, "version", 1), "config": effective(component)}


def check_training_sets(resolved: Mapping[str, Any]) -> None:
    """UsageError for a name in `train_on` or `query_pairs` that is no pair set, with the nearest one."""
    for value in resolved.values():
        if isinstance(value, Mapping):  # a method in the method
            check_training_sets(value)
    for option in ("train_on", "query_pairs"):
        for name in resolved.get(option) or ():
            PAIR_SETS.target(name)


def training_sets(resolved: Mapping[str, Any]) -> tuple[str, ...]:
    """The pair sets that a configuration names, in any of its fields: what the method may train on."""
    found: list[str] = []
    for value in resolved.values():
        if isinstance(value, Mapping):
            found += training_sets(value)
        elif isinstance(value, str):
            found += [value] if value in PAIR_SETS else []
        elif isinstance(value, list | tuple):
            found += [item for item in value if isinstance(item, str) and item in PAIR_SETS]
    return tuple(dict.fromkeys(found))


def _slug(text: str) -> str:
    """Text as part of a folder name."""
    short = re.sub(r"[^A-Za-z0-9_.,+=@-]+", "-", text).strip("-.") or "x"
    return short if len(short) <= 40 else f"{short[:31]}-{fingerprint(text)[:8]}"
