"""Flickr30k and COCO captions from Karpathy's split files and the picture folders as published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trireme.benchmarks.base import RowPairs
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.benchmarks.datasets.opening import check_count, check_pictures, image_refs
from trireme.benchmarks.datasets.places import Place, absent, locate
from trireme.benchmarks.datasets.spec import SPLIT_OF, TEST, TRAIN, VALIDATION, Count, Layout, Listed, SetSpec
from trireme.benchmarks.image_text.benchmark import METRICS, Captioned, ImageTextBenchmark, samples_of, subsets_of
from trireme.benchmarks.image_text.karpathy import Entry, read_entries
from trireme.errors import DataError, UsageError
from trireme.types import Pair, PairSet, Role

VERIFY = "trireme.benchmarks.image_text.sets:verify"
_SPLITS_OF = "caption_datasets.zip from https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"
_FLICKR_CARD = "AnyModal/flickr30k on the Hugging Face hub, which has Karpathy's ids and splits"
_TFDS = "the catalogue of TensorFlow Datasets, coco_captions"
_WITHOUT = Count(0)

SPECS = (
    SetSpec(
        name="flickr30k",
        title="Flickr30k, image-text retrieval, Karpathy's split",
        version="1",
        layouts=(
            Layout(("flickr30k", "Flickr30k"), ("dataset_flickr30k.json", "flickr30k-images"), title="as its archive"),
            Layout(("flickr30k", "f30k"), ("dataset_flickr30k.json", "images"), title="VSE++ and SCAN"),
            Layout(("flickr30k",), ("dataset_flickr30k.json", "flickr30k_images"), title="OpenFlamingo"),
        ),
        classes=_WITHOUT,
        counts={
            TRAIN: Count(29000, True, _FLICKR_CARD),
            VALIDATION: Count(1014, True, _FLICKR_CARD),
            TEST: Count(1000, True, _FLICKR_CARD),
        },
        metrics=METRICS,
        bring=f"{_SPLITS_OF}; the pictures after a request at the page",
        page="https://shannon.cs.illinois.edu/DenotationGraph/",
        licence="pictures by Flickr users; non-commercial research and education, as its page says",
        archives={"caption_datasets.zip": "flickr30k"},
        verify=VERIFY,
    ),
    SetSpec(
        name="coco-captions",
        title="COCO captions, image-text retrieval, Karpathy's split (the 5k test)",
        version="1",
        layouts=(
            Layout(("coco",), ("dataset_coco.json", "val2014"), title="as its archives", train=("train2014",)),
            Layout(("coco",), ("karpathy/dataset_coco.json", "val2014"), title="IMITER", train=("train2014",)),
            Layout(("coco",), ("dataset_coco.json", "images/val2014"), title="LAVIS", train=("images/train2014",)),
        ),
        classes=_WITHOUT,
        counts={
            TRAIN: Count(113287, True, f"{_TFDS}: train 82783, restval 30504"),
            VALIDATION: Count(5000, True, _TFDS),
            TEST: Count(5000, True, _TFDS),
        },
        metrics=METRICS,
        bring=f"{_SPLITS_OF}; val2014.zip, for a memory also train2014.zip, from the page",
        page="https://cocodataset.org/#download",
        licence="annotations CC BY 4.0, pictures by Flickr users under their own licences",
        archives={"caption_datasets.zip": "coco", "train2014.zip": "coco", "val2014.zip": "coco"},
        verify=VERIFY,
    ),
)  # fmt: skip


FOLDS = {"coco-captions-1k": ("coco-captions", 5, 5)}
"""{benchmark: (its set, folds, captions a picture)}. The 1k protocol of COCO, as `evalrank(fold5=True)` of
fartashf/vsepp (evaluation.py) has it for F. Faghri et al., VSE++, BMVC 2018: the 5,000 test pictures with five captions
each, in five folds of 1,000 in their order; R@k in each fold, and the mean of the five. Folds are equally large, so the
mean over all queries is that mean."""


def open_benchmark(name: str, *, prompt: str = "{}") -> ImageTextBenchmark:
    """The test pictures and captions of `flickr30k` or `coco-captions`, and those of its validation split.

    `coco-captions-1k` has the test pictures of `coco-captions` in folds (see `FOLDS`), and chooses on that one's
    validation split.

    Args:
        prompt: what a caption that asks is put into, with one {}; as it is unless told otherwise.

    Raises:
        DataError: the set is not here, or its files are not those of the published set.
        UsageError: no such set, or a prompt without {}.
    """
    if not isinstance(prompt, str) or "{}" not in prompt:
        raise UsageError(f"'{name}': prompt={prompt!r} has no {{}} for the caption")
    of, folds, most = FOLDS.get(name, (name, 0, None))
    spec, (place, entries) = PUBLISHED[of], _read(PUBLISHED[of])
    items: list[str] = []
    rows = {}
    for role, split in SPLIT_OF.items():
        if folds and role is not Role.TEST:
            continue
        chosen = _checked(spec, place, entries, split)
        if folds:
            _check_folds(f"data set '{of}' in {place.folder}", chosen, folds, most or 0)
        refs = image_refs(spec.name, _listed(place, chosen), place.folder)
        shown = [
            Captioned(entry.filename, ref, len(items) + number, dict(list(entry.captions.items())[:most]))
            for number, (entry, ref) in enumerate(zip(chosen, refs, strict=True))
        ]
        items += [entry.filename for entry in chosen]
        rows[role] = samples_of(shown, prompt)
    return ImageTextBenchmark(
        name=name,
        version=spec.version,
        class_ids=tuple(items),
        class_names=tuple(items),
        class_groups=("",) * len(items),
        subsets=subsets_of(),
        templates=(prompt,),
        rows=rows,
        validation=of,
        folds=tuple(f"fold {number * folds // len(items) + 1}" for number in range(len(items))) if folds else (),
    )


def _check_folds(where: str, entries: Sequence[Entry], folds: int, captions: int) -> None:
    """DataError where folds would not be equally large, so that the mean over queries is not the mean over folds."""
    if len(entries) % folds:
        raise DataError(f"{where}: {len(entries)} test pictures do not make {folds} folds of one size")
    short = [entry for entry in entries if len(entry.captions) < captions]
    if short:
        raise DataError(
            f"{where}: {len(short)} test pictures have fewer than {captions} captions (first: {short[0].filename}); "
            "extract caption_datasets.zip again"
        )


def open_pairs(name: str) -> PairSet:
    """The training pictures of a set (with COCO's `restval`): a pair for each of a picture's captions.

    Raises:
        DataError: the set is not here, or not with its training pictures.
        UsageError: no such set.
    """
    spec, (place, entries) = PUBLISHED[name], _read(PUBLISHED[name])
    lacking = absent(place, TRAIN)
    if lacking:
        raise DataError(
            f"data set '{name}' in {place.folder} has no training pictures: {lacking[0]} is missing; "
            f"what to do: trireme data status {name}"
        )
    chosen = _checked(spec, place, entries, TRAIN)
    refs = image_refs(name, _listed(place, chosen), place.folder)
    return RowPairs(
        name,
        tuple(
            Pair(f"{entry.filename}/{ident}", ref, text, source=name)
            for entry, ref in zip(chosen, refs, strict=True)
            for ident, text in entry.captions.items()
        ),
    )


def verify(spec: SetSpec) -> None:
    """Read the split file and compare it with the spec and the folders; no picture is opened.

    Raises:
        DataError: what is wrong with it.
    """
    place, entries = _read(spec)
    for split in spec.counts:
        if not absent(place, split):
            _checked(spec, place, entries, split)


def _read(spec: SetSpec) -> tuple[Place, list[Entry]]:
    place = locate(spec)
    return place, read_entries(place.folder / place.layout.needs[0])


def _checked(spec: SetSpec, place: Place, entries: Sequence[Entry], split: str) -> list[Entry]:
    """The pictures of a split, as many as there should be, below the folder and (but for 1 %) there."""
    where = f"data set '{spec.name}' in {place.folder}"
    chosen = [entry for entry in entries if entry.split == split]
    check_count(where, f"{split} pictures", len(chosen), spec.counts[split])
    check_pictures(where, _listed(place, chosen), place.folder)
    return chosen


def _listed(place: Place, entries: Sequence[Entry]) -> list[Listed]:
    """Paths from the set's folder: the file has COCO's folder of each picture itself."""
    pictures = Path(place.layout.needs[1])
    base = pictures.parent if pictures.name == "val2014" else pictures
    return [Listed(entry.path if base == Path() else f"{base.as_posix()}/{entry.path}", 0) for entry in entries]
