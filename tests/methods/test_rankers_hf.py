"""The reference engine against bare transformers: one prompt at a time, no cache, on tiny random models."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from trireme.errors import UsageError
from trireme.methods.rankers.base import Engine, Generated, Prompt, Question, Scored
from trireme.methods.rankers.hf import TransformersEngine
from trireme.methods.rankers.prompts import choice_prompt, letters_prompt, list_prompt
from trireme.types import ImageRef

from .tiny_mllm import tiny_fastvlm, tiny_llava, tiny_qwen

FAMILIES: dict[str, Callable[[Path], Path]] = {"llava": tiny_llava, "qwen": tiny_qwen, "fastvlm": tiny_fastvlm}
NAMES = ("red fruit", "colt's foot", "green bird", "bird", "fruit, red and green")


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILIES[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture
def engine(folder: Path) -> TransformersEngine:
    return TransformersEngine(TransformersEngine.Config(model=str(folder), dtype="float32", batch=4))


@pytest.fixture
def questions(tmp_path: Path) -> list[Question]:
    """Three pictures; different numbers of candidates, so that prompts differ in length."""
    made = []
    for i, colour in enumerate(("red", "green", "blue")):
        path = tmp_path / f"{colour}.png"
        Image.new("RGB", (56, 56), colour).save(path)
        made.append(Question(ImageRef(str(path)), NAMES[i : i + 2 + i]))
    return made


class Bare:
    """transformers alone: the whole text at once, every token's log-probability from one pass."""

    def __init__(self, folder: Path) -> None:
        self.processor = AutoProcessor.from_pretrained(folder)
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()

    def inputs(self, prompt: Prompt) -> dict[str, torch.Tensor]:
        content = [{"type": "image"} for _ in prompt.images] + [{"type": "text", "text": "".join(prompt.texts)}]
        turns = [{"role": "user", "content": content}]
        text = self.processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False) + prompt.answer
        images = [Image.open(ref.path) for ref in prompt.images if ref is not None]
        starts = self.processor.tokenizer.bos_token
        special = not (starts and text.startswith(starts))
        return dict(self.processor(text=[text], images=[images], add_special_tokens=special, return_tensors="pt"))

    @torch.inference_mode()
    def log_probability(self, prompt: Prompt, continuation: str) -> float:
        found = self.inputs(prompt)
        added = self.processor.tokenizer(continuation, add_special_tokens=False, return_tensors="pt")["input_ids"]
        length = found["input_ids"].shape[1]
        whole = {**found, "input_ids": torch.cat([found["input_ids"], added], 1)}
        whole["attention_mask"] = torch.ones_like(whole["input_ids"])
        if "mm_token_type_ids" in whole:
            zeros = torch.zeros_like(added)
            whole["mm_token_type_ids"] = torch.cat([whole["mm_token_type_ids"], zeros], 1)
        logits = self.model(**whole).logits[0, length - 1 : -1].log_softmax(-1)
        return float(logits.gather(1, added[0][:, None]).sum())


def test_scores_are_the_log_probabilities_of_one_whole_pass(
    folder: Path, engine: Engine, questions: list[Question]
) -> None:
    prompts = [list_prompt(question, "paper") for question in questions]
    texts = [[f"[{name!r}" for name in question.candidates] for question in questions]
    bare = Bare(folder)
    for prompt, continuations, found in zip(prompts, texts, engine.score(prompts, texts), strict=True):
        expected = [bare.log_probability(prompt, text) for text in continuations]
        assert found.sums == pytest.approx(expected, abs=2e-4)
        assert found.tokens == tuple(
            len(bare.processor.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in continuations
        )


def test_free_decoding_is_that_of_generate_one_at_a_time(
    folder: Path, engine: Engine, questions: list[Question]
) -> None:
    prompts, bare = [list_prompt(question, "code") for question in questions], Bare(folder)
    for prompt, found in zip(prompts, engine.generate(prompts, 12), strict=True):
        inputs = bare.inputs(prompt)
        made = bare.model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert found.text == bare.processor.tokenizer.decode(made, skip_special_tokens=True)
        assert (found.prompt_tokens, found.completion_tokens) == (inputs["input_ids"].shape[1], len(made))


def test_a_choice_takes_the_likeliest_token_that_still_spells_one_at_every_step(
    folder: Path, engine: Engine, questions: list[Question]
) -> None:
    # by characters, as vLLM's structured outputs do: every token of the vocabulary is tried here
    prompts, bare = [choice_prompt(question) for question in questions], Bare(folder)
    tokeniser = bare.processor.tokenizer
    before = tokeniser("a", add_special_tokens=False)["input_ids"][-1:]
    pieces = [
        tokeniser.decode([*before, token]).removeprefix(tokeniser.decode(before)) for token in range(len(tokeniser))
    ]
    special = set(tokeniser.all_special_ids)
    for question, prompt, found in zip(
        questions, prompts, engine.choose(prompts, [q.candidates for q in questions]), strict=True
    ):
        inputs, written = bare.inputs(prompt), ""
        while written not in question.candidates or any(
            name.startswith(written) and name != written for name in question.candidates
        ):
            with torch.inference_mode():
                logits = bare.model(**inputs).logits[0, -1]
            allowed = [
                token
                for token, piece in enumerate(pieces)
                if piece
                and token not in special
                and any(name.startswith(written + piece) for name in question.candidates)
            ]
            if written in question.candidates:
                allowed.append(tokeniser.eos_token_id)
            best = max(allowed, key=lambda token: float(logits[token]))
            if best == tokeniser.eos_token_id:
                break
            written += pieces[best]
            inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([[best]])], 1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            if "mm_token_type_ids" in inputs:
                inputs["mm_token_type_ids"] = torch.cat(
                    [inputs["mm_token_type_ids"], torch.zeros(1, 1, dtype=torch.long)], 1
                )
        assert found.text == written
        assert found.text in question.candidates


def test_letters_are_the_next_tokens_of_the_whole_vocabulary(
    folder: Path, engine: Engine, questions: list[Question]
) -> None:
    asked = [letters_prompt(question) for question in questions]
    found = engine.next_token([prompt for prompt, _ in asked], [letters for _, letters in asked])
    bare = Bare(folder)
    for (prompt, letters), scored in zip(asked, found, strict=True):
        assert scored.sums == pytest.approx([bare.log_probability(prompt, letter) for letter in letters], abs=2e-4)
        assert scored.tokens == (1,) * len(letters)


def test_an_answer_does_not_depend_on_what_else_is_asked(engine: Engine, questions: list[Question]) -> None:
    prompts = [list_prompt(question, "paper") for question in questions]
    texts = [[f"[{name!r}" for name in question.candidates] for question in questions]
    together, backwards = engine.score(prompts, texts), engine.score(prompts[::-1], texts[::-1])[::-1]
    alone = [engine.score([prompt], [text])[0] for prompt, text in zip(prompts, texts, strict=True)]
    for one, two, three in zip(together, backwards, alone, strict=True):
        assert one.sums == pytest.approx(two.sums, abs=1e-4)
        assert one.sums == pytest.approx(three.sums, abs=1e-4)


def test_a_blank_picture_changes_the_scores(engine: Engine, questions: list[Question]) -> None:
    prompt = list_prompt(questions[0], "paper")
    texts = [["['red fruit'", "['bird'"]]
    shown = engine.score([prompt], texts)[0]
    blank = engine.score([Prompt((None,), prompt.texts)], texts)[0]
    assert shown.sums != pytest.approx(blank.sums, abs=1e-6)


def test_a_prompt_that_fails_fails_alone(folder: Path, questions: list[Question], tmp_path: Path) -> None:
    """One too long for `context`, for good; one whose picture cannot be read, until it can. The others as without."""
    (tmp_path / "broken.png").write_bytes(b"no picture")
    good = list_prompt(questions[0], "paper")
    broken = Prompt((ImageRef(str(tmp_path / "broken.png")),), good.texts)
    long = Prompt(good.images, ("", "the bird " * 300))
    free = TransformersEngine(TransformersEngine.Config(model=str(folder), dtype="float32"))
    longest = free.generate([good], 1)[0].prompt_tokens
    engine = TransformersEngine(TransformersEngine.Config(model=str(folder), dtype="float32", context=longest))
    prompts = [long, good, broken, good]
    words, letters = [["a", "red fruit"]] * 4, [["A", "B", "C"]] * 4
    for found, alone in (
        (engine.generate(prompts, 4), free.generate([good], 4)),
        (engine.choose(prompts, words), free.choose([good], words[:1])),
        (engine.score(prompts, words), free.score([good], words[:1])),
        (engine.next_token(prompts, letters), free.next_token([good], letters[:1])),
    ):
        assert [bool(one.failed) for one in found] == [True, False, True, False]
        assert [one.permanent for one in found] == [True, False, False, False]
        assert f"more than context={longest}" in found[0].failed
        assert "broken.png" in found[2].failed
        if isinstance(alone[0], Generated):
            assert found[1] == found[3] == alone[0]
        else:
            assert isinstance(found[3], Scored)
            assert found[3].sums == pytest.approx(alone[0].sums, abs=1e-4)
            assert [len(one.tokens) for one in found if isinstance(one, Scored)] == [len(alone[0].tokens)] * 4


def test_a_closed_engine_lets_go_and_starts_again(engine: TransformersEngine, questions: list[Question]) -> None:
    prompt = list_prompt(questions[0], "paper")
    engine.close()  # never asked: nothing to do
    before = engine.generate([prompt], 4)
    model = weakref.ref(engine._model)
    engine.close()
    assert model() is None
    assert engine.generate([prompt], 4) == before


def test_an_option_of_several_tokens_is_refused(engine: Engine, questions: list[Question]) -> None:
    with pytest.raises(UsageError, match="tokens of this model, not one"):
        engine.next_token([list_prompt(questions[0], "paper")], [["red fruit"]])
