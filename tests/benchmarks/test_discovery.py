"""Vocabulary-free discovery: names, guesses and draws as given; cACC by brute force, sACC from cosines in a loop."""

from __future__ import annotations

import itertools
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import trireme.plugins
from tests.benchmarks.layouts import pets
from tests.end_to_end.conftest import Place
from tests.end_to_end.test_rar import Ranker, world_place
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.benchmarks.discovery.benchmark import DiscoveryBenchmark
from trireme.benchmarks.discovery.sentences import Sentences
from trireme.benchmarks.few_shot import FewShot
from trireme.errors import DataError, UsageError
from trireme.minilm import text_folder
from trireme.registry import open_benchmark, open_pairs
from trireme.results import find_runs, read_predictions
from trireme.results.resampling import set_scores
from trireme.retrieval.encoders.lite.text import TextTower
from trireme.types import SetBenchmark

NAMES = ["Bengal cat", "Bulldog", " Boxer ", "Mau cat", "Bulldog"]
TRUE = ("Abyssinian", "american bulldog", "Egyptian Mau")
GUESSES = {
    "Abyssinian_0": ["Bengal cat", "Mau cat"],
    "Abyssinian_1": ["Mau cat"],
    "Abyssinian_2": "Bengal cat",
    "american_bulldog_0": ["Bulldog", "Boxer"],
    "american_bulldog_1": ["Boxer"],
    "american_bulldog_2": ["Bulldog"],
    "Egyptian_Mau_0": ["Bengal cat"],
    "Egyptian_Mau_1": ["Mau cat"],
}
"""For eight of the nine training pictures that the layout writes."""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data root with pets, and the files of names and guesses beside it."""
    monkeypatch.setenv("TRIREME_DATA", str(tmp_path / "data"))
    written = pets(tmp_path / "data")
    (tmp_path / "names.json").write_text(json.dumps(NAMES))
    (tmp_path / "guesses.json").write_text(json.dumps(GUESSES))
    with PUBLISHED.replaced(written.spec("pets")):
        yield tmp_path


def opened(root: Path, **options: Any) -> DiscoveryBenchmark:
    bench = open_benchmark("discovery/pets", **{"names": str(root / "names.json"), **options})
    assert isinstance(bench, DiscoveryBenchmark)
    return bench


def test_classes_are_the_names_and_labels_are_hidden(root: Path) -> None:
    bench = opened(root)
    assert isinstance(bench, SetBenchmark)
    assert bench.class_names == bench.class_ids == ("Bengal cat", "Bulldog", "Boxer", "Mau cat")
    assert {one.label for one in bench.samples()} == {-1}
    assert bench.true_names == TRUE
    assert [bench.truths[one.id] for one in bench.samples()] == [0] * 3 + [1] * 3 + [2] * 3
    assert bench.metrics == bench.set_metrics == ("cacc", "sacc(minilm)")
    assert bench.validation is None


def test_the_vocabulary_is_part_of_the_fingerprint(root: Path) -> None:
    """A list, the same names a line each, and all guesses of an object."""
    (root / "names.txt").write_text("Bengal cat\nBulldog\n\nBoxer\nMau  cat\n")
    bench = opened(root)
    assert opened(root, names=str(root / "names.txt")).fingerprint() == bench.fingerprint()
    other = opened(root, names=str(root / "guesses.json"))
    assert other.class_names == ("Bengal cat", "Mau cat", "Bulldog", "Boxer")
    assert other.fingerprint() != bench.fingerprint()


def test_pictures_are_labelled_with_guesses(root: Path) -> None:
    pairs = open_pairs("discovery/pets", guesses=str(root / "guesses.json")).pairs()
    assert {pair.id: pair.label for pair in pairs} == {
        key: names if isinstance(names, str) else names[0] for key, names in GUESSES.items()
    }
    assert all(pair.caption == pair.label for pair in pairs), "a caption that told the breed would give it away"
    both = open_pairs("discovery/pets", guesses=str(root / "guesses.json"), top=2).pairs()
    assert [(pair.id, pair.label) for pair in both][:2] == [
        ("Abyssinian_0#0", "Bengal cat"),
        ("Abyssinian_0#1", "Mau cat"),
    ]
    assert len(both) == len(GUESSES) + 2


@pytest.mark.parametrize("seed", range(3))
def test_a_draw_is_by_true_class(root: Path, seed: int) -> None:
    """Two of each breed, though the guesses are 3 Bengal, 2 Mau, 2 Bulldog and 1 Boxer."""
    base = open_pairs("discovery/pets", guesses=str(root / "guesses.json"))
    for rule in ("random", "first", "coop", "elevater"):
        drawn = FewShot(base, 2, rule, seed)
        pairs = drawn.pairs()
        assert Counter(pair.id.rpartition("_")[0] for pair in pairs) == dict.fromkeys(
            ("Abyssinian", "american_bulldog", "Egyptian_Mau"), 2
        )
        assert {pair.label for pair in pairs} <= {"Bengal cat", "Mau cat", "Bulldog", "Boxer"}
        assert drawn.facts(pairs)["classes"] == 3
    assert FewShot(base, 3, "random", 0).fingerprint == FewShot(base, 3, "random", 1).fingerprint, "all there are"


def table(bench: DiscoveryBenchmark, answers: Sequence[int]) -> pa.Table:
    samples = bench.samples()
    return pa.table(
        {
            "sample_id": [one.id for one in samples],
            "label": [-1] * len(samples),
            "group": [""] * len(samples),
            "status": ["ok"] * len(samples),
            "ranked": [[answer, (answer + 1) % 4] for answer in answers],
            "scores": [[1.0, 0.5]] * len(samples),
        }
    )


def brute_force(answers: Sequence[int], truths: Sequence[int], names: int) -> float:
    """The best of all one-to-one namings of three classes."""
    return max(
        np.mean([chosen[truth] == answer for answer, truth in zip(answers, truths, strict=True)])
        for chosen in itertools.permutations(range(names), 3)
    )


def test_cacc_is_the_best_naming_and_sacc_the_mean_cosine(root: Path) -> None:
    bench = opened(root)
    truths = [bench.truths[one.id] for one in bench.samples()]
    names = [*bench.class_names, *TRUE]
    vectors = dict(
        zip(names, TextTower().encode(names), strict=True)
    )  # the same checkpoint, read by the encoder `lite`
    for seed in range(8):
        answers = np.random.default_rng(seed).integers(0, 4, 9).tolist()
        found = bench.evaluator(table(bench, answers)).values(np.ones(9, dtype=np.int64))
        assert found["all", "cacc"] == pytest.approx(brute_force(answers, truths, 4)), seed
        cosines = [
            float(vectors[bench.class_names[a]] @ vectors[TRUE[t]]) for a, t in zip(answers, truths, strict=True)
        ]
        assert found["all", "sacc(minilm)"] == pytest.approx(np.mean(cosines), abs=1e-5), seed


def test_the_interval_holds_the_score_between_its_ends(root: Path) -> None:
    """Matched anew in every draw, the interval would begin at the score."""
    bench = opened(root)
    rows, _ = set_scores(bench.evaluator(table(bench, [0, 0, 3, 1, 1, 2, 3, 3, 0])))
    cacc = next(row for row in rows if row["metric"] == "cacc")
    assert cacc["score"] == pytest.approx(100 * 6 / 9)  # 2 Bengal, 2 Bulldog, 2 Mau
    assert cacc["ci_low"] < cacc["score"] < cacc["ci_high"]


def test_another_sentence_encoder_is_another_metric(root: Path) -> None:
    """A checkpoint of the same weights in a folder of its own, as the sentence-transformers library lays it out."""
    folder = root / "my-encoder"
    shutil.copytree(text_folder(), folder)
    pooling = {"word_embedding_dimension": 384, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    modules = [
        {"idx": number, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(
            (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
        )
    ]
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "modules.json").write_text(json.dumps(modules))
    own = opened(root, sentences=str(folder))
    assert own.metrics == ("cacc", f"sacc(my-encoder-{Sentences(str(folder)).fingerprint[:8]})")
    assert own.fingerprint() != opened(root).fingerprint()
    np.testing.assert_allclose(own.sentences.embed(TRUE), Sentences().embed(TRUE), atol=1e-6)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    with pytest.raises(
        DataError, match="only mean pooling over a transformer is read here, not pooling_mode_cls_token"
    ):
        opened(root, sentences=str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"lacks model.safetensors; name 'minilm' or a"):
        opened(root, sentences=str(folder))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"Abyssinian_999": ["Bengal"]}', "'Abyssinian_999' is no training picture of pets, such as 'Abyssinian_0'"),
        ('{"Abyssinian_0": []}', "picture 'Abyssinian_0' has a name that is no text, or none at all"),
        ('{"Abyssinian_0": ["  "]}', "picture 'Abyssinian_0' has a name that is no text"),
        ('["Bengal"]', "is no object of guesses"),
        ("{", "is no JSON file in UTF-8"),
    ],
)
def test_guesses_that_are_none(root: Path, content: str, message: str) -> None:
    (root / "guesses.json").write_text(content)
    with pytest.raises(DataError, match=message):
        open_pairs("discovery/pets", guesses=str(root / "guesses.json"))


@pytest.mark.parametrize(
    ("content", "message"), [("[]", "is neither a list"), ('["a", 3]', "no text"), ("nothing", "no JSON")]
)
def test_names_that_are_none(root: Path, content: str, message: str) -> None:
    (root / "names.json").write_text(content)
    with pytest.raises(DataError, match=message):
        opened(root)


def test_what_is_missing_is_asked_for(root: Path) -> None:
    with pytest.raises(UsageError, match=r"add benchmark.names=FILE"):
        open_benchmark("discovery/pets")
    with pytest.raises(UsageError, match=r"add memory.pairs_options.guesses=FILE"):
        open_pairs("discovery/pets")
    with pytest.raises(UsageError, match="at least one name"):
        open_pairs("discovery/pets", guesses=str(root / "guesses.json"), top=0)
    with pytest.raises(UsageError, match="has no groups; remove group=food"):
        opened(root, group="food")
    with pytest.raises(UsageError, match="did you mean 'animals'"):
        open_benchmark("discovery/world", group="animal")


@pytest.fixture
def place(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    (root / "ranker").mkdir()
    Ranker(root / "ranker").installed(monkeypatch)
    yield world_place(root)
    trireme.plugins.entries.cache_clear()


def test_the_whole_path(place: Place) -> None:
    """zero_shot over the vocabulary, knn and rar over the guesses; cACC is recomputed from the stored predictions."""
    place.trireme(
        "run",
        "method=zero_shot,knn,rar-list",
        "method.rar-list.ranker=stand-in",
        "benchmark=discovery/pets",
        "benchmark.names=guesses.json",
        "memory=discovery/pets",
        "memory.pairs_options.guesses=guesses.json",
    )
    records = {one.method: one for one in find_runs(place.folder / "out", strict=True)}
    assert len(records) == 3
    order = {"Abyssinian": 0, "american_bulldog": 1, "Egyptian_Mau": 2}
    for record in records.values():
        rows = read_predictions(record).to_pylist()
        assert {row["label"] for row in rows} == {-1}, "no true class is stored where a method could have had it"
        truths = [order[row["sample_id"].rpartition("_")[0]] for row in rows]
        scores = {row["metric"]: row for row in record.scores}
        assert scores["cacc"]["score"] == pytest.approx(
            100 * brute_force([row["ranked"][0] for row in rows], truths, 4)
        )
        assert scores["cacc"]["n"] == scores["sacc(minilm)"]["n"] == 9
    assert records["knn"].data["memory"]["size"] == len(GUESSES)


def test_ten_draws_of_the_world(place: Place) -> None:
    """Two of the suite's seeds: three pictures of every animal, other pictures for another seed."""
    place.trireme("run", "suite=discovery", "method=knn", "seed=0,1")
    records = find_runs(place.folder / "out", strict=True)
    assert len(records) == 2
    for record in records:
        drawn = record.data["memory"]["drawn"]
        assert (drawn["shots"], drawn["rule"], drawn["classes"]) == (3, "random", 107)
        assert record.data["memory"]["size"] == 3 * 107
        assert record.data["metrics"] == ["cacc", "sacc(minilm)"]
        assert record.data["benchmark"]["classes"] > 1000, "what may be answered is not one group's names"
    assert len({record.data["memory"]["fingerprint"] for record in records}) == 2
