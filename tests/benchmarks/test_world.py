"""The prepared world itself: real art, its roles, splits, names and fingerprints."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trireme.benchmarks.detection.world import BENCHMARKS as DETECTION
from trireme.benchmarks.image_text.world import BENCHMARKS as RETRIEVAL
from trireme.benchmarks.world import open_benchmark, open_pairs
from trireme.benchmarks.world.families import FAMILIES, with_role
from trireme.benchmarks.world.prepare import read_manifest, recipe, summary
from trireme.benchmarks.world.rules import split_of
from trireme.benchmarks.world.sets import BENCHMARKS, PAIR_SETS
from trireme.errors import DataError, UsageError
from trireme.registry import BENCHMARKS as BENCHMARK_REGISTRY
from trireme.registry import PAIR_SETS as PAIR_REGISTRY
from trireme.types import Benchmark, PairSet, Role, Sample

pytestmark = pytest.mark.usefixtures("world")

GROUPS = ("activities", "animals", "faces", "food", "objects", "people", "symbols", "travel")
TRAINING_SETS = ("world/train", "world/train-common", "world/train-fresh", "world/tiny-train")
MEMORY_SETS = ("world/memory", "world/tiny-memory")


def role_of(name: str) -> Role:
    return Role.VALIDATION if name.endswith("validation") else Role.TEST


def samples(name: str) -> list[Sample]:
    return list(open_benchmark(name).samples(role_of(name)))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks_are_whole(name: str) -> None:
    bench = open_benchmark(name)
    assert isinstance(bench, Benchmark)
    assert bench.name == name
    assert len(bench.class_ids) == len(bench.class_names) == len(bench.class_groups) == len(set(bench.class_ids))
    assert len(set(bench.class_names)) == len(bench.class_names)
    assert bench.class_groups == tuple(split_of(code) for code in bench.class_ids)
    found = bench.samples(role_of(name))
    assert len({sample.id for sample in found}) == len(found)
    for sample in found:
        family, _, code = sample.id.partition("/")
        assert bench.class_ids[sample.label] == code
        assert Path(sample.image.path).parent.name == family
    assert set(bench.subsets) == ({"all", "common", "fresh"} if "validation" in name else {"all", "common", "rare"})
    for groups in bench.subsets.values():
        assert groups is None or set(groups) <= set(bench.class_groups)
    assert all(text.count("{}") == 1 for text in bench.templates)
    assert bench.validation in BENCHMARKS


def test_counts_and_shares() -> None:
    manifest = read_manifest()
    assert manifest is not None
    # 1,167 classes stay; split 60 / 15 (a third for validation) / 25 % (benchmarks/world/rules.py)
    assert 1100 <= manifest["classes"] <= 1300
    share = {split: count / manifest["classes"] for split, count in manifest["splits"].items()}
    # the standard error of a share of some 1,170 hashed classes is at most .0143; three of them
    assert share == pytest.approx({"common": 0.60, "fresh": 0.10, "fresh-val": 0.05, "rare": 0.25}, abs=0.043)
    # twemoji, emojione, emojione-v1 and streamline draw 1914, 1368, 1170 and 591 emoji with their flags. 270 flags of a
    # set are left out, and a few emoji that match no standard one; streamline and emojione-v1 draw fewer flags
    drawn = {name: row["drawn"] for name, row in manifest["families"].items()}
    assert drawn["twemoji"] == drawn["openmoji"] == 1914 - 270
    assert drawn["noto"] >= 1644
    assert drawn["fluent-emoji-flat"] == drawn["fluent-emoji-high-contrast"] >= 1580
    assert drawn["noto-v1"] >= 1200
    assert drawn["emojione"] >= 1368 - 270
    assert drawn["emojione-v1"] >= 1170 - 270
    assert drawn["streamline-emojis"] >= 591 - 40


def test_groups_part_the_world() -> None:
    parts = [open_benchmark(f"world/{group}") for group in GROUPS]
    everything = open_benchmark("world/all")
    assert sum((Counter(part.class_ids) for part in parts), Counter()) == Counter(everything.class_ids)
    ids = sorted(sample.id for part in parts for sample in part.samples())
    assert ids == sorted(sample.id for sample in everything.samples())
    names = {group: set(open_benchmark(f"world/{group}").class_names) for group in GROUPS}
    assert "fox" in names["animals"]
    assert "hot dog" in names["food"]
    assert "grinning face" in names["faces"]
    assert "person raising hand" in names["people"]
    assert "church" in names["travel"]


def test_every_class_can_be_asked_and_retrieved() -> None:
    bench = open_benchmark("world/all")
    codes = set(bench.class_ids)
    assert {bench.class_ids[sample.label] for sample in bench.samples()} == codes
    assert {pair.label for pair in open_pairs("world/memory").pairs()} == codes


def test_roles_share_no_family_and_no_picture() -> None:
    test, validation = samples("world/all"), samples("world/validation")
    support = [pair for name in (*TRAINING_SETS, *MEMORY_SETS) for pair in open_pairs(name).pairs()]
    families = [{one.id.partition("/")[0] for one in test}, {one.id.partition("/")[0] for one in validation}]
    families.append({pair.source for pair in support})
    assert families[0] == {"twemoji", "noto"}
    assert families[1] == {"emojione-v1"}
    assert not (families[0] | families[1]) & families[2]
    hashes = [{one.image.sha256 for one in test}, {one.image.sha256 for one in validation}]
    hashes.append({pair.image.sha256 for pair in support})
    assert not hashes[0] & hashes[1]
    assert not (hashes[0] | hashes[1]) & hashes[2]


def test_no_near_copy_across_roles() -> None:
    """The rule again by other means: numpy's corrcoef, grey, at 48 pixels, on every class of one group."""
    codes = set(open_benchmark("world/symbols").class_ids)
    tested = {one.id: one.image.path for one in samples("world/symbols")}
    pairs = [pair for pair in open_pairs("world/memory").pairs() if pair.label in codes]
    over = 0
    for pair in pairs:
        for family in ("twemoji", "noto"):
            path = tested.get(f"{family}/{pair.label}")
            if path is not None:
                one, other = (_grey(place) for place in (path, pair.image.path))
                over += np.corrcoef(one, other)[0, 1] > 0.97  # grey at another size differs a little from the rule's
    assert len(pairs) > 500
    assert over <= 3


def _grey(path: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((48, 48)), dtype=np.float64).ravel()


def test_splits_of_pair_sets() -> None:
    def splits(name: str) -> set[str]:
        return {split_of(pair.label) for pair in open_pairs(name).pairs()}

    assert splits("world/memory") == {"common", "fresh", "fresh-val", "rare"}
    assert splits("world/train-common") == {"common"}
    assert splits("world/train-fresh") == {"fresh"}
    assert splits("world/train") == {"common", "fresh"}
    both = [*open_pairs("world/train-common").pairs(), *open_pairs("world/train-fresh").pairs()]
    assert {pair.id for pair in both} == {pair.id for pair in open_pairs("world/train").pairs()}
    bench = open_benchmark("world/validation")
    assert {bench.class_groups[one.label] for one in samples("world/validation")} == {"common", "fresh-val"}
    assert bench.class_names == open_benchmark("world/all").class_names


@pytest.mark.parametrize("name", PAIR_SETS)
def test_pair_sets_are_whole(name: str) -> None:
    pairs = open_pairs(name)
    assert isinstance(pairs, PairSet)
    rows = pairs.pairs()
    assert len({pair.id for pair in rows}) == len(rows)
    allowed = {family.name for family in with_role("memory" if "memory" in name else "training")}
    for pair in rows:
        assert pair.id == f"{pair.source}/{pair.label}"
        assert pair.source in allowed
        assert pair.caption
        assert Path(pair.image.path).is_file()


def test_captions_vary_and_name_the_thing() -> None:
    captions: dict[str, set[str]] = {}
    for pair in open_pairs("world/memory").pairs():
        captions.setdefault(pair.label, set()).add(pair.caption)
    names = dict(zip(open_benchmark("world/all").class_ids, open_benchmark("world/all").class_names, strict=True))
    assert sum(len(found) > 1 for found in captions.values()) > 0.5 * len(captions)
    named = sum(any(one.startswith(names[code]) for one in found) for code, found in captions.items())
    assert named > 0.97 * len(captions)


def test_tiny_is_tiny_and_closed() -> None:
    tiny = open_benchmark("world/tiny")
    assert 20 <= len(tiny.class_ids) <= 40
    assert set(tiny.class_ids) <= set(open_benchmark("world/animals").class_ids)
    assert set(tiny.class_groups) == {"common", "fresh", "fresh-val", "rare"}
    assert {pair.label for pair in open_pairs("world/tiny-memory").pairs()} == set(tiny.class_ids)
    assert open_benchmark("world/tiny-validation").class_ids == tiny.class_ids


def test_sample_checksums_are_those_of_the_files() -> None:
    for sample in samples("world/food")[::7]:
        assert sample.image.sha256 == hashlib.sha256(Path(sample.image.path).read_bytes()).hexdigest()


def test_pictures_are_128_pixels_on_white() -> None:
    for family in FAMILIES:
        folder = Path(samples("world/food")[0].image.path).parent.parent / family.name
        corners = []
        for path in sorted(folder.glob("1F4*.png"))[:40]:
            with Image.open(path) as image:
                assert image.size == (128, 128)
                corners.append(np.asarray(image.convert("RGB"))[0, 0])
        assert np.median(corners) == 255


def test_roles_that_are_not_there_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="no test samples"):
        open_benchmark("world/validation").samples(Role.TEST)
    with pytest.raises(UsageError, match="no validation samples; use 'world/validation'"):
        open_benchmark("world/food").samples(Role.VALIDATION)


def test_wrong_names_and_options() -> None:
    with pytest.raises(UsageError, match="did you mean 'world/animals'"):
        open_benchmark("world/animal")
    with pytest.raises(UsageError, match="did you mean 'world/memory'"):
        open_pairs("world/memroy")
    with pytest.raises(UsageError, match="takes no options"):
        open_benchmark("world/food", k=3)


def test_unprepared_world_names_the_command(own_home: Path) -> None:
    with pytest.raises(DataError, match="run: trireme data prepare world"):
        open_benchmark("world/all")
    with pytest.raises(DataError, match="run: trireme data prepare world"):
        open_pairs("world/memory")


def test_fingerprints_tell_sets_apart_and_stay() -> None:
    prints = [open_benchmark(name).fingerprint(role_of(name)) for name in BENCHMARKS]
    prints += [open_pairs(name).fingerprint for name in PAIR_SETS]
    assert len(set(prints)) == len(prints)
    assert prints[: len(BENCHMARKS)] == [open_benchmark(name).fingerprint(role_of(name)) for name in BENCHMARKS]


def test_recipe_follows_every_rule_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipe()
    for target in ("prepare.RULES", "prepare.CAPTIONS", "prepare.MATCHING", "drawing.DRAWING", "drawing.SIZE"):
        with monkeypatch.context() as patch:
            patch.setattr(f"trireme.benchmarks.world.{target}", "another")
            assert recipe() != before
            assert read_manifest() is None  # a world of other rules does not count as prepared
    assert recipe() == before


def test_classes_splits_and_captions_are_those_of_version_1() -> None:
    """Pinned from the first preparation of version 1.0; whoever changes them on purpose raises a version with it."""
    bench, memory = open_benchmark("world/all"), open_pairs("world/memory").pairs()
    text = "\n".join([*map("|".join, zip(bench.class_ids, bench.class_names, bench.class_groups, strict=True))])
    text += "\n".join(f"{pair.id}|{pair.caption}" for pair in memory)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "7eb4852de197db66"


def test_summary_says_what_was_kept_and_dropped() -> None:
    manifest = read_manifest()
    assert manifest is not None
    text = "\n".join(summary(manifest))
    assert "dropped 270 emoji: flags" in text  # 270 emoji of group "flags" in emojibase 17.0
    assert "look identical" in text
    assert f"kept {manifest['classes']} classes" in text
    kept = manifest["candidates"] - sum(
        row["emoji"] for row in manifest["dropped"][2:]
    )  # flags, skins are no candidates
    assert kept == manifest["classes"]


def test_registry_and_world_agree() -> None:
    assert {name for name in BENCHMARK_REGISTRY.names() if name.startswith("world/")} == {
        *BENCHMARKS,
        *DETECTION,
        *RETRIEVAL,
    }
    assert {name for name in PAIR_REGISTRY.names() if name.startswith("world/")} == set(PAIR_SETS)


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from trireme.benchmarks.world import open_benchmark; import trireme.benchmarks.custom\n"
        "open_benchmark('world/all').samples()\n"
        "print(sorted({'torch', 'faiss', 'transformers', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
