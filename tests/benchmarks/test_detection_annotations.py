"""Annotation files and proposals that are damaged, of another version, or hostile: each is named."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.detection_fixtures import annotation_file, write
from trireme.benchmarks.detection.annotations import Annotations, by_coco_url, by_file_name, read_annotations
from trireme.benchmarks.detection.proposals import read_proposals
from trireme.errors import DataError

Content = dict[str, Any]


def read(path: Path, content: Any, federated: bool = True) -> Annotations:
    return read_annotations(write(path, content), federated, by_coco_url if federated else by_file_name)


def test_what_is_read(tmp_path: Path) -> None:
    content = annotation_file(1)
    content["images"].reverse()
    found = read(tmp_path / "a.json", content)
    assert [one.id for one in found.pictures] == sorted(row["id"] for row in content["images"])
    assert found.ids.tolist() == [box["id"] for box in content["annotations"]]
    assert [found.pictures[i].id for i in found.image] == [box["image_id"] for box in content["annotations"]]
    assert [found.categories[i]["id"] for i in found.label] == [box["category_id"] for box in content["annotations"]]
    assert found.boxes.tolist() == [box["bbox"] for box in content["annotations"]]
    last = content["images"][-1]
    assert found.pictures[0].file == "/".join(last["coco_url"].split("/")[-2:])
    assert {found.categories[i]["id"] for i in found.pictures[0].absent} == set(last["neg_category_ids"])
    assert {found.categories[i]["id"] for i in found.pictures[0].partial} == set(last["not_exhaustive_category_ids"])
    assert found.frequencies == tuple("rcf" * 3)


def test_a_file_is_read_once_and_again_when_it_changes(tmp_path: Path) -> None:
    content = annotation_file(1)
    first = read_annotations(write(tmp_path / "a.json", content), True, by_coco_url)
    assert read_annotations(tmp_path / "a.json", True, by_coco_url) is first
    content["annotations"].pop()
    assert len(read(tmp_path / "a.json", content).ids) == len(first.ids) - 1


def _set(table: str, entry: int, key: str, value: Any) -> Callable[[Content], None]:
    return lambda content: content[table][entry].__setitem__(key, value)


def _without(table: str, entry: int, key: str) -> Callable[[Content], Any]:
    return lambda content: content[table][entry].pop(key)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda content: content.pop("annotations"), "has no list 'annotations'"),
        (lambda content: content.update(images={}), "has no list 'images'"),
        (lambda content: content.update(categories=[]), "'categories' is empty"),
        (lambda content: content.update(annotations=[]), "'annotations' is empty"),
        (_set("images", 1, "id", 11), "two entries of 'images' have the id 11"),
        (_set("categories", 1, "id", 3), "two entries of 'categories' have the id 3"),
        (_set("annotations", 1, "id", 1), "two annotations have the id 1"),
        (_set("annotations", 0, "id", "1"), "an annotation has the id '1'"),
        (_set("images", 0, "id", True), "an entry of 'images' has the id True"),
        (_set("annotations", 0, "category_id", 4), "annotation 1 has the category_id 4, which the file does not have"),
        (_set("annotations", 0, "image_id", 12), "annotation 1 has the image_id 12, which the file does not have"),
        (_set("annotations", 0, "id", 2**63), "has the id 9223372036854775808; ids are whole numbers of 64 bits"),
        (_set("images", 0, "id", 2**70), "an entry of 'images' has the id 1180591620717411303424; ids are whole"),
        (_set("annotations", 0, "category_id", {}), r"annotation 1 has the category_id \{\}, which the file"),
        (_set("annotations", 0, "category_id", "3"), "annotation 1 has the category_id '3', which the file"),
        (_set("annotations", 0, "image_id", [1]), r"annotation 1 has the image_id \[1\], which the file"),
        (_set("annotations", 0, "image_id", "11"), "annotation 1 has the image_id '11', which the file"),
        (_set("annotations", 0, "image_id", None), "annotation 1 has the image_id None, which the file"),
        (_set("annotations", 0, "iscrowd", "0"), "annotation 1 has the iscrowd '0'; it is 0 or 1"),
        (_set("annotations", 0, "iscrowd", None), "annotation 1 has the iscrowd None; it is 0 or 1"),
        (_set("annotations", 0, "iscrowd", [1]), r"annotation 1 has the iscrowd \[1\]; it is 0 or 1"),
        (_set("annotations", 0, "area", "7"), "annotation 1 has the area '7'; square pixels of 0 or more are"),
        (_set("annotations", 0, "area", float("nan")), "annotation 1 has the area nan; square pixels of 0 or more are"),
        (_set("annotations", 0, "area", float("inf")), "annotation 1 has the area inf; square pixels of 0 or more are"),
        (_set("annotations", 0, "area", -5), "annotation 1 has the area -5; square pixels of 0 or more are"),
        (_set("annotations", 0, "area", None), "annotation 1 has the area None; square pixels of 0 or more are"),
        (_set("annotations", 0, "area", True), "annotation 1 has the area True; square pixels of 0 or more are"),
        (_set("annotations", 0, "bbox", ["1", "2", "3", "4"]), r"annotation 1 has the box \['1', '2', '3', '4'\]"),
        (_set("annotations", 0, "bbox", [1, 2, 10**400, 4]), "annotation 1 has the box"),
        (_set("annotations", 0, "bbox", {"x": 1}), "annotation 1 has the box {'x': 1}"),
        (_set("annotations", 0, "bbox", [1, 2, 3]), r"annotation 1 has the box \[1, 2, 3\]"),
        (_set("annotations", 0, "bbox", [1, 2, 3, "4px"]), "annotation 1 has the box"),
        (_set("annotations", 0, "bbox", [1, 2, -3, 4]), r"annotation 1 has the box \[1, 2, -3, 4\]"),
        (_set("annotations", 0, "bbox", [1, 2, float("nan"), 4]), "annotation 1 has the box"),
        (_set("annotations", 0, "bbox", [320, 0, 5, 5]), "annotation 1 .* outside of its picture of 320 x 240"),
        (_set("annotations", 0, "bbox", [-9, 0, 9, 5]), "outside of its picture"),
        (_without("annotations", 0, "bbox"), "annotation 1 has the box None"),
        (_without("annotations", 0, "area"), "annotation 1 has no area"),
        (_without("images", 0, "coco_url"), "no 'coco_url'; the file is no LVIS v1.0"),
        (_without("images", 0, "neg_category_ids"), "no 'neg_category_ids'"),
        (_set("images", 0, "neg_category_ids", [5]), "lists category 5 in neg_category_ids, which 'categories'"),
        (_set("images", 0, "neg_category_ids", [[3]]), r"lists category \[3\] in neg_category_ids, which"),
        (_set("images", 0, "neg_category_ids", ["3"]), "lists category '3' in neg_category_ids, which"),
        (_set("images", 0, "neg_category_ids", [None]), "lists category None in neg_category_ids, which"),
        (_set("images", 0, "neg_category_ids", None), "image 11 has the neg_category_ids None; it is a list"),
        (_set("images", 0, "neg_category_ids", 3), "image 11 has the neg_category_ids 3; it is a list of category"),
        (_set("images", 0, "not_exhaustive_category_ids", "3"), "has the not_exhaustive_category_ids '3'; it is a"),
        (_set("images", 0, "width", float("inf")), "image 11 is inf x 240 large: a width or height that is no"),
        (_set("images", 0, "width", float("nan")), "image 11 is nan x 240 large: a width or height that is no"),
        (_set("images", 0, "width", 10**400), "a width or height that is no number"),
        (_set("images", 0, "height", None), "image 11 is 320 x None large: a width or height that is no number"),
        (_set("images", 0, "coco_url", None), "image 11 has the coco_url None, which is no text; it says where"),
        (_set("images", 0, "width", 0), "0 x 240 pixels"),
        (_set("images", 0, "height", "tall"), "width or height that is no number"),
        (_set("images", 0, "coco_url", "http://x/../etc"), "leaves the folder of pictures"),
        (_set("images", 0, "coco_url", "http://x/val2017/.."), "leaves the folder of pictures"),
        (_without("categories", 0, "frequency"), "category 3 has the frequency None"),
        (_set("categories", 0, "frequency", "x"), "category 3 has the frequency 'x'"),
    ],
)  # fmt: skip
def test_wrong_annotations(tmp_path: Path, harm: Callable[[Content], Any], message: str) -> None:
    content = copy.deepcopy(annotation_file(1))
    harm(content)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / "a.json", content)
    assert str(tmp_path / "a.json") in str(caught.value)


def test_paths_of_coco_files_stay_in_the_folder(tmp_path: Path) -> None:
    for name in ("../000000000011.jpg", "/etc/passwd", "C:\\x.jpg", "a/../../b.jpg", "..\\x.jpg", ""):
        content = annotation_file(1, federated=False)
        content["images"][0]["file_name"] = name
        with pytest.raises(DataError, match="leaves the folder"):
            read(tmp_path / "a.json", content, federated=False)
    for wrong in (None, 7, ["a.jpg"]):
        content["images"][0]["file_name"] = wrong
        with pytest.raises(DataError, match=r"image 11 has the file_name .*, which is no text"):
            read(tmp_path / "a.json", content, federated=False)
    content = annotation_file(1, federated=False)
    content["images"][1]["file_name"] = content["images"][0]["file_name"]
    with pytest.raises(DataError, match="two images are the file"):
        read(tmp_path / "a.json", content, federated=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [', "cannot be read"),
        ("", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "holds a list, not an object; results are no annotations"),
        ('{"images": [1]}', "has no list 'images'"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_annotations(tmp_path / "a.json")
    with pytest.raises(DataError, match="there is no annotation file"):
        read_annotations(tmp_path / "b.json")


def test_boxes_that_deserve_a_word(tmp_path: Path) -> None:
    """They are counted and stay as they are, but none without a side is shown."""
    content = annotation_file(1, federated=False)
    content["annotations"][0]["bbox"] = [10, 10, 0, 20]
    content["annotations"][1]["bbox"] = [300, 200, 40.5, 20]
    crowds = sum(box["iscrowd"] for box in content["annotations"])
    found = read(tmp_path / "a.json", content, federated=False)
    assert found.notes == {"boxes without area": 1, "boxes over an edge": 1, "boxes around crowds": crowds}
    assert np.flatnonzero(found.empty).tolist() == [0]
    assert found.ignored.tolist() == [bool(box["iscrowd"]) for box in content["annotations"]]


@pytest.mark.parametrize("federated", [False, True])
def test_boxes_that_an_evaluator_knows(tmp_path: Path, federated: bool) -> None:
    """By `area`, not by the box: `get_ann_ids` of lvis 0.5.3 keeps those above 0, `getAnnIds` of pycocotools all."""
    content = annotation_file(1, federated=federated)
    content["annotations"][0]["area"] = 0
    content["annotations"][1]["bbox"][2] = 0
    found = read(tmp_path / "a.json", content, federated)
    assert np.flatnonzero(~found.known).tolist() == ([0] if federated else [])
    assert np.flatnonzero(found.empty).tolist() == [1]


def box(**changes: Any) -> dict[str, Any]:
    return {"image_id": 11, "category_id": 1, "bbox": [1.5, 2, 30, 40], "score": 0.5, **changes}


def test_proposals(tmp_path: Path) -> None:
    annotations = read(tmp_path / "a.json", annotation_file(1))
    rows = [box(image_id=22), box(bbox=[1, 2, 0, 40]), box(score=1), box(bbox=[-5, 2, 30, 40])]
    found = read_proposals(write(tmp_path / "p.json", rows), annotations)
    assert found.rank.tolist() == [0, 2, 3]
    assert found.image.tolist() == [1, 0, 0]
    assert found.objectness.tolist() == [0.5, 1, 0.5]
    assert found.boxes[0].tolist() == [1.5, 2, 30, 40]
    assert found.notes == {"boxes without area": 1, "boxes over an edge": 1}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "a list of"),
        ({"annotations": []}, "a list of"),
        ([1], "a list of"),
        ([box(image_id=12)], "entry 0 is for image 12, which"),
        ([box(image_id=[11])], r"entry 0 is for image \[11\], which"),
        ([box(image_id={})], r"entry 0 is for image \{\}, which"),
        ([box(image_id="11")], "entry 0 is for image '11', which"),
        ([box(image_id=None)], "entry 0 is for image None, which"),
        ([box(bbox=["1", "2", "3", "4"])], "entry 0 has the box"),
        ([box(), box(bbox=[1, 2, 3])], r"entry 1 has the box \[1, 2, 3\]"),
        ([box(bbox=[400, 2, 3, 4])], "entry 0 has the box .* outside of its picture"),
        ([box(), box(score=1.5)], "entry 1 has the score 1.5; the objectness of a box is in"),
        ([box(score=None)], "entry 0 has the score None"),
        ([box(score=float("nan"))], "entry 0 has the score nan"),
        ([box(bbox=[1, 2, 0, 4])], "none of its boxes has an area"),
    ],
)
def test_wrong_proposals(tmp_path: Path, rows: Any, message: str) -> None:
    annotations = read(tmp_path / "a.json", annotation_file(1))
    with pytest.raises(DataError, match=message) as caught:
        read_proposals(write(tmp_path / "p.json", rows), annotations)
    assert str(tmp_path / "p.json") in str(caught.value)


def test_proposals_that_are_not_there(tmp_path: Path) -> None:
    annotations = read(tmp_path / "a.json", annotation_file(1))
    with pytest.raises(DataError, match="cannot be read"):
        read_proposals(tmp_path / "p.json", annotations)
    (tmp_path / "p.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="cannot be read"):
        read_proposals(tmp_path / "p.json", annotations)
