"""What a ranker is: shown a picture and candidate names, it puts the names in order. It knows no class and no label.

A ranker is an `Engine`, the few things that a served model can do, asked in one of four modes (`rank.py`). So every
mode works alike on every engine, and engines can be checked against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Protocol, runtime_checkable

from trireme.errors import TriremeError
from trireme.types import ImageRef


class Mode(StrEnum):
    """How the model is asked.

    LIST: it writes the ranked list. CHOICE: its decoding is constrained to the candidate names, one is the answer.
    SCORE: the log-probability of each candidate as its answer. LETTERS: candidates are lettered, one token is decoded.
    """

    LIST = "list"
    CHOICE = "choice"
    SCORE = "score"
    LETTERS = "letters"


class Status(StrEnum):
    """What became of a question.

    OK: read as it is. REPAIRED: something was dropped or filled in. UNREADABLE: no candidate in the reply, or a prompt
    that the engine can never answer (too long). REFUSED: the model, or a policy of its server, declines to answer.
    TIMEOUT: no reply, after every retry; it is asked again in the next run.
    Unless OK or REPAIRED, the order is that of retrieval.
    """

    OK = "ok"
    REPAIRED = "repaired"
    UNREADABLE = "unreadable"
    REFUSED = "refused"
    TIMEOUT = "timeout"


REPLY_STATUS = "reply_status"
"""The extra of predictions that holds each reply's `Status`; run records and leaderboards count it."""


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled picture shown before the question (in-context)."""

    image: ImageRef
    name: str


@dataclass(frozen=True, slots=True)
class Question:
    """One picture and its candidates.

    Attributes:
        candidates: names in retrieval order, at least one. They may repeat (the paper's neighbours do).
    """

    image: ImageRef
    candidates: tuple[str, ...]
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The candidates of one question in order.

    Attributes:
        order: every position of `Question.candidates` once, best first.
        reply: what the model said, as it said it; "" in modes without text; why there is none where nothing was said.
        scores: one for each candidate in the order of the question, natural log-probabilities (calibrated or
            length-normalised where asked for); None in modes that give none, and where there is no reply.
        prompt_tokens, completion_tokens: what the answer cost, picture tokens included; 0 where the engine cannot tell.
    """

    order: tuple[int, ...]
    reply: str
    status: Status
    scores: tuple[float, ...] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Prompt:
    """One user turn and the beginning of the answer.

    Attributes:
        images: shown in this order; None is a blank picture (calibration).
        texts: one more than images: texts[0], images[0], texts[1], ..., texts[-1]; "" where nothing stands between.
        answer: the assistant's answer so far, which the model continues.
    """

    images: tuple[ImageRef | None, ...]
    texts: tuple[str, ...]
    answer: str = ""


class PromptError(TriremeError):
    """This one prompt is never answered, however often one asks (too long, filtered); others are."""


@dataclass(frozen=True, slots=True)
class Generated:
    """Text that a model wrote, without its end-of-turn token; `failed` says why there is none.

    `permanent`: it would fail again, so nothing is gained by asking again.
    """

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failed: str = ""
    permanent: bool = False

    @classmethod
    def without(cls, error: TriremeError) -> Generated:
        """What stands for a prompt that failed; for good where the error is a `PromptError`."""
        return cls("", failed=str(error), permanent=isinstance(error, PromptError))


@dataclass(frozen=True, slots=True)
class Scored:
    """Log-probabilities of given continuations.

    Attributes:
        sums: natural log-probability of each continuation, summed over its tokens; empty where `failed` says why.
        tokens: how many tokens each continuation has.
        permanent: it would fail again, so nothing is gained by asking again.
    """

    sums: tuple[float, ...]
    tokens: tuple[int, ...]
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failed: str = ""
    permanent: bool = False

    @classmethod
    def without(cls, error: TriremeError, tokens: Sequence[int]) -> Scored:
        """What stands for a prompt that failed; for good where the error is a `PromptError`."""
        return cls((), tuple(tokens), failed=str(error), permanent=isinstance(error, PromptError))


@runtime_checkable
class Closable(Protocol):
    """An engine that holds a model: memory, processes."""

    def close(self) -> None:
        """Let it go; it loads again when it is asked again."""
        ...


@runtime_checkable
class Engine(Protocol):
    """A multimodal model behind some way to run it. Greedy always: an answer depends on its prompt alone.

    Every method answers all prompts in their order and never raises for one that fails: that one says `failed`.
    `version` is raised when the code changes what the engine answers.

    An engine may have a `batch` too, how many questions it likes to be given at once, and be `Closable`.
    """

    Config: ClassVar[type[Any]]
    version: ClassVar[int]

    def __init__(self, config: Any) -> None: ...

    @property
    def name(self) -> str:
        """Model, adapter and engine, as tables show them: "lite, vllm"."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of everything that can change an answer: engine, model, revision, weights, adapter, dtype, picture size,
        context length. No weights are loaded for it."""
        ...

    @property
    def told(self) -> str:
        """What the model was told in its training for ranking: "none", "captions" or "labels"."""
        ...

    @property
    def pictures(self) -> Sequence[Mapping[str, Any]]:
        """The pictures it was trained to rank on (`trireme.retrieval.overlap.trained_on`), one entry a training."""
        ...

    def generate(self, prompts: Sequence[Prompt], max_tokens: int) -> list[Generated]:
        """Decode freely, at most `max_tokens` tokens."""
        ...

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[Sequence[str]]) -> list[Generated]:
        """Decode under the constraint that the text is one of the prompt's choices."""
        ...

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[Scored]:
        """Log-probability of each continuation after its prompt. The prompt is computed once for all of them."""
        ...

    def next_token(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[Scored]:
        """Log-probability of each option as the very next token.

        Raises:
            UsageError: an option is not a single token of this model.
        """
        ...
