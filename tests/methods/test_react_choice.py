"""What REACT chooses on validation pictures: the end of training, the interpolation, the recipe."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from trireme.methods.base import Context, Validation
from trireme.methods.react import React
from trireme.methods.react.artifacts import Artifact
from trireme.methods.react.customise import interpolated, shares_tried
from trireme.methods.react.method import customised_encoder
from trireme.methods.react.trainer import Trainer
from trireme.retrieval.encoders.gated import GATE
from trireme.retrieval.index import IndexConfig
from trireme.retrieval.memory import Memory
from trireme.types import Sample

from .customising import customise, disc_context, discs, recipe, same_tensors
from .synthetic import Pairs, unlabelled

QUICK = {"variant": "locked_text", "lr": 0.02, "augment": "none"}


@pytest.fixture
def context(clip_folder: Path, tmp_path: Path) -> Context:
    return disc_context(clip_folder, tmp_path)


@pytest.fixture
def blind(clip_folder: Path, tmp_path: Path) -> Context:
    """The same without validation pictures, and with artifacts of its own."""
    found = disc_context(clip_folder, tmp_path, validate=False)
    found.artifacts = tmp_path / "blind"
    return found


def zero_shot(context: Context, encoder: Any) -> dict[str, float]:
    """Percent of the validation pictures named right by subset, computed without store, tower or benchmark."""
    assert context.validation is not None
    benchmark = context.validation.benchmark
    classes = []
    for name in benchmark.class_names:
        mean = encoder.encode_texts([template.replace("{}", name) for template in benchmark.templates]).mean(axis=0)
        classes.append(mean / np.linalg.norm(mean))
    samples = context.validation.samples
    pixels = torch.stack([encoder.preprocess(open_rgb(sample)) for sample in samples])
    right = (encoder.encode_pixels(pixels) @ np.stack(classes).T).argmax(axis=1) == [s.label for s in samples]
    known = np.array([sample.label < 3 for sample in samples])
    return {"all": 100 * right.mean(), "known": 100 * right[known].mean(), "unknown": 100 * right[~known].mean()}


def open_rgb(sample: Sample) -> Any:
    from PIL import Image

    return Image.open(sample.image.path).convert("RGB")


def value(scores: dict[str, float]) -> float:
    """What is maximised: the mean over the two proper subsets."""
    return (scores["known"] + scores["unknown"]) / 2


def test_measurements_are_zero_shot_on_the_validation_pictures(context: Context) -> None:
    """The last measurement, and the score on record, are those of the encoder that was stored."""
    artifact = customise(context, **QUICK)
    expected = zero_shot(context, customised_encoder(context.encoder, artifact.encoder))
    measured = artifact.record["training"]["measured"]
    assert [entry["epoch"] for entry in measured] == [1, 2]
    assert measured[-1] == {"epoch": 2, **{name: pytest.approx(score, abs=0.01) for name, score in expected.items()}}
    assert artifact.record["validation"] == pytest.approx(expected, abs=1e-3)
    every = customise(context, **QUICK, epochs=5, evaluate_every=2).record["training"]["measured"]
    assert [entry["epoch"] for entry in every] == [2, 4, 5], "every second epoch, and the last"


def test_early_stopping_keeps_the_best_measurement(context: Context) -> None:
    """Over four seeds: training ends `patience` measurements after the best one, whose weights are kept."""
    stopped = []
    for seed in range(4):
        artifact = customise(context, **QUICK, epochs=6, patience=2, seed_offset=seed)
        facts = artifact.record["training"]
        values = [value(entry) for entry in facts["measured"]]
        best = min(position for position, found in enumerate(values) if found == max(values))
        assert facts["kept_epoch"] == best + 1, "of equal ones the earlier"
        assert facts["stopped_early"] == (len(values) - 1 - best >= 2)
        assert facts["stopped_early"] or len(values) == 6
        assert all(end - 1 - best_until(values, end) < 2 for end in range(1, len(values))), "not one epoch too many"
        assert facts["steps_done"] == 2 * len(values)
        expected = zero_shot(context, customised_encoder(context.encoder, artifact.encoder))
        assert value(expected) == pytest.approx(max(values), abs=0.01)
        stopped.append(facts["stopped_early"])
    assert any(stopped)


def best_until(values: list[float], end: int) -> int:
    """Position of the best of the first `end` values, the later of equal ones."""
    return max(position for position in range(end) if values[position] == max(values[:end]))


def test_nothing_but_validation_is_read_for_a_choice(context: Context) -> None:
    """A memory without labels gives the same; other validation labels are another training, measured by them."""
    options = {**QUICK, "patience": 1, "interpolation": [1.0, 0.5], "epochs": 3}
    first = customise(context, **options)
    assert context.memory is not None
    labelled, root = context.memory, context.memory.folder.parent
    blank = Pairs("discs/memory", unlabelled(discs(root.parent, "memory", 4)))
    context.memory = Memory.build(blank, context.store, index=IndexConfig(), root=root)
    assert set(labelled.labels) != set(context.memory.labels) == {""}
    again = customise(context, **options)
    same_tensors(first.encoder, again.encoder)
    assert {**first.record, "key": None, "made_by": None} == {**again.record, "key": None, "made_by": None}
    assert context.validation is not None
    benchmark: Any = context.validation.benchmark
    turned = [replace(sample, label=4 - sample.label) for sample in context.validation.samples]
    context.validation = Validation(replace(benchmark, held=turned), turned)
    other = customise(context, **options)
    assert other.name != first.name
    encoder = customised_encoder(context.encoder, other.encoder)
    assert other.record["validation"] == pytest.approx(zero_shot(context, encoder), abs=1e-3)


def test_other_prompts_of_the_validation_benchmark_are_another_choice(context: Context) -> None:
    first = customise(context, **QUICK)
    assert context.validation is not None
    benchmark: Any = context.validation.benchmark
    context.validation = Validation(replace(benchmark, templates=("a {}",)), context.validation.samples)
    assert customise(context, **QUICK).name != first.name


@pytest.mark.parametrize("variant", ["gated_image", "locked_text", "full"])
def test_a_share_leads_part_of_the_way(variant: str, context: Context, blind: Context) -> None:
    """Base + 0.25 (trained - base) for every tensor; of a gated block the gates alone go back, the rest stays."""
    options = {**QUICK, "variant": variant}
    trained = load_file(customise(blind, **options).encoder)
    part = customise(blind, **options, interpolation=[0.25])
    found = load_file(part.encoder)
    base = context.encoder.model.state_dict()  # type: ignore[attr-defined]
    assert found.keys() == trained.keys()
    for name, end in trained.items():
        if "alpha_" in name:
            assert end.item() != 0
            expected = 0.25 * end
        elif GATE in name:
            expected = end
        else:
            expected = base[name] + 0.25 * (end - base[name])
        torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-6, msg=name)
    assert part.record["interpolation"] == 0.25
    assert part.record["validation"] == part.record["interpolation_selection"] == {}


def test_a_share_of_zero_would_be_the_base() -> None:
    base = {"visual.proj": torch.tensor([1.0, 2.0]), "logit_scale": torch.tensor(2.0)}
    base |= {"x.gated_attn_block.alpha_attn": torch.zeros(()), "x.gated_attn_block.mlp": torch.tensor(5.0)}
    end = {name: value + 4 for name, value in base.items()}
    found = interpolated(base, end, 0.5)
    expected: dict[str, Any] = {"visual.proj": [3.0, 4.0], "logit_scale": 4.0}
    expected |= {"x.gated_attn_block.alpha_attn": 2.0, "x.gated_attn_block.mlp": 9.0}
    assert {name: value.tolist() for name, value in found.items()} == expected
    same: dict[str, Tensor] = interpolated(base, end, 1.0)
    assert all(torch.equal(same[name], end[name]) for name in end)


def test_validation_chooses_the_share_and_the_choice_is_recorded(context: Context, blind: Context) -> None:
    """The score of each share is by-hand zero-shot of the encoder that this share alone gives."""
    shares = [0.2, 1.0, 0.6, 0.2]
    artifact = customise(context, **QUICK, interpolation=shares)
    assert shares_tried(recipe(interpolation=shares)) == [1.0, 0.6, 0.2]
    scores = artifact.record["interpolation_selection"]
    assert list(scores) == ["1.0", "0.6", "0.2"]
    for share, found in scores.items():
        alone = customise(blind, **QUICK, interpolation=[float(share)])
        encoder = customised_encoder(context.encoder, alone.encoder)
        assert found == pytest.approx(zero_shot(context, encoder), abs=1e-3)
    best = max(scores, key=lambda share: value(scores[share]))
    assert artifact.record["interpolation"] == float(best), "the first of equal ones: the longest way"
    assert artifact.record["validation"] == scores[best]
    assert json.loads(json.dumps(artifact.record)) == artifact.record


def test_what_may_not_be_lost_bounds_the_share(context: Context) -> None:
    """Every share that loses on the guarded subset is out; held against the by-hand zero-shot of the base."""
    options = {**QUICK, "lr": 0.05, "interpolation": [1.0, 0.5, 0.01]}
    free = customise(context, **options).record
    reference = zero_shot(context, context.encoder)
    for subset in ("known", "unknown"):
        guarded = customise(context, **options, may_lose={subset: 0.0}).record
        kept = [s for s, score in free["interpolation_selection"].items() if score[subset] >= reference[subset] - 1e-9]
        assert guarded["interpolation_selection"] == free["interpolation_selection"]
        if kept:
            best = max(kept, key=lambda share: value(free["interpolation_selection"][share]))
            assert guarded["interpolation"] == float(best)


def test_validation_chooses_the_recipe_and_the_choice_is_recorded(context: Context) -> None:
    grid = {"lr": [1e-5, 0.03], "variant": ["locked_text", "gated_image"]}
    artifact, facts = Trainer(context, recipe(augment="none", train_grid=grid)).run()
    tried = facts["recipe_selection"]
    assert [(entry["lr"], entry["variant"]) for entry in tried] == [
        (1e-5, "locked_text"),
        (1e-5, "gated_image"),
        (0.03, "locked_text"),
        (0.03, "gated_image"),
    ]
    each: list[Artifact] = []
    for entry in tried:
        alone = customise(context, augment="none", lr=entry["lr"], variant=entry["variant"])
        assert entry["scores"] == alone.record["validation"]
        each.append(alone)
    best = max(range(4), key=lambda number: value(tried[number]["scores"]))
    assert artifact == each[best]
    assert len(list((context.artifacts / "react").glob("*/record.json"))) == 4, "each recipe was trained once"


def test_without_validation_nothing_is_chosen(blind: Context, capsys: pytest.CaptureFixture[str]) -> None:
    """Which is said in one line before it trains, and recorded: no grid looks searched that was not."""
    options = {"train_grid": {"lr": [1.0, 2.0]}, "patience": 3, "interpolation": [0.5, 1.0]}
    artifact, facts = Trainer(blind, recipe(**{**QUICK, **options})).run()
    assert facts == {
        "without_validation": {
            "train_grid": "not searched, lr=0.02 is trained",
            "interpolation": "1",
            "patience": "all 2 epochs are trained",
        }
    }
    [line] = [line for line in capsys.readouterr().err.splitlines() if "validation" in line]
    assert line == (
        "note: there are no validation pictures to choose on; train_grid: not searched, lr=0.02 is trained; "
        "interpolation: 1; patience: all 2 epochs are trained"
    )
    assert artifact.record["key"]["options"]["lr"] == 0.02
    assert artifact.record["interpolation"] == 1.0
    assert artifact.record["training"]["measured"] == []
    assert artifact.record["training"]["kept_epoch"] is None


def test_who_asks_for_no_choice_misses_none(blind: Context, capsys: pytest.CaptureFixture[str]) -> None:
    method = React(recipe(**QUICK, interpolation=[0.5]))
    method.fit(blind)
    assert "without_validation" not in method.facts()
    assert "validation" not in capsys.readouterr().err


def test_a_choice_that_could_not_be_made_is_in_the_run_record(blind: Context) -> None:
    method = React(recipe(**QUICK, train_grid={"variant": ["gated_image", "locked_text"]}))
    method.fit(blind)
    assert method.facts()["variant"] == "locked_text"
    assert method.facts()["without_validation"] == {"train_grid": "not searched, variant=locked_text is trained"}
    assert "recipe_selection" not in method.facts()


@pytest.mark.parametrize(
    ("options", "uses"),
    [
        ({}, False),
        ({"interpolation": [0.5]}, False),
        ({"interpolation": [1.0, 0.5]}, True),
        ({"patience": 1}, True),
        ({"train_grid": {"lr": [1e-3]}}, True),
    ],
)
def test_a_method_that_chooses_nothing_sees_no_validation(
    options: dict[str, Any], uses: bool, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is neither measured nor part of what names the training."""
    method = React(recipe(**QUICK, **options))
    assert method.uses_validation == uses
    method.fit(context)
    [record] = [json.loads(path.read_text()) for path in (context.artifacts / "react").glob("*/record.json")]
    assert (record["key"]["validation"] is not None) == uses
    assert bool(record["training"]["measured"]) == uses
