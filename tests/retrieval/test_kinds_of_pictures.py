"""Every kind of picture file: decoded to stated pixels, or refused by name. Never something in between."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trireme.errors import DataError
from trireme.retrieval.encoders.base import load_image

RED, GREEN = (255, 0, 0), (0, 255, 0)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def noise(mode: str = "RGB", side: int = 64) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize(
    ("ink", "colour"),
    [
        ((0, 255, 255, 0), RED),
        ((0, 0, 0, 0), (255, 255, 255)),
        ((0, 0, 0, 127), (128,) * 3),
        ((9, 9, 9, 255), (0,) * 3),
    ],
)
def test_cmyk(ink: tuple[int, int, int, int], colour: tuple[int, int, int]) -> None:
    """By definition: each of R, G, B is (255 - its ink) x (255 - black) / 255. No colour profile is applied."""
    assert load_image(saved(Image.new("CMYK", (2, 2), ink), "TIFF")).getpixel((1, 1)) == colour


def test_cmyk_jpeg() -> None:
    """Lossy, and written with inverted inks as Adobe does: near the same colour, not near its opposite."""
    read = load_image(saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    assert np.abs(np.asarray(read, dtype=int) - RED).max() <= 3


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_grey(format: str) -> None:
    """By hand: the upper 8 of 16 bits. 255 of 65535 is almost black beside a bright pixel."""
    content = saved(Image.fromarray(np.array([[65535, 0x8000, 255]], dtype=np.uint16)), format)
    assert [load_image(content).getpixel((x, 0)) for x in range(3)] == [(255,) * 3, (128,) * 3, (0,) * 3]


@pytest.mark.parametrize("values", [[[70000, 3]], [[-1, 3]]])
def test_pixels_without_a_known_range_are_refused(values: list[list[int]]) -> None:
    content = saved(Image.fromarray(np.array(values, dtype=np.int32)), "TIFF")
    with pytest.raises(DataError, match="32-bit pixels have no known range"):
        load_image(content)
    with pytest.raises(DataError, match="floating-point pixels have no known range"):
        load_image(saved(Image.fromarray(np.array(values, dtype=np.float32)), "TIFF"))


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_palette_with_transparency(format: str) -> None:
    """The clear colour of a palette becomes white, the other stays."""
    image = Image.new("P", (4, 4), 0)
    image.putpalette([*RED, *GREEN])
    image.paste(1, (0, 0, 2, 4))
    read = load_image(saved(image, format, transparency=0))
    assert (read.getpixel((0, 0)), read.getpixel((3, 0))) == (GREEN, (255, 255, 255))


@pytest.mark.parametrize(("format", "options"), [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_the_first_frame_of_an_animation(format: str, options: dict[str, object]) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN)]
    content = saved(frames[0], format, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == 2
    assert load_image(content).getpixel((0, 0)) == RED


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_ignored(orientation: int) -> None:
    """As the loaders of CLIP, open_clip and of the papers do: the pixels as they are stored."""
    image = Image.new("RGB", (4, 2), RED)
    image.paste(GREEN, (0, 0, 1, 2))
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = load_image(saved(image, "PNG", exif=exif))
    assert read.size == (4, 2)
    assert (read.getpixel((0, 0)), read.getpixel((3, 1))) == (GREEN, RED)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_cut_off_files_are_refused(format: str, share: float) -> None:
    """Half a picture is not shown as a picture with a grey half."""
    content = saved(noise(), format)
    with pytest.raises(DataError, match="cannot read the picture: "):
        load_image(content[: int(share * len(content))])


@pytest.mark.parametrize("seed", range(20))
def test_a_png_with_other_bytes_is_refused(seed: int) -> None:
    """Zeros in the place of its second half, or one bit: Pillow alone decodes both, its checksums tell."""
    rng = np.random.default_rng(seed)
    pixels = (rng.normal(128, 40, 3) + rng.normal(0, 60, (32, 32, 3))).clip(0, 255).astype(np.uint8)
    content = bytearray(saved(Image.fromarray(pixels), "PNG"))
    assert np.array_equal(np.asarray(load_image(bytes(content))), pixels)
    middle = len(content) // 2
    with pytest.raises(DataError, match="cannot read the picture: "):
        load_image(bytes(content[:middle]) + bytes(len(content) - middle))
    content[int(rng.integers(50, len(content) - 20))] ^= 1 << int(rng.integers(8))
    with pytest.raises(DataError, match="cannot read the picture: "):
        load_image(bytes(content))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": b"Exif\0\0" + bytes(200)}])
def test_a_jpeg_whose_rest_is_zeros_is_refused(options: dict[str, object]) -> None:
    """As a broken download into a file of the full size leaves it; Pillow reads a picture that is half grey."""
    content = saved(noise(), "JPEG", quality=90, **options)
    with pytest.raises(DataError, match="it ends in zeros instead of its last pixels"):
        load_image(content[: len(content) * 2 // 3] + bytes(len(content) // 3))
    whole = np.asarray(load_image(content))
    assert np.array_equal(np.asarray(load_image(content + bytes(1000))), whole), "padded after its end it is whole"


@pytest.mark.parametrize("content", [b"", b"id,label\n1,fox\n" * 50, b"<html><body>404 Not Found</body></html>"])
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "photo.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"photo\.jpg: not a picture"):
        load_image(tmp_path / "photo.jpg")


def test_a_picture_under_another_ending_is_a_picture(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(saved(noise(), "PNG"))
    assert np.array_equal(np.asarray(load_image(tmp_path / "photo.jpg")), np.asarray(noise()))


def test_a_hundred_megapixels_are_read_whole_and_without_a_warning(tmp_path: Path) -> None:
    """Between Pillow's limit (89 million pixels), where it warns, and twice that, where it refuses.

    In a process of its own: pytest shows every warning.
    """
    image = Image.new("1", (10_000, 10_000), 1)
    image.paste(0, (0, 0, 10_000, 1))
    image.save(tmp_path / "large.png")
    program = (
        "from trireme.retrieval.encoders.base import load_image\n"
        f"read = load_image({str(tmp_path / 'large.png')!r})\n"
        "print(read.size, read.getpixel((9_999, 0)), read.getpixel((9_999, 9_999)))"
    )
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True)
    assert done.stdout == "(10000, 10000) (0, 0, 0) (255, 255, 255)\n"
    assert done.stderr == ""


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_two_hundred_megapixels_are_refused(format: str) -> None:
    content = saved(Image.new("L", (20_000, 10_000)), format)
    with pytest.raises(DataError, match="exceeds limit of 178956970 pixels"):
        load_image(content)


@pytest.fixture
def others_folder() -> Iterator[Path]:
    """A folder that every user may enter, seen as a user without privileges."""
    with tempfile.TemporaryDirectory() as name:
        folder, before = Path(name), os.geteuid()
        folder.chmod(0o755)
        (folder / "closed.png").write_bytes(saved(noise(), "PNG"))
        (folder / "closed.png").chmod(0)
        if before == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(before)


def test_a_file_that_may_not_be_read_is_named(others_folder: Path) -> None:
    with pytest.raises(DataError, match=rf"closed\.png: {os.strerror(errno.EACCES)}"):
        load_image(others_folder / "closed.png")


def test_a_loop_of_links_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: Too many levels of symbolic links"):
        load_image(tmp_path / "a.png")
