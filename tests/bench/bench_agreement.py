"""Do the three routes to one model give the same order? The lite ranker in float32, greedy, 200 prompts a mode.

Not a matter of speed: it is run here because it asks 2,400 questions. Prompts that differ are listed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.bench_ranker import validation_questions
from tests.methods.vllm_server import vllm_server
from trireme.methods.rankers.base import Answer, Engine, Mode, Question
from trireme.methods.rankers.checkpoint import open_checkpoint
from trireme.methods.rankers.hf import TransformersEngine
from trireme.methods.rankers.merge import merged
from trireme.methods.rankers.rank import Asking, rank
from trireme.methods.rankers.server import ServerEngine
from trireme.methods.rankers.vllm import VllmEngine
from trireme.progress import say

PROMPTS, TOKENS = 200, 24


def bench_agreement() -> list[dict[str, Any]]:
    """One row a mode: how many of the prompts get the order of transformers."""
    questions = validation_questions(PROMPTS)
    reference = _ask("transformers", TransformersEngine(TransformersEngine.Config(dtype="float32")), questions)
    in_process = VllmEngine(VllmEngine.Config(dtype="float32"))
    routes = {"vllm": _ask("vllm", in_process, questions)}
    in_process.close()
    with _served() as engine:
        routes["vllm-server"] = _ask("vllm-server", engine, questions)
    rows = []
    for mode in Mode:
        row: dict[str, Any] = {"mode": str(mode), "prompts": len(questions)}
        for name, answers in routes.items():
            pairs = list(zip(reference[mode], answers[mode], strict=True))
            differ = [i for i, (one, other) in enumerate(pairs) if one.order != other.order]
            row[f"{name}: same order, %"] = 100 * (1 - len(differ) / len(questions))
            for i in differ[:5]:
                one, other = pairs[i]
                say(f"{mode}, {name}, {questions[i].image.path}: {_told(one)} but {_told(other)}")
        rows.append(row)
    return rows


def _ask(name: str, engine: Engine, questions: Sequence[Question]) -> dict[Mode, list[Answer]]:
    found = {}
    for mode in Mode:
        start = time.perf_counter()
        wording = "name" if mode is Mode.SCORE else "paper"
        found[mode] = rank(engine, questions, Asking(mode, wording=wording, max_tokens=TOKENS))
        say(f"{name}, {mode}: {len(questions) / (time.perf_counter() - start):.1f} questions/s")
    return found


def _told(answer: Answer) -> str:
    return f"{answer.order} {answer.reply!r}" if answer.scores is None else str([round(s, 4) for s in answer.scores])


@contextmanager
def _served() -> Iterator[ServerEngine]:
    """vLLM's own server with the lite ranker, its adapter merged as the engine in process has it."""
    model = merged(open_checkpoint(TransformersEngine.Config()), "float32")
    with tempfile.TemporaryDirectory() as folder:
        options = {"model": model, "served_model_name": "lite", "max_model_len": 512, "max_num_seqs": 32}
        room = {"kv_cache_memory_bytes": 1 << 30}
        with vllm_server(Path(folder) / "server.log", **options, **room) as (_, url):
            yield ServerEngine(ServerEngine.Config(base_url=url, model="lite"))
