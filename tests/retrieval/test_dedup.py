"""Near-duplicates by pixel correlation."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.retrieval.conftest import Pictures
from trireme.errors import UsageError
from trireme.retrieval.dedup import PixelSignature, near_duplicates
from trireme.retrieval.encoders.base import load_image
from trireme.types import Floats, ImageRef, Region


def _signature(path: str) -> Floats:
    signature = PixelSignature()
    return signature.encode_pixels(signature.preprocess(load_image(path))[None])[0]


def _reduced(path: str) -> Floats:
    """The 32 x 32 x 3 reduction, each channel less its mean."""
    small = np.asarray(Image.open(path).convert("RGB").resize((32, 32), Image.Resampling.BOX), dtype=np.float64)
    return (small - small.mean(axis=(0, 1))).ravel()


def test_product_of_signatures_is_pearson_correlation(pictures: Pictures) -> None:
    """Reference: numpy.corrcoef of the reduced pixels; the order of pixels does not matter to it."""
    one, two = (ref.path for ref in pictures(2))
    expected = np.corrcoef(_reduced(one), _reduced(two))[0, 1]
    assert _signature(one) @ _signature(two) == pytest.approx(expected, abs=1e-5)
    assert _signature(one) @ _signature(one) == pytest.approx(1, abs=1e-5)


def test_recompressed_and_resized_copies_are_found_and_others_are_not(tmp_path: Path, pictures: Pictures) -> None:
    """Smooth pictures: noise would not survive JPEG. A resize and a compression change little, another picture much."""
    rng = np.random.default_rng(0)
    refs = []
    for i in range(4):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((96, 96), Image.Resampling.BICUBIC).save(tmp_path / f"{i}.png")
        refs.append(ImageRef(str(tmp_path / f"{i}.png")))
    Image.open(refs[1].path).resize((50, 50)).save(tmp_path / "copy.jpg", quality=50)
    found = near_duplicates([*refs, *pictures(2)], [ImageRef(str(tmp_path / "copy.jpg"))], 0.9)
    assert found.duplicate.tolist() == [False, True, False, False, False, False]
    assert found.correlation[1] > 0.95
    assert found.nearest[1].endswith("copy.jpg")


def test_same_bytes_are_duplicates_even_at_threshold_one(pictures: Pictures, tmp_path: Path) -> None:
    refs = pictures(2)
    shutil.copy(refs[0].path, tmp_path / "same.png")
    found = near_duplicates(refs, [ImageRef(str(tmp_path / "same.png"))], 1.0)
    assert found.duplicate.tolist() == [True, False]


def test_flat_pictures_correlate_with_nothing(tmp_path: Path) -> None:
    """A constant has no variance, so no correlation: only the same bytes make it a duplicate."""
    for name, colour in (("a", "red"), ("b", "blue"), ("c", "red")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{name}.png")
    Image.new("RGB", (9, 9), "red").save(tmp_path / "d.png")
    refs = {name: ImageRef(str(tmp_path / f"{name}.png")) for name in "abcd"}
    found = near_duplicates([refs["a"], refs["b"], refs["d"]], [refs["c"]], 0.5)
    assert found.duplicate.tolist() == [True, False, False]
    assert found.correlation.tolist() == [1, 0, 0]


def test_unreadable_pictures_on_both_sides(pictures: Pictures) -> None:
    refs = pictures(3)
    Path(refs[0].path).write_bytes(b"broken")
    found = near_duplicates(refs[:2], [refs[0], refs[2]], 0.9)
    assert found.uncompared == 1
    assert found.correlation[0] == 1  # the same bytes, readable or not
    assert not found.duplicate[1]


def test_thresholds_outside_the_range_are_refused(pictures: Pictures) -> None:
    for threshold in (0, 1.1, -0.5):
        with pytest.raises(UsageError, match="must be above 0 and at most 1"):
            near_duplicates(pictures(1), pictures(1), threshold)


def test_a_region_counts_as_the_picture_that_it_is_cut_from(pictures: Pictures, tmp_path: Path) -> None:
    """On both sides, by bytes and by pixels: 0 and 1 are tested on, 2 and 3 are not; `again` is 1 with other bytes."""
    refs, one, other = pictures(4), Region((0, 0, 10, 10)), Region((25, 20, 12, 12))
    Image.open(refs[1].path).save(tmp_path / "again.png", compress_level=1)
    again = ImageRef(str(tmp_path / "again.png"))
    candidates = [
        refs[0],
        replace(refs[0], region=one),
        replace(refs[0], region=other),
        replace(again, region=other),
        replace(refs[2], region=one),
        replace(refs[3], region=one),
        replace(refs[3], region=other),
    ]
    for against in (refs[:2], [replace(ref, region=box) for ref in refs[:2] for box in (one, other)]):
        found = near_duplicates(candidates, against, 0.9)
        assert found.duplicate.tolist() == [True, True, True, True, False, False, False]
        assert found.nearest[:4] == [refs[0].path] * 3 + [refs[1].path]
        assert found.correlation[:4] == pytest.approx(1, abs=1e-5)
        assert found.uncompared == 0


def test_blocks_change_nothing(pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = pictures(9)
    whole = near_duplicates(refs[:5], refs[3:], 0.9, tmp_path / "one")
    monkeypatch.setattr("trireme.retrieval.dedup.BLOCK", 2)
    parts = near_duplicates(refs[:5], refs[3:], 0.9, tmp_path / "two")
    np.testing.assert_array_equal(parts.duplicate, whole.duplicate)
    np.testing.assert_allclose(parts.correlation, whole.correlation, atol=1e-6)
    assert parts.nearest == whole.nearest
    assert whole.duplicate.tolist() == [False, False, False, True, True]
