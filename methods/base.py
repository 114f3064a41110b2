"""What a method is: fitted once on a context, then asked for ranked classes. It computes no metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, runtime_checkable

from trireme.errors import UsageError
from trireme.types import (
    RANKED,
    Benchmark,
    Floats,
    ImageRef,
    PairSet,
    Predictions,
    Sample,
    Supervision,
    Task,
)

if TYPE_CHECKING:
    from trireme.methods.rankers.base import Engine
    from trireme.retrieval.encoders.base import Encoder
    from trireme.retrieval.memory import Memory
    from trireme.retrieval.store import EmbeddingStore

Fitted = TypeVar("Fitted")


@dataclass(frozen=True, slots=True)
class Validation:
    """Labelled pictures on which hyper-parameters may be chosen; they never come from the TEST role.

    Attributes:
        benchmark: scores ranked classes. Its classes need not be those of the context (the groups of a world share one
            validation benchmark), so candidates come from here.
        samples: its VALIDATION samples, readable ones only.
    """

    benchmark: Benchmark
    samples: Sequence[Sample]


def no_ranker(name: str) -> Engine:
    """Where a context has no rankers."""
    raise UsageError(f"ranker '{name}' is asked for, but this context has no rankers")


@dataclass(slots=True)
class Context:
    """Everything a method may use, the same for every method of a comparison.

    Attributes:
        encoder: the frozen dual encoder.
        store: embeddings by that encoder, cached: ask it, not the encoder.
        memory: image-caption pairs to search, None where the run has no memory.
        class_ids: stable ids, c of them; the labels of memory pairs refer to them. None, nor names or templates, in
            retrieval.
        class_names: what a text encoder is shown, in the same order.
        templates: prompt templates with one `{}`.
        validation: None where the benchmark has none; then nothing is selected.
        pair_set: opens a training pair set by its name.
        seed: seeds every random choice of the method.
        device: where trained parts run, as torch names it.
        artifacts: the folder of trained parts; a method keys its own files by all that they depend on.
        ranker: opens a multimodal ranker by its name (`trireme ls rankers`).
        keep: how many ranked classes a prediction lists, as many as the benchmark's metrics look at.
        every_class: its metrics need a score of every class: whoever searches a memory searches all of it.
    """

    encoder: Encoder
    store: EmbeddingStore
    memory: Memory | None
    class_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    validation: Validation | None
    pair_set: Callable[[str], PairSet]
    seed: int
    device: str
    artifacts: Path
    ranker: Callable[[str], Engine] = no_ranker
    keep: int = RANKED
    every_class: bool = False


@runtime_checkable
class Method(Protocol):
    """A way to rank classes for pictures.

    `Config` is a dataclass whose fields all have defaults. A field that changes no answer, only where or how fast it is
    computed, says so with `metadata=trireme.types.WITHOUT_EFFECT` and is no part of a run's hash; every other field is.
    `supervision`, `needs_memory` and `uses_validation` may depend on the configuration. `version` is raised when the
    code changes what the method answers.

    Two more may be there, to refuse with a UsageError before anything is encoded: `check(encoder)`, and, asked where
    `uses_validation` and the benchmark has them, `check_validation(validation)`.
    """

    Config: ClassVar[type[Any]]
    tasks: ClassVar[frozenset[Task]]
    version: ClassVar[int]

    def __init__(self, config: Any) -> None: ...

    @property
    def supervision(self) -> Supervision: ...

    @property
    def needs_memory(self) -> bool: ...

    @property
    def uses_validation(self) -> bool:
        """Whether anything is chosen on validation pictures."""
        ...

    def fit(self, context: Context) -> None:
        """Prepare for the classes of the context: encode prompts, train or load parts, choose hyper-parameters."""
        ...

    def predict(self, samples: Sequence[Sample]) -> Predictions:
        """Rank classes for readable samples. An answer depends on no other sample and on no order."""
        ...

    def facts(self) -> dict[str, Any]:
        """JSON-able facts for the run record: what was trained, chosen or measured."""
        ...


@runtime_checkable
class CrossModal(Protocol):
    """What a method that declares `Task.RETRIEVAL` has as well: both sides, fitted on a context without classes.

    `predict` is not called then: pictures and captions are ranked for each other by inner products of what these give
    (`trireme.methods.both_ways`), so a method never sees which caption belongs to which picture.
    """

    def embed_images(self, images: Sequence[ImageRef]) -> Floats:
        """(n, d), for readable pictures. A row depends on no other picture."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """(m, d), in the same space."""
        ...


def require_memory(context: Context, method: str) -> Memory:
    """The memory of the context.

    Raises:
        UsageError: there is none, or it holds no pair.
    """
    if context.memory is None:
        raise UsageError(f"method '{method}' needs a memory; add memory=NAME (see `trireme ls memories`)")
    if len(context.memory) == 0:
        raise UsageError(f"the memory of method '{method}' is empty; build it from a pair set that holds pairs")
    return context.memory


def require_fitted(value: Fitted | None, method: str) -> Fitted:
    """The fitted state, or a clear error for a caller that forgot `fit`."""
    if value is None:
        raise UsageError(f"method '{method}' was asked to predict before fit")
    return value
