"""cascade: who is asked, what comes of it, how the threshold is chosen. Equations by hand on small cases."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from trireme.errors import DataError, UsageError
from trireme.methods.base import Context
from trireme.methods.cascade import Cascade, CascadeConfig
from trireme.methods.cascade.columns import candidates, columns
from trireme.methods.cascade.confidence import Rule, fitted_temperature, margins, mixed, probabilities, within
from trireme.methods.knn import Knn, KnnConfig
from trireme.methods.rankers.base import REPLY_STATUS, Prompt
from trireme.methods.rar import Rar, RarConfig
from trireme.types import Predictions, Sample, Supervision, Task

from .scripted import ScriptedEngine
from .synthetic import CONCEPTS, KNOWN, VectorWorld

KNN = {"method": "knn", "k": 3}
RAR = {"method": "rar", "mode": "score"}


def knows(prompt: Prompt, text: str) -> float:
    """A ranker that sees the concept of every picture."""
    image = prompt.images[-1]
    assert image is not None
    concept = re.findall(r"(\d+)-\d+\.png", image.path)[0]
    return 0.0 if f"concept {concept}'" in text else -1.0


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(value=knows)


@pytest.fixture
def context(vectors: VectorWorld, engine: ScriptedEngine) -> Context:
    found = vectors.context(spread=2.0)  # so far from their concept that the nearest picture is often a wrong one
    found.ranker = lambda name: engine
    return found


@pytest.fixture
def samples(vectors: VectorWorld) -> list[Sample]:
    return vectors.samples("test", 2)


def fitted(context: Context, **options: Any) -> Cascade:
    method = Cascade(CascadeConfig(**{"cheap": KNN, "expensive": RAR, **options}))
    method.fit(context)
    return method


def part(context: Context, method: Any) -> Any:
    method.fit(replace(context, validation=None))
    return method


def listed(found: Predictions) -> list[tuple[list[int], list[float]]]:
    """Classes and scores without the padding, which may differ in width."""
    rows = zip(found.ranked, found.scores, strict=True)
    return [(kept[kept >= 0].tolist(), scores[kept >= 0].tolist()) for kept, scores in rows]


def test_margin_and_probability_by_hand() -> None:
    ranked = np.array([[4, 2, 7], [1, 0, -1], [3, -1, -1]])
    found = Predictions(ranked, np.array([[0.9, 0.6, 0.5], [0.5, 0.5, -np.inf], [0.2, -np.inf, -np.inf]], np.float32))
    assert margins(found) == pytest.approx([0.3, 0.0, math.inf])
    # softmax at T = 0.1: 1 / (1 + e^-3 + e^-4), 1 / (1 + 1), 1 / 1
    expected = [1 / (1 + math.exp(-3) + math.exp(-4)), 0.5, 1.0]
    assert probabilities(found, 0.1) == pytest.approx(expected, rel=1e-6)


def test_the_temperature_makes_probabilities_as_likely_as_they_are_right() -> None:
    """Two classes, one margin d for all, a share p of right ones: 1 / (1 + e^(-d/T)) = p, so T = d / log(p / (1-p))."""
    n, d, right = 1000, 0.4, 800
    ranked = np.tile([0, 1], (n, 1))
    found = Predictions(ranked, np.tile(np.array([d, 0.0], np.float32), (n, 1)))
    labels = np.where(np.arange(n) < right, 0, 1)
    assert fitted_temperature(found, labels) == pytest.approx(d / math.log(0.8 / 0.2), rel=1e-3)
    unknown = np.concatenate([labels, np.full(500, -1)])
    more = Predictions(np.tile([0, 1], (n + 500, 1)), np.tile(np.array([d, 0.0], np.float32), (n + 500, 1)))
    assert fitted_temperature(more, unknown) == pytest.approx(fitted_temperature(found, labels))


@pytest.mark.parametrize(
    ("share", "asked"),
    [(0.0, []), (0.19, []), (0.2, [3]), (0.5, [3, 1]), (0.6, [3, 1]), (0.8, [3, 1, 0, 2]), (1.0, [3, 1, 0, 2, 4])],
)
def test_the_least_sure_are_asked_and_ties_together(share: float, asked: list[int]) -> None:
    """Five samples, of which 0 and 2 are equally sure: with room for three, two are asked."""
    confidence = np.array([0.5, 0.2, 0.5, 0.1, math.inf])
    assert set(np.flatnonzero(within(confidence, share).asked(confidence))) == set(asked)


def test_a_share_counts_in_decimals() -> None:
    """0.1 x 30 is 3.0000000000000004 in binary, and 0.7 x 10 is 7 although 0.7 is less than 7 / 10."""
    for n, share, most in ((30, 0.1, 3), (10, 0.7, 7), (100, 0.29, 29)):
        confidence = np.arange(n, dtype=np.float64)
        assert within(confidence, share).asked(confidence).sum() == most


def test_where_nobody_has_a_second_class_nobody_is_asked() -> None:
    confidence = np.full(4, math.inf)
    assert within(confidence, 0.5) == Rule("none")
    assert within(confidence, 1.0).asked(confidence).all()


def test_two_rankings_become_one() -> None:
    cheap = Predictions(np.array([[1, 2], [3, 4]]), np.array([[0.9, 0.1], [0.8, 0.2]], np.float32))
    expensive = Predictions(np.array([[7, 8, 9]]), np.array([[3.0, 2.0, 1.0]], np.float32))
    ranked, scores = mixed(cheap, expensive, np.array([False, True]))
    assert ranked.tolist() == [[1, 2, -1], [7, 8, 9]]
    assert scores.tolist() == [[pytest.approx(0.9), pytest.approx(0.1), -math.inf], [3.0, 2.0, 1.0]]
    narrow = Predictions(np.array([[5]]), np.array([[1.0]], np.float32))
    ranked, scores = mixed(cheap, narrow, np.array([True, False]))
    assert ranked.tolist() == [[5, -1], [3, 4]]
    assert scores[0].tolist() == [1.0, -math.inf]


def test_columns_of_both_are_kept() -> None:
    cheap = {"retrieved": [["a"], ["b"], ["c"]], REPLY_STATUS: ["ok", "timeout", "ok"], "prompt_tokens": [5, 0, 5]}
    cheap |= {"reply": ["one", "no route", "three"]}
    expensive = {REPLY_STATUS: ["ok", "repaired"], "prompt_tokens": [100, 100], "reply": ["x", "y"], "mode": ["m", "m"]}
    found = columns(cheap, expensive, np.array([False, True, True]))
    assert found["retrieved"] == [["a"], ["b"], ["c"]]
    assert found["mode"] == [None, "m", "m"]
    assert found["prompt_tokens"] == [5, 100, 105]
    assert found[REPLY_STATUS] == ["ok", "timeout", "repaired"]  # asked again in the next run
    assert found["reply"] == ["one", "no route", "y"]


def test_the_ceiling_of_a_sure_sample_is_its_own_first_class() -> None:
    cheap = Predictions(np.array([[1, 2], [3, 4]]), np.zeros((2, 2), np.float32))
    expensive = Predictions(np.array([[7, 8]]), np.zeros((1, 2), np.float32), {}, np.array([[8, 7, 3]]))
    assert candidates(cheap, expensive, np.array([False, True])).tolist() == [[1, -1, -1], [8, 7, 3]]
    assert candidates(cheap, None, np.array([False, False])).tolist() == [[1], [3]]


def test_the_extremes_are_the_two_methods_exactly(
    context: Context, samples: list[Sample], engine: ScriptedEngine
) -> None:
    cheap = part(context, Knn(KnnConfig(k=3))).predict(samples)
    expensive = part(context, Rar(RarConfig(mode="score"))).predict(samples)
    before = len(engine.prompts)
    assert listed(fitted(context, budget=0.0).predict(samples)) == listed(cheap)
    assert len(engine.prompts) == before, "nobody is asked"
    assert listed(fitted(context, budget=1.0).predict(samples)) == listed(expensive)
    low, high = (fitted(context, threshold=value).predict(samples) for value in (-1e9, 1e9))
    assert listed(low) == listed(cheap)
    assert listed(high) == listed(expensive)
    assert (low.extras["asked"], high.extras["asked"]) == ([False] * len(samples), [True] * len(samples))
    assert listed(cheap) != listed(expensive)


def test_between_them_each_sample_is_answered_by_one_of_the_two(
    context: Context, samples: list[Sample], engine: ScriptedEngine
) -> None:
    """Expected from the parts alone: below the threshold the expensive one's row, else the cheap one's."""
    cheap = part(context, Knn(KnnConfig(k=3))).predict(samples)
    expensive = part(context, Rar(RarConfig(mode="score"))).predict(samples)
    threshold = float(np.median(margins(cheap)))
    engine.prompts.clear()
    found = fitted(context, threshold=threshold).predict(samples)
    below = cheap.scores[:, 0].astype(float) - cheap.scores[:, 1].astype(float) < threshold
    rows = zip(below, listed(cheap), listed(expensive), strict=True)
    assert listed(found) == [dear if ask else easy for ask, easy, dear in rows]
    assert found.extras["asked"] == below.tolist()
    assert found.extras["cheap_first"] == cheap.ranked[:, 0].tolist()
    assert 0 < below.sum() < len(samples)
    assert found.candidates is not None
    assert expensive.candidates is not None
    np.testing.assert_array_equal(found.candidates[below], expensive.candidates[below])
    assert [status is None for status in found.extras[REPLY_STATUS]] == (~below).tolist()


def test_the_expensive_method_is_asked_for_unsure_samples_only(
    vectors: VectorWorld, samples: list[Sample], engine: ScriptedEngine
) -> None:
    context = vectors.context(spread=2.0, validate=False)
    context.ranker = lambda name: engine
    found = fitted(context, threshold=0.02).predict(samples)
    assert len(engine.prompts) == sum(found.extras["asked"]) < len(samples)


def test_batch_and_order_change_nothing(context: Context, samples: list[Sample]) -> None:
    for options in ({"budget": 0.3}, {"budget": 0.3, "confidence": "probability"}):
        method = fitted(context, **options)
        whole = method.predict(samples)
        parts = [method.predict([sample]) for sample in samples[::-1]][::-1]
        assert listed(whole) == [row for one in parts for row in listed(one)]
        assert whole.extras["asked"] == [one.extras["asked"][0] for one in parts]
        assert whole.extras["confidence"] == [one.extras["confidence"][0] for one in parts]


@pytest.mark.parametrize("confidence", ["margin", "probability"])
@pytest.mark.parametrize("budget", [0.1, 0.25, 0.5])
def test_the_budget_is_honoured_on_validation(context: Context, budget: float, confidence: str) -> None:
    method = fitted(context, budget=budget, confidence=confidence)
    assert context.validation is not None
    held = context.validation.samples
    chosen = method.facts()["selection"]["chosen"]
    asked = method.predict(held).extras["asked"]
    assert sum(asked) == chosen["calls"] <= budget * len(held) < chosen["calls"] + 1  # no two are equally sure


def test_the_curve_on_validation_is_that_of_runs_at_its_budgets(context: Context) -> None:
    """Each point against a cascade of its own, scored here; the ranker is right, so more calls are better."""
    assert context.validation is not None
    held = context.validation.samples
    labels = np.array([sample.label for sample in held])
    curve = fitted(context, shares=[0.0, 0.2, 1.0], budget=0.5).facts()["curve"]
    assert [point["budget"] for point in curve] == [0.0, 0.2, 1.0]
    for point in curve:
        found = fitted(context, budget=point["budget"]).predict(held)
        right = found.ranked[:, 0] == labels
        assert point["calls"] == sum(found.extras["asked"])
        assert point["share"] == pytest.approx(point["calls"] / len(held))
        assert point["scores"]["all"] == pytest.approx(100 * right.mean(), abs=0.01)
        known = labels < KNOWN
        assert point["scores"]["known"] == pytest.approx(100 * right[known].mean(), abs=0.01)
    assert curve[0]["scores"]["all"] < curve[1]["scores"]["all"] < curve[2]["scores"]["all"]


def test_the_best_score_is_taken_within_the_budget_and_with_the_fewest_calls(context: Context) -> None:
    right = fitted(context, choose="score", budget=0.5, shares=[0.0, 0.1, 0.5, 1.0]).facts()
    assert right["selection"]["chosen"]["share"] == pytest.approx(0.5, abs=0.03)  # the ranker is right: all it may
    context.ranker = lambda name: ScriptedEngine(value=lambda p, text: -knows(p, text), name="wrong")
    wrong = fitted(context, choose="score", budget=0.5, shares=[0.0, 0.1, 0.5, 1.0]).facts()
    assert (wrong["asks"], wrong["selection"]["chosen"]["calls"]) == ("none", 0)
    same = fitted(context, choose="score", budget=1.0, expensive=KNN).facts()
    assert same["selection"]["chosen"]["calls"] == 0  # nothing is gained, so nothing is paid


def test_a_guard_holds_the_choice_back(context: Context) -> None:
    def value(prompt: Prompt, text: str) -> float:  # right about unknown concepts, wrong about one of the known
        image = prompt.images[-1]
        assert image is not None
        concept = int(re.findall(r"(\d+)-\d+\.png", image.path)[0])
        return knows(prompt, text) if concept >= KNOWN else -knows(prompt, text) if concept == 0 else 0.0

    context.ranker = lambda name: ScriptedEngine(value=value, name="half")
    options: dict[str, Any] = {"cheap": {"method": "knn"}, "choose": "score", "budget": 1.0, "shares": [0.0, 1.0]}
    assert fitted(context, **options).facts()["asks"] == "all"
    assert fitted(context, may_lose={"known": 0.0}, **options).facts()["asks"] == "none"
    with pytest.raises(UsageError, match="did you mean 'known'"):
        fitted(context, may_lose={"knwn": 0.0}, **options)


def test_validation_in_other_classes_has_parts_of_its_own(context: Context, samples: list[Sample]) -> None:
    """A benchmark of some of the classes shares its validation pictures with others: as in the world's groups."""
    few = replace(
        context, class_ids=context.class_ids[:6], class_names=context.class_names[:6], templates=context.templates
    )
    of_all, of_few = (fitted(one, budget=0.25) for one in (context, few))
    assert of_few.facts()["threshold"] == of_all.facts()["threshold"]
    assert of_few.predict(samples[:4]).ranked.max() < 6


def test_without_validation_pictures_a_threshold_must_be_given(vectors: VectorWorld, engine: ScriptedEngine) -> None:
    context = vectors.context(validate=False)
    context.ranker = lambda name: engine
    with pytest.raises(UsageError, match="threshold=NUMBER"):
        fitted(context)
    fitted(context, threshold=0.1)
    fitted(context, budget=1.0)
    with pytest.raises(UsageError, match="threshold=NUMBER"):
        fitted(context, threshold=0.5, confidence="probability")


def test_nothing_is_chosen_without_all_replies(context: Context) -> None:
    assert context.validation is not None
    lost = context.validation.samples[3].image

    def value(prompt: Prompt, text: str) -> float:
        if prompt.images[-1] == lost:
            raise RuntimeError("connection refused")
        return knows(prompt, text)

    context.ranker = lambda name: ScriptedEngine(value=value, name="down")
    with pytest.raises(DataError, match=r"'rar' gave no reply for 1 of 48 validation pictures .*connection refused"):
        fitted(context)


def test_labels_of_samples_reach_neither_part(context: Context, samples: list[Sample]) -> None:
    method = fitted(context, budget=0.3)
    wrong = [replace(sample, label=(sample.label + 1) % CONCEPTS) for sample in samples]
    assert listed(method.predict(samples)) == listed(method.predict(wrong))


def test_what_it_needs_and_is_told(context: Context, engine: ScriptedEngine) -> None:
    engine.told = "captions"
    plain = Cascade(CascadeConfig(cheap={"method": "zero_shot"}, expensive={"method": "reco"}, threshold=0.1))
    assert plain.supervision == Supervision("none", "captions")
    assert plain.needs_memory
    assert not plain.uses_validation
    assert plain.rankers == ()
    assert not Cascade(CascadeConfig(cheap={"method": "zero_shot"}, expensive={"method": "zero_shot"})).needs_memory
    method = fitted(context)
    assert method.supervision == Supervision("captions", "labels")
    assert method.uses_validation
    assert method.rankers == ("lite",)
    facts = method.facts()
    assert facts["ranker"]["told"] == "captions"
    assert (facts["cheap"]["method"], facts["expensive"]["method"]) == ("knn", "rar")
    assert Task.DETECTION not in Cascade.tasks


def test_scores_of_two_methods_are_not_compared_between_samples(context: Context) -> None:
    with pytest.raises(UsageError, match="two methods"):
        fitted(replace(context, every_class=True))


def test_a_method_without_candidates_has_no_ceiling(context: Context, samples: list[Sample]) -> None:
    found = fitted(context, expensive={"method": "reco"}).predict(samples)
    assert found.candidates is None
    assert 0 < sum(found.extras["asked"]) < len(samples)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cheap": {}}, "as cheap"),
        ({"confidence": "margins"}, "did you mean 'margin'"),
        ({"choose": "best"}, "choose of cascade"),
        ({"budget": 1.2}, "from 0 to 1"),
        ({"budget": math.nan}, "from 0 to 1"),
        ({"shares": [0.5, 2.0]}, "from 0 to 1"),
        ({"shares": [0.5], "budget": 0.1, "choose": "score"}, "list 0"),
        ({"threshold": math.inf}, "budget=1"),
        ({"threshold": 0.1, "choose": "score"}, "nothing to choose"),
        ({"expensive": {"method": "recco"}}, "did you mean 'reco'"),
    ],
)
def test_what_cannot_work_is_refused_at_once(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        Cascade(CascadeConfig(**options))
