"""The default world with the default encoder: what the quick start shows, and that no picture changes sides."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.end_to_end.conftest import Place
from trireme.benchmarks.world.families import MEMORY, TEST, TRAINING, VALIDATION, with_role
from trireme.config import find
from trireme.registry import open_benchmark, open_pairs
from trireme.retrieval.memory import Memory
from trireme.types import Role


def families(role: str) -> set[str]:
    return {family.name for family in with_role(role)}


def compute(folder: Path, suite: str) -> Place:
    place = Place(folder, shared=True)
    place.trireme("run", f"suite={suite}")
    return place


@pytest.fixture(scope="module")
def smoke(world: None, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return compute(tmp_path_factory.mktemp("smoke"), "world/smoke")


@pytest.fixture(scope="module")
def trained(smoke: Place) -> Place:
    """The smoke suite, and a fusion that surely trains."""
    settings = ["method.reco.train_on=[world/tiny-train]", "method.reco.epochs=2"]
    smoke.trireme("run", "method=reco", "benchmark=world/tiny", *settings)
    return smoke


@pytest.fixture(scope="module")
def whole(world: None, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return compute(tmp_path_factory.mktemp("whole"), "world")


def records(place: Place) -> list[Mapping[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((place.folder / "out/runs").glob("*/run.json"))]


def scores(place: Place, benchmark: str) -> dict[tuple[str, str], float]:
    """{(method, subset): top1}."""
    rows = csv.DictReader(io.StringIO(place.table()))
    return {
        (row["method"], row["subset"]): float(row["score"])
        for row in rows
        if (row["benchmark"], row["metric"]) == (benchmark, "top1")
    }


def test_smoke_has_every_method_and_subset(smoke: Place) -> None:
    methods = find("suite", "world/smoke").fields["methods"]
    assert set(scores(smoke, "world/tiny")) == {
        (method, part) for method in methods for part in ("all", "common", "rare")
    }


def test_smoke_again_computes_nothing(smoke: Place) -> None:
    again = smoke.trireme("run", "suite=world/smoke")
    assert " 0 pictures and texts encoded" in again.stderr
    assert "0 runs computed" in again.stderr


def assert_roles_are_kept(place: Place) -> None:
    """From run records alone, then from what they name: test art is in no training set, no memory, no selection."""
    found = records(place)
    assert any(record["training"] for record in found), "a suite without a trained method proves nothing"
    for record in found:
        assert record["benchmark"]["role"] == "test"
        [folder] = (place.folder / "out/runs").glob(f"*--{record['run']}")
        tested = pq.read_table(folder / "predictions.parquet", columns=["sample_id"])["sample_id"].to_pylist()
        assert {sample.split("/")[0] for sample in tested} == families(TEST)
        for pairs in record["training"]:
            assert set(pairs["sources"]) <= families(TRAINING)
            assert not set(pairs["sources"]) & (families(TEST) | families(VALIDATION))
            assert pairs["fingerprint"] == open_pairs(pairs["name"]).fingerprint
        if record["validation"]:
            validation = open_benchmark(record["validation"]["name"])
            assert record["validation"]["fingerprint"] == validation.fingerprint(Role.VALIDATION)
            assert {sample.id.split("/")[0] for sample in validation.samples(Role.VALIDATION)} == families(VALIDATION)
        if record["memory"]:
            memory = Memory.open(place.home / "memories" / record["memory"]["fingerprint"])
            assert set(memory.sources) <= families(MEMORY)
            assert not set(memory.sources) & (families(TEST) | families(VALIDATION))


def test_test_art_never_enters_training_memory_or_selection(trained: Place) -> None:
    assert_roles_are_kept(trained)


def test_no_training_pair_shows_a_rare_class_or_a_test_picture(trained: Place) -> None:
    """By class ids and by the bytes of the pictures, for every pair set that a record of training names."""
    benchmark = open_benchmark("world/all")
    groups = dict(zip(benchmark.class_ids, benchmark.class_groups, strict=True))
    held_out = {code for code, group in groups.items() if group in ("rare", "fresh-val")}
    tested = {sample.image.sha256 for sample in benchmark.samples(Role.TEST)}
    tested |= {sample.image.sha256 for sample in open_benchmark("world/validation").samples(Role.VALIDATION)}
    named = {pairs["name"] for record in records(trained) for pairs in record["training"]}
    assert "world/tiny-train" in named
    for name in named:
        pairs = open_pairs(name).pairs()
        assert not {pair.label for pair in pairs} & held_out
        assert not {pair.image.sha256 for pair in pairs} & tested


@pytest.mark.slow
def test_the_floors_of_first_light(whole: Place) -> None:
    """Floors on world/all that first trials suggested; never goals, and nothing was selected on test art."""
    found = scores(whole, "world/all")
    assert found["zero_shot", "common"] >= 55
    assert found["zero_shot", "rare"] >= 3
    assert found["knn", "rare"] >= 40
    assert found["reco", "rare"] >= 38
    assert found["reco", "common"] >= found["zero_shot", "common"] - 1
    assert_roles_are_kept(whole)


@pytest.mark.slow
@pytest.mark.parametrize("table", ["methods", "groups"])
def test_no_score_left_its_interval(whole: Place, table: str) -> None:
    """Every score of the suite against results/paper/world.json. Fails when a commit moves one; where that is meant,
    `trireme reproduce world --collect --out out/quickstart --expect results/paper/world.json` stores the new ones."""
    asked = {*find("suite", "world").fields["methods"]}
    only = ("--where", f"row={','.join(sorted(asked))}")  # the table has rows of other commands too
    done = whole.trireme("reproduce", f"world/{table}", *only, "--collect", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    moved = [row for row in rows if row["verdict"] != "reproduced"]
    assert not moved
    assert {row["row"] for row in rows} >= asked
