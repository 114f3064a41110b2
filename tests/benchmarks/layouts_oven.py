"""OVEN in small: the official file names and fields (open-vision-language/oven @d3637c6), pictures drawn here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.layouts import draw, write_lines

ENTITIES = {
    "Q1141409": "Dassault Falcon 900",
    "Q388450": "Crow",
    "Q13317": "Yogurt",
    "Q31": "Belgium",
    "Q287": "Wood",
}
"""The first three are seen: training pictures show them."""
SEEN = ("Q1141409", "Q388450", "Q13317")
BY_ID = ("Q31", "Q287", "Q13317", "Q388450", "Q1141409")
"""In the order of their numbers."""
PER_ENTITY = 2


def picture_file(number: int) -> str:
    """Where the official merge script puts picture `number`; every third is a .JPEG, as ImageNet's are."""
    image_id = f"oven_{number:08}"
    return f"{image_id[5:7]}/{image_id}.{'JPEG' if number % 3 == 0 else 'jpg'}"


def write(root: Path, kind: str = "entity") -> list[dict[str, str]]:
    """oven/ with the annotations of train and val and the merged pictures; the lines of val."""
    folder = root / "oven"
    train = _lines(folder, f"oven_{kind}_train", f"{kind}_train", SEEN, 4_900_000)
    write_lines(folder / f"oven_{kind}_train.jsonl", [json.dumps(line) for line in train])
    val = [
        line
        for start, part, entities in ((0, "seen", SEEN), (90, "unseen", tuple(sorted({*ENTITIES} - {*SEEN}))))
        for line in _lines(folder, f"oven_{kind}_val", f"{kind}_val_{part}", entities, 5_000_000 + start)
    ]
    for number, line in enumerate(val):
        line["data_id"] = f"oven_{kind}_val_{number:08}"
    write_lines(folder / f"oven_{kind}_val.jsonl", [json.dumps(line) for line in val])
    return val


def _lines(folder: Path, name: str, split: str, entities: Sequence[str], first: int) -> list[dict[str, str]]:
    lines = []
    for label, entity in enumerate(entities):
        for number in range(PER_ENTITY):
            picture = first + 10 * label + number
            draw(folder / "oven_images" / picture_file(picture), list(ENTITIES).index(entity), picture)
            lines.append(
                {
                    "data_id": f"{name}_{len(lines):08}",
                    "image_id": f"oven_{picture:08}",
                    "question": "what is the main object?",
                    "entity_id": entity,
                    "entity_text": ENTITIES[entity],
                    "data_split": split,
                }
            )
    return lines


def wikipedia(path: Path, extra: int = 3) -> Path:
    """A file of candidates as `Wiki6M_ver_1_0_title_only.jsonl` is: every entity, and others before and after them."""
    names = {f"Q9{number:06}": f"Something else {number}" for number in range(extra)} | ENTITIES | {"Q5": "Human"}
    write_lines(path, [json.dumps({"wikidata_id": key, "wikipedia_title": name}) for key, name in names.items()])
    return path
