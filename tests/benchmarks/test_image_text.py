"""Image-text retrieval: what split files give, which of them are refused, the world's captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.layouts_image_text import LAYOUTS, Told, flickr30k
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.benchmarks.image_text.benchmark import ImageTextBenchmark
from trireme.benchmarks.world.sets import pictures
from trireme.cli import main
from trireme.errors import DataError, UsageError
from trireme.hashes import file_sha256
from trireme.plan import default_memory
from trireme.registry import open_benchmark, open_pairs
from trireme.types import Benchmark, ImageRef, Role, Sample, Task


@pytest.fixture
def root(tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("TRIREME_DATA", str(folder))
    return folder


def opened(told: Told, name: str, **options: str) -> ImageTextBenchmark:
    with PUBLISHED.replaced(told.spec(name)):
        benchmark = open_benchmark(name, **options)
    assert isinstance(benchmark, ImageTextBenchmark)
    return benchmark


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_set_in_its_official_layout(root: Path, name: str) -> None:
    told = LAYOUTS[name](root)
    benchmark = opened(told, name)
    assert isinstance(benchmark, Benchmark)
    assert (benchmark.name, benchmark.task, benchmark.validation) == (name, Task.RETRIEVAL, name)
    assert benchmark.metrics == ("r@1", "r@5", "r@10")
    assert benchmark.subsets == {"i2t": ("i2t",), "t2i": ("t2i",)}
    labels = iter(range(8))
    for role, split in ((Role.TEST, "test"), (Role.VALIDATION, "validation")):
        expected = []
        for image in told.of(split):
            label = next(labels)
            assert benchmark.class_ids[label] == image["filename"]
            expected.append((f"i2t/{image['filename']}", label, "", "i2t"))
            expected += [(f"t2i/{one['sentid']}", label, one["raw"], "t2i") for one in image["sentences"]]
        samples = benchmark.samples(role)
        assert [(one.id, one.label, one.text, one.group) for one in samples] == expected
        for one in samples:
            path = Path(one.image.path)
            assert path.name == benchmark.class_ids[one.label]
            assert one.image.sha256 == file_sha256(path)
    with PUBLISHED.replaced(told.spec(name)):
        pairs = open_pairs(name).pairs()
    assert [(one.id, one.caption, one.label) for one in pairs] == [
        (f"{image['filename']}/{one['sentid']}", one["raw"], "")
        for image in told.of("train")
        for one in image["sentences"]
    ]
    assert len(pairs) == 30  # six pictures, of COCO two of them in restval
    assert {Path(one.image.path).name for one in pairs} == {image["filename"] for image in told.of("train")}
    assert default_memory(name) == name


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("flickr30k", {"flickr30k-images": "images"}),
        ("coco-captions", {"train2014": "images/train2014", "val2014": "images/val2014"}),
        ("coco-captions", {"dataset_coco.json": "karpathy/dataset_coco.json"}),
    ],
)
def test_other_layouts_that_people_have(root: Path, name: str, changes: dict[str, str]) -> None:
    told = LAYOUTS[name](root)
    expected = opened(told, name).fingerprint()
    for before, after in changes.items():
        (told.folder / after).parent.mkdir(exist_ok=True)
        (told.folder / before).rename(told.folder / after)
    assert opened(told, name).fingerprint() == expected


def test_the_fingerprint_follows_what_captions_say(root: Path) -> None:
    told = flickr30k(root)
    before = opened(told, "flickr30k")
    prompted = opened(told, "flickr30k", prompt="a photo of {}")
    first = told.of("test")[0]["sentences"][0]
    assert prompted.samples()[1].text == f"a photo of {first['raw']}"
    first["raw"] = "Something else ."
    told.write()
    changed = opened(told, "flickr30k")
    assert len({one.fingerprint() for one in (before, prompted, changed)}) == 3
    assert changed.fingerprint(Role.VALIDATION) == before.fingerprint(Role.VALIDATION)


@pytest.mark.parametrize("prompt", ["a photo", ""])
def test_a_prompt_without_a_place_for_the_caption(root: Path, prompt: str) -> None:
    with pytest.raises(UsageError, match=r"no \{\} for the caption"):
        opened(flickr30k(root), "flickr30k", prompt=prompt)


def _drop(name: str) -> Callable[[list[dict[str, Any]]], None]:
    return lambda images: images[10].pop(name)


def _put(name: str, value: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda images: images[10].update({name: value})


def _say(name: str, value: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda images: images[10]["sentences"][0].update({name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop("filename"), r"picture 10 has no 'filename' that is a text"),
        (_drop("imgid"), r"picture 10 \(1010.jpg\) has no 'imgid' that is a whole number"),
        (_drop("sentences"), "has no 'sentences' that is a list"),
        (_put("sentences", []), "no caption that says anything"),
        (_put("split", "dev"), "its split is 'dev', which is none of train, restval, val, test"),
        (_put("filename", "1009.jpg"), r"picture 10 \(1009.jpg\): the filename 1009.jpg is there twice"),
        (_put("imgid", 9), "the imgid 9 is there twice"),
        (_put("filename", "../1010.jpg"), r"flickr30k-images/../1010.jpg' leaves the folder"),
        (_put("filepath", "/etc"), "are not there, more than 1 %"),  # below the set's folder, where there is no such
        (_put("filepath", "../.."), "leaves the folder"),
        (_say("imgid", 3), "sentence 50 is of another picture .imgid 3, not 10"),
        (_say("sentid", 49), "sentence 49: the sentid 49 is there twice"),
        (_say("raw", None), "sentence 50 has no 'raw' that is a text"),
    ],
)
def test_split_files_that_cannot_be_right(
    root: Path, change: Callable[[list[dict[str, Any]]], None], message: str
) -> None:
    told = flickr30k(root)
    spec = told.spec("flickr30k")
    change(told.content["images"])
    told.write()
    with PUBLISHED.replaced(spec), pytest.raises(DataError, match=message) as error:
        open_benchmark("flickr30k")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "has no list 'images'"),
        ('{"images": 3}', "has no list"),
        ('{"images": [3]}', "pict"),
    ],
)
def test_files_that_are_no_split_files(root: Path, content: str, message: str) -> None:
    told = flickr30k(root)
    told.file.write_text(content)
    with PUBLISHED.replaced(told.spec("flickr30k")), pytest.raises(DataError, match=message):
        open_benchmark("flickr30k")


def test_another_number_of_pictures(root: Path) -> None:
    flickr30k(root)
    with pytest.raises(DataError, match="4 test pictures, the published set has 1000"):
        open_benchmark("flickr30k")


def test_blank_captions_are_left_out_and_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = flickr30k(root)
    told.of("test")[0]["sentences"][1]["raw"] = " \n"
    told.write()
    samples = opened(told, "flickr30k").samples()
    assert Counter(one.group for one in samples) == {"i2t": 4, "t2i": 19}
    assert "1 captions are blank" in capsys.readouterr().err


def test_status(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="data set 'coco-captions' is missing"):
        open_benchmark("coco-captions")
    told = LAYOUTS["coco-captions"](root)
    with PUBLISHED.replaced(told.spec("coco-captions")):
        assert main(["data", "status", "coco-captions"]) == 0
        assert "classes" not in capsys.readouterr().out
        (told.folder / "train2014").rename(told.folder / "elsewhere")
        assert main(["data", "status", "coco-captions"]) == 0
        assert "without its training pictures: train2014 is missing" in capsys.readouterr().out
        with pytest.raises(DataError, match="has no training pictures: train2014 is missing"):
            open_pairs("coco-captions")
        told.of("test")[0]["split"] = "tset"
        told.write()
        assert main(["data", "status", "coco-captions"]) == 1
        assert "its split is 'tset'" in capsys.readouterr().out


def test_no_method_is_told_the_picture_of_a_caption() -> None:
    sample = Sample("t2i/3", ImageRef("/data/3.jpg", "00" * 32), 3, "a fox", "t2i")
    assert sample.unlabelled() == Sample("t2i/3", ImageRef(""), text="a fox")


def test_any_of_the_first_k_is_a_hit() -> None:
    """By hand: labels of what two queries of label 7 found; captions of one picture repeat its label."""
    benchmark = ImageTextBenchmark("x", "1", ("7",), ("7",), ("",), {}, ("{}",), {})
    ranked = np.array([[1, 1, 2, 7, 7, 3, 4, 5, 6, 8, 9], [1, 2, 3, 4, 5, 6, 8, 9, 10, 7, 11], [1] * 10 + [7]])
    values = benchmark.score(ranked, np.array([7, 7, 7]))
    assert {name: found.tolist() for name, found in values.items()} == {
        "r@1": [0, 0, 0],
        "r@5": [1, 0, 0],
        "r@10": [1, 1, 0],
    }


@pytest.mark.usefixtures("world")
class TestWorld:
    def test_pictures_and_captions_of_a_class_have_its_label(self) -> None:
        benchmark, base = open_benchmark("world/tiny-retrieval"), open_benchmark("world/tiny")
        samples = benchmark.samples()
        shown = [one for one in samples if not one.text]
        assert [(one.id, one.image, one.label) for one in shown] == [
            (f"i2t/{one.id}", one.image, one.label) for one in base.samples()
        ]
        assert len(samples) == 2 * len(shown)
        captions = {f"t2i/{row.family}/{row.hexcode}": row.caption for row in pictures()}
        for one in samples:
            group = base.class_groups[one.label]
            assert one.group == f"{one.id[:3]}/{group}"
            assert one.text == captions.get(one.id, "")
        assert benchmark.validation == "world/tiny-retrieval-validation"
        validation = open_benchmark(benchmark.validation)
        assert validation.samples(Role.VALIDATION)
        assert set(validation.subsets) == {"i2t", "t2i", "common", "fresh"}

    def test_subsets_hold_both_directions(self) -> None:
        benchmark = open_benchmark("world/retrieval")
        counts = {
            subset: sum(one.group in (held or ()) for one in benchmark.samples())
            for subset, held in benchmark.subsets.items()
        }
        assert list(counts) == ["i2t", "t2i", "common", "rare"]
        assert counts["i2t"] == counts["t2i"] == len(open_benchmark("world/all").samples())
        assert 0 < counts["rare"] < counts["common"] < 2 * counts["i2t"]

    def test_no_caption_is_told_of_two_classes(self) -> None:
        """Else a hit would be a matter of order."""
        labels: dict[str, set[int]] = {}
        for one in open_benchmark("world/retrieval").samples():
            labels.setdefault(one.text or one.id, set()).add(one.label)
        assert all(len(found) == 1 for found in labels.values())
