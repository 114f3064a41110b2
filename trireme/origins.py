"""Which other distributions a run is made of. Their versions are in its hash: code that changed makes another run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trireme import config
from trireme.compose import Component
from trireme.registry import BENCHMARKS, ENCODERS, METHODS, PAIR_SETS, RANKERS, Registry

Origin = dict[str, str]
"""{kind, name, package, version} of one registered name."""


def plugins_of(
    method: Component,
    benchmark: str,
    encoder: Component,
    memory: str,
    training: Sequence[str] = (),
    rankers: Sequence[str] = (),
) -> tuple[Origin, ...]:
    """Everything of a run that another distribution registered, each once; nothing where all is Trireme's own.

    Args:
        method: with the methods that its configuration holds.
        benchmark: as the command line calls it.
        memory: the pair set of the memory, "" where there is none.
        rankers: names of their configs.
    """
    parts: list[tuple[Registry, str]] = [
        *((METHODS, name) for name in _methods(method)),
        (BENCHMARKS, config.find("benchmark", benchmark).target),
        (ENCODERS, encoder.target),
        *((PAIR_SETS, name) for name in (memory, *training) if name),
        *((RANKERS, config.find("ranker", name).target) for name in rankers),
    ]
    found: list[Origin] = []
    for registry, name in parts:
        plugin = registry.plugin(name)
        if plugin is not None:
            one = {"kind": registry.kind, "name": name, "package": plugin.package, "version": plugin.version}
            found += [] if one in found else [one]
    return tuple(found)


def _methods(component: Component) -> Iterator[str]:
    yield component.target
    for inner in component.inner.values():
        yield from _methods(inner)
