"""The reference engine: a multimodal checkpoint run by transformers itself. The other engines are checked against it.

Prompts of equal length share a forward pass, so nothing is padded on the left; what else is asked changes an answer by
rounding at most. Candidates share the prompt's key-value cache.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from trireme.errors import DataError, TriremeError, UsageError
from trireme.methods.rankers import chat
from trireme.methods.rankers.base import Generated, Prompt, PromptError, Scored
from trireme.methods.rankers.checkpoint import CheckpointConfig, OnCheckpoint
from trireme.methods.rankers.choices import completed
from trireme.methods.rankers.constrain import Constraint, Pieces
from trireme.retrieval.encoders.base import resolve_device, resolve_dtype


@dataclass
class TransformersRankerConfig(CheckpointConfig):
    """Options of the transformers engine; those of a checkpoint, and

    Attributes:
        device: "auto" (CUDA where there is one), "cpu", "cuda:1" ...
        batch: prompts per forward pass. Answers differ by rounding at most.
    """

    device: str = "auto"
    batch: int = 16


class _Inputs(NamedTuple):
    """Prompts of one length, ready for the model."""

    positions: list[int]
    tensors: dict[str, Tensor]

    @property
    def length(self) -> int:
        return int(self.tensors["input_ids"].shape[1])


class TransformersEngine(OnCheckpoint):
    """`Engine` on `AutoModelForImageTextToText`; greedy decoding."""

    Config: ClassVar[type[TransformersRankerConfig]] = TransformersRankerConfig
    engine: ClassVar[str] = "transformers"
    version: ClassVar[int] = 1

    def __init__(self, config: TransformersRankerConfig) -> None:
        if config.batch < 1:
            raise UsageError(f"batch={config.batch}: at least one prompt goes through the model at a time")
        self.config = config
        self.device, self.dtype = resolve_device(config.device), resolve_dtype(config.dtype)

    @cached_property
    def fingerprint(self) -> str:
        """Over checkpoint, adapter, dtype and picture size; see `Checkpoint.fingerprint_for`."""
        return self.checkpoint.fingerprint_for("transformers")

    def generate(self, prompts: Sequence[Prompt], max_tokens: int) -> list[Generated]:
        """Free greedy decoding."""
        return self._decoded(prompts, max_tokens, None)

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[Sequence[str]]) -> list[Generated]:
        """Greedy decoding to where only one of the choices is left, in whatever tokens."""
        longest = max((len(text.encode()) for options in choices for text in options), default=0)
        return self._decoded(prompts, longest + 1, choices)

    @torch.inference_mode()
    def score(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[Scored]:
        """Sums of log-softmax over the continuation's tokens, in float32."""
        tokenised = [[chat.continuation_ids(self._tokeniser, text) for text in texts] for texts in continuations]
        found: dict[int, Scored] = {}
        failed: dict[int, TriremeError] = {}
        for inputs in self._batches(prompts, failed):
            output = self._model(**inputs.tensors, use_cache=True, logits_to_keep=1)
            wanted = [tokenised[position] for position in inputs.positions]
            sums = self._continued(output.past_key_values, output.logits[:, -1].float(), wanted)
            for position, values in zip(inputs.positions, sums, strict=True):
                counts = tuple(len(ids) for ids in tokenised[position])
                found[position] = Scored(tuple(values), counts, inputs.length, sum(counts))
        for position, error in failed.items():
            found[position] = Scored.without(error, [len(ids) for ids in tokenised[position]])
        return [found[position] for position in range(len(prompts))]

    @torch.inference_mode()
    def next_token(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[Scored]:
        """Log-softmax of the next token over the whole vocabulary, at the options."""
        ids = [chat.option_ids(self._tokeniser, texts) for texts in options]
        found: dict[int, Scored] = {}
        failed: dict[int, TriremeError] = {}
        for inputs in self._batches(prompts, failed):
            logits = self._model(**inputs.tensors, logits_to_keep=1).logits[:, -1].float().log_softmax(-1)
            for row, position in zip(logits, inputs.positions, strict=True):
                values = tuple(row[ids[position]].tolist())
                found[position] = Scored(values, (1,) * len(values), inputs.length, 1)
        for position, error in failed.items():
            found[position] = Scored.without(error, [1] * len(ids[position]))
        return [found[position] for position in range(len(prompts))]

    def close(self) -> None:
        """Let the model go; it loads again when it is asked again."""
        if self.__dict__.pop("_model", None) is not None:
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _continued(self, cache: Any, last: Tensor, wanted: Sequence[Sequence[list[int]]]) -> list[list[float]]:
        """Log-probabilities of the continuations of B prompts, each after its prompt's cache.

        Args:
            cache: of the B prompts; used up.
            last: (B, vocabulary) logits after each prompt.
            wanted: for each prompt, token ids of each continuation.
        """
        most = max(len(texts) for texts in wanted)
        width = max(len(ids) for texts in wanted for ids in texts)
        ids = torch.zeros(len(wanted) * most, width, dtype=torch.long)
        mask = torch.zeros(len(wanted) * most, width, dtype=torch.bool)
        for b, texts in enumerate(wanted):
            for c, tokens in enumerate(texts):
                ids[b * most + c, : len(tokens)] = torch.tensor(tokens)
                mask[b * most + c, : len(tokens)] = True
        ids, mask = ids.to(self.device), mask.to(self.device)
        first = last.log_softmax(-1).repeat_interleave(most, 0).gather(1, ids[:, :1])
        logprobs = first
        if width > 1:
            cache.batch_repeat_interleave(most)
            # no attention mask: what pads a shorter continuation comes after it, where causal attention never looks
            logits = self._model(input_ids=ids[:, :-1], past_key_values=cache).logits
            rest = logits.float().log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
            logprobs = torch.cat([first, rest], 1)
        sums = (logprobs.double() * mask).sum(1).tolist()
        return [sums[b * most : b * most + len(texts)] for b, texts in enumerate(wanted)]

    @torch.inference_mode()
    def _decoded(
        self, prompts: Sequence[Prompt], max_tokens: int, choices: Sequence[Sequence[str]] | None
    ) -> list[Generated]:
        found: dict[int, Generated] = {}
        failed: dict[int, TriremeError] = {}
        for inputs in self._batches(prompts, failed):
            allowed = None
            if choices is not None:
                allowed = Constraint([choices[p] for p in inputs.positions], inputs.length, self._ends, self._pieces)
            made = self._model.generate(
                **inputs.tensors,
                max_new_tokens=max_tokens,
                do_sample=False,
                num_beams=1,
                eos_token_id=self._ends,
                pad_token_id=self._ends[0],
                prefix_allowed_tokens_fn=allowed,
            )[:, inputs.length :]
            for row, position in zip(made.tolist(), inputs.positions, strict=True):
                end = next((i for i, token in enumerate(row) if token in self._ends), len(row))
                text = self._tokeniser.decode(row[:end], skip_special_tokens=True)
                text = text if choices is None else completed(text, choices[position])
                found[position] = Generated(text, inputs.length, min(end + 1, len(row)))
        found |= {position: Generated.without(error) for position, error in failed.items()}
        return [found[position] for position in range(len(prompts))]

    def _batches(self, prompts: Sequence[Prompt], failed: dict[int, TriremeError]) -> Iterator[_Inputs]:
        """Prompts of equal length together, `batch` at a time.

        Args:
            failed: gets the error of every prompt that is not among them: a picture cannot be read, or it is too long.
        """
        most = self.config.context
        lengths: dict[int, list[int]] = {}
        single: dict[int, dict[str, Tensor]] = {}
        for position, prompt in enumerate(prompts):
            try:
                tensors = self._processed([prompt], [chat.render(self._processor, prompt)])
            except DataError as error:
                failed[position] = error
                continue
            length = int(tensors["input_ids"].shape[1])
            if most and length > most:
                failed[position] = PromptError(f"the prompt has {length} tokens, more than context={most}")
                continue
            single[position] = tensors
            lengths.setdefault(length, []).append(position)
        for positions in lengths.values():
            for start in range(0, len(positions), self.config.batch):
                part = positions[start : start + self.config.batch]
                yield _Inputs(part, self._placed(_stacked([single[p] for p in part])))

    def _processed(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> dict[str, Tensor]:
        processor = self._processor
        images = [chat.pictures(prompt, self.config.image_size, self._blank) for prompt in prompts]
        found = processor(
            text=list(texts),
            images=images if any(images) else None,
            add_special_tokens=chat.adds_special_tokens(processor, texts[0]),
            return_tensors="pt",
        )
        return dict(found)

    def _placed(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: value.to(self.device, self.dtype if value.is_floating_point() else None)
            for name, value in tensors.items()
        }

    @cached_property
    def _processor(self) -> Any:
        return chat.load_processor(self.checkpoint.model, self.config.revision)

    @cached_property
    def _blank(self) -> int:
        return chat.blank_side(self._processor)

    @cached_property
    def _pieces(self) -> Pieces:
        return Pieces(self._tokeniser)

    @property
    def _tokeniser(self) -> Any:
        return self._processor.tokenizer

    @cached_property
    def _ends(self) -> list[int]:
        """Tokens that end a turn."""
        configured = self._model.generation_config.eos_token_id
        found = configured if isinstance(configured, list) else [configured]
        own = self._tokeniser.eos_token_id
        ends = [int(token) for token in dict.fromkeys([*found, own]) if token is not None]
        if not ends:
            raise UsageError(f"{self.checkpoint.name} names no end-of-turn token (eos_token_id)")
        return ends

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModelForImageTextToText
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # it would stand on stderr among our own
        place = self.checkpoint
        try:
            with torch.inference_mode(False):
                model = AutoModelForImageTextToText.from_pretrained(
                    place.model, revision=self.config.revision or None, dtype=self.dtype
                )
                if place.adapter:
                    from peft import PeftModel

                    model = PeftModel.from_pretrained(model, place.adapter).merge_and_unload()
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise DataError(f"cannot load {place.name} from {place.model}: {chat.first_line(error)}") from error
        return _float32_head(model.to(self.device).eval().requires_grad_(False))


def _float32_head(model: Any) -> Any:
    """The same model with its output layer in float32, as the vLLM engine has it.

    In half precision the logits of a large vocabulary tie by rounding, and the order of candidates would be chance.
    """
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().float(), requires_grad=False)  # no longer tied to the words
    head.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    return model


def _stacked(singles: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([one[name] for one in singles]) for name in singles[0]}
