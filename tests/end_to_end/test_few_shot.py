"""Memories `NAME@N` through the whole path: drawn pictures, a real model, every kind of method that retrieves."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.end_to_end.conftest import CLASSES, Place
from trireme.benchmarks.few_shot import FewShot
from trireme.registry import open_pairs
from trireme.retrieval.memory import Memory


def arguments(comparison: Sequence[str], *more: str) -> list[str]:
    """The comparison with other settings of the same keys."""
    keys = {one.partition("=")[0] for one in more}
    return [*(one for one in comparison if one.partition("=")[0] not in keys), *more]


def runs(place: Place) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((place.folder / "out/runs").glob("*/run.json"))]


def held(place: Place, record: dict[str, Any]) -> list[str]:
    return sorted(map(str, Memory.open(place.home / "memories" / record["memory"]["fingerprint"]).ids))


def test_shots_and_seeds_as_rows(place: Place, comparison: tuple[str, ...], pictures: Path) -> None:
    train = f"folder:{pictures / 'train'}"
    asked = arguments(comparison, "method=zero_shot,knn,reco-start", f"memory={train}@1,{train}@3", "seed=0,1,2")
    done = place.trireme(*asked)
    assert "15 runs computed" in done.stderr  # zero_shot once a seed, the others once a seed and a memory
    found = runs(place)
    for record in found:
        if record["method"]["name"] == "zero_shot":
            assert record["memory"] is None
            continue
        memory, seed = record["memory"], record["seed"]
        shots = memory["drawn"]["shots"]
        assert memory["name"] == f"{train}@{shots}"
        assert memory["size"] == shots * len(CLASSES)
        assert (memory["drawn"]["rule"], memory["drawn"]["seed"], memory["drawn"]["short"]) == ("random", seed, 0)
        expected = FewShot(open_pairs(train), shots, "random", seed).pairs()
        assert held(place, record) == sorted(pair.id for pair in expected)
    by_seed = {(r["memory"]["name"], r["seed"]): set(held(place, r)) for r in found if r["memory"]}
    assert all(by_seed[f"{train}@1", seed] < by_seed[f"{train}@3", seed] for seed in (0, 1, 2))
    rows = [row for row in csv.DictReader(io.StringIO(place.table())) if row["metric"] == "top1"]
    assert Counter(row["method"] for row in rows) == {"zero_shot": 1, "knn": 2, "reco-start": 2}
    assert {row["seeds"] for row in rows} == {"0,1,2"}
    again = place.trireme(*asked)
    assert "0 runs computed" in again.stderr
    assert " 0 pictures and texts encoded" in again.stderr


def test_no_picture_is_encoded_twice_and_none_that_is_not_needed(
    place: Place, comparison: tuple[str, ...], pictures: Path
) -> None:
    """After a run with all pairs, draws encode nothing; without one, only what is drawn."""
    train = f"folder:{pictures / 'train'}"
    drawn = arguments(comparison, "method=knn", f"memory={train}@2", "memory.draw=first")
    needed = 6 * 20 + 2 * 6 + 6  # test pictures, drawn pictures, and their captions: one text a class
    assert f"{needed} pictures and texts encoded" in place.trireme(*drawn).stderr
    place.trireme(*arguments(comparison, "method=knn"))
    more = arguments(comparison, "method=knn", f"memory={train}@1,{train}@5", "seed=1,2")
    assert " 0 pictures and texts encoded" in place.trireme(*more).stderr


def test_near_duplicates_of_test_pictures_are_never_drawn(
    place: Place, comparison: tuple[str, ...], pictures: Path
) -> None:
    """All first pictures of a class are copies of test pictures; those after them are drawn."""
    for name in CLASSES:
        shutil.copy(pictures / "test" / name / "000.png", pictures / "train" / name / "000.png")
    place.trireme(*arguments(comparison, "method=knn", f"memory=folder:{pictures / 'train'}@2", "memory.draw=first"))
    [record] = runs(place)
    assert held(place, record) == sorted(f"{name}/{number}.png" for name in CLASSES for number in ("001", "002"))
    assert record["memory"]["manifest"]["counts"]["near_duplicates"] == len(CLASSES)


def test_classes_with_too_few_pictures_are_told_once(place: Place, comparison: tuple[str, ...], pictures: Path) -> None:
    for number in range(1, 10):
        (pictures / "train" / "red square" / f"{number:03}.png").unlink()
    said = place.trireme(*arguments(comparison, f"memory=folder:{pictures / 'train'}@4", "seed=0,1")).stderr
    warning = "1 of 6 classes have fewer than 4 pictures that can be drawn (first: red square with 1)"
    assert said.count(warning) == 1
    records = [record for record in runs(place) if record["memory"]]
    assert [record["memory"]["drawn"]["short_classes"] for record in records] == [{"red square": 1}] * 2
    assert [record["memory"]["size"] for record in records] == [21, 21]


def test_react_trains_on_what_was_drawn(place: Place, comparison: tuple[str, ...], pictures: Path) -> None:
    """A training for every draw, each on pairs of its own memory, and the validation pictures only chosen on."""
    shutil.copytree(pictures / "test", pictures / "all" / "test")
    shutil.copytree(pictures / "train", pictures / "all" / "train")
    (pictures / "all" / "val").mkdir()
    for name in CLASSES:
        (pictures / "all" / "train" / name / "009.png").rename(pictures / "all" / "val" / f"{name}.png")
        (pictures / "all" / "val" / name).mkdir()
        (pictures / "all" / "val" / f"{name}.png").rename(pictures / "all" / "val" / name / "009.png")
    data = f"folder:{pictures / 'all'}"
    settings = "search=t2t", "k=4", "epochs=1", "batch=4", "variant=locked_text", "interpolation=[0.5,1.0]", "views=1"
    place.trireme(
        *arguments(comparison, "method=react-paper", f"benchmark={data}", f"memory={data}@2", "seed=0,1"),
        *(f"method.react-paper.{one}" for one in settings),
    )
    found = runs(place)
    assert len({record["method"]["facts"]["artifact"] for record in found}) == 2
    for record in found:
        folder = place.home / "trained" / "react" / record["method"]["facts"]["artifact"]
        trained = set(pq.read_table(folder / "retrieved.parquet")["pair_id"].to_pylist())
        assert trained <= set(held(place, record))
        assert not any("val/" in pair for pair in held(place, record))
        assert record["memory"]["size"] == 12
        assert record["validation"]["asked"] == len(CLASSES)


@pytest.mark.parametrize("command", ["build", "inspect"])
def test_memory_commands_draw_with_a_seed(
    command: str, place: Place, comparison: tuple[str, ...], pictures: Path
) -> None:
    encoder = [one for one in comparison if one.startswith("encoder")]
    name = f"folder:{pictures / 'train'}@2"
    said = [place.trireme("memory", command, name, *encoder, f"seed={seed}").stdout for seed in (0, 1)]
    assert said[0] != said[1]
    assert all("12 pairs" in one for one in said)


def test_few_shot_on_the_world(world: None, tmp_path: Path) -> None:
    """30 animals with 1 and 2 pictures each: a row a memory, and no picture of another role in any memory."""
    place = Place(tmp_path, shared=True)
    asked = "method=zero_shot,knn,reco-few", "benchmark=world/tiny", "memory=world/tiny@1,world/tiny@2", "seed=0,1"
    place.trireme("run", *asked)
    found = runs(place)
    assert len(found) == 2 + 2 * 2 * 2
    allowed = {pair.id for pair in open_pairs("world/tiny-memory").pairs()}
    for record in (record for record in found if record["memory"]):
        drawn = record["memory"]["drawn"]
        assert set(held(place, record)) <= allowed
        assert drawn["classes"] == 30
        missing = sum(drawn["shots"] - count for count in drawn["short_classes"].values())
        assert record["memory"]["size"] == 30 * drawn["shots"] - missing
        if record["method"]["name"] == "reco-few":
            assert record["method"]["facts"]["start_selection"]["tried"] == 24
            assert record["validation"]["name"] == "world/tiny-validation"
