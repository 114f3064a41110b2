"""World detection: what its scenes show, that they are the same every time, and that a damaged one is drawn again."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trireme.benchmarks.detection import scenes, world_scenes
from trireme.benchmarks.detection.annotations import read_annotations
from trireme.benchmarks.detection.benchmark import DetectionBenchmark
from trireme.benchmarks.detection.scenes import covered, numbers, overlap, scene, sticker
from trireme.benchmarks.detection.world_scenes import folder, made
from trireme.benchmarks.world.families import BY_NAME, MEMORY, TEST, VALIDATION
from trireme.benchmarks.world.sets import Picture, pictures
from trireme.config import find
from trireme.errors import UsageError
from trireme.files import home, sha256_file
from trireme.registry import open_benchmark
from trireme.retrieval.pictures import open_picture
from trireme.types import Role

pytestmark = [pytest.mark.usefixtures("world"), pytest.mark.slow]

NAMES = ("world/detection", "world/detection-proposals", "world/detection-validation")


def opened(name: str, **options: object) -> DetectionBenchmark:
    benchmark = open_benchmark(name, **options)
    assert isinstance(benchmark, DetectionBenchmark)
    return benchmark


def test_sizes() -> None:
    benchmark, proposals, validation = (opened(name) for name in NAMES)
    assert 150 <= len(benchmark.annotations.pictures) <= 250
    assert 600 <= len(benchmark.samples()) <= 1000
    assert len(proposals.samples()) < 1300
    assert len(validation.samples(Role.VALIDATION)) == 360
    assert benchmark.class_ids == open_benchmark("world/all").class_ids
    assert benchmark.subsets == open_benchmark("world/all").subsets
    assert validation.subsets == open_benchmark("world/validation").subsets
    assert {one.validation for one in (benchmark, proposals, validation)} == {"world/detection-validation"}
    areas = benchmark.annotations.areas
    for share in ((areas < 32**2).mean(), (areas > 96**2).mean()):
        assert 0.15 < share < 0.4
    groups = Counter(benchmark.class_groups[one.label] for one in benchmark.samples())
    assert groups["common"] > groups["rare"] > 100


def test_letters_follow_the_memory() -> None:
    """Counted from the world's own rows: up to two memory pictures are r, three c, four f."""
    benchmark = opened("world/detection")
    held = Counter(row.hexcode for row in pictures() if MEMORY in BY_NAME[row.family].roles)
    expected = tuple({1: "r", 2: "r", 3: "c", 4: "f"}[held[code]] for code in benchmark.class_ids)
    assert benchmark.annotations.frequencies == expected
    shown = Counter(expected[one.label] for one in benchmark.samples())
    assert min(shown[letter] for letter in "rcf") >= 80


def test_the_annotation_file_says_all_of_every_picture() -> None:
    for role in ("test", "validation"):
        found = read_annotations(folder() / f"{role}.json", federated=True)
        shown = defaultdict(set)
        for image, label in zip(found.image.tolist(), found.label.tolist(), strict=True):
            shown[image].add(label)
        for i, one in enumerate(found.pictures):
            assert one.absent == set(range(len(found.categories))) - shown[i]
            assert one.partial <= shown[i]
        assert sum(bool(one.partial) for one in found.pictures) == len(found.pictures) // 8
        for i in range(len(found.pictures)):
            boxes = found.boxes[found.image == i].tolist()
            assert all(covered(a, b) <= 0.1 for n, a in enumerate(boxes) for b in boxes[:n])


def test_what_is_shown_is_kept_out_of_memories() -> None:
    """A memory holds no near-duplicate of a picture of world/all or world/validation, and scenes show no others."""
    for role, known in (("test", "world/all"), ("validation", "world/validation")):
        boxes = json.loads((folder() / f"{role}.json").read_text())["annotations"]
        shown = [box["art"] for box in boxes]
        assert set(shown) <= {sample.id for sample in open_benchmark(known).samples(Role(role))}
        assert len(set(shown)) == len(shown)
    kept_out = find("memory", "world").fields["deduplicate_against"]
    assert {"world/all", "world/validation"} <= set(kept_out)


@pytest.mark.parametrize(("name", "role"), [("world/detection", TEST), ("world/detection-validation", VALIDATION)])
def test_boxes_show_art_of_their_role(name: str, role: str) -> None:
    """A large box against every picture of its class: the nearest one is of the role, and it is near."""
    benchmark = opened(name, crop=1.0, square=False)
    samples = benchmark.samples(benchmark.role)
    by_class: dict[str, list[Picture]] = defaultdict(list)
    for row in pictures():
        by_class[row.hexcode].append(row)
    large = [s for s, box in zip(samples, benchmark.asked.boxes, strict=True) if min(box[2:]) > 80][:40]
    right = 0
    for sample in large:
        shown = open_picture(sample.image).convert("RGB")
        rows = by_class[benchmark.class_ids[sample.label]]
        distances = [_distance(shown, Image.open(row.path)) for row in rows]
        right += role in BY_NAME[rows[int(np.argmin(distances))].family].roles
    assert len(large) == 40
    assert right >= 38  # a picture without colour can be nearer to another artist's


def _distance(shown: Image.Image, art: Image.Image) -> float:
    cut, mask = sticker(art)
    size = (48, 48)
    difference = np.asarray(shown.resize(size), dtype=np.float64) - np.asarray(cut.resize(size), dtype=np.float64)
    kept = np.asarray(mask.resize(size)) > 128
    return float(np.abs(difference)[kept].mean())


def test_proposals_find_most_and_more() -> None:
    truth, found = opened("world/detection"), opened("world/detection-proposals")
    best = []
    for box, image in zip(truth.asked.boxes, truth.asked.image, strict=True):
        others = found.asked.boxes[found.asked.image == image]
        best.append(max((overlap(box, other) for other in others), default=0.0))
    assert 0.9 < np.mean(np.array(best) >= 0.5) < 1
    assert 0.3 < np.mean(np.array(best) >= 0.75) < 0.9
    false = []
    for box, image in zip(found.asked.boxes, found.asked.image, strict=True):
        others = truth.asked.boxes[truth.asked.image == image]
        false.append(max(overlap(box, other) for other in others) < 0.5)
    assert 0.1 < np.mean(false) < 0.4
    assert found.asked.objectness[np.array(false)].mean() < found.asked.objectness[~np.array(false)].mean() - 0.2


def test_a_scene_follows_from_its_text_alone(tmp_path: Path) -> None:
    art = [Image.open(row.path) for row in pictures()[:200:40]]
    one, other, another = (scene(art, text) for text in ("a", "a", "b"))
    assert one[0].tobytes() == other[0].tobytes() != another[0].tobytes()
    assert one[1] == other[1] != another[1]
    assert one[0].size == (scenes.WIDTH, scenes.HEIGHT)


def test_numbers_follow_from_a_text_alone() -> None:
    """The first eight bytes of the SHA-256 of "x 0", as `printf 'x 0' | sha256sum` gives them."""
    drawn = numbers("x")
    found = [next(drawn) for _ in range(1000)]
    assert found[0] == 0x3CEFC7E5DCC19EC2 / 2**64
    assert len(set(found)) == 1000
    assert 0 <= min(found) < 0.01 < 0.99 < max(found) < 1


def test_a_sticker_keeps_white_parts() -> None:
    """A black ring on white: paper outside of it goes, all inside stays, and five pixels of margin."""
    art = np.full((100, 100, 3), 255, dtype=np.uint8)
    y, x = np.mgrid[0:100, 0:100]
    radius = np.hypot(x - 50, y - 50)
    art[(radius > 24) & (radius < 28)] = 0
    cut, mask = sticker(Image.fromarray(art))
    kept = np.asarray(mask) > 0
    assert cut.size == mask.size
    assert cut.size[0] in range(64, 68)
    assert kept[cut.size[1] // 2].all()
    assert not kept[0, 0]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with hard links to the world of the default one, and scenes of a few classes."""
    shutil.copytree(
        home() / "data", tmp_path / "data", copy_function=os.link, ignore=shutil.ignore_patterns("*.lock", "detection")
    )
    monkeypatch.setenv("TRIREME_HOME", str(tmp_path))
    monkeypatch.setattr(world_scenes, "_CLASSES", {"r": 3, "c": 3, "f": 3})
    monkeypatch.setattr(world_scenes, "_FRESH", 2)
    monkeypatch.setattr(world_scenes, "_KNOWN", 4)
    return tmp_path


def test_damaged_scenes_are_drawn_again_and_are_the_same(small: Path) -> None:
    before = made()
    stamps = {path: path.stat().st_mtime_ns for path in folder().rglob("*") if path.is_file()}
    assert made() == before
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}
    (folder() / "scenes" / "test-001.png").unlink()
    assert made() == before
    assert all(sha256_file(folder() / name) == digest for name, digest in before.items())


def test_lists_that_were_changed_are_made_again(small: Path) -> None:
    before = made()
    path = folder() / "test.json"
    text = path.read_text()
    assert json.loads(text)["annotations"][0]["id"] == 1
    path.write_text(text.replace('"frequency": "r"', '"frequency": "f"', 1))
    assert made() == before
    assert path.read_text() == text


def test_options() -> None:
    with pytest.raises(UsageError, match="has its own boxes"):
        open_benchmark("world/detection-proposals", boxes="ground-truth")
    with pytest.raises(UsageError, match="did you mean 'blur'"):
        open_benchmark("world/detection", blurr=0.1)
    assert opened("world/detection", crop=2.0).fingerprint() != opened("world/detection").fingerprint()
