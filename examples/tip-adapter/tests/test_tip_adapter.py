"""Tip-Adapter by its formula, written down plainly, and by Trireme's conformance kit."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from trireme_tip_adapter import Cache, TipAdapter, TipAdapterConfig
from trireme_tip_adapter.training import train

from trireme.conformance.check import check_method
from trireme.conformance.setting import Setting, benchmark_of, samples_of
from trireme.errors import UsageError
from trireme.types import Floats, Supervision, Task


def drawn(n: int, d: int, seed: int) -> Floats:
    rows = np.random.default_rng(seed).standard_normal((n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def cache() -> Cache:
    """Nine keys of classes 0, 2 and 3 of four: one class has no picture."""
    return Cache(drawn(9, 16, 1), np.array([0, 0, 0, 2, 2, 3, 3, 3, 3]), drawn(4, 16, 2))


def by_hand(query: Floats, cache: Cache, alpha: float, beta: float) -> list[float]:
    """The paper's equation for one picture, key by key."""
    logits = [100 * float(query.astype(float) @ text.astype(float)) for text in cache.texts]
    for key, label in zip(cache.keys, cache.labels, strict=True):
        logits[label] += alpha * math.exp(-beta * (1 - float(query.astype(float) @ key.astype(float))))
    return logits


@pytest.mark.parametrize(("alpha", "beta"), [(1.17, 1.0), (5.0, 13.0), (0.0, 1.0)])
def test_logits_are_those_of_the_paper(cache: Cache, alpha: float, beta: float) -> None:
    queries = drawn(5, 16, 3)
    expected = [by_hand(query, cache, alpha, beta) for query in queries]
    np.testing.assert_allclose(cache.logits(queries, alpha, beta, 100.0), expected, rtol=1e-5, atol=1e-4)


def test_blocks_and_batches_change_no_bit(cache: Cache) -> None:
    queries = drawn(600, 16, 4)
    whole = cache.logits(queries, 2.0, 3.0, 100.0)
    assert (whole == np.concatenate([cache.logits(query[None], 2.0, 3.0, 100.0) for query in queries])).all()


def test_a_step_of_training_is_adamw_on_the_cross_entropy(cache: Cache) -> None:
    """One batch of all keys, one epoch: AdamW's first step is -lr g / (|g| + eps), after a decay of lr x 0.01. The
    gradient is taken by finite differences of the loss that the paper's logits give."""
    config = TipAdapterConfig(epochs=1, batch=9, lr=1e-3)

    def loss(keys: Floats) -> float:
        changed = cache._replace(keys=keys)
        logits = np.array([by_hand(key, changed, config.alpha, config.beta) for key in cache.keys])
        right = logits[np.arange(9), cache.labels]
        return float((np.log(np.exp(logits - right[:, None]).sum(1))).mean())

    found = train(cache, config, seed=0, device="cpu")
    moved = found - cache.keys * (1 - config.lr * 0.01)
    for row, column in ((0, 0), (4, 7), (8, 15)):
        step = np.zeros((9, 16))
        step[row, column] = 1e-4
        gradient = (loss(cache.keys + step) - loss(cache.keys - step)) / 2e-4
        assert moved[row, column] == pytest.approx(-config.lr * gradient / (abs(gradient) + config.eps), rel=0.02)


def test_training_lowers_the_loss_and_depends_on_its_seed(cache: Cache) -> None:
    config = TipAdapterConfig(epochs=20, batch=4)
    texts, labels = torch.from_numpy(cache.texts), torch.from_numpy(cache.labels)

    def loss(keys: Floats) -> float:
        logits = cache._replace(keys=keys).logits(cache.keys, config.alpha, config.beta, config.scale)
        return float(torch.nn.functional.cross_entropy(torch.from_numpy(logits), labels))

    assert len(texts) == 4
    one, again, other = (train(cache, config, seed, "cpu") for seed in (0, 0, 1))
    assert loss(one) < loss(cache.keys)
    assert (one == again).all()
    assert (one != other).any()


def test_alpha_and_beta_are_chosen_on_validation_pictures_only(tmp_path: Path) -> None:
    """The chosen pair is the best of the grid there, by the scores of methods that have it fixed."""
    task, grid = Task.ZERO_SHOT, {"beta": [1.0, 5.0], "alpha": [0.0, 1.0, 30.0]}
    setting = Setting(tmp_path)
    method = TipAdapter(TipAdapterConfig(grid=grid))
    context = setting.context(method, task, "trained")
    assert context.validation is not None
    method.fit(context)
    facts = method.facts()
    assert facts["selection"]["on"] == context.validation.benchmark.name
    assert facts["selection"]["tried"] == 6
    fixed = TipAdapter(TipAdapterConfig(alpha=facts["alpha"], beta=facts["beta"]))
    fixed.fit(setting.context(fixed, task, "trained"))
    asked = samples_of(task)
    assert (fixed.predict(asked).scores == method.predict(asked).scores).all()
    held = context.validation
    found = fixed.predict(held.samples)
    right = [row[0] == sample.label for row, sample in zip(found.ranked, held.samples, strict=True)]
    assert facts["selection"]["scores"]["all"] == pytest.approx(100 * np.mean(right))


def test_trained_keys_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = TipAdapter(TipAdapterConfig(epochs=2))
    assert method.supervision == Supervision("labels", "labels")
    setting = Setting(tmp_path)
    method.fit(setting.context(method, Task.FEW_SHOT, "trained"))
    first = method.predict(samples_of(Task.FEW_SHOT))
    monkeypatch.setattr("trireme_tip_adapter.training.train", None)
    again = TipAdapter(TipAdapterConfig(epochs=2))
    again.fit(setting.context(again, Task.FEW_SHOT, "trained"))
    assert (again.predict(samples_of(Task.FEW_SHOT)).scores == first.scores).all()
    assert method.facts()["trained_parameters"] == method.facts()["support"] * setting.encoder.dim
    assert len(benchmark_of(Task.FEW_SHOT).class_ids) == first.ranked.shape[1]


@pytest.mark.parametrize(
    ("options", "words"), [({"epochs": -1}, "epochs"), ({"beta": 0.0}, "above 0"), ({"grid": {"alpa": [1.0]}}, "alpha")]
)
def test_what_cannot_work_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        TipAdapter(TipAdapterConfig(**options))  # type: ignore[arg-type]


def test_it_keeps_the_rules_of_a_method() -> None:
    """With training, whose rules are those without and more."""
    report = check_method("tip_adapter-f")
    assert report.passed, report
