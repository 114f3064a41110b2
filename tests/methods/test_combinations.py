"""rar over another method's ranking, and what a combination of methods needs, is told and is called."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trireme import compose
from trireme.errors import DataError, UsageError
from trireme.methods.base import Context
from trireme.methods.inner import fit_inner, open_inner, ranked, same_classes, told, with_classes
from trireme.methods.knn import Knn, KnnConfig
from trireme.methods.rankers.base import Prompt
from trireme.methods.rar import Rar, RarConfig
from trireme.methods.react import React, ReactConfig
from trireme.methods.reco import Reco, RecoConfig
from trireme.methods.zero_shot.method import ZeroShot, ZeroShotConfig
from trireme.plan import check_training_sets, effective, training_sets
from trireme.types import Predictions, Sample, Supervision

from .customising import disc_context, discs, recipe
from .scripted import ScriptedEngine
from .synthetic import VectorBenchmark, VectorWorld

UNTRAINED = {"method": "reco", "k": 4}


def backwards(prompt: Prompt) -> str:
    """The candidates of a list prompt in the other order."""
    names = re.findall(r"concept \d+", prompt.texts[-1])
    return repr(names[::-1])


@pytest.fixture
def context(vectors: VectorWorld) -> Context:
    found = vectors.context(spread=1.5)
    engine = ScriptedEngine(backwards)
    found.ranker = lambda name: engine
    return found


@pytest.fixture
def samples(vectors: VectorWorld) -> list[Sample]:
    return vectors.samples("test", 2)


def fitted(method: Any, context: Context) -> Any:
    method.fit(context)
    return method


def test_the_first_k_classes_of_the_other_method_are_the_candidates(context: Context, samples: list[Sample]) -> None:
    """Expected: RECO's own ranking, its first five turned round, the rest as it was."""
    alone = fitted(Reco(RecoConfig(k=4)), context).predict(samples)
    found = fitted(Rar(RarConfig(candidates=UNTRAINED)), context).predict(samples)
    assert found.candidates is not None
    np.testing.assert_array_equal(found.candidates, alone.ranked[:, :5])
    np.testing.assert_array_equal(found.ranked[:, :5], alone.ranked[:, 4::-1])
    np.testing.assert_array_equal(found.ranked[:, 5:], alone.ranked[:, 5:])
    np.testing.assert_array_equal(found.scores[:, :5], alone.scores[:, :5])  # handed out in the ranker's order
    assert found.extras["retrieved"] == alone.extras["retrieved"]


def test_fusion_adds_the_log_probability_to_the_other_methods_score(context: Context, samples: list[Sample]) -> None:
    context.ranker = lambda name: ScriptedEngine(value=lambda p, text: -float(re.findall(r"\d+", text)[0]))
    alone = fitted(Reco(RecoConfig(k=4)), context).predict(samples)
    found = fitted(Rar(RarConfig(candidates=UNTRAINED, mode="score", fusion=[0.01])), context).predict(samples)
    for row in range(len(samples)):
        values = {int(c): float(s) - 0.01 * c for c, s in zip(alone.ranked[row, :5], alone.scores[row], strict=False)}
        best = sorted(values, key=lambda c: -values[c])
        assert found.ranked[row, :5].tolist() == best
        assert found.scores[row, :5] == pytest.approx([values[c] for c in best], abs=1e-6)


def test_candidates_of_the_customised_encoder(clip_folder: Path, tmp_path: Path) -> None:
    """REACT inside is REACT alone, trained once: what it trained and was told is the combination's too."""
    context = disc_context(clip_folder, tmp_path)
    context.ranker = lambda name: ScriptedEngine(value=lambda prompt, text: 0.0)
    config = recipe(variant="locked_text", lr=0.02, augment="none")
    react = fitted(React(config), context)
    shown = [Sample(pair.id, pair.image) for pair in discs(tmp_path, "test", 1)]
    options = {"method": "react", "registry": "react", "config": config}
    method = fitted(Rar(RarConfig(candidates=options, k=3, mode="score", fusion=[0.0])), context)
    found, alone = method.predict(shown), react.predict(shown)
    np.testing.assert_array_equal(found.ranked, alone.ranked)
    np.testing.assert_array_equal(found.scores[:, :3], alone.scores[:, :3])
    facts = method.facts()
    assert facts["trained_parameters"] == react.facts()["trained_parameters"] > 0
    assert facts["candidates"]["facts"]["artifact"] == react.facts()["artifact"]
    assert method.supervision == Supervision("captions", "none")


def test_more_candidates_than_a_benchmark_looks_at(context: Context, samples: list[Sample]) -> None:
    few = replace(context, keep=2)
    found = fitted(Rar(RarConfig(candidates={"method": "zero_shot"}, k=7)), few).predict(samples)
    assert found.candidates is not None
    assert found.candidates.shape == (len(samples), 7)


def test_weight_and_k_are_chosen_on_the_validation_scores_of_the_combination(vectors: VectorWorld) -> None:
    """A ranker that knows the concept: all of its weight is right, and the ceiling is the other method's top k."""

    def value(prompt: Prompt, text: str) -> float:
        image = prompt.images[-1]
        assert image is not None
        concept = re.findall(r"(\d+)-\d+", image.path)[0]
        return 0.0 if f"concept {concept}'" in text else -1.0

    context = vectors.context(spread=2.0)
    engine = ScriptedEngine(value=value)
    context.ranker = lambda name: engine
    config = RarConfig(candidates=UNTRAINED, mode="score", fusion=[0.0, 10.0], grid={"k": [2, 10]})
    method = fitted(Rar(config), context)
    facts = method.facts()
    assert (facts["weight"], facts["k"]) == (10.0, 10)
    assert facts["candidates"]["method"] == "reco"
    assert facts["trained_parameters"] == 0  # what reco says of itself
    alone = fitted(Reco(RecoConfig(k=4)), context)
    assert context.validation is not None
    held = context.validation.samples
    first = 100 * np.mean(alone.predict(held).ranked[:, 0] == [sample.label for sample in held])
    assert facts["selection"]["retrieval"]["all"] == pytest.approx(first)


def test_batch_and_order_change_nothing(context: Context, samples: list[Sample]) -> None:
    method = fitted(Rar(RarConfig(candidates={"method": "knn", "k": 3})), context)
    whole = method.predict(samples)
    parts = [method.predict([sample]) for sample in samples[::-1]][::-1]
    assert (whole.ranked[:, :5] == np.concatenate([part.ranked[:, :5] for part in parts])).all()


@pytest.mark.parametrize(
    ("inner", "needs_memory", "expected"),
    [
        ({"method": "zero_shot"}, False, Supervision("none", "none")),
        ({"method": "reco", "train_on": ["world/train"]}, True, Supervision("captions", "captions")),
        ({"method": "react"}, True, Supervision("captions", "none")),
        ({"method": "knn"}, True, Supervision("none", "labels")),
    ],
)
def test_needs_and_supervision_are_those_of_the_parts(
    inner: dict[str, Any], needs_memory: bool, expected: Supervision
) -> None:
    method = Rar(RarConfig(candidates=inner))
    assert method.needs_memory == needs_memory
    assert method.supervision == expected
    assert method.uses_validation == open_inner(inner).uses_validation


def test_the_strongest_word_of_ranker_and_candidates_counts(context: Context) -> None:
    engine = ScriptedEngine(backwards)
    engine.told = "labels"
    context.ranker = lambda name: engine
    assert fitted(Rar(RarConfig(candidates=UNTRAINED)), context).supervision == Supervision("labels", "captions")
    assert told([React(ReactConfig()), Knn(KnnConfig())]) == Supervision("captions", "labels")


def test_a_part_is_given_validation_pictures_only_where_it_chooses_on_them(context: Context) -> None:
    seen: list[object] = []

    class Looks(ZeroShot):
        def fit(self, context: Context) -> None:
            seen.append(context.validation)

    fit_inner(Looks(ZeroShotConfig()), context)
    assert seen == [None]
    assert context.validation is not None


def test_classes_of_another_benchmark(context: Context) -> None:
    other = VectorBenchmark([], class_ids=("c1", "c2"), class_names=("concept 1", "concept 2"))
    assert not same_classes(context, other)
    assert same_classes(with_classes(context, other), other)
    assert same_classes(context, VectorBenchmark([]))


def test_a_part_that_ranks_nothing_is_named(samples: list[Sample]) -> None:
    class Silent(ZeroShot):
        def predict(self, samples: Any) -> Predictions:
            nothing = np.full((len(samples), 3), -1)
            nothing[1:] = 0
            return Predictions(nothing, np.zeros((len(samples), 3), np.float32))

    with pytest.raises(DataError, match=rf"method 'silent' ranks no class for 1 samples \(first: {samples[0].id}\)"):
        ranked(Silent(ZeroShotConfig()), "silent", samples)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"candidates": {"method": "rar"}}, "asks no ranker"),
        ({"candidates": UNTRAINED, "retriever": "both"}, "leave retriever at i2i"),
        ({"candidates": UNTRAINED, "distinct": False}, "leave distinct at true"),
        ({"candidates": UNTRAINED, "examples": 2}, "leave examples at 0"),
        ({"candidates": UNTRAINED, "grid": {"votes": [1, 2]}}, "votes in its grid would change nothing"),
        ({"candidates": {"method": "recco"}}, "did you mean 'reco'"),
        ({"candidates": {"method": "knn", "kk": 1}}, "method 'knn'"),
        ({"candidates": {"method": "knn", "k": 0}}, "at least 1"),
    ],
)
def test_what_cannot_work_is_refused_at_once(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        Rar(RarConfig(**options))


def test_a_config_names_the_method_with_its_own_options() -> None:
    component, cls = compose.method("rar-list", {"candidates": "knn-10", "candidates.temperature": "0.1"})
    inner = cls(component.config)._parts[0]
    assert (inner.config.k, inner.config.temperature) == (10, 0.1)
    assert component.label == "rar-list(candidates=knn-10, candidates.temperature=0.1)"
    shown = effective(component)["candidates"]
    assert shown["registry"] == "knn"
    assert shown["version"] == Knn.version
    assert shown["config"] == compose.method("knn-10", {"temperature": 0.1})[0].resolved()
    assert "candidates" not in effective(compose.method("rar-list", {})[0])  # hashes of plain rar stay as they were


def test_options_without_effect_stay_so_in_a_part() -> None:
    plain, other, idle = (
        effective(compose.method("rar-on-react", {"candidates": {"method": "react", **more}})[0])
        for more in ({}, {"epochs": 3}, {"checkpoint_every": 7})
    )
    assert plain == idle
    assert plain != other


def test_training_sets_of_a_part_are_known_and_checked() -> None:
    component, _ = compose.method("rar-on-reco", {})
    assert training_sets(component.resolved()) == ("world/train-common", "world/train-fresh")
    wrong, _ = compose.method("rar-on-reco", {"candidates.train_on": "[world/trane]"})
    with pytest.raises(UsageError, match="did you mean 'world/train'"):
        check_training_sets(wrong.resolved())


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"candidates": "recco"}, "did you mean 'reco'"),
        ({"candidates": "reco", "candidates.kk": "3"}, "unknown config key 'kk'"),
        ({"candidates": {"k": 3}}, "write candidates: {method: NAME}"),
    ],
)
def test_wrong_names_in_configs(overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        compose.method("rar-list", overrides)
