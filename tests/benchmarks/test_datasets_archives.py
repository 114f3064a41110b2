"""Extracting archives that a user brings: hostile and damaged ones leave nothing, official ones end in their place."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from trireme.benchmarks.datasets.archives import extract
from trireme.errors import DataError


def tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as file:
        for info, content in members:
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def left(folder: Path) -> list[str]:
    """Everything below a folder, hidden leftovers too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("name", ["data.tar", "data.tar.gz"])
def test_a_tar_file(tmp_path: Path, name: str) -> None:
    archive = tar(tmp_path / name, (member("images/a.jpg"), b"a"), (member("meta/list.txt"), b"list"))
    extract(archive, tmp_path / "root" / "set")
    assert (tmp_path / "root" / "set" / "images" / "a.jpg").read_bytes() == b"a"
    assert left(tmp_path / "root") == ["set", "set/images", "set/images/a.jpg", "set/meta", "set/meta/list.txt"]


def test_a_zip_file_beside_what_is_there(tmp_path: Path) -> None:
    place = tmp_path / "set"
    place.mkdir()
    (place / "other.txt").write_text("kept")
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as file:
        file.writestr("images/a.jpg", b"a")
    extract(tmp_path / "data.zip", place)
    assert left(place) == ["images", "images/a.jpg", "other.txt"]


@pytest.mark.parametrize(
    ("info", "says"),
    [
        (member("../outside.txt"), "outside its folder"),
        (member("images/../../outside.txt"), "outside its folder"),
        (member("/tmp/outside.txt"), "outside its folder"),
        (member("..\\outside.txt"), "outside its folder"),
        (member("C:/outside.txt"), "outside its folder"),
        (member("images", tarfile.SYMTYPE, "/etc"), "a link or a device"),
        (member("images", tarfile.LNKTYPE, "good.txt"), "a link or a device"),
        (member("tap", tarfile.FIFOTYPE), "a link or a device"),
        (member("disk", tarfile.BLKTYPE), "a link or a device"),
    ],
)
def test_a_hostile_tar_file_leaves_nothing(tmp_path: Path, info: tarfile.TarInfo, says: str) -> None:
    archive = tar(tmp_path / "data.tar", (member("good.txt"), b"good"), (info, b""))
    (tmp_path / "root").mkdir()
    with pytest.raises(DataError, match=says):
        extract(archive, tmp_path / "root" / "set")
    assert left(tmp_path) == ["data.tar", "root"]


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/outside.txt", "a/../../outside.txt"])
def test_a_hostile_zip_file_leaves_nothing(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as file:
        file.writestr("good.txt", b"good")
        file.writestr(name, b"bad")
    with pytest.raises(DataError, match="outside its folder"):
        extract(tmp_path / "data.zip", tmp_path / "root" / "set")
    assert left(tmp_path) == ["data.zip", "root"]


def test_a_link_in_a_zip_file_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("images")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as file:
        file.writestr(info, "/etc")
    with pytest.raises(DataError, match="is a link"):
        extract(tmp_path / "data.zip", tmp_path / "set")
    assert left(tmp_path) == ["data.zip"]


@pytest.mark.parametrize("name", ["data.tar", "data.tar.gz"])
def test_a_truncated_archive_leaves_nothing(tmp_path: Path, name: str) -> None:
    content = bytes(range(256)) * 4000
    archive = tar(tmp_path / name, (member("a.jpg"), content), (member("b.jpg"), content[::-1]))
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(DataError, match="damaged, not complete"):
        extract(archive, tmp_path / "set")
    assert left(tmp_path) == [name]


@pytest.mark.parametrize("content", [b"", b"<html>404</html>"])
def test_no_archive_at_all(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.tgz").write_bytes(content)
    with pytest.raises(DataError, match=r"data\.tgz is damaged|has nothing in it"):
        extract(tmp_path / "data.tgz", tmp_path / "set")
    with pytest.raises(DataError, match="there is no file"):
        extract(tmp_path / "gone.tgz", tmp_path / "set")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    place = tmp_path / "set"
    (place / "images").mkdir(parents=True)
    (place / "images" / "a.jpg").write_bytes(b"mine")
    with pytest.raises(DataError, match="is there already"):
        extract(tar(tmp_path / "data.tar", (member("images/a.jpg"), b"theirs")), place)
    assert (place / "images" / "a.jpg").read_bytes() == b"mine"
