"""`trireme ls` and `trireme show`: names, without importing what they stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from trireme import config
from trireme.errors import unknown_name
from trireme.registry import BENCHMARKS, PAIR_SETS

Row = tuple[str, str]


def _configs(kind: str) -> Iterator[Row]:
    for name in config.names(kind):
        yield name, config.find(kind, name).description


def _benchmarks() -> Iterator[Row]:
    own = config.config_files("benchmark")
    for name in config.names("benchmark"):
        yield name, config.find("benchmark", name).description if name in own else ""
    for prefix in BENCHMARKS.prefixes:
        yield f"{prefix}PATH", "your own pictures"


def _memories() -> Iterator[Row]:
    taken = set(config.names("memory"))
    yield from _configs("memory")
    for name in PAIR_SETS.names():
        if name not in taken:
            yield name, "the pair set of this name"
    for prefix in PAIR_SETS.prefixes:
        yield f"{prefix}PATH", "your own pictures"
    yield "NAME@N", "N pictures a class of any of these, drawn with the run's seed"
    yield f"{config.BUILT}PATH", "the folder of a memory built before"
    yield f"{config.FOREIGN}PATH", "a FAISS index written elsewhere, with memory.labels=FILE"


LISTS: dict[str, Callable[[], Iterator[Row]]] = {
    "methods": lambda: _configs("method"),
    "benchmarks": _benchmarks,
    "encoders": lambda: _configs("encoder"),
    "memories": _memories,
    "rankers": lambda: _configs("ranker"),
    "suites": lambda: _configs("suite"),
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
    """Print every config of this name, and where a benchmark or a pair set of this name is opened from."""
    found = False
    for kind in config.KINDS:
        path = config.config_files(kind).get(name)
        if path is not None:
            print(f"# {kind} {name}: {path}\n{path.read_text(encoding='utf-8').rstrip()}")
        elif kind not in ("benchmark", "suite") and name in config.names(kind):
            print(f"# {kind} {name}: {config.find(kind, name).description}")
        else:
            continue
        found = True
    for registry in (BENCHMARKS, PAIR_SETS):
        if name in registry:
            print(f"# {registry.kind} {name}: opened by {registry.target(name)}")
            found = True
    if not found:
        known = {row for listed in LISTS.values() for row, _ in listed()}
        raise unknown_name("name", name, known)
    return 0
