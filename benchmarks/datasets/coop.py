"""CoOp's data sets, on which RAR's Table 2 is made, in the folders of CoOp's DATASETS.md.

The benchmark is the test part of a split, its validation the val part, the pair set the train part, each in the file's
own order: the support sets of RAR and of CoOp are drawn from that order. Folders, files and class names are those of
KaiyangZhou/CoOp @ff61507 (DATASETS.md and datasets/*.py), whose prompts are in `coop.json`. They are other benchmarks
than those of the same names without "coop/" and than ELEVATER's: other pictures are held out.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from trireme.benchmarks.datasets.spec import TEST, TRAIN, VALIDATION, Count, Layout, SetSpec

_READERS = "trireme.benchmarks.datasets.coop_splits"
_PAGE = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"
_COUNTED = "the published split file, counted in linzhiqiu/cross_modal_adaptation @ac9077e"
_NUMBERS: Mapping[str, tuple[int, int, int, int]] = MappingProxyType(
    {
        "caltech101": (100, 4128, 1649, 2465),
        "cars": (196, 6509, 1635, 8041),
        "dtd": (47, 2820, 1128, 1692),
        "eurosat": (10, 13500, 5400, 8100),
        "flowers102": (102, 4093, 1633, 2463),
        "pets": (37, 2944, 736, 3669),
        "ucf101": (101, 7639, 1898, 3783),
    }
)
"""Classes, then train, val and test pictures of the split files that were counted."""


def _split_set(
    name: str, title: str, folder: str, images: tuple[str, ...], file: str, licence: str, *archives: str
) -> SetSpec:
    """A set with a split file. `images` are folders in `folder`, where the archives are extracted too."""
    split = f"split_zhou_{file}.json"
    numbers = [Count(number, True, _COUNTED) for number in _NUMBERS.get(name, ())] or _UNCOUNTED[name]
    return SetSpec(
        name=f"coop/{name}",
        title=f"{title}, CoOp's split",
        version="1",
        layouts=(Layout((folder,), (*images, split), f"{_READERS}:{name}", "CoOp"),),
        classes=numbers[0],
        counts=MappingProxyType(dict(zip((TRAIN, VALIDATION, TEST), numbers[1:], strict=True))),
        templates=f"coop:{name}",
        bring=f"{' and '.join(archives)}, and {split} in {folder}/; all are linked from the page",
        page=_PAGE,
        licence=licence,
        archives=MappingProxyType({archive: "." if _holds(archive, folder) else folder for archive in archives}),
    )


_UNCOUNTED: Mapping[str, list[Count]] = MappingProxyType(
    {
        "food101": [Count(101, True, "ELEVATER's table of data sets"), Count(50500), Count(20200), Count(30300)],
        "sun397": [Count(397), Count(15880), Count(3970), Count(19850)],
    }
)
"""No copy of these two split files could be counted."""


def _holds(archive: str, folder: str) -> bool:
    """Whether the archive has the set's folder in it."""
    return archive.startswith(folder)


_OXFORD = "pictures for non-commercial research"
_OWNERS = "pictures of their owners on the web, for research"

_AIRCRAFT = SetSpec(
    name="coop/aircraft",
    title="FGVC-Aircraft, 100 variants, as CoOp reads it",
    version="1",
    layouts=(
        Layout(
            ("fgvc_aircraft", "fgvc-aircraft-2013b/data"),
            ("images", "variants.txt", "images_variant_test.txt"),
            f"{_READERS}:aircraft",
            "CoOp or torchvision",
        ),
    ),
    classes=Count(100, True, "ELEVATER's table of data sets"),
    counts=MappingProxyType(
        {
            TRAIN: Count(3334, True, "ELEVATER's vision_datasets.json @00d0af7"),
            VALIDATION: Count(3333, True, "ELEVATER's vision_datasets.json @00d0af7"),
            TEST: Count(3333, True, "ELEVATER's vision_datasets.json @00d0af7"),
        }
    ),
    templates="coop:aircraft",
    bring="fgvc-aircraft-2013b.tar.gz, whose data/ CoOp renames to fgvc_aircraft/",
    page=_PAGE,
    licence="pictures for non-commercial research only",
    archives=MappingProxyType({"fgvc-aircraft-2013b.tar.gz": "."}),
)

_IMAGENET = SetSpec(
    name="coop/imagenet",
    title="ImageNet-1k, CoOp's class names and prompt; its validation pictures are the test",
    version="1",
    layouts=(
        Layout(
            ("imagenet",), ("classnames.txt", "images/val"), f"{_READERS}:imagenet", "CoOp", train=("images/train",)
        ),
    ),
    classes=Count(1000, True, "ELEVATER's imagenet-1k"),
    counts=MappingProxyType(
        {TRAIN: Count(1281167), TEST: Count(50000, True, "ELEVATER's vision_datasets.json @00d0af7")}
    ),
    templates="coop:imagenet",
    bring="the ILSVRC 2012 training and validation pictures in folders by synset, and classnames.txt of the page",
    page=_PAGE,
    licence="pictures for non-commercial research, with an account at image-net.org",
    same_names=True,
)

SPECS: tuple[SetSpec, ...] = (
    _AIRCRAFT,
    _split_set(
        "caltech101",
        "Caltech-101, 100 classes",
        "caltech-101",
        ("101_ObjectCategories",),
        "Caltech101",
        "CC BY 4.0",
        "101_ObjectCategories.tar.gz",
    ),
    _split_set(
        "cars",
        "Stanford Cars",
        "stanford_cars",
        ("cars_train", "cars_test"),
        "StanfordCars",
        _OWNERS,
        "cars_train.tgz",
        "cars_test.tgz",
    ),
    _split_set(
        "dtd",
        "Describable Textures",
        "dtd",
        ("images",),
        "DescribableTextures",
        _OXFORD,
        "dtd-r1.0.1.tar.gz",
    ),
    _split_set(
        "eurosat",
        "EuroSAT",
        "eurosat",
        ("2750",),
        "EuroSAT",
        "MIT",
        "EuroSAT.zip",
    ),
    _split_set(
        "flowers102",
        "Oxford Flowers 102",
        "oxford_flowers",
        ("jpg",),
        "OxfordFlowers",
        _OXFORD,
        "102flowers.tgz",
    ),
    _split_set(
        "food101",
        "Food-101",
        "food-101",
        ("images",),
        "Food101",
        "pictures of Foodspotting, for research as fair use",
        "food-101.tar.gz",
    ),
    _IMAGENET,
    _split_set(
        "pets",
        "Oxford-IIIT Pets",
        "oxford_pets",
        ("images",),
        "OxfordPets",
        "CC BY-SA 4.0",
        "images.tar.gz",
        "annotations.tar.gz",
    ),
    _split_set(
        "sun397",
        "SUN397",
        "sun397",
        ("SUN397",),
        "SUN397",
        _OWNERS,
        "SUN397.tar.gz",
    ),
    _split_set(
        "ucf101",
        "UCF101, the middle frame of each video",
        "ucf101",
        ("UCF-101-midframes",),
        "UCF101",
        "frames of videos of their owners, for research",
        "UCF-101-midframes.zip",
    ),
)
