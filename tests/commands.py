"""Whether a command that a page only shows would be taken: its options, keys and every name in it, without running it.

What is left open is the data: published sets and files of the reader's own need not be here.
"""

from __future__ import annotations

import io
import re
import shlex
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import typer
import typer.main

from trireme import compose, config
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.cli import app
from trireme.commands import compare, data, names, new, ranker, reproduce, reproduce_text, train
from trireme.compose import Component
from trireme.config import Named
from trireme.errors import DataError, UsageError, unknown_name
from trireme.faults import describe
from trireme.memory_config import MemoryConfig
from trireme.plan import check_training_sets, default_memory
from trireme.request import Request, is_own_draw, parse, parse_parts
from trireme.results.writers import FORMATS
from trireme.retrieval.encoders.lite.training import TrainLiteConfig

_VARIABLE = re.compile(r"\$\{?[A-Z_]+\}?")
_NEW = re.compile(r"trireme new (\w+) ([a-z][\w-]*)")
_STAND_INS = {"method": "knn", "benchmark": "world/tiny", "encoder": "lite", "ranker": "local"}
"""What takes the place of a plugin that is made on a page or lies in examples/, and so is not installed here."""
LEADERBOARD_COLUMNS = ("benchmark", "subset", "encoder", "memory")


def words_of(line: str) -> list[str]:
    """The arguments of a command line of `trireme`: comments, the program itself and omissions (`...`) left out, a
    value that is omitted (`encoder.model=...`) called "any", a shell's variable 0.

    Raises:
        ValueError: it is no such line, or its quotes do not close.
    """
    words = [
        word.replace("=...", "=any") for word in shlex.split(_VARIABLE.sub("0", line), comments=True) if word != "..."
    ]
    program = next((place for place, word in enumerate(words) if word.rpartition("/")[2] == "trireme"), -1)
    if program < 0:
        raise ValueError(f"no command of trireme: {line}")
    return words[program + 1 :]


def made_by(lines: Iterable[str]) -> dict[str, str]:
    """Name -> kind of the plugins that some commands make (`trireme new KIND NAME`), and of those in examples/."""
    return _examples() | {name: kind for line in lines for kind, name in _NEW.findall(line)}


@cache
def _examples() -> dict[str, str]:
    found = {}
    for file in (Path(__file__).resolve().parent.parent / "examples").glob("*/pyproject.toml"):
        points = tomllib.loads(file.read_text(encoding="utf-8"))["project"].get("entry-points", {})
        for kind in _STAND_INS:
            found |= dict.fromkeys(points.get(f"trireme.{kind}s", {}), kind)
    return found


def fault(line: str, spoken: bool = False, made: Mapping[str, str] = MappingProxyType({})) -> str:
    """Why `trireme` would refuse a command line, or what it names that does not exist; "" where it would take it.

    Args:
        spoken: it stands within a sentence, where a command may be called by its name, without all of its arguments.
        made: see `made_by`.
    """
    try:
        words = words_of(line)
        if words[:1] != ["new"]:
            words = [_with_stand_ins(word, made) for word in words]
        command, name, rest = _resolved(words)
        context = command.make_context(name, list(rest))
        if not hasattr(command, "commands"):
            _CHECKS.get(name, _no_settings)(context.params)
    except typer.Exit:  # --help and --version
        return ""
    except Exception as error:
        said = describe(error)[0]
        return "" if spoken and said.startswith(("Missing argument", "nothing to run")) else said
    return ""


def _with_stand_ins(word: str, made: Mapping[str, str]) -> str:
    for name, kind in made.items():
        word = re.sub(rf"(?<![\w/.-]){re.escape(name)}(?![\w/-])", _STAND_INS[kind], word)
    return word


@cache
def _declared() -> Any:
    return typer.main.get_command(app)


def _resolved(words: Sequence[str]) -> tuple[Any, str, Sequence[str]]:
    """The declared command that the words begin with, its whole name, and its own arguments."""
    command, taken = _declared(), 0
    while hasattr(command, "commands") and taken < len(words) and not words[taken].startswith("-"):
        if words[taken] not in command.commands:
            raise unknown_name("command", words[taken], command.commands)
        command, taken = command.commands[words[taken]], taken + 1
    return command, " ".join(words[:taken]), words[taken:]


def _no_settings(given: Mapping[str, Any]) -> None:
    """A command without `key=value` settings has nothing more to check."""
    if given.get("arguments"):
        raise UsageError("tests/commands.py does not know how this command reads its settings; teach it")


def _run(given: Mapping[str, Any]) -> None:
    check_request(parse(given["arguments"] or []))


def check_request(request: Request) -> None:
    """UsageError where a part of a comparison does not exist or takes no such setting; no data is opened."""
    methods = [compose.method(name, request.overrides.get(("method", name), {})) for name in request.methods]
    for component, cls in methods:
        check_training_sets(component.resolved())
        _check_rankers(component, cls, request)
    for name in request.benchmarks:
        _check_benchmark(name, request)
        without = request.memories == () and default_memory(name) is None
        lacking = [component.label for component, cls in methods if without and cls(component.config).needs_memory]
        if lacking:
            raise UsageError(f"{', '.join(lacking)} on {name} needs memory=")
    _check_parts(request)


def _check_rankers(component: Component, cls: Any, request: Request) -> None:
    for name in getattr(cls(component.config), "rankers", ()):
        compose.ranker(name, request.overrides.get(("ranker", ""), {}), request.device)


def _check_benchmark(name: str, request: Request) -> None:
    """Options are checked by whoever opens the data, before it looks for them."""
    options = request.overrides.get(("benchmark", name), {})
    if options:
        try:
            compose.benchmark(name, options)
        except DataError:  # the data is not here
            return


def _check_parts(request: Request) -> None:
    for name in request.encoders:
        compose.encoder(name, request.overrides.get(("encoder", name), {}), request.device, request.dtype)
    own = [name for benchmark in request.benchmarks if (name := default_memory(benchmark)) is not None]
    for name in request.memories or dict.fromkeys(own):
        if name != "none" and not is_own_draw(name):
            overrides = request.overrides.get(("memory", name), request.overrides.get(("memory", ""), {}))
            compose.resolve(config.find("memory", name), MemoryConfig, overrides)


def _memory(given: Mapping[str, Any]) -> None:
    name = given.get("name", "")
    named = [f"memory={name}"] if name and not name.isupper() else []  # NAME stands for any
    _check_parts(parse_parts([*(given["arguments"] or []), *named]))


def _train_lite(given: Mapping[str, Any]) -> None:
    changes = dict(argument.split("=", 1) for argument in given["arguments"] or [])
    compose.resolve(Named("train lite", "lite", "", "", {}, None), TrainLiteConfig, changes)


def _train(method: str) -> Callable[[Mapping[str, Any]], None]:
    def check(given: Mapping[str, Any]) -> None:
        request = train._request(method, given["arguments"] or [])
        check_request(request)
        if method == "react":
            train._check_react(request, given["out"], given["official"])

    return check


def _train_ranker(given: Mapping[str, Any]) -> None:
    arguments = list(given["arguments"] or [])
    preset = arguments.pop(0) if arguments and "=" not in arguments[0] else ""
    _one_of(preset or None, ranker.PRESETS)
    shared = [one for one in arguments if one.partition("=")[0].partition(".")[0] in ranker._BENCH_KEYS]
    ranker._config(preset, [one for one in arguments if one not in shared])
    _check_parts(parse_parts(shared))


def _data(given: Mapping[str, Any]) -> None:
    _one_of(given["name"], ("", *data.SETS, *PUBLISHED.specs()))
    for archive in data._archives(given["name"], given.get("arguments") or []):
        _one_of(archive.name, PUBLISHED[given["name"]].archives)


def _names(command: Callable[[str], int]) -> Callable[[Mapping[str, Any]], None]:
    """`ls` and `show` are quick enough to run."""

    def check(given: Mapping[str, Any]) -> None:
        (value,) = given.values()
        if not value.isupper():
            with redirect_stdout(io.StringIO()):
                command(value)

    return check


def _leaderboard(given: Mapping[str, Any]) -> None:
    _one_of(given["by"], LEADERBOARD_COLUMNS)
    _one_of(given["format"], FORMATS)


def _compare(given: Mapping[str, Any]) -> None:
    """The labels of a table start with the name of a method's config."""
    for label in (given["first"], given["second"]):
        _one_of(label.partition("(")[0], config.names("method"))
    _one_of(given["format"], compare.FORMATS)


def _reproduce(given: Mapping[str, Any]) -> None:
    reproduce_text.check_format(given["format"])
    reproduce._filters(given["where"] or [])
    reproduce.Here(dict(reproduce._pair(change) for change in given["arguments"] or []))
    if given["name"] and given["tables"] is None and not given["name"].isupper():
        reproduce.find(given["name"])


def _new(given: Mapping[str, Any]) -> None:
    _one_of(given["kind"], new.KINDS)


def _check(given: Mapping[str, Any]) -> None:
    from trireme.conformance import BENCHMARK_RULES, ENCODER_RULES, METHOD_RULES, RANKER_RULES

    kind, name, options = given["kind"], given["name"], dict(one.split("=", 1) for one in given["options"] or [])
    _one_of(kind, new.KINDS)
    rules = (METHOD_RULES, BENCHMARK_RULES, ENCODER_RULES, RANKER_RULES)
    for rule in given["rule"] or []:
        _one_of(rule, dict(zip(new.KINDS, rules, strict=True))[kind])
    if not name.isupper():
        config.find(kind, name)
        opened = {"method": (), "encoder": (None, None), "ranker": (None,)}
        if kind in opened:
            getattr(compose, kind)(name, options, *opened[kind])


def _one_of(value: str | None, known: Iterable[str]) -> None:
    """UsageError for a value that is not among the known ones; one in capitals stands for any of them."""
    if value is not None and not value.isupper() and value not in (known := list(known)):
        raise unknown_name("value", value, known)


_CHECKS: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
    "run": _run,
    "leaderboard": _leaderboard,
    "compare": _compare,
    "reproduce": _reproduce,
    "new": _new,
    "check": _check,
    "ls": _names(names.ls),
    "show": _names(names.show),
    "data status": _data,
    "data prepare": _data,
    "memory build": _memory,
    "memory inspect": _memory,
    "memory search": _memory,
    "train lite": _train_lite,
    "train reco": _train("reco"),
    "train react": _train("react"),
    "train ranker": _train_ranker,
}
