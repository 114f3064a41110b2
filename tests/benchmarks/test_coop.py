"""CoOp's sets and RAF-DB from their official layouts. Expected values are what the writers wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.layouts import draw
from tests.benchmarks.layouts_few_shot import FEW_SHOT, Made, split_file
from trireme.benchmarks.base import RowBenchmark
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.benchmarks.datasets.places import examine
from trireme.benchmarks.datasets.prompts import prompts
from trireme.benchmarks.datasets.spec import TEST, TRAIN, VALIDATION
from trireme.errors import DataError
from trireme.registry import BENCHMARKS, PAIR_SETS, open_benchmark, open_pairs
from trireme.types import Role

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.mark.parametrize("name", FEW_SHOT)
def test_a_set_in_its_official_layout(root: Path, name: str) -> None:
    made = FEW_SHOT[name](root)
    with PUBLISHED.replaced(made.spec(name)):
        bench, pairs = open_benchmark(name), open_pairs(name)
    assert isinstance(bench, RowBenchmark)
    assert bench.name == pairs.name == name
    assert (bench.class_ids, bench.class_names) == (made.class_ids, made.names)
    assert [one.id for one in bench.samples()] == list(made.ids[TEST])
    assert [pair.id for pair in pairs.pairs()] == list(made.ids[TRAIN]), "in the order of the list"
    for role, split in ((Role.TEST, TEST), (Role.VALIDATION, VALIDATION)):
        if split in made.ids:
            assert [(one.id, one.label) for one in bench.samples(role)] == [
                (picture, made.labels[picture][0]) for picture in made.ids[split]
            ]
    assert bench.validation == (name if VALIDATION in made.ids else None)
    assert [pair.label for pair in pairs.pairs()] == [made.class_ids[made.labels[p][0]] for p in made.ids[TRAIN]]
    assert pairs.pairs()[0].caption == bench.templates[0].format(made.names[made.labels[made.ids[TRAIN][0]][0]])
    assert len(bench.templates) == 1
    assert all(one.image.sha256 for one in (*bench.samples(), *pairs.pairs()))
    assert bench.metrics == ("top1", "top5")


def test_every_set_is_registered_as_benchmark_and_as_memory() -> None:
    ours = {name for name in PUBLISHED.specs() if name.startswith("coop/")} | {"rafdb"}
    assert ours == set(FEW_SHOT)
    assert ours <= {*BENCHMARKS.names()} & {*PAIR_SETS.names()}


def test_prompts_are_coops() -> None:
    """CUSTOM_TEMPLATES of trainers/zsclip.py in KaiyangZhou/CoOp @ff61507, read there."""
    assert prompts(PUBLISHED["coop/dtd"].templates) == ("{} texture.",)
    assert prompts(PUBLISHED["coop/ucf101"].templates) == ("a photo of a person doing {}.",)
    assert prompts(PUBLISHED["coop/food101"].templates) == ("a photo of {}, a type of food.",)


Change = Callable[[dict[str, Any]], object]


def _drop_class(split: dict[str, Any]) -> None:
    for part in split:
        split[part] = [row for row in split[part] if row[1] != 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda split: split.pop("val"), "has test, train; a split file has train, val, test"),
        (lambda split: split["test"].clear(), "'test' lists no pictures"),
        (
            lambda split: split["train"].append(["a.jpg", 0]),
            r"entry 12 of 'train' is \[\"a.jpg\", 0\]; expected \[path",
        ),
        (lambda split: split["train"][3].__setitem__(1, "2"), r"entry 3 of 'train' is .* \[text, whole number, text\]"),
        (
            lambda split: split["train"][3].__setitem__(1, True),
            r"entry 3 of 'train' is .* \[text, whole number, text\]",
        ),
        (lambda split: split["val"][0].__setitem__(0, "../../x.jpg"), r"entry 0 of 'val': '\.\./\.\./x\.jpg' leaves"),
        (lambda split: split["val"][0].__setitem__(0, "/etc/x.jpg"), r"entry 0 of 'val': '/etc/x\.jpg' leaves"),
        (lambda split: split["test"][1].__setitem__(1, 7), "label"),
        (
            lambda split: split["test"].append(["new/a.jpg", 9, "new"]),
            "4 classes have labels from 0 to 3, but none has 3",
        ),
        (lambda split: split["test"].append(["new/a.jpg", -1, "new"]), "but none has 3 and 'new' has -1"),
        (_drop_class, "2 classes have labels from 0 to 1, but none has 1"),
        (lambda split: split["test"].append(split["train"][0]), "of 'test' is listed in 'train' too"),
        (lambda split: split["test"].append(split["test"][0]), "of 'test' is listed twice"),
        (
            lambda split: split["test"][5].__setitem__(2, "stripes"),
            r"label \d is '.*', and 'stripes' for '.*' in 'test'",
        ),
        (lambda split: split["test"].pop(), "11 test pictures, the published set has 12"),
    ],
)
def test_a_split_file_that_contradicts_itself_is_refused(root: Path, change: Change, message: str) -> None:
    made = FEW_SHOT["coop/dtd"](root)
    path = split_file(root, "dtd")
    split = json.loads(path.read_text())
    change(split)
    path.write_text(json.dumps(split))
    with PUBLISHED.replaced(made.spec("coop/dtd")), pytest.raises(DataError, match=message):
        open_benchmark("coop/dtd")


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not JSON"), ("[1]", "has list; a split file has"), ("{}", "has nothing; a split file has")],
)
def test_what_is_no_split_file_is_refused(root: Path, content: str, message: str) -> None:
    made = FEW_SHOT["coop/dtd"](root)
    split_file(root, "dtd").write_text(content)
    with PUBLISHED.replaced(made.spec("coop/dtd")), pytest.raises(DataError, match=message):
        open_benchmark("coop/dtd")


def test_two_classes_of_one_name_are_refused(root: Path) -> None:
    made = FEW_SHOT["coop/dtd"](root)
    path = split_file(root, "dtd")
    path.write_text(path.read_text().replace('"blotchy"]', '"banded"]'))
    with PUBLISHED.replaced(made.spec("coop/dtd")), pytest.raises(DataError, match="two classes have the id 'banded'"):
        open_benchmark("coop/dtd")


def test_a_missing_split_file_is_not_made(root: Path) -> None:
    made = FEW_SHOT["coop/dtd"](root)
    split_file(root, "dtd").unlink()
    with PUBLISHED.replaced(made.spec("coop/dtd")):
        assert examine(PUBLISHED["coop/dtd"]).state == "wrong"
        with pytest.raises(DataError, match=r"lacks split_zhou_DescribableTextures\.json"):
            open_benchmark("coop/dtd")
    assert not split_file(root, "dtd").exists()


def test_a_half_extracted_archive_is_refused(root: Path) -> None:
    made = FEW_SHOT["coop/dtd"](root)
    (root / "dtd" / "images" / made.ids[TEST][0]).unlink()
    with (
        PUBLISHED.replaced(made.spec("coop/dtd")),
        pytest.raises(DataError, match="1 of 12 listed pictures are not there, more than 1 %"),
    ):
        open_benchmark("coop/dtd")


def test_a_real_number_of_pictures_is_asked_for(root: Path) -> None:
    """The published split of DTD has 47 classes; the small one is not taken for it."""
    FEW_SHOT["coop/dtd"](root)
    with pytest.raises(DataError, match="3 classes, the published set has 47"):
        open_benchmark("coop/dtd")


def test_imagenet_folders_without_a_name_are_refused(root: Path) -> None:
    made = FEW_SHOT["coop/imagenet"](root)
    draw(root / "imagenet" / "images" / "val" / "n99999999" / "a.JPEG", 0, 0)
    with (
        PUBLISHED.replaced(made.spec("coop/imagenet")),
        pytest.raises(DataError, match=r"classnames\.txt has no name for the folder .*n99999999"),
    ):
        open_benchmark("coop/imagenet")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train_00001.jpg 8", "'train_00001.jpg' has the label 8; basic emotions are 1 to 7"),
        ("train_00001.jpg happy", "'happy' should be a whole number"),
        ("valid_00001.jpg 1", "'valid_00001.jpg' begins with neither train_ nor test_"),
        ("train_00001.jpg", "has 1 columns, expected 2"),
    ],
)
def test_wrong_lines_of_rafdb_are_refused(root: Path, line: str, message: str) -> None:
    made: Made = FEW_SHOT["rafdb"](root)
    path = root / "rafdb" / "EmoLabel" / "list_patition_label.txt"
    path.write_text(path.read_text() + line + "\n")
    with PUBLISHED.replaced(made.spec("rafdb")), pytest.raises(DataError, match=message):
        open_benchmark("rafdb")
