"""Every published classification set from its official layout: classes, names, splits, prompts, counts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks.layouts import (
    LAYOUTS,
    PER_CLASS,
    SYNSETS,
    Written,
    dogs,
    imagenet,
    imagenet_devkit,
    imagenet_kaggle,
)
from trireme.benchmarks.base import RowBenchmark
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.benchmarks.datasets.imagenet import standard_synsets
from trireme.benchmarks.datasets.prompts import class_names, imagenet_names, prompts
from trireme.benchmarks.datasets.spec import TEST, TRAIN, VALIDATION
from trireme.errors import DataError
from trireme.registry import BENCHMARKS, PAIR_SETS, open_benchmark, open_pairs
from trireme.types import Role

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_set_in_its_official_layout(root: Path, name: str) -> None:
    written = LAYOUTS[name](root)
    with PUBLISHED.replaced(written.spec(name)):
        bench, pairs = open_benchmark(name), open_pairs(name)
    assert isinstance(bench, RowBenchmark)
    assert bench.name == pairs.name == name
    assert bench.class_names == written.names
    assert [one.id for one in bench.samples()] == list(written.ids[TEST])
    assert [one.label for one in bench.samples()] == [label for label in range(len(written.names)) for _ in range(3)]
    assert [pair.id for pair in pairs.pairs()] == list(written.ids[TRAIN])
    assert [pair.label for pair in pairs.pairs()] == [one for one in bench.class_ids for _ in range(PER_CLASS)]
    first = prompts(PUBLISHED[name].templates)[0]
    assert pairs.pairs()[0].caption == first.format(written.names[0])
    assert all(one.image.sha256 and Path(one.image.path).is_file() for one in (*bench.samples(), *pairs.pairs()))
    assert bench.templates == prompts(PUBLISHED[name].templates)
    assert bench.validation == (name if VALIDATION in written.ids else None)
    if VALIDATION in written.ids:
        assert [one.id for one in bench.samples(Role.VALIDATION)] == list(written.ids[VALIDATION])


@pytest.mark.parametrize("write", [imagenet_kaggle, imagenet_devkit])
def test_imagenet_is_the_same_in_every_layout(root: Path, tmp_path: Path, write: Callable[[Path], Written]) -> None:
    """Same classes, samples, hashes and fingerprint as with a folder per synset; no training pictures, so no pairs."""
    written = write(root)
    with PUBLISHED.replaced(written.spec("imagenet")):
        flat = open_benchmark("imagenet")
        with pytest.raises(DataError, match="no training"):
            open_pairs("imagenet")
    shutil.rmtree(root)
    with PUBLISHED.replaced(imagenet(root).spec("imagenet")):
        sorted_into_folders = open_benchmark("imagenet")
    assert flat.class_ids == SYNSETS
    assert flat.class_names == ("tench", "goldfish", "missile")
    assert flat.fingerprint() == sorted_into_folders.fingerprint()


def test_imagenet_names_are_those_of_open_clip_in_the_order_of_the_synsets() -> None:
    """A few well-known places of that list: 0 tench, 1 goldfish, 207 golden retriever, 999 toilet paper."""
    assert len(standard_synsets()) == len(imagenet_names()) == 1000
    assert list(standard_synsets()) == sorted(standard_synsets())
    known = {"n01440764": "tench", "n01443537": "goldfish", "n02099601": "Golden Retriever"}
    assert {synset: imagenet_names()[standard_synsets()[synset]] for synset in known} == known
    assert imagenet_names()[-1] == "toilet paper"
    assert len(prompts(PUBLISHED["imagenet"].templates)) == 80
    assert "itap of a {}." in prompts(PUBLISHED["imagenet"].templates)


def test_flower_names_are_torchvisions_but_for_three() -> None:
    """torchvision has its own copy of the list, in the order of the labels."""
    from torchvision.datasets import Flowers102

    ours, theirs = class_names("flowers"), Flowers102.classes
    assert len(ours) == len(theirs) == 102
    assert {a: b for a, b in zip(ours, theirs, strict=True) if a != b} == {
        "globe flower": "globe-flower",
        "pink and yellow dahlia": "pink-yellow dahlia?",
        "air plant": "ball moss",
    }


@pytest.mark.parametrize(("name", "folder"), [("aircraft", "fgvc_aircraft"), ("pets", "oxford_pets")])
def test_folders_of_coop_users(root: Path, name: str, folder: str) -> None:
    """They renamed what the archives hold; what is opened is the same."""
    written = LAYOUTS[name](root)
    with PUBLISHED.replaced(written.spec(name)):
        official = open_benchmark(name)
        (root / PUBLISHED[name].layouts[0].folders[0]).rename(root / folder)
        assert open_benchmark(name).fingerprint() == official.fingerprint()


@pytest.mark.parametrize("empty_folder", [False, True])
def test_dogs_with_the_lists_beside_the_pictures(root: Path, empty_folder: bool) -> None:
    """As lists.tar itself has them; a folder `lists` without them changes nothing."""
    written = dogs(root)
    with PUBLISHED.replaced(written.spec("dogs")):
        official = open_benchmark("dogs")
        for path in (root / "stanford_dogs" / "lists").iterdir():
            path.rename(root / "stanford_dogs" / path.name)
        if not empty_folder:
            (root / "stanford_dogs" / "lists").rmdir()
        assert open_benchmark("dogs").fingerprint() == official.fingerprint()
        assert len(open_pairs("dogs").pairs()) == len(written.ids[TRAIN])


def test_the_registry_has_every_spec_and_each_has_what_it_needs() -> None:
    for name, spec in PUBLISHED.specs().items():
        assert name in BENCHMARKS
        assert spec.licence
        assert spec.page.startswith("http")
        assert spec.bring
        assert all(count.source for count in (spec.classes, *spec.counts.values()) if count.verified)
    assert set(LAYOUTS) <= set(PUBLISHED.specs())
    for name in LAYOUTS:
        assert name in PAIR_SETS
        assert all(text.count("{}") == 1 for text in prompts(PUBLISHED[name].templates))
