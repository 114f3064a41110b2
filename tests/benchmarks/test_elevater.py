"""ELEVATER's sets from the files that its downloader leaves. Expected values are what the writers wrote."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.layouts_few_shot import ELEVATER, Made, picture_bytes
from trireme.benchmarks.base import RowBenchmark
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.benchmarks.datasets.elevater_files import entries
from trireme.benchmarks.datasets.places import examine
from trireme.benchmarks.datasets.spec import TEST, TRAIN, VALIDATION
from trireme.benchmarks.set_benchmark import SetRowBenchmark
from trireme.errors import DataError, UsageError
from trireme.hashes import file_hashes
from trireme.parts import read_bytes
from trireme.registry import BENCHMARKS, PAIR_SETS, open_benchmark, open_pairs
from trireme.types import Role, SetBenchmark

pytestmark = pytest.mark.usefixtures("own_home")


def folder_of(root: Path, name: str) -> Path:
    return root / "elevater" / str(entries()[name.removeprefix("elevater/")]["folder"])


@pytest.mark.parametrize("name", ELEVATER)
def test_a_set_in_its_official_layout(root: Path, name: str) -> None:
    made = ELEVATER[name](root)
    with PUBLISHED.replaced(made.spec(name)):
        bench, pairs = open_benchmark(name), open_pairs(name)
        assert examine(PUBLISHED[name]).state == "present"
    assert isinstance(bench, RowBenchmark)
    assert bench.name == pairs.name == name
    assert bench.class_names == bench.class_ids == made.names
    several = entries()[name.removeprefix("elevater/")]["several_labels"]
    for role, split in ((Role.TEST, TEST), (Role.VALIDATION, VALIDATION)):
        if split in made.ids and not (several and split == VALIDATION):
            assert [(one.id, one.label) for one in bench.samples(role)] == [
                (picture, -1 if several else made.labels[picture][0]) for picture in made.ids[split]
            ]
    assert bench.validation == (name if VALIDATION in made.ids and not several else None)
    assert [(pair.id, pair.label) for pair in pairs.pairs()] == [
        (f"{picture}#{made.names[label]}" if several else picture, made.names[label])
        for picture in made.ids[TRAIN]
        for label in made.labels[picture]
    ]
    shown = bench.samples()[0]
    content = read_bytes(shown.image.path)  # the bytes that were put in the archive, whatever stands around them
    assert content[:2] == b"\xff\xd8"
    assert zipfile_bytes(root, name, shown.id) == content
    assert file_hashes([shown.image.path]) == [shown.image.sha256]


def zipfile_bytes(root: Path, name: str, picture: str) -> bytes:
    archive, _, member = picture.partition("@")
    with zipfile.ZipFile(folder_of(root, name) / archive) as file:
        return file.read(member)


def test_every_set_is_registered_as_benchmark_and_as_memory() -> None:
    ours = {name for name in PUBLISHED.specs() if name.startswith("elevater/")}
    assert ours == set(ELEVATER)
    assert len(ours) == 20
    assert ours == {name for name in BENCHMARKS.names() if name.startswith("elevater/")}
    assert ours <= {*PAIR_SETS.names()}


def test_numbers_are_those_of_the_toolkits_table() -> None:
    """Classes and test pictures of all sets: the tensor sizes in submission_file_readme.md of the toolkit @00d0af7."""
    published = {
        "caltech101": (102, 6084), "cifar10": (10, 10000), "cifar100": (100, 10000), "country211": (211, 21100),
        "dtd": (47, 1880), "eurosat": (10, 5000), "fer2013": (7, 3589), "aircraft": (100, 3333),
        "food101": (101, 25250), "gtsrb": (43, 12630), "hateful-memes": (2, 500), "kitti-distance": (4, 711),
        "mnist": (10, 10000), "flowers102": (102, 6149), "pets": (37, 3669), "patch-camelyon": (2, 32768),
        "rendered-sst2": (2, 1821), "resisc45": (45, 25200), "cars": (196, 8041), "voc2007": (20, 4952),
    }  # fmt: skip
    specs = {name: PUBLISHED[f"elevater/{name}"] for name in published}
    assert {name: (spec.classes.number, spec.counts[TEST].number) for name, spec in specs.items()} == published
    assert all(spec.counts[TEST].verified for spec in specs.values())


def test_metrics_are_the_toolkits(root: Path) -> None:
    """resources/datasets/*.yaml @00d0af7."""
    main = {name: PUBLISHED[name].metrics[0] for name in ELEVATER}
    odd = {name.removeprefix("elevater/"): metric for name, metric in main.items() if metric != "top1"}
    per_class = dict.fromkeys(("caltech101", "aircraft", "flowers102", "pets"), "mean_per_class")
    assert odd == {**per_class, "voc2007": "map", "hateful-memes": "roc_auc"}


def test_set_metrics_belong_to_the_two_sets_that_have_them(root: Path) -> None:
    for name, metrics in (("elevater/voc2007", ("map", "map_voc")), ("elevater/hateful-memes", ("roc_auc",))):
        made = ELEVATER[name](root)
        with PUBLISHED.replaced(made.spec(name)):
            bench = open_benchmark(name)
        assert isinstance(bench, SetBenchmark)
        assert bench.set_metrics == metrics
        assert isinstance(bench, SetRowBenchmark)
        if name == "elevater/voc2007":
            assert {key: tuple(held) for key, held in bench.label_sets.items()} == {
                picture: made.labels[picture] for picture in made.ids[TEST]
            }


def test_the_same_files_elsewhere_are_the_same_benchmark(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the other sets, without elevater/, as the downloader makes it in a data root of its own."""
    made = ELEVATER["elevater/dtd"](root)
    with PUBLISHED.replaced(made.spec("elevater/dtd")):
        before = open_benchmark("elevater/dtd").fingerprint()
        monkeypatch.setenv("TRIREME_DATA", str(root / "elevater"))
        assert open_benchmark("elevater/dtd").fingerprint() == before


def test_a_set_without_its_training_pictures_is_a_benchmark(root: Path) -> None:
    made = ELEVATER["elevater/dtd"](root)
    (folder_of(root, "elevater/dtd") / "train.txt").unlink()
    with PUBLISHED.replaced(made.spec("elevater/dtd")):
        assert len(open_benchmark("elevater/dtd").samples()) == len(made.ids[TEST])
        with pytest.raises(DataError, match=r"has no training pictures: train\.txt is missing"):
            open_pairs("elevater/dtd")


def extract(folder: Path, archive: str, compress: bool) -> None:
    """The members in a folder of the archive's name; the archive itself goes, or is compressed."""
    path = folder / archive
    with zipfile.ZipFile(path) as file:
        held = {name: file.read(name) for name in file.namelist()}
    path.unlink()
    for name, content in held.items():
        (path.with_suffix("") / name).parent.mkdir(parents=True, exist_ok=True)
        (path.with_suffix("") / name).write_bytes(content)
    if compress:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in held.items():
                file.writestr(name, content)


@pytest.mark.parametrize("compress", [False, True])
def test_an_extracted_archive_is_the_same_benchmark(root: Path, compress: bool) -> None:
    made = ELEVATER["elevater/dtd"](root)
    with PUBLISHED.replaced(made.spec("elevater/dtd")):
        before = open_benchmark("elevater/dtd").fingerprint()
        extract(folder_of(root, "elevater/dtd"), "test.zip", compress)
        after = open_benchmark("elevater/dtd")
    assert after.fingerprint() == before
    assert after.samples()[0].image.path.endswith("dtd_20211007/test/test 0/0.jpg")


def test_a_compressed_archive_is_refused_with_what_to_do(root: Path) -> None:
    made = ELEVATER["elevater/dtd"](root)
    folder = folder_of(root, "elevater/dtd")
    with zipfile.ZipFile(folder / "test.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for picture in made.ids[TEST]:
            file.writestr(picture.partition("@")[2], picture_bytes(0, 0))
    with (
        PUBLISHED.replaced(made.spec("elevater/dtd")),
        pytest.raises(DataError, match=r"test\.zip is compressed.*unzip test\.zip -d test"),
    ):
        open_benchmark("elevater/dtd")


@pytest.mark.parametrize("content", [b"PK\x03\x04 but cut", b"", None])
def test_a_damaged_or_missing_archive_is_named(root: Path, content: bytes | None) -> None:
    made = ELEVATER["elevater/dtd"](root)
    path = folder_of(root, "elevater/dtd") / "test.zip"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    message = r"test\.zip is no whole zip archive" if content is not None else "12 of 12 listed pictures are not there"
    with PUBLISHED.replaced(made.spec("elevater/dtd")), pytest.raises(DataError, match=message):
        open_benchmark("elevater/dtd")


def test_a_member_that_the_archive_lacks_counts_as_lost(root: Path) -> None:
    made = ELEVATER["elevater/dtd"](root)
    folder = folder_of(root, "elevater/dtd")
    with zipfile.ZipFile(folder / "test.zip", "w") as file:
        for picture in made.ids[TEST][1:]:
            file.writestr(picture.partition("@")[2], picture_bytes(0, 0))
    with (
        PUBLISHED.replaced(made.spec("elevater/dtd")),
        pytest.raises(DataError, match=r"1 of 12 listed pictures .*first: test/test 0/0\.jpg"),
    ):
        open_benchmark("elevater/dtd")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("test.zip@../x.jpg 1", r"'test\.zip@\.\./x\.jpg' leaves the folder"),
        ("../test.zip@x.jpg 1", r"'\.\./test\.zip@x\.jpg' leaves the folder"),
        ("/etc/x.jpg 1", r"'/etc/x\.jpg' leaves the folder"),
        ("test.zip@x.jpg 47", r"'test\.zip@x\.jpg' has the label 47; the set has 0 to 46"),
        ("test.zip@x.jpg -1", "has the label -1"),
        ("test.zip@x.jpg one", "'one' should be a whole number"),
        ("test.zip@x.jpg 1,2", r"has the labels \[1, 2\]; expected one label"),
        ("test.zip@x.jpg", "is no picture with its label"),
        ("test.zip@test 0/0.jpg 0", "'test.zip@test 0/0.jpg' is listed twice"),
    ],
)
def test_wrong_lines_of_an_index_are_refused(root: Path, line: str, message: str) -> None:
    made: Made = ELEVATER["elevater/dtd"](root)
    path = folder_of(root, "elevater/dtd") / "test.txt"
    path.write_text(path.read_text() + line + "\n")
    spec = made.spec("elevater/dtd")
    counts = {**spec.counts, TEST: type(spec.classes)(13, True, "the test")}
    with (
        PUBLISHED.replaced(type(spec)(**{**fields_of(spec), "counts": counts})),
        pytest.raises(DataError, match=message),
    ):
        open_benchmark("elevater/dtd")


def fields_of(spec: Any) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.__dataclass_fields__}


def test_a_list_of_labels_of_another_version_is_refused(root: Path) -> None:
    made = ELEVATER["elevater/dtd"](root)
    path = folder_of(root, "elevater/dtd") / "labels.txt"
    path.write_text(path.read_text() + "one more\n")
    with (
        PUBLISHED.replaced(made.spec("elevater/dtd")),
        pytest.raises(DataError, match=r"labels\.txt names 48 classes where the published set has 47"),
    ):
        open_benchmark("elevater/dtd")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda coco: coco["categories"].pop(), "has 3 categories where the published set has 4 classes"),
        (
            lambda coco: coco["annotations"].append({"image_id": 1, "category_id": 2}),
            r"has the labels .*; expected one",
        ),
        (lambda coco: coco["annotations"].pop(), r"has the labels \[\]; expected one label"),
        (lambda coco: coco["annotations"].append({"image_id": 99, "category_id": 1}), "has no 99"),
        (lambda coco: coco["images"].append({**coco["images"][0], "file_name": "x"}), "two images with one id"),
        (lambda coco: coco.pop("images"), "has no 'images'"),
        (lambda coco: coco["images"][0].__setitem__("file_name", "../x.jpg"), r"x\.jpg' leaves the folder"),
    ],
)
def test_wrong_coco_files_are_refused(root: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    made = ELEVATER["elevater/kitti-distance"](root)
    path = folder_of(root, "elevater/kitti-distance") / "test_meta.json"
    coco = json.loads(path.read_text())
    last = coco["categories"][0]["id"]  # the list is backwards: the category that nothing is annotated with goes
    coco["categories"].sort(key=lambda one: one["id"] == 3)
    assert last == 4
    change(coco)
    path.write_text(json.dumps(coco))
    with PUBLISHED.replaced(made.spec("elevater/kitti-distance")), pytest.raises(DataError, match=message):
        open_benchmark("elevater/kitti-distance")


def test_what_is_no_json_is_refused(root: Path) -> None:
    made = ELEVATER["elevater/kitti-distance"](root)
    (folder_of(root, "elevater/kitti-distance") / "test_meta.json").write_text("[1]")
    with (
        PUBLISHED.replaced(made.spec("elevater/kitti-distance")),
        pytest.raises(DataError, match=r"test_meta\.json is no annotation file of the COCO kind"),
    ):
        open_benchmark("elevater/kitti-distance")


def test_sets_take_no_options(root: Path) -> None:
    for opened in (open_benchmark, open_pairs):
        with pytest.raises(UsageError, match="takes no options"):
            opened("elevater/voc2007", templates=["{}"])
