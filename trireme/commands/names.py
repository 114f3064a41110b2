"""`trireme ls` and `trireme show`: names, without importing what they stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from trireme import config
from trireme.errors import UsageError, unknown_name
from trireme.plugins import Plugin, config_owner
from trireme.progress import say
from trireme.registry import BENCHMARKS, ENCODERS, METHODS, PAIR_SETS, RANKERS, REGISTRIES, Registry

Row = tuple[str, str]


def _configs(kind: str, registry: Registry | None = None) -> Iterator[Row]:
    for name in config.names(kind):
        if (found := _found(kind, name)) is None:
            continue
        if registry is None:
            yield name, _by(found.description, config_owner(found.path))
        else:
            yield from _row(name, found.description, registry, found.target, found.path)


def _found(kind: str, name: str) -> config.Named | None:
    """A config; None, named with its plugin, for one of a plugin that cannot be read."""
    try:
        return config.find(kind, name)
    except UsageError as error:
        owner = config_owner(config.config_files(kind).get(name))
        if owner is None:
            raise
        say(f"warning: left out: {kind} config '{name}' of {owner}: {error}")
        return None


def _row(name: str, description: str, registry: Registry, target: str, path: Path | None = None) -> Iterator[Row]:
    """One row, with the distributions that bring it and its config where those are others; none for what is broken."""
    if fault := registry.fault(target):
        say(f"warning: left out: {fault}")
        return
    yield name, _by(description, registry.plugin(target), config_owner(path))


def _by(description: str, *plugins: Plugin | None) -> str:
    named = ", ".join(dict.fromkeys(str(plugin) for plugin in plugins if plugin is not None))
    return f"{description} [{named}]".lstrip() if named else description


def _benchmarks() -> Iterator[Row]:
    own = config.config_files("benchmark")
    for name in config.names("benchmark"):
        if name not in own:
            yield from _row(name, "", BENCHMARKS, name)
        elif (found := _found("benchmark", name)) is not None:
            yield from _row(name, found.description, BENCHMARKS, found.target, found.path)
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
