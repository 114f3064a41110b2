"""What the user asked for: the `key=value` arguments of `trireme run`, names checked, as selections and overrides."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from trireme import config
from trireme.errors import UsageError, unknown_name
from trireme.plugins import config_owner
from trireme.registry import BENCHMARKS
from trireme.types import Role

T = TypeVar("T")

BATCH_SIZE = 1024
KEYS = (
    "suite",
    "method",
    "benchmark",
    "encoder",
    "memory",
    "seed",
    "role",
    "out",
    "device",
    "dtype",
    "batch_size",
    "workers",
)
_PART_KEYS = ("encoder", "memory", "device", "dtype", "workers")
_DOTTED = ("method", "benchmark", "encoder", "memory", "ranker")
_SUITE_KEYS = ("benchmarks", "methods", "encoders", "memories", "seeds")
_OWN_DRAW = re.compile(r"@[1-9][0-9]{0,8}")
_EXAMPLE = "try `trireme run suite=world` or `trireme run method=knn benchmark=world/food`"


@dataclass(frozen=True, slots=True)
class Request:
    """A comparison as asked for: every method x benchmark x encoder x memory x seed.

    Attributes:
        overrides: (kind, name) -> {dotted key of its config: value as typed}.
        memories: names; () lets the benchmarks decide (`world/*` have one of their own), "@N" is N pictures a class of
            that, ("none",) forbids any.
        device, dtype: for the encoder and for trained parts; None leaves what the encoder's config says.
        batch_size: samples per stored batch of predictions. Never changes a result.
        workers: threads that read pictures, 0 for one a core. Never changes a result.
    """

    methods: tuple[str, ...]
    benchmarks: tuple[str, ...]
    encoders: tuple[str, ...]
    memories: tuple[str, ...]
    seeds: tuple[int, ...]
    role: Role = Role.TEST
    out: Path = Path("out")
    device: str | None = None
    dtype: str | None = None
    batch_size: int = BATCH_SIZE
    workers: int = 0
    overrides: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)


def parse(arguments: Sequence[str]) -> Request:
    """Read `key=value` arguments.

    Raises:
        UsageError: nothing to run, an unknown key or name (the nearest is named), a value that cannot be read.
    """
    plain, dotted = _split(arguments)
    suite = _suite(plain["suite"]) if "suite" in plain else {}
    methods = _names(plain.get("method"), suite.get("methods"))
    benchmarks = _names(plain.get("benchmark"), suite.get("benchmarks"))
    encoders = _names(plain.get("encoder"), suite.get("encoders")) or ("lite",)
    memories = _names(plain.get("memory"), suite.get("memories"))
    _check_names(methods, encoders, [name for name in memories if not is_own_draw(name)])
    for name in benchmarks:
        config.find("benchmark", name)
    if not methods or not benchmarks:
        missing = (
            "method=NAME"
            if benchmarks
            else "benchmark=NAME"
            if methods
            else "suite=NAME, or method=NAME benchmark=NAME"
        )
        raise UsageError(f"nothing to run: give {missing}; {_EXAMPLE}")
    selected = {"method": methods, "benchmark": benchmarks, "encoder": encoders, "memory": memories, "ranker": ()}
    return Request(
        methods,
        benchmarks,
        encoders,
        memories,
        _value(plain, "seed", _seeds, "whole numbers such as 0,1,2", _suite_seeds(suite)),
        _value(plain, "role", Role, "test or validation", Role.TEST),
        Path(plain.get("out", "out")).expanduser(),
        plain.get("device"),
        plain.get("dtype"),
        _value(plain, "batch_size", _at_least(1), "a whole number from 1", BATCH_SIZE),
        _value(plain, "workers", _at_least(0), "a whole number from 0", 0),
        _overrides(dotted, selected),
    )


def parse_parts(arguments: Sequence[str]) -> Request:
    """Read the arguments of a command that needs an encoder and a memory, but runs no method.

    Raises:
        UsageError: a key that such a command does not take, an unknown name, a value that cannot be read.
    """
    plain, dotted = _split(arguments)
    encoders, memories = _names(plain.get("encoder"), None) or ("lite",), _names(plain.get("memory"), None)
    _check_names((), encoders, memories)
    taken = (*_PART_KEYS, "seed") if any(map(draws, memories)) else _PART_KEYS
    for key in plain:
        if key not in taken:
            raise UsageError(f"{key}= has no meaning here; this command takes {', '.join(taken)}")
    for key in dotted:
        if key.partition(".")[0] in ("method", "benchmark"):
            raise UsageError(f"{key}= has no meaning here: this command runs no method and opens no benchmark")
    return Request(
        (),
        (),
        encoders,
        memories,
        _value(plain, "seed", _seeds, "whole numbers such as 0,1,2", (0,)),
        device=plain.get("device"),
        dtype=plain.get("dtype"),
        workers=_value(plain, "workers", _at_least(0), "a whole number from 0", 0),
        overrides=_overrides(dotted, {"encoder": encoders, "memory": memories, "ranker": ()}),
    )


def is_own_draw(memory: str) -> bool:
    """Whether a memory is `@N`: N pictures a class of each benchmark's own memory, as `NAME@N` is of NAME."""
    return _OWN_DRAW.fullmatch(memory) is not None


def draws(memory: str) -> bool:
    """Whether a memory is `NAME@N` or `@N`: what it holds depends on the seed.

    Raises:
        UsageError: no such memory.
    """
    return is_own_draw(memory) or (memory != "none" and config.find("memory", memory).shots > 0)


def _check_names(methods: Sequence[str], encoders: Sequence[str], memories: Sequence[str]) -> None:
    for kind, chosen in (("method", methods), ("encoder", encoders), ("memory", memories)):
        for name in chosen:
            if (kind, name) == ("memory", "none"):
                continue
            try:
                config.find(kind, name)
            except UsageError:
                owner = config_owner(config.config_files(kind).get(name))
                if owner is None or kind != "method" or len(methods) == 1:
                    raise  # else the plan names the plugin, and the other methods go on


def _split(arguments: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Arguments as {key: value}, plain keys and dotted ones apart."""
    plain: dict[str, str] = {}
    dotted: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise UsageError(f"'{argument}' is not key=value{_meant(argument)}; {_EXAMPLE}")
        head = key.partition(".")[0]
        if key not in KEYS and not (head in _DOTTED and "." in key):
            raise unknown_name("config key", key, [*KEYS, *(f"{kind}." for kind in _DOTTED if "." in key)])
        into = plain if key in KEYS else dotted
        if key in into:
            raise UsageError(f"{key} is given twice; write {key}={into[key]},{value} for both")
        if not value:
            raise UsageError(f"{key}= has no value")
        into[key] = value
    return plain, dotted


def _meant(word: str) -> str:
    """A hint for a name that lacks its key."""
    for kind in ("suite", "method", "encoder", "memory"):
        if word in config.names(kind):
            return f"; did you mean {kind}={word}?"
    return f"; did you mean benchmark={word}?" if word in BENCHMARKS else ""


def _suite(name: str) -> Mapping[str, Any]:
    found = config.find("suite", name)
    for key, value in found.fields.items():
        if key not in _SUITE_KEYS:
            raise UsageError(f"{found.path}: {unknown_name('config key', key, _SUITE_KEYS)}")
        if not isinstance(value, list) or not value:
            raise UsageError(f"{found.path}: {key} must be a list, such as [a, b]")
    return found.fields


def _names(typed: str | None, listed: Sequence[Any] | None) -> tuple[str, ...]:
    """The comma-separated names on the command line, else the suite's; each once, in order."""
    chosen = [part.strip() for part in typed.split(",")] if typed is not None else [str(part) for part in listed or ()]
    return tuple(dict.fromkeys(part for part in chosen if part))


def _suite_seeds(suite: Mapping[str, Any]) -> tuple[int, ...]:
    seeds = suite.get("seeds", [0])
    if not all(isinstance(seed, int) and seed >= 0 for seed in seeds):
        raise UsageError("the suite's seeds must be whole numbers from 0")
    return tuple(dict.fromkeys(seeds))


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(_at_least(0)(part) for part in text.split(",")))


def _at_least(smallest: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text)
        if number < smallest:
            raise ValueError(text)
        return number

    return read


def _value(plain: Mapping[str, str], key: str, read: Callable[[str], T], wanted: str, default: T) -> T:
    if key not in plain:
        return default
    try:
        return read(plain[key])
    except ValueError as error:
        raise UsageError(f"{key}={plain[key]}: expected {wanted}") from error


def _overrides(
    dotted: Mapping[str, str], selected: Mapping[str, Sequence[str]]
) -> dict[tuple[str, str], dict[str, Any]]:
    """`method.reco.k=16` -> {("method", "reco"): {"k": "16"}}; `encoder.model=X` goes to every selected encoder,
    `ranker.model=X` to every ranker that a method opens."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for key, value in dotted.items():
        kind, _, rest = key.partition(".")
        fitting = [name for name in selected[kind] if rest.startswith(f"{name}.")]
        if fitting:
            name = max(fitting, key=len)
            found.setdefault((kind, name), {})[rest[len(name) + 1 :]] = value
        elif kind == "method":
            raise _no_such_method(key, rest, selected["method"])
        elif kind in ("memory", "ranker") and not selected[kind]:  # for whichever is opened
            found.setdefault((kind, ""), {})[rest] = value
        else:
            for name in selected[kind]:
                of = "" if kind == "memory" and is_own_draw(name) else name
                found.setdefault((kind, of), {})[rest] = value
    return found


def _no_such_method(key: str, rest: str, selected: Sequence[str]) -> UsageError:
    known = config.names("method")
    absent = [name for name in known if rest.startswith(f"{name}.")]
    if absent:
        return UsageError(f"{key} is set, but '{max(absent, key=len)}' is not in this run; add it to method=")
    if "." not in rest:
        return UsageError(f"{key} does not say which method; write method.{selected[0]}.{rest}=VALUE")
    return unknown_name("method", rest.partition(".")[0], known)
