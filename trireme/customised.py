"""Encoders that a config declares as customised: `customise:` of an encoder config names the method and its task.

    encoder: lite
    customise:
      method: react
      benchmark: world/all

The method is fitted once (its artifact is found again by later commands), and the encoder is opened with `react=FILE`.
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
from trireme.types import Role
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
        UsageError: an unknown key in `customise:`, or a method that customises nothing.
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
