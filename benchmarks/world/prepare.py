"""`trireme data prepare world`: fetch, draw, drop, split, and write the index that benchmarks open.

Each package, each family's pictures and the index are whole or absent, so a killed preparation goes on where it
stopped, and a finished one is only checked.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from trireme import packages
from trireme.benchmarks.world import drawing
from trireme.benchmarks.world.captions import CAPTIONS, caption
from trireme.benchmarks.world.drawing import Picture
from trireme.benchmarks.world.emoji import MATCHING, Emoji, Icon, match, read_standard
from trireme.benchmarks.world.families import BY_NAME, FAMILIES, NAMES, PACKAGES, fetch
from trireme.benchmarks.world.rules import RULES, Selection, select, split_of
from trireme.errors import DataError, TriremeError
from trireme.files import atomic_folder, fingerprint, home, locked, sha256_file, write_json
from trireme.progress import say

VERSION = "1.0"
COMMAND = "trireme data prepare world"

_INDEX, _MANIFEST = "index.parquet", "manifest.json"


def root() -> Path:
    """The world's folder. Paths in its index are relative to it."""
    return home() / "data" / "world"


def recipe() -> str:
    """Hash of everything the world is made from: packages, roles, rules, drawing and captions."""
    families = [[family.name, family.roles, family.artist, family.package.integrity] for family in FAMILIES]
    return fingerprint([VERSION, MATCHING, RULES, CAPTIONS, drawing.DRAWING, drawing.SIZE, NAMES.integrity, families])


def prepare(verify: bool = False) -> dict[str, Any]:
    """Make the world, or what is missing of it, and say what was kept and dropped. A finished world is left as it is.

    Args:
        verify: also compare the checksum of every picture, not only its size, and redraw what differs.

    Returns:
        the manifest.

    Raises:
        DataError: a package has another checksum than the pinned one.
        TriremeError: no network, no npm, no rasteriser, or a full disk.
    """
    with locked(root() / "prepare"):
        manifest = _finished(verify)
        if manifest is None:
            icons = _draw_missing(verify)
            manifest = _finished(verify=False)  # only pictures were lost, and they are as they were
        if manifest is None:
            manifest = _select_and_write(icons)
            for line in summary(manifest):
                say(line)
        say(f"world {manifest['version']} is ready in {root()} (fingerprint {manifest['fingerprint']})")
    return manifest


def read_manifest() -> dict[str, Any] | None:
    """The manifest of a finished world of this recipe; None where there is none."""
    try:
        manifest = json.loads((root() / VERSION / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(manifest, dict) or not manifest.keys() >= {"families", "fingerprint", "index_sha256", "version"}:
        return None
    return manifest if manifest.get("recipe") == recipe() else None


def index_path() -> Path:
    """Where the index of the pictures lies: one row per kept picture, in class order."""
    return root() / VERSION / _INDEX


def status() -> list[dict[str, str]]:
    """One row per part of the world: {"set", "state": present, missing or wrong, "next": what to do about it}.

    Packages are listed while something has to be made from them; a finished world does without.
    """
    made = [(f"world art {family.name}", drawing.state(root() / "art" / family.name)) for family in FAMILIES]
    made.append((f"world index {VERSION}", index_state()))
    rows: list[tuple[str, str]] = []
    if any(found != "present" for _, found in made):
        for package in PACKAGES:
            path = packages.npm_path(package.name, package.version)
            rows.append((f"world package {package.name} {package.version}", packages.state(path, package.integrity)))
    rows += made
    return [{"set": name, "state": found, "next": "" if found == "present" else COMMAND} for name, found in rows]


def index_state() -> str:
    """ "present", "missing" or "wrong": damaged, or made by another recipe."""
    if not (root() / VERSION).is_dir():
        return "missing"
    manifest = read_manifest()
    return "present" if manifest and _index_fits(manifest) else "wrong"


def summary(manifest: Mapping[str, Any]) -> list[str]:
    """What was kept and dropped and why, as lines to print."""
    lines = [f"world {manifest['version']}: {manifest['candidates']} emoji in {len(FAMILIES)} art families"]
    for row in manifest["dropped"]:
        parts = [f"{row[kind]} {kind}" for kind in ("emoji", "pictures") if row[kind]]
        lines.append(f"  dropped {' and '.join(parts) or 'nothing'}: {row['rule']}")
    classes = ", ".join(f"{count} {split}" for split, count in manifest["splits"].items())
    lines.append(f"  kept {manifest['classes']} classes ({classes}) and {manifest['pictures']} pictures")
    lines += [
        f"    {name}: {row['kept']} of {row['drawn']} ({row['roles']})" for name, row in manifest["families"].items()
    ]
    return lines


def _finished(verify: bool) -> dict[str, Any] | None:
    manifest = read_manifest()
    if manifest is None or not _index_fits(manifest):
        return None
    for family in FAMILIES:
        folder, row = root() / "art" / family.name, manifest["families"].get(family.name, {})
        whole = drawing.state(folder, row.get("stamp", ""), deep=verify) == "present"
        if not whole or _checksums(drawing.pictures(folder)) != row.get("checksums"):
            return None
    return manifest


def _checksums(drawn: Mapping[str, Picture]) -> str:
    return fingerprint({hexcode: picture.sha256 for hexcode, picture in drawn.items()})


def _index_fits(manifest: Mapping[str, Any]) -> bool:
    return index_path().is_file() and sha256_file(index_path()) == manifest["index_sha256"]


def _draw_missing(verify: bool) -> dict[str, dict[str, Icon]]:
    """Fetch and draw what is not here; the icons of every family."""
    drawing.rasteriser()  # fail before the downloads, not after
    say(f"fetching {len(PACKAGES)} packages (19 MB) unless they are here")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fetch, PACKAGES))
    icons = match(read_standard())
    art = root() / "art"
    for left in art.glob(".*.part"):  # a killed drawing's unfinished folder; the lock says that nobody works on it
        shutil.rmtree(left, ignore_errors=True)
    stamps = {name: drawing.stamp(BY_NAME[name], chosen) for name, chosen in icons.items()}
    jobs = {
        name: chosen
        for name, chosen in icons.items()
        if drawing.state(art / name, stamps[name], deep=verify) != "present"
    }
    if jobs:
        drawing.draw(art, jobs)
    for name in jobs:
        if drawing.state(art / name, stamps[name]) != "present":
            raise TriremeError(f"the pictures of {name} are not whole after drawing; run again: {COMMAND}")
    return icons


def _select_and_write(icons: Mapping[str, Mapping[str, Icon]]) -> dict[str, Any]:
    standard, art = read_standard(), root() / "art"
    drawn = {name: drawing.pictures(art / name) for name in icons}
    files = {name: {code: art / name / f"{code}.png" for code in pictures} for name, pictures in drawn.items()}
    chosen = select(standard.emoji, files)
    _check_names(chosen.emoji)
    rows = _rows(chosen, drawn)
    before = [
        {"rule": "flags", "emoji": standard.flags, "pictures": 0},
        {"rule": "skin-tone variants", "emoji": standard.skin_tones, "pictures": 0},
    ]
    manifest = {
        "name": "world",
        "version": VERSION,
        "recipe": recipe(),
        "fingerprint": fingerprint([VERSION, RULES, rows]),
        "candidates": len(standard.emoji),
        "classes": len(chosen.emoji),
        "splits": dict(sorted(Counter(split_of(one.hexcode) for one in chosen.emoji).items())),
        "groups": dict(Counter(one.group for one in chosen.emoji)),
        "pictures": len(rows),
        "dropped": before
        + [{"rule": row.rule, "emoji": len(row.emoji), "pictures": len(row.pictures)} for row in chosen.dropped],
        "dropped_names": {row.rule: [*row.emoji, *row.pictures] for row in chosen.dropped},
        "families": {
            family.name: {
                "roles": ", ".join(family.roles),
                "package": f"{family.package.name}@{family.package.version}",
                "licence": family.package.licence,
                "drawn": len(drawn[family.name]),
                "kept": len(chosen.pictures[family.name]),
                "stamp": drawing.stamp(family, icons[family.name]),
                "checksums": _checksums(drawn[family.name]),
            }
            for family in FAMILIES
        },
        "names": f"{NAMES.name}@{NAMES.version}",
        "rasteriser": drawing.rasteriser(),
    }
    _write(manifest, rows)
    return manifest


def _check_names(emoji: Sequence[Emoji]) -> None:
    doubled = [name for name, count in Counter(one.label for one in emoji).items() if count > 1]
    if doubled:
        raise DataError(f"two emoji are called '{doubled[0]}'; class names must differ, so check {NAMES.name}")


def _rows(chosen: Selection, drawn: Mapping[str, Mapping[str, Picture]]) -> list[dict[str, Any]]:
    rows = []
    for number, emoji in enumerate(chosen.emoji):
        for family in FAMILIES:
            if emoji.hexcode not in chosen.pictures[family.name]:
                continue
            picture = drawn[family.name][emoji.hexcode]
            rows.append(
                {
                    "class": number,
                    "hexcode": emoji.hexcode,
                    "name": emoji.label,
                    "group": emoji.group,
                    "subgroup": emoji.subgroup,
                    "split": split_of(emoji.hexcode),
                    "family": family.name,
                    "path": f"art/{family.name}/{emoji.hexcode}.png",
                    "sha256": picture.sha256,
                    "caption": caption(emoji, family.name, picture.icon),
                }
            )
    return rows


def _write(manifest: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = root() / VERSION
    with atomic_folder(folder) as part:
        pq.write_table(pa.Table.from_pylist(rows), part / _INDEX)
        manifest["index_sha256"] = sha256_file(part / _INDEX)
        write_json(part / _MANIFEST, manifest)
        if folder.exists():  # another recipe's, or a damaged one
            shutil.rmtree(folder)
