"""CLIP's zero-shot classifier (Radford et al. 2021, 3.1): cosine similarity to ensembled class prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from trireme.methods.base import Context, require_fitted
from trireme.methods.classes import class_embeddings, rank_similar
from trireme.types import Floats, ImageRef, Predictions, Sample, Supervision, Task


@dataclass
class ZeroShotConfig:
    """Options of zero_shot.

    Attributes:
        templates: prompt templates used instead of the benchmark's; empty: the benchmark's.
    """

    templates: list[str] = field(default_factory=list)


class ZeroShot:
    """Ranks classes by the cosine between the picture and each class's ensembled prompts."""

    Config: ClassVar[type[ZeroShotConfig]] = ZeroShotConfig
    tasks: ClassVar[frozenset[Task]] = frozenset({Task.ZERO_SHOT, Task.FEW_SHOT, Task.DETECTION, Task.RETRIEVAL})
    supervision = Supervision()
    version: ClassVar[int] = 1
    needs_memory = False
    uses_validation = False

    def __init__(self, config: ZeroShotConfig) -> None:
        self.config = config
        self._context: Context | None = None
        self._classes: Floats | None = None

    def fit(self, context: Context) -> None:
        """Encode the prompts of the context's classes, where it has some."""
        templates = tuple(self.config.templates) or context.templates
        if context.class_names:
            self._classes = class_embeddings(context.store, context.class_names, templates)
        self._context = context

    def predict(self, samples: Sequence[Sample]) -> Predictions:
        """Scores are cosines in [-1, 1]."""
        context, classes = require_fitted(self._context, "zero_shot"), require_fitted(self._classes, "zero_shot")
        images = context.store.images([sample.image for sample in samples])
        ranked, scores = rank_similar(images, classes, context.keep)
        return Predictions(ranked, scores)

    def embed_images(self, images: Sequence[ImageRef]) -> Floats:
        """What the encoder gives, (n, d)."""
        return require_fitted(self._context, "zero_shot").store.images(images)

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """The same, (m, d). Captions are encoded as they are, in no template."""
        return require_fitted(self._context, "zero_shot").store.texts(texts)

    def facts(self) -> dict[str, Any]:
        """Number of classes and of templates."""
        context = require_fitted(self._context, "zero_shot")
        return {"classes": len(context.class_names), "templates": len(self.config.templates or context.templates)}
