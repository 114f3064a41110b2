"""Ranking data against RAR's own recipe, and the fine-tuning of a tiny FastVLM with random weights."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoModelForImageTextToText

from trireme.errors import DataError, UsageError
from trireme.methods.rankers import chat
from trireme.methods.rankers.base import Question
from trireme.methods.rankers.checkpoint import open_checkpoint
from trireme.methods.rankers.hf import TransformersEngine
from trireme.methods.rankers.prompts import list_prompt
from trireme.methods.rankers.training import finetune
from trireme.methods.rankers.training.data import Lesson, naming_lessons, ranked_answer, ranking_lessons, windows
from trireme.methods.rankers.training.finetune import FinetuneConfig, Finetuning
from trireme.methods.rankers.training.train import Material, TrainRankerConfig, lessons_of, train_ranker
from trireme.types import ImageRef

from .tiny_mllm import tiny_fastvlm

NAMES = ("red fruit", "green bird", "colt's foot", "bird")
COLOURS = ("red", "green", "blue", "yellow")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_fastvlm(tmp_path_factory.mktemp("fastvlm"))


@pytest.fixture
def refs(tmp_path: Path) -> list[ImageRef]:
    made = []
    for colour in COLOURS:
        path = tmp_path / f"{colour}.png"
        Image.new("RGB", (64, 64), colour).save(path)
        made.append(ImageRef(str(path)))
    return made


@pytest.fixture
def lessons(refs: list[ImageRef]) -> list[Lesson]:
    return naming_lessons(refs, [0, 1, 2, 3], NAMES)


def load(folder: Path) -> tuple[Any, Any]:
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    return model, chat.load_processor(str(folder))


CONFIG = FinetuneConfig(r=4, alpha=8, steps=6, batch=2, lr=1e-2, precision="float32", checkpoint_every=2)


def test_twenty_neighbours_give_sixteen_windows_of_five() -> None:
    # the authors' notebook: 16 windows a picture; those without the true class are dropped
    assert len(windows(7, np.full(20, 7), 5)) == 16
    neighbours = np.array([*range(20)])
    assert windows(0, neighbours, 5) == [(0, 1, 2, 3, 4)]
    assert windows(4, neighbours, 5) == [(s, s + 1, s + 2, s + 3, s + 4) for s in range(5)]
    assert windows(19, neighbours, 5) == [(15, 16, 17, 18, 19)]
    assert windows(20, neighbours, 5) == []


def test_neighbours_of_no_class_are_left_out_and_a_short_list_has_no_window() -> None:
    assert windows(1, np.array([-1, 1, -1, 2, 3]), 3) == [(1, 2, 3)]
    assert windows(1, np.array([1, 2]), 3) == []


def test_the_right_class_comes_first_with_its_repeats() -> None:
    # PAPERS: true-class entries first (duplicates kept), then retrieval order
    assert ranked_answer(3, (1, 3, 2, 3, 1)) == [3, 3, 1, 2, 1]


def test_a_ranking_lesson_asks_in_retrieval_order_and_answers_by_the_label(refs: list[ImageRef]) -> None:
    made = ranking_lessons(refs[:1], [2], np.array([[1, 2, 0]]), NAMES, size=3)
    assert made == [
        Lesson(
            list_prompt(Question(refs[0], ("green bird", "colt's foot", "red fruit")), "paper"),
            "[\"colt's foot\", 'green bird', 'red fruit']",
        )
    ]


def test_shuffling_moves_the_candidates_and_not_the_answer(refs: list[ImageRef]) -> None:
    neighbours = np.array([[1, 2, 0]] * 4)
    kept = ranking_lessons(refs, [2] * 4, neighbours, NAMES, size=3)
    moved = ranking_lessons(refs, [2] * 4, neighbours, NAMES, size=3, shuffle=1)
    assert [one.answer for one in moved] == [one.answer for one in kept]
    assert [one.prompt for one in moved] != [one.prompt for one in kept]
    assert moved == ranking_lessons(refs, [2] * 4, neighbours, NAMES, size=3, shuffle=1)


def test_only_the_lora_and_the_named_parts_change(folder: Path, lessons: list[Lesson], tmp_path: Path) -> None:
    model, processor = load(folder)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tuning = Finetuning(model, processor, replace(CONFIG, parts=["model.multi_modal_projector."]), lessons, tmp_path, 0)
    tuning.run()
    after = {
        name.removeprefix("base_model.model.").replace(".base_layer.", "."): value
        for name, value in tuning.adapted.state_dict().items()
        if "lora_" not in name
    }
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {name for name in before if "multi_modal_projector" in name}
    assert any(bool(value.any()) for name, value in tuning.adapted.state_dict().items() if "lora_B" in name)


def test_a_lora_may_sit_on_the_last_blocks_only(folder: Path, lessons: list[Lesson], tmp_path: Path) -> None:
    model, processor = load(folder)
    tuning = Finetuning(model, processor, replace(CONFIG, layers=1), lessons, tmp_path, 0)
    blocks = {re.findall(r"layers\.(\d+)", name)[0] for name in tuning.trainable}
    assert blocks == {str(model.config.get_text_config().num_hidden_layers - 1)}


def test_the_loss_is_that_of_the_answers_tokens_alone(folder: Path, lessons: list[Lesson], tmp_path: Path) -> None:
    # computed here from one unpadded pass a lesson: mean over the tokens of all answers and their end of turn
    model, processor = load(folder)
    total, count = 0.0, 0
    for lesson in lessons[:2]:
        text = chat.render(processor, lesson.prompt)
        special = chat.adds_special_tokens(processor, text)
        inputs = processor(
            text=[text], images=[chat.pictures(lesson.prompt)], add_special_tokens=special, return_tensors="pt"
        )
        answer = processor.tokenizer(lesson.answer, add_special_tokens=False)["input_ids"] + [
            processor.tokenizer.eos_token_id
        ]
        start = inputs["input_ids"].shape[1]
        inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([answer])], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        with torch.no_grad():
            logits = model.eval()(**inputs).logits[0, start - 1 : -1]
        total += float(F.cross_entropy(logits, torch.tensor(answer), reduction="sum"))
        count += len(answer)
    config = replace(CONFIG, steps=1, dropout=0.0)
    tuning = Finetuning(model, processor, config, lessons[:2], tmp_path, 0)
    tuning.run()
    assert tuning.losses == [pytest.approx(total / count, abs=1e-3)]


def test_a_killed_training_goes_on_to_the_same_weights(
    folder: Path, lessons: list[Lesson], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Finetuning(*load(folder), CONFIG, lessons, tmp_path / "whole", 0)
    whole.run()
    original, steps = Finetuning._step, iter(range(10))

    def dies(self: Finetuning, step: int, optimiser: torch.optim.Optimizer) -> float:
        if next(steps) == 5:
            raise KeyboardInterrupt
        return original(self, step, optimiser)

    with monkeypatch.context() as patch:
        patch.setattr(finetune.Finetuning, "_step", dies)
        with pytest.raises(KeyboardInterrupt):
            Finetuning(*load(folder), CONFIG, lessons, tmp_path / "killed", 0).run()
    again = Finetuning(*load(folder), CONFIG, lessons, tmp_path / "killed", 0)
    again.run()
    assert again.losses == whole.losses
    for name, value in whole.trainable.items():
        assert torch.equal(value, again.trainable[name]), name


def test_training_teaches_the_names(folder: Path, lessons: list[Lesson], tmp_path: Path) -> None:
    tuning = Finetuning(
        *load(folder), replace(CONFIG, steps=60, batch=4, parts=["model.multi_modal_projector."]), lessons, tmp_path, 0
    )
    facts = tuning.run()
    assert facts["losses"][0] < 2.0  # four names of about five tokens; an untrained model starts above 5


def material(refs: list[ImageRef]) -> Material:
    neighbours = np.array([[0, 1, 2], [1, 3, 0], [2, 0, 1], [3, 1, 2]])
    return Material(refs, [0, 1, 2, 3], neighbours, NAMES, {"pairs": []})


def test_the_adapter_and_the_merged_checkpoint_are_what_engines_load(
    folder: Path, refs: list[ImageRef], tmp_path: Path
) -> None:
    config = TrainRankerConfig(
        **{**vars(CONFIG), "dropout": 0.0}, model=str(folder), lessons="both", neighbours=3, window=3
    )
    adapter = train_ranker(config, material(refs), tmp_path / "out", "mine", tmp_path / "merged")
    asked = {"dtype": "float32"}
    base = TransformersEngine(TransformersEngine.Config(model=str(folder), **asked))
    adapted = TransformersEngine(TransformersEngine.Config(model=str(folder), adapter=str(adapter), **asked))
    merged = TransformersEngine(TransformersEngine.Config(model=str(tmp_path / "merged"), **asked))
    prompts = [list_prompt(Question(ref, NAMES), "paper") for ref in refs]
    texts = [[f"[{name!r}" for name in NAMES]] * 4
    plain, one, two = (engine.score(prompts, texts) for engine in (base, adapted, merged))
    for before, after, whole in zip(plain, one, two, strict=True):
        assert after.sums != pytest.approx(before.sums, abs=1e-3)
        assert after.sums == pytest.approx(whole.sums, abs=0.5)  # the merged weights are stored as bfloat16
    assert (base.told, adapted.told, merged.told) == ("none", "labels", "labels")
    record = json.loads((adapter / "ranker.json").read_text())
    assert record["pictures"]["count"] == 4
    assert record["finetuning"]["lessons"] == 8
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in adapter.iterdir()}
    assert all("language_model" in name for name in load_file(adapter / "adapter_model.safetensors"))
    assert open_checkpoint(adapted.config).identity != open_checkpoint(base.config).identity
    assert not list((tmp_path / "out").glob(".*partial"))


def test_what_cannot_be_trained_is_refused_in_one_line(folder: Path, refs: list[ImageRef], tmp_path: Path) -> None:
    model, processor = load(folder)
    with pytest.raises(DataError, match="nothing to train"):
        Finetuning(model, processor, CONFIG, [], tmp_path, 0)
    lessons = naming_lessons(refs, [0, 1, 2, 3], NAMES)
    with pytest.raises(UsageError, match=r"no parameter whose name starts with 'model\.projector'"):
        Finetuning(*load(folder), replace(CONFIG, parts=["model.projector"]), lessons, tmp_path, 0)
    with pytest.raises(UsageError, match="layers=9"):
        Finetuning(*load(folder), replace(CONFIG, layers=9), lessons, tmp_path, 0)
    with pytest.raises(UsageError, match="lr"):
        Finetuning(model, processor, replace(CONFIG, lr=0.0), lessons, tmp_path, 0)
    with pytest.raises(UsageError, match="did you mean 'ranking'"):
        lessons_of(TrainRankerConfig(lessons="rankings"), material(refs))
    with pytest.raises(DataError, match="no window of neighbours"):
        lessons_of(TrainRankerConfig(neighbours=5, window=5), material(refs))


def test_a_diverged_training_says_so(folder: Path, lessons: list[Lesson], tmp_path: Path) -> None:
    tuning = Finetuning(*load(folder), CONFIG, lessons, tmp_path, 0)
    with torch.no_grad():
        next(iter(tuning.trainable.values())).fill_(float("nan"))
    with pytest.raises(DataError, match="not finite in step 1"):
        tuning.run()
