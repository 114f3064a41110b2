"""Sets of the library `datasets`, made and saved here by the library itself."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from trireme.benchmarks.custom import open_benchmark, open_pairs
from trireme.errors import DataError, UsageError
from trireme.parts import part_of, read_bytes
from trireme.types import Role

datasets = pytest.importorskip("datasets", reason="the extra `hub` is not installed")

pytestmark = pytest.mark.usefixtures("own_home")

NAMES = ["red fox", "owl", "crane"]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    datasets.disable_progress_bars()


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, 200)).save(file, "PNG")
    return file.getvalue()


def made(start: int, labels: list[int], **more: list[Any]) -> Any:
    """A `Dataset` with pictures of the shades from `start` on."""
    pictures = [{"bytes": png(start + number), "path": f"{start + number}.png"} for number in range(len(labels))]
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    features |= {name: datasets.Value("string") for name in more}
    return datasets.Dataset.from_dict({"image": pictures, "label": labels, **more}, datasets.Features(features))


def test_a_saved_set(tmp_path: Path) -> None:
    made(10, [2, 0, 0], caption=["a crane", "", "a sly fox"]).save_to_disk(tmp_path / "set")
    name = f"hf:{tmp_path / 'set'}"
    bench = open_benchmark(name)
    assert bench.class_names == tuple(NAMES), "all names of the feature, in its order"
    assert [(sample.id, sample.label) for sample in bench.samples()] == [
        ("00000000", 2),
        ("00000001", 0),
        ("00000002", 0),
    ]
    for number, sample in enumerate(bench.samples()):
        assert read_bytes(sample.image.path) == png(10 + number)
        part = part_of(sample.image.path)
        assert part is not None
        assert (Path(part.file).parent, part.name) == (tmp_path / "set", f"{10 + number}.png")
    assert [(pair.caption, pair.label) for pair in open_pairs(name).pairs()] == [
        ("a crane", "crane"),
        ("a photo of red fox", "red fox"),
        ("a sly fox", "red fox"),
    ]


def test_pictures_of_many_batches_and_files_are_found(tmp_path: Path) -> None:
    """Five Arrow files; rows in several record batches each. Every picture is the library's own."""
    whole = made(0, [number % 3 for number in range(250)], id=[f"n{number:03}" for number in range(250)])
    whole.save_to_disk(tmp_path / "set", num_shards=5)
    samples = open_benchmark(f"hf:{tmp_path / 'set'}").samples()
    assert len({part.file for sample in samples if (part := part_of(sample.image.path))}) == 5
    raw = whole.cast_column("image", datasets.Image(decode=False))
    for row, sample in zip(raw, samples, strict=True):
        assert (sample.id, sample.label) == (row["id"], row["label"])
        assert read_bytes(sample.image.path) == row["image"]["bytes"]


def test_splits_by_their_names(tmp_path: Path) -> None:
    splits = {"train": made(0, [0, 1]), "validation": made(10, [1]), "test": made(20, [2, 2])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "set")
    name = f"hf:{tmp_path / 'set'}"
    bench = open_benchmark(name)
    assert [sample.id for sample in bench.samples()] == ["test/00000000", "test/00000001"]
    assert [sample.id for sample in bench.samples(Role.VALIDATION)] == ["validation/00000000"]
    assert [pair.id for pair in open_pairs(name).pairs()] == ["train/00000000", "train/00000001"]
    assert len(open_benchmark(name, split="train").samples()) == 2
    assert [pair.label for pair in open_pairs(name, split="test").pairs()] == ["crane", "crane"]
    with pytest.raises(UsageError, match=r"unknown split of hf:.*did you mean 'test'"):
        open_benchmark(name, split="tst")


def test_a_split_of_unknown_use_is_named(tmp_path: Path) -> None:
    datasets.DatasetDict({"test": made(0, [0]), "unlabeled": made(9, [1])}).save_to_disk(tmp_path / "set")
    with pytest.raises(DataError, match="nothing tells what 'unlabeled' is for; choose one of them with split=NAME"):
        open_benchmark(f"hf:{tmp_path / 'set'}")
    assert len(open_benchmark(f"hf:{tmp_path / 'set'}", split="unlabeled").samples()) == 1


def test_a_set_without_test_pictures_says_so(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": made(0, [0])}).save_to_disk(tmp_path / "set")
    with pytest.raises(DataError, match="no pictures for a benchmark: all of its rows are in the split"):
        open_benchmark(f"hf:{tmp_path / 'set'}")


def test_withheld_labels_are_no_class(tmp_path: Path) -> None:
    made(0, [0, -1]).save_to_disk(tmp_path / "set")
    with pytest.raises(DataError, match="'00000001' has no class"):
        open_benchmark(f"hf:{tmp_path / 'set'}")


def test_columns_can_be_given(tmp_path: Path) -> None:
    coarse = datasets.ClassLabel(names=["mammal", "bird"])
    both = made(0, [0, 1]).rename_columns({"image": "photo", "label": "fine"})
    both.add_column("coarse", [0, 1]).cast_column("coarse", coarse).save_to_disk(tmp_path / "set")
    name = f"hf:{tmp_path / 'set'}"
    with pytest.raises(UsageError, match="has the ClassLabel columns 'fine', 'coarse'; say which: label=NAME"):
        open_benchmark(name)
    assert open_benchmark(name, label="coarse").class_names == ("mammal", "bird")
    with pytest.raises(UsageError, match="did you mean 'coarse'"):
        open_benchmark(name, label="corse")
    with pytest.raises(UsageError, match="did you mean 'label'"):
        open_benchmark(name, lable="coarse")


def test_classes_as_text_are_classes_and_numbers_are_not(tmp_path: Path) -> None:
    plain = made(0, [0, 1]).remove_columns("label")
    plain.add_column("label", ["owl", "fox"]).save_to_disk(tmp_path / "text")
    assert open_benchmark(f"hf:{tmp_path / 'text'}").class_names == ("fox", "owl")
    plain.add_column("label", [3, 4]).save_to_disk(tmp_path / "numbers")
    with pytest.raises(DataError, match="column 'label' holds int64, and nothing names the classes"):
        open_benchmark(f"hf:{tmp_path / 'numbers'}")


def test_captions_beside_classes_as_text_add_no_class(tmp_path: Path) -> None:
    """Training pictures with captions alone: the classes are those of the test pictures, and none without a name."""
    train, test = (made(start, [0, 1]).remove_columns("label") for start in (0, 10))
    text = datasets.Value("string")
    train = train.add_column("caption", ["a fox", "an owl"]).add_column("label", ["", None]).cast_column("label", text)
    test = test.add_column("caption", ["", ""]).add_column("label", ["owl", "fox"])
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(tmp_path / "set")
    name = f"hf:{tmp_path / 'set'}"
    bench = open_benchmark(name)
    assert bench.class_ids == bench.class_names == ("fox", "owl")
    assert [sample.label for sample in bench.samples()] == [1, 0]
    assert [(pair.caption, pair.label) for pair in open_pairs(name).pairs()] == [("a fox", ""), ("an owl", "")]


def test_a_set_without_pictures_is_named(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "set")
    with pytest.raises(DataError, match=r"no column of pictures \(a feature `Image`\); it has: 'text'"):
        open_benchmark(f"hf:{tmp_path / 'set'}")


def test_a_row_without_a_picture_is_named(tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    rows = {"image": [{"bytes": png(1), "path": None}, None], "label": [0, 1]}
    datasets.Dataset.from_dict(rows, features).save_to_disk(tmp_path / "set")
    with pytest.raises(DataError, match="row 1 has no picture"):
        open_benchmark(f"hf:{tmp_path / 'set'}")


def test_a_cut_off_arrow_file_is_refused(tmp_path: Path) -> None:
    made(0, [0, 1, 2]).save_to_disk(tmp_path / "set")
    [file] = (tmp_path / "set").glob("*.arrow")
    file.write_bytes(file.read_bytes()[:-600])
    with pytest.raises(DataError, match=r"hf:.*set cannot be opened|is not a readable Arrow file|shows 3 rows"):
        open_benchmark(f"hf:{tmp_path / 'set'}")


def test_what_the_library_prepares_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clone of a hub set: Parquet files by split, prepared into the library's cache as a hub id would be."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "clone" / "data").mkdir(parents=True)
    for start, split in ((0, "train"), (10, "test")):
        made(start, [0, 1]).to_parquet(tmp_path / "clone" / "data" / f"{split}-00000-of-00001.parquet")
    name = f"hf:{tmp_path / 'clone'}"
    bench = open_benchmark(name)
    assert bench.class_names == tuple(NAMES)
    assert [read_bytes(sample.image.path) for sample in bench.samples()] == [png(10), png(11)]
    assert [read_bytes(pair.image.path) for pair in open_pairs(name).pairs()] == [png(0), png(1)]


def test_only_builders_of_picture_sets_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone" / "test.csv").write_text("image,label\na.png,fox\n")
    with pytest.raises(DataError, match="is made of csv files; read are arrow, imagefolder, parquet"):
        open_benchmark(f"hf:{tmp_path / 'clone'}")


def test_the_hub_needs_a_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="there is no folder user/set; a set of the hub needs a revision"):
        open_benchmark("hf:user/set")
    with pytest.raises(DataError, match="hf:user/set@v1 cannot be opened: "):
        open_benchmark("hf:user/set@v1")


def test_without_the_library_the_error_names_the_install_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"needs the package `datasets`: pip install 'trireme-bench\[hub\]'"):
        open_benchmark(f"hf:{tmp_path}")
