"""Which other distributions a run is made of. Their versions are in its hash: code that changed makes another run.

Code that is installed editable changes while its version stays, so its hash is there too. The values of a config are
in the hash of the run anyway: who brings its file is only told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trireme import config
from trireme.compose import Component
from trireme.plugins import config_owner
from trireme.registry import BENCHMARKS, ENCODERS, METHODS, PAIR_SETS, RANKERS, Registry

Origin = dict[str, str]
"""{kind, name, package, version} of one registered name or config; `code`, a hash, of what is installed editable."""


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
        *((METHODS, one.target) for one in _components(method)),
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
            code = registry.code(name)
            one |= {"code": code} if code else {}
            found += [] if one in found else [one]
    return tuple(found)


def configs_of(
    method: Component, benchmark: str, encoder: str, memory: str | None, rankers: Sequence[str] = ()
) -> tuple[Origin, ...]:
    """The YAML configs of a run that another distribution brings, by the names of the command line."""
    parts = [
        *(("method", one.name) for one in _components(method)),
        ("benchmark", benchmark),
        ("encoder", encoder),
        *((("memory", memory),) if memory is not None else ()),
        *(("ranker", name) for name in rankers),
    ]
    owners = [(kind, name, config_owner(config.find(kind, name).path)) for kind, name in dict.fromkeys(parts)]
    return tuple(
        {"kind": kind, "name": name, "package": owner.package, "version": owner.version}
        for kind, name, owner in owners
        if owner is not None
    )


def _components(method: Component) -> Iterator[Component]:
    yield method
    for inner in method.inner.values():
        yield from _components(inner)
