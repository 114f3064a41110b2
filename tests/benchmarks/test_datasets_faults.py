"""Files of published sets that are missing, half there, of another version or hostile: named, never a wrong score."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from tests.benchmarks.layouts import LAYOUTS, Written, draw, write_lines
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.benchmarks.datasets.opening import is_below
from trireme.benchmarks.datasets.places import examine
from trireme.benchmarks.datasets.spec import TEST, TRAIN, VALIDATION, Count, SetSpec
from trireme.errors import DataError, UsageError
from trireme.registry import open_benchmark, open_pairs

pytestmark = pytest.mark.usefixtures("own_home")


def refused(spec: SetSpec, says: str) -> None:
    """Neither a benchmark nor, asked for more than the key files, present."""
    with PUBLISHED.replaced(spec):
        with pytest.raises(DataError, match=says) as error:
            open_benchmark(spec.name)
        state = examine(PUBLISHED[spec.name])
    assert "\n" not in str(error.value)
    assert state.state in ("missing", "wrong")


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


@pytest.mark.parametrize("name", LAYOUTS)
def test_nothing_is_there(root: Path, name: str) -> None:
    refused(PUBLISHED[name], rf"data set '{name}' is missing.*trireme data status {name}")


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_key_file_is_missing(root: Path, name: str) -> None:
    """Each in turn. Of ImageNet there is one, the folder of the pictures itself."""
    written = LAYOUTS[name](root)
    layout = PUBLISHED[name].layouts[0]
    folder = root / layout.folders[0]
    for need in layout.needs:
        aside = folder / f"{need}.aside"
        (folder / need).rename(aside)
        refused(written.spec(name), "is missing" if len(layout.needs) == 1 else f"is wrong: .* lacks {need}")
        aside.rename(folder / need)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("more", [-1, 1])
@pytest.mark.parametrize("what", ["classes", TRAIN, TEST])
def test_a_verified_number_that_is_off_by_one(root: Path, name: str, more: int, what: str) -> None:
    spec = LAYOUTS[name](root).spec(name)
    counts = dict(spec.counts)
    if what == "classes":
        spec = replace(spec, classes=replace(spec.classes, number=spec.classes.number + more))
    else:
        counts[what] = replace(counts[what], number=counts[what].number + more)
        spec = replace(spec, counts=counts)
    with PUBLISHED.replaced(spec), pytest.raises(DataError, match=rf"{what}.*the published set has \d+ \(the test\)"):
        open_pairs(name) if what == TRAIN else open_benchmark(name)


def test_another_number_that_nobody_verified_is_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = LAYOUTS["pets"](root).spec("pets")
    with PUBLISHED.replaced(replace(spec, counts={**spec.counts, TEST: Count(10)})):
        assert len(open_benchmark("pets").samples()) == 9
    assert "note: data set 'pets'" in (told := capsys.readouterr().err)
    assert "9 test pictures, the published set has 10 as far as is known" in told


def half(folder: Path) -> None:
    for path in sorted(folder.rglob("*.*"))[::2]:
        if path.suffix.lower() in (".jpg", ".jpeg"):
            path.unlink()


@pytest.mark.parametrize("name", sorted({*LAYOUTS} - {"imagenet"}))
def test_a_half_extracted_archive(root: Path, name: str) -> None:
    written = LAYOUTS[name](root)
    half(root)
    refused(written.spec(name), r"\d of 9 listed pictures are not there, more than 1 % .*half extracted")


def test_half_of_imagenet_is_another_number_of_pictures(root: Path) -> None:
    """It has no list of its pictures, so the count tells."""
    written = LAYOUTS["imagenet"](root)
    half(root)
    refused(written.spec("imagenet"), r"\d test pictures, the published set has 9")


def many_pets(root: Path, pictures: int = 120) -> SetSpec:
    """Pets with so many test pictures that one of them is less than 1 %."""
    spec = LAYOUTS["pets"](root).spec("pets")
    folder = root / "oxford-iiit-pet"
    names = [f"Abyssinian_{number}" for number in range(1000, 1000 + pictures)]
    for number, name in enumerate(names):
        draw(folder / "images" / f"{name}.jpg", 0, number)
    path = folder / "annotations" / "test.txt"
    write_lines(path, [*path.read_text().splitlines(), *(f"{name} 1 1 1" for name in names)])
    return replace(spec, counts={**spec.counts, TEST: Count(9 + pictures, True, "the test")})


def test_one_missing_picture_of_many_is_left_to_the_run(root: Path) -> None:
    spec = many_pets(root)
    with PUBLISHED.replaced(spec):
        whole = open_benchmark("pets").fingerprint()
        (root / "oxford-iiit-pet" / "images" / "Abyssinian_1003.jpg").unlink()
        bench = open_benchmark("pets")
    assert [one.id for one in bench.samples() if one.image.sha256 is None] == ["Abyssinian_1003"]
    assert bench.fingerprint() != whole


def test_empty_pictures(root: Path) -> None:
    """One of many is left to the run, which names it; more than 1 % is a full disk or a broken download."""
    spec = many_pets(root)
    pictures = sorted((root / "oxford-iiit-pet" / "images").glob("Abyssinian_1*.jpg"))
    pictures[0].write_bytes(b"")
    with PUBLISHED.replaced(spec):
        assert len(open_benchmark("pets").samples()) == 129
        for picture in pictures[1:5]:
            picture.write_bytes(b"")
        with pytest.raises(DataError, match="listed pictures have no bytes, more than 1 %"):
            open_benchmark("pets")


def test_the_fingerprint_sees_what_a_picture_shows(root: Path) -> None:
    spec = LAYOUTS["food101"](root).spec("food101")
    path = next((root / "food-101" / "images").rglob("*.jpg"))
    with PUBLISHED.replaced(spec):
        before = open_benchmark("food101").fingerprint(), open_pairs("food101").fingerprint
        draw(path, 4, 77)
        after = open_benchmark("food101").fingerprint(), open_pairs("food101").fingerprint
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1  # the split that holds it


def write(relative: str, content: bytes) -> Callable[[Path], None]:
    return lambda root: (root / relative).write_bytes(content) and None


def edit(relative: str, before: str, after: str) -> Callable[[Path], None]:
    return lambda root: change(root / relative, before, after)


def saved(relative: str, **variables: object) -> Callable[[Path], None]:
    return lambda root: savemat(root / relative, variables)


AIR, CUB, PET, CAR = "fgvc-aircraft-2013b/data", "CUB_200_2011", "oxford-iiit-pet/annotations", "stanford_cars"
PLACES, FLOWERS, DOGS = "places365", "flowers-102", "stanford_dogs/lists"
HTML = b"<html>404 not found</html>"
NINE = np.array([[1, 1, 1, 2, 2, 2, 3, 3, 3]], dtype=float)


def car_rows(**fields: object) -> Callable[[Path], None]:
    """The first test row of Cars with other fields."""

    def edited(root: Path) -> None:
        path = root / CAR / "cars_test_annos_withlabels.mat"
        rows = loadmat(path)["annotations"]
        for name, value in fields.items():
            rows[name][0, 0] = value
        savemat(path, {"annotations": rows})

    return edited


def without_labels(root: Path) -> None:
    """cars_test_annos.mat of the devkit in the place of the file with labels."""
    path = root / CAR / "cars_test_annos_withlabels.mat"
    rows = loadmat(path)["annotations"]
    names = [name for name in rows.dtype.names if name != "class"]
    savemat(path, {"annotations": rows[names].astype([(name, object) for name in names])})


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        ("aircraft", edit(f"{AIR}/variants.txt", "An-12\n", ""), "names the class 'An-12', which"),
        ("aircraft", edit(f"{AIR}/variants.txt", "An-12\n", "An-12\nAn-13\n"), "4 classes, the published set has 3"),
        ("aircraft", edit(f"{AIR}/variants.txt", "A300B4", "707-320"), "names the class 'A300B4', which"),
        ("aircraft", edit(f"{AIR}/images_variant_test.txt", "2000001", "2000000"), "'2000000' is listed twice"),
        ("aircraft", edit(f"{AIR}/images_variant_test.txt", "2000001", "../../x"), r"x.jpg' leaves the folder"),
        ("aircraft", edit(f"{AIR}/images_variant_test.txt", "2000001 707-320", "2000001"), "line 2: '2000001' has 1"),
        ("aircraft", write(f"{AIR}/images_variant_test.txt", b""), "images_variant_test.txt has nothing in it"),
        ("aircraft", write(f"{AIR}/variants.txt", b"\xff\xfe\x00"), "variants.txt is not text in UTF-8"),
        ("food101", edit("food-101/meta/test.txt", "apple_pie/", "apple_pie/../../"), "leaves the folder"),
        ("food101", edit("food-101/meta/test.txt", "apple_pie/", "apple_tart/"), "the class 'apple_tart', which"),
        ("cub", edit(f"{CUB}/image_class_labels.txt", "1 1\n", "1 4\n"), "names the class '4', which"),
        ("cub", edit(f"{CUB}/image_class_labels.txt", "2 1\n", ""), "list different pictures .1 of them, first: 2"),
        ("cub", edit(f"{CUB}/images.txt", "2 001", "1 001"), "lists picture 1 twice"),
        ("cub", edit(f"{CUB}/images.txt", "1 001.Black", "1 ../001.Black"), "leaves the folder"),
        ("cub", edit(f"{CUB}/train_test_split.txt", "1 0", "1 2"), "has '2' where 0 or 1 is expected"),
        ("pets", edit(f"{PET}/test.txt", "Abyssinian_100 1", "Abyssinian_100 2"), "class 2 is 'Abyssinian' and"),
        ("pets", edit(f"{PET}/test.txt", "Abyssinian_100 1", "Persian_100 9"), "none has the number 3"),
        ("pets", edit(f"{PET}/test.txt", "Abyssinian_100 1", "Abyssinian_100 one"), "'one' should be a whole number"),
        ("pets", edit(f"{PET}/test.txt", "Abyssinian_100", "../Abyssinian_100"), "class 1 is '../Abyssinian' and"),
        (
            "places365",
            edit(f"{PLACES}/places365_val.txt", "00000001.jpg 0", "00000001.jpg 3"),
            "class number 3 counted",
        ),
        ("places365", edit(f"{PLACES}/places365_val.txt", "00000001.jpg 0", "00000001.jpg -2"), "class number -2 cou"),
        ("places365", edit(f"{PLACES}/categories_places365.txt", "/z/zen_garden 2", "/z/zen_garden 3"), "number 2;"),
        ("places365", edit(f"{PLACES}/places365_val.txt", "Places365_val_00000001", "/../../x"), "leaves the folder"),
        ("cars", without_labels, "it is the file without labels"),
        ("cars", car_rows(**{"class": 4}), "class number 3 counted from 0"),
        ("cars", car_rows(**{"class": 0}), "class number -1|has a label that is none"),
        ("cars", car_rows(**{"class": 1.5}), "has 1.5 where a whole number"),
        ("cars", car_rows(fname="../../../x.jpg"), "leaves the folder"),
        ("cars", car_rows(fname="00002.jpg"), "00002.jpg' is listed twice"),
        ("cars", write(f"{CAR}/devkit/cars_meta.mat", HTML), "cars_meta.mat is no readable MATLAB file"),
        ("cars", write(f"{CAR}/cars_test_annos_withlabels.mat", b""), "is no readable MATLAB file"),
        ("cars", saved(f"{CAR}/devkit/cars_meta.mat", names=np.array(["a"], dtype=object)), "has no 'class_names'"),
        ("flowers102", saved(f"{FLOWERS}/setid.mat", trnid=NINE), "setid.mat has no 'valid'|setid.mat has no 'tstid'"),
        ("flowers102", saved(f"{FLOWERS}/imagelabels.mat", labels=NINE), "of which imagelabels.mat has 9"),
        ("dogs", write(f"{DOGS}/test_list.mat", HTML), "test_list.mat is no readable MATLAB file"),
        ("dogs", saved(f"{DOGS}/test_list.mat", labels=NINE.T), "has no 'file_list'"),
    ],
)
def test_annotations_of_another_version_or_damaged(
    root: Path, name: str, damage: Callable[[Path], None], says: str
) -> None:
    written: Written = LAYOUTS[name](root)
    damage(root)
    refused(written.spec(name), says)


def test_imagenet_of_another_subset(root: Path) -> None:
    """A class that ImageNet-1k has not (n00007846, person), and one class too few."""
    spec = LAYOUTS["imagenet"](root).spec("imagenet")
    val = root / "imagenet" / "images" / "val"
    (val / "n01443537").rename(val / "n00007846")
    refused(spec, "'n00007846' is none of the 1000 classes")
    shutil.rmtree(val / "n00007846")
    refused(spec, "2 classes, the published set has 3")


def test_imagenet_pictures_without_labels(root: Path) -> None:
    draw(root / "imagenet" / "val" / "ILSVRC2012_val_00000001.JPEG", 0, 0)
    refused(PUBLISHED["imagenet"], "neither LOC_val_solution.csv .*add one of them")


def test_published_sets_take_no_options(root: Path) -> None:
    with pytest.raises(UsageError, match="'cub' takes no options; remove shots"):
        open_benchmark("cub", shots=4)
    with pytest.raises(UsageError, match="'cub' takes no options; remove shots"):
        open_pairs("cub", shots=4)


@pytest.mark.parametrize(
    ("path", "below"),
    [
        ("images/a.jpg", True),
        ("a..b/c.jpg", True),
        ("", False),
        ("..", False),
        ("images/../../a.jpg", False),
        ("/etc/passwd", False),
        ("..\\a.jpg", False),
        ("C:\\a.jpg", False),
    ],
)
def test_what_leaves_a_folder(path: str, below: bool) -> None:
    assert is_below(path) is below


def test_splits_with_different_classes(root: Path) -> None:
    """Aircraft's classes are one list; of Flowers each split could bring its own, and of a reader that does so."""
    from trireme.benchmarks.datasets.opening import as_benchmark, read
    from trireme.types import Role

    spec = LAYOUTS["aircraft"](root).spec("aircraft")
    with PUBLISHED.replaced(spec):
        test, other = read(spec, TEST), read(spec, VALIDATION)
    shuffled = replace(other, class_ids=other.class_ids[::-1])
    with pytest.raises(DataError, match="its splits have different classes"):
        as_benchmark(spec, {Role.TEST: test, Role.VALIDATION: shuffled}, root)
