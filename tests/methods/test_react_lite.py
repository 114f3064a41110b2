"""REACT on the real lite encoder, its committed weights and some of the world's pictures."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trireme.benchmarks.world import open_benchmark, open_pairs
from trireme.errors import UsageError
from trireme.methods.base import Context, Validation
from trireme.methods.react import React, views
from trireme.methods.react.method import customised_encoder
from trireme.methods.react.steps import Stepper
from trireme.methods.react.towers import Tower
from trireme.methods.zero_shot import ZeroShot, ZeroShotConfig
from trireme.retrieval.encoders.gated import GATE
from trireme.retrieval.encoders.lite import LiteEncoder
from trireme.retrieval.encoders.lite.trunk import Trunk
from trireme.retrieval.index import IndexConfig
from trireme.retrieval.memory import Memory
from trireme.retrieval.store import EmbeddingStore
from trireme.types import Role, Sample

from .customising import PowerCutError, customise, power_cut, recipe, same_tensors, tower_of
from .synthetic import Pairs

pytestmark = pytest.mark.slow

PAIRS, CLASSES = 48, 12
QUICK: dict[str, Any] = {"batch": 16, "k": 20, "views": 2, "lr": 1e-3}
BUSY: dict[str, Any] = {
    **QUICK,
    "lr": 5e-3,
    "epochs": 4,
    "dropout": 0.1,
    "feature_dropout": 0.2,
    "token_dropout": 0.3,
    "caption_parts": 0.8,
    "averaging": 0.9,
    "patience": 1,
    "clip": 1.0,
    "checkpoint_every": 2,
}


@pytest.fixture(scope="module")
def encoder(world: None) -> LiteEncoder:
    return LiteEncoder(LiteEncoder.Config(device="cpu"))


@pytest.fixture(scope="module")
def shared(encoder: LiteEncoder, tmp_path_factory: pytest.TempPathFactory) -> Context:
    """Twelve kinds of animals, 48 pictures of them to retrieve, and those of the validation pictures that show them."""
    folder = tmp_path_factory.mktemp("lite")
    benchmark: Any = open_benchmark("world/tiny-validation")
    samples = [sample for sample in benchmark.samples(Role.VALIDATION) if sample.label < CLASSES]
    held = [pair for pair in open_pairs("world/tiny-memory").pairs() if pair.label in benchmark.class_ids[:CLASSES]]
    store = EmbeddingStore(encoder, folder / "embeddings", workers=1)
    memory = Memory.build(Pairs("some", held[:PAIRS]), store, index=IndexConfig(), root=folder / "memories")
    return Context(
        encoder=encoder,
        store=store,
        memory=memory,
        class_ids=benchmark.class_ids[:CLASSES],
        class_names=benchmark.class_names[:CLASSES],
        templates=("{}", "a drawing of {}"),
        validation=Validation(benchmark, samples),
        pair_set=open_pairs,
        seed=0,
        device="cpu",
        artifacts=folder / "trained",
    )


@pytest.fixture
def context(world: None, shared: Context, tmp_path: Path) -> Context:
    """The shared one with artifacts of its own."""
    return replace(shared, artifacts=tmp_path / "trained")


def tensors(encoder: Any) -> dict[str, Tensor]:
    """The head's parameters and buffers by name, and those of the text model under `text.`."""
    found: dict[str, Tensor] = dict(encoder.head.state_dict())
    text: Any = encoder.trainable_text()
    return found | {f"text.{name}": value for name, value in text.state_dict().items()}


TRAINS: dict[str, Callable[[str], bool]] = {
    "gated_image": lambda name: GATE in name,
    "locked_text": lambda name: not name.startswith("text."),
    "full": lambda name: True,
    "locked_image": lambda name: name.startswith("text."),
}


@pytest.mark.parametrize("variant", list(TRAINS))
def test_only_the_parameters_of_a_variant_change(variant: str, context: Context) -> None:
    """Bit for bit nothing else. The text model's pooler, which no embedding comes from, is left alone and not counted;
    the trunk tokens' mean and scale are buffers."""
    context.validation = None
    before = {name: value.clone() for name, value in tensors(context.encoder).items()}
    artifact = customise(context, **QUICK, variant=variant, epochs=1)
    customised = customised_encoder(context.encoder, artifact.encoder)
    now = tensors(customised)
    idle = ("text.pooler.", "feature_mean", "feature_scale")
    inside = {name for name in now if name == "logit_scale" or (TRAINS[variant](name) and not name.startswith(idle))}
    moved = {name for name in now if name not in before or not torch.equal(before[name], now[name])}
    assert moved == inside
    assert artifact.record["trained_parameters"] == sum(now[name].numel() for name in inside)
    after = tensors(context.encoder)
    assert all(torch.equal(after[name], value) for name, value in before.items()), "the base encoder is as it was"
    samples = [Sample(f"{row}", ref) for row, ref in enumerate(shared_refs(context))]
    method = React(recipe(**QUICK, variant=variant, epochs=1))
    method.fit(context)
    plain = ZeroShot(ZeroShotConfig())
    store = EmbeddingStore(customised, context.artifacts / "embeddings", workers=1)
    plain.fit(replace(context, encoder=customised, store=store))
    found, expected = method.predict(samples), plain.predict(samples)
    np.testing.assert_allclose(found.scores, expected.scores, atol=2e-6)
    assert np.mean(found.ranked == expected.ranked) > 0.99, "only equal scores may change places"


def shared_refs(context: Context) -> Any:
    assert context.memory is not None
    return context.memory.refs(range(8))


@pytest.mark.parametrize("variant", ["gated_image", "locked_text"])
def test_an_interrupted_training_goes_on_bit_for_bit(
    variant: str, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With every kind of dropout, a mean of weights and early stopping; stopped in step 4, after an epoch of three."""
    whole = customise(context, **BUSY, variant=variant)
    context.artifacts = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "update", power_cut(4))
        with pytest.raises(PowerCutError):
            customise(context, **BUSY, variant=variant)
    resumed = customise(context, **BUSY, variant=variant)
    assert "going on after step" in capsys.readouterr().err
    same_tensors(whole.encoder, resumed.encoder)
    assert whole.record == resumed.record


def forget() -> None:
    """As a new process would begin: no views in memory."""
    views._views.clear()


@pytest.fixture
def no_trunk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, a pass through the trunk is an error."""

    def forbidden(*_: object) -> None:
        raise AssertionError("through the trunk again")

    return lambda: monkeypatch.setattr(Trunk, "forward", forbidden)


@pytest.mark.parametrize("remembered", [True, False], ids=["second recipe of a process", "first one"])
def test_a_stopped_training_goes_through_the_trunk_once(
    remembered: bool,
    context: Context,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_trunk: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stopped in step 4, after views and one measurement; the next process has neither, but finds both on disk."""
    whole = customise(context, **BUSY)
    if not remembered:
        forget()
    context.artifacts = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "update", power_cut(4))
        with pytest.raises(PowerCutError):
            customise(context, **BUSY)
    [partial] = (context.artifacts / "react").glob("*.partial")
    assert len(list(partial.glob("views-*.npy"))) == 2, "of the pairs and of the validation pictures"
    forget()
    no_trunk()
    resumed = customise(context, **BUSY)
    said, pictures = capsys.readouterr().err, whole.record["retrieved"]["distinct_pairs"]
    assert f"2 views of {pictures} pictures were kept by the training that was stopped" in said
    assert "going on after step 2 of 8" in said, "measured there, at the end of an epoch of two"
    same_tensors(whole.encoder, resumed.encoder)
    assert whole.record == resumed.record
    assert not partial.exists(), "views are large: what is done keeps none"


def test_a_training_stopped_before_its_first_step_keeps_its_views(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_trunk: Callable[[], None]
) -> None:
    context.validation = None
    whole = customise(context, **BUSY)
    context.artifacts = tmp_path / "stopped"
    forget()
    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "update", power_cut(1))
        with pytest.raises(PowerCutError):
            customise(context, **BUSY)
    assert not list(context.artifacts.rglob("checkpoint*"))
    forget()
    no_trunk()
    same_tensors(whole.encoder, customise(context, **BUSY).encoder)


def test_views_are_kept_under_all_that_they_depend_on(context: Context, tmp_path: Path) -> None:
    """Pictures, their order, how many views, the seed: each gives another file, and the same ones the same bits."""
    assert context.memory is not None
    refs = context.memory.refs(range(4))
    first = views.views_of(refs, 2, 0, tmp_path)
    for others in ((refs[:3], 2, 0), (refs[::-1], 2, 0), (refs, 3, 0), (refs, 2, 1), (refs, 1, 0)):
        forget()
        made = views.views_of(*others, tmp_path)
        assert made.shape != first.shape or not torch.equal(made, first)
    assert len(list(tmp_path.iterdir())) == 6
    forget()
    assert torch.equal(views.views_of(refs, 2, 0, tmp_path), first)
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize("harm", ["cut", "changed", "empty"])
def test_damaged_views_are_named_and_made_again(
    harm: str, context: Context, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert context.memory is not None
    refs = context.memory.refs(range(4))
    forget()
    expected = views.views_of(refs, 2, 0, tmp_path)
    [path] = tmp_path.iterdir()
    content = path.read_bytes()
    path.write_bytes(
        {"cut": content[:-9], "changed": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:], "empty": b""}[harm]
    )
    forget()
    assert torch.equal(views.views_of(refs, 2, 0, tmp_path), expected)
    assert f"warning: {path} cannot be used (" in capsys.readouterr().err
    assert [left.read_bytes() for left in tmp_path.iterdir()] == [content]


def test_a_full_disk_keeps_no_views_and_stops_no_training(
    context: Context, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system's limit on file sizes stands in for it; 3 views of 4 pictures of 16 x 640 bfloat16 have 245,760
    bytes."""
    assert context.memory is not None
    refs = context.memory.refs(range(4))
    forget()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, hard))
    try:
        made = views.views_of(refs, 3, 0, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert made.shape == (3, 4, 16, 640)
    said = capsys.readouterr().err
    assert "note: the disk is full while writing" in said
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_first_loss_is_that_of_the_encoders_own_embeddings(context: Context) -> None:
    """Both towers in training mode: no dropout is on that the configuration does not state, that of BERT included."""
    assert context.memory is not None
    rows = list(range(16))
    made = tower_of(context, recipe(**QUICK, variant="full", augment="none"), rows)
    made.module.train()
    [[inputs]] = made.feed([[np.array(rows)]], 0)
    found = float(Stepper(made, recipe(), torch.device("cpu"), "float32", 0).backward([inputs], 0))
    images = context.store.images(context.memory.refs(rows)).astype(np.float64)
    texts = context.store.texts(context.memory.captions(rows)).astype(np.float64)
    logits = context.encoder.logit_scale * images @ texts.T
    expected = 0.0
    for scores in (logits, logits.T):
        expected += float(np.mean(np.log(np.exp(scores).sum(axis=1)) - np.diag(scores))) / 2
    assert found == pytest.approx(expected, rel=0.01), "tokens are kept as bfloat16"
    assert {name for name, value in made.trainable.items() if value.grad is None} == set()
    dropped = tower_of(context, recipe(**QUICK, variant="full", augment="none", dropout=0.4), rows)
    dropped.module.train()
    shares = {part.p for part in dropped.module.modules() if isinstance(part, torch.nn.Dropout)}
    assert shares == {0.4}


def test_views_of_pictures(context: Context) -> None:
    """The plain view and an augmented one are drawn about equally often, each pair's anew in every epoch."""
    rows = list(range(24))
    plain = _images(tower_of(context, recipe(**QUICK, augment="none"), rows), 0)
    made = tower_of(context, recipe(**QUICK), rows)
    assert made.facts == {"views": 2}
    drawn = np.array(
        [[torch.equal(a, b) for a, b in zip(_images(made, epoch), plain, strict=True)] for epoch in range(9)]
    )
    assert 0.3 < drawn.mean() < 0.7, "216 draws of one in two: 0.5, give or take 0.03"
    assert not (drawn == drawn[0]).all()
    again = tower_of(context, recipe(**QUICK, variant="locked_text"), rows)
    assert torch.equal(_images(again, 4), _images(made, 4)), "variants see the same views"


def _images(made: Tower, epoch: int) -> Tensor:
    [[inputs]] = made.feed([[np.arange(24)]], epoch)
    return inputs["image"]


def test_half_precision_encoders_are_trained_in_float32(context: Context) -> None:
    encoder = LiteEncoder(LiteEncoder.Config(device="cpu", dtype="bfloat16"))
    store = EmbeddingStore(encoder, context.artifacts / "embeddings", workers=1)
    made = tower_of(replace(context, encoder=encoder, store=store), recipe(**QUICK, variant="full"), range(4))
    assert {value.dtype for value in made.trainable.values()} == {torch.float32}


def test_what_lite_cannot_do(context: Context) -> None:
    for options, message in (
        ({"layers": 3}, "gated blocks go before 1 to 2 layers"),
        ({"grad_checkpointing": True}, "lite has two small layers"),
    ):
        with pytest.raises(UsageError, match=message):
            React(recipe(**QUICK, **options)).fit(context)
    assert not context.artifacts.exists()
