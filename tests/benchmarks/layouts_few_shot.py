"""CoOp's sets, RAF-DB and ELEVATER's sets in small: official file names and schema, pictures drawn here.

Lists are in no order of classes, as the published ones, so that a test sees whether an order was kept.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks.layouts import Written, draw, write_lines
from trireme.benchmarks.datasets.elevater_files import entries
from trireme.benchmarks.datasets.spec import TEST, TRAIN, VALIDATION

PER_CLASS = 4
"""Pictures of each class in each split."""


@dataclass(frozen=True, slots=True)
class Made(Written):
    """What was written, with the class ids and the labels (several for a picture of VOC) by id."""

    class_ids: tuple[str, ...] = ()
    labels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


Row = tuple[str, int, str]

# What the published files look like: the folder, its split file, class names as they are listed, and paths of a class
# in a split, counted from 1 over all splits.
_COOP: Mapping[str, tuple[str, str, str, tuple[str, str, str], Callable[[int, int, str], str]]] = {
    "caltech101": (
        "caltech-101",
        "101_ObjectCategories",
        "Caltech101",
        ("face", "leopard", "airplane"),
        lambda label, number, split: f"{('Faces', 'Leopards', 'airplanes')[label]}/image_{number:04}.jpg",
    ),
    "cars": (
        "stanford_cars",
        "",
        "StanfordCars",
        ("2012 Audi TTS Coupe", "2007 Suzuki Aerio Sedan", "2012 BMW M3 Coupe"),
        lambda label, number, split: f"cars_{'test' if split == TEST else 'train'}/{100 * label + number:05}.jpg",
    ),
    "dtd": (
        "dtd",
        "images",
        "DescribableTextures",
        ("banded", "blotchy", "polka-dotted"),
        lambda label, number, split: "{0}/{0}_{1:04}.jpg".format(("banded", "blotchy", "polka-dotted")[label], number),
    ),
    "eurosat": (
        "eurosat",
        "2750",
        "EuroSAT",
        ("Annual Crop Land", "Forest", "Sea or Lake"),
        lambda label, number, split: "{0}/{0}_{1}.jpg".format(("AnnualCrop", "Forest", "SeaLake")[label], number),
    ),
    "flowers102": (
        "oxford_flowers",
        "jpg",
        "OxfordFlowers",
        ("pink primrose", "hard-leaved pocket orchid", "passion flower"),
        lambda label, number, split: f"image_{100 * label + number:05}.jpg",
    ),
    "food101": (
        "food-101",
        "images",
        "Food101",
        ("apple_pie", "baby_back_ribs", "baklava"),
        lambda label, number, split: f"{('apple_pie', 'baby_back_ribs', 'baklava')[label]}/10056{number:02}.jpg",
    ),
    "pets": (
        "oxford_pets",
        "images",
        "OxfordPets",
        ("abyssinian", "american_bulldog", "yorkshire_terrier"),
        lambda label, number, split: f"{('Abyssinian', 'american_bulldog', 'yorkshire_terrier')[label]}_{number}.jpg",
    ),
    "sun397": (
        "sun397",
        "SUN397",
        "SUN397",
        ("abbey", "indoor apse", "youth_hostel"),
        lambda label, number, split: f"{('a/abbey', 'a/apse/indoor', 'y/youth_hostel')[label]}/sun_a{number:04}.jpg",
    ),
    "ucf101": (
        "ucf101",
        "UCF-101-midframes",
        "UCF101",
        ("Apply_Eye_Makeup", "Archery", "Yo_Yo"),
        lambda label, number, split: "{}/v_{}_g01_c{:02}.jpg".format(
            ("Apply_Eye_Makeup", "Archery", "Yo_Yo")[label], ("ApplyEyeMakeup", "Archery", "YoYo")[label], number
        ),
    ),
}
_SPLITS = (TRAIN, VALIDATION, TEST)


def order(classes: int, part: int) -> list[tuple[int, int]]:
    """(label, number) of all pictures of a split, mixed, and no number twice for a label over all splits."""
    pairs = [(label, PER_CLASS * part + number + 1) for label in range(classes) for number in range(PER_CLASS)]
    shuffled = np.random.default_rng(part).permutation(len(pairs))
    return [pairs[position] for position in shuffled]


def split_set(name: str, root: Path) -> Made:
    """A set with a split file."""
    folder, images, _, names, path = _COOP[name]
    parts: dict[str, list[Row]] = {}
    for part, split in enumerate(_SPLITS):
        rows = [(path(label, number, split), label, names[label]) for label, number in order(3, part)]
        for picture, label, _ in rows:
            draw(root / folder / images / picture, label, part)
        parts[split] = rows
    split_file(root, name).write_text(
        json.dumps({"train": parts[TRAIN], "val": parts[VALIDATION], "test": parts[TEST]})
    )
    return _made(names, tuple(name.replace("_", " ") for name in names), parts)


def split_file(root: Path, name: str) -> Path:
    """Where the split file of a set is."""
    folder, _, file, _, _ = _COOP[name]
    return root / folder / f"split_zhou_{file}.json"


def _made(ids: Sequence[str], names: Sequence[str], parts: Mapping[str, Sequence[Row]]) -> Made:
    labels = {picture: (label,) for rows in parts.values() for picture, label, _ in rows}
    return Made(tuple(names), {s: tuple(row[0] for row in rows) for s, rows in parts.items()}, tuple(ids), labels)


def coop_aircraft(root: Path) -> Made:
    """`data/` of the archive, renamed."""
    folder, names = root / "fgvc_aircraft", ("707-320", "A300B4", "F/A-18")
    write_lines(folder / "variants.txt", list(names))
    parts: dict[str, list[Row]] = {}
    for part, (split, file) in enumerate(((TRAIN, "train"), (VALIDATION, "val"), (TEST, "test"))):
        parts[split] = [(f"{label}{number:06}", label, names[label]) for label, number in order(3, part)]
        for picture, label, _ in parts[split]:
            draw(folder / "images" / f"{picture}.jpg", label, part)
        write_lines(folder / f"images_variant_{file}.txt", [f"{row[0]} {row[2]}" for row in parts[split]])
    return _made(names, names, parts)


def coop_imagenet(root: Path) -> Made:
    """images/train and images/val in folders by synset, and CLIP's names, of which two are equal."""
    folder, synsets = root / "imagenet", ("n01440764", "n04355933", "n04356056")
    names = ("tench", "sunglasses", "sunglasses")
    write_lines(folder / "classnames.txt", [" ".join(row) for row in zip(synsets, names, strict=True)])
    parts: dict[str, list[Row]] = {}
    for part, (split, top) in enumerate(((TRAIN, "train"), (TEST, "val"))):
        rows = sorted((f"{synsets[label]}/ILSVRC2012_{number:08}.JPEG", label) for label, number in order(3, part))
        parts[split] = [(picture, label, names[label]) for picture, label in rows]
        for picture, label in rows:
            draw(folder / "images" / top / picture, label, part)
    return _made(synsets, names, parts)


def rafdb(root: Path) -> Made:
    """EmoLabel and Image/aligned; test pictures stand before those for training, as in no order of the list."""
    folder = root / "rafdb"
    names = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
    parts: dict[str, list[Row]] = {}
    for part, (split, word) in enumerate(((TRAIN, "train"), (TEST, "test"))):
        rows = [(f"{word}_{100 * label + number:05}", label) for label, number in order(7, part)]
        for stem, label in rows:
            draw(folder / "Image" / "aligned" / f"{stem}_aligned.jpg", label, part)
        parts[split] = [(f"{stem}.jpg", label, names[label]) for stem, label in rows]
    listed = [f"{picture} {label + 1}" for split in (TEST, TRAIN) for picture, label, _ in parts[split]]
    write_lines(folder / "EmoLabel" / "list_patition_label.txt", listed)
    return _made(names, names, parts)


FEW_SHOT: Mapping[str, Callable[[Path], Made]] = {
    **{f"coop/{name}": partial(split_set, name) for name in _COOP},
    "coop/aircraft": coop_aircraft,
    "coop/imagenet": coop_imagenet,
    "rafdb": rafdb,
}


def picture_bytes(label: int, number: int) -> bytes:
    """A noisy square as JPEG."""
    rng = np.random.default_rng([label, number])
    pixels = rng.integers(0, 255, 3) + rng.normal(0, 40, (16, 16, 3))
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def elevater(name: str, root: Path) -> Made:
    """A set as ELEVATER's downloader leaves it: index files, label names, and archives that are not compressed.

    Pictures are of the first, the second and the last class; of VOC, of every class, with the next one beside it.
    """
    entry = entries()[name]
    folder, classes = root / "elevater" / entry["folder"], tuple(entry["classes"])
    folder.mkdir(parents=True)
    several = entry["several_labels"]
    shown = range(len(classes)) if several else sorted({0, 1, len(classes) - 1})
    ids: dict[str, tuple[str, ...]] = {}
    labels: dict[str, tuple[int, ...]] = {}
    members: dict[str, dict[str, bytes]] = {}
    for part, split in enumerate(_SPLITS):
        if split not in entry["splits"]:
            continue
        files = entry["splits"][split]
        archive = files["archives"][0]
        rows: list[tuple[str, tuple[int, ...]]] = []
        for number in range(1 if several else PER_CLASS):
            for label in shown:
                member = f"{split} {label}/{number}.jpg"  # names with a space occur
                members.setdefault(archive, {})[member] = picture_bytes(label, 10 * part + number)
                rows.append((member, (label, (label + 1) % len(classes)) if several else (label,)))
        if entry["format"] == "coco":
            (folder / files["index"]).write_text(json.dumps(_coco(archive, rows, classes)))
        else:
            lines = [f"{archive}@{member} {','.join(map(str, held))}" for member, held in rows]
            write_lines(folder / files["index"], lines)
        ids[split] = tuple(f"{archive}@{member}" for member, _ in rows)
        labels |= {f"{archive}@{member}": held for member, held in rows}
    if entry["labelmap"]:
        write_lines(folder / entry["labelmap"], [f"label {label}" for label in range(len(classes))])
    for archive, held in members.items():
        with zipfile.ZipFile(folder / archive, "w") as file:
            for member, content in held.items():
                file.writestr(member, content)
    return Made(classes, ids, classes, labels)


def _coco(archive: str, rows: Sequence[tuple[str, tuple[int, ...]]], classes: Sequence[str]) -> dict[str, object]:
    """Ids count from 1; the list of images is backwards, and is read by id."""
    images = [{"id": i, "file_name": member, "zip_file": archive} for i, (member, _) in enumerate(rows, 1)]
    annotations = [{"id": i, "image_id": i, "category_id": held[0] + 1} for i, (_, held) in enumerate(rows, 1)]
    categories = [{"id": label + 1, "name": f"label {label}"} for label in range(len(classes))]
    return {"images": images[::-1], "annotations": annotations[::-1], "categories": categories[::-1]}


ELEVATER: Mapping[str, Callable[[Path], Made]] = {f"elevater/{name}": partial(elevater, name) for name in entries()}
