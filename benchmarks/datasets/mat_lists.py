"""Sets whose labels are MATLAB files: Stanford Cars, Stanford Dogs, Oxford Flowers 102."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trireme.benchmarks.datasets.prompts import class_names
from trireme.benchmarks.datasets.spec import TEST, TRAIN, VALIDATION, Listed, Listing
from trireme.benchmarks.datasets.texts import numbered, spaced
from trireme.errors import DataError


def cars(folder: Path, split: str) -> Listing:
    """`devkit/cars_meta.mat` names the classes; the test labels are a file beside the devkit.

    Names stay as written: "AM General Hummer SUV 2000".
    """
    names = tuple(str(name) for name in mat(folder / "devkit" / "cars_meta.mat", "class_names"))
    if split == TRAIN:
        path, where = folder / "devkit" / "cars_train_annos.mat", "cars_train"
    else:
        path, where = folder / "cars_test_annos_withlabels.mat", "cars_test"
    found = mat(path, "annotations")
    if found.dtype.names is None or not {"class", "fname"} <= set(found.dtype.names):
        raise DataError(f"{path} has no 'class' and 'fname' of each picture; it is the file without labels, or damaged")
    rows = tuple(
        Listed(f"{where}/{name}", whole(path, label) - 1, f"{where}/{name}")
        for name, label in zip(found["fname"].tolist(), found["class"].tolist(), strict=True)
    )
    return Listing(names, names, rows)


def dogs(folder: Path, split: str) -> Listing:
    """`train_list.mat` and `test_list.mat` hold "n02085620-Chihuahua/n02085620_5927.jpg" and the class from 1.

    The lists lie in `lists` or beside `Images`. "n02107683-Bernese_mountain_dog" is called "Bernese mountain dog".
    """
    place = folder / "lists" if (folder / "lists" / "test_list.mat").exists() else folder
    path = place / ("train_list.mat" if split == TRAIN else "test_list.mat")
    pictures, labels = mat(path, "file_list"), mat(path, "labels")
    if len(pictures) != len(labels):
        raise DataError(f"{path} has {len(pictures)} pictures and {len(labels)} labels; extract it again")
    ids: dict[int, str] = {}
    rows = []
    for picture, written in zip(pictures.tolist(), labels.tolist(), strict=True):
        label, name = whole(path, written) - 1, str(picture).partition("/")[0]
        if ids.setdefault(label, name) != name:
            raise DataError(f"{path}: class {label + 1} is '{ids[label]}' and '{name}'; the file is damaged")
        rows.append(Listed(f"Images/{picture}", label, str(picture)))
    breeds = numbered(path, ids)
    return Listing(breeds, tuple(spaced(name.partition("-")[2] or name) for name in breeds), tuple(rows))


_FLOWERS = {TRAIN: "trnid", VALIDATION: "valid", TEST: "tstid"}


def flowers(folder: Path, split: str) -> Listing:
    """`imagelabels.mat` has the class of every picture, `setid.mat` the picture numbers of each split, both from 1.

    The set itself has no names; they are those of `class_names.json`.
    """
    labels = mat(folder / "imagelabels.mat", "labels")
    path = folder / "setid.mat"
    rows = []
    for written in mat(path, _FLOWERS[split]).tolist():
        picture = whole(path, written)
        if not 1 <= picture <= len(labels):
            raise DataError(f"{path} lists picture {picture}, of which imagelabels.mat has {len(labels)}; fetch both")
        label = whole(folder / "imagelabels.mat", labels[picture - 1]) - 1
        rows.append(Listed(f"jpg/image_{picture:05}.jpg", label, f"image_{picture:05}"))
    names = class_names("flowers")
    classes = len(np.unique(labels))
    return Listing(tuple(str(label) for label in range(1, classes + 1)), names[:classes], tuple(rows))


def mat(path: Path, name: str) -> Any:
    """A variable of a MATLAB file as an array of one dimension.

    Raises:
        DataError: the file cannot be read or has no such variable.
    """
    from scipy.io import loadmat

    try:
        found = loadmat(path, squeeze_me=True, variable_names=[name])
    except FileNotFoundError as error:
        raise DataError(f"there is no {path}; extract the annotations again") from error
    except Exception as error:  # of a damaged file it raises whatever its parts raise
        raise DataError(f"{path} is no readable MATLAB file ({error}); fetch it again") from error
    if name not in found:
        raise DataError(f"{path} has no '{name}'; it is a file of another version, fetch it again")
    return np.atleast_1d(found[name])


def whole(path: Path, value: Any) -> int:
    """A whole number of a MATLAB file, which stores them as it likes."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path} has '{value}' where a whole number is expected; fetch it again") from error
    if number != value:
        raise DataError(f"{path} has {value} where a whole number is expected; fetch it again")
    return number
