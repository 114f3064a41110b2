"""A user's own folders, CSV and Parquet files, with real PNG files."""

from __future__ import annotations

import csv
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from trireme.benchmarks.base import RowBenchmark, RowPairs
from trireme.benchmarks.custom import open_benchmark, open_pairs
from trireme.benchmarks.metrics import metric_code
from trireme.errors import DataError, UsageError
from trireme.files import fingerprint
from trireme.types import Benchmark, ImageRef, Pair, PairSet, Region, Role, Sample

pytestmark = pytest.mark.usefixtures("own_home")


def picture(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade, shade, 200)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pets"
    for number, name in enumerate(("red fox/b.png", "red fox/deep/a.JPG", "owl/1.png")):
        picture(root / name, number)
    (root / "owl" / "notes.txt").write_text("no picture")
    (root / ".hidden").mkdir()
    return root


def table(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
        return path
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_folder_per_class(folder: Path) -> None:
    bench = open_benchmark(f"folder:{folder}")
    assert isinstance(bench, Benchmark)
    assert bench.class_ids == bench.class_names == ("owl", "red fox")
    assert bench.class_groups == ("", "")
    assert bench.subsets == {"all": None}
    assert bench.validation is None
    samples = {sample.id: sample for sample in bench.samples()}
    assert {name: sample.label for name, sample in samples.items()} == {
        "owl/1.png": 0,
        "red fox/b.png": 1,
        "red fox/deep/a.JPG": 1,
    }
    first = samples["owl/1.png"].image
    assert first.path == str(folder / "owl" / "1.png")
    assert first.sha256 == hashlib.sha256((folder / "owl" / "1.png").read_bytes()).hexdigest()
    with pytest.raises(UsageError, match="no validation samples"):
        bench.samples(Role.VALIDATION)


def test_folder_as_memory(folder: Path) -> None:
    pairs = open_pairs(f"folder:{folder}")
    assert isinstance(pairs, PairSet)
    found = {pair.id: pair for pair in pairs.pairs()}
    assert found["owl/1.png"].caption == "a photo of owl"
    assert found["owl/1.png"].label == "owl"
    assert len(found) == 3


def test_folder_with_splits(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for number, split in enumerate(("train", "val", "test")):
        picture(root / split / "fox" / "1.png", number)
        picture(root / split / "owl" / "1.png", 10 + number)
    name = f"folder:{root}"
    bench = open_benchmark(name)
    assert [sample.id for sample in bench.samples()] == ["test/fox/1.png", "test/owl/1.png"]
    assert [sample.id for sample in bench.samples(Role.VALIDATION)] == ["val/fox/1.png", "val/owl/1.png"]
    assert bench.validation == name
    assert [pair.id for pair in open_pairs(name).pairs()] == ["train/fox/1.png", "train/owl/1.png"]


def test_a_class_called_test_is_a_class(tmp_path: Path) -> None:
    picture(tmp_path / "data" / "test" / "1.png")
    picture(tmp_path / "data" / "train" / "1.png", 1)  # locomotives
    assert open_benchmark(f"folder:{tmp_path / 'data'}").class_ids == ("test", "train")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables(tmp_path: Path, kind: str) -> None:
    data = tmp_path / "data"
    picture(data / "img" / "a.png", 1)
    absolute = picture(tmp_path / "elsewhere" / "b.png", 2)
    rows = [
        {"image": "img/a.png", "label": "fox", "caption": "a sly fox", "id": "one", "split": "memory"},
        {"image": str(absolute), "label": "owl", "caption": "", "id": "two", "split": "memory"},
        {"image": "img/a.png", "label": "fox", "caption": "", "id": "three", "split": "test"},
        {"image": "img/gone.png", "label": "owl", "caption": "", "id": "four", "split": "test"},
        {"image": str(absolute), "label": "owl", "caption": "", "id": "five", "split": "Val"},
    ]
    name = f"{kind}:{table(data / f'set.{kind}', rows)}"
    pairs = open_pairs(name).pairs()
    assert [(pair.id, pair.caption) for pair in pairs] == [("one", "a sly fox"), ("two", "a photo of owl")]
    assert [Path(pair.image.path) for pair in pairs] == [data / "img" / "a.png", absolute]
    bench = open_benchmark(name, templates=["a sketch of {}"])
    assert bench.templates == ("a sketch of {}",)
    assert [(one.id, one.label) for one in bench.samples()] == [("four", 1), ("three", 0)], "in the order of ids"
    assert bench.samples()[0].image.sha256 is None  # a missing picture is counted by the run, not here
    assert [one.id for one in bench.samples(Role.VALIDATION)] == ["five"]


def test_column_names_can_be_given(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    path = table(tmp_path / "x.csv", [{"file": "a.png", "species": "fox"}])
    assert open_benchmark(f"csv:{path}", image="file", label="species").class_names == ("fox",)
    with pytest.raises(UsageError, match="did you mean 'label'"):
        open_benchmark(f"csv:{path}", labl="species")


def test_spreadsheet_csv_with_a_byte_order_mark(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "x.csv").write_text("\ufeffimage,label\na.png,füchse\n", encoding="utf-8")
    assert open_benchmark(f"csv:{tmp_path / 'x.csv'}").class_names == ("füchse",)


def test_wrong_files_say_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"image,label\n\xff\xfe,fox\n")
    with pytest.raises(DataError, match="not a CSV file in UTF-8"):
        open_benchmark(f"csv:{tmp_path / 'x.csv'}")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 but cut")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        open_benchmark(f"parquet:{tmp_path / 'x.parquet'}")
    with pytest.raises(DataError, match="there is no file"):
        open_benchmark(f"csv:{tmp_path / 'y.csv'}")
    with pytest.raises(DataError, match="there is no folder"):
        open_benchmark(f"folder:{tmp_path / 'y'}")
    with pytest.raises(UsageError, match="kind of data"):
        open_benchmark("fodler:somewhere")
    path = table(tmp_path / "z.parquet", [{"image": b"bytes of a picture", "label": "fox"}])
    with pytest.raises(DataError, match="holds bytes in 'image'"):
        open_benchmark(f"parquet:{path}")


def test_empty_folders_say_what_is_wrong(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        open_benchmark(f"folder:{root}")
    picture(root / "loose.png")
    with pytest.raises(DataError, match="no class folders"):
        open_benchmark(f"folder:{root}")
    picture(root / "fox" / "1.png")
    (root / "owl").mkdir()
    with pytest.raises(DataError, match=r"class folder .*owl holds no pictures"):
        open_benchmark(f"folder:{root}")


def test_memory_needs_rows_for_it(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    path = table(tmp_path / "x.csv", [{"image": "a.png", "label": "fox", "split": "test"}])
    with pytest.raises(DataError, match="no pictures for a memory"):
        open_pairs(f"csv:{path}")


@pytest.mark.parametrize("templates", ["a photo of {}", [], ["a photo"], ["{} and {}"]])
def test_wrong_templates(folder: Path, templates: object) -> None:
    with pytest.raises(UsageError, match="templates must be"):
        open_benchmark(f"folder:{folder}", templates=templates)


def test_fingerprints_follow_the_content(folder: Path) -> None:
    name = f"folder:{folder}"
    before = open_benchmark(name).fingerprint(), open_pairs(name).fingerprint
    assert (open_benchmark(name).fingerprint(), open_pairs(name).fingerprint) == before
    picture(folder / "owl" / "1.png", 99)
    after = open_benchmark(name).fingerprint(), open_pairs(name).fingerprint
    assert after[0] != before[0]
    assert after[1] != before[1]
    assert open_benchmark(name, templates=["{}"]).fingerprint() != after[0]


def prints(name: str) -> tuple[str, str]:
    """Fingerprints of the data as a benchmark and as a pair set."""
    return open_benchmark(name).fingerprint(), open_pairs(name).fingerprint


def test_a_folder_is_the_same_wherever_it_lies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = prints(f"folder:{folder}")
    monkeypatch.chdir(folder.parent)
    assert prints(f"folder:{folder.name}") == prints(f"folder:./{folder.name}/../{folder.name}") == before
    (folder.parent / "link").symlink_to(folder)
    assert prints(f"folder:{folder.parent / 'link'}") == before
    moved = folder.rename(folder.parent / "elsewhere")
    assert prints(f"folder:{moved}") == before


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("ids", [False, True])
def test_the_order_of_rows_changes_nothing(tmp_path: Path, kind: str, ids: bool) -> None:
    rows = [{"image": f"{name}.png", "label": name[:3]} for name in ("owl2", "fox1", "cat", "owl1", "fox2")]
    if ids:
        rows = [{**row, "id": f"{9 - number}"} for number, row in enumerate(rows)]
    for shade, row in enumerate(rows):
        picture(tmp_path / row["image"], shade)
    names = [f"{kind}:{table(tmp_path / f'{place}.{kind}', part)}" for place, part in (("a", rows), ("b", rows[::-1]))]
    assert prints(names[0]) == prints(names[1])
    one, other = (open_benchmark(name) for name in names)
    assert one.class_ids == other.class_ids == ("cat", "fox", "owl")
    assert one.samples() == other.samples()
    assert [pair.id for pair in open_pairs(names[0]).pairs()] == [pair.id for pair in open_pairs(names[1]).pairs()]


def test_absolute_and_relative_paths_are_the_same_data(tmp_path: Path) -> None:
    """Through a link to the folder, too. A picture outside of it keeps the path by which it is listed."""
    data, outside = tmp_path / "data", picture(tmp_path / "outside.png", 9)
    for number in range(3):
        picture(data / "img" / f"{number}.png", number)
    (tmp_path / "link").symlink_to(data)
    starts = {"plain": "img", "dotted": "./img/../img", "whole": f"{data / 'img'}", "linked": f"{tmp_path}/link/img"}
    found = {}
    for name, start in starts.items():
        rows = [{"image": f"{start}/{number}.png", "label": f"l{number}"} for number in range(3)]
        found[name] = prints(f"csv:{table(data / f'{name}.csv', rows)}")
    assert len(set(found.values())) == 1
    moved = data.rename(tmp_path / "moved")
    assert prints(f"csv:{moved / 'plain.csv'}") == found["plain"]
    [sample] = open_benchmark(f"csv:{table(moved / 'x.csv', [{'image': str(outside), 'label': 'l'}])}").samples()
    assert (sample.id, sample.image.path) == (str(outside), str(outside))


def test_one_picture_listed_by_two_paths_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    rows = [{"image": path, "label": "fox"} for path in ("a.png", str(tmp_path / "a.png"))]
    with pytest.raises(DataError, match=r"two rows have the id 'a\.png'"):
        open_benchmark(f"csv:{table(tmp_path / 'x.csv', rows)}")


def test_a_folder_that_is_only_partly_split_is_refused(tmp_path: Path) -> None:
    """`train/` and `test/` with class folders beside another folder: read as classes, the labels would be wrong."""
    root = tmp_path / "data"
    picture(root / "train" / "fox" / "1.png")
    picture(root / "test" / "fox" / "1.png", 1)
    picture(root / "meta" / "1.png", 2)
    with pytest.raises(DataError, match="also 'meta'"):
        open_benchmark(f"folder:{root}")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_boxes(tmp_path: Path, kind: str) -> None:
    """Two boxes of one picture, and a row without a box: the whole picture."""
    digest = hashlib.sha256(picture(tmp_path / "a.png").read_bytes()).hexdigest()
    rows = [
        {"image": "a.png", "label": "fox", "x": 1.0, "y": 0.0, "width": 4.5, "height": 2.0},
        {"image": "a.png", "label": "owl", "x": 3.0, "y": 3.0, "width": 2.0, "height": 2.0},
        {"image": "a.png", "label": "owl", "x": None, "y": None, "width": None, "height": None},
    ]
    name = f"{kind}:{table(tmp_path / f'set.{kind}', rows)}"
    path = str(tmp_path / "a.png")
    samples = open_benchmark(name).samples()
    assert samples == [
        Sample("a.png", ImageRef(path, digest), 1),
        Sample("a.png#xywh=1,0,4.5,2", ImageRef(path, digest, Region((1, 0, 4.5, 2))), 0),
        Sample("a.png#xywh=3,3,2,2", ImageRef(path, digest, Region((3, 3, 2, 2))), 1),
    ]
    assert [pair.image for pair in open_pairs(name).pairs()] == [sample.image for sample in samples]
    renamed = [{("left" if key == "x" else key): value for key, value in row.items()} for row in rows]
    other = f"{kind}:{table(tmp_path / f'renamed.{kind}', renamed)}"
    assert open_benchmark(other, x="left").samples() == samples
    with pytest.raises(DataError, match="but not 'x'"):
        open_benchmark(other)


def test_fingerprints_follow_the_boxes(tmp_path: Path) -> None:
    """Whole numbers and fractions write the same box; ids are given, so that only the box can differ."""
    picture(tmp_path / "a.png")
    found = []
    for number, box in enumerate(("1,2,3,4", "1.0,2.0,3.0,4.0", "1,2,3,5", ",,,")):
        (tmp_path / f"{number}.csv").write_text(f"image,label,id,x,y,width,height\na.png,fox,one,{box}\n")
        found.append(prints(f"csv:{tmp_path / f'{number}.csv'}"))
    (tmp_path / "whole.csv").write_text("image,label,id\na.png,fox,one\n")
    assert found[0] == found[1]
    assert found[3] == prints(f"csv:{tmp_path / 'whole.csv'}")
    for side in (0, 1):
        assert len({found[i][side] for i in (0, 2, 3)}) == 3


def test_fingerprints_of_whole_pictures_are_those_before_regions() -> None:
    """The expected values are computed as the code did then: picture hashes alone stand for pictures."""
    ref = ImageRef("/nowhere/a.png", "ab" * 32)
    pairs = RowPairs(
        "set", (Pair("one", ref, "a fox", "fox"), Pair("two", ImageRef("/nowhere/b.png"), "an owl", "owl"))
    )
    assert pairs.fingerprint == fingerprint([["one", "ab" * 32, "a fox", "fox"], ["two", None, "an owl", "owl"]])
    bench = RowBenchmark(
        name="set",
        version="user",
        class_ids=("fox",),
        class_names=("fox",),
        class_groups=("",),
        subsets={"all": None},
        templates=("{}",),
        rows={Role.TEST: [Sample("one", ref, 0)]},
    )
    content = {
        "version": "user",
        "task": "zero_shot",
        "classes": [["fox", "fox", ""]],
        "subsets": {"all": None},
        "samples": [["one", "ab" * 32, 0]],
        "templates": ["{}"],
        "metrics": [[name, metric_code(name)] for name in ("top1", "top5")],
    }
    assert bench.fingerprint() == fingerprint(content)


def test_a_link_that_leads_nowhere_stays_a_sample(folder: Path) -> None:
    """A run counts it as failed; left out, the set would be another one without a word."""
    (folder / "owl" / "2.png").symlink_to(folder / "gone.png")
    (folder / "owl" / "3.png").symlink_to(folder / "owl" / "3.png")
    samples = {sample.id: sample for sample in open_benchmark(f"folder:{folder}").samples()}
    assert samples["owl/2.png"].image.sha256 is None
    assert samples["owl/3.png"].image.sha256 is None
    assert len(samples) == 5


@pytest.mark.parametrize("scheme", ["folder", "csv", "parquet", "webdataset"])
def test_a_place_whose_links_go_in_a_circle_is_named(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(DataError, match=f"{tmp_path}/a"):
        open_benchmark(f"{scheme}:{tmp_path}/a")


def test_a_class_folder_that_may_not_be_listed_is_named() -> None:
    """Seen as a user without privileges; its pictures would else be missing without a word."""
    before = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        picture(place / "data" / "fox" / "1.png")
        picture(place / "data" / "owl" / "closed" / "1.png", 1)
        picture(place / "data" / "owl" / "1.png", 2)
        for open_folder in (place, place / "data", place / "data" / "fox", place / "data" / "owl"):
            open_folder.chmod(0o755)
        (place / "data" / "owl" / "closed").chmod(0)
        if before == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(DataError, match=r"cannot list the folder .*owl/closed: Permission denied"):
                open_benchmark(f"folder:{place / 'data'}")
        finally:
            os.seteuid(before)
            (place / "data" / "owl" / "closed").chmod(0o755)
