"""Do the three routes to one model give the same order? The lite ranker in float32, greedy, 200 prompts a mode.

Not a matter of speed: it is run here because it asks 2,400 questions. Prompts that differ are listed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.bench_ranker import validation_questions
from trireme.errors import TriremeError
from trireme.methods.rankers.base import Answer, Engine, Mode, Question
from trireme.methods.rankers.checkpoint import open_checkpoint
from trireme.methods.rankers.hf import TransformersEngine
from trireme.methods.rankers.rank import Asking, rank
from trireme.methods.rankers.server import ServerEngine
from trireme.methods.rankers.vllm import VllmEngine
from trireme.progress import say

PROMPTS, TOKENS, STARTS = 200, 24, 300.0


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
    """vLLM's own server on loopback, with the lite ranker and its adapter."""
    place = open_checkpoint(TransformersEngine.Config())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        process = _start(place.model, place.adapter, port, log)
        try:
            _wait(process, port, log)
            yield ServerEngine(ServerEngine.Config(base_url=f"http://127.0.0.1:{port}/v1", model="tuned"))
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _start(model: str, adapter: str, port: int, log: Path) -> subprocess.Popen[bytes]:
    options = {
        "model": model,
        "served-model-name": "base",
        "host": "127.0.0.1",
        "port": port,
        "dtype": "float32",
        "max-model-len": 512,
        "max-num-seqs": 32,
        "max-lora-rank": 16,
        "lora-modules": f"tuned={adapter}",
        "kv-cache-memory-bytes": 1 << 30,
        "generation-config": "vllm",
    }
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enable-lora", "--enforce-eager"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    quiet = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING", "VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}
    with log.open("wb") as output:
        return subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | quiet, cwd=log.parent, start_new_session=True
        )


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + STARTS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise TriremeError(f"vLLM's server ended: {log.read_text(errors='replace')[-500:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise TriremeError(f"vLLM's server did not answer within {STARTS:.0f} s")
