"""Regions of pictures. On the small picture the red of pixel (x, y) is 10 y + x, so results can be read off by hand."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from tests.retrieval.conftest import Pictures
from trireme.errors import DataError
from trireme.retrieval.encoders.base import load_image
from trireme.retrieval.pictures import content_key, open_picture, region_of
from trireme.types import ImageRef, Region

W = 255


def small() -> Image.Image:
    """6 wide, 4 high."""
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[..., 0] = 10 * np.arange(4)[:, None] + np.arange(6)
    return Image.fromarray(pixels)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image)


def reds(region: Region) -> list[list[int]]:
    found = region_of(small(), region)
    assert found.mode == "RGB"
    rows: list[list[int]] = pixels_of(found)[..., 0].tolist()
    return rows


def test_a_box_inside_is_exactly_its_pixels() -> None:
    assert reds(Region((1, 1, 3, 2), square=False)) == [[11, 12, 13], [21, 22, 23]]
    assert reds(Region((2, 0, 2, 2))) == [[2, 3], [12, 13]]


def test_a_square_has_the_longer_side_about_the_same_centre() -> None:
    """3 x 2 at (1, 1): the rows 0.5 to 3.5 about the centre y = 2; half a pixel goes down, so rows 1, 2, 3."""
    assert reds(Region((1, 1, 3, 2))) == [[11, 12, 13], [21, 22, 23], [31, 32, 33]]


def test_crop_grows_the_box_about_its_centre() -> None:
    """2 x 2 about (3, 2), twice as wide: columns 1 to 4, rows 0 to 3."""
    expected = [[1, 2, 3, 4], [11, 12, 13, 14], [21, 22, 23, 24], [31, 32, 33, 34]]
    assert reds(Region((2, 1, 2, 2), crop=2)) == expected
    assert reds(Region((2, 1, 2, 2), crop=2, square=False)) == expected
    assert reds(Region((2, 1, 2, 1), crop=2, square=False)) == [[11, 12, 13, 14], [21, 22, 23, 24]]
    assert reds(Region((1, 0, 4, 4), crop=0.5)) == [[12, 13], [22, 23]]


def test_outside_of_the_picture_is_white_or_as_told() -> None:
    """2 x 2 in the lower right corner, twice as wide: columns 3 to 6 and rows 1 to 4, of which 6 and 4 are outside."""
    expected = [[13, 14, 15, W], [23, 24, 25, W], [33, 34, 35, W], [W, W, W, W]]
    assert reds(Region((4, 2, 2, 2), crop=2)) == expected
    assert reds(Region((-1, -1, 3, 3))) == [[W, W, W], [W, 0, 1], [W, 10, 11]]
    found = pixels_of(region_of(small(), Region((4, 2, 2, 2), crop=2, fill=(1, 2, 3))))
    assert found[3, 0].tolist() == found[0, 3].tolist() == [1, 2, 3]


def test_edges_go_to_the_nearest_pixel_edge() -> None:
    """x: 0.6 and 2.6 to 1 and 3; y: 0.4 and 1.6 to 0 and 2. A box within one pixel is that pixel."""
    assert reds(Region((0.6, 0.4, 2.0, 1.2), square=False)) == [[1, 2], [11, 12]]
    assert reds(Region((2.1, 1.2, 0.3, 0.3))) == [[12]]
    assert reds(Region((2.6, 1.6, 0.3, 0.3))) == [[12]]


def test_blur_is_that_of_the_whole_picture_and_leaves_the_box_alone() -> None:
    """Expected: the whole picture blurred by Pillow (0.3 of the longer side 10: 3 pixels), the box laid over it.

    8 x 10 at (50, 40), twice as wide and square: columns 44 to 63, rows 35 to 54.
    """
    picture = noise(120, 100)
    expected = pixels_of(picture.filter(ImageFilter.GaussianBlur(3))).copy()
    sharp = pixels_of(picture)
    expected[40:50, 50:58] = sharp[40:50, 50:58]
    found = pixels_of(region_of(picture, Region((50, 40, 8, 10), crop=2, blur=0.3)))
    assert np.array_equal(found, expected[35:55, 44:64])
    assert np.array_equal(found[5:15, 6:14], sharp[40:50, 50:58])
    assert not np.array_equal(found[:5], sharp[35:40, 44:64])


def test_blur_does_not_reach_the_padding_nor_the_padding_the_blur() -> None:
    """10 x 10 in the upper left corner at twice the size: 5 rows and columns of white, then blurred picture."""
    picture = noise(40, 30)
    found = pixels_of(region_of(picture, Region((0, 0, 10, 10), crop=2, blur=0.2)))
    assert (found[:5] == W).all()
    assert (found[:, :5] == W).all()
    assert np.array_equal(found[5:15, 5:15], pixels_of(picture)[:10, :10])
    soft = pixels_of(picture.filter(ImageFilter.GaussianBlur(2)))
    assert np.array_equal(found[15:, 5:], soft[10:15, :15])


def test_the_widest_blur_is_no_error() -> None:
    assert region_of(small(), Region((0, 0, 2, 2), crop=2, blur=1e9)).size == (4, 4)


@pytest.mark.parametrize(
    ("region", "reason"),
    [
        (Region((1, 1, 0, 2)), r"its box \(1, 1, 0, 2\) has no area"),
        (Region((1, 1, 2, -2)), "has no area"),
        (Region((float("nan"), 1, 2, 2)), r"its box \(nan, 1, 2, 2\) is not made of numbers of pixels"),
        (Region((1, 1, float("inf"), 2)), "is not made of numbers"),
        (Region((6, 0, 2, 2)), r"its box \(6, 0, 2, 2\) lies outside of the picture \(6 x 4 pixels\)"),
        (Region((0, -3, 2, 2), crop=9), "lies outside of the picture"),
        (Region((-3, 0, 4, 4), crop=0.25), "lies outside of the picture"),  # all that is shown of it
        (Region((0, 0, 1e6, 1e6)), r"its box \(0, 0, 1e\+06, 1e\+06\) at crop=1 shows too much"),
        (Region((0, 0, 2, 2), crop=0), "crop is above 0"),
        (Region((0, 0, 2, 2), blur=-1), "blur 0 or more"),
        (Region((0, 0, 2, 2), crop=float("nan")), "crop is above 0"),
    ],
)
def test_a_wrong_box_is_one_line_that_names_the_picture(tmp_path: Path, region: Region, reason: str) -> None:
    small().save(tmp_path / "small.png")
    with pytest.raises(DataError, match=reason) as caught:
        open_picture(ImageRef(str(tmp_path / "small.png"), None, region))
    assert str(caught.value).startswith(f"{tmp_path / 'small.png'}: ")
    assert "\n" not in str(caught.value)


def test_open_picture_reads_whole_pictures_as_before_and_cuts_regions(pictures: Pictures, tmp_path: Path) -> None:
    [ref] = pictures(1)
    assert np.array_equal(pixels_of(open_picture(ref)), pixels_of(load_image(ref.path)))
    part = open_picture(ImageRef(ref.path, ref.sha256, Region((3, 4, 5, 5))))
    assert np.array_equal(pixels_of(part), pixels_of(load_image(ref.path))[4:9, 3:8])
    with pytest.raises(DataError, match=r"cannot read .*absent\.png"):
        open_picture(ImageRef(str(tmp_path / "absent.png"), None, Region((0, 0, 1, 1))))


def test_equal_regions_are_one_region() -> None:
    one = Region((1, 2, 3, 4), crop=2)
    values = np.array([1, 2, 3, 4], dtype=np.float32)
    for other in (Region((1.0, 2.0, 3.0, 4.0), 2.0), Region(tuple(values), np.float64(2), fill=[255] * 3)):  # type: ignore[arg-type]
        assert (one, hash(one), one.text) == (other, hash(other), other.text)
    assert Region((0.0, 0, 1, 1)).text == Region((-0.0, 0, 1, 1)).text
    assert pickle.loads(pickle.dumps(ImageRef("a.png", None, one))) == ImageRef("a.png", None, one)
    assert {ImageRef("a.png", None, one), ImageRef("a.png"), ImageRef("a.png", None, one).whole()} == {
        ImageRef("a.png"),
        ImageRef("a.png", region=one),
    }


_numbers = st.floats(-1e6, 1e6)
_regions = st.builds(
    Region,
    st.tuples(_numbers, _numbers, _numbers, _numbers),
    st.sampled_from([1.0, 1.5]),
    st.booleans(),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([(255, 255, 255), (0, 0, 0)]),
)


@given(one=_regions, other=_regions)
def test_the_text_is_the_region(one: Region, other: Region) -> None:
    assert Region.parse(one.text) == one
    assert (one == other) == (one.text == other.text) == (content_key("ab", one) == content_key("ab", other))


def test_whole_pictures_keep_their_key() -> None:
    assert content_key("ab" * 32, None) == "ab" * 32
    keys = {content_key(digest, region) for digest in ("ab" * 32, "cd" * 32) for region in (None, Region((0, 0, 1, 1)))}
    assert len(keys) == 4
    assert {len(bytes.fromhex(key)) for key in keys} == {32}
