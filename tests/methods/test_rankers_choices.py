"""Where a constrained decoding may stop. The reference is a decoder that spells every choice to its end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trireme.methods.rankers.choices import completed, decisive


@given(st.lists(st.text("ab c", min_size=1, max_size=6), min_size=1, max_size=6, unique=True))
def test_whoever_stops_early_has_the_choice_that_would_have_been_spelled(choices: list[str]) -> None:
    stops = decisive(choices)
    for choice in choices:
        ends = next((end for end in range(len(choice) + 1) if any(stop in choice[:end] for stop in stops)), len(choice))
        assert completed(choice[:ends], choices) == choice


def test_beginnings_are_short() -> None:
    assert decisive(["red fruit", "red car", "dog"]) == ["red f", "red c", "do"]  # "d" is in "red" too
    assert decisive(["cat", "cat face"]) == ["cat "]
    assert decisive(["colt's foot"]) == ["c"]
    assert completed("red", ["red fruit", "red car"]) == "red"
    assert completed("none", ["red fruit"]) == "none"
