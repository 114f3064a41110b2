"""What the report puts on one line or in one row: settings that agree, never the best of several test scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trireme.results.leaderboard import standings
from trireme.results.records import find_runs
from trireme.results.report.charts import charts
from trireme.results.report.grids import overview
from trireme.results.report.lines import Line, Part, parts
from trireme.results.report.series import by_k, by_shots
from trireme.results.report.svg import families_of

from .synthetic import store

LABELS = [0, 0, 1, 1, 2, 2, 3, 3]
DRAWN = {"from": "0" * 16, "rule": "random", "seed": 0, "classes": 4, "short": 0, "short_classes": {}}


def found(root: Path) -> list[Part]:
    return parts(standings(root), find_runs(root))


def right(count: int) -> list[float]:
    """So many of 8 samples: 12.5 % each."""
    return [1.0] * count + [0.0] * (8 - count)


def at(shots: int) -> dict[str, Any]:
    memory = {"memory__name": f"world/memory@{shots}", "memory__fingerprint": f"{shots}" * 16}
    return memory | {"memory__drawn": {**DRAWN, "shots": shots}}


def points(lines: list[tuple[float | None, Line]]) -> list[tuple[float | None, float]]:
    return [(value, line.score) for value, line in lines]


def test_a_curve_over_shots_keeps_to_one_configuration(tmp_path: Path) -> None:
    """k = 1 has 2, 4 and, of the whole memory, 5 right; k = 7 has 6 and 3: the best of each would be 6, 4, 5."""
    for shots, one, seven in ((1, 2, 6), (2, 4, 3)):
        store(tmp_path, right(one), LABELS, **at(shots))
        store(tmp_path, right(seven), LABELS, **at(shots), method__config={"k": 7})
    store(tmp_path, right(5), LABELS)
    [part] = found(tmp_path)
    curves = sorted(points(list(series.points)) for series in by_shots(part))
    assert curves == [[(1, 25.0), (2, 50.0), (None, 62.5)], [(1, 75.0), (2, 37.5)]]


def test_a_curve_over_shots_keeps_to_one_version_and_rule(tmp_path: Path) -> None:
    for shots, count in ((1, 2), (2, 4)):
        store(tmp_path, right(count), LABELS, **at(shots))
        store(tmp_path, right(count + 1), LABELS, **at(shots), method__version="2")
        nearest = {"memory__drawn": {**DRAWN, "shots": shots, "rule": "nearest"}}
        other = {"memory__fingerprint": f"{shots + 2}" * 16}
        store(tmp_path, right(count + 2), LABELS, **(at(shots) | nearest | other))
    [part] = found(tmp_path)
    curves = sorted(points(list(series.points)) for series in by_shots(part))
    assert curves == [[(1, 25.0), (2, 50.0)], [(1, 37.5), (2, 62.5)], [(1, 50.0), (2, 75.0)]]


def test_a_point_that_two_runs_could_be_is_not_drawn_but_told(tmp_path: Path) -> None:
    """k = 5 was run with two sets of pairs to learn from, with 3 and 7 right."""
    for k, count in ((1, 2), (10, 4)):
        store(tmp_path, right(count), LABELS, method__config={"k": k})
    for name, count in (("a", 3), ("b", 7)):
        training = [{"name": name, "fingerprint": name * 16}]
        store(tmp_path, right(count), LABELS, method__config={"k": 5}, training=training, name=name, run=name * 16)
    [part] = found(tmp_path)
    [series] = by_k(part)
    assert points(list(series.points)) == [(1, 25.0), (10, 50.0)]
    assert series.doubtful == [5]
    [chart] = [one for one in charts(part, families_of(["knn"]), "x") if one.title == "Score against k"]
    assert "Not drawn, since several runs differ there: knn at 5." in chart.note


def test_the_line_across_is_zero_shot_not_the_best_without_a_memory(tmp_path: Path) -> None:
    for shots in (1, 2):
        store(tmp_path, right(4), LABELS, **at(shots))
    store(tmp_path, right(7), LABELS, method__name="learned", method__registry="reco", memory=None)
    store(tmp_path, right(2), LABELS, method__name="zero_shot", method__registry="zero_shot", memory=None)
    [part] = found(tmp_path)
    [chart] = [one for one in charts(part, families_of(["knn"]), "x") if "pictures a class" in one.title]
    assert ">zero_shot<" in chart.svg
    assert ">learned<" not in chart.svg


def test_benchmarks_of_one_name_and_two_fingerprints_are_apart(tmp_path: Path) -> None:
    store(tmp_path, right(4), LABELS)
    other = {"method__name": "zero_shot", "method__registry": "zero_shot", "memory": None}
    store(tmp_path, right(6), LABELS, **other, benchmark__fingerprint="f" * 16)
    assert {part.name: [line.method for line in part.lines] for part in found(tmp_path)} == {
        "world/all (bbbbbb)": ["knn"],
        "world/all (ffffff)": ["zero_shot"],
    }


def test_a_row_of_the_overview_is_one_configuration(tmp_path: Path) -> None:
    """knn with k = 1 has 2 of 8 on world/all and 3 on cub, with k = 7 it has 6 on world/all and none on cub."""
    cub = {"benchmark__name": "cub", "benchmark__fingerprint": "c" * 16}
    store(tmp_path, right(2), LABELS)
    store(tmp_path, right(6), LABELS, method__config={"k": 7})
    store(tmp_path, right(3), LABELS, **cub)
    [table] = overview(found(tmp_path))
    assert [title for title, _ in table.columns] == ["method", "world/all", "cub"]
    assert [[cell.text for cell in row] for row in table.rows] == [["knn", "25.0", "37.5"]]


def test_memories_split_a_row_of_the_overview_where_a_benchmark_has_several(tmp_path: Path) -> None:
    cub = {"benchmark__name": "cub", "benchmark__fingerprint": "c" * 16}
    other = {"memory__name": "other", "memory__fingerprint": "1" * 16}
    for benchmark, first, second in (({}, 2, 6), (cub, 3, 1)):
        store(tmp_path, right(first), LABELS, **benchmark)
        store(tmp_path, right(second), LABELS, **benchmark, **other)
    [table] = overview(found(tmp_path))
    assert sorted([cell.text for cell in row] for row in table.rows) == [
        ["knn · other", "12.5", "75.0"],
        ["knn · world/memory", "37.5", "25.0"],
    ]


def test_no_overview_where_no_method_has_two_benchmarks(tmp_path: Path) -> None:
    store(tmp_path, right(2), LABELS)
    store(tmp_path, right(3), LABELS, method__name="other", benchmark__name="cub", benchmark__fingerprint="c" * 16)
    assert overview(found(tmp_path)) == []
