"""REACT's loss, batches, schedule, optimiser and single steps, each beside its definition written out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from open_clip.transformer import PatchDropout
from torch import Tensor, nn

from trireme.errors import UsageError
from trireme.methods.react import ReactConfig
from trireme.methods.react.distributed import check_split
from trireme.methods.react.loss import contrastive, gathered
from trireme.methods.react.steps import (
    Stepper,
    batch_size,
    batches,
    epochs_left,
    optimiser_of,
    precision_of,
)
from trireme.methods.react.towers import Inputs, Tower
from trireme.methods.schedules import warm_cosine
from trireme.types import Floats, ImageRef, Ints

from .customising import disc_context, recipe, tower_of

CPU = torch.device("cpu")


class _Linear(nn.Module):
    """Two linear maps in double precision, the image's behind a dropout; keeps what it gave."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(6, 4).double(), nn.Linear(5, 4).double()
        self.dropout = nn.Dropout(dropout)
        self.given: list[Tensor] = []

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        images = nn.functional.normalize(self.image(self.dropout(inputs["image"])), dim=-1)
        self.given.append(images.detach())
        return images, nn.functional.normalize(self.text(inputs["text"]), dim=-1)


class LinearTower:
    """The smallest tower in which a gradient can be compared to twelve digits."""

    gated = 0

    def __init__(self, dropout: float = 0.0) -> None:
        torch.manual_seed(0)
        self.module: Any = _Linear(dropout)
        self.scale = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))
        self.trainable = {**dict(self.module.named_parameters()), "logit_scale": self.scale}
        self.facts: dict[str, Any] = {}

    def feed(self, plan: Sequence[Sequence[Ints]], epoch: int) -> Iterator[list[Inputs]]:
        yield from ()

    def embed_images(self, refs: Sequence[ImageRef]) -> Floats:
        return np.zeros((len(refs), 4), dtype=np.float32)

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        return np.zeros((len(texts), 4), dtype=np.float32)


def pairs(n: int) -> Inputs:
    generator = torch.Generator().manual_seed(1)
    return {
        "image": torch.randn(n, 6, generator=generator, dtype=torch.float64),
        "text": torch.randn(n, 5, generator=generator, dtype=torch.float64),
    }


def cut(inputs: Inputs, parts: int) -> list[Inputs]:
    size = len(inputs["image"]) // parts
    return [{name: value[i * size : (i + 1) * size] for name, value in inputs.items()} for i in range(parts)]


def gradients(tower: Tower, inputs: Sequence[Inputs], step: int = 0, **options: Any) -> tuple[float, dict[str, Tensor]]:
    """The loss and the gradients of one batch, given as its forward passes."""
    tower.module.zero_grad()
    tower.scale.grad = None
    loss = Stepper(tower, recipe(**options), CPU, "float32", seed=3).backward(inputs, step)
    found = {name: value.grad.clone() for name, value in tower.trainable.items() if value.grad is not None}
    return float(loss), found


def by_loops(images: Floats, texts: Floats, scale: float) -> float:
    """- 1/2n sum_i [log softmax_j(s v_i . t_j)_i + log softmax_j(s v_j . t_i)_i], one number at a time."""
    total = 0.0
    for i in range(len(images)):
        rows = [scale * float(images[i] @ texts[j]) for j in range(len(texts))]
        columns = [scale * float(images[j] @ texts[i]) for j in range(len(images))]
        for values in (rows, columns):
            total -= values[i] - math.log(sum(math.exp(value) for value in values))
    return total / (2 * len(images))


@pytest.mark.parametrize(("n", "scale"), [(2, 1.0), (5, 14.3), (7, 100.0)])
def test_the_loss_is_its_formula(n: int, scale: float) -> None:
    noise = np.random.default_rng(n).standard_normal((2, n, 6))
    images, texts = noise / np.linalg.norm(noise, axis=2, keepdims=True)
    found = contrastive(torch.from_numpy(images), torch.from_numpy(texts), scale)
    assert float(found) == pytest.approx(by_loops(images, texts, scale), rel=1e-12)


def test_the_loss_of_equal_rows_is_the_logarithm_of_their_number() -> None:
    """Every softmax is uniform then: log 8."""
    row = nn.functional.normalize(torch.ones(8, 3), dim=1)
    assert float(contrastive(row, row, 20.0)) == pytest.approx(math.log(8), rel=1e-6)


def test_one_process_gathers_its_own_rows() -> None:
    rows = torch.randn(3, 4, requires_grad=True)
    assert gathered(rows) is rows


@given(st.integers(0, 70), st.integers(1, 4), st.integers(1, 20), st.integers(0, 3), st.integers(0, 3))
def test_batches_hold_every_pair_at_most_once(count: int, parts: int, each: int, seed: int, epoch: int) -> None:
    config = ReactConfig(batch=parts * each, accumulation=parts)
    plan = batches(count, config, seed, epoch)
    size = min(parts * each, count) // parts * parts
    assert batch_size(count, config) == size
    assert len(plan) == (count // size if size else 0), "what fills no whole batch waits"
    assert all(len(passes) == parts and {len(rows) for rows in passes} == {size // parts} for passes in plan)
    drawn = [int(row) for passes in plan for rows in passes for row in rows]
    assert len(set(drawn)) == len(drawn) == len(plan) * size
    assert set(drawn) <= set(range(count))
    again = batches(count, config, seed, epoch)
    assert [[rows.tolist() for rows in passes] for passes in again] == [[r.tolist() for r in p] for p in plan]


def test_batches_are_shuffled_anew_by_epoch_and_seed() -> None:
    """Of 40 pairs in batches of 16, eight wait; over many epochs each pair waits now and then, and none always."""
    config = ReactConfig(batch=16)

    def order(seed: int, epoch: int) -> list[int]:
        return [int(row) for passes in batches(40, config, seed, epoch) for rows in passes for row in rows]

    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    waited = [set(range(40)) - set(order(0, epoch)) for epoch in range(60)]
    assert {len(left) for left in waited} == {8}
    assert set().union(*waited) == set(range(40))


@pytest.mark.parametrize(
    ("step", "steps", "warmup", "factor"),
    [
        (0, 10, 0.2, 0.5),  # 2 steps of warm-up: 1/2, 2/2
        (1, 10, 0.2, 1.0),
        (2, 10, 0.2, 1.0),  # the cosine starts: (1 + cos 0) / 2
        (4, 10, 0.2, (1 + math.sqrt(0.5)) / 2),  # a quarter of the 8 left: cos 45 degrees
        (6, 10, 0.2, 0.5),  # half-way: cos 90 degrees
        (9, 10, 0.2, (1 - math.cos(math.pi / 8)) / 2),  # one step before zero
        (0, 5, 0.0, 1.0),
        (0, 1, 0.4, 1.0),  # 0.4 of one step is no warm-up
    ],
)
def test_schedule(step: int, steps: int, warmup: float, factor: float) -> None:
    assert warm_cosine(step, steps, warmup) == pytest.approx(factor, abs=1e-12)


def test_epochs_left() -> None:
    """Seven steps of three an epoch: two epochs are done, and one step of the third."""
    assert list(epochs_left(7, 3, 4)) == [(2, 1), (3, 0)]
    assert list(epochs_left(6, 3, 4)) == [(2, 0), (3, 0)]
    assert list(epochs_left(0, 3, 2)) == [(0, 0), (1, 0)]
    assert not list(epochs_left(12, 3, 4))


def test_weight_decay_leaves_gains_biases_gates_and_the_scale_alone() -> None:
    """With gradients of zero a step of AdamW is its decay alone: times 1 - lr x decay = 1 - 0.5 x 0.1."""
    start = {"proj": (3, 2), "ln.weight": (4,), "bias": (2,), "logit_scale": (), "block.alpha_attn": ()}
    trainable = {name: nn.Parameter(torch.ones(shape)) for name, shape in start.items()}
    optimiser = optimiser_of(trainable, ReactConfig(weight_decay=0.1, lr=0.5, gate_lr=10.0), CPU)
    assert [group["betas"] for group in optimiser.param_groups] == [(0.9, 0.98)] * 3
    assert {group["eps"] for group in optimiser.param_groups} == {1e-6}
    for value in trainable.values():
        value.grad = torch.zeros_like(value)
    optimiser.step()
    assert trainable["proj"].tolist() == [[pytest.approx(0.95)] * 2] * 3
    assert all(bool((value == 1).all()) for name, value in trainable.items() if name != "proj")


def test_gates_have_a_learning_rate_of_their_own() -> None:
    """The first step of Adam is lr x g / (|g| + eps), whatever g: lr for a gradient of 1."""
    tower = LinearTower()
    gate = nn.Parameter(torch.zeros((), dtype=torch.float64))
    trainable = {"visual.gated_attn_block.alpha_attn": gate, "logit_scale": tower.scale}
    tower.trainable = trainable
    config = recipe(lr=0.01, gate_lr=7.0, weight_decay=0.0)
    optimiser = optimiser_of(trainable, config, CPU)
    for value in trainable.values():
        value.grad = torch.ones_like(value)
    Stepper(tower, config, CPU, "float32", 0).update(optimiser, 0.5)
    assert gate.item() == pytest.approx(-0.5 * 0.07, rel=1e-5)
    assert tower.scale.item() == pytest.approx(1.5 - 0.5 * 0.01, rel=1e-6)
    assert all(value.grad is None for value in trainable.values())


@pytest.mark.parametrize(("before", "after"), [(10.0, math.log(100)), (-1.0, 0.0), (2.0, 2.0)])
def test_the_scale_stays_in_its_range(before: float, after: float) -> None:
    """CLIP (Radford et al. 2021, 2.5) lets cosines be multiplied by at most 100; below 1 they would be flattened."""
    tower = LinearTower()
    optimiser = optimiser_of(tower.trainable, recipe(), CPU)
    tower.scale.data.fill_(before)
    Stepper(tower, recipe(), CPU, "float32", 0).update(optimiser, 1.0)
    assert tower.scale.item() == pytest.approx(after, rel=1e-12)


def test_gradients_are_clipped_to_their_largest_norm() -> None:
    """Gradient descent moves by lr times the clipped gradient: 0.25 x 2 = 0.5 in all, in the gradient's direction."""
    tower, config = LinearTower(), recipe(lr=0.25, clip=2.0)
    before = {name: value.detach().clone() for name, value in tower.trainable.items()}
    for value in tower.trainable.values():
        value.grad = torch.full_like(value, 5.0)
    optimiser = torch.optim.SGD([{"params": list(tower.trainable.values()), "factor": 1.0}], lr=1.0)
    Stepper(tower, config, CPU, "float32", 0).update(optimiser, 1.0)
    moved = torch.cat([(before[name] - value.detach()).flatten() for name, value in tower.trainable.items()])
    assert float(moved.norm()) == pytest.approx(0.5, rel=1e-4)
    assert float(moved.std()) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_accumulation_gives_the_gradient_of_the_whole_batch(parts: int) -> None:
    """Against automatic differentiation of the whole batch's loss, written out."""
    tower, inputs = LinearTower(), pairs(12)
    images, texts = tower.module(inputs)
    expected = contrastive(images, texts, tower.scale.exp())
    wanted = torch.autograd.grad(expected, list(tower.trainable.values()))
    loss, found = gradients(tower, cut(inputs, parts), accumulation=parts)
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    for name, value in zip(tower.trainable, wanted, strict=True):
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-13)


def test_both_computations_of_a_pass_see_the_same_dropout() -> None:
    tower = LinearTower(dropout=0.5)
    gradients(tower, cut(pairs(12), 3), step=5, accumulation=3)
    given = tower.module.given
    assert len(given) == 6, "three passes without gradients, then three with them"
    assert all(torch.equal(given[part], given[part + 3]) for part in range(3))
    one = {name: value[:1].expand(4, -1) for name, value in pairs(12).items()}
    tower.module.given.clear()
    gradients(tower, [one, one], step=5, accumulation=2)
    gradients(tower, [one, one], step=6, accumulation=2)
    assert not torch.equal(given[0], given[1]), "passes drop other channels"
    assert not torch.equal(given[0], given[4]), "steps drop other channels"


@pytest.mark.parametrize("variant", ["gated_image", "locked_text", "full", "locked_image"])
@pytest.mark.parametrize("parts", [2, 4])
def test_accumulation_on_a_real_model(variant: str, parts: int, clip_folder: Path, tmp_path: Path) -> None:
    """The same in float32 through open_clip, up to its rounding; every parameter that trains gets a gradient."""
    tower = real_tower(clip_folder, tmp_path, variant)
    [[whole]] = tower.feed([[np.arange(12)]], 0)
    loss, wanted = gradients(tower, [whole])
    assert wanted.keys() == tower.trainable.keys()
    found = gradients(tower, cut(whole, parts), accumulation=parts)
    assert found[0] == pytest.approx(loss, rel=1e-6)
    close(found[1], wanted)


def test_gradient_checkpointing_changes_no_gradient(clip_folder: Path, tmp_path: Path) -> None:
    for variant in ("gated_image", "locked_text", "full"):
        kept = real_tower(clip_folder, tmp_path, variant)
        computed = real_tower(clip_folder, tmp_path, variant, grad_checkpointing=True)
        [[inputs]] = kept.feed([[np.arange(12)]], 0)
        calls: list[int] = []
        layers: Any = computed.module.get_submodule("model.visual.transformer.resblocks")
        layers[-1].register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        loss, wanted = gradients(kept, [inputs])
        again, found = gradients(computed, [inputs])
        assert len(calls) == 2, "the layer ran forward, and once more for its gradient"
        assert again == loss
        close(found, wanted)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("variant", ["gated_image", "full"])
def test_gradient_checkpointing_changes_no_bit(
    variant: str, precision: str, parts: int, clip_folder: Path, tmp_path: Path
) -> None:
    """Nor with dropout in attention, MLPs and patches: the layers drop again what they dropped. So no hash holds it."""
    results = []
    for checkpointing in (False, True):
        tower = real_tower(clip_folder, tmp_path, variant, grad_checkpointing=checkpointing)
        model: Any = tower.module.get_submodule("model")
        model.visual.patch_dropout = PatchDropout(0.4)
        for block in (*model.visual.transformer.resblocks, *model.transformer.resblocks):
            block.attn.dropout = 0.3
            block.mlp.add_module("dropout", nn.Dropout(0.5))
        [[inputs]] = tower.feed([[np.arange(12)]], 0)
        step = Stepper(tower, recipe(), CPU, precision, seed=3)
        loss = float(step.backward(cut(inputs, parts), 0))
        other = float(step.backward(cut(inputs, parts), 1))
        assert loss != other, "another step drops something else"
        results.append((loss, _grads(tower)))
    assert results[0][0] == results[1][0]
    assert results[0][1].keys() == results[1][1].keys() == tower.trainable.keys()
    assert all(torch.equal(value, results[1][1][name]) for name, value in results[0][1].items())


def real_tower(clip_folder: Path, folder: Path, variant: str, **options: Any) -> Tower:
    """A copy of the tiny model over the disc pairs; open gates, so that gradients reach what lies behind them."""
    tower = tower_of(disc_context(clip_folder, folder), recipe(variant=variant, augment="none", **options))
    tower.module.train()
    for name, value in tower.trainable.items():
        if "alpha_" in name:
            value.data.fill_(0.3)
    return tower


def close(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Within a hundred-thousandth of each tensor's largest gradient, some hundred roundings of float32."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert float(value.abs().max()) > 0, name
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5 * float(value.abs().max()), msg=name)


def test_half_precision_points_the_same_way(clip_folder: Path, tmp_path: Path) -> None:
    """Cosine of the gradients with those of float32; bfloat16 keeps 8 bits."""
    tower = real_tower(clip_folder, tmp_path, "locked_text")
    [[inputs]] = tower.feed([[np.arange(12)]], 0)
    _, wanted = gradients(tower, [inputs])
    tower.module.zero_grad()
    Stepper(tower, recipe(), CPU, "bfloat16", 0).backward([inputs], 0)
    one, other = (torch.cat([grads[name].flatten() for name in sorted(wanted)]) for grads in (wanted, _grads(tower)))
    assert 0.99 < float(nn.functional.cosine_similarity(one, other, dim=0)) < 1


def _grads(tower: Tower) -> dict[str, Tensor]:
    return {name: value.grad for name, value in tower.trainable.items() if value.grad is not None}


def test_precisions() -> None:
    assert {precision_of(ReactConfig(precision=p), CPU) for p in ("float32",)} == {"float32"}
    assert precision_of(ReactConfig(precision="float16"), CPU) == "float16"
    assert precision_of(ReactConfig(), CPU) in ("bfloat16", "float32")


def test_a_batch_is_dealt_out_evenly() -> None:
    check_split(12, 4)
    with pytest.raises(
        UsageError, match=r"batch=10 cannot be dealt out to 1 processes in 4 passes each.*multiple of 4"
    ):
        check_split(10, 4)
