"""The local ranker: which engine it is, what it hands on, and that one model at a time is held."""

from __future__ import annotations

from typing import Any

import pytest

from trireme import compose
from trireme.errors import UsageError
from trireme.methods.rankers import local
from trireme.methods.rankers.base import Closable, Engine, Prompt
from trireme.methods.rankers.delegate import InTurn, Turns
from trireme.methods.rankers.hf import TransformersEngine
from trireme.methods.rankers.local import LocalEngine, LocalRankerConfig
from trireme.methods.rankers.vllm import VllmEngine
from trireme.request import parse_parts
from trireme.runner import run_plan
from trireme.workbench import Workbench

from .scripted import ScriptedEngine


def chosen(**options: Any) -> Any:
    engine = LocalEngine(LocalRankerConfig(**options))
    assert isinstance(engine, Engine)
    assert isinstance(engine, Closable)
    return engine.engine


def test_options_reach_the_engine_that_runs() -> None:
    given = {"memory": 0.5, "cache_gib": 2, "images": 3, "implementation": "transformers", "tensor_parallel": 2}
    vllm = chosen(engine="vllm", batch=256, image_size=64, vllm=given)
    assert isinstance(vllm, VllmEngine)
    assert {name: getattr(vllm.config, name) for name in given} == given
    assert (vllm.config.batch, vllm.config.image_size, vllm.batch) == (256, 64, 256)
    torch = chosen(engine="transformers", batch=5, device="cpu", vllm=given)
    assert isinstance(torch, TransformersEngine)
    assert (torch.config.batch, torch.config.device) == (5, "cpu")
    assert chosen(engine="vllm").config == VllmEngine.Config()
    assert chosen(engine="transformers").config == TransformersEngine.Config()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vllm": {"memry": 0.5}}, "unknown option of ranker.vllm 'memry'; did you mean 'memory'"),
        ({"vllm": {"batch": 3}}, r"set ranker\.batch"),
        ({"vllm": {"model": "x"}}, r"set ranker\.model"),
        ({"vllm": {"memory": "much"}}, "vllm.memory=much is no float"),
        ({"vllm": {"images": 2.5}}, "vllm.images=2.5 is no int"),
        ({"vllm": {"images": True}}, "vllm.images=True is no int"),
        ({"vllm": {"images": 0}}, "1 or more"),
        ({"vllm": {"compile": "maybe"}}, "none of auto"),
        ({"batch": -1}, "1 or more"),
        ({"engine": "vlm"}, "did you mean 'vllm'"),
    ],
)
def test_options_are_checked_early_whatever_engine_runs(options: dict[str, Any], message: str) -> None:
    for engine in ("transformers", "auto"):
        with pytest.raises(UsageError, match=message):
            LocalEngine(LocalRankerConfig(**{"engine": engine, **options}))


def test_the_command_line_reaches_them() -> None:
    component, _ = compose.ranker("lite", {"engine": "vllm", "vllm.cache_gib": "0.5", "batch": "32"}, None)
    engine = LocalEngine(component.config).engine
    assert isinstance(engine, VllmEngine)
    assert (engine.config.cache_gib, engine.config.batch, engine.config.model) == (0.5, 32, "lite")


class Holder(ScriptedEngine):
    """Notes when it takes its model and lets it go."""

    log: list[str]

    def __init__(self, config: Any) -> None:
        super().__init__(lambda p: "x", name=config if isinstance(config, str) else "holder")
        self._held = False

    def generate(self, prompts: Any, max_tokens: int) -> Any:
        if not self._held:
            self.log.append(f"+{self.name}")
        self._held = True
        return super().generate(prompts, max_tokens)

    def close(self) -> None:
        if self._held:
            self.log.append(f"-{self.name}")
        self._held = False


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the holders note; every ranker name is one of them, those that begin with s hold nothing."""
    lines: list[str] = []
    monkeypatch.setattr(Holder, "log", lines, raising=False)

    class Found:
        def __init__(self, name: str) -> None:
            self.config = name

    def find(name: str, overrides: Any, device: Any) -> tuple[Found, Any]:
        served: Any = lambda config: ScriptedEngine(lambda p: "x", name=config)  # noqa: E731
        return Found(name), served if name.startswith("s") else Holder

    monkeypatch.setattr("trireme.compose.ranker", find)
    return lines


PROMPT = [Prompt((), ("?",))]


def test_the_one_before_lets_go_before_another_one_is_asked(log: list[str]) -> None:
    """Opening, names and fingerprints close nothing; an engine that holds no model closes none."""
    bench = Workbench(parse_parts([]))
    a, b, s = (bench.ranker(name) for name in ("a", "b", "s"))
    assert isinstance(a, Engine)
    assert (a.name, a.fingerprint, a.told) == ("a", "a", "none")
    for engine in (a, a, s, b, s, bench.ranker("b"), a):
        assert engine.generate(PROMPT, 1)[0].text == "x"
        assert (b.name, bench.ranker("a").name) == ("b", "a")
    assert log == ["+a", "-a", "+b", "-b", "+a"]
    bench.close()
    bench.close()
    assert log[-1] == "-a"
    a.generate(PROMPT, 1)
    assert log[-1] == "+a", "a closed engine starts again"


@pytest.mark.parametrize("broken", [False, True])
def test_a_plan_closes_all_at_its_end(log: list[str], broken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def plan(request: Any, bench: Workbench) -> tuple[list[Any], list[Any]]:
        bench.ranker("a").generate(PROMPT, 1)
        if broken:
            raise UsageError("nothing can be planned")
        return [], []

    monkeypatch.setattr("trireme.runner.make_plan", plan)
    if broken:
        with pytest.raises(UsageError):
            run_plan(parse_parts([]), [])
    else:
        run_plan(parse_parts([]), [])
    assert log == ["+a", "-a"]


def test_a_local_engine_closes_the_one_that_it_is(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = LocalEngine(LocalRankerConfig(engine="transformers"))
    monkeypatch.setitem(engine.__dict__, "engine", Holder("t"))
    turns = Turns()
    InTurn(engine, turns).generate(PROMPT, 1)
    turns.close()
    assert log == ["+t", "-t"]


def test_a_hub_id_without_a_revision_is_noted_once(capsys: pytest.CaptureFixture[str]) -> None:
    for engine in ("vllm", "transformers", "vllm"):
        assert chosen(model="org/nobody-has-this", engine=engine).fingerprint
        assert chosen(model="org/nobody-has-this", revision="abc", engine=engine).fingerprint
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("note: nothing tells which version of org/nobody-has-this answers; set ranker.revision=")


def test_auto_is_vllm_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, kind in ((object(), VllmEngine), (None, TransformersEngine)):
        monkeypatch.setattr(local, "find_spec", lambda name, found=found: found)
        assert isinstance(chosen(), kind)
