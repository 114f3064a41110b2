"""Segment files: what is appended comes back, whatever happens beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trireme.retrieval.segments import Bytes, DamagedSegmentError, Segments
from trireme.types import Floats


def _rows(numbers: list[int], dim: int = 4) -> tuple[Bytes, Floats]:
    """A key and a vector for each number."""
    keys = np.zeros((len(numbers), 32), dtype=np.uint8)
    keys[:, 31] = np.array(numbers, dtype=np.uint8)  # all keys share their first 31 bytes: the lookup's worst case
    return keys, np.array(numbers, dtype=np.float32)[:, None] + np.arange(dim, dtype=np.float32)


@settings(max_examples=30, deadline=None)
@given(
    groups=st.lists(st.lists(st.integers(0, 255), min_size=1, max_size=6), max_size=6),
    asked=st.lists(st.integers(0, 255), max_size=10),
)
def test_union_of_segments_is_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[int]], asked: list[int]
) -> None:
    """Reference: a Python dict. Keys may repeat within and between segments."""
    segments = Segments(tmp_path_factory.mktemp("segments"), 4)
    for group in groups:
        segments.append(*_rows(group))
    segments.refresh()
    known = {number for group in groups for number in group}
    keys, vectors = _rows(asked)
    rows = segments.lookup(keys)
    assert [row >= 0 for row in rows] == [number in known for number in asked]
    assert np.array_equal(segments.gather(rows[rows >= 0]), vectors[rows >= 0])


def test_keys_that_differ_in_front(tmp_path: Path) -> None:
    segments = Segments(tmp_path, 4)
    keys = np.random.default_rng(0).integers(0, 256, (100, 32), dtype=np.uint8)
    vectors = np.random.default_rng(1).normal(size=(100, 4)).astype(np.float32)
    segments.append(keys, vectors)
    segments.refresh()
    order = np.random.default_rng(2).permutation(100)
    assert np.array_equal(segments.gather(segments.lookup(keys[order])), vectors[order])
    assert (segments.lookup(255 - keys) == -1).all()


def test_truncated_segment_is_named_and_moved_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segments = Segments(tmp_path, 4)
    segments.append(*_rows([1, 2]))
    segments.append(*_rows([3]))
    hurt = next(path for path in tmp_path.glob("*.safetensors") if path.stat().st_size == _largest(tmp_path))
    hurt.write_bytes(hurt.read_bytes()[:-5])
    again = Segments(tmp_path, 4)
    assert (again.lookup(_rows([1, 2, 3])[0]) >= 0).tolist() == [False, False, True]
    assert str(hurt) in capsys.readouterr().err
    assert hurt.with_suffix(".damaged").exists()
    assert not hurt.exists()


def _largest(folder: Path) -> int:
    return max(path.stat().st_size for path in folder.glob("*.safetensors"))


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"\xff" * 100, b"\x02\0\0\0\0\0\0\0{}"])
def test_what_is_no_segment_is_moved_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.safetensors").write_bytes(content)
    assert len(Segments(tmp_path, 4)) == 0
    assert (tmp_path / "odd.damaged").read_bytes() == content


def test_flipped_byte_is_found_when_the_row_is_read(tmp_path: Path) -> None:
    segments = Segments(tmp_path, 4)
    segments.append(*_rows([1, 2]))
    path = next(tmp_path.glob("*.safetensors"))
    content = bytearray(path.read_bytes())
    place = bytes(content).find(np.float32(5).tobytes())  # 2 + 3: the last component of the second vector
    content[place + 1] ^= 1
    path.write_bytes(content)
    segments = Segments(tmp_path, 4)
    keys, vectors = _rows([1, 2])
    assert np.array_equal(segments.gather(segments.lookup(keys[:1])), vectors[:1])
    with pytest.raises(DamagedSegmentError, match=path.name):
        segments.gather(segments.lookup(keys))
    assert (segments.lookup(keys) == -1).all()


def test_segment_of_another_width_is_not_used(tmp_path: Path) -> None:
    Segments(tmp_path, 4).append(*_rows([1], dim=4))
    assert len(Segments(tmp_path, 5)) == 0


def test_merge_keeps_every_row_and_readers_survive(tmp_path: Path) -> None:
    segments = Segments(tmp_path, 4)
    for number in range(40):
        segments.append(*_rows([number, (number + 1) % 40]))  # every key twice
    reader = Segments(tmp_path, 4)
    keys, vectors = _rows(list(range(40)))
    rows = reader.lookup(keys)
    segments.merge()
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert len(segments) == 40
    assert np.array_equal(segments.gather(segments.lookup(keys)), vectors)
    assert np.array_equal(reader.gather(rows), vectors)  # its files are deleted, its maps are not
    reader.refresh()
    assert np.array_equal(reader.gather(reader.lookup(keys)), vectors)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells what is resident of a file")
def test_what_was_read_of_a_file_is_not_counted_as_memory(tmp_path: Path) -> None:
    """1,000 rows of 4 KiB: none of the 4 MB stays resident after a walk over them."""
    segments = Segments(tmp_path, 1024)
    keys = np.random.default_rng(0).integers(0, 256, (1000, 32), dtype=np.uint8)
    segments.append(keys, np.ones((1000, 1024), dtype=np.float32))
    segments.refresh()
    assert segments.gather(segments.lookup(keys)).sum() == 1000 * 1024
    assert _resident(tmp_path) == 0
    assert segments.gather(segments.lookup(keys[:3])).sum() == 3 * 1024, "and can be read again"


def _resident(folder: Path) -> int:
    """KiB of the files of a folder that count as memory of this process."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            ours = str(folder) in line
        elif ours and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total
