"""OVEN's files: annotations in JSON lines, pictures by number, candidates by id and name.

Names and fields are those of open-vision-language/oven @d3637c6 (README.md) and edchengg/oven_eval @e3c0e89
(oven_eval.py, image_downloads/merge_oven_images.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from trireme.benchmarks.datasets.spec import TEST, TRAIN, Listed, Listing
from trireme.benchmarks.datasets.texts import json_lines
from trireme.errors import DataError

SEEN, UNSEEN = "seen", "unseen"
PICTURES, PATHS = "oven_images", "ovenid2impath.csv"
OFFICIAL: Mapping[str, str] = {TRAIN: "train", TEST: "val"}
"""Our splits -> the official ones. Our test pictures are those of val: the labels of the official test are withheld."""
CANDIDATES = (("wikidata_id", "wikipedia_title"), ("entity_id", "entity_text"), ("id", "content"))
"""Fields (id, name) of a file of candidates: those of `Wiki6M_ver_1_0_title_only.jsonl`, of the annotations, and of the
`wikipedia_6m.jsonl` that oven_eval's scripts read."""
_PICTURE = re.compile(r"oven_([0-9]{2})[0-9]*")


@dataclass(frozen=True, slots=True)
class EntityListing(Listing):
    """A listing whose classes are entities.

    Attributes:
        parts: whether each entity is "seen", "unseen", or "" (not told); what its first row says.
        row_parts: the same of each row. The published evaluator counts a row where its own `data_split` says.
    """

    parts: tuple[str, ...] = ()
    row_parts: tuple[str, ...] = ()


def entity(folder: Path, split: str) -> EntityListing:
    """The entity split's annotations."""
    return read(folder, f"oven_entity_{OFFICIAL[split]}.jsonl")


def query(folder: Path, split: str) -> EntityListing:
    """The query split's annotations."""
    return read(folder, f"oven_query_{OFFICIAL[split]}.jsonl")


def read(folder: Path, name: str) -> EntityListing:
    """All lines of an annotation file. Its classes are the entities that it names, by the numbers of their ids; an
    entity is called as its first line calls it. The question is not read.

    Raises:
        DataError: a field is missing, or labels are withheld; names the line.
    """
    path, picture = folder / name, _pictures(folder)
    names: dict[str, str] = {}
    parts: dict[str, str] = {}
    found: list[tuple[str, str, str, str]] = []
    for place, line in json_lines(path):
        lacking = next((one for one in ("data_id", "image_id", "data_split") if not isinstance(line.get(one), str)), "")
        if lacking:
            raise DataError(f"{path}, line {place} has no '{lacking}'; the file is of another version, fetch it again")
        entity_id, text = line.get("entity_id"), line.get("entity_text")
        if not isinstance(entity_id, str) or not isinstance(text, str) or not entity_id or not text:
            raise DataError(
                f"{path}, line {place} ({line['data_id']}) has no entity: labels of this split are withheld; "
                "use split=val, whose labels are published"
            )
        part = _part(line["data_split"])
        parts.setdefault(entity_id, part)
        names.setdefault(entity_id, text)
        found.append((line["data_id"], picture(f"{path}, line {place}", line["image_id"]), entity_id, part))
    ids = sorted(names, key=lambda one: (len(one), one))
    label = {one: number for number, one in enumerate(ids)}
    return EntityListing(
        tuple(ids),
        tuple(names[one] for one in ids),
        tuple(Listed(shown, label[of], key) for key, shown, of, _ in found),
        tuple(parts[one] for one in ids),
        tuple(part for *_, part in found),
    )


def _part(split: str) -> str:
    """As the published evaluator reads it out of `data_split`: "query_val_seen" is seen."""
    return SEEN if "_seen" in split else UNSEEN if "_unseen" in split else ""


def _pictures(folder: Path) -> Callable[[str, str], str]:
    """From a picture's id to its path below the folder: merged as the official script does it, or by its table."""
    if not (folder / PICTURES).is_dir():
        table = _table(folder / PATHS)

        def look(where: str, image_id: str) -> str:
            if image_id not in table:
                raise DataError(f"{where}: {PATHS} has no picture '{image_id}'; fetch both files again")
            return table[image_id]

        return look

    @cache
    def names(shard: str) -> dict[str, str]:
        try:
            with os.scandir(folder / PICTURES / shard) as entries:
                return {entry.name.partition(".")[0]: entry.name for entry in entries}
        except OSError:
            return {}

    def merged(where: str, image_id: str) -> str:
        number = _PICTURE.fullmatch(image_id)
        if number is None:
            raise DataError(f"{where}: '{image_id}' is no picture of OVEN, such as oven_04925844")
        shard = number[1]
        return f"{PICTURES}/{shard}/{names(shard).get(image_id, f'{image_id}.jpg')}"

    return merged


def _table(path: Path) -> dict[str, str]:
    """Lines "oven_04925844,inaturalist/train/x.jpg"."""
    found = {}
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                image_id, comma, shown = line.strip().partition(",")
                if comma:
                    found[image_id] = shown
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} ({error}); fetch it again") from error
    return found


def candidates(path: Path) -> dict[str, str]:
    """{entity id: name} of a file of candidates, in its order.

    Raises:
        DataError: not there, no JSON lines, without an id and a name in a line, or an id twice.
    """
    found: dict[str, str] = {}
    fields: tuple[str, str] | None = None
    for place, line in json_lines(path):
        fields = fields or next((pair for pair in CANDIDATES if pair[0] in line and pair[1] in line), None)
        key, name = (line.get(fields[0]), line.get(fields[1])) if fields else (None, None)
        if not isinstance(key, str) or not isinstance(name, str) or not key or not name.strip():
            known = ", ".join(f"{one} and {other}" for one, other in CANDIDATES)
            raise DataError(f"{path}, line {place} has no id and name of a candidate; fields are {known}")
        if key in found:
            raise DataError(f"{path}, line {place}: candidate {key} is there twice; remove one")
        found[key] = name.strip()
    if not found:
        raise DataError(f"{path} lists no candidate")
    return found
