"""Boxes of sheets of pictures, from the command line: they score what the pictures on the sheets score."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from PIL import Image

from tests.end_to_end.conftest import CLASSES, Place

SIDE = 32  # of a drawn picture


def sheets(folder: Path) -> Path:
    """All pictures of a class side by side in one file, and a table of their boxes, named like the pictures."""
    rows = []
    for name in CLASSES:
        paths = sorted((folder / name).glob("*.png"))
        sheet = Image.new("RGB", (SIDE * len(paths), SIDE))
        for number, path in enumerate(paths):
            sheet.paste(Image.open(path), (SIDE * number, 0))
            rows.append([f"{name}.png", name, f"{name}/{path.name}", SIDE * number, 0, SIDE, SIDE])
        sheet.save(folder.parent / f"{name}.png")
    table = folder.parent / f"{folder.name}.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["image", "label", "id", "x", "y", "width", "height"], *rows])
    return table


def scores(place: Place, out: str) -> dict[tuple[str, str], str]:
    rows = csv.DictReader(io.StringIO(place.table(out)))
    return {(row["method"], row["metric"]): row["score"] for row in rows}


def test_boxes_score_as_the_pictures_that_they_show(place: Place, comparison: tuple[str, ...], pictures: Path) -> None:
    """A box of a sheet has the very pixels of a picture. The memory is the folder of pictures in both runs."""
    place.trireme(*comparison, "out=whole")
    table = sheets(pictures / "test")
    boxes = [f"benchmark=csv:{table}" if part.startswith("benchmark=") else part for part in comparison]
    done = place.trireme(*boxes, "out=boxes")
    assert "2 runs computed, 0 already there, 0 failed" in done.stderr
    assert place.records("boxes")["knn"]["samples"] == {"asked": 120, "done": 120, "failed": 0, "failures": []}
    assert len(scores(place, "whole")) == 4
    assert scores(place, "boxes") == scores(place, "whole")
    assert "2 already there, 0 failed; 0 pictures and texts encoded" in place.trireme(*boxes, "out=boxes").stderr


def test_one_box_outside_of_its_picture_is_counted(place: Place, comparison: tuple[str, ...], pictures: Path) -> None:
    table = sheets(pictures / "test")
    lines = table.read_text().splitlines()
    lines[5] = ",".join([*lines[5].split(",")[:3], "9999", "0", "32", "32"])
    table.write_text("\n".join(lines))
    boxes = [f"benchmark=csv:{table}" if part.startswith("benchmark=") else part for part in comparison]
    done = place.trireme(*boxes)
    assert place.records()["knn"]["samples"]["failed"] == 1  # type: ignore[index]
    assert "its box (9999, 0, 32, 32) lies outside of the picture (640 x 32 pixels)" in done.stderr
