"""Which classes a memory shows; expected values are counted by hand."""

from __future__ import annotations

import pytest

from trireme.methods.support import note_unpictured, support, support_facts


def test_labels_are_ids_or_names() -> None:
    held = support(["b", "owl", "", "x"], ["a", "b", "c"], ["fox", "owl", "crane"])
    assert held.labels.tolist() == [1, 1, -1, -1]
    assert held.unpictured.tolist() == [0, 2]
    assert support_facts(held) == {"support": 2, "classes_without_picture": 2}


@pytest.mark.parametrize(
    ("classes", "shown", "told"),
    [(3, 3, False), (3, 2, True), (101, 1, True), (102, 1, False), (400, 200, True), (400, 199, False)],
)
def test_a_vocabulary_is_not_told_of(classes: int, shown: int, told: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Up to a hundred classes without a picture are told of, more where they are at most half of all."""
    names = [f"c{number}" for number in range(classes)]
    note_unpictured(support(names[:shown], names, names), names)
    said = capsys.readouterr().err
    assert said.startswith(f"note: {classes - shown} of {classes} classes have no picture") if told else said == ""
