"""Metrics of whole sets against scikit-learn, brute force and published numbers; a drawn sample counts as repeated."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import precision_recall_curve, roc_auc_score

from trireme.benchmarks.set_benchmark import SetRowBenchmark, class_scores
from trireme.benchmarks.set_metrics import (
    ClusterAccuracy,
    HarmonicAccuracy,
    MeanAveragePrecision,
    RocAuc,
    harmonic_mean,
)
from trireme.errors import DataError
from trireme.results.resampling import set_scores
from trireme.types import RANKED, ImageRef, Ints, Role, Sample, SetBenchmark


def eleven_points(scores: Ints, targets: Ints, starts_at_one: bool) -> float:
    """By scikit-learn's curve, which ends with precision 1 at recall 0; VOC's development kit has no such point.

    Recall is compared in whole numbers: 3 of 10 are at least 0.3.
    """
    precision, recall, _ = precision_recall_curve(targets, scores)
    if not starts_at_one:
        precision, recall = precision[:-1], recall[:-1]
    found = np.rint(recall * targets.sum())
    return float(np.mean([precision[found * 10 >= targets.sum() * j].max() for j in range(11)]))


cases = st.integers(2, 40).flatmap(
    lambda n: st.tuples(
        arrays(np.int64, (n, 3), elements=st.integers(0, 6)),  # few values, so that scores are equal
        arrays(np.bool_, (n, 3)),
        arrays(np.int64, n, elements=st.integers(0, 3)),
    )
)


@given(cases, st.booleans())
def test_map_is_scikit_learns(case: tuple[Ints, Ints, Ints], starts_at_one: bool) -> None:
    scores, targets, counts = case
    repeated = np.repeat(np.arange(len(scores)), counts)
    expected = [
        eleven_points(scores[repeated, c], targets[repeated, c], starts_at_one)
        for c in range(3)
        if targets[repeated, c].any()
    ]
    found = MeanAveragePrecision(scores.astype(np.float64), targets, starts_at_one).value(counts)
    assert found == pytest.approx(np.mean(expected)) if expected else math.isnan(found)


def test_map_by_hand() -> None:
    """Ranked wrong, right, wrong, right, and two positives in all: precision 1/2 at recall 1/2, and 2/4 at recall 1,
    so that every p(r) is 1/2; a curve that starts at (0, 1) has p(0) = 1, hence (1 + 10 / 2) / 11."""
    scores, targets = np.array([[4.0], [3.0], [2.0], [1.0]]), np.array([[False], [True], [False], [True]])
    ones = np.ones(4, dtype=np.int64)
    assert MeanAveragePrecision(scores, targets, starts_at_one=False).value(ones) == pytest.approx(0.5)
    assert MeanAveragePrecision(scores, targets).value(ones) == pytest.approx(6 / 11)


@given(cases)
def test_roc_auc_is_scikit_learns(case: tuple[Ints, Ints, Ints]) -> None:
    scores, targets, counts = (part[:, 0] if part.ndim == 2 else part for part in case)
    repeated = np.repeat(np.arange(len(scores)), counts)
    found = RocAuc(scores.astype(np.float64), targets).value(counts)
    if len(set(targets[repeated])) < 2:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(roc_auc_score(targets[repeated], scores[repeated]))


labelled = st.integers(1, 12).flatmap(
    lambda n: st.tuples(*(arrays(np.int64, n, elements=st.integers(0, most)) for most in (3, 3, 2)))
)


@given(labelled)
def test_cluster_accuracy_is_the_best_of_all_namings(case: tuple[Ints, Ints, Ints]) -> None:
    """Brute force over the 24 ways to name four clusters by four classes."""
    clusters, classes, counts = case
    found = ClusterAccuracy(clusters, classes).value(counts)
    if not counts.any():
        assert math.isnan(found)
        return
    best = max((np.array(names)[clusters] == classes) @ counts for names in itertools.permutations(range(4)))
    assert found == pytest.approx(best / counts.sum())
    whole = max((np.array(names)[clusters] == classes).mean() for names in itertools.permutations(range(4)))
    assert ClusterAccuracy(clusters, classes).right().mean() == pytest.approx(whole)


def test_harmonic_means_are_those_of_ovens_evaluator() -> None:
    """BLIP-2 on validation in the README of edchengg/oven_eval @e3c0e89, and what its `harmonic_mean` gives for 0."""
    query, entity = harmonic_mean([24.63, 17.68]), harmonic_mean([8.55, 3.4])
    assert (round(query, 2), round(entity, 2)) == (20.58, 4.87)
    assert round(harmonic_mean([query, entity]), 2) == 7.87
    assert harmonic_mean([0.0, 50.0]) == pytest.approx(2 / (1 / 1e-12 + 1 / 50), abs=1e-9)
    assert harmonic_mean([30.0, 30.0]) == pytest.approx(30)


def test_harmonic_accuracy_by_hand() -> None:
    """Seen 2 of 4, unseen 1 of 4: 2 / (2 + 4). Without the unseen ones, or without a right one, by definition."""
    right, part = np.array([1, 1, 0, 0, 1, 0, 0, 0]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    metric = HarmonicAccuracy(right, part)
    assert metric.value(np.ones(8, dtype=np.int64)) == pytest.approx(1 / 3)
    assert math.isnan(metric.value(np.array([1, 1, 1, 1, 0, 0, 0, 0])))
    assert metric.value(np.array([1, 0, 0, 0, 0, 1, 0, 0])) == 0


def benchmark(metrics: tuple[str, ...], classes: int, **changes: object) -> SetRowBenchmark:
    samples = tuple(Sample(f"s{i}", ImageRef(f"/{i}.png", f"{i}"), i % classes) for i in range(6))
    fields: dict[str, object] = {
        "name": "made-up",
        "version": "1",
        "class_ids": tuple("abc"[:classes]),
        "class_names": tuple("abc"[:classes]),
        "class_groups": ("",) * classes,
        "subsets": {"all": None},
        "templates": ("{}",),
        "rows": {Role.TEST: samples},
        "metrics": metrics,
    }
    return SetRowBenchmark(**(fields | changes))  # type: ignore[arg-type]


def table(scores: list[list[float]], status: list[str] | None = None) -> pa.Table:
    """Predictions of s0, s1 ... with these scores of the classes, as a run has them."""
    ranked = [sorted(range(len(row)), key=lambda label, row=row: -row[label]) for row in scores]  # type: ignore[misc]
    status = status or ["ok"] * len(scores)
    columns = {
        "sample_id": pa.array([f"s{i}" for i in range(len(scores))]),
        "label": pa.array([-1] * len(scores), pa.int32()),
        "group": pa.array([""] * len(scores)),
        "status": pa.array(status),
        "ranked": pa.array(ranked, pa.list_(pa.int32())),
        "scores": pa.array([sorted(row, reverse=True) for row in scores], pa.list_(pa.float32())),
    }
    return pa.table(columns)


SCORES = [[0.3, 0.1], [0.2, 0.25], [0.1, 0.2], [0.25, 0.2], [0.4, 0.1], [0.1, 0.15]]


def test_roc_auc_of_a_benchmark_is_that_of_the_difference_of_scores() -> None:
    """softmax of two scores rises with their difference; expected value from scikit-learn."""
    bench = benchmark(("roc_auc", "top1"), 2)
    assert isinstance(bench, SetBenchmark)
    assert bench.set_metrics == ("roc_auc",)
    assert list(bench.score(np.array([[0], [1]]), np.array([0, 0]))) == ["top1"]
    (row,), kept = set_scores(bench.evaluator(table(SCORES)), draws=20)
    expected = roc_auc_score([i % 2 for i in range(6)], [b - a for a, b in SCORES])
    assert (row["metric"], row["n"], kept["units"]) == ("roc_auc", 6, 6)
    assert row["score"] == pytest.approx(100 * expected)


def test_map_of_samples_with_several_labels() -> None:
    """Expected: scikit-learn's curve over softmax(100 x score), computed here; a failed sample is a unit that does not
    count, whatever it would be."""
    labels = {"s0": (0, 1), "s1": (1,), "s2": (2,), "s3": (0, 2), "s4": (1,), "s5": (0,)}
    bench = benchmark(("map", "map_voc"), 3, label_sets=labels)
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 0.02, (6, 3)).astype(np.float32)
    status = ["ok"] * 5 + ["failed"]
    evaluator = bench.evaluator(table(scores.tolist(), status))
    soft = np.exp(100 * scores.astype(np.float64))
    soft /= soft.sum(axis=1, keepdims=True)
    targets = np.array([[c in labels[f"s{i}"] for c in range(3)] for i in range(5)])
    values = evaluator.values(np.ones(6, dtype=np.int64))
    for name, starts_at_one in (("map", True), ("map_voc", False)):
        expected = np.mean([eleven_points(soft[:5, c], targets[:, c], starts_at_one) for c in range(3)])
        assert values["all", name] == pytest.approx(expected)
    assert evaluator.units == 6
    assert evaluator.sizes["all", "map"] == 5
    assert math.isnan(evaluator.values(np.array([0, 0, 0, 0, 0, 2]))["all", "map"])


def test_a_benchmark_with_a_set_metric_asks_for_all_classes() -> None:
    assert (benchmark(("roc_auc",), 2).keep, benchmark(("top1",), 2).keep) == (RANKED, RANKED)
    many = tuple(map(str, range(RANKED + 5)))
    wide = benchmark(("map",), 2, class_ids=many, class_names=many, class_groups=("",) * len(many))
    assert wide.keep == RANKED + 5


def test_labels_move_the_fingerprint() -> None:
    one, other = (benchmark(("map",), 3, label_sets={"s0": labels}) for labels in ((0, 1), (0,)))
    assert one.fingerprint() != other.fingerprint()
    assert one.fingerprint() == benchmark(("map",), 3, label_sets={"s0": (1, 0)}).fingerprint()
    assert benchmark(("roc_auc",), 2).fingerprint() != benchmark(("top1",), 2).fingerprint()


def test_a_sample_that_is_not_ranked_among_all_classes_is_refused() -> None:
    short = table(SCORES[:1]).set_column(4, "ranked", pa.array([[0]], pa.list_(pa.int32())))
    short = short.set_column(5, "scores", pa.array([[0.3]], pa.list_(pa.float32())))
    with pytest.raises(DataError, match=r"each of its 2 classes, but 1 of 1 samples rank fewer \(first: s0 with 1\)"):
        benchmark(("roc_auc",), 2).evaluator(short)
    doubled = table(SCORES[:1]).set_column(4, "ranked", pa.array([[1, 1]], pa.list_(pa.int32())))
    with pytest.raises(DataError, match="1 of 1 samples rank fewer"):
        benchmark(("roc_auc",), 2).evaluator(doubled)


def test_a_prediction_for_another_benchmark_is_refused() -> None:
    with pytest.raises(DataError, match="has no sample 's0'"):
        benchmark(("map",), 2, label_sets={"t0": (0,)}).evaluator(table(SCORES[:1]))


def test_class_scores_tell_what_float32_could_not() -> None:
    """Softmax rounds to 1 for both pictures; minus its logarithm is exp(-100 x 0.2) and exp(-100 x 0.3) or nearly."""
    found = class_scores("made-up", table([[0.2, 0.0], [0.3, 0.0]]), 2, np.array([True, True]))
    assert np.float32(np.exp(found[:, 0])).tolist() == [1, 1]
    assert found[0, 0] < found[1, 0] < 0
    assert found[:, 1] == pytest.approx([-20, -30], rel=1e-5)
