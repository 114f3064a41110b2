"""REACT (Liu et al., arXiv 2301.07094): retrieve pairs for the task, customise the encoder on them, compare as CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from trireme.methods.base import Context, Validation, require_fitted, require_memory
from trireme.methods.classes import ensemble, prompt_embeddings, rank_similar
from trireme.methods.react.artifacts import Artifact
from trireme.methods.react.config import ReactConfig, check
from trireme.methods.react.towers import check_encoder
from trireme.methods.react.trainer import Trainer
from trireme.methods.selection import unguarded
from trireme.retrieval.encoders.base import Encoder
from trireme.retrieval.store import EmbeddingStore
from trireme.types import Floats, ImageRef, Predictions, Sample, Supervision, Task

_UNTOLD = ("format", "key", "made_by", "pictures")
"""What a record of a training holds and a run's facts do not repeat."""


@dataclass(slots=True)
class _State:
    """What `fit` leaves behind."""

    base: EmbeddingStore
    """of the base encoder"""
    store: EmbeddingStore
    """of the customised one"""
    texts: EmbeddingStore
    """of the customised one, or the base encoder's where the text tower stayed as it was"""
    classes: Floats | None
    """(c, d) of the customised encoder; None where there are no classes"""
    artifact: Artifact
    facts: dict[str, Any]
    keep: int


class React:
    """Ranks classes by zero-shot with the customised encoder. The memory is not used at inference."""

    Config: ClassVar[type[ReactConfig]] = ReactConfig
    tasks: ClassVar[frozenset[Task]] = frozenset({Task.ZERO_SHOT, Task.FEW_SHOT, Task.DETECTION, Task.RETRIEVAL})
    version: ClassVar[int] = 1
    needs_memory = True

    def __init__(self, config: ReactConfig) -> None:
        check(config)
        self.config = config
        self._state: _State | None = None

    @property
    def uses_validation(self) -> bool:
        """Whether a recipe, an interpolation or the end of training is chosen."""
        config = self.config
        return bool(config.train_grid or len(config.interpolation) > 1 or config.patience)

    @property
    def supervision(self) -> Supervision:
        """Captions; with "i2i" also the labels of the pictures that ask."""
        return Supervision("labels" if self.config.search == "i2i" else "captions", "none")

    def check(self, encoder: Encoder) -> None:
        """Refuse an encoder that cannot be customised so, before anything is encoded. UsageError."""
        for variant in self.config.train_grid.get("variant", [self.config.variant]):
            check_encoder(encoder, replace(self.config, variant=variant))

    def check_validation(self, validation: Validation) -> None:
        """Refuse a guard for a subset that the benchmark does not have. UsageError."""
        unguarded(self.config.may_lose, validation)

    def fit(self, context: Context) -> None:
        """Retrieve, customise (or load what the same command made before), encode the prompts of the classes.

        Raises:
            UsageError: no memory, an encoder that cannot be customised, or a guard for a subset that is not there.
            DataError: a class retrieved nothing, captions are missing, or the training diverged.
        """
        memory = require_memory(context, "react")
        given = context if self.uses_validation else replace(context, validation=None)
        artifact, chosen = Trainer(given, self.config).run()
        encoder = customised_encoder(context.encoder, artifact.encoder)
        before = context.store
        store = EmbeddingStore(encoder, before.folder.parent, before.batch_size, before.workers)
        text_locked = artifact.record["variant"] in ("gated_image", "locked_text")
        texts = before if text_locked else store  # a locked text tower's embeddings are in the cache already
        classes = None
        if context.class_names:
            classes = ensemble(prompt_embeddings(texts, context.class_names, context.templates))
        record = {name: value for name, value in artifact.record.items() if name not in _UNTOLD}
        facts = {
            **record,
            **chosen,
            "artifact": artifact.name,
            "customised_encoder": encoder.fingerprint,
            "memory_pairs": len(memory),
        }
        self._state = _State(before, store, texts, classes, artifact, facts, context.keep)

    @property
    def encoder_file(self) -> Path:
        """The customised encoder, for `encoder.react=`."""
        return require_fitted(self._state, "react").artifact.encoder

    @property
    def encoder(self) -> Encoder:
        """The customised encoder."""
        return require_fitted(self._state, "react").store.encoder

    def predict(self, samples: Sequence[Sample]) -> Predictions:
        """Scores are cosines in [-1, 1]."""
        state = require_fitted(self._state, "react")
        images = self.embed_images([sample.image for sample in samples])
        ranked, scores = rank_similar(images, require_fitted(state.classes, "react"), state.keep)
        return Predictions(ranked, scores)

    def embed_images(self, images: Sequence[ImageRef]) -> Floats:
        """What the customised encoder gives, (n, d)."""
        state = require_fitted(self._state, "react")
        before = state.store.forwards
        embeddings = state.store.images(images)
        state.base.forwards += state.store.forwards - before  # the count of the run is kept by the store it was given
        return embeddings

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """The same, (m, d). Captions are encoded as they are, in no template."""
        state = require_fitted(self._state, "react")
        before = state.store.forwards
        embeddings = state.texts.texts(texts)
        state.base.forwards += state.store.forwards - before
        return embeddings

    def facts(self) -> dict[str, Any]:
        """What was retrieved, trained and chosen."""
        return require_fitted(self._state, "react").facts


def customised_encoder(encoder: Encoder, file: Path) -> Encoder:
    """The encoder that `encoder.react=file` gives."""
    config: Any = encoder.config  # type: ignore[attr-defined]
    found: Encoder = type(encoder)(replace(config, react=str(file)))  # type: ignore[call-arg]
    return found
