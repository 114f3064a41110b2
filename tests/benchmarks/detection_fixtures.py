"""Small annotation files of the real schemas, and predictions that are right some of the time. Content is made up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.benchmarks.datasets.spec import TEST, SetSpec
from trireme.benchmarks.detection.benchmark import DetectionBenchmark
from trireme.registry import open_benchmark

WIDTH, HEIGHT = 320, 240


def annotation_file(seed: int, pictures: int = 30, classes: int = 9, federated: bool = True) -> dict[str, Any]:
    """An annotation file of LVIS v1.0 (federated) or COCO: real keys, random boxes of every size."""
    rng = np.random.default_rng(seed)
    images, boxes = [], []
    for image in range(1, pictures + 1):
        shown = rng.integers(1, classes + 1, rng.integers(0, 7))
        for category in shown.tolist():
            side = rng.choice([12, 24, 50, 80, 130])
            w, h = (side * rng.uniform(0.7, 1.3, 2)).round(2).tolist()
            x, y = (rng.uniform(0, [WIDTH - w, HEIGHT - h])).round(2).tolist()
            boxes.append(
                {
                    "id": len(boxes) + 1,
                    "image_id": image * 11,
                    "category_id": category * 3,
                    "bbox": [x, y, w, h],
                    "area": round(0.7 * w * h, 2),
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
            if not federated:
                boxes[-1]["iscrowd"] = int(rng.random() < 0.1)
        name = f"{image * 11:012}.jpg"
        row: dict[str, Any] = {"id": image * 11, "width": WIDTH, "height": HEIGHT}
        if federated:
            others = sorted({*range(1, classes + 1)} - set(shown.tolist()))
            chosen = rng.permutation(others)[:4].tolist()
            row["coco_url"] = f"http://images.cocodataset.org/{'train2017' if image % 3 else 'val2017'}/{name}"
            row["neg_category_ids"] = [one * 3 for one in chosen]
            row["not_exhaustive_category_ids"] = [int(one) * 3 for one in shown[:1]]
        else:
            row["file_name"] = name
        images.append(row)
    categories: list[dict[str, Any]] = [{"id": 3 * (i + 1), "name": f"thing_{i}"} for i in range(classes)]
    for i, one in enumerate(categories):
        one |= {"frequency": "rcf"[i % 3], "synonyms": [one["name"]]} if federated else {"supercategory": "thing"}
    return {"info": {"version": "1.0"}, "images": images, "annotations": boxes, "categories": categories}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def draw(folder: Path, content: dict[str, Any]) -> None:
    """The pictures of an annotation file: boxes filled with the colour of their class."""
    by_image: dict[int, list[dict[str, Any]]] = {}
    for box in content["annotations"]:
        by_image.setdefault(box["image_id"], []).append(box)
    for row in content["images"]:
        picture = Image.new("RGB", (row["width"], row["height"]), (230, 230, 230))
        for box in by_image.get(row["id"], []):
            x, y, w, h = box["bbox"]
            shade = box["category_id"]
            colour = (37 * shade % 256, 91 * shade % 256, 151 * shade % 256)
            picture.paste(colour, (round(x), round(y), round(x + w), round(y + h)))
        path = folder / ("/".join(row["coco_url"].split("/")[-2:]) if "coco_url" in row else row["file_name"])
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)


def predictions(
    benchmark: DetectionBenchmark, seed: int, right: float = 0.6, keep: int = 6, boxes: Any = None
) -> pa.Table:
    """Ranked classes of every box, the true one first with probability `right`; scores like cosine similarities.

    Args:
        boxes: the proposals, where the benchmark is about some: they say which class they were made from.
    """
    rng = np.random.default_rng(seed)
    classes = len(benchmark.class_ids)
    samples = benchmark.samples(benchmark.role)
    place = {one["id"]: i for i, one in enumerate(benchmark.annotations.categories)}
    labels = [one.label for one in samples] if boxes is None else [place.get(b.get("category_id"), -1) for b in boxes]
    ranked, scores = [], []
    for label in labels:
        order = rng.permutation(classes)
        if label >= 0 and rng.random() < right:
            order = np.array([label, *order[order != label]])
        ranked.append(order[:keep].tolist())
        scores.append(np.sort(rng.uniform(0.2, 0.26, min(keep, classes)))[::-1].tolist())
    return table(benchmark, ranked, scores)


def table(
    benchmark: DetectionBenchmark, ranked: Sequence[Sequence[int]], scores: Sequence[Sequence[float]]
) -> pa.Table:
    samples = benchmark.samples(benchmark.role)
    labels = [one.label for one in samples]
    return pa.table(
        {
            "sample_id": [one.id for one in samples],
            "label": pa.array(labels, pa.int32()),
            "group": [benchmark.class_groups[label] if label >= 0 else "" for label in labels],
            "status": ["ok"] * len(labels),
            "ranked": pa.array(ranked, pa.list_(pa.int32())),
            "scores": pa.array(scores, pa.list_(pa.float32())),
        }
    )


def lvis_layout(root: Path, seed: int = 0, **shape: int) -> dict[str, Any]:
    """The files of LVIS v1.0 as detectron2 has them; what the annotation file says."""
    content = annotation_file(seed, federated=True, **shape)
    for folder in ("train2017", "val2017"):
        (root / "coco" / folder).mkdir(parents=True)
    draw(root / "coco", content)
    write(root / "lvis" / "lvis_v1_val.json", content)
    return content


def coco_layout(root: Path, seed: int = 0, **shape: int) -> dict[str, Any]:
    content = annotation_file(seed, federated=False, **shape)
    draw(root / "coco" / "val2017", content)
    write(root / "coco" / "annotations" / "instances_val2017.json", content)
    return content


def v3det_layout(root: Path, seed: int = 0, **shape: int) -> dict[str, Any]:
    """Keys of its README: categories with `novel`, files below images/<node of the class tree>/."""
    content = annotation_file(seed, federated=False, **shape)
    for i, one in enumerate(content["categories"]):
        one |= {"name_zh": "", "cat_info": [""], "cat_info_gpt": [""], "novel": i % 2 == 1}
    for box in content["annotations"]:
        box["area"] = box["bbox"][2] * box["bbox"][3]
        del box["segmentation"]
        del box["iscrowd"]
    for i, one in enumerate(content["images"]):
        one["file_name"] = f"images/n{i % 3:08}/{one['file_name']}"
    draw(root / "V3Det", content)
    write(root / "V3Det" / "annotations" / "v3det_2023_v1_val.json", content)
    return content


LAYOUTS = {"lvis": lvis_layout, "coco": coco_layout, "v3det": v3det_layout}


def counted(name: str, content: dict[str, Any]) -> SetSpec:
    """The spec of a set with the counts of a small file; the published ones are verified."""
    spec = PUBLISHED[name]
    classes = replace(spec.classes, number=len(content["categories"]))
    pictures = {TEST: replace(spec.counts[TEST], number=len(content["images"]))}
    return replace(spec, classes=classes, counts=pictures)


def proposals(content: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """Every box moved a little, some of them twice, and boxes of nothing."""
    rng = np.random.default_rng(seed)
    found = []
    for box in content["annotations"]:
        for _ in range(rng.integers(1, 3)):
            x, y, w, h = (np.array(box["bbox"]) * rng.uniform(0.88, 1.12, 4)).round(2).tolist()
            x, y = min(x, WIDTH - 1.0), min(y, HEIGHT - 1.0)
            of = {key: box[key] for key in ("image_id", "category_id")}
            found.append({**of, "bbox": [x, y, w, h], "score": round(rng.uniform(0.3, 1), 3)})
    for image in content["images"]:
        x, y = rng.uniform(0, [WIDTH - 60, HEIGHT - 60]).round(2).tolist()
        found.append({"image_id": image["id"], "bbox": [x, y, 50, 50], "score": round(rng.uniform(0, 0.5), 3)})
    return found


def opened(name: str, content: dict[str, Any], **options: Any) -> DetectionBenchmark:
    """The benchmark of a layout that was written, counted as what was written."""
    with PUBLISHED.replaced(counted(name, content)):
        benchmark = open_benchmark(name, **options)
    assert isinstance(benchmark, DetectionBenchmark)
    return benchmark
