"""The kit against Trireme's own parts, and against small plugins that each break one rule."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from trireme.conformance import (
    METHOD_RULES,
    Report,
    check_benchmark,
    check_encoder,
    check_method,
    check_ranker,
)
from trireme.conformance.mock_encoder import MockEncoder
from trireme.conformance.mock_ranker import MockRanker
from trireme.conformance.mocks import BENCHMARKS, open_benchmark
from trireme.conformance.report import NotCheckedError, run_rules
from trireme.errors import UsageError
from trireme.types import Role


@pytest.fixture(autouse=True)
def _alone(own_home: Path) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


OWN: dict[str, tuple[dict[str, Any], set[str]]] = {
    "react-paper": ({"epochs": 1, "batch": 16, "k": 2, "lr": 1e-4, "precision": "float32"}, set()),
    "zero_shot": ({}, {"memory"}),
    "knn": ({"grid": {"k": [1, 4]}}, {"supervision"}),
    "reco": ({"train_on": ["mock/train"], "epochs": 1, "grid": {}, "train_grid": {}}, set()),
    "rar-lite": ({"k": 3}, {"supervision"}),
}
"""Options that keep a check short, and the rules that have nothing to look at: zero_shot has no memory, knn and rar say
that they are told labels. react comes first: the server of processes that are killed then imports open_clip once."""


UNTRAINED = ("zero_shot", "knn")
"""They leave nothing that could be resumed; processes are killed for those that do."""


@pytest.mark.parametrize("name", list(OWN))
def test_trireme_keeps_its_own_rules(name: str) -> None:
    options, skipped = OWN[name]
    rules = [rule for rule in METHOD_RULES if rule != "resume" or name not in UNTRAINED]
    report = check_method(name, options, rules)
    assert report.passed, report
    assert {one.rule for one in report.outcomes if one.status == "skip"} == skipped, report
    assert [one.rule for one in report.outcomes] == rules


@pytest.mark.parametrize("name", BENCHMARKS)
def test_mock_benchmarks_conform(name: str) -> None:
    report = check_benchmark(name)
    assert report.passed, report


def test_the_mock_encoder_and_ranker_conform() -> None:
    for report in (check_encoder("mock"), check_ranker("mock"), check_encoder(MockEncoder), check_ranker(MockRanker)):
        assert report.passed, report


def test_a_real_ranker_conforms(tmp_path: Path) -> None:
    """LLaVA with random weights, by transformers."""
    from tests.methods.tiny_mllm import tiny_llava
    from trireme.methods.rankers.hf import TransformersEngine

    report = check_ranker(TransformersEngine, {"model": str(tiny_llava(tmp_path)), "dtype": "float32", "batch": 4})
    assert report.passed, report


def test_a_method_that_takes_no_encoder_of_the_check_is_told() -> None:
    """REACT's config for `lite` has options that open_clip models lack."""
    with pytest.raises(UsageError, match="options of lite"):
        check_method("react")


GOOD = """
from dataclasses import dataclass
import numpy as np
from trireme.methods.classes import class_embeddings, rank_similar
from trireme.types import Predictions, Supervision, Task

class Good:
    @dataclass
    class Config:
        keep: int = 5

    tasks = frozenset({Task.ZERO_SHOT})
    version = 1
    supervision = Supervision()
    needs_memory = False
    uses_validation = False

    def __init__(self, config):
        self.config = config

    def fit(self, context):
        self.context = context
        self.classes = class_embeddings(context.store, context.class_names, context.templates)

    def predict(self, samples):
        images = self.context.store.images([sample.image for sample in samples])
        return Predictions(*rank_similar(images, self.classes, self.config.keep))

    def facts(self):
        return {}
"""
_WITH_MEMORY = "needs_memory = True\n"
_DETECTS = "tasks = frozenset({Task.ZERO_SHOT, Task.DETECTION})\n"
_FITTED = "def fit(self, context):\n    super().fit(context)\n"
_BASE = "super().predict(samples)"
BAD: dict[str, tuple[str, str]] = {
    "wrong shape": ("shapes", f"def predict(self, samples):\n    return {_BASE[:-9]}(samples[1:])"),
    "a list": (
        "shapes",
        f"def predict(self, samples):\n    p = {_BASE}\n    p.scores = p.scores.tolist()\n    return p",
    ),
    "NaN": ("numbers", f"def predict(self, samples):\n    p = {_BASE}\n    p.scores[0, 1] = np.nan\n    return p"),
    "unknown class": ("ids", f"def predict(self, samples):\n    p = {_BASE}\n    p.ranked[:, 0] = 8\n    return p"),
    "a class twice": (
        "ids",
        f"def predict(self, samples):\n    p = {_BASE}\n    p.ranked[:, 1] = p.ranked[:, 0]\n    return p",
    ),
    "worst first": ("order", f"def predict(self, samples):\n    p = {_BASE}\n    p.scores = -p.scores\n    return p"),
    "changes samples": ("inputs", f"def predict(self, samples):\n    p = {_BASE}\n    samples.reverse()\n    return p"),
    "changes labels": (
        "inputs",
        f"{_WITH_MEMORY}def fit(self, context):\n    super().fit(context)\n    context.memory.labels[0] = 'm7'",
    ),
    "changes its config": ("inputs", "def fit(self, context):\n    super().fit(context)\n    self.config.keep = 4"),
    "random": (
        "determinism",
        "def fit(self, context):\n    super().fit(context)\n"
        "    self.classes = self.classes + np.random.normal(size=self.classes.shape)",
    ),
    "asked once": (
        "determinism",
        f"asked = 0\ndef predict(self, samples):\n    p = {_BASE}\n    p.scores += 1e-3 * self.asked\n"
        "    self.asked += 1\n    return p",
    ),
    "depends on the batch": (
        "batches",
        f"def predict(self, samples):\n    p = {_BASE}\n    p.scores -= p.scores.mean()\n    return p",
    ),
    "depends on the order": (
        "sample-order",
        f"def predict(self, samples):\n    p = {_BASE}\n    p.scores += 0.1 * np.arange(len(samples))[:, None]\n"
        "    return p",
    ),
    "reads ids": (
        "labels",
        f"def predict(self, samples):\n    p = {_BASE}\n"
        "    p.scores += np.array([[s.id.startswith('poison')] for s in samples])\n    return p",
    ),
    "reads labels": (
        "labels",
        f"def predict(self, samples):\n    p = {_BASE}\n"
        "    p.scores += np.array([[max(s.label, 0)] for s in samples])\n    return p",
    ),
    "hides what it is told": (
        "supervision",
        f"{_WITH_MEMORY}def fit(self, context):\n    super().fit(context)\n"
        "    m = context.memory\n    rows = m.embeddings('image')\n"
        "    for c, name in enumerate(context.class_ids):\n"
        "        self.classes[c] += rows[m.labels == name].sum(axis=0) if (m.labels == name).any() else 0",
    ),
    "no memory is a bug": (
        "memory",
        f"{_WITH_MEMORY}def fit(self, context):\n    super().fit(context)\n    self.first = context.memory.ids[0]",
    ),
    "one class is a bug": (
        "one-class",
        "def fit(self, context):\n    super().fit(context)\n    self.second = context.class_names[1]",
    ),
    "no way back": (
        "resume",
        "def fit(self, context):\n    context.artifacts.mkdir(parents=True)\n    super().fit(context)",
    ),
    "facts": ("facts", "def facts(self):\n    return {'loss': float('nan')}"),
    "no default": (
        "config",
        "@dataclass\nclass Config:\n    keep: int\ndef __init__(self, config):\n    self.config = config",
    ),
    "a type that YAML lacks": ("config", "@dataclass\nclass Config:\n    keep: complex = 5"),
    "no task": ("declaration", "tasks = frozenset()"),
    "no version": ("declaration", "version = '1'"),
    "half of retrieval": ("declaration", "tasks = frozenset({Task.RETRIEVAL})"),
    "infinity": ("numbers", f"def predict(self, samples):\n    p = {_BASE}\n    p.scores[:] = np.inf\n    return p"),
    "random in one task only": (
        "determinism",
        f"{_DETECTS}{_FITTED}    if context.every_class:\n"
        "        self.classes = self.classes + np.random.normal(size=self.classes.shape)",
    ),
    "depends on a large batch": (
        "batches",
        f"def predict(self, samples):\n    p = {_BASE}\n    p.scores -= p.scores.mean() * (len(samples) > 50)\n"
        "    return p",
    ),
    "depends on the first batch": (
        "batches",
        f"first = None\ndef predict(self, samples):\n    p = {_BASE}\n    if self.first is None:\n"
        "        self.first = p.scores.mean()\n    p.scores -= self.first\n    return p",
    ),
    "writes into the memory": ("inputs", f"{_WITH_MEMORY}{_FITTED}    context.memory.embeddings('text')[:] = 0"),
    "replaces the memory's embeddings": (
        "inputs",
        f"{_WITH_MEMORY}{_FITTED}    m = context.memory\n    rows = -m.embeddings('image')\n"
        "    m.embeddings = lambda side: rows",
    ),
    "replaces the names of the validation benchmark": (
        "inputs",
        f"uses_validation = True\n{_FITTED}    held = context.validation.benchmark._benchmark\n"
        "    object.__setattr__(held, 'class_names', held.class_names[::-1])",
    ),
    "changes the encoder": (
        "inputs",
        f"{_FITTED}    old = context.encoder.encode_texts\n"
        "    context.encoder.encode_texts = lambda texts: np.roll(old(texts), 1, axis=1)",
    ),
    "changes its config under another name": (
        "inputs",
        "def __init__(self, config):\n    super().__init__(config)\n    self.options = config\n"
        f"    self.config = self.Config()\n{_FITTED}    self.options.keep = 4",
    ),
    "sets the type of the process": (
        "inputs",
        f"{_FITTED}    import torch\n    torch.set_default_dtype(torch.float64)",
    ),
    "seeds the process": ("inputs", f"{_FITTED}    np.random.seed(0)"),
    "looks at test labels of validation": (
        "labels",
        f"uses_validation = True\n{_FITTED}    try:\n        context.validation.benchmark.samples()\n"
        "    except Exception:\n        pass",
    ),
    "opens the benchmark": (
        "labels",
        f"{_FITTED}    from trireme.registry import BENCHMARKS\n"
        "    BENCHMARKS.load('mock/zero-shot')('mock/zero-shot').samples()",
    ),
    "not every task": (
        "tasks",
        "tasks = frozenset({Task.ZERO_SHOT, Task.DETECTION})\ndef predict(self, samples):\n"
        "    if samples[0].image.region: raise ValueError('no boxes please')\n    return super().predict(samples)",
    ),
}
"""What is wrong -> the rule that it breaks, and the code that does so on top of a good method."""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`plugin(code)`: the class Bad, that is Good with this in its body, in a module which other processes find."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(code: str) -> Any:
        name = f"bad_{abs(hash(code))}"
        body = textwrap.indent(code or "pass", "    ")
        (tmp_path / f"{name}.py").write_text(f"{GOOD}\n\nclass Bad(Good):\n{body}\n")
        return __import__(name).Bad

    return make


def test_the_method_that_the_bad_ones_come_from_is_good(plugin: Any) -> None:
    report = check_method(plugin(""))
    assert report.passed, report


@pytest.mark.parametrize("what", list(BAD))
def test_a_bad_method_is_told_by_the_rule_that_it_breaks(what: str, plugin: Any) -> None:
    rule, code = BAD[what]
    report = check_method(plugin(code), rules=[rule])
    assert report.broken == (rule,), report
    [line] = [line for line in str(report).splitlines() if line.startswith("FAIL") and f"  {rule}" in line]
    assert line.split()[:3] == ["FAIL", "Bad", rule]
    assert len(line.split()) > 3, "how it is broken is told"


def test_class_indices_that_are_off_are_a_warning(plugin: Any) -> None:
    """The mock encoder knows the names: nearly all are right, and none with every class moved by one."""
    right = check_method(plugin(""), rules=["tasks"])
    assert right.outcomes[0].detail == "zero_shot 100 %"
    code = f"def predict(self, samples):\n    p = {_BASE}\n    p.ranked = (p.ranked + 1) % 8\n    return p"
    moved = check_method(plugin(code), rules=["tasks"])
    assert moved.passed
    assert moved.outcomes[0].status == "warn"
    assert "zero_shot 0 % of the first classes are right; chance gives 12.5 %" in str(moved)
    assert str(moved).endswith("0 passed, 1 doubtful, 0 broken, 0 skipped")


def test_nothing_else_is_looked_at_without_a_declaration(plugin: Any) -> None:
    report = check_method(plugin("version = '1'"))
    assert report.broken == ("declaration",)
    assert {(one.status, one.detail) for one in report.outcomes[1:]} == {("skip", "see declaration")}


def test_what_was_not_checked_is_told_in_one_line() -> None:
    def unable(trial: object) -> str:
        raise NotCheckedError("two\n   lines")

    told = Report("method", "one", "here", run_rules({"resume": unable}, None))
    assert str(told).splitlines() == [
        "skip  one  resume  two lines",
        "method one (here): 0 passed, 0 broken, 1 skipped, resume NOT checked",
    ]


def test_a_bad_benchmark_is_told() -> None:
    """One flaw each in what is otherwise a mock benchmark."""
    from dataclasses import replace

    good: Any = open_benchmark("mock/zero-shot")
    samples = good.samples()
    bad: dict[str, Any] = {
        "declaration": lambda name: replace(good, class_names=good.class_names[1:]),
        "samples": lambda name: replace(good, rows={Role.TEST: [*samples, samples[0]]}),
        "hashes": lambda name: replace(
            good, rows={Role.TEST: [replace(s, image=replace(s.image, sha256="0" * 64)) for s in samples]}
        ),
        "validation": lambda name: replace(
            good, rows={Role.TEST: open_benchmark("mock/validation").samples(Role.VALIDATION)}
        ),
    }
    for rule, opener in bad.items():
        assert check_benchmark(opener).broken[:1] == (rule,), rule
    opened = iter(range(10))
    turning = lambda name: replace(good, rows={Role.TEST: samples if next(opened) else samples[::-1]})  # noqa: E731
    assert check_benchmark(turning).broken == ("stable",)

    class Blind(type(good)):  # type: ignore[misc]
        def score(self, ranked: Any, labels: Any) -> Any:
            return {"top1": 0 * labels.astype("float32")}

    assert check_benchmark(lambda name: Blind(**{f: getattr(good, f) for f in good.__dataclass_fields__})).broken == (
        "score",
    )


def test_a_bad_encoder_is_told() -> None:
    class Loud(MockEncoder):
        def encode_pixels(self, pixels: torch.Tensor) -> Any:
            return 2 * super().encode_pixels(pixels)

    class Crowd(MockEncoder):
        def encode_texts(self, texts: Any) -> Any:
            rows = super().encode_texts(texts) + (0.1 if len(texts) > 1 else 0)
            return (rows / (rows**2).sum(axis=1, keepdims=True) ** 0.5).astype("float32")

    class Stamped(MockEncoder):
        count = 0

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            Stamped.count += 1
            self.fingerprint = f"{Stamped.count:016x}"

    class Vague(MockEncoder):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.fingerprint = "0" * 16

    assert check_encoder(Vague).broken == ("fingerprint",)
    assert "with trace=1.5 it gives other embeddings under the same fingerprint" in str(check_encoder(Vague))
    assert check_encoder(Loud).broken == ("unit-length",)
    assert check_encoder(Crowd).broken == ("batches",)
    assert "determinism" in check_encoder(Stamped).broken


def test_a_bad_ranker_is_told() -> None:
    class Rude(MockRanker):
        def _values(self, prompt: Any, names: Any) -> Any:
            found = super()._values(prompt, names)
            if isinstance(found, str):
                raise OSError(found)
            return found

    class Dreamer(MockRanker):
        def choose(self, prompts: Any, choices: Any) -> Any:
            return super().choose(prompts, [["a unicorn"] for _ in prompts])

    assert check_ranker(Rude).broken == ("failures",)
    assert check_ranker(Dreamer).broken == ("choices",)
