"""REACT as a method, from pictures to ranks, on a tiny open_clip model; what lies on disk, and what is read from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from trireme.errors import MemoryMismatchError, TriremeError
from trireme.methods.base import Context, Method
from trireme.methods.knn import Knn, KnnConfig
from trireme.methods.react import React, ReactConfig
from trireme.methods.react.retrieve import retrieve
from trireme.methods.react.steps import Stepper
from trireme.methods.zero_shot import ZeroShot, ZeroShotConfig
from trireme.types import Predictions, Sample, Supervision

from .customising import disc_context, discs, recipe

QUICK: dict[str, Any] = {"variant": "locked_text", "lr": 0.02, "augment": "none"}


@pytest.fixture
def context(clip_folder: Path, tmp_path: Path) -> Context:
    return disc_context(clip_folder, tmp_path)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Three test pictures of each colour, without labels."""
    return [Sample(pair.id, pair.image) for pair in discs(tmp_path, "test", 3)]


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, a step of training is an error."""

    def forbidden(*_: object) -> None:
        raise AssertionError("trained again")

    return lambda: monkeypatch.setattr(Stepper, "update", forbidden)


def fitted(context: Context, **options: Any) -> React:
    method = React(recipe(**{**QUICK, **options}))
    method.fit(context)
    return method


def same(one: Predictions, other: Predictions) -> None:
    np.testing.assert_array_equal(one.ranked, other.ranked)
    np.testing.assert_array_equal(one.scores, other.scores)
    assert dict(one.extras) == dict(other.extras) == {}


def test_react_is_a_method() -> None:
    assert isinstance(React(ReactConfig()), Method)
    assert React(ReactConfig()).needs_memory


@pytest.mark.parametrize("variant", ["gated_image", "locked_text", "full", "locked_image"])
def test_predictions_are_zero_shot_on_the_customised_encoder(
    variant: str, context: Context, samples: list[Sample], clip_folder: Path, tmp_path: Path
) -> None:
    """The same as a run with `encoder.react=FILE` gives, from caches of its own; and not what the base gives."""
    method = fitted(context, variant=variant, interpolation=[1.0, 0.5])
    found = method.predict(samples)
    other = disc_context(clip_folder, tmp_path / "other", react=str(method.encoder_file))
    plain = ZeroShot(ZeroShotConfig())
    plain.fit(other)
    expected = plain.predict(samples)
    np.testing.assert_array_equal(found.ranked, expected.ranked)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    assert found.ranked.shape == (15, 5)
    assert method.facts()["customised_encoder"] == other.encoder.fingerprint
    plain.fit(context)
    assert float(np.abs(plain.predict(samples).scores - found.scores).max()) > 1e-3


def test_an_answer_depends_on_no_other_sample(context: Context, samples: list[Sample]) -> None:
    method = fitted(context)
    whole = method.predict(samples)
    order = np.random.default_rng(0).permutation(15)
    for start in range(0, 15, 4):
        rows = order[start : start + 4]
        part = method.predict([samples[row] for row in rows])
        np.testing.assert_array_equal(part.ranked, whole.ranked[rows])
        np.testing.assert_array_equal(part.scores, whole.scores[rows])


def test_scores_are_cosines_from_high_to_low(context: Context, samples: list[Sample]) -> None:
    whole = fitted(context).predict(samples)
    assert bool((np.diff(whole.scores, axis=1) <= 0).all())
    assert bool((np.abs(whole.scores) <= 1 + 1e-6).all())
    assert all(sorted(row) == [0, 1, 2, 3, 4] for row in whole.ranked.tolist())


def test_supervision_says_who_was_told_what() -> None:
    """Captions in training, nothing at inference; with pictures that ask, their labels."""
    for config in (ReactConfig(), ReactConfig(search="t2t"), ReactConfig(pairs="random")):
        assert React(config).supervision == Supervision("captions", "none")
    asked = React(ReactConfig(search="i2i", query_pairs=["discs/train"]))
    assert asked.supervision == Supervision("labels", "none")


def test_a_second_fit_trains_nothing(
    context: Context, samples: list[Sample], untrained: Callable[[], None], clip_folder: Path, tmp_path: Path
) -> None:
    options = {"patience": 2, "train_grid": {"lr": [0.001, 0.02]}}
    first = fitted(context, **options)
    expected = first.predict(samples)
    untrained()
    again = fitted(disc_context(clip_folder, tmp_path), **options)
    same(again.predict(samples), expected)
    assert again.facts() == first.facts()
    with pytest.raises(AssertionError, match="trained again"):
        fitted(context, **options, seed_offset=1)


def test_what_costs_only_time_names_no_other_training(context: Context, untrained: Callable[[], None]) -> None:
    first = fitted(context).facts()["artifact"]
    untrained()
    idle: list[dict[str, Any]] = [{"checkpoint_every": 1}, {"accumulation": 2}, {"grad_checkpointing": True}]
    for options in [*idle, {"layers": 2}, {"gate_lr": 3.0}]:
        assert fitted(context, **options).facts()["artifact"] == first
    other: list[dict[str, Any]] = [{"lr": 0.03}, {"k": 19}, {"interpolation": [0.5]}, {"pairs": "random"}]
    for options in [*other, {"averaging": 0.5}, {"precision": "bfloat16"}]:
        with pytest.raises(AssertionError, match="trained again"):
            fitted(context, **options)


def test_passes_that_change_the_batch_name_another_training(context: Context, untrained: Callable[[], None]) -> None:
    """Eighteen pairs in passes of eight make a batch of 16, in one pass one of 18."""
    options = {"batch": 32, "k": 18, "pairs": "random"}
    context.class_ids, context.class_names = context.class_ids[:1], context.class_names[:1]
    context.templates = context.templates[:1]
    first = fitted(context, **options).facts()
    assert (first["retrieved"]["pairs"], first["training"]["batch"]) == (18, 18)
    second = fitted(context, **options, accumulation=8).facts()
    assert second["training"]["batch"] == 16
    assert second["artifact"] != first["artifact"]


@pytest.mark.parametrize(
    "harm", ["cut", "changed", "gone", "no record", "broken json", "other json", "no pairs", "cut pairs"]
)
def test_a_damaged_artifact_is_trained_again(
    harm: str, context: Context, samples: list[Sample], capsys: pytest.CaptureFixture[str]
) -> None:
    """To the same bytes."""
    first = fitted(context)
    expected = first.predict(samples)
    encoder = first.encoder_file
    record, pairs = encoder.with_name("record.json"), encoder.with_name("retrieved.parquet")
    before = {path: path.read_bytes() for path in (encoder, record, pairs)}
    content = before[encoder]
    if harm == "cut":
        encoder.write_bytes(content[: len(content) // 2])
    elif harm == "changed":
        encoder.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    elif harm == "gone":
        encoder.unlink()
    elif harm == "no record":
        record.unlink()
    elif harm == "broken json":
        record.write_text("[1, 2")
    elif harm == "other json":
        record.write_text("[1, 2]")
    elif harm == "no pairs":
        pairs.unlink()
    else:
        pairs.write_bytes(before[pairs][: len(before[pairs]) // 2])
    same(fitted(context).predict(samples), expected)
    said = capsys.readouterr().err
    assert f"the customised encoder in {encoder.parent} is damaged (" in said
    assert "training it again" in said
    assert {path: path.read_bytes() for path in before} == before


def test_the_customised_encoder_refuses_the_memory_of_its_base(
    context: Context, samples: list[Sample], clip_folder: Path, tmp_path: Path
) -> None:
    """Its pictures lie elsewhere: neighbours of the base's embeddings would be wrong."""
    file = fitted(context).encoder_file
    other = disc_context(clip_folder, tmp_path / "other", react=str(file))
    own, foreign = Knn(KnnConfig()), Knn(KnnConfig())
    own.fit(other)
    own.predict(samples)
    other.memory = context.memory
    foreign.fit(other)
    with pytest.raises(MemoryMismatchError, match="was built by encoder open_clip:"):
        foreign.predict(samples)


def test_what_lies_on_disk(context: Context) -> None:
    """The pairs as retrieved, and a record that holds all that the facts say."""
    method = fitted(context, interpolation=[1.0, 0.5])
    folder, facts = method.encoder_file.parent, method.facts()
    table = pq.read_table(folder / "retrieved.parquet")
    assert table.equals(retrieve(context, recipe(**QUICK)).table)
    assert set(table.column_names) == {"class_id", "class_name", "query", "rank", "distance", "pair_id", "caption"}
    record = json.loads((folder / "record.json").read_text())
    assert record["key"]["encoder"] == context.encoder.fingerprint
    assert json.loads(json.dumps(facts)) == facts
    assert facts["artifact"] == folder.name
    assert facts["memory_pairs"] == 20
    assert facts["retrieved"]["distinct_pairs"] == 20
    shared = {name: value for name, value in record.items() if name not in ("format", "key", "made_by", "pictures")}
    assert {name: facts[name] for name in shared} == shared


def test_random_pairs_are_a_control(context: Context, samples: list[Sample]) -> None:
    method = fitted(context, pairs="random", k=3)
    kept = fitted(context, k=3).facts()["retrieved"]["distinct_pairs"]
    assert method.facts()["retrieved"] == {"search": "random", "pairs": kept, "distinct_pairs": kept}
    assert method.predict(samples).ranked.shape == (15, 5)
    assert pq.read_table(method.encoder_file.with_name("retrieved.parquet")).num_rows == kept


def test_pictures_that_ask(context: Context, samples: list[Sample]) -> None:
    method = fitted(context, search="i2i", query_pairs=["discs/train"], k=3)
    assert method.facts()["retrieved"]["queries"] == 10
    assert method.predict(samples).ranked.shape == (15, 5)


def test_half_precision_encoders_are_trained_in_float32(
    clip_folder: Path, tmp_path: Path, samples: list[Sample]
) -> None:
    """bfloat16 keeps 8 bits: a step of a thousandth of a weight would be lost in it, and is not."""
    context = disc_context(clip_folder, tmp_path, dtype="bfloat16")
    method = fitted(context, lr=1e-5, weight_decay=0.0, epochs=1)
    from safetensors.torch import load_file

    tensors = load_file(method.encoder_file)
    base = context.encoder.model.state_dict()  # type: ignore[attr-defined]
    moved = tensors["visual.proj"] - base["visual.proj"].float()
    assert tensors["visual.proj"].dtype.itemsize == 4
    assert 0 < float(moved.abs().max()) < 1e-4
    assert np.isfinite(method.predict(samples).scores).all()


def test_a_training_cut_short_by_a_full_disk_leaves_no_artifact(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit on file sizes stands in for the full disk; the encoder has 130 kB."""
    import resource

    update = Stepper.update
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def filled(self: Stepper, *arguments: Any) -> None:
        update(self, *arguments)
        resource.setrlimit(resource.RLIMIT_FSIZE, (32 << 10, hard))

    monkeypatch.setattr(Stepper, "update", filled)
    context.validation = None
    try:
        with pytest.raises(TriremeError, match="the disk is full while writing"):
            fitted(context)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    left = [path for path in (context.artifacts / "react").rglob("*") if path.is_file()]
    assert [path.suffix for path in left] == [".lock"]
    monkeypatch.setattr(Stepper, "update", update)
    assert fitted(context).encoder_file.is_file()
