"""Encoders that a config declares as customised: `customise:` of an encoder config names the method and its task.

    encoder: lite
    customise:
      method: react
      benchmark: world/all

The method is fitted once (its artifact is found again by later commands), and the encoder is opened with `react=FILE`.
It is its base with other weights, so every setting with an effect is the base's; the command line can change none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from trireme import compose
from trireme.contexts import Phases, make_context
from trireme.errors import UsageError, unknown_name
from trireme.plan import default_memory, plan_run
from trireme.progress import say
from trireme.types import Role, without_effect
from trireme.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Customise:
    """How an encoder was customised.

    Attributes:
        method: a method config whose method customises encoders.
        benchmark: whose class names ask the memory.
        base: the encoder config that is customised; the config's own `encoder:` by default.
        memory: "" is the benchmark's own.
        seed: of the training.
    """

    method: str
    benchmark: str
    base: str
    memory: str = ""
    seed: int = 0


def customised_file(bench: Workbench, name: str, target: str, given: Mapping[str, Any]) -> Path:
    """The customised encoder of the encoder config `name`, trained where no earlier command did.

    Raises:
        UsageError: an unknown key in `customise:`, a method that customises nothing, or settings that the base does not
            have.
        TriremeError: the training failed.
    """
    known = {field.name for field in fields(Customise)}
    for key in given:
        if key not in known:
            raise UsageError(f"encoder {name}: {unknown_name('key of customise', key, known)}")
    for key in ("method", "benchmark"):
        if key not in given:
            raise UsageError(f"encoder {name}: `customise:` needs a line `{key}: NAME`")
    wanted = Customise(**{"base": target, **given})
    _check_settings(bench, name, wanted.base)
    # from files alone: settings on the command line are for the runs, and must not make another encoder
    bench = Workbench(replace(bench.request, overrides={}))
    component, cls = compose.method(wanted.method, {})
    memory = wanted.memory or default_memory(wanted.benchmark)
    run = plan_run(bench, component, cls, wanted.benchmark, wanted.base, memory, wanted.seed, Role.TEST)
    method = cls(component.config)
    if run is None or not hasattr(cls, "encoder_file"):
        raise UsageError(f"encoder {name}: method '{wanted.method}' customises no encoder")
    say(f"encoder {name}: {component.label} on {wanted.benchmark}, {wanted.base}, memory {memory}")
    method.fit(make_context(run, bench, bench.benchmark(wanted.benchmark), Phases()))
    found: Path = method.encoder_file
    return found


def _check_settings(bench: Workbench, name: str, base: str) -> None:
    """Refuse settings that would make another encoder of it than the one that is customised.

    Raises:
        UsageError: says where such a setting belongs.
    """
    request = bench.request
    typed = request.overrides.get(("encoder", name), {})
    declared, _ = compose.encoder(name, {}, request.device, request.dtype)
    given, _ = compose.encoder(name, typed, request.device, request.dtype)
    found, _ = compose.encoder(base, {}, request.device, request.dtype)
    if found.customise:
        raise UsageError(f"encoder {name}: its base '{base}' is customised already; customise the base of that one")
    if found.target != declared.target:
        raise UsageError(f"encoder {name} is {declared.target}, but its base '{base}' is {found.target}")
    if differing := _differing(given, declared):
        raise UsageError(
            f"encoder.{differing[0]} cannot change '{name}', which is customised from '{base}' as its config says; "
            + _instead(differing[0], base, typed)
        )
    if differing := _differing(declared, found):
        raise UsageError(
            f"encoder {name}: its {differing[0]} is not that of its base '{base}'; set it in an encoder config of its "
            "own and name that config in `customise:` as `base:`"
        )


def _differing(one: compose.Component, other: compose.Component) -> list[str]:
    """The settings with an effect that two configurations of one encoder do not share."""
    values, others = one.resolved(), other.resolved()
    return [key for key in values if key not in without_effect(one.schema) and values[key] != others[key]]


def _instead(key: str, base: str, typed: Mapping[str, Any]) -> str:
    """What to do instead of overriding a setting of a customised encoder."""
    if key == "dtype":
        return f"write dtype={typed[key]} without `encoder.`: it holds for both"
    if key == "react":
        return f"write encoder={base} encoder.react={typed[key]}"
    line = f"{key}: {typed.get(key, 'VALUE')}"
    return f"put `{line}` into an encoder config of its own and name that config in `customise:` as `base:`"
