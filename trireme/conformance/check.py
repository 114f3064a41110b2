"""Checking a method, benchmark, encoder or ranker: by its registered name, or the class itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any

from trireme import __version__, compose, config
from trireme.conformance import benchmark as benchmarks
from trireme.conformance import encoder as encoders
from trireme.conformance import method as methods
from trireme.conformance import ranker as rankers
from trireme.conformance.report import BROKEN, Outcome, Report, Rule, own_home, quiet, run_rules, told
from trireme.conformance.trial import MethodTrial
from trireme.errors import BrokenRuleError, TriremeError, UsageError
from trireme.registry import BENCHMARKS, ENCODERS, METHODS, RANKERS, Registry

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_KINDS: Mapping[str, tuple[Registry, Mapping[str, Rule]]] = {
    "method": (METHODS, methods.RULES),
    "benchmark": (BENCHMARKS, benchmarks.RULES),
    "encoder": (ENCODERS, encoders.RULES),
    "ranker": (RANKERS, rankers.RULES),
}
METHOD_RULES, BENCHMARK_RULES, ENCODER_RULES, RANKER_RULES = (tuple(rules) for _, rules in _KINDS.values())
"""Names of rules, e.g. for `pytest.mark.parametrize("rule", METHOD_RULES)`."""


def check_method(
    method: str | type[Any], options: Mapping[str, Any] = _NOTHING, rules: Sequence[str] | None = None
) -> Report:
    """Hold a method against the rules, on mock tasks that need no download. Nothing of it stays on the disk.

    Args:
        method: a name of `trireme ls methods`, or a class.
        options: fields of its config, as the command line gives them.
        rules: some of `METHOD_RULES`; all by default.

    Raises:
        UsageError: an unknown name, option or rule, or a method that takes no encoder of the check.
    """

    def make(folder: Path) -> MethodTrial:
        return MethodTrial(*_configured("method", method, options), folder)

    return _checked("method", method, make, rules)


def check_benchmark(
    benchmark: str | Callable[..., Any], options: Mapping[str, Any] = _NOTHING, rules: Sequence[str] | None = None
) -> Report:
    """Hold a benchmark against the rules; its data must be there.

    Args:
        benchmark: a name of `trireme ls benchmarks`, or what opens one: it is given the name "checked".
        options: of the benchmark.
        rules: some of `BENCHMARK_RULES`; all by default.

    Raises:
        UsageError: an unknown name, option or rule.
    """

    def make(folder: Path) -> benchmarks.BenchmarkTrial:
        if isinstance(benchmark, str):
            BENCHMARKS.load(config.find("benchmark", benchmark).target)
            return benchmarks.BenchmarkTrial(lambda: compose.benchmark(benchmark, options), _other)
        return benchmarks.BenchmarkTrial(lambda: benchmark("checked", **options), _other)

    return _checked("benchmark", benchmark, make, rules)


def check_encoder(
    encoder: str | type[Any], options: Mapping[str, Any] = _NOTHING, rules: Sequence[str] | None = None
) -> Report:
    """Hold an encoder against the rules; its weights must be there. Arguments as those of `check_method`."""
    return _checked(
        "encoder", encoder, lambda _: encoders.EncoderTrial(*_configured("encoder", encoder, options)), rules
    )


def check_ranker(
    ranker: str | type[Any], options: Mapping[str, Any] = _NOTHING, rules: Sequence[str] | None = None
) -> Report:
    """Hold a ranker against the rules; its model must be there. Arguments as those of `check_method`."""
    return _checked("ranker", ranker, lambda _: rankers.RankerTrial(*_configured("ranker", ranker, options)), rules)


CHECKS: Mapping[str, Callable[..., Report]] = {
    "method": check_method,
    "benchmark": check_benchmark,
    "encoder": check_encoder,
    "ranker": check_ranker,
}


def _other(name: str) -> Any:
    return compose.benchmark(name, {})


def _configured(kind: str, given: str | type[Any], options: Mapping[str, Any]) -> tuple[Any, Any]:
    """A class and its config: by name as a run makes it, or with the defaults of the class."""
    if not isinstance(given, str):
        schema = getattr(given, "Config", None)
        if not isinstance(schema, type):
            raise BrokenRuleError("config", f"{given.__name__} has no dataclass `Config`")
        named = config.Named(kind, given.__name__, given.__name__, "", {}, None)
        return given, compose.resolve(named, schema, options).config
    if kind == "method":
        component, cls = compose.method(given, options)
    elif kind == "encoder":
        component, cls = compose.encoder(given, options, None, None)
    else:
        component, cls = compose.ranker(given, options, None)
    return cls, component.config


def _checked(kind: str, given: Any, make: Callable[[Path], Any], chosen: Sequence[str] | None) -> Report:
    """Find it, which is the rule "import", then run the rules. A method has a home of its own, where nothing is yet."""
    name = given if isinstance(given, str) else given.__name__
    source = f"{given.__module__}:{given.__qualname__}" if not isinstance(given, str) else _source(kind, given)
    with own_home() if kind == "method" else nullcontext(Path()) as folder:
        try:
            with quiet():
                trial = make(folder)
                if isinstance(trial, MethodTrial):
                    trial.choose_encoder()
        except UsageError:
            raise
        except TriremeError as error:
            rule = error.rule if isinstance(error, BrokenRuleError) else "import"
            return Report(kind, name, source, (Outcome(rule, BROKEN, told(error)),))
        except Exception as error:  # OmegaConf's own, for a Config that it cannot read
            return Report(kind, name, source, (Outcome("config", BROKEN, told(error)),))
        return Report(kind, name, source, run_rules(_KINDS[kind][1], trial, chosen))


def _source(kind: str, name: str) -> str:
    """Who brings it: a distribution and its version."""
    registry, _ = _KINDS[kind]
    return str(registry.plugin(config.find(kind, name).target) or f"trireme {__version__}")
