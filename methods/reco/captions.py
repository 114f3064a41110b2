"""Choosing on captions: in retrieval there are no classes, validation pictures and captions ask for each other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from trireme.methods.base import Context, Validation
from trireme.methods.both_ways import captions, pictures, retrieves, validation_scores
from trireme.methods.reco.choose import Trial, deepest
from trireme.methods.reco.config import RecoConfig
from trireme.methods.reco.fusion import Fusion
from trireme.methods.reco.refine import Retriever
from trireme.retrieval.store import EmbeddingStore
from trireme.types import Floats


class CaptionTexts:
    """m captions as text queries, and their neighbours, retrieved once for every fusion that is tried."""

    def __init__(self, store: EmbeddingStore, retriever: Retriever, texts: Sequence[str], depth: int) -> None:
        self.frozen = store.texts(texts)
        self._retriever = retriever
        self._rows = retriever.rows(self.frozen, "text", depth)

    def refined(self, fusion: Fusion, k: int) -> Floats:
        """t_bar of every caption, (m, e)."""
        return self._retriever.refine(fusion, self.frozen, self._rows[:, :k], "text")


class CaptionTrial(Trial):
    """A `Trial` on pictures and captions instead of pictures and classes."""

    @cached_property
    def _texts(self) -> CaptionTexts:  # type: ignore[override]
        told = [one.text for one in captions(self._validation.samples)]
        return CaptionTexts(self._context.store, self._retriever, told, deepest(self._config))

    @cached_property
    def _queries(self) -> Floats:
        return self._context.store.images([one.image for one in pictures(self._validation.samples)])

    def _scores(self, images: Floats, classes: Floats) -> dict[str, float]:
        return validation_scores(self._validation, images, classes)


def trial_of(context: Context, validation: Validation, retriever: Retriever, config: RecoConfig) -> Trial:
    """The trial that a validation benchmark's task asks for."""
    kind = CaptionTrial if retrieves(validation.benchmark) else Trial
    return kind(context, validation, retriever, config)
