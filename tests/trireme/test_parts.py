"""Whole files and parts of files by path: what is read, what is refused."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trireme import parts
from trireme.hashes import file_hashes
from trireme.parts import Part, file_stat, part_of, read_bytes

_TEXT = st.text(st.characters(exclude_characters="\0!", exclude_categories=["Cs"]), min_size=1)


@given(_TEXT, st.integers(0, 2**60), st.integers(0, 2**60), _TEXT)
def test_a_part_is_read_back_from_its_path(file: str, offset: int, size: int, name: str) -> None:
    part = Part(file, offset, size, name)
    assert part_of(part.path) == part


@pytest.mark.parametrize("path", ["/a/b.png", "/a!/b.png", "/a.tar!/12/b.png", "/a.tar!/1+/b.png", "/a!/1+2"])
def test_other_paths_are_whole_files(path: str) -> None:
    assert part_of(path) is None


def test_a_name_that_looks_like_a_part_changes_nothing() -> None:
    assert part_of("/a.tar!/512+9/x!/0+1/y.png") == Part("/a.tar", 512, 9, "x!/0+1/y.png")


def test_parts_are_read_and_hashed(tmp_path: Path, own_home: Path) -> None:
    file = tmp_path / "all"
    file.write_bytes(b"before|inside|after")
    path = Part(str(file), 7, 6, "x.png").path
    assert read_bytes(path) == b"inside"
    assert read_bytes(str(file)) == b"before|inside|after"
    assert file_hashes([path, str(file)]) == [
        hashlib.sha256(content).hexdigest() for content in (b"inside", b"before|inside|after")
    ]
    file.write_bytes(b"before|INSIDE|after")
    assert file_hashes([path]) == [hashlib.sha256(b"INSIDE").hexdigest()]


def test_a_file_that_ends_before_its_part_is_named(tmp_path: Path, own_home: Path) -> None:
    (tmp_path / "short").write_bytes(b"0123456789")
    path = Part(str(tmp_path / "short"), 8, 6, "x.png").path
    with pytest.raises(OSError, match="short ends at 10 bytes, before the picture does"):
        read_bytes(path)
    [found] = file_hashes([path])
    assert isinstance(found, OSError)


def test_nothing_huge_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "LARGEST", 9)
    (tmp_path / "large").write_bytes(b"0123456789")
    with pytest.raises(OSError, match="it has 10 bytes; nothing over 9"):
        read_bytes(str(tmp_path / "large"))
    with pytest.raises(OSError, match="it has 11 bytes"):
        read_bytes(Part(str(tmp_path / "large"), 0, 11, "x").path)
    assert read_bytes(Part(str(tmp_path / "large"), 2, 8, "x").path) == b"23456789"


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, own_home: Path) -> None:
    """A pipe that nobody writes to would be read for ever, as would /dev/zero."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    reasons = {
        str(tmp_path / "pipe.png"): "it is no regular file",
        "/dev/zero": "it is no regular file",
        str(tmp_path): "Is a directory",
        str(tmp_path / "absent.png"): "No such file or directory",
        str(tmp_path / "a.png"): "Too many levels of symbolic links",
    }
    for path, reason in reasons.items():
        with pytest.raises(OSError, match=reason):
            file_stat(path)
        with pytest.raises(OSError, match=reason):
            read_bytes(path)
    found = file_hashes(list(reasons))
    assert [error.strerror for error in found if isinstance(error, OSError)] == list(reasons.values())
