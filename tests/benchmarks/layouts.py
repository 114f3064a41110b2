"""Published data sets in small: the official file names and schema, a few classes, pictures drawn here.

Every writer fills a folder as its set's archives would, and says what is in it. The numbers are not those of the
published set, so tests open it by a spec with these numbers (`Catalogue.replaced`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.benchmarks.datasets.spec import TEST, TRAIN, VALIDATION, Count, SetSpec

_COLOURS = ((200, 60, 60), (60, 200, 60), (60, 60, 200), (128, 128, 128), (200, 200, 60), (40, 40, 40))
PER_CLASS = 3
"""Pictures of each class in each split."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer made: class names as they should be read, and ids by split in the published order."""

    names: tuple[str, ...]
    ids: Mapping[str, tuple[str, ...]]

    def spec(self, name: str) -> SetSpec:
        """The set's own spec with the numbers of what was written, all of them verified."""
        return replace(
            PUBLISHED[name],
            classes=Count(len(self.names), True, "the test"),
            counts={split: Count(len(ids), True, "the test") for split, ids in self.ids.items()},
        )


def draw(path: Path, label: int, number: int) -> None:
    """A noisy square in the colour of its class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([label, number, len(path.name), sum(map(ord, path.name))])
    pixels = np.array(_COLOURS[label % len(_COLOURS)]) + rng.normal(0, 40, 3) + rng.normal(0, 40, (32, 32, 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def aircraft(root: Path) -> Written:
    """fgvc-aircraft-2013b/data as the archive has it."""
    folder, names = root / "fgvc-aircraft-2013b" / "data", ("707-320", "A300B4", "An-12")
    write_lines(folder / "variants.txt", list(names))
    ids: dict[str, tuple[str, ...]] = {}
    for part, (split, file) in enumerate(((TRAIN, "train"), (VALIDATION, "val"), (TEST, "test"))):
        rows = []
        for label, name in enumerate(names):
            for number in range(PER_CLASS):
                picture = f"{part}{label}{number:05}"
                draw(folder / "images" / f"{picture}.jpg", label, number)
                rows.append((picture, name))
        write_lines(folder / f"images_variant_{file}.txt", [" ".join(row) for row in rows])
        ids[split] = tuple(row[0] for row in rows)
    return Written(names, ids)


def food101(root: Path) -> Written:
    """food-101 as the archive has it."""
    folder, classes = root / "food-101", ("apple_pie", "baby_back_ribs", "baklava")
    write_lines(folder / "meta" / "classes.txt", list(classes))
    ids: dict[str, tuple[str, ...]] = {}
    for part, split in enumerate((TRAIN, TEST)):
        rows = [f"{name}/{part}{number:06}" for name in classes for number in range(PER_CLASS)]
        for number, row in enumerate(rows):
            draw(folder / "images" / f"{row}.jpg", classes.index(row.split("/")[0]), number)
        write_lines(folder / "meta" / f"{split}.txt", rows)
        ids[split] = tuple(rows)
    return Written(("apple pie", "baby back ribs", "baklava"), ids)


def cub(root: Path) -> Written:
    """CUB_200_2011 as the archive has it: four lists by picture number, half of the pictures for training."""
    folder = root / "CUB_200_2011"
    classes = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")
    paths = [f"{name}/{name[4:]}_{number:04}.jpg" for name in classes for number in range(2 * PER_CLASS)]
    trains = [number % 2 for number in range(len(paths))]
    for number, path in enumerate(paths):
        draw(folder / "images" / path, number // (2 * PER_CLASS), number)
    write_lines(folder / "classes.txt", [f"{number} {name}" for number, name in enumerate(classes, 1)])
    write_lines(folder / "images.txt", [f"{number} {path}" for number, path in enumerate(paths, 1)])
    labels = [f"{number + 1} {number // (2 * PER_CLASS) + 1}" for number in range(len(paths))]
    write_lines(folder / "image_class_labels.txt", labels)
    write_lines(folder / "train_test_split.txt", [f"{number} {side}" for number, side in enumerate(trains, 1)])
    sides = {split: [one for one, train in zip(paths, trains, strict=True) if train == side] for split, side in _SIDES}
    ids = {split: tuple(found) for split, found in sides.items()}
    return Written(("Black footed Albatross", "Laysan Albatross", "Sooty Albatross"), ids)


_SIDES = ((TRAIN, 1), (TEST, 0))


def pets(root: Path) -> Written:
    """oxford-iiit-pet as torchvision extracts it."""
    folder, classes = root / "oxford-iiit-pet", ("Abyssinian", "american_bulldog", "Egyptian_Mau")
    ids: dict[str, tuple[str, ...]] = {}
    for part, (split, file) in enumerate(((TRAIN, "trainval"), (TEST, "test"))):
        rows = [
            (f"{name}_{100 * part + number}", label) for label, name in _each(classes) for number in range(PER_CLASS)
        ]
        for number, (picture, label) in enumerate(rows):
            draw(folder / "images" / f"{picture}.jpg", label, number)
        write_lines(folder / "annotations" / f"{file}.txt", [f"{picture} {label + 1} 1 1" for picture, label in rows])
        ids[split] = tuple(picture for picture, _ in rows)
    return Written(("Abyssinian", "american bulldog", "Egyptian Mau"), ids)


def _each(classes: Sequence[str]) -> list[tuple[int, str]]:
    return list(enumerate(classes))


def places365(root: Path) -> Written:
    """places365 as torchvision extracts it, small pictures."""
    folder, classes = root / "places365", ("/a/airfield", "/a/apartment_building/outdoor", "/z/zen_garden")
    write_lines(folder / "categories_places365.txt", [f"{name} {label}" for label, name in _each(classes)])
    train = [(f"{name}/{number:08}.jpg", label) for label, name in _each(classes) for number in range(PER_CLASS)]
    val = [(f"Places365_val_{number:08}.jpg", (number - 1) // PER_CLASS) for number in range(1, 3 * PER_CLASS + 1)]
    for where, rows in (("data_256_standard", train), ("val_256", val)):
        for number, (picture, label) in enumerate(rows):
            draw(folder / where / picture.lstrip("/"), label, number)
    write_lines(folder / "places365_train_standard.txt", [f"{picture} {label}" for picture, label in train])
    write_lines(folder / "places365_val.txt", [f"{picture} {label}" for picture, label in val])
    ids = {TRAIN: tuple(one.lstrip("/") for one, _ in train), TEST: tuple(one for one, _ in val)}
    return Written(("airfield", "apartment building outdoor", "zen garden"), ids)


def cars(root: Path) -> Written:
    """stanford_cars as CoOp and torchvision have it, with MATLAB structs as in the devkit."""
    folder = root / "stanford_cars"
    classes = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Ram C/V Cargo Van Minivan 2012")
    (folder / "devkit").mkdir(parents=True)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array([classes], dtype=object)})
    ids: dict[str, tuple[str, ...]] = {}
    sides = (
        (TRAIN, "cars_train", "devkit/cars_train_annos.mat"),
        (TEST, "cars_test", "cars_test_annos_withlabels.mat"),
    )
    for split, where, file in sides:
        rows = [(f"{number + 1:05}.jpg", number // PER_CLASS) for number in range(3 * PER_CLASS)]
        for number, (picture, label) in enumerate(rows):
            draw(folder / where / picture, label, number + (split == TEST) * 100)
        fields = [(name, object) for name in ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")]
        written = [(1, 1, 30, 30, np.uint8(label + 1), picture) for picture, label in rows]
        savemat(folder / file, {"annotations": np.array([written], dtype=fields)})
        ids[split] = tuple(f"{where}/{picture}" for picture, _ in rows)
    return Written(classes, ids)


def dogs(root: Path) -> Written:
    """stanford_dogs: Images, and lists with a cell of paths and the labels as doubles, both as columns."""
    folder = root / "stanford_dogs"
    classes = ("n02085620-Chihuahua", "n02085782-Japanese_spaniel", "n02098105-soft-coated_wheaten_terrier")
    (folder / "lists").mkdir(parents=True)
    ids: dict[str, tuple[str, ...]] = {}
    for part, (split, file) in enumerate(((TRAIN, "train"), (TEST, "test"))):
        rows = [f"{name}/{name[:9]}_{100 * part + number}.jpg" for name in classes for number in range(PER_CLASS)]
        labels = [number // PER_CLASS for number in range(len(rows))]
        for number, row in enumerate(rows):
            draw(folder / "Images" / row, labels[number], number)
        cells = np.array([[row] for row in rows], dtype=object)
        columns = {"file_list": cells, "annotation_list": cells, "labels": np.array([[one + 1.0] for one in labels])}
        savemat(folder / "lists" / f"{file}_list.mat", columns)
        ids[split] = tuple(rows)
    return Written(("Chihuahua", "Japanese spaniel", "soft-coated wheaten terrier"), ids)


def flowers102(root: Path) -> Written:
    """flowers-102 as torchvision has it: labels of all pictures, and the picture numbers of each split, as rows."""
    folder = root / "flowers-102"
    labels = [label for _ in range(3) for label in range(3) for _ in range(PER_CLASS)]
    for number, label in enumerate(labels, 1):
        draw(folder / "jpg" / f"image_{number:05}.jpg", label, number)
    savemat(folder / "imagelabels.mat", {"labels": np.array([[label + 1 for label in labels]], dtype=np.uint8)})
    third = len(labels) // 3
    keys = ((TRAIN, "trnid"), (VALIDATION, "valid"), (TEST, "tstid"))
    numbers = {key: np.arange(third * part + 1, third * (part + 1) + 1) for part, (_, key) in enumerate(keys)}
    savemat(folder / "setid.mat", {key: found[None].astype(np.uint16) for key, found in numbers.items()})
    ids = {split: tuple(f"image_{number:05}" for number in numbers[key]) for split, key in keys}
    return Written(("pink primrose", "hard-leaved pocket orchid", "canterbury bells"), ids)


SYNSETS = ("n01440764", "n01443537", "n03773504")
"""The first two classes of ImageNet-1k, and one of the two that are called "missile"."""
_SYNSET_NAMES = ("tench", "goldfish", "missile")


def imagenet(root: Path) -> Written:
    """imagenet/images as CoOp has it: a folder per synset; val pictures are numbered across classes."""
    folder = root / "imagenet" / "images"
    for label, synset in enumerate(SYNSETS):
        for number in range(PER_CLASS):
            draw(folder / "train" / synset / f"{synset}_{number}.JPEG", label, number)
            draw(folder / "val" / synset / f"{_val(label, number)}.JPEG", label, 100 + number)
    train = tuple(f"{synset}_{number}" for synset in SYNSETS for number in range(PER_CLASS))
    return Written(_SYNSET_NAMES, {TRAIN: train, TEST: _all_val()})


def _val(label: int, number: int) -> str:
    return f"ILSVRC2012_val_{label * PER_CLASS + number + 1:08}"


def _all_val() -> tuple[str, ...]:
    return tuple(_val(label, number) for label in range(len(SYNSETS)) for number in range(PER_CLASS))


def _flat(folder: Path) -> None:
    for number, name in enumerate(_all_val()):
        draw(folder / f"{name}.JPEG", number // PER_CLASS, 100 + number % PER_CLASS)


def imagenet_kaggle(root: Path) -> Written:
    """Kaggle's archive: val flat, its labels with the boxes in a table. No training pictures here."""
    folder = root / "imagenet"
    _flat(folder / "ILSVRC" / "Data" / "CLS-LOC" / "val")
    write_lines(folder / "LOC_synset_mapping.txt", [f"{one} {one}, a thing" for one in SYNSETS])
    rows = [f"{name},{SYNSETS[number // PER_CLASS]} 10 11 20 22 " for number, name in enumerate(_all_val())]
    write_lines(folder / "LOC_val_solution.csv", ["ImageId,PredictionString", *reversed(rows)])
    return Written(_SYNSET_NAMES, {TEST: _all_val()})


def imagenet_devkit(root: Path) -> Written:
    """The official archives: val flat, the devkit beside it. IDs of the devkit are not in the order of synsets."""
    folder = root / "imagenet"
    data = folder / "ILSVRC2012_devkit_t12" / "data"
    _flat(folder / "val")
    number_of = {SYNSETS[0]: 3, SYNSETS[1]: 1, SYNSETS[2]: 2}
    synsets = [(number_of[one], one, "words", "gloss", 0, 0.0, 0, 1300) for one in SYNSETS]
    synsets.append((1001, "n00001740", "entity", "the root", 3, 0.0, 0, 0))  # an inner node of WordNet
    names = (
        "ILSVRC2012_ID",
        "WNID",
        "words",
        "gloss",
        "num_children",
        "children",
        "wordnet_height",
        "num_train_images",
    )
    data.mkdir(parents=True)
    savemat(
        data / "meta.mat", {"synsets": np.array([[one] for one in synsets], dtype=[(name, object) for name in names])}
    )
    truth = [str(number_of[SYNSETS[number // PER_CLASS]]) for number in range(3 * PER_CLASS)]
    write_lines(data / "ILSVRC2012_validation_ground_truth.txt", truth)
    return Written(_SYNSET_NAMES, {TEST: _all_val()})


LAYOUTS: Mapping[str, Callable[[Path], Written]] = {
    "aircraft": aircraft,
    "cars": cars,
    "cub": cub,
    "dogs": dogs,
    "flowers102": flowers102,
    "food101": food101,
    "imagenet": imagenet,
    "pets": pets,
    "places365": places365,
}
