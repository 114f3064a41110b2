"""What REACT feeds an open_clip model: augmented pictures that depend on (seed, epoch, pair) alone, and captions."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import RandAugment
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from torch import Tensor
from torchvision.transforms import InterpolationMode, Normalize, RandomHorizontalFlip

from trireme.errors import DataError
from trireme.methods.base import Context
from trireme.methods.react.captions import VARIANTS, caption_variants, draw
from trireme.types import Ints

from .customising import disc_context, recipe, tower_of


@pytest.fixture
def context(clip_folder: Path, tmp_path: Path) -> Context:
    return disc_context(clip_folder, tmp_path)


def tower(context: Context, **options: Any) -> Any:
    return tower_of(context, recipe(variant="locked_text", **options))


def fed(made: Any, rows: Sequence[int], epoch: int = 0, passes: int = 1) -> Tensor:
    """Pixels (n, 3, 32, 32) of one step's pairs, in so many forward passes."""
    parts: list[Ints] = list(np.array(rows).reshape(passes, -1))
    [inputs] = made.feed([parts], epoch)
    return torch.cat([part["image"] for part in inputs])


def test_the_same_epoch_and_pair_give_the_same_pixels(context: Context) -> None:
    """In any order, company, cut and tower; each pair, epoch and seed gives others."""
    made = tower(context)
    whole = fed(made, range(20))
    order = [7, 3, 11, 0]
    assert torch.equal(fed(made, order), whole[order])
    assert torch.equal(fed(made, order, passes=2), whole[order])
    assert torch.equal(fed(tower(context), [5]), whole[[5]])
    assert len({tuple(row.flatten().tolist()) for row in whole}) == 20
    assert not torch.equal(fed(made, [5], epoch=1), whole[[5]])
    context.seed = 1
    assert not torch.equal(fed(tower(context), [5]), whole[[5]])


def test_an_epoch_that_starts_in_its_middle_is_the_same(context: Context) -> None:
    made = tower(context, caption_parts=0.7)
    plan = [[np.array([4, 2])], [np.array([9, 0])], [np.array([1, 7])]]
    whole, rest = list(made.feed(plan, 3)), list(made.feed(plan[1:], 3))
    for one, other in zip(whole[1:], rest, strict=True):
        assert torch.equal(one[0]["image"], other[0]["image"])
        assert torch.equal(one[0]["text"], other[0]["text"])


def test_worker_processes_give_the_same_pixels(context: Context) -> None:
    """Two workers, each with generators of its own, beside this process."""
    made = tower(context)
    expected = fed(made, range(12))
    made._workers = 2
    plan = [[np.arange(0, 6)], [np.arange(6, 12)]]
    found = torch.cat([inputs["image"] for [inputs] in made.feed(plan, 0)])
    assert torch.equal(found, expected)


def test_augmentation_leaves_the_global_generators_alone(context: Context) -> None:
    made = tower(context)

    def seeded(act: Callable[[], object]) -> tuple[float, float, float]:
        random.seed(4)
        np.random.seed(4)
        torch.manual_seed(4)
        act()
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    assert seeded(lambda: made._pictures[(0, 1)]) == seeded(lambda: None)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_cannot_be_read_is_one_line(
    workers: int, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a worker process too, whose own errors would come with a traceback."""
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)  # PyTorch waits for it at the end
    assert context.memory is not None
    made = tower(context)
    path = Path(context.memory.refs([3])[0].path)
    path.write_bytes(path.read_bytes()[:40])
    made._workers = workers
    with pytest.raises(DataError) as caught:
        fed(made, [1, 3])
    assert str(caught.value).startswith(f"cannot read {path}: ")
    assert "\n" not in str(caught.value)
    del caught
    gc.collect()  # the worker ends with the traceback that holds its loader


def official(context: Context) -> Any:
    """timm's transform with the options of the official command (microsoft/react, react_customization/README.md) and,
    as in its open_clip (src/open_clip/transform.py), pixel-wise erasing."""
    preprocess = context.encoder.source.preprocess  # type: ignore[attr-defined]
    return create_transform(
        input_size=(3, 32, 32),
        is_training=True,
        scale=(0.08, 1.0),
        ratio=(0.75, 1.3333333333333333),
        hflip=0.5,
        interpolation="bicubic",
        color_jitter=0.4,
        auto_augment="rand-m9-mstd0.5-inc1",
        re_prob=0.25,
        re_mode="pixel",
        mean=preprocess["mean"],
        std=preprocess["std"],
    )


def test_the_recipe_is_timms_official_augmentation(context: Context) -> None:
    """The same pixels from the same state of the three generators that timm draws from."""
    ours, theirs = tower(context)._transform(), official(context)
    noise = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    seen = set()
    for seed in range(20):
        results = []
        for transform in (ours, theirs):
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            results.append(transform(Image.fromarray(noise)))
        assert torch.equal(*results)
        seen.add(float(results[0].sum()))
    assert len(seen) == 20


def test_the_parts_of_the_recipe(context: Context) -> None:
    """Crop, flip, RandAugment, normalisation, erasing, with the values of the official command; timm leaves colour
    jitter out where RandAugment is on."""
    parts = {type(part): part for part in tower(context)._transform().transforms}
    crop: Any = parts[RandomResizedCropAndInterpolation]
    assert (tuple(crop.size), tuple(crop.scale)) == ((32, 32), (0.08, 1.0))
    assert tuple(crop.ratio) == pytest.approx((0.75, 4 / 3))
    assert crop.interpolation == InterpolationMode.BICUBIC
    assert parts[RandomHorizontalFlip].p == 0.5
    augment: Any = parts[RandAugment]
    assert augment.num_layers == 2
    assert {(op.magnitude, op.magnitude_std) for op in augment.ops} == {(9, 0.5)}
    assert "PosterizeIncreasing" in {op.name for op in augment.ops}
    assert tuple(parts[Normalize].mean) == pytest.approx((0.48145466, 0.4578275, 0.40821073))  # OpenAI's
    erase: Any = parts[RandomErasing]
    assert (erase.probability, erase.mode, erase.max_count) == (0.25, "pixel", 1)
    assert not [kind for kind in parts if "Jitter" in kind.__name__]


def test_without_augmentation_pictures_come_as_in_inference(context: Context) -> None:
    assert context.memory is not None
    found = fed(tower(context, augment="none"), range(20))
    images = [Image.open(ref.path).convert("RGB") for ref in context.memory.refs(range(20))]
    assert torch.equal(found, torch.stack([context.encoder.preprocess(image) for image in images]))


def test_every_picture_comes_with_its_caption(context: Context) -> None:
    """As embeddings where the text tower is locked, as tokens where it trains."""
    assert context.memory is not None
    rows = [6, 1, 13]
    captions = context.memory.captions(rows)
    [[locked]] = tower(context).feed([[np.array(rows)]], 0)
    np.testing.assert_array_equal(locked["text"].numpy(), context.store.texts(captions))
    trains = tower_of(context, recipe(variant="full"))
    [[free]] = trains.feed([[np.array(rows)]], 0)
    assert torch.equal(free["tokens"], context.encoder.tokenise(captions))  # type: ignore[attr-defined]
    assert locked.keys() == {"image", "text"}
    assert free.keys() == {"image", "tokens"}


def test_captions_are_cut_anew_in_every_epoch(context: Context) -> None:
    """With a share of 1 no caption is whole; all texts are the caption's first phrase, or begin with it."""
    assert context.memory is not None
    captions = context.memory.captions(range(20))
    made = tower(context, caption_parts=1.0)
    firsts = [caption.split(":")[0] for caption in captions]
    cuts = [{first, f"{first}, number {i % 4}", f"{first}, of set memory"} for i, first in enumerate(firsts)]
    cuts = [
        cut | {f"{c}, number {i % 4}, of set memory", f"{c}, of set memory, number {i % 4}"}
        for i, (c, cut) in enumerate(zip(firsts, cuts, strict=True))
    ]
    known = {text: vector for cut in cuts for text in cut for vector in context.store.texts([text])}
    seen = set()
    for epoch in range(6):
        [[inputs]] = made.feed([[np.arange(20)]], epoch)
        for row, vector in enumerate(inputs["text"].numpy()):
            match = [text for text in cuts[row] if np.array_equal(known[text], vector)]
            assert match, f"epoch {epoch}, pair {row}"
            seen.add(match[0])
    assert len(seen) > 20


def test_caption_variants_are_the_caption_its_first_phrase_and_cuts() -> None:
    [found, lone, empty] = caption_variants(["a fox: red, in snow. side view", "a clock", "; "], seed=0)
    assert len(found) == VARIANTS
    assert found[:2] == ["a fox: red, in snow. side view", "a fox"]
    assert all(
        cut.startswith("a fox") and set(cut.split(", ")) <= {"a fox", "red", "in snow", "side view"}
        for cut in found[2:]
    )
    assert lone == ["a clock"] * VARIANTS
    assert empty[0] == "; "
    assert caption_variants(["a fox: red, in snow", "a clock"], 3) == caption_variants(
        ["a fox: red, in snow", "a clock"], 3
    )


def test_how_often_captions_are_cut() -> None:
    """Of 8,000 draws at a share of 0.6: 40 % whole, 30 % the first phrase, 10 % each of 3 cuts; 4 standard errors."""
    counts = np.bincount(draw(8000, 0.6, np.random.default_rng(0)), minlength=VARIANTS) / 8000
    for found, expected in zip(counts, [0.4, 0.3, 0.1, 0.1, 0.1], strict=True):
        assert found == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 8000))
    assert not draw(100, 0.0, np.random.default_rng(0)).any()


@pytest.mark.parametrize("variant", ["gated_image", "full"])
def test_the_tower_embeds_as_its_encoder_does(variant: str, context: Context) -> None:
    """Before any step: gates are closed, weights are the base's."""
    assert context.validation is not None
    made = tower_of(context, recipe(variant=variant))
    made.module.eval()
    refs = [sample.image for sample in context.validation.samples]
    np.testing.assert_allclose(made.embed_images(refs), context.store.images(refs), atol=1e-6)
    texts = ["red disc", "a drawing of a blue disc"]
    np.testing.assert_allclose(made.embed_texts(texts), context.store.texts(texts), atol=1e-6)
