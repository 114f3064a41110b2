"""The scenes of world detection: which art they show, their annotations as LVIS has them, and noisy proposals.

Test scenes show test art and validation scenes validation art, so what a memory may not hold of them is what it may not
hold of `world/all` and `world/validation`. All is determined by the prepared world; the folder is whole or absent.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from trireme.benchmarks.detection import scenes
from trireme.benchmarks.detection.scenes import covered, numbers, overlap, scene, shuffled
from trireme.benchmarks.world import prepare
from trireme.benchmarks.world.families import MEMORY, TEST, VALIDATION
from trireme.benchmarks.world.rules import COMMON, FRESH_VALIDATION
from trireme.benchmarks.world.sets import Picture, pictures
from trireme.errors import DataError
from trireme.files import atomic_folder, fingerprint, locked, sha256_file, write_json
from trireme.progress import progress

VERSION = "1"
"""Raise it when scenes, annotations or proposals change for the same world."""

_FEW = {1: "r", 2: "r", 3: "c", 4: "f"}
"""Memory pictures of a class -> its LVIS letter. LVIS counts training pictures (fewer than 10, fewer than 100); of the
world's classes the memory holds four pictures at most."""
_CLASSES = {
    "r": 41,
    "c": 110,
    "f": 209,
}  # shown in test scenes: all that are rare by these letters, and a share of others
_FRESH, _KNOWN = 45, 315  # pictures in validation scenes: all of classes that no training knows, and others
_OBJECTS = (3, 6)  # in a scene
_PARTIAL_EVERY = 8  # every eighth scene shows one object twice and has a box for one of them
_MANIFEST = "manifest.json"
_ROLES = (TEST, VALIDATION)
_MISSED, _TWICE, _FALSE = 0.05, 0.25, 1.5  # proposals: objects without one, objects with two, false ones a scene


def folder() -> Path:
    """Where scenes lie: scenes/<role>-<number>.png, <role>.json, <role>-proposals.json, and the manifest."""
    return prepare.root() / "detection" / VERSION


def recipe() -> str:
    """Hash of everything the scenes are made from."""
    chosen = [_FEW, _CLASSES, _FRESH, _KNOWN, _OBJECTS, _PARTIAL_EVERY, _MISSED, _TWICE, _FALSE]
    index = [[row.family, row.hexcode, row.sha256, row.split, row.name] for row in pictures()]
    return fingerprint([VERSION, scenes.DRAWING, scenes.WIDTH, scenes.HEIGHT, chosen, index])


def made(verify: bool = False) -> dict[str, str]:
    """{file: SHA-256} of every scene and list, below `folder()`; they are drawn where they are missing or damaged.

    Args:
        verify: compare the checksum of every scene, not only its size. Lists are always compared.

    Raises:
        DataError: the world is not prepared.
        TriremeError: a full disk.
    """
    wanted = recipe()
    found = _whole(wanted, verify)
    if found is None:
        with locked(folder()):
            found = _whole(wanted, verify)
            if found is None:
                _make(wanted)
                found = _whole(wanted, verify=True)
    if found is None:
        raise DataError(f"the scenes in {folder()} are not whole after drawing; is something else writing there?")
    return found


def _whole(wanted: str, verify: bool) -> dict[str, str] | None:
    try:
        manifest = json.loads((folder() / _MANIFEST).read_text(encoding="utf-8"))
        files: dict[str, list[Any]] = manifest["files"] if manifest["recipe"] == wanted else {}
        for name, (digest, size) in files.items():
            path = folder() / name
            if path.stat().st_size != size or ((verify or path.suffix == ".json") and sha256_file(path) != digest):
                return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {name: digest for name, (digest, _) in files.items()} or None


def _make(wanted: str) -> None:
    rows = pictures()
    plans = {role: list(_plan(role, rows)) for role in _ROLES}
    with atomic_folder(folder()) as part, progress("draw scenes", sum(map(len, plans.values())), "scenes") as bar:
        (part / "scenes").mkdir()
        for role, plan in plans.items():
            annotations, proposals = _empty(rows), []
            for number, shown in enumerate(plan):
                name = f"scenes/{role}-{number:03}.png"
                proposals += _draw(part / name, f"{role} {number}", shown, annotations)
                bar.advance()
            _count(annotations)
            write_json(part / f"{role}.json", annotations)
            (part / f"{role}-proposals.json").write_text(json.dumps(proposals) + "\n", encoding="utf-8")
        files = [path for path in sorted(part.rglob("*")) if path.is_file()]
        sizes = {path.relative_to(part).as_posix(): [sha256_file(path), path.stat().st_size] for path in files}
        write_json(part / _MANIFEST, {"version": VERSION, "recipe": wanted, "files": sizes})
        if folder().exists():  # damaged, or of another recipe
            shutil.rmtree(folder())


def _plan(role: str, rows: Sequence[Picture]) -> Iterator[list[Picture]]:
    """The pictures of every scene of a role."""
    classes = _shown(role, rows)
    art = {f"{row.family}/{row.hexcode}": row for row in rows if row.is_for(role) and row.hexcode in classes}
    left = shuffled(list(art), f"scenes {role}")
    drawn = numbers(f"objects {role}")
    fewest, most = _OBJECTS
    while left:
        count = fewest + int(next(drawn) * (most - fewest + 1))
        yield [art[name] for name in left[:count]]
        left = left[count:]


def _shown(role: str, rows: Sequence[Picture]) -> set[str]:
    """The classes that scenes of a role show."""
    splits = {row.hexcode: row.split for row in rows if row.is_for(role)}
    if role == VALIDATION:
        return _first({FRESH_VALIDATION: _FRESH, COMMON: _KNOWN}, splits)
    letters = _letters(rows)
    return _first(_CLASSES, {code: letters[code] for code in splits})


def _first(most: Mapping[str, int], kinds: Mapping[str, str]) -> set[str]:
    """So many classes of each kind, of {class: kind}."""
    chosen = {kind: [code for code, its in kinds.items() if its == kind] for kind in most}
    return {code for kind, codes in chosen.items() for code in shuffled(codes, "classes of scenes")[: most[kind]]}


def _letters(rows: Sequence[Picture]) -> dict[str, str]:
    held = Counter(row.hexcode for row in rows if row.is_for(MEMORY))
    return {row.hexcode: _FEW[min(held[row.hexcode], max(_FEW))] for row in rows}


def _empty(rows: Sequence[Picture]) -> dict[str, Any]:
    """An annotation file with every class of the world and nothing in it."""
    letters = _letters(rows)
    classes = {row.hexcode: row for row in rows}
    categories = [
        {"id": i, "name": row.name, "synset": code, "synonyms": [row.name], "frequency": letters[code]}
        for i, (code, row) in enumerate(classes.items(), start=1)
    ]
    info = {"description": "Scenes of the world of Trireme, in the format of LVIS v1.0", "version": VERSION}
    return {"info": info, "images": [], "annotations": [], "categories": categories}


def _draw(path: Path, text: str, shown: Sequence[Picture], annotations: dict[str, Any]) -> list[dict[str, Any]]:
    """Draw one scene, add what it shows to the annotations, and give its proposals."""
    number = {one["synset"]: one["id"] for one in annotations["categories"]}
    image = len(annotations["images"]) + 1
    art = [Image.open(row.path) for row in shown]
    partial = image % _PARTIAL_EVERY == 0
    picture, placed = scene([*art, art[0]] if partial else art, text)
    picture.save(path)
    present = {number[row.hexcode] for row in shown}
    annotations["images"].append(
        {
            "id": image,
            "file_name": f"scenes/{path.name}",
            "width": scenes.WIDTH,
            "height": scenes.HEIGHT,
            "neg_category_ids": [one for one in number.values() if one not in present],
            "not_exhaustive_category_ids": [number[shown[0].hexcode]] if partial else [],
        }
    )
    for row, one in zip(shown, placed, strict=False):  # the second copy has no box
        x, y, width, height = one.box
        annotations["annotations"].append(
            {
                "id": len(annotations["annotations"]) + 1,
                "image_id": image,
                "category_id": number[row.hexcode],
                "art": f"{row.family}/{row.hexcode}",
                "bbox": [x, y, width, height],
                "area": width * height,
                "segmentation": [[x, y, x + width, y, x + width, y + height, x, y + height]],
            }
        )
    return [{"image_id": image, **one} for one in _proposals(text, [one.box for one in placed])]


def _count(annotations: dict[str, Any]) -> None:
    """LVIS says of every category in how many pictures it is and how often."""
    boxes = Counter(one["category_id"] for one in annotations["annotations"])
    images = Counter(
        category for _, category in {(o["image_id"], o["category_id"]) for o in annotations["annotations"]}
    )
    for one in annotations["categories"]:
        one["image_count"], one["instance_count"] = images[one["id"]], boxes[one["id"]]


def _proposals(text: str, boxes: Sequence[tuple[int, int, int, int]]) -> Iterator[dict[str, Any]]:
    """Boxes as a detector of objects might give them: shifted, sometimes twice, some missing, some of nothing.

    The score is how much of an object a box shares with it (intersection over union), give or take 0.1.
    """
    drawn = numbers(f"proposals {text}")
    for box in boxes:
        share = next(drawn)
        times = 0 if share < _MISSED else 2 if share > 1 - _TWICE else 1
        for _ in range(times):
            yield _proposal(_shifted(box, drawn), boxes, drawn)
    for _ in range(int(2 * _FALSE * next(drawn) + 0.5)):
        wide, high = 20 + 100 * next(drawn), 20 + 100 * next(drawn)
        place = ((scenes.WIDTH - wide) * next(drawn), (scenes.HEIGHT - high) * next(drawn))
        box_of_nothing = (*place, wide, high)
        if all(covered(box_of_nothing, other) < 0.5 for other in boxes):
            yield _proposal(box_of_nothing, boxes, drawn)


def _shifted(box: Sequence[float], drawn: Iterator[float]) -> tuple[float, float, float, float]:
    """Every edge moved by up to a seventh of its side, inside the scene."""
    x, y, width, height = box
    left, right = (width * (next(drawn) - 0.5) / 3.5 for _ in range(2))
    upper, lower = (height * (next(drawn) - 0.5) / 3.5 for _ in range(2))
    start = max(0.0, x + left), max(0.0, y + upper)
    end = min(float(scenes.WIDTH), x + width + right), min(float(scenes.HEIGHT), y + height + lower)
    return (*start, end[0] - start[0], end[1] - start[1])


def _proposal(
    box: tuple[float, float, float, float], boxes: Sequence[Sequence[float]], drawn: Iterator[float]
) -> dict[str, Any]:
    best = max((overlap(box, other) for other in boxes), default=0.0)
    score = min(1.0, max(0.01, best + 0.2 * (next(drawn) - 0.5)))
    return {"bbox": [round(value, 2) for value in box], "score": round(score, 4)}
