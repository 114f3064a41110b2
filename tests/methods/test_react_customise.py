"""REACT's training on a tiny open_clip model: what changes, what a killed training goes on from, and what stops it."""

from __future__ import annotations

import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from trireme.errors import DataError, TriremeError
from trireme.methods import checkpoints
from trireme.methods.base import Context
from trireme.methods.react.artifacts import Artifact
from trireme.methods.react.method import customised_encoder
from trireme.methods.react.steps import Stepper
from trireme.retrieval.encoders.customised import read_customised
from trireme.retrieval.encoders.gated import GATE

from .customising import customise, disc_context, recipe, same_tensors, tower_of

WIDTH = 32  # of the tiny model's image tower, which has two layers
GATED_BLOCK = 12 * WIDTH**2 + 13 * WIDTH + 2
"""Parameters of a block by hand: attention 4 w^2 + 4 w, MLP 8 w^2 + 5 w, two norms 4 w, two gates. At w = 768 that is
7,087,874, the number of the official code's B models."""
BUSY: dict[str, Any] = {
    "variant": "locked_text",
    "lr": 0.03,
    "epochs": 8,
    "accumulation": 2,
    "caption_parts": 0.5,
    "averaging": 0.6,
    "clip": 1.0,
    "warmup": 0.2,
    "patience": 2,
    "checkpoint_every": 1,
}
"""A training in which everything is on that could be forgotten over a pause: at most 8 epochs of 2 steps."""


class PowerCutError(Exception):
    """Stands for whatever stops a process between two steps."""


@pytest.fixture
def world(clip_folder: Path, tmp_path: Path) -> Callable[..., Context]:
    """`world(name)`: the same discs, with an artifact folder of that name."""

    def make(name: str = "trained", **options: Any) -> Context:
        context = disc_context(clip_folder, tmp_path, **options)
        context.artifacts = tmp_path / name
        return context

    return make


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """`stopping(n, act)`: call `act` once, when step n (from 1) is about to change the weights."""
    update = Stepper.update

    def arrange(step: int, act: Callable[[], None]) -> None:
        done = 0

        def counted(self: Stepper, optimiser: torch.optim.Optimizer, factor: float) -> None:
            nonlocal done
            done += 1
            if done == step:
                act()
            update(self, optimiser, factor)

        monkeypatch.setattr(Stepper, "update", counted)

    return arrange


def power_cut() -> None:
    raise PowerCutError


def checkpoint_of(context: Context) -> Path:
    [found] = (context.artifacts / "react").glob("*.partial/checkpoint.safetensors")
    return found


def weights(context: Context, artifact: Artifact) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """State dicts of the base model and of the customised one, as an encoder loads it."""
    encoder: Any = customised_encoder(context.encoder, artifact.encoder)
    base: Any = context.encoder
    return base.model.state_dict(), encoder.model.state_dict()


@pytest.mark.parametrize("variant", ["gated_image", "locked_text", "full", "locked_image"])
def test_only_the_parameters_of_a_variant_change(variant: str, world: Callable[..., Context]) -> None:
    """Bit for bit nothing else; of the variant's own, everything. Counts add up to the whole model."""
    context = world()
    artifact = customise(context, variant=variant)
    base, now = weights(context, artifact)
    kinds: dict[str, Callable[[str], bool]] = {
        "gated_image": lambda name: GATE in name,
        "locked_text": lambda name: name.startswith("visual."),
        "full": lambda name: True,
        "locked_image": lambda name: not name.startswith("visual."),
    }
    inside = {name for name in now if name == "logit_scale" or kinds[variant](name)}
    moved = {name for name in now if name not in base or not torch.equal(base[name], now[name])}
    assert moved == inside
    size = sum(now[name].numel() for name in inside)
    assert artifact.record["trained_parameters"] == size
    assert artifact.record["gated_layers"] == (2 if variant == "gated_image" else 0)
    if variant == "gated_image":
        assert size == 2 * GATED_BLOCK + 1
        assert not any(bool((now[name] == 0).all()) for name in inside), "gates have opened, biases have moved"
    whole = sum(value.numel() for value in base.values())
    image = sum(value.numel() for name, value in base.items() if name.startswith("visual."))
    assert {"locked_text": image + 1, "full": whole, "locked_image": whole - image}.get(variant, size) == size


def test_training_lowers_the_loss_and_is_recorded(world: Callable[..., Context]) -> None:
    context = world(validate=False)
    record = customise(context, variant="full", epochs=12, lr=0.01, augment="none").record
    facts = record["training"]
    assert len(facts["losses"]) == 12
    assert facts["losses"][-1] < 0.7 * facts["losses"][0]
    assert (facts["steps"], facts["steps_done"], facts["batch"]) == (24, 24, 8)
    assert not facts["stopped_early"]
    assert facts["measured"] == []
    assert record["retrieved"]["search"] == "t2i"
    assert record["variant"] == "full"


def test_a_training_depends_on_its_seed_alone(world: Callable[..., Context]) -> None:
    """Whatever the state of the global generators; another seed gives other weights, a seed offset likewise."""
    first = customise(world("first"), **BUSY)
    torch.manual_seed(77)
    np.random.seed(77)
    torch.rand(5)
    again = customise(world("again"), **BUSY)
    same_tensors(first.encoder, again.encoder)
    assert first.record == again.record
    offset = customise(world("first"), **BUSY, seed_offset=1)
    assert offset.name != first.name
    seeded = world("seeded")
    seeded.seed = 1
    other = customise(seeded, **BUSY)
    same_tensors(other.encoder, offset.encoder)
    assert not torch.equal(load_file(first.encoder)["visual.proj"], load_file(other.encoder)["visual.proj"])


@pytest.mark.parametrize("idle", [{"grad_checkpointing": True}, {"checkpoint_every": 3}], ids=str)
def test_options_without_effect_change_no_bit(idle: dict[str, Any], world: Callable[..., Context]) -> None:
    options = {**BUSY, "variant": "full"}
    same_tensors(customise(world("plain"), **options).encoder, customise(world("other"), **options | idle).encoder)


def test_training_leaves_the_global_generators_alone(world: Callable[..., Context]) -> None:
    context = world()
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(5)
    np.random.seed(5)
    customise(context, **BUSY)
    assert torch.equal(torch.rand(3), expected[0])
    np.testing.assert_array_equal(np.random.rand(3), expected[1])


@pytest.mark.parametrize("step", [2, 3, 6])
def test_an_interrupted_training_goes_on_bit_for_bit(
    step: int,
    world: Callable[..., Context],
    stopping: Callable[[int, Callable[[], None]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stopped within step 2 (the end of an epoch), 3 (its start) or 6: the state after the step before was kept."""
    whole = customise(world("whole"), **BUSY)
    context = world("stopped")
    stopping(step, power_cut)
    with pytest.raises(PowerCutError):
        customise(context, **BUSY)
    assert checkpoints.load(checkpoint_of(context)).step == step - 1  # type: ignore[union-attr]
    resumed = customise(context, **BUSY)
    assert f"going on after step {step - 1} of 16" in capsys.readouterr().err
    same_tensors(whole.encoder, resumed.encoder)
    assert whole.record == resumed.record
    assert not list((context.artifacts / "react").glob("*.partial"))


def test_a_training_interrupted_again_and_again(
    world: Callable[..., Context], stopping: Callable[[int, Callable[[], None]], None]
) -> None:
    """Gated blocks, every step in a fresh process as it were, with checkpoints every other step only."""
    options = {**BUSY, "variant": "gated_image", "checkpoint_every": 2, "evaluate_every": 3, "patience": 1}
    whole = customise(world("whole"), **options)
    context = world("stopped")
    for _ in range(3):
        stopping(3, power_cut)
        with pytest.raises(PowerCutError):
            customise(context, **options)
    stopping(100, power_cut)
    same_tensors(whole.encoder, customise(context, **options).encoder)


def test_float16_goes_on_with_its_loss_scaler(
    world: Callable[..., Context],
    stopping: Callable[[int, Callable[[], None]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It doubles after every step here, not after 2000, so that a few steps reach what float16 cannot hold: steps are
    left out then, other ones if the factor were forgotten."""
    monkeypatch.setattr(torch.amp, "GradScaler", partial(torch.amp.GradScaler, growth_interval=1))
    options = {**BUSY, "precision": "float16", "patience": 0}
    whole = customise(world("whole"), **options)
    context = world("stopped")
    stopping(5, power_cut)
    with pytest.raises(PowerCutError):
        customise(context, **options)
    state = checkpoints.load(checkpoint_of(context))
    assert state is not None
    assert state.scaler["scale"] > 2**16
    resumed = customise(context, **options)
    same_tensors(whole.encoder, resumed.encoder)
    assert resumed.record["training"]["precision"] == "float16"


@pytest.mark.parametrize("harm", ["cut", "changed", "version", "another file"])
def test_a_damaged_checkpoint_is_named_and_the_training_starts_anew(
    harm: str,
    world: Callable[..., Context],
    stopping: Callable[[int, Callable[[], None]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = customise(world("whole"), **BUSY)
    context = world("stopped")
    stopping(4, power_cut)
    with pytest.raises(PowerCutError):
        customise(context, **BUSY)
    path = checkpoint_of(context)
    content = path.read_bytes()
    damaged = {
        "cut": content[: len(content) // 2],
        "changed": content[:-3] + bytes([content[-3] ^ 1]) + content[-2:],
        "version": content.replace(b'\\"version\\": 1', b'\\"version\\": 9'),
        "another file": whole.encoder.read_bytes(),
    }[harm]
    assert damaged != content
    path.write_bytes(damaged)
    resumed = customise(context, **BUSY)
    said = capsys.readouterr().err
    assert f"warning: the checkpoint {path} cannot be used" in said
    assert "the training starts anew" in said
    assert "going on" not in said
    same_tensors(whole.encoder, resumed.encoder)


def test_a_full_disk_leaves_the_checkpoint_before(
    world: Callable[..., Context], stopping: Callable[[int, Callable[[], None]], None]
) -> None:
    """The system's limit on file sizes stands in for a full disk, from step 4 on."""
    whole = customise(world("whole"), **BUSY)
    context = world("stopped")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    stopping(4, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 10, hard)))
    try:
        with pytest.raises(TriremeError, match=r"the disk is full while writing .*checkpoint\.safetensors") as caught:
            customise(context, **BUSY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    path = checkpoint_of(context)
    assert [file.name for file in path.parent.iterdir()] == [path.name], "no half-written file lies about"
    assert checkpoints.load(path).step == 3  # type: ignore[union-attr]
    same_tensors(whole.encoder, customise(context, **BUSY).encoder)


def test_divergence_names_the_step_and_keeps_the_checkpoint(world: Callable[..., Context]) -> None:
    """Steps of 1e30 overflow float32; the first step's loss is still that of the base model. The second try goes on."""
    context = world()
    wild = {"variant": "full", "lr": 1e30, "checkpoint_every": 1, "weight_decay": 0.0}
    for _ in range(2):
        message = (
            r"the loss is not finite in step 2 \(epoch 1\); lower method\.react\.lr \(now 1e\+30\).*the checkpoint"
        )
        with pytest.raises(DataError, match=message) as caught:
            customise(context, **wild)
        assert "\n" not in str(caught.value)
        assert checkpoints.load(checkpoint_of(context)).step == 1  # type: ignore[union-attr]
    assert not [path for path in (context.artifacts / "react").iterdir() if path.suffix not in (".partial", ".lock")]


def test_weights_that_break_in_the_last_step_are_not_kept(world: Callable[..., Context]) -> None:
    """One epoch of one step: no later loss could tell."""
    context = world(validate=False)
    with pytest.raises(DataError, match=r"NaN|not finite"):
        customise(context, variant="full", lr=float(np.finfo(np.float32).max) * 2, epochs=1, batch=20, k=20)
    assert not list((context.artifacts / "react").glob("*/encoder.safetensors"))


def test_pairs_that_fill_no_batch(world: Callable[..., Context]) -> None:
    with pytest.raises(DataError, match="pairs do not fill one batch; retrieve more of them"):
        customise(world(), batch=64, accumulation=32)


def test_the_mean_of_the_weights_is_kept(world: Callable[..., Context]) -> None:
    """Two steps, by hand: the mean starts at the base; after step s it moves by 1 - min(0.6, (1 + s) / (10 + s))."""
    options = {**BUSY, "epochs": 1, "patience": 0, "warmup": 0.0}
    context = world("averaged", validate=False)
    averaged = load_file(customise(context, **options).encoder)["visual.proj"]
    last = load_file(customise(world("last", validate=False), **{**options, "averaging": 0.0}).encoder)["visual.proj"]
    base: Any = context.encoder
    start = base.model.get_parameter("visual.proj").detach()
    one = _after_one_step(world("one", validate=False), options)
    mean = start + (1 - 2 / 11) * (one - start)
    expected = mean + (1 - 3 / 12) * (last - mean)
    torch.testing.assert_close(averaged, expected, rtol=0, atol=1e-6)


def _after_one_step(context: Context, options: dict[str, Any]) -> torch.Tensor:
    """The weight after the first of the two steps, from the checkpoint that was written then."""
    seen: list[torch.Tensor] = []
    save = checkpoints.save

    def watched(path: Path, state: checkpoints.State) -> None:
        seen.append(state.weights["visual.proj"])
        save(path, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "save", watched)
        customise(context, **options)
    return seen[0]


def test_a_file_holds_what_was_trained(world: Callable[..., Context]) -> None:
    context = world()
    artifact = customise(context, variant="gated_image", layers=1)
    found = read_customised(artifact.encoder)
    assert (found.variant, found.gated) == ("gated_image", 1)
    assert found.base == context.encoder.base_fingerprint  # type: ignore[attr-defined]
    assert found.tensors.keys() == tower_of(context, recipe(layers=1)).trainable.keys()
    assert sum(value.numel() for value in found.tensors.values()) == GATED_BLOCK + 1
    assert {name for name in found.tensors if GATE not in name} == {"logit_scale"}
    assert all("resblocks.1." in name for name in found.tensors if GATE in name), "the last layer alone"
