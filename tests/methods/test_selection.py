"""Choosing on validation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from trireme.errors import UsageError
from trireme.methods.base import Validation
from trireme.methods.selection import (
    Scored,
    grid_settings,
    grid_shape,
    neighbour_means,
    note_unguarded,
    select,
    subset_scores,
    unguarded,
)
from trireme.types import ImageRef, Sample


def test_grid_is_the_product_with_the_last_key_fastest() -> None:
    assert list(grid_settings({"k": [1, 2], "t": [3.0]})) == [{"k": 1, "t": 3.0}, {"k": 2, "t": 3.0}]
    assert list(grid_settings({})) == [{}]
    with pytest.raises(UsageError, match="'k'"):
        list(grid_settings({"k": []}))


def test_value_is_the_mean_over_proper_subsets() -> None:
    assert Scored({}, {"all": 50.0, "common": 60.0, "fresh": 20.0}).value == 40.0
    assert Scored({}, {"all": 50.0}).value == 50.0


def choose(scores: list[dict[str, float]], **options: Any) -> int:
    best, tried = select([{"i": i} for i in range(len(scores))], lambda setting: scores[setting["i"]], **options)
    assert [entry.scores for entry in tried] == scores
    return int(best.setting["i"])


def test_the_best_mean_wins_and_ties_go_to_the_first() -> None:
    assert choose([{"a": 1.0, "b": 5.0}, {"a": 4.0, "b": 4.0}, {"a": 5.0, "b": 3.0}]) == 1


def test_a_value_of_a_grid_is_averaged_with_the_values_one_step_away() -> None:
    # 0 1 2
    # 3 4 8   corner 0: (0 + 1 + 3) / 3; middle 4: (4 + 1 + 3 + 8) / 4; edge 3: (3 + 0 + 4) / 3
    means = neighbour_means([0, 1, 2, 3, 4, 8], (2, 3))
    assert means == pytest.approx([4 / 3, (1 + 0 + 2 + 4) / 4, (2 + 1 + 8) / 3, 7 / 3, 4.0, (8 + 4 + 2) / 3])
    assert neighbour_means([5.0], (1, 1)) == [5.0]
    assert grid_shape({"a": [1, 2], "b": [3]}) == (2, 1)


def test_a_lone_peak_of_a_grid_loses_to_a_plateau() -> None:
    scores = [{"a": value} for value in (0.0, 9.0, 0.0, 8.0, 8.0, 8.0)]
    assert choose(scores) == 1
    assert choose(scores, shape=(6,)) == 4  # means 4.5 3 5.67 5.33 8 8; the first of the two best


def test_a_guarded_subset_may_lose_only_so_much() -> None:
    scores = [{"common": 60.0, "fresh": 10.0}, {"common": 58.0, "fresh": 50.0}, {"common": 59.5, "fresh": 30.0}]
    reference = {"common": 60.0, "fresh": 3.0}
    assert choose(scores, reference=reference, may_lose={"common": 0.5}) == 2
    assert choose(scores, reference=reference, may_lose={"common": 3.0}) == 1


def test_where_nothing_keeps_the_guard_the_smallest_loss_wins() -> None:
    scores = [{"common": 40.0, "fresh": 90.0}, {"common": 50.0, "fresh": 10.0}]
    assert choose(scores, reference={"common": 60.0, "fresh": 3.0}, may_lose={"common": 0.5}) == 1


def divided(*groups: str, **subsets: tuple[str, ...] | None) -> Validation:
    """One picture of each of the groups; three groups of classes."""
    known = ("common", "fresh", "rare")
    benchmark: Any = SimpleNamespace(name="b", class_groups=known, subsets={"all": None, **subsets})
    return Validation(benchmark, [Sample(group, ImageRef("x"), known.index(group)) for group in groups])


@pytest.mark.parametrize(
    ("guard", "message"),
    [
        ("comon", "unknown subset of b in may_lose 'comon'; did you mean 'common'?"),
        ("zzz", "unknown subset of b in may_lose 'zzz'; known: all, common"),
        ("rare", "may_lose cannot guard 'rare': b has no validation picture of it; it has some of all, common"),
    ],
)
def test_a_guard_for_a_subset_that_is_not_there(guard: str, message: str) -> None:
    validation = divided("common", "fresh", common=("common",), rare=("rare",))
    for check in (unguarded, note_unguarded):
        with pytest.raises(UsageError) as caught:
            check({"common": 1.0, guard: 1.0}, validation)
        assert str(caught.value) == message


def test_guards_for_subsets_that_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    """`both` holds a picture of one of its two groups, which is enough."""
    validation = divided("common", common=("common",), both=("rare", "common"))
    assert unguarded({"all": 1.0, "common": 0.5, "both": 2.0}, validation) == []
    note_unguarded({"common": 0.5}, validation)
    assert capsys.readouterr().err == ""


def test_a_benchmark_without_subsets_voids_a_guard(capsys: pytest.CaptureFixture[str]) -> None:
    """Configs that come with Trireme guard subsets of the world, and serve pictures in folders too."""
    assert unguarded({"common": 1.0, "all": 1.0}, divided("fresh")) == ["common"]
    note_unguarded({"common": 1.0}, divided("fresh"))
    said = capsys.readouterr().err
    assert said == "note: may_lose of common guards nothing, b does not divide its pictures into subsets\n"


def test_subset_scores_average_the_main_metric_over_the_groups_of_a_subset() -> None:
    def score(ranked: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        return {"top1": (ranked[:, 0] == labels).astype(np.float32)}

    benchmark = SimpleNamespace(
        metrics=("top1",),
        score=score,
        class_groups=("common", "common", "fresh", "rare"),
        subsets={"all": None, "common": ("common",), "fresh": ("fresh",), "rare": ("rare",)},
    )
    samples = [Sample(str(i), ImageRef(""), label) for i, label in enumerate([0, 1, 1, 2])]
    ranked = np.array([[0], [1], [0], [0]])
    # common: 2 of 3 right; fresh: 0 of 1; all: 2 of 4; rare holds no sample and is left out
    got = subset_scores(Validation(benchmark, samples), ranked)  # type: ignore[arg-type]
    assert got == {"all": 50.0, "common": pytest.approx(200 / 3), "fresh": 0.0}
