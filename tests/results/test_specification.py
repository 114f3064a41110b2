"""The quick check says yes only where the one that names things finds nothing, whatever passed before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trireme.errors import DataError
from trireme.results.specification import ANY, Checker, Null, check, describe, quick

SPEC = {
    "a": int,
    "b": Null((int, float)),
    "c": [{"d": str, "e": ANY}],
    "f": Null({"g": [int]}),
    "h": Mapping,
    "i": Null(Sequence),
    "j": {"k": {"l": str}},
}
_QUICK = quick(SPEC)
"""One for all examples, so that each meets what earlier ones left in it."""
GOOD: dict[str, Any] = {
    "a": 1,
    "b": 0.5,
    "c": [{"d": "x", "e": None}],
    "f": {"g": [1]},
    "h": {},
    "i": [],
    "j": {"k": {"l": "x"}},
}

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("degkl"), inner, max_size=3),
    max_leaves=6,
)


def finds_nothing(value: Any, spec: Any) -> bool:
    try:
        check(value, spec, "")
    except DataError:
        return False
    return True


@given(st.dictionaries(st.sampled_from(sorted(SPEC)), values), st.sets(st.sampled_from(sorted(SPEC))))
def test_quick_agrees_with_the_one_that_names(changes: dict[str, Any], missing: set[str]) -> None:
    value = {key: inner for key, inner in (GOOD | changes).items() if key not in missing}
    assert _QUICK(GOOD)
    assert _QUICK(value) == finds_nothing(value, SPEC)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": True}, "'a' is bool where int is expected"),
        ({"b": "1"}, "'b' is str where int or float is expected"),
        ({"c": [{"d": "x", "e": 1}, {"d": 1, "e": 1}]}, r"'c\[1\].d' is int where str is expected"),
        ({"f": {"g": [1, None]}}, r"'f.g\[1\]' is NoneType where int is expected"),
        ({"i": "text"}, "'i' is str where sequence is expected"),
        ({"j": {"k": {}}}, "'j.k.l' is missing"),
    ],
)
def test_what_is_wrong_is_named_after_good_ones_passed(change: dict[str, Any], message: str) -> None:
    checker = Checker(SPEC)
    checker(GOOD, "")
    with pytest.raises(DataError, match=message):
        checker(GOOD | change, "")


def test_description() -> None:
    assert describe(SPEC) == {
        "a": "int",
        "b": {"null or": "int or float"},
        "c": [{"d": "str", "e": "any"}],
        "f": {"null or": {"g": ["int"]}},
        "h": "mapping",
        "i": {"null or": "sequence"},
        "j": {"k": {"l": "str"}},
    }
