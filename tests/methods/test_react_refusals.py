"""What REACT refuses, and that it does so before anything is retrieved, encoded or trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from trireme.errors import DataError, UsageError
from trireme.methods.base import Context
from trireme.methods.react import React, ReactConfig
from trireme.methods.react.method import customised_encoder
from trireme.methods.react.towers import check_encoder
from trireme.retrieval.encoders.hf import TransformersEncoder
from trireme.retrieval.encoders.openclip import OpenClipEncoder
from trireme.retrieval.store import EmbeddingStore

from .conftest import TINY
from .customising import customise, disc_context, recipe
from .synthetic import VectorWorld

RESNET = TINY | {"vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}}
"""A ResNet of CLIP's kind, as RN50 is one: no transformer layers, but batch norms."""


@pytest.fixture
def context(clip_folder: Path, tmp_path: Path) -> Context:
    return disc_context(clip_folder, tmp_path)


@pytest.fixture(scope="module")
def resnet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-resnet")
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**RESNET).state_dict(), str(folder / "open_clip_model.safetensors"))
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": RESNET, "preprocess_cfg": {}}))
    return folder


def refused(context: Context, message: str, **options: Any) -> None:
    """Fitting stops with the message, and nothing was encoded or begun."""
    context.store = EmbeddingStore(context.encoder, context.artifacts.parent / "no embeddings")
    with pytest.raises(UsageError, match=message) as caught:
        React(recipe(**options)).fit(context)
    assert "\n" not in str(caught.value)
    assert context.store.forwards == 0
    assert not context.artifacts.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 3}, "gated blocks go before 1 to 2 layers, this image tower has no more; not 3"),
        ({"train_grid": {"layers": [1, 2, 3]}}, "gated blocks go before 1 to 2 layers.*not 3"),
        ({"dropout": 0.1}, "dropout, feature_dropout and token_dropout are options of lite"),
        ({"token_dropout": 0.1}, "options of lite"),
    ],
)
def test_an_encoder_that_cannot_do_it(options: dict[str, Any], message: str, context: Context) -> None:
    refused(context, message, **options)


def test_a_bad_recipe_of_a_grid_is_refused_before_the_first_one_is_trained(context: Context) -> None:
    """The configuration itself is good, and so is the first recipe."""
    grid = {"variant": ["locked_text", "gated_image"], "layers": [5]}
    refused(context, "no more; not 5", variant="locked_text", train_grid=grid)


def test_a_guard_for_a_subset_that_is_not_there(context: Context) -> None:
    message = "unknown subset of discs/validation in may_lose 'knwon'; did you mean 'known'"
    refused(context, message, patience=1, may_lose={"knwon": 1.0})


def test_layers_count_for_gated_blocks_only(context: Context) -> None:
    check_encoder(context.encoder, recipe(layers=5, variant="locked_text"))
    check_encoder(context.encoder, recipe(layers=2))


def test_a_vision_transformer_is_judged_without_loading_it(context: Context) -> None:
    encoder = OpenClipEncoder(context.encoder.config)  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="not 3"):
        check_encoder(encoder, recipe(layers=3))
    assert "model" not in vars(encoder)


def test_a_model_without_transformer_layers(resnet_folder: Path, tmp_path: Path) -> None:
    context = disc_context(resnet_folder, tmp_path)
    refused(context, r"the image tower \(ModifiedResNet\) has no transformer layers for gated blocks; choose a ViT")


@pytest.mark.parametrize("variant", ["locked_text", "locked_image"])
def test_batch_norms_keep_their_statistics(variant: str, resnet_folder: Path, tmp_path: Path) -> None:
    """They are buffers, which a customised encoder does not hold: what validation measured is what is stored."""
    context = disc_context(resnet_folder, tmp_path)
    artifact = customise(context, variant=variant, epochs=3, lr=0.01)
    encoder: Any = customised_encoder(context.encoder, artifact.encoder)
    base: Any = context.encoder
    before, after = base.model.state_dict(), encoder.model.state_dict()
    buffers = {name for name, _ in base.model.named_buffers() if name.startswith("visual.")}
    assert any("running_mean" in name for name in buffers)
    assert all(torch.equal(before[name], after[name]) for name in buffers)
    method = React(recipe(variant=variant, epochs=3, lr=0.01, interpolation=[1.0, 0.999999]))
    method.fit(context)
    assert context.validation is not None
    samples = context.validation.samples
    right = method.predict(samples).ranked[:, 0] == [sample.label for sample in samples]
    assert method.facts()["training"]["measured"][-1]["all"] == pytest.approx(100 * right.mean(), abs=0.01)


def test_encoders_of_other_backends(vectors: VectorWorld, tmp_path: Path) -> None:
    """One of a plug-in, which need not have a configuration, and a real one of transformers."""
    refused(vectors.context(), "react customises open_clip and lite encoders, not vectors")
    folder = tmp_path / "clip"
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = vision | {"vocab_size": 10, "max_position_embeddings": 16}
    config = CLIPConfig(text_config=text, vision_config=vision | {"image_size": 32, "patch_size": 8}, projection_dim=24)
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    context = vectors.context()
    context.encoder = TransformersEncoder(TransformersEncoder.Config(model=str(folder), device="cpu"))
    refused(context, "react customises open_clip and lite encoders, not transformers:clip")


def test_an_encoder_that_is_customised_already(context: Context, clip_folder: Path, tmp_path: Path) -> None:
    artifact = customise(context)
    again = disc_context(clip_folder, tmp_path, react=str(artifact.encoder))
    again.artifacts = tmp_path / "again"
    refused(again, r"open_clip:.*\+react\(gated_image-.*\) is customised already; customise its base encoder")


def test_no_memory(context: Context) -> None:
    context.memory = None
    refused(context, "method 'react' needs a memory")


def test_predict_before_fit() -> None:
    method = React(ReactConfig())
    asks: list[Callable[[], object]] = [lambda: method.predict([]), method.facts, lambda: method.encoder_file]
    for ask in asks:
        with pytest.raises(UsageError, match="method 'react' was asked to predict before fit"):
            ask()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "gated"}, "unknown variant of react 'gated'; did you mean 'gated_image'"),
        ({"search": "i2t"}, "unknown search of react 'i2t'"),
        ({"pairs": "randm"}, "did you mean 'random'"),
        ({"prompts": "all"}, "unknown prompts option"),
        ({"precision": "half"}, "unknown precision"),
        ({"augment": "strong"}, "unknown augmentation"),
        ({"train_grid": {"lrr": [1e-3]}}, "react grid key 'lrr'; did you mean 'lr'"),
        ({"train_grid": {"search": ["t2i"]}}, "react grid key 'search'"),
        ({"train_grid": {"lr": []}}, "the grid of 'lr' lists no value"),
        ({"train_grid": {"lr": ["fast"]}}, "react needs numbers in the grid of lr, not 'fast'"),
        ({"train_grid": {"lr": [1e-3, -1.0]}}, "lr above 0, not -1"),
        ({"train_grid": {"epochs": [2, 2.5]}}, "a whole number for epochs, not 2.5"),
        ({"train_grid": {"epochs": [float("nan")]}}, "a whole number for epochs, not nan"),
        ({"train_grid": {"variant": ["gated_image", "none"]}}, "unknown variant of react 'none'"),
        ({"k": 0}, "k above 0"),
        ({"epochs": 0}, "epochs above 0"),
        ({"gate_lr": 0.0}, "gate_lr above 0"),
        ({"accumulation": 0}, "accumulation above 0"),
        ({"lr": float("nan")}, "finite lr"),
        ({"lr": float("inf")}, "finite lr"),
        ({"clip": -1.0}, "clip of at least 0"),
        ({"layers": -1}, "layers of at least 0"),
        ({"weight_decay": -0.1}, "weight_decay of at least 0"),
        ({"warmup": 1.0}, "warmup of at least 0 and below 1"),
        ({"averaging": 1.0}, "averaging of at least 0 and below 1"),
        ({"caption_parts": 1.5}, "caption_parts between 0 and 1"),
        ({"batch": 1}, "a batch of at least 2"),
        ({"batch": 10, "accumulation": 4}, "that accumulation=4 divides"),
        ({"interpolation": []}, "interpolation shares above 0 and up to 1"),
        ({"interpolation": [0.0, 1.0]}, "interpolation shares above 0"),
        ({"interpolation": [1.1]}, "interpolation shares above 0"),
        ({"search": "i2i"}, "needs query_pairs"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        React(ReactConfig(**options))


def test_a_picture_that_is_gone_is_named(context: Context) -> None:
    """It was there when the memory was built; training reads it again."""
    assert context.memory is not None
    ref = context.memory.refs([7])[0]
    Path(ref.path).unlink()
    with pytest.raises(DataError, match=f"cannot read {ref.path}"):
        customise(context)
