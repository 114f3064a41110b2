"""docs/your-data.md as it stands, and own data in shards and Arrow files through whole runs."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.test_datasets_runs import METHODS, place  # noqa: F401, the fixture
from tests.docs import ROOT, run_page
from tests.end_to_end.conftest import CLASSES, Place, draw
from trireme.results import find_runs, read_predictions


@pytest.mark.slow
def test_the_page_does_what_it_shows(tmp_path: Path) -> None:
    """The same pictures in every form: the same scores to the last digit, whatever holds them."""
    draw(tmp_path / "photos" / "test", 4, seed=1)
    draw(tmp_path / "photos" / "train", 6, seed=2)
    run_page(ROOT / "docs" / "your-data.md", tmp_path, tmp_path / "home")
    found: dict[tuple[str, str], set[float]] = {}
    names: dict[str, set[str]] = {}
    for form in (tmp_path / "out").iterdir():
        for record in find_runs(form, strict=True):
            samples, [main, *_] = record.data["samples"], record.scores
            assert samples["done"] == samples["asked"] == 4 * len(CLASSES)
            found.setdefault((form.name, record.method), set()).add(main["score"])
            names.setdefault(form.name, set()).add(record.benchmark)
    assert set(names) == {"folder", "csv", "parquet", "webdataset", "hf", "coco"}
    for form in ("csv", "parquet", "webdataset", "hf"):
        assert found[form, "knn"] <= found["folder", "knn"]
        assert len(found[form, "knn"]) == 1
    for form in ("parquet", "webdataset", "hf"):
        assert found[form, "zero_shot"] == found["folder", "zero_shot"]
    assert names["csv"] == {"csv:photos.csv(image=file, label=kind)", "squares"}
    assert names["coco"] == {"coco:test.json(images=photos/test)"}


def shard(pictures: Path, path: Path) -> Path:
    """A folder of pictures by class as one shard with classes and captions; keys count the sorted files."""
    with tarfile.open(path, "w") as tar:
        for number, picture in enumerate(sorted(pictures.rglob("*.png"))):
            kind = picture.parent.name
            members = {"png": picture.read_bytes(), "cls": kind.encode(), "txt": f"a noisy {kind}".encode()}
            for ending, content in members.items():
                member = tarfile.TarInfo(f"{number:04}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def test_all_methods_on_shards(place: Place) -> None:  # noqa: F811, the fixture
    folder = place.folder / "shards"
    folder.mkdir()
    shard(draw(place.folder / "test", 2, seed=1), folder / "test.tar")
    shard(draw(place.folder / "train", 4, seed=2), folder / "train.tar")
    arguments = ("benchmark=webdataset:shards", "memory=webdataset:shards", "method.rar-list.ranker=stand-in")
    place.trireme("run", "method=zero_shot,knn,reco-start,short,rar-list", *arguments)
    records = {record.method: record for record in find_runs(place.folder / "out", strict=True)}
    assert set(records) == set(METHODS)
    for method, record in records.items():
        assert record.data["samples"] == {"asked": 12, "done": 12, "failed": 0, "failures": []}
        assert read_predictions(record)["sample_id"].to_pylist() == [f"test/{number:04}" for number in range(12)]
        if method != "zero_shot":
            assert record.data["memory"]["size"] == 24
    retrieved = read_predictions(records["knn"])["retrieved"].to_pylist()
    assert {one for row in retrieved for one in row} <= {f"memory/{number:04}" for number in range(24)}


def halve(path: Path, picture: bytes) -> None:
    """Zeros for the second half of a picture inside another file: the container stays whole, the picture does not."""
    half = len(picture) // 2
    content = path.read_bytes()
    assert content.count(picture) == 1
    path.write_bytes(content.replace(picture, picture[:half] + bytes(len(picture) - half)))


@pytest.mark.parametrize("form", ["webdataset", "hf", "folder"])
def test_damaged_pictures_are_counted_and_too_many_stop_the_run(
    tmp_path: Path, pictures: Path, model: Path, form: str
) -> None:
    """1 of 120 is under 1 %, 2 are above: inside a shard, inside an Arrow file, and as a link that leads nowhere."""
    where = Place(tmp_path)
    files = sorted((pictures / "test").rglob("*.png"))
    damaged = {number: files[number].read_bytes() for number in (7, 50)}
    if form == "webdataset":
        data = shard(pictures / "test", tmp_path / "all.tar")
        ids = {number: f"{number:04}" for number in damaged}
    elif form == "hf":
        datasets = pytest.importorskip("datasets")
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=sorted(CLASSES))})
        rows = {"image": [str(file) for file in files], "label": [file.parent.name for file in files]}
        datasets.Dataset.from_dict(rows, features).save_to_disk(tmp_path / "set")
        data, [arrow] = tmp_path / "set", (tmp_path / "set").glob("*.arrow")
        ids = {number: f"{number:08}" for number in damaged}
    else:
        data = pictures / "test"
        ids = {number: files[number].relative_to(data).as_posix() for number in damaged}

    def spoil(number: int) -> None:
        if form == "folder":
            files[number].unlink()
            files[number].symlink_to(files[number].with_suffix(".gone"))
        else:
            halve(data if form == "webdataset" else arrow, damaged[number])

    encoder = ("encoder=open_clip", f"encoder.model=local-dir:{model}")
    arguments = ("run", "method=knn", f"benchmark={form}:{data}", f"memory=folder:{pictures / 'train'}", *encoder)
    spoil(7)
    done = where.trireme(*arguments)
    assert f"sample {ids[7]}: " in done.stderr
    [record] = where.records().values()
    samples: Any = record["samples"]
    assert (samples["asked"], samples["done"], samples["failed"]) == (120, 119, 1)
    assert [one["id"] for one in samples["failures"]] == [ids[7]]
    scores: Any = record["scores"]
    assert {score["n"] for score in scores} == {119}
    spoil(50)
    stopped = where.trireme(*arguments, code=1)
    assert "2 of 120 test pictures" in stopped.stderr
    assert "more than 1 %" in stopped.stderr
    assert json.dumps(record) == json.dumps(next(iter(where.records().values()))), "no second record, none changed"
