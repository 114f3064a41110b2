"""OVEN from its official files; expected values are what the writer wrote, and the published evaluator's formula."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import trireme.plugins
from tests.benchmarks.layouts_oven import BY_ID, ENTITIES, PER_ENTITY, SEEN, picture_file, wikipedia, write
from tests.end_to_end.conftest import Place
from tests.end_to_end.test_rar import Ranker, world_place
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.benchmarks.datasets.oven import OvenBenchmark
from trireme.benchmarks.datasets.places import examine
from trireme.errors import DataError, UsageError
from trireme.registry import open_benchmark, open_pairs
from trireme.results import find_runs, read_predictions
from trireme.types import Benchmark, SetBenchmark


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_home: Path) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("TRIREME_DATA", str(folder))
    return folder


@pytest.mark.parametrize("kind", ["entity", "query"])
def test_a_split_in_its_official_layout(root: Path, kind: str) -> None:
    lines = write(root, kind)
    bench, pairs = open_benchmark(f"oven/{kind}"), open_pairs(f"oven/{kind}")
    assert isinstance(bench, OvenBenchmark)
    assert isinstance(bench, SetBenchmark)
    assert examine(PUBLISHED[f"oven/{kind}"]).state == "present"
    assert bench.class_ids == BY_ID
    assert bench.class_names == tuple(ENTITIES[one] for one in BY_ID)
    assert bench.class_groups == tuple("seen" if one in SEEN else "unseen" for one in BY_ID)
    assert bench.metrics == ("harmonic", "top1", "top5")
    assert [(one.id, bench.class_ids[one.label]) for one in bench.samples()] == [
        (line["data_id"], line["entity_id"]) for line in lines
    ]
    assert [Path(one.image.path).relative_to(root / "oven" / "oven_images").as_posix() for one in bench.samples()] == [
        picture_file(int(line["image_id"][5:])) for line in lines
    ]
    assert bench.version == "1, val, its own entities as candidates"
    assert bench.validation is None
    assert [pair.label for pair in pairs.pairs()] == [one for one in SEEN for _ in range(PER_ENTITY)]
    assert pairs.pairs()[0].caption == "a photo of Dassault Falcon 900."


def test_pictures_where_the_table_says(root: Path) -> None:
    """Before the official merge script ran: `ovenid2impath.csv` leads to the same pictures, hence the same set."""
    lines = write(root)
    merged = open_benchmark("oven/entity")
    folder = root / "oven"
    table = []
    for line in lines:
        shown = picture_file(int(line["image_id"][5:]))
        target = folder / "inaturalist" / "train" / Path(shown).name
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / "oven_images" / shown).rename(target)
        table.append(f"{line['image_id']},{target.relative_to(folder).as_posix()}")
    (folder / "oven_images").rename(folder / "elsewhere")
    (folder / "ovenid2impath.csv").write_text("\n".join(table))
    assert open_benchmark("oven/entity").fingerprint() == merged.fingerprint()
    (folder / "ovenid2impath.csv").write_text("\n".join(table[1:]))
    with pytest.raises(DataError, match=r"line 1: ovenid2impath.csv has no picture 'oven_05000000'"):
        open_benchmark("oven/entity")


def test_candidates_of_a_file(root: Path, tmp_path: Path) -> None:
    """Another task: its classes are the file's, in its order, and nothing else of the samples changes."""
    write(root)
    own, wide = open_benchmark("oven/entity"), open_benchmark("oven/entity", candidates=wikipedia(tmp_path / "w.jsonl"))
    assert wide.version == "1, val, candidates of a file"
    assert wide.fingerprint() != own.fingerprint()
    assert len(wide.class_ids) == 3 + 5 + 1
    assert [wide.class_ids[one.label] for one in wide.samples()] == [own.class_ids[one.label] for one in own.samples()]
    assert wide.class_groups == ("", "", "", "seen", "seen", "seen", "unseen", "unseen", "")
    shorter = tmp_path / "shorter.jsonl"
    shorter.write_text(
        "".join(line + "\n" for line in (tmp_path / "w.jsonl").read_text().split("\n") if "Q31" not in line)
    )
    with pytest.raises(DataError, match=r"lacks 1 of the 5 entities that the samples show \(first: Q31, Belgium\)"):
        open_benchmark("oven/entity", candidates=str(shorter))


@pytest.mark.parametrize(("right", "expected"), [((3, 1), 2 / (1 / 0.5 + 1 / 0.25)), ((6, 0), 0.0), ((0, 4), 0.0)])
def test_the_score_is_the_published_evaluators(root: Path, right: tuple[int, int], expected: float) -> None:
    """Seen 3 of 6 and unseen 1 of 4 right: 2 / (1/0.5 + 1/0.25); oven_eval has 1e-12 in the place of an accuracy of 0,
    which gives 0.00 %."""
    write(root)
    bench = open_benchmark("oven/entity")
    found = evaluated(bench, right).values(np.ones(10, dtype=np.int64))
    assert found == {("all", "harmonic"): pytest.approx(expected)}


@pytest.mark.parametrize("wide", [False, True])
def test_a_sample_counts_where_its_own_line_says(root: Path, tmp_path: Path, wide: bool) -> None:
    """oven_eval collects hits by `data_split` of the sample, so its 2nd of a seen entity may be unseen: then 5 and 5.

    Seen 3 of 5 and unseen 1 of 5 right: 2 / (1/0.6 + 1/0.2).
    """
    write(root)
    options = {"candidates": wikipedia(tmp_path / "w.jsonl")} if wide else {}
    plain = open_benchmark("oven/entity", **options)
    rewrite(root / "oven", 1, data_split="entity_val_unseen")
    bench = open_benchmark("oven/entity", **options)
    assert [one.group_among(bench.class_groups) for one in bench.samples()] == ["seen", "unseen"] + 4 * ["seen"] + (
        4 * ["unseen"]
    )
    assert bench.class_groups == plain.class_groups
    found = evaluated(bench, (3, 1)).values(np.ones(10, dtype=np.int64))
    assert found == {("all", "harmonic"): pytest.approx(2 / (1 / 0.6 + 1 / 0.2))}
    assert bench.fingerprint() != plain.fingerprint()


def evaluated(bench: Benchmark, right: tuple[int, int]):  # type: ignore[no-untyped-def]
    """Its evaluator, with so many of the seen and of the unseen samples right."""
    left = dict(zip(("seen", "unseen"), right, strict=True))
    rows = []
    for sample in bench.samples():
        group = sample.group_among(bench.class_groups)
        hit = left[group] > 0
        left[group] -= hit
        rows.append((sample.id, sample.label, group, "ok", [sample.label if hit else (sample.label + 1) % 5], [1.0]))
    columns = ("sample_id", "label", "group", "status", "ranked", "scores")
    assert isinstance(bench, SetBenchmark)
    return bench.evaluator(pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))))


def rewrite(folder: Path, number: int, **changes: str | None) -> None:
    path = folder / "oven_entity_val.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[number] = {key: one for key, one in {**lines[number], **changes}.items() if one is not None}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def cut(folder: Path) -> None:
    path = folder / "oven_entity_val.jsonl"
    path.write_text(path.read_text()[:-20])


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no field": (lambda f: rewrite(f, 1, image_id=None), r"line 2 has no 'image_id'"),
    "withheld": (
        lambda f: rewrite(f, 0, entity_id=None),
        r"line 1 .* labels of this split are withheld; use split=val",
    ),
    "leaves": (lambda f: rewrite(f, 0, image_id="../../secret"), r"'../../secret' is no picture of OVEN"),
    "twice": (
        lambda f: rewrite(f, 1, data_id="oven_entity_val_00000000"),
        "'oven_entity_val_00000000' is listed twice",
    ),
    "cut off": (cut, r"line 10: .* is no JSON object; the file is damaged or cut off"),
    "lost pictures": (lambda f: (f / "oven_images" / picture_file(5_000_000)).unlink(), "1 of 10 listed pictures"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_named(root: Path, fault: str) -> None:
    write(root)
    damage, message = FAULTS[fault]
    damage(root / "oven")
    with pytest.raises(DataError, match=message):
        open_benchmark("oven/entity")


def test_no_part_is_told(root: Path) -> None:
    write(root)
    rewrite(root / "oven", 0, data_split="entity_val")
    with pytest.raises(DataError, match="of oven_entity_val_00000000 does not say whether Q1141409 is seen or unseen"):
        open_benchmark("oven/entity")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "lists no candidate"),
        ('{"name": "Crow"}', "line 1 has no id and name of a candidate"),
        ('{"wikidata_id": "Q1", "wikipedia_title": "a"}\n{"wikidata_id": "Q2"}', "line 2 has no id and name"),
        ('{"id": "Q1", "content": "a"}\n{"id": "Q1", "content": "b"}', "line 2: candidate Q1 is there twice"),
        ("Crow\n", "line 1: 'Crow' is no JSON object"),
    ],
)
def test_candidates_that_are_none(root: Path, tmp_path: Path, content: str, message: str) -> None:
    write(root)
    path = tmp_path / "candidates.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        open_benchmark("oven/entity", candidates=str(path))


def test_splits(root: Path) -> None:
    """The official test split is read where its file has labels, and is another benchmark."""
    write(root)
    with pytest.raises(UsageError, match="did you mean 'val'"):
        open_benchmark("oven/entity", split="valid")
    with pytest.raises(DataError, match=r"cannot read .*oven_entity_test.jsonl"):
        open_benchmark("oven/entity", split="test")
    val = root / "oven" / "oven_entity_val.jsonl"
    (root / "oven" / "oven_entity_test.jsonl").write_text(val.read_text().replace("entity_val", "entity_test"))
    assert open_benchmark("oven/entity", split="test").version.startswith("1, test, ")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A working folder with the weights of the default home, a data root of its own and a stand-in for a ranker."""
    monkeypatch.setenv("TRIREME_DATA", str(tmp_path / "data"))
    (tmp_path / "ranker").mkdir()
    Ranker(tmp_path / "ranker").installed(monkeypatch)
    yield world_place(tmp_path)
    trireme.plugins.entries.cache_clear()


def test_the_whole_path(place: Place) -> None:
    """zero_shot, knn and rar over candidates of a file; scores are recomputed from the stored predictions by hand.

    The memory shows seen entities alone, so knn and rar are never right about unseen ones: their harmonic mean is 0.
    """
    lines = write(place.folder / "data")
    file = wikipedia(place.folder / "wiki.jsonl")
    place.trireme(
        "run",
        "method=zero_shot,knn,rar-list",
        "method.rar-list.ranker=stand-in",
        "benchmark=oven/entity",
        f"benchmark.candidates={file}",
    )
    records = {one.method: one for one in find_runs(place.folder / "out", strict=True)}
    assert len(records) == 3
    for method, record in records.items():
        assert record.benchmark == f"oven/entity(candidates={file})"
        table = read_predictions(record).to_pylist()
        assert [row["sample_id"] for row in table] == [line["data_id"] for line in lines]
        accuracy = {
            part: np.mean([row["ranked"][:1] == [row["label"]] for row in table if row["group"] == part])
            for part in ("seen", "unseen")
        }
        low, high = sorted(accuracy.values())
        scores = {(row["subset"], row["metric"]): row["score"] for row in record.scores}
        assert scores["all", "harmonic"] == pytest.approx(100 * 2 / (1 / low + 1 / high) if low else 0)
        for part, right in accuracy.items():
            assert scores[part, "top1"] == pytest.approx(100 * right)
        assert ("seen", "harmonic") not in scores
        if method != "zero_shot":
            assert record.data["memory"]["name"] == "oven/entity"
            assert accuracy["unseen"] == 0
