"""The fine-grained sets and ImageNet as specs. Where a number is verified, its source says by what."""

from __future__ import annotations

from types import MappingProxyType

from trireme.benchmarks.datasets.spec import TEST, TRAIN, VALIDATION, Count, Layout, SetSpec

_TEXT = "trireme.benchmarks.datasets.text_lists"
_ELEVATER = "ELEVATER's table of data sets"

AIRCRAFT = SetSpec(
    name="aircraft",
    title="FGVC-Aircraft, 100 variants",
    version="2013b",
    layouts=(
        Layout(
            ("fgvc-aircraft-2013b/data", "fgvc_aircraft"),
            ("images", "variants.txt", "images_variant_test.txt"),
            f"{_TEXT}:aircraft",
            "torchvision or CoOp",
        ),
    ),
    classes=Count(100, True, _ELEVATER),
    counts=MappingProxyType(
        {
            TRAIN: Count(3334, True, "RAR's released notebook"),
            VALIDATION: Count(3333),
            TEST: Count(3333, True, _ELEVATER),
        }
    ),
    metrics=("top1", "top5"),
    templates="aircraft",
    bring="fgvc-aircraft-2013b.tar.gz from the page",
    page="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
    licence="pictures for non-commercial research only",
    archives=MappingProxyType({"fgvc-aircraft-2013b.tar.gz": "."}),
)

FOOD101 = SetSpec(
    name="food101",
    title="Food-101",
    version="1",
    layouts=(
        Layout(
            ("food-101",),
            ("images", "meta/classes.txt", "meta/test.txt"),
            f"{_TEXT}:food101",
            "torchvision or CoOp",
        ),
    ),
    classes=Count(101, True, _ELEVATER),
    counts=MappingProxyType({TRAIN: Count(75750), TEST: Count(25250, True, _ELEVATER)}),
    templates="food",
    bring="food-101.tar.gz from the page",
    page="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
    licence="pictures of Foodspotting, for research as fair use",
    archives=MappingProxyType({"food-101.tar.gz": "."}),
)

SPECS: tuple[SetSpec, ...] = (AIRCRAFT, FOOD101)
