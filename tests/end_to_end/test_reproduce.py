"""`trireme reproduce` through real runs: RAR's Table 2 on official layouts in small, and our own results on the world.

The pictures of the small sets are drawn here and the encoder is random, so what its cells say of the paper means
nothing; what is checked is that each cell is run as the table says, found again, and judged by its own record.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.layouts_few_shot import FEW_SHOT
from tests.docs import ROOT, run_page
from tests.end_to_end.conftest import Place
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.files import home
from trireme.results import find_runs
from trireme.results.paper import papers

HERE = {"DTD": "coop/dtd", "RAF-DB": "rafdb", "EuroSAT": "coop/eurosat"}
"""Columns of the table whose sets are written; four training pictures a class."""


def cells(place: Place, *arguments: str, code: int) -> dict[tuple[str, str], dict[str, str]]:
    """{(row, column): what `--format csv` says}."""
    done = place.trireme("reproduce", *arguments, "--format", "csv", code=code)
    return {(row["row"], row["column"]): row for row in csv.DictReader(io.StringIO(done.stdout))}


def table(path: Path, paper: str, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A paper's file and one of its tables, which is left alone in it."""
    content = json.loads((papers()[paper] if path.suffix != ".json" else path).read_bytes())
    content["tables"] = [one for one in content["tables"] if one["table"] == name]
    return content, content["tables"][0]


@pytest.fixture
def small(place: Place, model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Place, Path]]:
    """RAR's Table 2 as it ships, but for the encoder, in a folder where three of its eleven sets lie in small."""
    root = place.folder / "data"
    monkeypatch.setenv("TRIREME_DATA", str(root))
    content, few_shot = table(Path(), "rar", "table2")
    few_shot["run"] = {"encoder": "open_clip", "encoder.model": f"local-dir:{model}", "memory.draw": "first"}
    for column in few_shot["columns"]:
        column.pop("differs", None)  # RAF-DB is here for its layout
    file = place.folder / "rar.json"
    file.write_text(json.dumps(content))
    with ExitStack() as stack:
        for name in HERE.values():
            stack.enter_context(PUBLISHED.replaced(FEW_SHOT[name](root).spec(name)))
        yield place, file


def test_a_table_is_run_judged_and_found_again(small: tuple[Place, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    place, file = small
    rows = ("--where", "method=knn", "--tables", str(file))
    ran = cells(place, "rar/table2", *rows, code=1)
    assert len(ran) == 2 * 11, "means have no method"
    records = {(one.benchmark, one.data["memory"]["drawn"]["shots"]): one for one in find_runs(place.folder / "out")}
    assert set(records) == {(name, shots) for name in HERE.values() for shots in (4, 8)}
    for (row, column), one in ran.items():
        if column not in HERE:
            assert one["verdict"] == "not run"
            assert "is missing; see: trireme data status" in one["why"]
            continue
        record = records[HERE[column], int(row[0])]
        assert record.data["memory"]["drawn"]["rule"] == "first"
        score = next(s for s in record.scores if (s["metric"], s["subset"]) == ("top1", "all"))
        assert float(one["ours"]) == pytest.approx(score["score"], abs=1e-6)
        assert (float(one["ci_low"]), float(one["ci_high"])) == pytest.approx((score["ci_low"], score["ci_high"]))
        held = float(one["allowed_low"]) <= score["score"] <= float(one["allowed_high"])
        assert one["verdict"] == ("reproduced" if held else "off")
        assert one["runs"] == record.run
    # seven colours against the paper's 14.2 % for seven emotions
    assert ran["4-shot CLIP+KNN", "RAF-DB"]["verdict"] == "off"

    again = place.trireme("reproduce", "rar/table2", *rows, code=1)
    assert "[1/" not in again.stderr, "nothing is computed twice"
    assert "slip: 4-shot gain, ImageNet: printed 9.9, recomputed 8.9" in again.stdout
    monkeypatch.setenv("TRIREME_DATA", str(place.folder / "elsewhere"))
    collected = cells(place, "rar/table2", *rows, "--collect", code=1)
    told = {key: (one["ours"], one["verdict"]) for key, one in ran.items() if one["ours"]}
    assert {key: (one["ours"], one["verdict"]) for key, one in collected.items() if one["ours"]} == told

    content, few_shot = table(file, "rar", "table2")
    near = {key: float(one["ours"]) + 0.04 for key, one in ran.items() if one["ours"]}  # the tolerance is 0.05
    few_shot["columns"] = [one for one in few_shot["columns"] if one["name"] in HERE]
    few_shot["rows"] = [
        {**row, "values": [near[row["name"], column["name"]] for column in few_shot["columns"]]}
        for row in few_shot["rows"]
        if row["name"].endswith("KNN")
    ]
    del few_shot["deltas"], few_shot["slips"]
    file.write_text(json.dumps(content))
    found = cells(place, "rar/table2", "--tables", str(file), "--collect", code=0)
    assert {one["verdict"] for one in found.values()} == {"reproduced"}
    assert len(found) == 6
    few_shot["columns"][0]["pictures"] = 10**6
    few_shot["columns"][1]["differs"] = "another split"
    file.write_text(json.dumps(content))
    found = cells(place, "rar/table2", "--tables", str(file), "--collect", code=0)
    why = {column: one["why"].partition(" ")[2] for (_, column), one in found.items() if one["verdict"] != "reproduced"}
    names = [column["name"] for column in few_shot["columns"]]
    assert why == {names[0]: "test pictures, the paper's test set has 1000000", names[1]: "split"}


def test_a_run_that_fails_is_never_exit_0(small: tuple[Place, Path]) -> None:
    """DTD comes out; no picture of RAF-DB's memory can be read."""
    place, file = small
    asked = ("rar/table2", "--tables", str(file), "--where", "row=4-shot CLIP+KNN", "--where")
    [first] = cells(place, *asked, "column=DTD", code=1).values()
    content, few_shot = table(file, "rar", "table2")
    few_shot["rows"][0]["values"][5] = float(first["ours"])
    file.write_text(json.dumps(content))
    cells(place, *asked, "column=DTD", code=0)
    for picture in (place.folder / "data" / "rafdb" / "Image" / "aligned").glob("train_*"):
        picture.write_bytes(b"no picture")
    ran = cells(place, *asked, "column=DTD,RAF-DB", code=1)
    assert {column: one["verdict"] for (_, column), one in ran.items()} == {"DTD": "reproduced", "RAF-DB": "not run"}


def test_a_mean_needs_all_of_its_cells_and_a_ranker_its_weights(small: tuple[Place, Path]) -> None:
    place, file = small
    ran = cells(place, "rar/table2", "--tables", str(file), "--where", "column=DTD,Avg", code=1)
    made = {run.benchmark for run in find_runs(place.folder / "out")}
    assert made == {"coop/dtd"}, "for a mean that cannot be had nothing is run"
    assert ran["4-shot CLIP+KNN", "Avg"]["why"] == "needs all 11 cells that it is the mean of"
    assert "llava-v1.5-7b-fgvc-lora is not in" in ran["4-shot RAR (LLaVA1.5)", "DTD"]["why"]
    assert "its settings are not released" in ran["8-shot LLaVA1.5 FT", "DTD"]["why"]
    content, few_shot = table(file, "rar", "table2")
    few_shot["columns"][-1] = {"name": "Avg", "mean_of": ["DTD", "RAF-DB"]}
    file.write_text(json.dumps(content))
    rows = ("--where", "row=4-shot CLIP+KNN", "--where", "column=Avg,DTD,RAF-DB")
    ran = cells(place, "rar/table2", "--tables", str(file), *rows, code=1)
    parts = [float(ran["4-shot CLIP+KNN", column]["ours"]) for column in ("DTD", "RAF-DB")]
    assert float(ran["4-shot CLIP+KNN", "Avg"]["ours"]) == pytest.approx(sum(parts) / 2, abs=1e-6)


def test_runs_of_other_inputs_are_not_mixed(small: tuple[Place, Path]) -> None:
    """A picture of the memory changes: the new run is judged; who only collects is told that two runs fit."""
    place, file = small
    asked = ("rar/table2", "--tables", str(file), "--where", "row=4-shot CLIP+KNN", "--where", "column=RAF-DB")
    [first] = cells(place, *asked, code=1).values()
    [picture, *_] = sorted((place.folder / "data" / "rafdb" / "Image" / "aligned").glob("train_*"))
    picture.write_bytes(picture.with_name("train_00101_aligned.jpg").read_bytes())
    [second] = cells(place, *asked, code=1).values()
    assert first["runs"] != second["runs"]
    [neither] = cells(place, *asked, "--collect", code=3).values()
    assert neither["why"].startswith("2 runs of other inputs fit")


def test_weights_that_cannot_be_fetched_and_runs_of_older_code_are_told(small: tuple[Place, Path]) -> None:
    """A tag of weights that nobody has, off line; then a record whose method has another version."""
    place, file = small
    content, few_shot = table(file, "rar", "table2")
    own = few_shot["run"]
    few_shot["run"] = {**own, "encoder.model": "ViT-B-32", "encoder.pretrained": "commonpool_s_text_s13m_b4k"}
    few_shot["columns"], few_shot["rows"] = few_shot["columns"][5:6], few_shot["rows"][:1]
    few_shot["rows"][0]["values"] = few_shot["rows"][0]["values"][5:6]
    del few_shot["deltas"], few_shot["slips"]
    file.write_text(json.dumps(content))
    listed = json.loads(place.trireme("reproduce", "--list", "--tables", str(file), "--format", "json").stdout)
    fetched = "1: weights ViT-B-32:commonpool_s_text_s13m_b4k are not on this machine; the run fetches them"
    assert [(row["here"], row["needs"]) for row in listed] == [(0, fetched)]
    [one] = cells(place, "rar", "--tables", str(file), code=3).values()
    assert "cannot download weights 'commonpool_s_text_s13m_b4k'" in one["why"]

    few_shot["run"] = own
    file.write_text(json.dumps(content))
    [one] = cells(place, "rar", "--tables", str(file), code=1).values()
    [path] = (place.folder / "out" / "runs").glob("*/run.json")
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "method": {**record["method"], "version": 0}}))
    [one] = cells(place, "rar", "--tables", str(file), "--collect", code=3).values()
    assert one["why"] == "no finished run by this version of the method, but one by another in out"


def test_nothing_to_compare_is_exit_3(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIREME_DATA", str(place.folder / "data"))
    done = place.trireme("reproduce", "rar/table2", code=3)
    assert "0 reproduced, 0 off, 0 protocol differs, 64 not run" in done.stdout
    assert not (place.folder / "out").exists()


@pytest.fixture(scope="module")
def world_runs(world: None, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Three methods on all of the world, as `trireme reproduce` runs them."""
    place = Place(tmp_path_factory.mktemp("world"), shared=True)
    place.trireme("reproduce", "world/methods", "--where", "method=zero_shot,knn,knn-10", code=0)
    return place


CHOSEN = ("world/methods", "--where", "method=zero_shot,knn,knn-10", "--collect")


def test_our_results_on_the_world_come_out(world_runs: Place) -> None:
    """Fails when a commit moves a score: these compute the same each time, so three pictures are all they may move."""
    ran = cells(world_runs, *CHOSEN, code=0)
    assert len(ran) == 9
    assert {one["verdict"] for one in ran.values()} == {"reproduced"}
    assert {one["why"] for one in ran.values()} == {f"within {width} of the value" for width in (0.13, 0.23, 0.52)}


def test_a_moved_score_is_off_and_other_inputs_are_told(world_runs: Place) -> None:
    content, methods = table(Path(), "world", "methods")
    knn = next(row for row in methods["rows"] if row["name"] == "knn")
    file = world_runs.folder / "moved.json"
    knn["values"][0]["value"] += 0.2  # five pictures of 2,333, far inside of the interval
    file.write_text(json.dumps(content))
    ran = cells(world_runs, *CHOSEN, "--tables", str(file), code=1)
    assert {key for key, one in ran.items() if one["verdict"] == "off"} == {("knn", "all")}
    knn["made"]["encoder"] = "0" * 16
    file.write_text(json.dumps(content))
    ran = cells(world_runs, *CHOSEN[:-1], "--collect", "--where", "method=knn", "--tables", str(file), code=1)
    assert {one["verdict"] for one in ran.values()} == {"protocol differs"}
    assert all("the encoder is another one" in one["why"] for one in ran.values())


def test_a_missing_row_of_ours_is_exit_1(world_runs: Place) -> None:
    """Seven methods have a row, three were run: CHOSEN leaves four out on purpose, this does not."""
    done = world_runs.trireme("reproduce", "world/methods", "--collect", code=1)
    assert (
        "9 reproduced, 0 off, 0 protocol differs, 12 not run (none of our own results may be missing; --where"
        in done.stdout
    )


def test_a_score_that_is_not_of_its_predictions_is_told(world_runs: Place) -> None:
    """A record of knn says a point more than its predictions give; those of zero_shot have lost a byte."""
    copied = world_runs.folder / "edited"
    shutil.copytree(world_runs.folder / "out", copied)
    runs = {record.method: record for record in find_runs(copied)}
    path = runs["knn"].folder / "run.json"
    record = json.loads(path.read_text())
    score = next(one for one in record["scores"] if (one["metric"], one["subset"]) == ("top1", "all"))
    true = score["score"]
    score["score"] += 1
    path.write_text(json.dumps(record))
    damaged = runs["zero_shot"].folder / "predictions.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    ran = cells(world_runs, *CHOSEN, "--out", str(copied), code=1)
    assert f"says {true + 1}, but its predictions give {true}; run it again" in ran["knn", "all"]["why"]
    assert {key for key, one in ran.items() if one["verdict"] == "not run"} == {
        ("knn", "all"),
        *(("zero_shot", subset) for subset in ("all", "common", "rare")),
    }


@pytest.mark.parametrize(
    ("format", "first", "last", "escaped"),
    [
        ("html", "<!doctype", "</html>", "repository&#x27;s commands"),
        ("latex", "% needs", r"\end{table}", r"near\_duplicates"),
    ],
)
def test_all_tables_are_one_document(world_runs: Place, format: str, first: str, last: str, escaped: str) -> None:
    """Reasons, protocols and counts are part of it, special characters written as the format asks for."""
    content = json.loads(papers()["world"].read_bytes())
    content["tables"][0]["protocol"] = "near_duplicates are out"
    file = world_runs.folder / "noted.json"
    file.write_text(json.dumps(content))
    done = world_runs.trireme("reproduce", "world", "--collect", "--format", format, "--tables", str(file), code=1)
    shown = done.stdout.strip()
    assert shown.startswith(first)
    assert shown.endswith(last)
    assert shown.count(first) == 1
    assert escaped in shown
    assert "9 reproduced, 0 off" in shown
    assert "no finished run in out" in shown


def test_results_are_stored_as_expected_and_hold(world_runs: Place) -> None:
    file = world_runs.folder / "world.json"
    world_runs.trireme("reproduce", *CHOSEN, "--expect", str(file))
    stored, methods = table(file, "world", "methods")
    assert stored["own"]
    before = {row["name"]: row for row in table(Path(), "world", "methods")[1]["rows"]}
    for row in methods["rows"]:
        for old, new in zip(before[row["name"]]["values"], row["values"], strict=True):
            assert new["value"] == pytest.approx(old["value"], abs=0.52)
            assert (new["n"], new["low"] <= new["value"] <= new["high"]) == (old["n"], True)
    assert set(methods["rows"][0]["made"]) == {"encoder", "benchmark", "memory", "created", "command"}
    cells(world_runs, *CHOSEN, "--tables", str(file), code=0)
    done = world_runs.trireme("reproduce", "reco/table1", "--collect", "--expect", str(file), code=2)
    assert "published values, which are never overwritten" in done.stderr


def test_the_page_does_what_it_shows(world: None, tmp_path: Path) -> None:
    """docs/reproduce.md in the default home, where the world and its embeddings are."""
    printed = run_page(ROOT / "docs" / "reproduce.md", tmp_path, home())
    assert "rar/semi-supervised" not in printed
    assert "react/semi-supervised" in printed
    assert printed.count("6 reproduced, 0 off, 0 protocol differs, 0 not run") == 2
    assert (tmp_path / "expected.json").exists()
