"""What a JSON object must hold, as a specification, and two checks of it: one names what is wrong, one is fast.

A specification is a type (or several), `ANY`, a dictionary of the keys that must be there, a list of one specification
for every item, or `Null(specification)`. Ten thousand records are checked in a tenth of a second, since almost all of
them look alike: a mapping whose values have the same types as those of one that passed needs no second look at them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from trireme.errors import DataError


class Null:
    """Wraps a specification whose value may be null."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec


ANY = object
"""Stands where a value may have any type."""


def check(value: Any, spec: Any, where: str) -> None:
    """Raise DataError naming the first key that is missing or has another type than `spec` asks for."""
    if isinstance(spec, Null):
        if value is not None:
            check(value, spec.spec, where)
    elif isinstance(spec, dict):
        expect(value, Mapping, where)
        for key, inner in spec.items():
            name = f"{where}.{key}" if where else key
            if key not in value:
                raise DataError(f"'{name}' is missing")
            check(value[key], inner, name)
    elif isinstance(spec, list):
        expect(value, Sequence, where)
        for position, item in enumerate(value):
            check(item, spec[0], f"{where}[{position}]")
    elif spec is not ANY:
        expect(value, spec, where)


def expect(value: Any, kind: Any, where: str) -> None:
    """Raise DataError where the value has another type than `kind`, one type or several. A bool is no number."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    wrong_text = isinstance(value, str) and str not in kinds  # a string is a Sequence too
    if wrong_text or isinstance(value, bool) or not isinstance(value, kinds):
        asked = " or ".join(k.__name__.lower() for k in kinds)
        raise DataError(f"'{where}' is {type(value).__name__} where {asked} is expected")


class Checker:
    """`check` of one specification, quick where it finds nothing: call it with the value and where it stands."""

    def __init__(self, spec: Any) -> None:
        self._spec, self._passes = spec, quick(spec)

    def __call__(self, value: Any, where: str) -> None:
        if not self._passes(value):
            check(value, self._spec, where)


def quick(spec: Any) -> Callable[[Any], bool]:
    """A function of a value that is true only where `check` finds nothing; where it is false, `check` has to look."""
    if isinstance(spec, Null):
        inner = quick(spec.spec)
        return lambda value: value is None or inner(value)
    if isinstance(spec, list):
        inner = quick(spec[0])
        return lambda value: type(value) is list and all(map(inner, value))
    return _quick_mapping(spec) if isinstance(spec, dict) else _quick_type(spec)


def _quick_type(spec: Any) -> Callable[[Any], bool]:
    known: set[type] = set()

    def matches(value: Any) -> bool:
        if type(value) in known:
            return True
        if not _passes(value, spec):
            return False
        known.add(type(value))
        return True

    return matches


def _quick_mapping(spec: dict[str, Any]) -> Callable[[Any], bool]:
    plain = {key: inner for key, inner in spec.items() if _by_type_alone(inner)}
    nested = [(key, quick(inner)) for key, inner in spec.items() if key not in plain]
    first = next(iter(spec))
    values = itemgetter(first, first, *plain)  # of one key alone, it would give no tuple
    known: set[tuple[type, ...]] = set()

    def matches(value: Any) -> bool:
        if type(value) is not dict:
            return False
        try:
            types = tuple(map(type, values(value)))
            if types not in known:
                if not _passes(value, plain):
                    return False
                known.add(types)
            return all(inner(value[key]) for key, inner in nested)
        except KeyError:
            return False

    return matches


def _by_type_alone(spec: Any) -> bool:
    return _by_type_alone(spec.spec) if isinstance(spec, Null) else not isinstance(spec, dict | list)


def _passes(value: Any, spec: Any) -> bool:
    try:
        check(value, spec, "")
    except DataError:
        return False
    return True


def describe(spec: Any) -> Any:
    """The specification as JSON, for a fingerprint of it."""
    if isinstance(spec, Null):
        return {"null or": describe(spec.spec)}
    if isinstance(spec, dict):
        return {key: describe(inner) for key, inner in spec.items()}
    if isinstance(spec, list):
        return [describe(spec[0])]
    kinds = spec if isinstance(spec, tuple) else (spec,)
    return "any" if spec is ANY else " or ".join(kind.__name__.lower() for kind in kinds)
