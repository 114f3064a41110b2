"""Class names that differ in how Unicode writes an accent: macOS and some editors write "e" and U+0301 for U+00E9."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.test_custom import picture, table
from tests.benchmarks.test_custom_annotated import coco
from tests.benchmarks.test_custom_webdataset import pack, png
from trireme.benchmarks.custom import annotated, open_benchmark, open_pairs
from trireme.errors import DataError
from trireme.methods.support import support
from trireme.types import Benchmark, PairSet

pytestmark = pytest.mark.usefixtures("own_home")

ONE, TWO = "caf\u00e9", "cafe\u0301"


def shown(bench: Benchmark, pairs: PairSet) -> list[int]:
    """The class of each pair, as the methods match them."""
    return support([pair.label for pair in pairs.pairs()], bench.class_ids, bench.class_names).labels.tolist()


@pytest.mark.parametrize("kind", ["folder", "csv", "parquet"])
@pytest.mark.parametrize(("asked", "held"), [(ONE, TWO), (TWO, ONE)])
def test_benchmark_and_memory_agree(tmp_path: Path, kind: str, asked: str, held: str) -> None:
    names = []
    for place, label in (("test", asked), ("train", held)):
        file = picture(tmp_path / place / label / "a.png")
        picture(tmp_path / place / "bar" / "b.png")
        rows = [{"image": str(file), "label": label}, {"image": str(file.parent.parent / "bar/b.png"), "label": "bar"}]
        path = tmp_path / place if kind == "folder" else table(tmp_path / f"{place}.{kind}", rows)
        names.append(f"{kind}:{path}")
    bench = open_benchmark(names[0])
    assert bench.class_names == ("bar", ONE)
    assert sorted(shown(bench, open_pairs(names[1]))) == [0, 1]


def test_a_set_that_writes_one_class_in_two_ways_is_refused(tmp_path: Path) -> None:
    rows = [{"image": str(picture(tmp_path / f"{i}.png")), "label": label} for i, label in enumerate((ONE, TWO))]
    told = r"the class 'caf\u00e9' is written in two ways that look the same, 'caf\\xe9' and 'cafe\\u0301' \('1.png'\)"
    for open_it in (open_benchmark, open_pairs):
        with pytest.raises(DataError, match=told):
            open_it(f"csv:{table(tmp_path / 'x.csv', rows)}")


def test_names_of_annotation_files(tmp_path: Path) -> None:
    content = coco()
    content["categories"][0]["name"] = TWO
    (tmp_path / "x.json").write_text(json.dumps(content))
    assert annotated.open_benchmark(f"coco:{tmp_path / 'x.json'}").class_ids == (ONE, "owl")
    content["categories"][1]["name"] = ONE
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(
        DataError, match=r"both called 'caf\u00e9' \('cafe\\u0301' and 'caf\\xe9' are one name to a reader"
    ):
        annotated.open_benchmark(f"coco:{tmp_path / 'x.json'}")


def test_names_of_a_list_beside_shards(tmp_path: Path) -> None:
    (tmp_path / "classnames.txt").write_text(f"{ONE}\nbar\n", encoding="utf-8")
    pack(tmp_path / "a.tar", {"1.png": png(1), "1.cls": TWO, "2.png": png(2), "2.cls": "0"})
    bench = open_benchmark(f"webdataset:{tmp_path}")
    assert bench.class_ids == (ONE, "bar")
    assert [sample.label for sample in bench.samples()] == [0, 0]
    (tmp_path / "classnames.txt").write_text(f"{ONE}\n{TWO}\n", encoding="utf-8")
    with pytest.raises(DataError, match="the classes 0 and 1 are both called"):
        open_benchmark(f"webdataset:{tmp_path}")
