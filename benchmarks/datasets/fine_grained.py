"""The fine-grained sets and ImageNet as specs. Where a number is verified, its source says by what."""

from __future__ import annotations

from types import MappingProxyType

from trireme.benchmarks.datasets.prompts import OPEN_CLIP
from trireme.benchmarks.datasets.spec import TEST, TRAIN, VALIDATION, Count, Layout, SetSpec

_HERE = "trireme.benchmarks.datasets"
_ELEVATER = "ELEVATER's table of data sets"
_TFDS = "the catalogue of TensorFlow Datasets"
_TORCHVISION = "torchvision's description of the set"
_BOTH = ("top1", "top5", "mean_per_class")
"""Of sets for which CLIP and ELEVATER report the mean over classes; RECO and RAR report top1."""

AIRCRAFT = SetSpec(
    name="aircraft",
    title="FGVC-Aircraft, 100 variants",
    version="2013b",
    layouts=(
        Layout(
            ("fgvc-aircraft-2013b/data", "fgvc_aircraft"),
            ("images", "variants.txt", "images_variant_train.txt", "images_variant_val.txt", "images_variant_test.txt"),
            f"{_HERE}.text_lists:aircraft",
            "torchvision or CoOp",
        ),
    ),
    classes=Count(100, True, _ELEVATER),
    counts=MappingProxyType(
        {
            TRAIN: Count(3334, True, "RAR's released notebook"),
            VALIDATION: Count(3333, True, f"{_TORCHVISION}: 10000 in all"),
            TEST: Count(3333, True, _ELEVATER),
        }
    ),
    metrics=_BOTH,
    templates="aircraft",
    bring="fgvc-aircraft-2013b.tar.gz from the page",
    page="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
    licence="non-commercial research, as its page says",
    archives=MappingProxyType({"fgvc-aircraft-2013b.tar.gz": "."}),
)

CARS = SetSpec(
    name="cars",
    title="Stanford Cars",
    version="1",
    layouts=(
        Layout(
            ("stanford_cars",),
            (
                "devkit/cars_meta.mat",
                "cars_test_annos_withlabels.mat",
                "cars_test",
            ),
            f"{_HERE}.mat_lists:cars",
            "torchvision or CoOp",
            ("cars_train", "devkit/cars_train_annos.mat"),
        ),
    ),
    classes=Count(196, True, _ELEVATER),
    counts=MappingProxyType({TRAIN: Count(8144, True, _TORCHVISION), TEST: Count(8041, True, _ELEVATER)}),
    templates="cars",
    bring="car_devkit.tgz, cars_train.tgz, cars_test.tgz and cars_test_annos_withlabels.mat; the page is often down, "
    "copies of these files are known to CoOp and torchvision users",
    page="http://ai.stanford.edu/~jkrause/cars/car_dataset.html",
    licence="non-commercial research, as its page says",
    archives=MappingProxyType(
        {"car_devkit.tgz": "stanford_cars", "cars_train.tgz": "stanford_cars", "cars_test.tgz": "stanford_cars"}
    ),
)

CUB = SetSpec(
    name="cub",
    title="CUB-200-2011, birds",
    version="1",
    layouts=(
        Layout(
            ("CUB_200_2011", "cub/CUB_200_2011", "cub"),
            ("images", "images.txt", "classes.txt", "image_class_labels.txt", "train_test_split.txt"),
            f"{_HERE}.text_lists:cub",
            "as its archive",
        ),
    ),
    classes=Count(200, True, "its page"),
    counts=MappingProxyType(
        {
            TRAIN: Count(5994, True, "dpdl-benchmark/caltech_birds2011 on the Hugging Face hub"),
            TEST: Count(5794, True, "dpdl-benchmark/caltech_birds2011 on the Hugging Face hub"),
        }
    ),
    templates="birds",
    bring="CUB_200_2011.tgz from the page",
    page="https://www.vision.caltech.edu/datasets/cub_200_2011/",
    licence="non-commercial research and education, as its page says",
    archives=MappingProxyType({"CUB_200_2011.tgz": "."}),
)

DOGS = SetSpec(
    name="dogs",
    title="Stanford Dogs",
    version="1",
    layouts=(
        Layout(
            ("stanford_dogs", "StanfordDogs", "stanford-dogs"),
            ("Images", "lists/train_list.mat", "lists/test_list.mat"),
            f"{_HERE}.mat_lists:dogs",
            "lists.tar extracted in lists",
        ),
        Layout(
            ("stanford_dogs", "StanfordDogs", "stanford-dogs"),
            ("Images", "train_list.mat", "test_list.mat"),
            f"{_HERE}.mat_lists:dogs",
            "as its archives",
        ),
    ),
    classes=Count(120, True, _TFDS),
    counts=MappingProxyType({TRAIN: Count(12000, True, _TFDS), TEST: Count(8580, True, _TFDS)}),
    templates="dogs",
    bring="images.tar and lists.tar from the page",
    page="http://vision.stanford.edu/aditya86/ImageNetDogs/",
    licence="pictures of ImageNet: non-commercial research",
    archives=MappingProxyType({"images.tar": "stanford_dogs", "lists.tar": "stanford_dogs/lists"}),
)

FLOWERS102 = SetSpec(
    name="flowers102",
    title="Oxford Flowers 102, the official split",
    version="1",
    layouts=(
        Layout(
            ("flowers-102", "oxford_flowers"),
            ("jpg", "imagelabels.mat", "setid.mat"),
            f"{_HERE}.mat_lists:flowers",
            "torchvision, or CoOp with setid.mat added",
        ),
    ),
    classes=Count(102, True, _ELEVATER),
    counts=MappingProxyType(
        {
            TRAIN: Count(1020, True, _TFDS),
            VALIDATION: Count(1020, True, _TFDS),
            TEST: Count(6149, True, _ELEVATER),
        }
    ),
    metrics=_BOTH,
    templates="flowers",
    bring="102flowers.tgz, imagelabels.mat and setid.mat from the page",
    page="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
    licence="not stated on its page",
    archives=MappingProxyType({"102flowers.tgz": "flowers-102"}),
)

FOOD101 = SetSpec(
    name="food101",
    title="Food-101",
    version="1",
    layouts=(
        Layout(
            ("food-101",),
            ("images", "meta/classes.txt", "meta/train.txt", "meta/test.txt"),
            f"{_HERE}.text_lists:food101",
            "torchvision or CoOp",
        ),
    ),
    classes=Count(101, True, _ELEVATER),
    counts=MappingProxyType(
        {TRAIN: Count(75750, True, f"{_TORCHVISION}: 750 a class"), TEST: Count(25250, True, _ELEVATER)}
    ),
    templates="food",
    bring="food-101.tar.gz from the page",
    page="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
    licence="pictures of Foodspotting, for research; license_agreement.txt in the archive",
    archives=MappingProxyType({"food-101.tar.gz": "."}),
)

IMAGENET = SetSpec(
    name="imagenet",
    title="ImageNet-1k, tested on its validation pictures",
    version="2012",
    layouts=(
        Layout(
            ("imagenet/images", "imagenet", "ILSVRC2012"),
            ("val",),
            f"{_HERE}.imagenet:imagenet",
            "CoOp or torchvision: a folder per synset; or flat, with LOC_val_solution.csv or the devkit beside val",
            ("train",),
        ),
        Layout(
            ("imagenet", "imagenet-object-localization-challenge"),
            ("ILSVRC/Data/CLS-LOC/val", "LOC_val_solution.csv", "LOC_synset_mapping.txt"),
            f"{_HERE}.imagenet:imagenet",
            "Kaggle",
            ("ILSVRC/Data/CLS-LOC/train",),
        ),
    ),
    classes=Count(1000, True, _ELEVATER),
    counts=MappingProxyType(
        {
            TRAIN: Count(1281167, True, "slim's ImageNet reader in the TensorFlow models"),
            TEST: Count(50000, True, "ELEVATER, and RAR's use of val as test"),
        }
    ),
    templates=OPEN_CLIP,
    same_names=True,
    bring="ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz, for a memory also ILSVRC2012_img_train.tar, after "
    "registration at the page",
    page="https://image-net.org/challenges/LSVRC/2012/2012-downloads.php",
    licence="non-commercial research, by agreement with its page",
    archives=MappingProxyType({"ILSVRC2012_img_val.tar": "imagenet/val", "ILSVRC2012_devkit_t12.tar.gz": "imagenet"}),
)

PETS = SetSpec(
    name="pets",
    title="Oxford-IIIT Pets",
    version="1",
    layouts=(
        Layout(
            ("oxford-iiit-pet", "oxford_pets"),
            ("images", "annotations/trainval.txt", "annotations/test.txt"),
            f"{_HERE}.text_lists:pets",
            "torchvision or CoOp",
        ),
    ),
    classes=Count(37, True, _ELEVATER),
    counts=MappingProxyType({TRAIN: Count(3680, True, _TFDS), TEST: Count(3669, True, _ELEVATER)}),
    metrics=_BOTH,
    templates="pets",
    bring="images.tar.gz and annotations.tar.gz from the page",
    page="https://www.robots.ox.ac.uk/~vgg/data/pets/",
    licence="CC BY-SA 4.0",
    archives=MappingProxyType({"images.tar.gz": "oxford-iiit-pet", "annotations.tar.gz": "oxford-iiit-pet"}),
)

_PLACES = ("places365", "Places365")
_PLACES_LISTS = ("categories_places365.txt", "places365_val.txt")
_PLACES_TRAIN = ("places365_train_standard.txt",)
PLACES365 = SetSpec(
    name="places365",
    title="Places365-Standard, tested on its validation pictures",
    version="1",
    layouts=(
        Layout(
            _PLACES, ("val_256", *_PLACES_LISTS), f"{_HERE}.text_lists:places365", "torchvision, small", _PLACES_TRAIN
        ),
        Layout(
            _PLACES, ("val_large", *_PLACES_LISTS), f"{_HERE}.text_lists:places365", "torchvision, large", _PLACES_TRAIN
        ),
    ),
    classes=Count(365, True, _TFDS),
    counts=MappingProxyType({TRAIN: Count(1803460, True, _TFDS), TEST: Count(36500, True, _TFDS)}),
    templates="places",
    bring="val_256.tar and filelist_places365-standard.tar from the page, for a memory also "
    "train_256_places365standard.tar",
    page="http://places2.csail.mit.edu/download.html",
    licence="non-commercial research and education, as its page says",
    archives=MappingProxyType(
        {
            "val_256.tar": "places365",
            "filelist_places365-standard.tar": "places365",
            "train_256_places365standard.tar": "places365",
        }
    ),
)

SPECS: tuple[SetSpec, ...] = (AIRCRAFT, CARS, CUB, DOGS, FLOWERS102, FOOD101, IMAGENET, PETS, PLACES365)
