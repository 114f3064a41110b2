"""The memo of file hashes: right whatever happens to the files, and no file is read twice."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from trireme import hashes
from trireme.errors import DataError


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_changed_content_gets_a_new_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "_SETTLED_NS", 0)
    file = tmp_path / "a"
    file.write_bytes(b"one")
    assert hashes.file_sha256(file) == _digest(b"one")
    file.write_bytes(b"two")  # the same size
    assert hashes.file_sha256(file) == _digest(b"two")


def test_file_changed_a_moment_ago_is_not_remembered(tmp_path: Path) -> None:
    """Two writes within one tick of the clock leave the same time stamp: such a hash must not be kept."""
    file = tmp_path / "a"
    file.write_bytes(b"one")
    hashes.file_sha256(file)
    assert hashes._recall([str(file)]) == {}


def test_unchanged_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "_SETTLED_NS", 0)
    file = tmp_path / "a"
    file.write_bytes(b"one")
    first = hashes.file_sha256(file)

    def fail(path: Path) -> str:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(hashes, "sha256_file", fail)
    assert hashes.file_sha256(file) == first == _digest(b"one")


def test_a_file_that_is_listed_twice_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"two")
    read: list[str] = []
    monkeypatch.setattr(hashes, "sha256_file", lambda path: read.append(path.name) or _digest(path.read_bytes()))
    found = hashes.file_hashes([str(tmp_path / name) for name in "abab"])
    assert found == [_digest(b"one"), _digest(b"two")] * 2
    assert read == ["a", "b"]


def test_missing_files_do_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    found = hashes.file_hashes([str(tmp_path / "absent"), str(tmp_path / "a")])
    assert isinstance(found[0], FileNotFoundError)
    assert found[1] == _digest(b"one")
    with pytest.raises(DataError, match="absent: No such file"):
        hashes.file_sha256(tmp_path / "absent")


def test_damaged_table_is_no_obstacle(tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "_SETTLED_NS", 0)
    (own_home / "hashes.sqlite").write_bytes(b"this is no database" * 100)
    (tmp_path / "a").write_bytes(b"one")
    assert hashes.file_sha256(tmp_path / "a") == _digest(b"one")
    assert hashes.file_sha256(tmp_path / "a") == _digest(b"one")
    assert hashes._recall([str(tmp_path / "a")])[str(tmp_path / "a")][1] == _digest(b"one")  # made anew


def test_an_interrupted_hashing_keeps_what_it_read(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "_SETTLED_NS", 0)
    monkeypatch.setattr(hashes, "_BLOCK", 2)
    paths = [tmp_path / name for name in "abcd"]
    for path in paths:
        path.write_bytes(path.name.encode())

    def interrupted(path: Path) -> str:
        if path.name == "d":
            raise KeyboardInterrupt
        return _digest(path.read_bytes())

    monkeypatch.setattr(hashes, "sha256_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hashes.file_hashes([str(path) for path in paths])
    assert set(hashes._recall([str(path) for path in paths])) == {str(path) for path in paths[:2]}
