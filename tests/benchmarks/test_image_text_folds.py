"""COCO captions in five folds of 1,000 pictures; here of two."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.layouts_image_text import Told, coco_captions
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.benchmarks.image_text.benchmark import ImageTextBenchmark
from trireme.errors import DataError, UsageError
from trireme.methods.both_ways import BothWays
from trireme.plan import default_memory
from trireme.registry import open_benchmark
from trireme.types import Floats, ImageRef, Role

NAME = "coco-captions-1k"


@pytest.fixture
def told(tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """COCO with ten test pictures, of five captions each."""
    monkeypatch.setenv("TRIREME_DATA", str(tmp_path / "data"))
    return coco_captions(tmp_path / "data", test=10)


def opened(told: Told, name: str = NAME) -> ImageTextBenchmark:
    with PUBLISHED.replaced(told.spec("coco-captions")):
        benchmark = open_benchmark(name)
    assert isinstance(benchmark, ImageTextBenchmark)
    return benchmark


RIGHT = ((5, 5), (0, 0), (2, 5), (2, 5), (5, 2))
"""Of both pictures of each fold: how many of its five captions lie on its axis. The others lie on the other."""


class Placed:
    """A method whose pictures lie on two axes, in turns."""

    def __init__(self, told: Told) -> None:
        self._place = {image["filename"]: i for i, image in enumerate(told.of("test"))}
        self._first = told.of("test")[0]["imgid"]

    def embed_images(self, images: Sequence[ImageRef]) -> Floats:
        return np.eye(2, dtype=np.float32)[[self._place[Path(one.path).name] % 2 for one in images]]

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        rows = []
        for text in texts:
            number, time = (int(found) for found in re.findall(r"[0-9]+", text))
            fold, axis = divmod(number - self._first, 2)
            rows.append(np.eye(2)[axis] if time < RIGHT[fold][axis] else 0.9 * np.eye(2)[1 - axis])
        return np.array(rows, dtype=np.float32)


def test_the_mean_of_five_folds_by_hand(told: Told) -> None:
    """R@1, i2t and t2i, of each fold: all right, 100 and 100; all wrong, 0 and 0; in the others both pictures find one
    of their captions and 7 of 10 captions their picture, 100 and 70. R@5 of i2t: in the second fold five captions of
    the other picture come first; among ten are all. R@5 of t2i: a fold has two pictures.
    """
    benchmark = opened(told)
    samples = benchmark.samples()
    assert [one.label for one in samples if not one.text] == list(range(10)), "folds are cut in the file's order"
    method = BothWays(Placed(told), samples, gallery_of=benchmark.gallery_of)  # type: ignore[arg-type]
    values = benchmark.score(method.predict(samples).ranked, np.array([one.label for one in samples]))
    for metric, i2t, t2i in (("r@1", 80, (100 + 0 + 3 * 70) / 5), ("r@5", 80, 100), ("r@10", 100, 100)):
        found = [100 * values[metric][[one.group == way for one in samples]].mean() for way in ("i2t", "t2i")]
        assert found == pytest.approx([i2t, t2i]), metric


def test_choices_and_memory_are_those_of_the_whole_set(told: Told) -> None:
    benchmark = opened(told)
    assert (benchmark.validation, default_memory(NAME)) == ("coco-captions", "coco-captions")
    with pytest.raises(UsageError, match="has no validation samples; use 'coco-captions'"):
        benchmark.samples(Role.VALIDATION)
    assert benchmark.fingerprint() != replace(benchmark, folds=()).fingerprint()


def test_a_picture_has_five_captions(told: Told) -> None:
    """Some of COCO's have more; the protocol has the first five."""
    first = told.of("test")[0]
    first["sentences"].append({"raw": "A sixth .", "imgid": first["imgid"], "sentid": 9999, "tokens": []})
    told.write()
    assert "A sixth ." not in {one.text for one in opened(told).samples()}
    assert "A sixth ." in {one.text for one in opened(told, "coco-captions").samples()}
    del told.of("test")[3]["sentences"][1]
    told.write()
    with pytest.raises(DataError, match=r"1 test pictures have fewer than 5 captions \(first: COCO_val2014_0*13\.jpg"):
        opened(told)
    told.content["images"].pop()
    told.write()
    with pytest.raises(DataError, match="9 test pictures do not make 5 folds of one size"):
        opened(told)
