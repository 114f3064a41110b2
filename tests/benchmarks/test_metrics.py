"""Metric values by hand, and what must hold for any ranking."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trireme.benchmarks.metrics import DERIVED, METRICS, metric_code, score
from trireme.errors import DataError, UsageError
from trireme.results.records import DERIVED_METRICS
from trireme.types import Ints


def test_values_by_hand() -> None:
    ranked = np.array(
        [
            [3, 1, 2, 0, 4, 5],  # first
            [3, 1, 2, 0, 4, 5],  # second
            [3, 1, 2, 0, 4, 5],  # fifth
            [3, 1, 2, 0, 4, 5],  # sixth: in neither
            [7, -1, -1, -1, -1, -1],  # a short row that is right
            [-1, -1, -1, -1, -1, -1],  # an empty row
        ]
    )
    labels = np.array([3, 1, 4, 5, 7, 0])
    values = score(("top1", "top5"), ranked, labels)
    assert values["top1"].tolist() == [1, 0, 0, 0, 1, 0]
    assert values["top5"].tolist() == [1, 1, 1, 0, 1, 0]
    assert all(column.dtype == np.float32 for column in values.values())


def test_fewer_than_five_columns_are_enough() -> None:
    values = score(("top5",), np.array([[2, 0]]), np.array([0]))
    assert values["top5"].tolist() == [1]


def test_withheld_label_never_matches_padding() -> None:
    with pytest.raises(DataError, match="1 of 2 samples have no label"):
        score(("top1",), np.array([[-1], [0]]), np.array([-1, 0]))


def test_shapes_are_checked_and_metrics_are_named() -> None:
    with pytest.raises(DataError, match="expected"):
        score(("top1",), np.zeros((2, 3), dtype=np.int64), np.zeros(3, dtype=np.int64))
    with pytest.raises(UsageError, match="did you mean 'top5'"):
        score(("topp5",), np.zeros((1, 3), dtype=np.int64), np.zeros(1, dtype=np.int64))


@st.composite
def rankings(draw: st.DrawFn) -> tuple[Ints, Ints]:
    classes = draw(st.integers(1, 12))
    rows = draw(st.lists(st.permutations(range(classes)), min_size=1, max_size=20))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=len(rows), max_size=len(rows)))
    return np.array(rows, dtype=np.int64), np.array(labels, dtype=np.int64)


@given(rankings())
def test_properties(case: tuple[Ints, Ints]) -> None:
    ranked, labels = case
    values = score(tuple(METRICS), ranked, labels)
    place = np.array([row.tolist().index(label) for row, label in zip(ranked, labels, strict=True)])
    assert (values["top1"] == (place == 0)).all()
    assert (values["top5"] == (place < 5)).all()
    order = np.random.default_rng(0).permutation(len(labels))
    moved = score(tuple(METRICS), ranked[order], labels[order])
    assert all((moved[name] == values[name][order]).all() for name in METRICS)
    padded = np.pad(ranked, ((0, 0), (0, 3)), constant_values=-1)
    assert all((score((name,), padded, labels)[name] == values[name]).all() for name in METRICS)


def test_metric_code_tells_metrics_apart() -> None:
    assert metric_code("top1") != metric_code("top5")
    assert metric_code("top1") == metric_code("top1")


def test_a_derived_metric_gives_the_values_that_it_is_computed_from() -> None:
    """The mean per class itself is results' work (`trireme.results.statistics`), which knows the same name."""
    values = score(("mean_per_class", "top1"), np.array([[1], [0]]), np.array([1, 1]))
    assert {name: column.tolist() for name, column in values.items()} == {"top1": [1, 0]}
    assert dict(DERIVED) == DERIVED_METRICS
    assert metric_code("mean_per_class") != metric_code("top1")
