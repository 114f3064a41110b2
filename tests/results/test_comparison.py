"""`trireme compare` from stored runs: every expected number is counted by hand from the values that the test stored."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from trireme.commands.compare import compare
from trireme.errors import DataError, UsageError
from trireme.results.comparison import having, pooled, rows, settings
from trireme.results.comparison_text import Comparison, render, signed
from trireme.results.disagreement import disagreement
from trireme.results.records import RunRecord, find_runs, write_run
from trireme.results.shown import Shown
from trireme.types import ImageRef

from .synthetic import record, store, table

LABELS = [0, 0, 1, 1, 2, 2, 3, 3]
KNN = [1, 1, 1, 1, 1, 0, 0, 0]
ZERO = [0, 0, 1, 0, 1, 0, 1, 0]
"""knn alone has s0, s1, s3 right; zero_shot alone s6; both s2 and s4; neither s5 and s7."""
NAMES = ("cat", "dog", "<script>alert(1)</script>", "owl", "fox")


def both(root: Path, knn: list[int] = KNN, zero: list[int] = ZERO, labels: list[int] = LABELS, **changes: Any) -> None:
    store(root, knn, labels, **changes)
    store(root, zero, labels, method__name="zero_shot", method__registry="zero_shot", **{**changes, "memory": None})


def shown(record: RunRecord) -> Shown:
    return Shown(NAMES, pictures={f"s{i}": ImageRef(f"/pictures/{record.benchmark}/{i}.png") for i in range(8)})


def csv_rows(root: Path, capsys: pytest.CaptureFixture[str], **options: Any) -> list[dict[str, str]]:
    assert compare("knn", "zero_shot", root, format="csv", **options) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_rows_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """5 of 8 against 3 of 8; common are the classes 0 and 2, rare 1 and 3. McNemar of 3 against 1: 2 x 5/16 = 0.625."""
    both(tmp_path)
    found = {row["subset"]: row for row in csv_rows(tmp_path, capsys)}
    assert {name: (row["n"], float(row["difference"])) for name, row in found.items()} == {
        "all": ("8", 25.0),
        "common": ("4", 50.0),
        "rare": ("4", 0.0),
    }
    assert {name: (row["only_a"], row["only_b"]) for name, row in found.items()} == {
        "all": ("3", "1"),
        "common": ("2", "0"),
        "rare": ("1", "1"),
    }
    assert {name: float(row["p"]) for name, row in found.items()} == pytest.approx(
        {"all": 0.625, "common": 0.5, "rare": 1.0}
    )
    # S. Holm's step-down by hand: 3 x 0.5 = 1.5, cut at 1, and none smaller than the one before
    assert {row["p_holm"] for row in found.values()} == {"1.0"}


def test_holm_counts_the_rows_of_the_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """10 against 0: p = 2 / 2 ** 10. With the three subsets Holm makes it three times as much, with one it stays."""
    labels = list(range(10))
    store(tmp_path, [1] * 10, labels)
    store(tmp_path, [0] * 10, labels, method__name="zero_shot", memory=None)
    [row] = csv_rows(tmp_path, capsys, subsets=["all"])
    assert float(row["p"]) == float(row["p_holm"]) == pytest.approx(2 / 2**10)
    [row, *_] = csv_rows(tmp_path, capsys)
    assert float(row["p_holm"]) == pytest.approx(3 * 2 / 2**10)


def test_holm_corrects_the_larger_p(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three classes of 5 alike samples: McNemar has 15 against 0, p = 2 / 2 ** 15; three classes agree by chance once
    in 2 ** 2 times, and the draws do not differ."""
    labels = [0] * 5 + [1] * 5 + [2] * 5
    both(tmp_path, [1] * 15, [0] * 15, labels=labels)
    [row] = csv_rows(tmp_path, capsys, subsets=["all"])
    assert float(row["p"]) == pytest.approx(2 / 2**15)
    assert float(row["p_bootstrap"]) == float(row["p_holm"]) == pytest.approx(1 / 4)


def test_what_cannot_be_compared_is_named_and_the_rest_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """zero_shot failed on all of cub, and on the rare samples of world/all (classes 1 and 3). 4 of 4 against 2 of 4
    common ones are left there."""
    rare = [i for i, label in enumerate(LABELS) if label % 2]
    told = {"method__name": "zero_shot", "method__registry": "zero_shot", "memory": None}
    cub = {"benchmark__name": "cub", "benchmark__fingerprint": "c" * 16}
    for benchmark in ({}, cub):
        store(tmp_path, [1] * 8, LABELS, **benchmark)
    store(tmp_path, [1, 0] * 4, LABELS, failed=rare, **told)
    store(tmp_path, [0] * 8, LABELS, failed=list(range(8)), **told, **cub)
    assert compare("knn", "zero_shot", tmp_path, format="json", pictures=0) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["benchmark"], row["subset"], row["difference"]) for row in found["rows"]] == [
        ("world/all", "all", 50.0),
        ("world/all", "common", 50.0),
    ]
    assert found["skipped"] == [
        "cub (encoder lite, memory world/memory): no sample was answered by both runs",
        "world/all, rare (encoder lite, memory world/memory): no sample was answered by both runs",
    ]
    with pytest.raises(UsageError, match=r"cannot be compared: cub .*: no sample was answered by both runs"):
        compare("knn", "zero_shot", tmp_path, benchmarks=["cub"])


def store_ap(root: Path, scores: dict[str, float | None], method: str) -> Path:
    """A run with an AP on these subsets; its 50 draws are 2 points to both sides of the score in turn."""
    predictions = table([1, 0] * 4, LABELS)
    content = record(predictions, metrics=["top1"], method__name=method, memory=None)
    empty = {"metric": "ap", "ci_low": None, "ci_high": None}
    content["scores"] += [
        {**empty, "subset": name, "score": score, "n": 0 if score is None else 8} for name, score in scores.items()
    ]
    values = {name: [score + 2.0 * (-1) ** i for i in range(50)] for name, score in scores.items() if score is not None}
    kept = [{"subset": name, "metric": "ap", "values": drawn} for name, drawn in values.items()]
    content["replicates"] = {"units": 100, "draws": 50, "of": kept}
    return write_run(root, content | {"metrics": ["ap", "top1"]}, predictions)


@pytest.mark.parametrize("other", [{"all": 30.0}, {"all": 30.0, "rare": None}], ids=["no row", "no score"])
def test_a_set_metric_that_one_run_lacks_is_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], other: dict[str, float | None]
) -> None:
    """40 minus 30 on all; the draws of both are drawn together, so that their differences do not differ."""
    store_ap(tmp_path, {"all": 40.0, "rare": 20.0}, "knn")
    store_ap(tmp_path, other, "zero_shot")
    assert compare("knn", "zero_shot", tmp_path, format="json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["subset"], row["difference"], row["ci_low"]) for row in found["rows"]] == [("all", 10.0, 10.0)]
    assert found["skipped"] == ["world/all, rare (encoder lite, memory none): zero_shot has no score of ap on rare"]


def test_a_set_metric_without_draws_is_skipped(tmp_path: Path) -> None:
    store_ap(tmp_path, {"all": 40.0}, "knn")
    file = store_ap(tmp_path, {"all": 30.0}, "zero_shot") / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"replicates": None}))
    with pytest.raises(UsageError, match=r"cannot be compared: world/all .* keeps no draws of ap; run it again"):
        compare("knn", "zero_shot", tmp_path)


def test_roles_are_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Test: 5 of 8 against 3 of 8. Validation: the other way round. Holm counts the rows of one role."""
    both(tmp_path)
    both(tmp_path, ZERO, KNN, benchmark__role="validation", benchmark__fingerprint="f" * 16)
    for role, difference in (("test", 25.0), ("validation", -25.0)):
        found = csv_rows(tmp_path, capsys, role=role)
        assert [(row["role"], float(row["difference"])) for row in found if row["subset"] == "all"] == [
            (role, difference)
        ]
        assert len(found) == 3


@pytest.mark.parametrize(
    ("value", "text"), [(-0.04, "0.0"), (0.04, "0.0"), (-0.0, "0.0"), (0.06, "+0.1"), (-8.24, "-8.2")]
)
def test_what_rounds_to_zero_has_no_sign(value: float, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize("task", ["detection", "zero_shot"])
def test_boxes_of_one_picture_are_drawn_together(tmp_path: Path, task: str) -> None:
    """160 boxes, each of its own class, 4 on each of 40 pictures; knn alone is right on 24 of them, zero_shot on 16.

    The pictures say what 40 samples would: 20 % with a standard error of sqrt(0.96 / 39) = 15.7, times t(0.975; 39) =
    2.02 is 31.7 to both sides. 160 boxes would say 7.77 x 1.975 = 15.3. The draws' mean has steps of 5 and 1.25.
    """
    values = [1.0] * 96 + [0.0] * 64
    for name, of_method in (("knn", values), ("zero_shot", [1 - value for value in values])):
        predictions = table(of_method, list(range(160)))
        predictions = predictions.set_column(0, "sample_id", pa.array([f"{i // 4}/{i}" for i in range(160)]))
        changes = {"method__name": name, "memory": None, "benchmark__task": task, "benchmark__classes": 161}
        write_run(tmp_path, record(predictions, **changes), predictions)
    [row] = rows(settings(find_runs(tmp_path), "knn", "zero_shot"), subsets=["all"])[0]
    assert row.difference == pytest.approx(20)
    assert row.ci_low is not None
    assert 20 - row.ci_low == pytest.approx({"detection": 31.7, "zero_shot": 15.3}[task], rel=0.12)


def test_disagreement_by_hand(tmp_path: Path) -> None:
    both(tmp_path)
    [setting] = settings(find_runs(tmp_path), "knn", "zero_shot")
    found = disagreement(setting, shown(setting.first), "top1", pictures=1)
    assert found is not None
    assert (found.n, found.both, found.neither, found.only_a, found.only_b) == (8, 2, 2, 3, 1)
    assert [(c.name, c.n, c.right_a, c.right_b) for c in found.gained] == [("cat", 2, 2, 0), ("dog", 2, 2, 1)]
    assert [(c.name, c.n, c.right_a, c.right_b) for c in found.lost] == [("owl", 2, 0, 1)]
    # the synthetic predictions rank the right class first whatever the stored values say
    assert [(f.sample, f.winner, f.truth, f.said_a) for f in found.flipped] == [
        ("s0", "a", "cat", "cat"),
        ("s6", "b", "owl", "owl"),
    ]
    assert found.flipped[0].path == "/pictures/world/all/0.png"


def test_seeds_are_one_row_and_memories_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seed 1 swaps the methods' values, so that the mean difference is 0."""
    both(tmp_path)
    both(tmp_path, ZERO, KNN, seed=1)
    store(tmp_path, KNN, LABELS, memory__name="other", memory__fingerprint="1" * 16)
    found = [row for row in csv_rows(tmp_path, capsys) if row["subset"] == "all"]
    assert {row["memory"]: (row["seeds"], float(row["difference"])) for row in found} == {
        "world/memory": ("0,1", 0.0),
        "other": ("0", 25.0),
    }


def test_pooled_counts_each_sample_once(tmp_path: Path) -> None:
    """Two benchmarks of 8 samples, 2 and -2 net; a third one holds a part of the first one's pictures."""
    both(tmp_path)
    both(tmp_path, ZERO, KNN, benchmark__name="cub", benchmark__fingerprint="c" * 16)
    both(tmp_path, benchmark__name="world/part", benchmark__fingerprint="p" * 16)

    def told(record: RunRecord) -> Shown:
        part = record.benchmark == "world/part"
        place = "world/all" if part else record.benchmark
        return Shown(NAMES, pictures={f"s{i}": ImageRef(f"/{place}/{i}") for i in range(4 if part else 8)})

    found = settings(find_runs(tmp_path), "knn", "zero_shot")
    [line], contained = pooled(found, told)
    assert contained == {"world/part": "world/all"}
    assert line.benchmarks == ("cub", "world/all")
    assert (line.row.n, line.row.difference, line.row.only_a, line.row.only_b) == (16, 0.0, 4, 4)
    comparison = Comparison("knn", "zero_shot", rows(found)[0], [line], contained, [])
    text = render(comparison, "terminal")
    assert "pooled" in text
    assert "All pictures of world/part are in world/all, too" in text
    assert json.loads(render(comparison, "json"))["pooled"][0]["row"]["n"] == 16


def test_metrics_that_only_some_benchmarks_have(tmp_path: Path) -> None:
    both(tmp_path)
    both(tmp_path, benchmark__name="cub", benchmark__fingerprint="c" * 16, metrics=["top1"])
    found = settings(find_runs(tmp_path), "knn", "zero_shot")
    assert {row.benchmark for row in rows(having(found, "top5"), "top5")[0]} == {"world/all"}
    with pytest.raises(UsageError, match=r"unknown metric .* 'tpo5'; did you mean 'top"):
        rows(having(found, "tpo5"), "tpo5")
    with pytest.raises(UsageError, match="mean_per_class has no paired test; compare by top1"):
        rows(found, "mean_per_class")


def test_pictures_that_cannot_be_found_are_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The synthetic benchmark is none that can be opened with this fingerprint."""
    both(tmp_path)
    assert compare("knn", "zero_shot", tmp_path, save=tmp_path / "said.md") == 0
    said = (tmp_path / "said.md").read_text()
    assert "Names and pictures are missing: world/all" in said
    assert "| class 0 |" in said
    assert "Pictures that flip (4 of 4)" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"first": "kn"}, "unknown method among the finished test runs 'kn'; did you mean 'knn'?"),
        ({"first": "zero_shot"}, "cannot be compared with itself"),
        ({"subsets": ["rar"]}, "unknown subset of these benchmarks 'rar'; did you mean 'rare'?"),
        ({"benchmarks": ["world/al"]}, "unknown benchmark that both methods ran on 'world/al'"),
        ({"role": "tets"}, "unknown role 'tets'; did you mean 'test'?"),
        ({"format": "xml"}, "unknown format 'xml'"),
        ({"save": Path("a.xyz")}, "cannot tell the format from '.xyz'"),
    ],
    ids=str,
)
def test_wrong_requests(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    both(tmp_path)
    with pytest.raises(UsageError) as error:
        compare(options.pop("first", "knn"), "zero_shot", tmp_path, **options)
    assert said in str(error.value)


def test_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no results at"):
        compare("knn", "zero_shot", tmp_path / "nowhere")
    with pytest.raises(DataError, match="no finished test run in"):
        compare("knn", "zero_shot", tmp_path)
    store(tmp_path, KNN, LABELS)
    other = {"method__name": "zero_shot", "benchmark__name": "cub", "benchmark__fingerprint": "c" * 16}
    store(tmp_path, ZERO, LABELS, **other)
    with pytest.raises(UsageError, match="share no benchmark, encoder, memory and seed"):
        compare("knn", "zero_shot", tmp_path)
