"""A ranker run by `vllm.LLM`: prompts in batches, pictures processed once, prompts shared by their candidates.

How `score` shares the prompt. vLLM 0.32 caches the keys and values of whole blocks of a prompt and reuses them for
every later prompt that begins alike, also within one batch. The prompt alone is asked first; that request gives the
log-probabilities of every continuation's first token (`logprob_token_ids`). A continuation of several tokens is one
more request, prompt and continuation together with `prompt_logprobs`, of which only the last block of the prompt and
the continuation are computed. vLLM does not read its cache for such a request unless told to
(`skip_reading_prefix_cache=False`), since it has no log-probabilities of what it does not compute; we need none of
those but the continuation's. Where the cache reaches into the continuation (asked before, or begun alike), that
request is repeated without the cache. Every continuation has the tokens of the text by itself, appended to the
prompt's, and the values are log-softmax over the whole vocabulary in float32, before any constraint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from trireme.errors import DataError, TriremeError, UsageError
from trireme.methods.rankers import chat
from trireme.methods.rankers.base import Generated, Prompt, Scored
from trireme.methods.rankers.checkpoint import CheckpointConfig, OnCheckpoint
from trireme.methods.rankers.choices import completed
from trireme.methods.rankers.merge import merged
from trireme.methods.rankers.vllm_child import IDS_AT_ONCE, Output, Request, Start
from trireme.methods.rankers.vllm_runtime import Runtime, lora_room, require
from trireme.types import WITHOUT_EFFECT

_LONGEST_CHOICE = 256  # tokens
_Ids = tuple[int, ...]
_First = tuple[int, dict[int, float]]  # tokens of a prompt, and log-probabilities of tokens after it


@dataclass
class VllmRankerConfig(CheckpointConfig):
    """Options of the vLLM engine; those of a checkpoint, and

    Attributes:
        seed: vLLM's; decoding is greedy.
        batch: prompts computed together at most.
        images: pictures in one prompt at most.
        memory: share of the GPU's memory that vLLM may take. Without a GPU see `cache_gib`.
        cache_gib: memory for keys and values in GiB; 0 takes what `memory` leaves, 1 GiB without a GPU.
        implementation: "auto", "vllm" (vLLM's own model code) or "transformers" (its transformers backend).
        tensor_parallel: GPUs that share the model.
        compile: "on", "off" or "auto", on with a GPU only. On a CPU it needs a C++ compiler and a minute more to start
            (once; vLLM keeps what it compiled), and then is faster.
        lora: "served" (vLLM applies the adapter), "merged" (a copy of the checkpoint on disk has it in its weights) or
            "auto", merged without a GPU, where vLLM's own way is several times slower. Answers differ by rounding.
    """

    seed: int = 0
    batch: int = 128
    images: int = 6
    memory: float = 0.9
    cache_gib: float = 0.0
    implementation: str = "auto"
    tensor_parallel: int = 1
    compile: str = "auto"
    lora: str = field(default="auto", metadata=WITHOUT_EFFECT)


class VllmEngine(OnCheckpoint):
    """`Engine` on `vllm.LLM`.

    Raises (when first asked):
        UsageError: vLLM is not installed, or cannot run the model.
        TriremeError: vLLM broke down.
    """

    Config: ClassVar[type[VllmRankerConfig]] = VllmRankerConfig
    engine: ClassVar[str] = "vllm"
    version: ClassVar[int] = 2

    def __init__(self, config: VllmRankerConfig) -> None:
        if min(config.batch, config.images, config.tensor_parallel) < 1:
            raise UsageError("batch, images and tensor_parallel are 1 or more")
        if config.implementation not in ("auto", "vllm", "transformers"):
            raise UsageError(f"implementation={config.implementation} is none of auto, vllm, transformers")
        if config.compile not in ("auto", "on", "off"):
            raise UsageError(f"compile={config.compile} is none of auto, on, off")
        if config.lora not in ("auto", "served", "merged"):
            raise UsageError(f"lora={config.lora} is none of auto, served, merged")
        self.config = config

    @cached_property
    def fingerprint(self) -> str:
        """Over checkpoint, adapter, dtype, picture size, context, seed, and whose model code runs."""
        return self.checkpoint.fingerprint_for(f"vllm-{self.config.implementation}-{self.config.seed}-float32-head")

    def generate(self, prompts: Sequence[Prompt], max_tokens: int) -> list[Generated]:
        """Decode greedily, at most `max_tokens` tokens."""
        return self._generated(self._requests(prompts), max_tokens, [()] * len(prompts))

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[Sequence[str]]) -> list[Generated]:
        """Decode under vLLM's structured outputs until only one of the choices is left, in whatever tokens."""
        among = [tuple(dict.fromkeys(texts)) for texts in choices]
        made = self._generated(self._requests(prompts), _LONGEST_CHOICE, among)
        return [replace(one, text=completed(one.text, texts)) for one, texts in zip(made, among, strict=True)]

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[Scored]:
        """Log-probability of each continuation; the module's own words say how the prompt is shared."""
        known = {
            text: tuple(chat.continuation_ids(self._tokeniser, text))
            for text in dict.fromkeys(text for texts in continuations for text in texts)
        }
        wanted = [[known[text] for text in texts] for texts in continuations]
        requests = self._requests(prompts)
        firsts = self._first(requests, wanted)
        rests = self._rest(requests, wanted)
        return [
            _scored(texts, first, [rests.get((position, ids), 0.0) for ids in texts])
            for position, (texts, first) in enumerate(zip(wanted, firsts, strict=True))
        ]

    def next_token(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[Scored]:
        """Log-softmax of the next token over the whole vocabulary, at the options."""
        wanted = [[(i,) for i in chat.option_ids(self._tokeniser, texts)] for texts in options]
        firsts = self._first(self._requests(prompts), wanted)
        return [_scored(texts, first, [0.0] * len(texts)) for texts, first in zip(wanted, firsts, strict=True)]

    def close(self) -> None:
        """Let the model go; it loads again when it is asked again."""
        runtime = self.__dict__.pop("_runtime", None)
        if runtime is not None:
            runtime.close()

    def _generated(
        self, requests: Sequence[Request | TriremeError], max_tokens: int, choices: Sequence[tuple[str, ...]]
    ) -> list[Generated]:
        asked = [
            _with(one, max_tokens=max_tokens, choice=choice) for one, choice in zip(requests, choices, strict=True)
        ]
        return [
            Generated.without(output)
            if isinstance(output, TriremeError)
            else Generated(output.text, output.prompt_tokens, output.tokens)
            for output in self._ask(asked)
        ]

    def _first(
        self, requests: Sequence[Request | TriremeError], wanted: Sequence[Sequence[_Ids]]
    ) -> list[_First | TriremeError]:
        """For each prompt its length, and the log-probabilities of the first tokens of its continuations after it."""
        parts = []
        for position, texts in enumerate(wanted):
            ids = tuple(dict.fromkeys(ids[0] for ids in texts))
            parts += [(position, ids[start : start + IDS_AT_ONCE]) for start in range(0, len(ids), IDS_AT_ONCE)]
        outputs = self._ask([_with(requests[position], first=ids) for position, ids in parts])
        found: list[_First | TriremeError] = [(0, {}) for _ in requests]
        for (position, _), output in zip(parts, outputs, strict=True):
            before = found[position]
            if isinstance(output, TriremeError):
                found[position] = output
            elif not isinstance(before, TriremeError):
                found[position] = (output.prompt_tokens, before[1] | dict(output.first))
        return found

    def _rest(
        self, requests: Sequence[Request | TriremeError], wanted: Sequence[Sequence[_Ids]]
    ) -> dict[tuple[int, _Ids], float | TriremeError]:
        """Log-probability of each continuation without its first token, by prompt and continuation."""
        keys = [(p, ids) for p, texts in enumerate(wanted) for ids in dict.fromkeys(texts) if len(ids) > 1]
        found: dict[tuple[int, _Ids], float | TriremeError] = {}
        for cached in (True, False):
            outputs = self._ask([_continued(requests[p], ids, cached) for p, ids in keys])
            again = []
            for key, output in zip(keys, outputs, strict=True):
                if isinstance(output, TriremeError):
                    found[key] = output
                elif output.tail is not None:
                    found[key] = float(sum(output.tail))
                else:
                    again.append(key)
            keys = again
        if keys:
            raise TriremeError(f"vLLM gave no log-probabilities for {len(keys)} continuations; use another mode")
        return found

    def _ask(self, requests: Sequence[Request | TriremeError]) -> list[Output | TriremeError]:
        """The output of each in their order; its error for one that is an error already, or that vLLM refuses."""
        going = [one for one in requests if not isinstance(one, TriremeError)]
        try:
            outputs = iter(self._runtime.serve(going) if going else ())
        except BaseException:  # it broke off or was interrupted: the next question starts a new one
            self.close()
            raise
        return [one if isinstance(one, TriremeError) else next(outputs) for one in requests]

    def _requests(self, prompts: Sequence[Prompt]) -> list[Request | TriremeError]:
        """Token ids and pictures of each prompt; the error of one whose picture cannot be read."""
        found: list[Request | TriremeError] = []
        for prompt in prompts:
            if len(prompt.images) > self.config.images:
                raise UsageError(f"a prompt has {len(prompt.images)} pictures, more than images={self.config.images}")
            text = chat.render(self._processor, prompt)
            special = chat.adds_special_tokens(self._processor, text)
            ids = tuple(self._tokeniser(text, add_special_tokens=special)["input_ids"])
            try:
                shown = chat.pictures(prompt, self.config.image_size, self._blank) if prompt.images else []
                found.append(Request(ids, tuple(shown)))
            except DataError as error:
                found.append(error)
        return found

    @cached_property
    def _processor(self) -> Any:
        return chat.load_processor(self.checkpoint.model, self.config.revision)

    @property
    def _tokeniser(self) -> Any:
        return self._processor.tokenizer

    @cached_property
    def _blank(self) -> int:
        return chat.blank_side(self._processor)

    @cached_property
    def _runtime(self) -> Runtime:
        require()
        config, checkpoint = self.config, self.checkpoint
        model, adapter = self._weights()
        options: dict[str, Any] = {
            "model": model,
            "revision": config.revision or None,
            "dtype": config.dtype,
            "seed": config.seed,
            "max_num_seqs": config.batch,
            "max_model_len": config.context or None,
            "limit_mm_per_prompt": {"image": config.images, "video": 0},
            "model_impl": config.implementation,
            "tensor_parallel_size": config.tensor_parallel,
            "gpu_memory_utilization": config.memory,
        }
        if adapter:
            options |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": lora_room(Path(adapter))}
        return Runtime(checkpoint.name, Start(options, config.cache_gib, config.compile, adapter))

    def _weights(self) -> tuple[str, str]:
        """The model and the adapter that vLLM is given, the latter "" where there is none or it is merged."""
        import torch

        place, lora = self.checkpoint, self.config.lora
        if not place.adapter or lora == "served" or (lora == "auto" and torch.cuda.is_available()):
            return place.model, place.adapter
        return merged(place, self.config.dtype), ""


def _with(request: Request | TriremeError, **changes: Any) -> Request | TriremeError:
    return request if isinstance(request, TriremeError) else replace(request, **changes)


def _continued(request: Request | TriremeError, ids: _Ids, cached: bool) -> Request | TriremeError:
    """A prompt with a continuation behind it, of which all but the first token are to be told."""
    if isinstance(request, TriremeError):
        return request
    return replace(request, ids=(*request.ids, *ids), tail=len(ids) - 1, cached=cached)


def _scored(texts: Sequence[_Ids], first: _First | TriremeError, rests: Sequence[float | TriremeError]) -> Scored:
    """The first token and the rest of each continuation put together."""
    counts = tuple(len(ids) for ids in texts)
    if isinstance(first, TriremeError):
        return Scored.without(first, counts)
    sums = []
    for ids, rest in zip(texts, rests, strict=True):
        if isinstance(rest, TriremeError):
            return Scored.without(rest, counts)
        sums.append(first[1][ids[0]] + rest)
    return Scored(tuple(sums), counts, first[0], sum(counts))
