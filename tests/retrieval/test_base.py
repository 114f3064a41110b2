"""Reading pictures, devices, normalisation."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from trireme.errors import DataError, UsageError
from trireme.retrieval.encoders.base import BadEmbeddingError, load_image, normalise, resolve_device, resolve_dtype


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    """By hand: clear black becomes white; of half-clear (128/255) red, 255 - 128 = 127 of white shines through."""
    layer = Image.new("RGBA", (2, 1))
    layer.putpixel((0, 0), (0, 0, 0, 0))
    layer.putpixel((1, 0), (255, 0, 0, 128))
    layer.save(tmp_path / "a.png")
    read = load_image(tmp_path / "a.png")
    assert read.mode == "RGB"
    assert read.getpixel((0, 0)) == (255, 255, 255)
    assert read.getpixel((1, 0)) == (255, 127, 127)


def test_palette_with_a_clear_colour_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (1, 1), 0)
    image.putpalette([10, 20, 30])
    image.save(tmp_path / "a.png", transparency=0)
    assert load_image((tmp_path / "a.png").read_bytes()).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bit_greys_are_scaled(tmp_path: Path) -> None:
    """By hand: 65535 >> 8 = 255, 0x8000 >> 8 = 128; Pillow's own conversion clips both to 255."""
    Image.fromarray(np.array([[65535, 0x8000, 0]], dtype=np.uint16)).save(tmp_path / "a.png")
    read = load_image(tmp_path / "a.png")
    assert [read.getpixel((x, 0)) for x in range(3)] == [(255,) * 3, (128,) * 3, (0,) * 3]


def test_rgb_is_read_as_pillow_reads_it(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(load_image(tmp_path / "a.png")), pixels)


def _huge_header() -> bytes:
    """A PNG that claims 30,000 x 30,000 pixels: five times Pillow's limit."""
    body = b"IHDR" + struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 100) + b"IDAT" + bytes(104)


def _truncated(tmp_path: Path) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "whole.jpg")
    return (tmp_path / "whole.jpg").read_bytes()[:1500]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("text", "not a picture"), ("empty", "not a picture"), ("truncated", "truncated"), ("huge", "exceeds limit")],
)
def test_bad_pictures_are_named(tmp_path: Path, kind: str, reason: str) -> None:
    content = {"text": b"hello", "empty": b"", "truncated": _truncated(tmp_path), "huge": _huge_header()}[kind]
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(DataError, match=rf"bad\.png: .*{reason}"):
        load_image(tmp_path / "bad.png")


def test_missing_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.png: No such file"):
        load_image(tmp_path / "absent.png")


@given(arrays(np.float32, (3, 5), elements=st.floats(-100, 100, width=32)))
def test_normalised_rows_keep_direction(rows: np.ndarray) -> None:
    """Definition: length 1, same direction. Zero rows are refused (next test)."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    if (lengths < 1e-3).any():
        return
    found = normalise(torch.from_numpy(rows), "e")
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose((found * rows).sum(axis=1), lengths, rtol=1e-5)


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "NaN"), (float("inf"), "NaN or infinite"), (0.0, "zero")])
def test_broken_embeddings_are_refused_by_row(value: float, kind: str) -> None:
    rows = torch.ones(4, 3)
    rows[2] = value
    with pytest.raises(BadEmbeddingError, match=f"encoder tiny gives {kind}") as caught:
        normalise(rows, "tiny")
    assert caught.value.rows == (2,)


def test_devices_and_dtypes() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UsageError, match="unknown device 'gpu'"):
        resolve_device("gpu")
    with pytest.raises(UsageError, match=r"torch sees \d+ GPUs"):
        resolve_device("cuda:99")
    assert resolve_dtype("bfloat16") is torch.bfloat16
    with pytest.raises(UsageError, match="unknown dtype 'fp32'"):
        resolve_dtype("fp32")
