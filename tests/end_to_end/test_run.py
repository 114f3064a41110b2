"""`trireme run` from outside, on pictures drawn here and an open_clip model with random weights."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.end_to_end.conftest import CLASSES, Place

COLUMNS = "method,benchmark,subset,metric,score,ci_low,ci_high,n,encoder,memory,seeds,run"


def rows(table: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table)))


def test_a_comparison_and_its_records(place: Place, comparison: tuple[str, ...], pictures: Path) -> None:
    done = place.process(*comparison)
    assert "2 runs computed, 0 already there, 0 failed" in done.stderr
    assert "knn" in done.stdout, "the leaderboard is printed"
    table = place.table()
    assert table.splitlines()[0] == COLUMNS
    assert {(row["method"], row["metric"]) for row in rows(table)} == {
        ("zero_shot", "top1"), ("zero_shot", "top5"), ("knn", "top1"), ("knn", "top5"),
    }  # fmt: skip
    records = place.records()
    knn = records["knn"]
    assert knn["samples"] == {"asked": 120, "done": 120, "failed": 0, "failures": []}
    assert records["zero_shot"]["memory"] is None
    assert knn["memory"]["size"] + knn["memory"]["manifest"]["counts"]["near_duplicates"] == 60  # type: ignore[index]
    assert set(knn["seconds"]) >= {"encode", "memory", "fit", "predict", "score"}  # type: ignore[arg-type]
    assert knn["peak_memory_mib"] > 50  # type: ignore[operator]
    assert knn["command"].startswith("trireme run method=zero_shot,knn ")  # type: ignore[attr-defined]


def test_scores_are_those_of_the_stored_predictions(place: Place, comparison: tuple[str, ...]) -> None:
    """top1 counted by hand from predictions.parquet: the share of rows whose first ranked class is the label."""
    place.trireme(*comparison)
    for row in rows(place.table()):
        if row["metric"] == "top1":
            [folder] = (place.folder / "out" / "runs").glob(f"*--{row['run']}")
            table = pq.read_table(folder / "predictions.parquet").to_pydict()
            right = [ranked[0] == label for ranked, label in zip(table["ranked"], table["label"], strict=True)]
            assert float(row["score"]) == pytest.approx(100 * np.mean(right), abs=1e-3)
            names = [CLASSES.index(sample.split("/")[0]) for sample in table["sample_id"]]
            order = np.argsort(np.argsort(CLASSES))  # class indices are those of the sorted names
            assert [int(order[name]) for name in names] == table["label"]


def test_running_again_computes_nothing(place: Place, comparison: tuple[str, ...]) -> None:
    place.trireme(*comparison)
    before = {path: path.stat().st_mtime_ns for path in (place.folder / "out" / "runs").rglob("*")}
    again = place.process(*comparison)
    assert "0 runs computed, 2 already there, 0 failed; 0 pictures and texts encoded" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in (place.folder / "out" / "runs").rglob("*")} == before


def test_one_picture_is_encoded_once_for_all_methods(place: Place, comparison: tuple[str, ...]) -> None:
    """The store counts forward passes: 120 test pictures, the memory's pictures, and each distinct text once."""
    done = place.trireme(*comparison)
    size = int(place.records()["knn"]["memory"]["size"])  # type: ignore[index]
    encoded = int(done.stderr.split(" pictures and texts encoded")[0].split()[-1])
    templates = int(place.records()["zero_shot"]["method"]["facts"]["templates"])  # type: ignore[index]
    texts = {f"a photo of {name}" for name in CLASSES}  # captions of the memory; the prompts may repeat them
    assert 120 + size + len(CLASSES) * templates <= encoded <= 120 + size + len(CLASSES) * templates + len(texts)


def test_batch_size_workers_and_device_change_neither_hash_nor_scores(
    place: Place, comparison: tuple[str, ...]
) -> None:
    place.trireme(*comparison)
    for extra in (["batch_size=7"], ["workers=1", "device=cpu"]):
        place.trireme(*comparison, f"out={extra[0]}", *extra)
        assert place.table(extra[0]) == place.table()


def test_a_setting_is_a_run_of_its_own_and_shown_in_its_name(place: Place, comparison: tuple[str, ...]) -> None:
    place.trireme(*comparison)
    done = place.trireme(*comparison, "method.knn.k=3")
    assert "1 runs computed, 1 already there" in done.stderr
    assert {row["method"] for row in rows(place.table())} == {"zero_shot", "knn", "knn(k=3)"}
    plain = place.trireme(*comparison, "method.knn.k=1")
    assert "0 runs computed, 2 already there" in plain.stderr, "k=1 is what knn stands for"


def test_seeds_are_joined_in_the_table(place: Place, comparison: tuple[str, ...]) -> None:
    place.trireme(*comparison, "seed=0,1")
    assert {row["seeds"] for row in rows(place.table())} == {"0,1"}


def test_a_method_without_a_memory_needs_none(place: Place, model: Path, pictures: Path) -> None:
    common = (f"benchmark=folder:{pictures / 'test'}", "encoder=open_clip", f"encoder.model=local-dir:{model}")
    place.trireme("run", "method=zero_shot", *common)
    refused = place.trireme("run", "method=knn", *common, code=2)
    assert refused.stderr.startswith("error: method 'knn' needs a memory for folder:")
    assert len(refused.stderr.splitlines()) == 1


def test_csv_and_parquet_are_benchmarks_too(place: Place, comparison: tuple[str, ...], pictures: Path) -> None:
    import pyarrow as pa

    place.trireme(*comparison)
    listed = [(str(path), path.parent.name) for path in sorted((pictures / "test").rglob("*.png"))]
    with (place.folder / "test.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label"), *listed])
    columns = {"image": [path for path, _ in listed], "label": [label for _, label in listed]}
    pq.write_table(pa.table(columns), place.folder / "test.parquet")
    for name in ("csv:test.csv", "parquet:test.parquet"):
        arguments = [f"benchmark={name}" if part.startswith("benchmark=") else part for part in comparison]
        place.trireme(*arguments, f"out={name[:3]}")
        expected = [(row["method"], row["metric"], row["score"]) for row in rows(place.table())]
        assert [(row["method"], row["metric"], row["score"]) for row in rows(place.table(name[:3]))] == expected


def test_a_fusion_is_trained_once_and_kept(place: Place, comparison: tuple[str, ...], pictures: Path) -> None:
    """`trireme train reco` and two runs share one training; the records say what it learned from."""
    from tests.end_to_end.conftest import draw

    draw(place.folder / "learn", 4, seed=5)
    settings = ["method.reco.train_on=[folder:learn]", "method.reco.epochs=2"]
    arguments = ["method=reco" if part.startswith("method=") else part for part in comparison[1:]]
    fitted = place.trireme("train", "reco", *arguments, *settings)
    assert json.loads(fitted.stdout)["trained_parameters"] > 0
    kept = {path: path.stat().st_mtime_ns for path in (place.home / "trained").rglob("*.safetensors")}
    assert kept
    place.trireme("run", *arguments, *settings)
    assert {path: path.stat().st_mtime_ns for path in (place.home / "trained").rglob("*.safetensors")} == kept
    [record] = place.records().values()
    [learned] = record["training"]  # type: ignore[misc]
    assert learned["name"] == "folder:learn"
    assert learned["sources"] == {"folder:learn": 24}
    assert record["method"]["supervision"]["training"] == "captions"  # type: ignore[index]


def compared(place: Place, *more: str) -> list[dict[str, str]]:
    return rows(place.trireme("compare", "knn", "zero_shot", "--format", "csv", *more).stdout)


def test_compare_is_the_difference_of_the_table(place: Place, comparison: tuple[str, ...]) -> None:
    place.trireme(*comparison)
    top1 = {row["method"]: float(row["score"]) for row in rows(place.table()) if row["metric"] == "top1"}
    printed = place.trireme("compare", "knn", "zero_shot").stdout
    memory = next(part for part in comparison if part.startswith("memory=")).removeprefix("memory=")
    assert printed.splitlines()[0].startswith("knn minus zero_shot, percentage points, role test, encoder ")
    assert f", memory {memory}, seeds 0" in printed.splitlines()[0]
    assert f" {top1['knn'] - top1['zero_shot']:+.1f} " in printed
    [row] = [row for row in compared(place) if row["subset"] == "all"]
    assert float(row["difference"]) == pytest.approx(top1["knn"] - top1["zero_shot"], abs=1e-4)
    unknown = place.trireme("compare", "knn", "zeroshot", code=2)
    assert "did you mean 'zero_shot'?" in unknown.stderr


def test_compare_tells_roles_and_memories_apart(
    place: Place, comparison: tuple[str, ...], pictures: Path, model: Path
) -> None:
    """One row for each memory; test and validation pictures of one benchmark never in one call."""
    from tests.end_to_end.conftest import draw

    draw(pictures / "val", 4, seed=9)
    draw(place.folder / "more", 3, seed=10)
    name, other = f"folder:{pictures}", f"folder:{place.folder / 'more'}"
    common = ("run", f"benchmark={name}", "encoder=open_clip", f"encoder.model=local-dir:{model}")
    place.trireme(*common, "method=zero_shot,knn", f"memory={name},{other}")
    assert sorted(row["memory"] for row in compared(place)) == sorted([name, other])
    place.trireme(*common, "method=zero_shot,knn", f"memory={name}", "role=validation")
    assert {(row["role"], row["memory"]) for row in compared(place)} == {("test", name), ("test", other)}
    chosen_on = compared(place, "--role", "validation")
    assert [(row["role"], row["memory"], row["n"]) for row in chosen_on] == [("validation", name, "24")]


def test_tables_say_who_chose_on_validation_labels(place: Place, comparison: tuple[str, ...], pictures: Path) -> None:
    """`knn-votes` chooses where there are validation pictures; `knn` never does, and neither can without them."""
    from tests.end_to_end.conftest import draw

    arguments = ["method=knn,knn-votes" if part.startswith("method=") else part for part in comparison]
    place.trireme(*arguments, "out=without")
    draw(pictures / "val", 4, seed=9)
    arguments = [f"{part.split('=')[0]}=folder:{pictures}" if "=folder:" in part else part for part in arguments]
    place.trireme(*arguments)
    for out, chosen in (("without", "-"), ("out", "validation")):
        lines = place.trireme("leaderboard", out, "--format", "md").stdout.splitlines()
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
        column = cells[0].index("chosen on")
        said = {row[0]: row[column] for row in cells[1:] if row[0].startswith("knn")}
        assert said == {"knn": "-", "knn-votes": chosen}
    assert place.table().splitlines()[0] == COLUMNS


def test_the_order_of_samples_changes_no_score(place: Place, comparison: tuple[str, ...], pictures: Path) -> None:
    listed = [(str(path), path.parent.name) for path in sorted((pictures / "test").rglob("*.png"))]
    shuffled = [listed[i] for i in np.random.default_rng(0).permutation(len(listed))]
    tables = []
    for name, lines in (("sorted", listed), ("shuffled", shuffled)):
        with (place.folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("image", "label"), *lines])
        arguments = [f"benchmark=csv:{name}.csv" if part.startswith("benchmark=") else part for part in comparison]
        place.trireme(*arguments, f"out={name}")
        tables.append([{**row, "benchmark": "", "run": ""} for row in rows(place.table(name))])
    assert tables[0] == tables[1]


def test_memory_search_finds_the_picture_itself(
    place: Place, comparison: tuple[str, ...], pictures: Path, model: Path
) -> None:
    """A picture that is in the memory is its own nearest neighbour, at a cosine of 1."""
    parts = (f"memory=folder:{pictures / 'train'}", "encoder=open_clip", f"encoder.model=local-dir:{model}")
    picture = pictures / "train" / "blue square" / "003.png"
    found = place.trireme("memory", "search", str(picture), *parts, "--k", "3").stdout.splitlines()
    assert found[0].split("  ") == ["1.0000", "blue square/003.png", "a photo of blue square"]
    assert len(found) == 3
    texts = place.trireme("memory", "search", "a photo of red square", *parts, "--side", "text", "--k", "1").stdout
    assert texts.split("  ")[0] == "1.0000"
    assert texts.rstrip().endswith("a photo of red square")
    name, rest = parts[0].partition("=")[2], parts[1:]
    inspected = place.trireme("memory", "inspect", name, *rest).stdout
    assert "60 pairs, 6 labels" in inspected
    built = place.trireme("memory", "build", name, *rest).stdout.split("  ")
    assert json.loads((Path(built[2].strip()) / "manifest.json").read_text())["counts"]["kept"] == 60


def test_an_index_written_elsewhere_is_a_memory_for_knn(
    place: Place, comparison: tuple[str, ...], pictures: Path, model: Path
) -> None:
    """The memory's own vectors, written by FAISS itself with their labels, give the scores of the memory."""
    import faiss

    place.trireme(*comparison)
    [folder] = [path.parent for path in (place.home / "memories").glob("*/manifest.json")]
    vectors = np.load(folder / "image.npy")
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(place.folder / "train.index"))
    labels = pq.read_table(folder / "pairs.parquet")["label"].to_pylist()
    (place.folder / "labels.txt").write_text("\n".join(labels) + "\n")
    arguments = [part for part in comparison if not part.startswith("memory=")]
    place.trireme(*arguments, "method=knn", "memory=faiss:train.index", "memory.labels=labels.txt", "out=f", code=2)
    arguments = [part for part in arguments if not part.startswith("method=")]
    place.trireme(*arguments, "method=knn", "memory=faiss:train.index", "memory.labels=labels.txt", "out=f")
    expected = {row["metric"]: row["score"] for row in rows(place.table()) if row["method"] == "knn"}
    assert {row["metric"]: row["score"] for row in rows(place.table("f"))} == expected
    refused = place.trireme(*arguments, "method=knn", "memory=faiss:train.index", code=2)
    assert "add memory.labels=FILE" in refused.stderr
