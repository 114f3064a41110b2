"""The process in which vLLM runs: it loads the model, answers batches of requests, and ends with its parent.

Of its own, since vLLM takes a process over: it changes classes of transformers, torch's threads, logging and signal
handlers, and on a CPU its usual two processes are two more copies of every library. Only `vllm_runtime` starts it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from PIL.Image import Image

from trireme.methods.rankers.choices import decisive

_GIB = 1 << 30
_LOOK = 1.0  # seconds
_CPU_CACHE_GIB = 1.0
_CPU_BLOCK = 32  # tokens; the smallest block that vLLM's attention on a CPU takes, so that most of a prompt is shared
IDS_AT_ONCE = 128
"""The most `Request.first` that vLLM takes."""


@dataclass(frozen=True, slots=True)
class Start:
    """How the model is loaded.

    Attributes:
        options: of `vllm.LLM`, where they do not depend on the machine.
        cache_gib: of keys and values; 0 leaves it to vLLM, without a GPU 1 GiB.
        compile: "on", "off", "auto" (with a GPU only).
        adapter: folder of a LoRA adapter, "" for none.
    """

    options: Mapping[str, Any]
    cache_gib: float
    compile: str
    adapter: str


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt and what is wanted of it.

    Attributes:
        ids: tokens of the text, one placeholder for each picture.
        max_tokens: decoded greedily.
        choice: the text must begin one of them, and ends where only one is left; empty: it is free.
        first: tokens whose log-probabilities right after the prompt are wanted.
        tail: so many tokens at the end of the prompt whose own log-probabilities are wanted.
        cached: may start from what vLLM has in its cache. A `tail` is then None where the cache reaches into it.
    """

    ids: tuple[int, ...]
    images: tuple[Image, ...]
    max_tokens: int = 1
    choice: tuple[str, ...] = ()
    first: tuple[int, ...] = ()
    tail: int = 0
    cached: bool = True


@dataclass(frozen=True, slots=True)
class Output:
    """What vLLM answers. `prompt_tokens` counts pictures with all of theirs."""

    text: str
    prompt_tokens: int
    tokens: int
    first: Mapping[int, float]
    tail: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no output; of one prompt where `fatal` is False."""

    reason: str
    fatal: bool = False


def main(connection: Connection) -> None:
    """Load, say so, then answer batches until the parent is gone or says None."""
    try:
        served = _Served(connection.recv())
    except Exception as error:  # pydantic, torch, transformers and vLLM each raise their own kinds
        connection.send(Failure(brief(error), fatal=True))
        return
    connection.send([])
    while (requests := connection.recv()) is not None:
        try:
            connection.send(served.answer(requests))
        except Exception as error:
            connection.send(Failure(brief(error), fatal=True))
            raise


def end_with(parent: int) -> None:
    """End this process, and whatever vLLM started, soon after its parent ended: a batch can take minutes."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os.killpg(0, signal.SIGKILL)


def brief(error: BaseException) -> str:
    """An error in one line of at most 300 letters."""
    return " ".join(str(error).split())[:300] or type(error).__name__


class _Served:
    """The loaded model."""

    def __init__(self, start: Start) -> None:
        from vllm import LLM
        from vllm.lora.request import LoRARequest
        from vllm.platforms import current_platform

        cpu = bool(current_platform.is_cpu())
        options = dict(start.options)
        options["enforce_eager"] = cpu if start.compile == "auto" else start.compile == "off"
        if cpu and options["enforce_eager"]:
            _compile_nothing()
        cache = start.cache_gib or (_CPU_CACHE_GIB if cpu else 0.0)
        if cache:
            options["kv_cache_memory_bytes"] = int(cache * _GIB)
        if cpu:
            options["block_size"] = _CPU_BLOCK
        self._lora = LoRARequest("adapter", 1, start.adapter) if start.adapter else None
        self._seed = options["seed"]
        self._llm: Any = LLM(
            max_logprobs=IDS_AT_ONCE,
            logprobs_mode="raw_logprobs",
            enable_prefix_caching=True,
            generation_config="vllm",  # a checkpoint's own sampling defaults would not be greedy
            # Logits of bfloat16 are steps of 1/16 and more: many letters tie, and the order is that of rounding.
            hf_overrides={"head_dtype": "float32"},
            **options,
        )
        if cpu:
            self._llm.apply_model(_float32_head)

    def answer(self, requests: Sequence[Request]) -> list[Output | Failure]:
        """One output a request, in their order.

        vLLM refuses a whole call for one prompt that is too long, before anything is computed: then by halves.
        """
        prompts = [_prompt(request) for request in requests]
        params = [self._params(request) for request in requests]
        try:
            outputs = self._llm.generate(prompts, params, use_tqdm=False, lora_request=self._lora)
        except _refusals() as error:
            if len(requests) == 1:
                return [Failure(f"vLLM refuses the prompt: {brief(error)}")]
            half = len(requests) // 2
            return self.answer(requests[:half]) + self.answer(requests[half:])
        return [_output(request, output) for request, output in zip(requests, outputs, strict=True)]

    def _params(self, request: Request) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        options: dict[str, Any] = {"temperature": 0.0, "seed": self._seed, "max_tokens": request.max_tokens}
        if request.choice:
            options["structured_outputs"] = StructuredOutputsParams(choice=list(request.choice))
            options |= {"stop": decisive(request.choice), "include_stop_str_in_output": True}
        if request.first:
            options["logprob_token_ids"] = list(request.first)
        if request.tail:
            options |= {"prompt_logprobs": 0, "skip_reading_prefix_cache": not request.cached}
        # Where log-probabilities are wanted there is no text to make, and rows of `prompt_logprobs` that were not
        # computed hold anything, not only tokens that there are.
        return SamplingParams(detokenize=not (request.first or request.tail), **options)


def _compile_nothing() -> None:
    """Samplers that vLLM compiles anyway take seconds for every new shape, and are little beside the model."""
    import torch._dynamo

    torch._dynamo.config.disable = True


def _float32_head(model: Any) -> None:
    """The output layer in float32 once: without a GPU vLLM else converts its weights at every call.

    A head of its own may hold the very weights of the word embeddings, which stay as they are. Where the layer of the
    word embeddings itself is the head, nothing is done.
    """
    import torch
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    for module in model.modules():
        if isinstance(module, ParallelLMHead):
            module.weight = torch.nn.Parameter(module.weight.detach().float(), requires_grad=False)


def _refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises for a prompt that it refuses; a class of its own in newer versions, ValueError in older ones."""
    from vllm import exceptions

    own = getattr(exceptions, "VLLMClientError", None)
    return (ValueError, own) if own is not None else (ValueError,)


def _prompt(request: Request) -> dict[str, Any]:
    prompt: dict[str, Any] = {"prompt_token_ids": list(request.ids)}
    if request.images:
        prompt["multi_modal_data"] = {"image": list(request.images)}
    return prompt


def _output(request: Request, output: Any) -> Output:
    made = output.outputs[0]
    first: dict[int, float] = {}
    if request.first:
        first = {int(token): float(value.logprob) for token, value in made.logprobs[0].items()}
    tail = tuple(_tail(request, output)) if request.tail else ()
    whole = len(tail) == request.tail
    return Output(made.text, len(output.prompt_token_ids), len(made.token_ids), first, tail if whole else None)


def _tail(request: Request, output: Any) -> Iterator[float]:
    """Log-probabilities of the last tokens of the prompt; fewer where vLLM took one of them from its cache."""
    before = len(output.prompt_token_ids) - request.tail - 1  # the position that predicts the first of them
    if (output.num_cached_tokens or 0) > before:
        return
    rows = output.prompt_logprobs[-request.tail :]
    for row, token in zip(rows, request.ids[-request.tail :], strict=False):
        if row is not None and token in row:
            yield float(row[token].logprob)


if __name__ == "__main__":
    # Where the user has not set them: vLLM reports to its makers; threads that wait long for each other by spinning are
    # ten times slower on a machine that has other work (libgomp reads this when torch is imported); and without a GPU
    # the model runs in this very process.
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    # Under its own name: what is sent has these classes, not those of `__main__`.
    from trireme.methods.rankers import vllm_child

    threading.Thread(target=vllm_child.end_with, args=(os.getppid(),), daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        vllm_child.main(Connection(int(sys.argv[1])))
