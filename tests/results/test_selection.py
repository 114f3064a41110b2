"""Filters, and choices made on validation; the boards are small enough to count the rows by hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from trireme.errors import UsageError
from trireme.results.leaderboard import standings
from trireme.results.selection import Condition, best_of, conditions, where

from .synthetic import store, store_ranked

LABELS = [0, 1, 2, 3]


def test_a_filter_is_column_operator_value() -> None:
    assert conditions("benchmark=world/food, method!=knn") == [
        Condition("benchmark", "=", "world/food"),
        Condition("method", "!=", "knn"),
    ]
    assert conditions("n>=100,score<50.5") == [Condition("n", ">=", "100"), Condition("score", "<", "50.5")]
    assert conditions("ranker=lite, vllm,n>1") == [Condition("ranker", "=", "lite, vllm"), Condition("n", ">", "1")]
    assert conditions("memory=") == [Condition("memory", "=", "")]


@pytest.mark.parametrize("text", ["", "method", "=knn", "method knn", "a b=c"])
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no filter; write COLUMN=VALUE"):
        conditions(text)


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    """Four runs of 6 rows (2 metrics, 3 subsets) and one of 9: knn and knn-10 on two benchmarks, and rar."""
    for benchmark in ("world/all", "world/food"):
        store(tmp_path, [1, 1, 1, 0], LABELS, benchmark__name=benchmark)
        store(tmp_path, [1, 0, 0, 0], LABELS, benchmark__name=benchmark, method__name="knn-10", memory=None)
    store_ranked(tmp_path, [1, 1, 0, 0], [1, 1, 1, 1], LABELS)
    return standings(tmp_path)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("method=knn", 12),
        ("method=knn*", 24),
        ("method=knn|rar", 21),
        ("method!=knn*", 9),
        ("benchmark=world/food", 12),
        ("benchmark=world/*,method=knn,subset=all", 4),
        ("memory=-", 12),
        ("memory!=-", 21),
        ("ranker=lite, vllm", 9),
        ("ranker!=lite, vllm", 24),
        ("score>=75,metric=top1,subset=all", 2),
        ("score=75.0,metric=top1,subset=all", 2),
        ("n!=4", 22),
        ("prompt_tokens>50", 9),
        ("prompt_tokens!=100", 24),
        ("main=true", 15),
        ("method=KNN|rar", 9),
    ],
)
def test_rows_that_are_left(frame: pd.DataFrame, text: str, rows: int) -> None:
    assert len(where(frame, conditions(text))) == rows


def test_filters_that_leave_nothing_or_make_no_sense_say_what_would(frame: pd.DataFrame) -> None:
    with pytest.raises(UsageError, match="no row with method=nobody; method is knn, knn-10, rar"):
        where(frame, conditions("subset=all,method=nobody"))
    with pytest.raises(UsageError, match="did you mean 'method'"):
        where(frame, conditions("methd=knn"))
    with pytest.raises(UsageError, match="n is a number, and 'many' is none"):
        where(frame, conditions("n=many"))
    with pytest.raises(UsageError, match="method is text; compare it by = or !="):
        where(frame, conditions("method<knn"))


def tried(root: Path, config: int, on_validation: list[float], on_test: list[float] | None, **told: object) -> None:
    """One configuration of knn with a validation run and, where there are values, a test run."""
    held = {"benchmark__name": "world/validation", "benchmark__role": "validation", "benchmark__fingerprint": "v" * 16}
    store(root, on_validation, LABELS, method__config={"k": config}, **(held | told))
    if on_test:
        store(root, on_test, LABELS, method__config={"k": config}, **told)


def both(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    return standings(root, "validation"), standings(root)


def test_the_best_on_validation_is_shown_with_its_test_score(tmp_path: Path) -> None:
    """k = 5 has 3 of 4 on validation and 1 of 4 on test; k = 1 the other way round. Chosen: 5, shown: 25."""
    tried(tmp_path, 1, [1, 0, 0, 0], [1, 1, 1, 0])
    tried(tmp_path, 5, [1, 1, 1, 0], [1, 0, 0, 0])
    found, notes = best_of(*both(tmp_path), "method")
    row = found[(found["metric"] == "top1") & (found["subset"] == "all")]
    assert list(zip(row["benchmark"], row["score"], row["chosen_on"], strict=True)) == [
        ("world/all", 25.0, "validation")
    ]
    assert notes == ["world/all: best of 2 of method knn on world/validation is knn with 75.0"]


def test_what_has_no_test_run_is_not_replaced_by_the_next_best(tmp_path: Path) -> None:
    tried(tmp_path, 1, [1, 0, 0, 0], [1, 1, 1, 0])
    tried(tmp_path, 5, [1, 1, 1, 0], None)
    tried(tmp_path, 1, [1, 0, 0, 0], [1, 1, 0, 0], method__name="reco", method__registry="reco")
    found, notes = best_of(*both(tmp_path), "registry")
    assert set(found["method"]) == {"reco"}
    assert notes[0].endswith("is knn with 75.0, which has no test run")
    store(tmp_path, [1, 1, 1, 1], LABELS, benchmark__name="cub")
    _, notes = best_of(*both(tmp_path), "registry")
    assert "left out: cub, which has no validation run; make some with role=validation" in notes


def test_nothing_is_chosen_across_different_validation_pictures(tmp_path: Path) -> None:
    """k = 5 has 100 % of other pictures than those of which k = 1 has 75 %."""
    tried(tmp_path, 1, [1, 1, 1, 0], [1, 1, 1, 0])
    tried(tmp_path, 5, [1, 1, 1, 1], [1, 0, 0, 0], benchmark__fingerprint="w" * 16)
    frames = both(tmp_path)
    with pytest.raises(UsageError, match=f"on world/validation are of 2 benchmarks \\({'v' * 16}, {'w' * 16}\\)"):
        best_of(*frames, "method")


def test_choices_name_what_they_lack(tmp_path: Path) -> None:
    tried(tmp_path, 1, [1, 0, 0, 0], None)
    store(tmp_path, [1, 1, 1, 1], LABELS, method__name="reco")
    with pytest.raises(UsageError, match="no setting has a validation run and a test run"):
        best_of(*both(tmp_path), "method")
    with pytest.raises(UsageError, match="did you mean 'method'"):
        best_of(*both(tmp_path), "methods")
