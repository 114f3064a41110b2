"""Vector art to 128 px PNG on white, one folder per family, whole or absent.

Run as a module it draws one family: rasterising holds Python's global lock, so `draw` starts a process per family,
two at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from trireme.benchmarks.world.emoji import Icon
from trireme.benchmarks.world.families import BY_NAME, Family, read
from trireme.errors import DataError, TriremeError
from trireme.files import atomic_folder, fingerprint, sha256_file, write_json
from trireme.progress import progress

SIZE = 128
DRAWING = "1"  # raise it when the pixels of a picture change for the same icon

_LIST = "pictures.json"
_REPORT_EVERY = 100


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawn icon: its name in the package, and the checksum and size of its PNG."""

    icon: str
    sha256: str
    size: int


def stamp(family: Family, icons: Mapping[str, Icon]) -> str:
    """What the pictures of a family depend on: the package, the icons chosen and the code here.

    A newer rasteriser is no reason to draw again: `rasteriser` is recorded, and the pictures' checksums tell.
    """
    chosen = {hexcode: asdict(icon) for hexcode, icon in icons.items()}
    return fingerprint([family.package.integrity, chosen, SIZE, DRAWING])


def rasteriser() -> str:
    """Name and version of what draws.

    Raises:
        TriremeError: it is not installed.
    """
    try:
        return f"resvg-py {version('resvg-py')}"
    except PackageNotFoundError as error:
        raise TriremeError("drawing the world needs resvg-py; run: pip install 'trireme-bench[world]'") from error


def pictures(folder: Path) -> dict[str, Picture]:
    """What a drawn family holds: {hexcode: picture}; empty where the folder or its list is missing or unreadable."""
    try:
        rows = json.loads((folder / _LIST).read_text(encoding="utf-8"))["pictures"]
        return {hexcode: Picture(**row) for hexcode, row in rows.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def state(folder: Path, wanted: str | None = None, deep: bool = False) -> str:
    """ "present", "missing" or "wrong" (other stamp, lost or cut pictures). `deep` also compares every checksum."""
    if not folder.is_dir():
        return "missing"
    known = pictures(folder)
    if not known or (wanted is not None and _stamp_of(folder) != wanted):
        return "wrong"
    with os.scandir(folder) as entries:
        sizes = {entry.name: entry.stat().st_size for entry in entries if entry.name.endswith(".png")}
    for hexcode, picture in known.items():
        name = f"{hexcode}.png"
        if sizes.get(name) != picture.size or (deep and sha256_file(folder / name) != picture.sha256):
            return "wrong"
    return "present"


def _stamp_of(folder: Path) -> str:
    return str(json.loads((folder / _LIST).read_text(encoding="utf-8")).get("stamp", ""))


def draw(root: Path, jobs: Mapping[str, Mapping[str, Icon]], processes: int = 2) -> None:
    """Draw each family of `jobs` into `root`/<family>; what stood there before is replaced.

    Raises:
        TriremeError: a drawing process failed; what the others finished stays.
    """
    rasteriser()
    waiting = sorted(jobs, key=lambda name: -len(jobs[name]))
    running: list[_Worker] = []
    with progress("draw the world", sum(len(icons) for icons in jobs.values()), "pictures") as bar:
        try:
            while waiting or running:
                while waiting and len(running) < processes:
                    name = waiting.pop(0)
                    running.append(_Worker(root, name, jobs[name]))
                for worker in list(running):
                    line = worker.read()
                    if line is None:
                        worker.finish()
                        running.remove(worker)
                    else:
                        bar.advance(line)
        finally:
            for worker in running:
                worker.stop()


class _Worker:
    def __init__(self, root: Path, name: str, icons: Mapping[str, Icon]) -> None:
        self.name = name
        job = {"root": str(root), "family": name, "icons": {code: asdict(icon) for code, icon in icons.items()}}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "trireme.benchmarks.world.drawing"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job))
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # it died at once; `finish` says why

    def read(self) -> int | None:
        """How many more pictures it has drawn; None at its end."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return int(line) if line else None

    def finish(self) -> None:
        assert self._process.stderr is not None
        said = self._process.stderr.read().strip()
        if self._process.wait() != 0:
            reason = said.splitlines()[-1] if said else f"it ended with code {self._process.returncode}"
            raise TriremeError(f"drawing {self.name} failed: {reason}")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def draw_family(folder: Path, family: Family, icons: Mapping[str, Icon]) -> Iterator[int]:
    """Draw every icon into `folder`, which appears when all are done; yields how many more are drawn."""
    drawings = json.loads(read(family.package, "icons.json"))
    known: dict[str, dict[str, Any]] = {}
    with atomic_folder(folder) as part:
        for count, (hexcode, icon) in enumerate(icons.items(), start=1):
            png = rasterise(svg(drawings, icon), f"{family.name}/{icon.name}")
            (part / f"{hexcode}.png").write_bytes(png)
            known[hexcode] = asdict(Picture(icon.name, hashlib.sha256(png).hexdigest(), len(png)))
            if count % _REPORT_EVERY == 0:
                yield _REPORT_EVERY
        write_json(part / _LIST, {"stamp": stamp(family, icons), "rasteriser": rasteriser(), "pictures": known})
        if folder.exists():  # an older or damaged drawing of the same family
            shutil.rmtree(folder)
    yield len(icons) % _REPORT_EVERY


def svg(drawings: Mapping[str, Any], icon: Icon) -> str:
    """A stand-alone SVG of one icon of an Iconify set; sizes default to the set's, aliases may mirror or turn it."""
    body = drawings["icons"][icon.parent]

    def number(key: str, default: float) -> float:
        return float(body.get(key, drawings.get(key, default)))

    left, top, width, height = number("left", 0), number("top", 0), number("width", 16), number("height", 16)
    turned = icon.rotate + int(body.get("rotate", 0))
    moves = []
    cx, cy = left + width / 2, top + height / 2
    if turned % 4:
        moves.append(f"rotate({90 * (turned % 4)} {cx} {cy})")
    if icon.flip_h ^ bool(body.get("hFlip")):
        moves.append(f"translate({2 * cx} 0) scale(-1 1)")
    if icon.flip_v ^ bool(body.get("vFlip")):
        moves.append(f"translate(0 {2 * cy}) scale(1 -1)")
    inner = f'<g transform="{" ".join(moves)}">{body["body"]}</g>' if moves else body["body"]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{SIZE}" height="{SIZE}" viewBox="{left} {top} {width} {height}">{inner}</svg>'
    )


def rasterise(text: str, what: str) -> bytes:
    """PNG bytes of an SVG, `SIZE` x `SIZE`, on white. Fonts of the machine are not used.

    Raises:
        DataError: the SVG cannot be drawn.
    """
    import resvg_py

    try:
        return bytes(
            resvg_py.svg_to_bytes(
                svg_string=text, background="#ffffff", width=SIZE, height=SIZE, skip_system_fonts=True
            )
        )
    except ValueError as error:
        raise DataError(f"cannot draw {what}: {error}") from error


def _main(argv: Sequence[str] | None = None) -> int:
    job = json.load(sys.stdin)
    family = BY_NAME[job["family"]]
    icons = {hexcode: Icon(**icon) for hexcode, icon in job["icons"].items()}
    try:
        for count in draw_family(Path(job["root"]) / family.name, family, icons):
            print(count, flush=True)  # a broken pipe ends an orphan whose parent was killed
    except TriremeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_main())
