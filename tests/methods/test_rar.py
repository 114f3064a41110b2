"""RAR over vectors whose neighbours are known, with an engine whose answers are written down."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from trireme.errors import DataError, UsageError
from trireme.methods.base import Context
from trireme.methods.knn import Knn, KnnConfig
from trireme.methods.rankers.base import REPLY_STATUS, Prompt, PromptError
from trireme.methods.rar import Rar, RarConfig
from trireme.methods.rar.candidates import Retriever
from trireme.types import Predictions, Sample

from .scripted import ScriptedEngine
from .synthetic import CONCEPTS, KNOWN, VectorWorld, unlabelled


def names_in(prompt: Prompt) -> list[str]:
    """The candidates of a list prompt, as it writes them."""
    return re.findall(r"'(concept \d+)'", prompt.texts[-1])


def keeps(prompt: Prompt) -> str:
    return repr(names_in(prompt))


def reverses(prompt: Prompt) -> str:
    return repr(names_in(prompt)[::-1])


def run(
    context: Context, samples: list[Sample], config: RarConfig, engine: ScriptedEngine | None = None
) -> Predictions:
    asked = engine if engine is not None else ScriptedEngine(keeps)
    context.ranker = lambda name: asked
    method = Rar(config)
    method.fit(context)
    return method.predict(samples)


@pytest.fixture
def context(vectors: VectorWorld) -> Context:
    return vectors.context()


@pytest.fixture
def samples(vectors: VectorWorld) -> list[Sample]:
    return [sample.unlabelled() for sample in vectors.samples("test", 2)]


def test_a_ranker_that_keeps_the_order_gives_the_nearest_neighbour(context: Context, samples: list[Sample]) -> None:
    # RAR's "CLIP+KNN" is the label of the nearest picture; without any re-ordering RAR is that baseline
    knn = Knn(KnnConfig())
    knn.fit(context)
    expected = knn.predict(samples)
    found = run(context, samples, RarConfig())
    assert (found.ranked[:, 0] == expected.ranked[:, 0]).all()
    assert (found.ranked == expected.ranked).all()


def test_the_reversed_list_puts_the_last_candidate_first(context: Context, samples: list[Sample]) -> None:
    kept, turned = (
        run(context, samples, RarConfig()),
        run(context, samples, RarConfig(), ScriptedEngine(reverses, name="r")),
    )
    assert (turned.ranked[:, :5] == kept.ranked[:, 4::-1]).all()
    assert (turned.ranked[:, 5:] == kept.ranked[:, 5:]).all()  # what was no candidate stays where it was


def test_scores_fall_along_every_row(context: Context, samples: list[Sample]) -> None:
    for config in (
        RarConfig(),
        RarConfig(mode="score"),
        RarConfig(mode="score", fusion=[0.5]),
        RarConfig(mode="letters"),
    ):
        engine = ScriptedEngine(reverses, lambda p, text: -float(len(text)) - (ord(text[-1]) % 7), name=config.mode)
        found = run(context, samples, config, engine)
        scores = np.where(found.ranked >= 0, found.scores, -np.inf)
        assert (scores[:, :-1] >= scores[:, 1:]).all()


def test_without_fusion_scores_are_those_of_retrieval_in_the_rankers_order(
    context: Context, samples: list[Sample]
) -> None:
    """By definition: the k similarities stay, the best goes to the ranker's first; boxes of one class compare by it."""
    plain = run(context, samples, RarConfig(k=5))
    for config in (RarConfig(k=5), RarConfig(k=5, mode="score")):
        engine = ScriptedEngine(reverses, lambda p, text: float(len(text)) - ord(text[-1]) % 7, name=config.mode)
        turned = run(context, samples, config, engine)
        assert (turned.ranked[:, :5] != plain.ranked[:, :5]).any()
        np.testing.assert_array_equal(turned.scores[:, :5], plain.scores[:, :5])


def test_candidates_are_the_k_distinct_classes_of_the_nearest_pictures(context: Context, samples: list[Sample]) -> None:
    found = run(context, samples, RarConfig(k=7))
    assert found.candidates is not None
    memory = context.memory
    assert memory is not None
    queries = context.store.images([sample.image for sample in samples])
    similarity = queries @ np.asarray(memory.embeddings("image")).T
    for row, classes in zip(similarity, found.candidates, strict=True):
        labels = [memory.labels[i] for i in np.argsort(-row, kind="stable")]
        assert [f"c{c}" for c in classes] == list(dict.fromkeys(labels))[:7]


def test_the_papers_neighbours_may_repeat_a_class(context: Context, samples: list[Sample]) -> None:
    engine = ScriptedEngine(keeps)
    found = run(context, samples, RarConfig(distinct=False), engine)
    memory = context.memory
    assert memory is not None
    queries = context.store.images([sample.image for sample in samples])
    similarity = queries @ np.asarray(memory.embeddings("image")).T
    for row, prompt in zip(similarity, engine.prompts, strict=True):
        nearest = [int(memory.labels[i][1:]) for i in np.argsort(-row, kind="stable")[:5]]
        assert names_in(prompt) == [f"concept {c}" for c in nearest]
    assert any(len(set(names_in(prompt))) < 5 for prompt in engine.prompts)  # else this test would show nothing
    assert (found.ranked[:, 0] >= 0).all()


def test_class_names_are_searched_without_a_memory(context: Context, samples: list[Sample]) -> None:
    # known concepts lie at their names, unknown ones elsewhere (tests/methods/synthetic.py)
    found = run(replace(context, memory=None), samples, RarConfig(retriever="i2t", k=3))
    labels = np.repeat(np.arange(CONCEPTS), 2)
    assert found.candidates is not None
    hit = (found.candidates == labels[:, None]).any(1)
    assert hit[labels < KNOWN].mean() > 0.9
    assert hit[labels >= KNOWN].mean() < 0.5
    assert not Rar(RarConfig(retriever="i2t")).needs_memory


def test_class_names_by_hnsw_are_those_of_flat(context: Context, samples: list[Sample]) -> None:
    # 24 vectors with 64 links each: the graph is complete, so the answers are equal
    flat, graph = (run(context, samples, RarConfig(retriever="i2t", class_index=kind)) for kind in ("flat", "hnsw"))
    assert (flat.ranked == graph.ranked).all()


def test_both_retrievers_are_joined_by_reciprocal_rank(context: Context, samples: list[Sample]) -> None:
    queries = context.store.images([sample.image for sample in samples])
    one, two, both = (
        Retriever(context, RarConfig(retriever=kind), context.class_ids, context.class_names)(
            queries, RarConfig(retriever=kind)
        )
        for kind in ("i2i", "i2t", "both")
    )
    for pictures, names, joined, scores in zip(one.order, two.order, both.classes, both.scores, strict=True):
        values: dict[int, float] = {}
        for ranking in (pictures, names):
            for place, c in enumerate(ranking[ranking >= 0]):
                values[int(c)] = values.get(int(c), 0.0) + 1 / (61 + place)  # Cormack et al. 2009, k = 60
        best = sorted(values, key=lambda c: (-values[c], c))[:5]
        assert joined.tolist() == best
        assert scores == pytest.approx([values[c] for c in best], rel=1e-5)


def test_examples_are_the_retrieved_pictures_with_their_class_names(context: Context, samples: list[Sample]) -> None:
    engine = ScriptedEngine(keeps)
    run(context, samples[:3], RarConfig(examples=2), engine)
    memory = context.memory
    assert memory is not None
    for sample, prompt in zip(samples[:3], engine.prompts, strict=True):
        assert len(prompt.images) == 3
        assert prompt.images[-1] == sample.image
        for ref, name in zip(prompt.images[:2], names_in(prompt), strict=False):
            assert ref is not None
            assert any(name in text for text in prompt.texts)
            concept = int(re.findall(r"(\d+)-\d+\.png", ref.path)[0])
            assert name == f"concept {concept}"


def test_fusion_is_the_retrieval_score_plus_the_weighted_log_probability(
    context: Context, samples: list[Sample]
) -> None:
    def value(prompt: Prompt, text: str) -> float:
        return -float(re.findall(r"\d+", text)[0])

    plain = run(context, samples, RarConfig(mode="score"), ScriptedEngine(value=value))
    fused = run(context, samples, RarConfig(mode="score", fusion=[0.25]), ScriptedEngine(value=value))
    alone = run(context, samples, RarConfig(mode="score", fusion=[0.0]), ScriptedEngine(value=value))
    kept = run(context, samples, RarConfig())
    assert (alone.ranked == kept.ranked).all()
    for row in range(len(samples)):
        retrieval = dict(
            zip(fused.extras["candidate_classes"][row], fused.extras["retrieval_scores"][row], strict=True)
        )
        values = {c: s - 0.25 * int(c[1:]) for c, s in retrieval.items()}
        assert [f"c{c}" for c in fused.ranked[row, :5]] == sorted(values, key=lambda c: -values[c])
        assert fused.scores[row, :5] == pytest.approx(sorted(values.values(), reverse=True), rel=1e-5)
        assert [f"c{c}" for c in plain.ranked[row, :5]] == sorted(retrieval, key=lambda c: int(c[1:]))


def test_weight_and_k_are_chosen_on_validation(vectors: VectorWorld, samples: list[Sample]) -> None:
    context = vectors.context(spread=2.0)  # so far from their concept that the nearest picture is often a wrong one

    def value(prompt: Prompt, text: str) -> float:  # knows the concept of the picture, says nothing else
        image = prompt.images[-1]
        assert image is not None
        concept = re.findall(r"(\d+)-\d+\.png", image.path)[0]
        return 0.0 if f"concept {concept}'" in text else -1.0

    config = RarConfig(mode="score", fusion=[0.0, 10.0], grid={"k": [2, 10]})
    context.ranker = lambda name: ScriptedEngine(value=value)
    method = Rar(config)
    method.fit(context)
    facts = method.facts()
    assert (facts["weight"], facts["k"]) == (10.0, 10)  # the ranker is always right: more candidates, all of its weight
    tried = facts["selection"]["tried"]
    assert len(tried) == 4
    assert {(one["k"], one["weight"]) for one in tried} == {(2, 0.0), (2, 10.0), (10, 0.0), (10, 10.0)}
    retrieval = facts["selection"]["retrieval"]
    assert tried[0]["scores"]["all"] == pytest.approx(retrieval["all"], abs=0.01)
    labels = np.repeat(np.arange(CONCEPTS), 2)
    found = method.predict(samples)
    assert found.candidates is not None
    hit = (found.candidates == labels[:, None]).any(1)
    assert ((found.ranked[:, 0] == labels) == hit).all()  # the ceiling of any re-ranker is reached


def test_without_validation_pictures_nothing_is_chosen(vectors: VectorWorld, samples: list[Sample]) -> None:
    context = vectors.context(validate=False)
    found = run(context, samples, RarConfig(mode="score", fusion=[0.0, 1.0]))
    assert (found.ranked == run(context, samples, RarConfig()).ranked).all()  # the first weight


def test_an_unreadable_reply_is_counted_and_falls_back_to_retrieval(context: Context, samples: list[Sample]) -> None:
    replies = iter(["no idea", "", "I'm sorry, I cannot help with that.", "['concept 999']"])
    kept = run(context, samples[:4], RarConfig())
    found = run(context, samples[:4], RarConfig(), ScriptedEngine(lambda p: next(replies), name="bad"))
    assert (found.ranked == kept.ranked).all()
    assert list(found.extras[REPLY_STATUS]) == ["unreadable", "unreadable", "refused", "unreadable"]
    assert found.extras["reply"][0] == "no idea"


def test_order_and_batch_of_samples_change_nothing(context: Context, samples: list[Sample]) -> None:
    engine = ScriptedEngine(reverses)
    context.ranker = lambda name: engine
    method = Rar(RarConfig())
    method.fit(context)
    whole = method.predict(samples)
    parts = [method.predict([sample]) for sample in samples[::-1]][::-1]
    assert (whole.ranked == np.concatenate([part.ranked for part in parts])).all()
    assert len(engine.prompts) == len(samples)  # the second time all replies were there


def test_labels_are_needed_at_inference_and_the_rankers_training_is_told(context: Context) -> None:
    engine = ScriptedEngine(keeps)
    engine.told = "labels"
    context.ranker = lambda name: engine
    method = Rar(RarConfig())
    assert method.supervision.inference == "labels"
    method.fit(context)
    assert method.supervision.training == "labels"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "lst"}, "did you mean 'list'"),
        ({"retriever": "t2t"}, "retriever"),
        ({"k": 0}, "at least 1"),
        ({"k": 10, "depth": 5}, "too few"),
        ({"fusion": [1.0]}, "no scores to fuse"),
        ({"fusion": [-1.0], "mode": "score"}, "at least 0"),
        ({"distinct": False, "retriever": "i2t"}, "never repeat"),
        ({"examples": 1, "retriever": "i2t"}, "examples"),
        ({"grid": {"kk": [1]}}, "did you mean 'k'"),
        ({"grid": {"k": []}}, "no value"),
        ({"grid": {"k": ["five"]}}, "not int"),
        ({"grid": {"mode": ["list", "scor"]}}, "did you mean 'score'"),
        ({"calibrate": True}, "calibrate"),
        ({"wording": "papr"}, "did you mean 'paper'"),
    ],
)
def test_what_cannot_work_is_refused_at_once(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        Rar(RarConfig(**options))


def test_a_memory_without_labels_has_nothing_to_search(vectors: VectorWorld) -> None:
    context = vectors.context(memory=unlabelled(vectors.pairs("memory")))
    context.ranker = lambda name: ScriptedEngine(keeps)
    with pytest.raises(DataError, match="nothing can be searched"):
        Rar(RarConfig()).fit(context)


def test_classes_that_the_memory_does_not_show_are_told_of_once(
    vectors: VectorWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """The memory lacks two of the 24 classes; where names are searched alone, there are no pictures to lack."""
    held = [pair for pair in vectors.pairs("memory") if pair.label not in ("c3", "c7")]
    context = vectors.context(memory=held)
    context.ranker = lambda name: ScriptedEngine(keeps)
    method = Rar(RarConfig(grid={"k": [2, 4]}))
    method.fit(context)
    assert (method.facts()["support"], method.facts()["classes_without_picture"]) == (len(held), 2)
    assert capsys.readouterr().err == (
        "note: 2 of 24 classes have no picture in the memory to be found by: concept 3, concept 7\n"
    )
    by_name = Rar(RarConfig(retriever="i2t"))
    by_name.fit(context)
    assert by_name.facts()["support"] == 0
    assert "classes_without_picture" not in by_name.facts()
    assert capsys.readouterr().err == ""


def test_rankers_of_a_grid_are_all_named(context: Context) -> None:
    asked: Callable[[], tuple[str, ...]] = lambda: Rar(RarConfig(grid={"ranker": ["one", "two"]})).rankers  # noqa: E731
    assert asked() == ("one", "two")
    assert Rar(RarConfig(ranker="one")).rankers == ("one",)


def test_nothing_is_chosen_without_all_replies(vectors: VectorWorld) -> None:
    """The next run, which has the missing reply, could choose otherwise; it asks for that one only."""
    context = vectors.context(spread=2.0)
    assert context.validation is not None
    lost = context.validation.samples[3].image
    down = True

    def value(prompt: Prompt, text: str) -> float:
        if down and prompt.images[-1] == lost:
            raise RuntimeError("connection refused")
        return 0.0

    engine = ScriptedEngine(value=value)
    context.ranker = lambda name: engine
    method = Rar(RarConfig(mode="score", fusion=[0.0, 1.0]))
    total = len(context.validation.samples)
    with pytest.raises(DataError, match=rf"no reply for 1 of {total} validation pictures .*first: connection refused"):
        method.fit(context)
    assert len(engine.prompts) == total
    down = False
    method.fit(context)
    assert [prompt.images[-1] for prompt in engine.prompts[total:]] == [lost]


def test_a_validation_picture_that_can_never_be_answered_stops_nothing(vectors: VectorWorld) -> None:
    """A server's content filter: that picture keeps the order of retrieval, under every weight, and is stored."""
    context = vectors.context(spread=2.0)
    assert context.validation is not None
    lost = context.validation.samples[3].image

    def value(prompt: Prompt, text: str) -> float:
        if prompt.images[-1] == lost:
            raise PromptError("host answers 400: content_filter")
        return 0.0

    engine = ScriptedEngine(value=value)
    context.ranker = lambda name: engine
    for _ in range(2):
        Rar(RarConfig(mode="score", fusion=[0.0, 1.0])).fit(context)
    assert len(engine.prompts) == len(context.validation.samples)
    found = run(context, [context.validation.samples[3].unlabelled()], RarConfig(mode="score"), engine)
    kept = run(context, [context.validation.samples[3].unlabelled()], RarConfig(mode="list"))
    assert found.extras[REPLY_STATUS] == ["refused"]
    assert found.extras["reply"] == ["host answers 400: content_filter"]
    assert (found.ranked == kept.ranked).all()
