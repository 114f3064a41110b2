"""ImageNet-1k: the validation pictures, which the field tests on, in each of the layouts that people have.

Sorted into a folder per synset (torchvision, CoOp), or as the archive has them, all in one folder: then the labels are
those of Kaggle's `LOC_val_solution.csv` or of the devkit's ground truth. Torchvision's `meta.bin` is a pickle and is
never read.
"""

from __future__ import annotations

import csv
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from trireme.benchmarks.datasets.mat_lists import mat, whole
from trireme.benchmarks.datasets.prompts import imagenet_names
from trireme.benchmarks.datasets.spec import TRAIN, Listed, Listing
from trireme.benchmarks.datasets.texts import lines, number, table
from trireme.errors import DataError

_KAGGLE = "ILSVRC/Data/CLS-LOC"
_SOLUTION, _MAPPING = "LOC_val_solution.csv", "LOC_synset_mapping.txt"
_DEVKITS = ("ILSVRC2012_devkit_t12/data", "devkit/data", "data")
_SYNSETS = "imagenet_synsets.txt"
_TRUTH = "ILSVRC2012_validation_ground_truth.txt"


def imagenet(folder: Path, split: str) -> Listing:
    """The pictures of `val` or `train` below the folder, or below Kaggle's `ILSVRC/Data/CLS-LOC`.

    Class ids are synsets in sorted order, names those of `open_clip`.
    """
    part = "train" if split == TRAIN else "val"
    where = f"{_KAGGLE}/{part}" if (folder / _KAGGLE / part).is_dir() else part
    if not (folder / where).is_dir():
        raise DataError(f"{folder} has no folder '{part}'; extract ILSVRC2012_img_{part}.tar into it")
    synsets = sorted(name for name in _names(folder / where, folders=True) if _is_synset(name))
    if synsets:
        rows = [
            Listed(f"{where}/{synset}/{name}", label, name.partition(".")[0])
            for label, synset in enumerate(synsets)
            for name in sorted(_names(folder / where / synset))
        ]
    elif split == TRAIN:
        raise DataError(f"{folder / where} has no folder per class such as n01440764; extract its inner archives")
    else:
        synsets, labels = _solution(folder) if (folder / _SOLUTION).is_file() else _ground_truth(folder)
        rows = [Listed(f"{where}/{picture}.JPEG", label, picture) for picture, label in labels]
    rows.sort(key=lambda row: row.key)  # the same in every layout
    return Listing(tuple(synsets), _called(synsets), tuple(rows))


def _names(folder: Path, folders: bool = False) -> list[str]:
    """Names of the folders, or of the pictures, in a folder."""
    with os.scandir(folder) as entries:
        if folders:
            return [entry.name for entry in entries if entry.is_dir()]
        return [entry.name for entry in entries if entry.name.lower().endswith((".jpeg", ".jpg", ".png"))]


def _is_synset(name: str) -> bool:
    return len(name) == 9 and name[0] == "n" and name[1:].isdigit()


@cache
def standard_synsets() -> dict[str, int]:
    """{synset: place} of the 1000 classes: the list of `timm`, read without importing it, since it imports torch."""
    found = find_spec("timm")
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    if not folders:
        raise DataError("timm, which has the list of ImageNet's classes, is not installed; run: pip install timm")
    return {synset: label for label, synset in enumerate(lines(Path(folders[0], "data", "_info", _SYNSETS)))}


def _called(synsets: list[str]) -> tuple[str, ...]:
    standard, names = standard_synsets(), imagenet_names()
    odd = next((synset for synset in synsets if synset not in standard), None)
    if odd is not None:
        raise DataError(f"'{odd}' is none of the 1000 classes of ImageNet-1k; this is another subset of ImageNet")
    return tuple(names[standard[synset]] for synset in synsets)


def _solution(folder: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """Kaggle's table: ImageId, and a PredictionString "n01751748 111 108 230 366" that begins with the synset."""
    mapping, path = folder / _MAPPING, folder / _SOLUTION
    synsets = [cells[0] for cells in table(mapping, 2, at_least=1)]
    place = {synset: label for label, synset in enumerate(synsets)}
    labels = []
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            said = (row.get("PredictionString") or "").split()
            if not row.get("ImageId") or not said or said[0] not in place:
                raise DataError(f"{path}: '{row.get('ImageId')}' has no class of {_MAPPING}; fetch both again")
            labels.append((str(row["ImageId"]), place[said[0]]))
    return synsets, sorted(labels)


def _ground_truth(folder: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """The devkit's list: line i is the ILSVRC2012_ID of picture i; `meta.mat` says which synset that is."""
    bases = (folder / name for name in _DEVKITS)
    base = next((each for each in bases if (each / _TRUTH).is_file() and (each / "meta.mat").is_file()), None)
    if base is None:
        raise DataError(
            f"the pictures in {folder / 'val'} are in no folder per class, and neither {_SOLUTION} (Kaggle) nor "
            f"{_DEVKITS[0]}/{_TRUTH} with meta.mat (ILSVRC2012_devkit_t12.tar.gz) says what they show; add one of them"
        )
    meta = mat(base / "meta.mat", "synsets")
    fields = set(meta.dtype.names or ())
    if not {"ILSVRC2012_ID", "WNID", "num_children"} <= fields:
        raise DataError(f"{base / 'meta.mat'} is not that of ILSVRC2012_devkit_t12; fetch it again")
    known = {whole(base, one["ILSVRC2012_ID"]): str(one["WNID"]) for one in meta if not one["num_children"]}
    synsets = sorted(known.values())
    place = {synset: label for label, synset in enumerate(synsets)}
    labels = []
    for row, written in enumerate(lines(base / _TRUTH), start=1):
        synset = known.get(number(base / _TRUTH, written))
        if synset is None:
            raise DataError(f"{base / _TRUTH}, line {row}: {written} is no class of meta.mat; fetch both again")
        labels.append((f"ILSVRC2012_val_{row:08}", place[synset]))
    return synsets, labels
