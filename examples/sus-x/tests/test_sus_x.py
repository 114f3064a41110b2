"""SuS-X by its formula, written down plainly, and by Trireme's conformance kit."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trireme_sus_x
from trireme_sus_x import SupportSet, SusX, SusXConfig

from trireme.conformance.check import check_method
from trireme.conformance.setting import Setting, samples_of
from trireme.errors import UsageError
from trireme.methods.base import Context
from trireme.methods.classes import similarity
from trireme.types import Supervision, Task


def context_of(folder: Path, config: SusXConfig) -> Context:
    return Setting(folder).context(SusX(config), Task.ZERO_SHOT, "trained")


def softmax(row: list[float]) -> list[float]:
    whole = sum(math.exp(value) for value in row)
    return [math.exp(value) / whole for value in row]


def test_the_support_of_a_class_are_the_pictures_with_the_captions_nearest_to_its_name(tmp_path: Path) -> None:
    """Against a search by hand: inner products of the ensembled prompt with every caption."""
    config = SusXConfig(k=3)
    context = context_of(tmp_path, config)
    held, memory = SupportSet(context, config), context.memory
    assert memory is not None
    captions, pictures = (np.array(memory.embeddings(side)) for side in ("text", "image"))
    for label, text in enumerate(held.texts):
        nearest = np.argsort(-(captions.astype(np.float64) @ text), kind="stable")[:3]
        np.testing.assert_array_equal(held.keys[held.labels == label], pictures[nearest])
    by_picture = SupportSet(context, replace(config, search="image"))
    nearest = np.argsort(-(pictures.astype(np.float64) @ held.texts[0]), kind="stable")[:3]
    np.testing.assert_array_equal(by_picture.keys[by_picture.labels == 0], pictures[nearest])


def test_logits_are_those_of_the_paper(tmp_path: Path) -> None:
    """Number by number, with KL divergences as sums of p log(p / q)."""
    config = SusXConfig(k=2, temperature=0.5)
    context = context_of(tmp_path, config)
    held = SupportSet(context, config)
    queries = context.store.images([sample.image for sample in samples_of(Task.ZERO_SHOT)[:4]])
    alpha, beta, gamma = 2.0, 3.0, 1.5

    def distribution(row: np.ndarray) -> list[float]:
        return softmax([float(row.astype(float) @ text.astype(float)) / 0.5 for text in held.texts])

    def divergence(one: np.ndarray, other: np.ndarray) -> float:
        return sum(p * math.log(p / q) for p, q in zip(distribution(one), distribution(other), strict=True))

    widest = max(divergence(a, b) for a in held.keys for b in held.keys)
    lowest = min(float(a.astype(float) @ b.astype(float)) for a in held.keys for b in held.keys)
    expected = []
    for query in queries:
        logits = [100 * float(query.astype(float) @ text.astype(float)) for text in held.texts]
        for key, label in zip(held.keys, held.labels, strict=True):
            logits[label] += alpha * math.exp(-beta * (1 - float(query.astype(float) @ key.astype(float))))
            logits[label] -= gamma * (lowest + (1 - lowest) * divergence(query, key) / widest)
        expected.append(logits)
    found = held.logits(held.terms(queries), 100.0, alpha, beta, gamma)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_the_ranges_need_no_matrix_of_all_support_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Running extremes over blocks of 5 of 24 pictures are those of one block."""
    config = SusXConfig(k=3)
    context = context_of(tmp_path, config)
    whole, sizes = SupportSet(context, config), []

    def recorded(queries: np.ndarray, targets: np.ndarray) -> np.ndarray:
        found = similarity(queries, targets)
        sizes.append(found.shape)
        return found

    monkeypatch.setattr(trireme_sus_x, "BLOCK", 5)
    monkeypatch.setattr(trireme_sus_x, "similarity", recorded)
    parts = SupportSet(context, config)
    assert (parts.widest, parts.lowest) == pytest.approx((whole.widest, whole.lowest), rel=1e-12)
    assert len(whole.keys) == 24
    assert [shape for shape in sizes if shape[1] == 24] == [(5, 24)] * 4 + [(4, 24)]


def test_weights_are_chosen_on_validation_pictures_only(tmp_path: Path) -> None:
    grid = {"beta": [1.0, 5.0], "alpha": [0.0, 10.0], "gamma": [0.0, 2.0]}
    method = SusX(SusXConfig(grid=grid))
    context = context_of(tmp_path, method.config)
    assert context.validation is not None
    method.fit(context)
    facts = method.facts()
    assert facts["selection"]["tried"] == 8
    fixed = SusX(SusXConfig(**{name: facts[name] for name in grid}))
    fixed.fit(context)
    found = fixed.predict(context.validation.samples)
    right = [row[0] == sample.label for row, sample in zip(found.ranked, context.validation.samples, strict=True)]
    assert facts["selection"]["scores"]["all"] == pytest.approx(100 * np.mean(right))


def test_what_it_is_told() -> None:
    assert SusX(SusXConfig()).supervision == Supervision("none", "captions")
    assert SusX(SusXConfig(search="image")).supervision == Supervision("none", "none")


@pytest.mark.parametrize(
    ("options", "words"), [({"search": "txt"}, "text"), ({"k": 0}, "at least 1"), ({"grid": {"gama": [1.0]}}, "gamma")]
)
def test_what_cannot_work_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        SusX(SusXConfig(**options))  # type: ignore[arg-type]


def test_it_keeps_the_rules_of_a_method() -> None:
    report = check_method("sus_x")
    assert report.passed, report
