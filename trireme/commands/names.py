"""`trireme ls` and `trireme show`: names, without importing what they stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from trireme import config
from trireme.errors import unknown_name
from trireme.progress import say
from trireme.registry import BENCHMARKS, ENCODERS, METHODS, PAIR_SETS, RANKERS, REGISTRIES, Registry

Row = tuple[str, str]


def _configs(kind: str, registry: Registry | None = None) -> Iterator[Row]:
    for name in config.names(kind):
        found = config.find(kind, name)
        if registry is None:
            yield name, found.description
        else:
            yield from _row(name, found.description, registry, found.target)


def _row(name: str, description: str, registry: Registry, target: str) -> Iterator[Row]:
    """One row, with the distribution that brings it where that is another one; none for what cannot be used."""
    if fault := registry.fault(target):
        say(f"warning: left out: {fault}")
        return
    plugin = registry.plugin(target)
    yield name, f"{description} [{plugin}]".lstrip() if plugin is not None else description


def _benchmarks() -> Iterator[Row]:
    own = config.config_files("benchmark")
    for name in config.names("benchmark"):
        found = config.find("benchmark", name) if name in own else None
        target, told = (found.target, found.description) if found is not None else (name, "")
        yield from _row(name, told, BENCHMARKS, target)
    for prefix in BENCHMARKS.prefixes:
        yield f"{prefix}PATH", "your own pictures"


def _paper() -> Iterator[Row]:
    from trireme.commands.paper_names import rows

    yield from rows()


def _memories() -> Iterator[Row]:
    taken = set(config.names("memory"))
    yield from _configs("memory", PAIR_SETS)
    for name in PAIR_SETS.names():
        if name not in taken:
            yield from _row(name, "the pair set of this name", PAIR_SETS, name)
    for prefix in PAIR_SETS.prefixes:
        yield f"{prefix}PATH", "your own pictures"
    yield "NAME@N", "N pictures a class of any of these, drawn with the run's seed"
    yield f"{config.BUILT}PATH", "the folder of a memory built before"
    yield f"{config.FOREIGN}PATH", "a FAISS index written elsewhere, with memory.labels=FILE"


LISTS: dict[str, Callable[[], Iterator[Row]]] = {
    "methods": lambda: _configs("method", METHODS),
    "benchmarks": _benchmarks,
    "encoders": lambda: _configs("encoder", ENCODERS),
    "memories": _memories,
    "rankers": lambda: _configs("ranker", RANKERS),
    "suites": lambda: _configs("suite"),
    "paper": _paper,
}


def ls(kind: str) -> int:
    """Print the names of one kind, or of all."""
    if kind and kind not in LISTS:
        raise unknown_name("kind", kind, LISTS)
    for each in [kind] if kind else LISTS:
        rows = list(LISTS[each]())
        width = max((len(name) for name, _ in rows), default=0)
        if not kind:
            print(f"{each}:")
        for name, description in rows:
            print(f"{'' if kind else '  '}{name:{width}}  {description}".rstrip())
    return 0


def show(name: str) -> int:
    """Print every config of this name, where a benchmark or a pair set of this name is opened from, what another
    distribution registered, and the table of a paper."""
    from trireme.commands.paper_names import show as show_table

    found = show_table(name)
    for kind in config.KINDS:
        path = config.config_files(kind).get(name)
        if path is not None:
            print(f"# {kind} {name}: {path}\n{path.read_text(encoding='utf-8').rstrip()}")
        elif kind not in ("benchmark", "suite") and name in config.names(kind):
            print(f"# {kind} {name}: {config.find(kind, name).description}")
        else:
            continue
        found = True
    for registry in REGISTRIES:
        plugin = registry.plugin(name)
        if name in registry and (plugin is not None or registry in (BENCHMARKS, PAIR_SETS)):
            by = f", registered by {plugin}" if plugin is not None else ""
            print(f"# {registry.kind} {name}: opened by {registry.target(name)}{by}")
            found = True
        if fault := registry.fault(name):
            say(f"warning: {fault}")
    if not found:
        known = {row for listed in LISTS.values() for row, _ in listed()}
        raise unknown_name("name", name, known)
    return 0
