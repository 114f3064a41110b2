"""Sets whose splits are lists of text: FGVC-Aircraft, Food-101, CUB-200-2011, Oxford-IIIT Pets, Places365.

A reader is called as (folder, split) and gives what the files say; `opening.check` compares it with the spec.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trireme.benchmarks.datasets.spec import TEST, TRAIN, VALIDATION, Listed, Listing
from trireme.benchmarks.datasets.texts import class_number, lines, number, numbered, spaced, table
from trireme.errors import DataError

_AIRCRAFT = {TRAIN: "train", VALIDATION: "val", TEST: "test"}


def aircraft(folder: Path, split: str) -> Listing:
    """`variants.txt` lists the classes; `images_variant_<split>.txt` has lines "1514522 707-320"."""
    names = tuple(lines(folder / "variants.txt"))
    place = {name: label for label, name in enumerate(names)}
    path = folder / f"images_variant_{_AIRCRAFT[split]}.txt"
    rows = tuple(
        Listed(f"images/{picture}.jpg", class_number(path, name, place), picture) for picture, name in table(path, 2)
    )
    return Listing(names, names, rows)


def food101(folder: Path, split: str) -> Listing:
    """`meta/classes.txt` lists the classes; `meta/<split>.txt` has lines "apple_pie/1005649"; "_" is a space."""
    ids = tuple(lines(folder / "meta" / "classes.txt"))
    place = {name: label for label, name in enumerate(ids)}
    path = folder / "meta" / f"{split}.txt"
    rows = tuple(
        Listed(f"images/{picture}.jpg", class_number(path, picture.partition("/")[0], place), picture)
        for picture in lines(path)
    )
    return Listing(ids, tuple(spaced(name) for name in ids), rows)


def cub(folder: Path, split: str) -> Listing:
    """Four files that share picture numbers; `train_test_split.txt` has 1 for training.

    A class "001.Black_footed_Albatross" is called "Black footed Albatross".
    """
    classes = table(folder / "classes.txt", 2)
    place = {key: label for label, (key, _) in enumerate(classes)}
    ids = tuple(name for _, name in classes)
    paths = _by_key(folder / "images.txt")
    labels = _by_key(folder / "image_class_labels.txt", paths)
    sides = _by_key(folder / "train_test_split.txt", paths)
    odd = next((side for side in sides.values() if side not in ("0", "1")), None)
    if odd is not None:
        raise DataError(f"{folder / 'train_test_split.txt'} has '{odd[:20]}' where 0 or 1 is expected; fetch it again")
    wanted = "1" if split == TRAIN else "0"
    rows = tuple(
        Listed(f"images/{path}", class_number(folder / "image_class_labels.txt", labels[key], place), path)
        for key, path in paths.items()
        if sides[key] == wanted
    )
    return Listing(ids, tuple(spaced(name.partition(".")[2] or name) for name in ids), rows)


def _by_key(path: Path, wanted: Mapping[str, str] | None = None) -> dict[str, str]:
    """Lines "number value" by number; with `wanted`, exactly its numbers."""
    found: dict[str, str] = {}
    for key, value in table(path, 2):
        if key in found:
            raise DataError(f"{path} lists picture {key} twice; the file is damaged or of another version")
        found[key] = value
    if wanted is not None and found.keys() != wanted.keys():
        odd = sorted(found.keys() ^ wanted.keys())
        raise DataError(
            f"{path} and images.txt list different pictures ({len(odd)} of them, first: {odd[0]}); the files are of "
            "different versions, extract the archive again"
        )
    return found


def pets(folder: Path, split: str) -> Listing:
    """`annotations/{trainval,test}.txt` with lines "Abyssinian_201 1 1 1": picture, class, species, breed of it.

    A class is called as its pictures are: "american_bulldog_12" is an "american bulldog".
    """
    path = folder / "annotations" / ("trainval.txt" if split == TRAIN else "test.txt")
    names: dict[int, str] = {}
    pictures = []
    for picture, written, _, _ in table(path, 4):
        label, name = number(path, written) - 1, picture.rpartition("_")[0]
        if names.setdefault(label, name) != name:
            raise DataError(f"{path}: class {label + 1} is '{names[label]}' and '{name}'; the file is damaged")
        pictures.append(Listed(f"images/{picture}.jpg", label, picture))
    ids = numbered(path, names)
    return Listing(ids, tuple(spaced(name) for name in ids), tuple(pictures))


def places365(folder: Path, split: str) -> Listing:
    """`categories_places365.txt` has lines "/a/airfield 0", the lists "Places365_val_00000001.jpg 165".

    Pictures may be the small ones (256 pixels) or the large ones, the small first. "/a/apartment_building/outdoor" is
    called "apartment building outdoor".
    """
    path = folder / "categories_places365.txt"
    names = {number(path, written): name for name, written in table(path, 2)}
    ids = numbered(path, names)
    where = next((name for name in PLACES_FOLDERS[split] if (folder / name).is_dir()), None)
    if where is None:
        raise DataError(f"{folder} has none of the folders {', '.join(PLACES_FOLDERS[split])}; extract the pictures")
    path = folder / ("places365_train_standard.txt" if split == TRAIN else "places365_val.txt")
    rows = tuple(
        Listed(f"{where}/{picture.removeprefix('/')}", number(path, written), picture.removeprefix("/"))
        for picture, written in table(path, 2)
    )
    shown = tuple(spaced(" ".join(part for part in name.split("/")[1:] if len(part) > 1)) for name in ids)
    return Listing(ids, shown, rows)


PLACES_FOLDERS = {
    TRAIN: ("data_256_standard", "data_256", "data_large_standard", "data_large"),
    TEST: ("val_256", "val_large"),
}
