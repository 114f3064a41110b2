"""Image-text retrieval through the whole path: official layouts and the world, every method that has both sides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.layouts_image_text import CAPTIONS, LAYOUTS, Told, flickr30k
from tests.end_to_end.conftest import Place
from tests.end_to_end.test_rar import world_place
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.config import find
from trireme.partial import Partial
from trireme.registry import open_benchmark
from trireme.results import find_runs, read_predictions
from trireme.results.records import RunRecord
from trireme.results.statistics import interval
from trireme.retrieval.encoders.lite import LiteEncoder
from trireme.retrieval.store import EmbeddingStore
from trireme.types import Role

pytestmark = pytest.mark.usefixtures("world")

SHORT = """method: react
variant: locked_text
epochs: 1
batch: 8
views: 1
lr: 1.0e-3
"""
METHODS = ("zero_shot", "reco-start", "short")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A working folder with the weights and embeddings of the default home, and a data root of its own."""
    monkeypatch.setenv("TRIREME_DATA", str(tmp_path / "data"))
    (tmp_path / "configs" / "method").mkdir(parents=True)
    (tmp_path / "configs" / "method" / "short.yaml").write_text(SHORT)
    return world_place(tmp_path)


def run(place: Place, name: str, methods: str, *more: str, told: Told | None = None) -> dict[str, RunRecord]:
    """{method: record}."""
    changed = [told.spec(name)] if told is not None else []
    with PUBLISHED.replaced(*changed):
        place.trireme("run", f"method={methods}", f"benchmark={name}", *more)
    return {record.method: record for record in find_runs(place.folder / "out", strict=True)}


def scores(record: RunRecord, metric: str = "r@1") -> dict[str, float]:
    return {row["subset"]: row["score"] for row in record.scores if row["metric"] == metric}


@pytest.mark.parametrize("name", LAYOUTS)
def test_all_methods(place: Place, name: str) -> None:
    told = LAYOUTS[name](place.folder / "data")
    records = run(place, name, "zero_shot,reco-start,short", told=told)
    assert set(records) == set(METHODS)
    images = told.of("test")
    ids = [f"i2t/{one['filename']}" for one in images] + [
        f"t2i/{sentence['sentid']}" for one in images for sentence in one["sentences"]
    ]
    for method, record in records.items():
        assert record.data["benchmark"]["task"] == "retrieval"
        assert record.data["samples"] == {"asked": 24, "done": 24, "failed": 0, "failures": []}
        assert record.data["metrics"] == ["r@1", "r@5", "r@10"]
        assert {(row["subset"], row["n"]) for row in record.scores} == {("i2t", 4), ("t2i", 20)}
        table = read_predictions(record)
        assert table["sample_id"].to_pylist() == sorted(ids)
        memory = record.data["memory"]
        assert (memory and (memory["name"], memory["size"])) == (None if method == "zero_shot" else (name, 30))
    assert records["short"].data["method"]["facts"]["retrieved"]["pairs"] == 30, "no class names: all pairs"
    chosen = records["reco-start"].data
    assert chosen["validation"]["name"] == name
    assert set(chosen["method"]["facts"]["start_selection"]["scores"]) == {"i2t", "t2i"}


def test_zero_shot_equals_a_few_lines_of_numpy(place: Place) -> None:
    """World pictures and captions by bare embeddings: rank of the best hit of the same class."""
    record = run(place, "world/tiny-retrieval", "zero_shot")["zero_shot"]
    samples = open_benchmark("world/tiny-retrieval").samples()
    shown, told = [one for one in samples if not one.text], [one for one in samples if one.text]
    store = EmbeddingStore(LiteEncoder(LiteEncoder.Config()))
    products = store.images([one.image for one in shown]) @ store.texts([one.text for one in told]).T
    same = np.array([[a.label == b.label for b in told] for a in shown])
    above = [(row > row[own].max()).sum() for row, own in zip(products, same, strict=True)]
    below = [(row > row[own].max()).sum() for row, own in zip(products.T, same.T, strict=True)]
    for k in (1, 5, 10):
        expected = {way: 100 * np.mean(np.array(ranks) < k) for way, ranks in (("i2t", above), ("t2i", below))}
        found = scores(record, f"r@{k}")
        assert {way: found[way] for way in expected} == pytest.approx(expected)


def test_intervals_draw_pictures_with_all_their_captions(place: Place) -> None:
    told = flickr30k(place.folder / "data", test=24)
    record = run(place, "flickr30k", "zero_shot", told=told)["zero_shot"]
    table = read_predictions(record).to_pandas()
    captions = table[table["group"] == "t2i"]
    pictures = {str(s["sentid"]): image["imgid"] for image in told.of("test") for s in image["sentences"]}
    clusters = [pictures[one.removeprefix("t2i/")] for one in captions["sample_id"]]
    expected = interval(captions["r@1"].to_numpy(), np.array(clusters))
    [row] = [row for row in record.scores if (row["subset"], row["metric"]) == ("t2i", "r@1")]
    assert (row["score"], row["ci_low"], row["ci_high"]) == pytest.approx(expected, abs=1e-5)
    alone = interval(captions["r@1"].to_numpy(), np.arange(len(captions)))
    assert (row["ci_low"], row["ci_high"]) != pytest.approx((alone.low, alone.high), abs=1e-3)


def test_a_picture_that_cannot_be_read_leaves_both_directions(place: Place) -> None:
    """And once it can be read again, everything is ranked anew, since there is one more candidate."""
    told = flickr30k(place.folder / "data", test=110)
    lost = told.folder / "flickr30k-images" / told.of("test")[7]["filename"]
    kept = lost.read_bytes()
    lost.unlink()
    record = run(place, "flickr30k", "zero_shot", told=told)["zero_shot"]
    sentences = [str(one["sentid"]) for one in told.of("test")[7]["sentences"]]
    gone = {f"i2t/{lost.name}", *(f"t2i/{one}" for one in sentences)}
    assert {one["id"] for one in record.data["samples"]["failures"]} == gone
    assert (record.data["samples"]["asked"], record.data["samples"]["failed"]) == (660, 6)
    table = read_predictions(record)
    found = {one for row in table["found"].to_pylist() for one in row or ()}
    assert len(found) > 100
    assert not found & gone
    assert {row["subset"]: row["n"] for row in record.scores} == {"i2t": 109, "t2i": 545}
    lost.write_bytes(kept)
    again = run(place, "flickr30k", "zero_shot", told=told)["zero_shot"]
    assert again.data["samples"]["failed"] == 0
    assert again.run != record.run, "a picture that was missing had no hash in the fingerprint"


def test_a_run_goes_on_where_it_stopped(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(place, "world/tiny-retrieval", "reco-start")["reco-start"]
    expected = read_predictions(whole)
    stopped = 0
    add = Partial.add

    def interrupted(self: Partial, table: object) -> None:
        nonlocal stopped
        stopped += 1
        if stopped == 3:
            raise KeyboardInterrupt
        add(self, table)  # type: ignore[arg-type]

    monkeypatch.setattr(Partial, "add", interrupted)
    arguments = ("run", "method=reco-start", "benchmark=world/tiny-retrieval", "out=other", "batch_size=17")
    place.trireme(*arguments, code=130)
    monkeypatch.setattr(Partial, "add", add)
    done = place.trireme(*arguments)
    assert "going on after 34 of 120 samples" in done.stderr
    [record] = find_runs(place.folder / "other", strict=True)
    assert read_predictions(record).equals(expected)
    assert record.scores == whole.scores


def test_a_training_picture_that_is_a_test_picture_is_kept_out(place: Place) -> None:
    told = flickr30k(place.folder / "data")
    pictures = told.folder / "flickr30k-images"
    (pictures / told.of("train")[0]["filename"]).write_bytes((pictures / told.of("test")[0]["filename"]).read_bytes())
    record = run(place, "flickr30k", "reco-start", told=told)["reco-start"]
    assert record.data["memory"]["size"] == 30 - CAPTIONS


def test_react_asks_with_training_captions_where_it_is_told_to(place: Place) -> None:
    told = flickr30k(place.folder / "data")
    more = ("method.short.search=t2t", "method.short.query_pairs=[flickr30k]", "method.short.k=1")
    [record] = run(place, "flickr30k", "short", *more, told=told).values()
    retrieved = record.data["method"]["facts"]["retrieved"]
    assert (retrieved["queries"], retrieved["hits"], retrieved["pairs"]) == (30, 30, 30), "each caption finds its pair"
    assert [one["name"] for one in record.data["training"]] == ["flickr30k"]


def test_the_world_suite_has_a_row_of_every_method(place: Place) -> None:
    """Its methods on the tiny world, REACT by the short recipe; memory helps with classes that no training showed."""
    suite = find("suite", "world/retrieval").fields
    assert set(suite["benchmarks"]) == {"world/retrieval"}
    records = run(place, "world/tiny-retrieval", "zero_shot,reco-start,short")
    assert set(records) == set(METHODS)
    assert {record.data["memory"]["name"] for record in records.values() if record.data["memory"]} == {"world/tiny"}
    assert scores(records["reco-start"])["rare"] > scores(records["zero_shot"])["rare"] + 30
    shown = place.trireme("leaderboard", "out").stdout
    assert shown.index("i2t") < shown.index("t2i") < shown.index("common") < shown.index("rare")
    by_subset = place.trireme("leaderboard", "out", "--by", "subset").stdout
    assert "r@1" in by_subset
    compared = place.trireme("compare", "reco-start", "zero_shot").stdout
    assert "t2i" in compared
    left = place.trireme("run", "method=knn,zero_shot", "benchmark=world/tiny-retrieval")
    assert "knn does no retrieval benchmark" in left.stderr


def test_guards_for_subsets_that_pictures_are_not_divided_into_are_void(place: Place) -> None:
    told = flickr30k(place.folder / "data")
    with PUBLISHED.replaced(told.spec("flickr30k")):
        done = place.trireme("run", "method=reco-start", "benchmark=flickr30k")
        assert "may_lose of common guards nothing" in done.stderr
        wrong = place.trireme("run", "method=reco-start", "benchmark=world/tiny-retrieval", *_guard("commn"), code=2)
    assert "did you mean 'common'" in wrong.stderr


def _guard(name: str) -> tuple[str, ...]:
    return (f"method.reco-start.may_lose={json.dumps({name: 0.5})}".replace('"', ""),)


def test_validation_pictures_are_those_of_the_validation_role() -> None:
    """No caption or picture of one role is in the other."""
    test = open_benchmark("world/tiny-retrieval")
    assert test.validation is not None
    kept = open_benchmark(test.validation).samples(Role.VALIDATION)
    assert not {one.image.sha256 for one in kept} & {one.image.sha256 for one in test.samples()}
