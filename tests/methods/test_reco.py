"""reco from end to end, on the vector world and on a real open_clip model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trireme.errors import DataError, MemoryMismatchError, UsageError
from trireme.methods.base import Context, Method
from trireme.methods.classes import ensemble, normalise, prompt_embeddings
from trireme.methods.reco import Reco, RecoConfig
from trireme.methods.reco.fusion import TRAINABLE
from trireme.methods.reco.search import plan
from trireme.methods.reco.training import own_pairs, training_set
from trireme.methods.zero_shot import ZeroShot, ZeroShotConfig
from trireme.retrieval.index import IndexConfig
from trireme.retrieval.memory import Memory
from trireme.types import Predictions, Sample, Supervision

from .synthetic import KNOWN, Pairs, VectorWorld, unlabelled

START = {"k": 4, "image_scale": 0.5, "text_scale": 0.5}  # the encoder's logit scale is 20: attention at 10
SUM = {**START, "fusion": "attention", "image_gate": 2.0, "text_gate": 2.0}
TRAINED = {**START, "train_on": ["vectors/train"], "epochs": 2, "batch": 32, "lr": 1e-3}


def fitted(context: Context, **options: Any) -> Reco:
    method = Reco(RecoConfig(**options))
    method.fit(context)
    return method


def top1(predictions: Predictions, samples: Sequence[Sample]) -> tuple[float, float]:
    """Percent right on known and on unknown concepts."""
    labels = np.array([sample.label for sample in samples])
    right = predictions.ranked[:, 0] == labels
    return 100 * right[labels < KNOWN].mean(), 100 * right[labels >= KNOWN].mean()


def same(one: Predictions, other: Predictions) -> None:
    np.testing.assert_array_equal(one.ranked, other.ranked)
    np.testing.assert_array_equal(one.scores, other.scores)
    assert dict(one.extras) == dict(other.extras)


def test_reco_is_a_method(vectors: VectorWorld) -> None:
    assert isinstance(Reco(RecoConfig()), Method)


def test_retrieval_names_what_the_encoder_cannot(vectors: VectorWorld) -> None:
    """Unknown pictures are far from their own name by construction (1 in 24 by chance), but near pictures of it."""
    context, samples = vectors.context(), vectors.samples("test")
    bare = ZeroShot(ZeroShotConfig())
    bare.fit(context)
    known, unknown = top1(bare.predict(samples), samples)
    assert known > 90
    assert unknown < 15
    for options in (START, SUM, {**SUM, "fusion": "weighted_mean"}, TRAINED):
        refined_known, refined_unknown = top1(fitted(context, **options).predict(samples), samples)
        assert refined_known >= known - 2
        assert refined_unknown > 85


def test_untrained_attention_is_the_closed_form(vectors: VectorWorld) -> None:
    """One picture and every class, recomputed from brute-force neighbours and the equation in `fusion.Attention`."""
    context, sample = vectors.context(), vectors.samples("test")[70]
    memory = context.memory
    assert memory is not None
    images, texts = np.asarray(memory.embeddings("image")), np.asarray(memory.embeddings("text"))

    def refine(query: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
        scores = (keys.astype(np.float64) @ query.astype(np.float64)) * 10.0
        nearest = np.argsort(-scores, kind="stable")[:4]
        weights = np.exp(scores[nearest]) / np.exp(scores[nearest]).sum()
        return query + 2.0 * weights @ values[nearest]

    v_bar = refine(context.store.images([sample.image])[0], images, texts)
    queries = ensemble(prompt_embeddings(context.store, context.class_names, context.templates))
    t_bar = normalise(np.stack([refine(query, texts, images) for query in queries]))
    expected = t_bar @ (v_bar / np.linalg.norm(v_bar))
    got = fitted(context, **SUM).predict([sample])
    np.testing.assert_array_equal(got.ranked[0], np.argsort(-expected, kind="stable")[:20])
    np.testing.assert_allclose(got.scores[0], np.sort(expected)[::-1][:20], atol=1e-6)


@pytest.mark.parametrize(
    ("search", "values", "image", "text"),
    [
        ("uni", "cross", ("image", "text"), ("text", "image")),
        ("uni", "uni", ("image", "image"), ("text", "text")),
        ("cross", "cross", ("text", "text"), ("image", "image")),
        ("cross", "uni", ("text", "image"), ("image", "text")),
    ],
)
def test_the_four_search_and_fusion_plans(
    search: str, values: str, image: tuple[str, str], text: tuple[str, str]
) -> None:
    """(searched, fused) side; RECO is the first row: an image query searches images and fuses captions."""
    assert (plan("image", search, values).searched, plan("image", search, values).fused) == image
    assert (plan("text", search, values).searched, plan("text", search, values).fused) == text


@pytest.mark.parametrize("fusion", ["paired", "attention", "weighted_mean", "mean", "transformer", "mlp"])
@pytest.mark.parametrize(("search", "values"), [("uni", "cross"), ("cross", "uni")])
def test_every_ablation_runs(vectors: VectorWorld, fusion: str, search: str, values: str) -> None:
    trains = fusion in TRAINABLE
    options = {"fusion": fusion, "search": search, "values": values, "heads": 4, "mlp_dim": 16}
    options |= {"train_on": ["vectors/train"], "epochs": 1} if trains else {}
    predictions = fitted(vectors.context(), **options).predict(vectors.samples("test", 1))
    assert predictions.ranked.shape == (24, 20)
    assert np.isfinite(predictions.scores).all()


@pytest.mark.parametrize("side", ["image", "text"])
def test_one_sided_fusion_leaves_the_other_side_frozen(vectors: VectorWorld, side: str) -> None:
    context, samples = vectors.context(), vectors.samples("test", 1)
    options = {**SUM, "sides": side, "image_gate": 0.0, "text_gate": 0.0}
    bare = ZeroShot(ZeroShotConfig())
    bare.fit(context)
    # with a gate of 0 the refined side equals the frozen one too, so all of it must be zero-shot
    np.testing.assert_array_equal(fitted(context, **options).predict(samples).ranked, bare.predict(samples).ranked)
    method = fitted(context, **{**SUM, "sides": side})
    assert method._state is not None
    frozen = ensemble(prompt_embeddings(context.store, context.class_names, context.templates))
    assert np.allclose(method._state.classes, frozen, atol=1e-6) == (side == "image")


def test_labels_are_never_read(vectors: VectorWorld) -> None:
    """A memory and a training set without labels give the same predictions."""
    context = vectors.context()
    blank = vectors.context(memory=unlabelled(vectors.pairs("memory")))
    assert blank.memory is not None
    assert set(blank.memory.labels) == {""}
    blank.artifacts = vectors.folder / "other"
    training = Pairs("vectors/train", unlabelled(vectors.pairs("train")))
    blank.pair_set = {"vectors/train": training}.__getitem__
    samples = vectors.samples("test", 1)
    same(fitted(context, **TRAINED).predict(samples), fitted(blank, **TRAINED).predict(samples))


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_order_and_batches_change_nothing(vectors: VectorWorld, data: st.DataObject) -> None:
    if not hasattr(vectors, "method"):
        vectors.method = fitted(vectors.context(), **TRAINED)  # type: ignore[attr-defined]
    method, samples = vectors.method, vectors.samples("test", 2)  # type: ignore[attr-defined]
    whole = method.predict(samples)
    order = data.draw(st.permutations(range(len(samples))))
    size = data.draw(st.integers(1, len(samples)))
    shuffled = [samples[i] for i in order]
    for start in range(0, len(samples), size):
        rows = list(order[start : start + size])
        part = method.predict(shuffled[start : start + size])
        np.testing.assert_array_equal(part.ranked, whole.ranked[rows])
        np.testing.assert_array_equal(part.scores, whole.scores[rows])


def test_training_depends_on_the_seed_alone(vectors: VectorWorld, tmp_path: Path) -> None:
    context = vectors.context()
    first = fitted(context, **TRAINED, fusion="transformer", heads=4, mlp_dim=16)
    context.artifacts = tmp_path / "again"
    again = fitted(context, **TRAINED, fusion="transformer", heads=4, mlp_dim=16)
    assert first.facts() == again.facts()
    context.seed = 1
    other = fitted(context, **TRAINED, fusion="transformer", heads=4, mlp_dim=16)
    assert other.facts()["artifact"] != first.facts()["artifact"]
    assert other.facts()["losses"] != first.facts()["losses"]


def test_training_lowers_the_loss(vectors: VectorWorld) -> None:
    losses = fitted(vectors.context(), **{**TRAINED, "epochs": 6}).facts()["losses"]
    assert losses[-1] < losses[0]


def test_a_pair_is_never_among_its_own_neighbours(vectors: VectorWorld) -> None:
    """The training pairs are the memory's own, and the memory holds one of their pictures under a second id too."""
    held = vectors.pairs("memory")
    twin = replace(held[0], id="memory/twin", caption="concept 0, once more")
    context = vectors.context(memory=[*held, twin])
    memory = context.memory
    assert memory is not None
    plans = {side: plan(side, "uni", "cross") for side in ("image", "text")}
    data = training_set(context.store, memory, held, plans, 6, context.encoder.fingerprint)
    assert data.ids == [pair.id for pair in held]
    for side in ("image", "text"):
        for pair_id, rows in zip(data.ids, data.rows[side], strict=True):
            found = set(memory.ids[rows[rows >= 0]])
            assert pair_id not in found
            assert len(found) == 6
    assert own_pairs(memory, held)[0] == {held[0].id, "memory/twin"}
    assert "memory/twin" not in memory.ids[data.rows["image"][0]]
    # the neighbours are the next best: with exclusion undone the pair itself comes first
    assert memory.search(data.embeddings["image"][:1], "image", 1).scores[0, 0] == pytest.approx(1, abs=1e-5)


def test_more_neighbours_than_the_memory_holds(vectors: VectorWorld) -> None:
    small = vectors.context(memory=vectors.pairs("memory", 1)[:3])
    for fusion in ("paired", "attention", "mean", "transformer"):
        predictions = fitted(small, k=10, fusion=fusion, heads=4).predict(vectors.samples("test", 1))
        assert np.isfinite(predictions.scores).all()
        assert all(len(ids) == 3 for ids in predictions.extras["retrieved"])


def test_training_on_a_memory_of_one_pair_that_is_the_pair_itself(vectors: VectorWorld) -> None:
    context = vectors.context(memory=vectors.pairs("train")[:1])
    method = fitted(context, **TRAINED)
    assert np.isfinite(method.facts()["losses"]).all()


def test_saved_fusion_gives_identical_predictions(vectors: VectorWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    context, samples = vectors.context(), vectors.samples("test", 1)
    first = fitted(context, **TRAINED)
    expected = first.predict(samples)
    import trireme.methods.reco.trainer as trainer

    def forbidden(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(trainer, "train", forbidden)
    second = fitted(context, **TRAINED)
    same(second.predict(samples), expected)
    assert second.facts() == first.facts()


@pytest.mark.parametrize("harm", ["truncate", "swap", "no record", "other json"])
def test_a_damaged_artifact_is_trained_again(
    vectors: VectorWorld, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    context, samples = vectors.context(), vectors.samples("test", 1)
    first = fitted(context, **TRAINED)
    expected = first.predict(samples)
    folder = context.artifacts / "reco" / first.facts()["artifact"]
    weights, record = folder / "fusion.safetensors", folder / "record.json"
    whole = weights.read_bytes()
    if harm == "truncate":
        weights.write_bytes(whole[: len(whole) // 2])
    elif harm == "swap":
        weights.write_bytes(whole[:-4] + b"\0\0\0\1")
    elif harm == "no record":
        record.unlink()
    else:
        record.write_text("[1, 2")
    same(fitted(context, **TRAINED).predict(samples), expected)
    assert "damaged" in capsys.readouterr().err
    assert weights.read_bytes() == whole
    assert json.loads(record.read_text())["sha256"] == first.facts()["artifact_sha256"]


def test_validation_chooses_the_start_and_the_choice_is_recorded(vectors: VectorWorld) -> None:
    context = vectors.context()
    grid = {"image_gate": [0.0, 2.0], "text_gate": [0.0, 2.0], "k": [4.0]}
    method = fitted(context, **SUM | {"grid": grid})
    facts = method.facts()
    # with both gates at 0 reco is zero-shot, which fails on unknown concepts
    assert (facts["image_gate"], facts["text_gate"]) != (0.0, 0.0)
    assert facts["start_selection"]["tried"] == 4
    assert facts["start_selection"]["scores"]["unknown"] > facts["start_selection"]["zero_shot"]["unknown"]
    assert facts["k"] == 4
    assert json.loads(json.dumps(facts)) == facts
    context.validation = None
    assert fitted(context, **SUM | {"grid": grid}).facts()["image_gate"] == SUM["image_gate"]


def test_a_remembered_choice_is_the_same_choice(vectors: VectorWorld) -> None:
    context = vectors.context()
    grids = {"grid": {"image_mix": [0.0, 0.5]}, "train_grid": {"lr": [1e-4, 1e-3]}}
    options = {**TRAINED, **grids, "choose_trained": True}
    first = fitted(context, **options).facts()
    choices = sorted((context.artifacts / "reco").glob("choice-*.json"))
    assert len(choices) == 2  # the start, the training
    assert fitted(context, **options).facts() == first
    for choice in choices:
        choice.write_text("{")
    assert fitted(context, **options).facts() == first
    assert len(first["training_selection"]) == 3  # untrained, and two learning rates


def test_training_that_hurts_is_not_kept(vectors: VectorWorld) -> None:
    wild = {**TRAINED, "lr": 5.0, "choose_trained": True}
    facts = fitted(vectors.context(), **wild).facts()
    assert facts["trained_parameters"] == 0
    assert facts["training"] == {"epochs": 0}


def test_supervision_says_who_was_told_what() -> None:
    assert Reco(RecoConfig()).supervision == Supervision("none", "captions")
    assert Reco(RecoConfig(train_on=["x"])).supervision == Supervision("captions", "captions")
    mlp = Reco(RecoConfig(fusion="mlp", train_on=["x"]))
    assert mlp.supervision == Supervision("captions", "none")
    assert not mlp.needs_memory


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fusion": "attension"}, "did you mean 'attention'"),
        ({"search": "unimodal"}, "search"),
        ({"grid": {"image_mixx": [1.0]}}, "did you mean 'image_mix'"),
        ({"grid": {"image_gate": [1.0]}}, "grid key 'image_gate'"),  # not an option of the paired fusion
        ({"k": 0}, "k above 0"),
        ({"grid": {"k": [4, 0]}}, "k above 0"),
        ({"grid": {"k": [2.5]}}, "whole number for k"),
        ({"grid": {"image_mix": [float("nan")]}}, "finite image_mix"),
        ({"lr": float("nan")}, "finite lr"),
        ({"train_grid": {"lr": [1e-4, -1.0]}}, "lr above 0"),
        ({"train_grid": {"weight_decay": [-0.1]}}, "weight_decay of at least 0"),
        ({"fusion": "mean", "train_on": ["x"]}, "nothing to train"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Reco(RecoConfig(**options))


def test_a_guard_for_a_subset_that_is_not_there(vectors: VectorWorld) -> None:
    """Where something is chosen; without a choice a guard has nothing to do."""
    context, guard = vectors.context(), {"may_lose": {"knwon": 1.0}}
    message = "unknown subset of vectors/validation in may_lose 'knwon'; did you mean 'known'"
    with pytest.raises(UsageError, match=message):
        fitted(context, **SUM, **guard, grid={"k": [2.0, 4.0]})
    assert not context.artifacts.exists()
    fitted(context, **SUM, **guard)


def test_missing_memory_and_early_predict_are_clear_errors(vectors: VectorWorld) -> None:
    context = vectors.context()
    context.memory = None
    with pytest.raises(UsageError, match="needs a memory"):
        fitted(context)
    with pytest.raises(UsageError, match="before fit"):
        Reco(RecoConfig()).predict([])


def test_a_memory_of_another_encoder_is_refused(vectors: VectorWorld) -> None:
    context, other = vectors.context(), vectors.context(spread=0.5)
    context.memory = other.memory
    with pytest.raises(MemoryMismatchError):
        fitted(context)


def test_training_needs_two_pairs(vectors: VectorWorld) -> None:
    context = vectors.context()
    context.pair_set = {"vectors/train": Pairs("one", vectors.pairs("train")[:1])}.__getitem__
    with pytest.raises(DataError, match="at least two"):
        fitted(context, **TRAINED)


def test_an_approximate_index_reports_its_recall(vectors: VectorWorld) -> None:
    context = vectors.context()
    pairs = Pairs("vectors/memory", vectors.pairs("memory"))
    context.memory = Memory.build(pairs, context.store, index=IndexConfig(kind="hnsw"))
    method = fitted(context, **START)
    predictions = method.predict(vectors.samples("test", 1))
    texts = method.facts()["retrieval_recall"]
    assert set(texts) == {"text"}
    assert 0.5 < texts["text"] <= 1
    assert all(0.5 < share <= 1 for share in predictions.extras["index_recall"])
    exact = fitted(vectors.context(), **START)
    assert "retrieval_recall" not in exact.facts()
    assert "index_recall" not in exact.predict(vectors.samples("test", 1)).extras


def test_a_real_open_clip_model_trains_and_ranks(clip_context: Context, disc_samples: list[Sample]) -> None:
    """From pictures through a real model to ranks; a second fit runs nothing through the model."""
    options = {**TRAINED, "train_on": ["discs/train"], "epochs": 4}
    method = fitted(clip_context, **options)
    predictions = method.predict(disc_samples)
    assert predictions.ranked.shape == (15, 5)
    losses = method.facts()["losses"]
    assert losses[-1] < losses[0]
    forwards = clip_context.store.forwards
    same(fitted(clip_context, **options).predict(disc_samples), predictions)
    assert clip_context.store.forwards == forwards
