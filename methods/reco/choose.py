"""Choosing where a fusion starts, and whether its training helped, on validation pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from trireme.files import fingerprint
from trireme.methods.base import Context, Validation
from trireme.methods.classes import ensemble, normalise, prompt_embeddings, rank_similar
from trireme.methods.reco.config import STARTS, RecoConfig, architecture
from trireme.methods.reco.fusion import Fusion
from trireme.methods.reco.refine import Retriever, new_fusion
from trireme.methods.selection import Setting, grid_settings, grid_shape, select, subset_scores
from trireme.retrieval.memory import Side
from trireme.retrieval.store import EmbeddingStore
from trireme.types import Floats, Ints, Role

Fusions = dict[Side, Fusion]
_OTHER = {"image": "text_", "text": "image_"}


class ClassTexts:
    """The text queries of c classes and their neighbours, retrieved once for every fusion that is tried.

    Args:
        mode: "ensemble" asks with a class's ensembled prompt, "each" with every prompt of it.
        depth: neighbours retrieved.
    """

    def __init__(
        self,
        store: EmbeddingStore,
        retriever: Retriever,
        names: Sequence[str],
        templates: Sequence[str],
        mode: str,
        depth: int,
    ) -> None:
        prompts = prompt_embeddings(store, names, templates)
        self.frozen = ensemble(prompts)
        queries = prompts if mode == "each" else self.frozen[:, None]
        self._shape = queries.shape
        self.queries = queries.reshape(-1, queries.shape[-1])
        self._retriever = retriever
        self._rows = retriever.rows(self.queries, "text", depth)

    def refined(self, fusion: Fusion, k: int) -> Floats:
        """t_bar of every class, (c, e), L2-normalised."""
        rows = self._retriever.refine(fusion, self.queries, self._rows[:, :k], "text")
        return normalise(rows.reshape(*self._shape[:2], -1).mean(axis=1, dtype=np.float64))


class Trial:
    """Scores fusions on validation pictures, whose neighbours are retrieved once.

    Start settings share work: what depends on one side alone is computed once for every value of the other side.
    """

    def __init__(self, context: Context, validation: Validation, retriever: Retriever, config: RecoConfig) -> None:
        self._context, self._validation, self._retriever, self._config = context, validation, retriever, config
        self._refined: dict[tuple[object, ...], Floats] = {}

    def key(self) -> dict[str, Any]:
        """Everything that scores depend on besides the fusions: a choice made once is remembered under it."""
        config, memory = self._config, self._retriever.memory
        return {
            "architecture": architecture(config),
            "prompts": config.prompts,
            "may_lose": config.may_lose,
            "encoder": self._context.encoder.fingerprint,
            "memory": memory.fingerprint if memory is not None else None,
            "validation": self._validation.benchmark.fingerprint(Role.VALIDATION),
            "samples": fingerprint([sample.id for sample in self._validation.samples]),
        }

    @cached_property
    def _texts(self) -> ClassTexts:
        benchmark, config = self._validation.benchmark, self._config
        names, templates = benchmark.class_names, benchmark.templates
        return ClassTexts(self._context.store, self._retriever, names, templates, config.prompts, deepest(config))

    @cached_property
    def _queries(self) -> Floats:
        return self._context.store.images([sample.image for sample in self._validation.samples])

    @cached_property
    def _rows(self) -> Ints:
        return self._retriever.rows(self._queries, "image", deepest(self._config))

    def zero_shot(self) -> dict[str, float]:
        """Validation scores of the frozen encoder, the reference that nothing may fall far below."""
        return self._scores(self._queries, self._texts.frozen)

    def start(self, setting: Setting) -> dict[str, float]:
        """Validation scores of the untrained fusion that starts at a setting."""
        return self._scores(self._side("image", setting), self._side("text", setting))

    def fusions(self, fusions: Fusions, k: int) -> dict[str, float]:
        """Validation scores of given (trained) fusions."""
        images = self._retriever.refine(fusions["image"], self._queries, self._rows[:, :k], "image")
        return self._scores(images, self._texts.refined(fusions["text"], k))

    def _side(self, side: Side, setting: Setting) -> Floats:
        own = tuple((name, value) for name, value in setting.items() if not name.startswith(_OTHER[side]))
        key = (side, *own)
        if key not in self._refined:
            k, fusion = int(setting["k"]), new_fusion(self._config, setting, side, self._context.encoder)
            if side == "text":
                self._refined[key] = self._texts.refined(fusion, k)
            else:
                self._refined[key] = self._retriever.refine(fusion, self._queries, self._rows[:, :k], "image")
        return self._refined[key]

    def _scores(self, images: Floats, classes: Floats) -> dict[str, float]:
        return subset_scores(self._validation, rank_similar(images, classes)[0])


def choose_start(trial: Trial, config: RecoConfig) -> tuple[Setting, dict[str, Any]]:
    """The start that validation prefers in the grid, and what the run record should say about the choice."""
    settings, zero_shot = [start_setting(config, change) for change in grid_settings(config.grid)], trial.zero_shot()
    best, tried = select(settings, trial.start, zero_shot, config.may_lose, grid_shape(config.grid))
    return best.setting, summary(best.scores, tried=len(tried), zero_shot=summary(zero_shot)["scores"])


def start_setting(config: RecoConfig, changes: Mapping[str, Any] | None = None) -> Setting:
    """The start options as the config gives them, less what is changed."""
    values = {name: getattr(config, name) for name in STARTS[config.fusion]} | dict(changes or {})
    return {name: int(value) if name == "k" else float(value) for name, value in values.items()}


def deepest(config: RecoConfig) -> int:
    """The largest k that is needed."""
    return max([config.k, *(int(k) for k in config.grid.get("k", []))])


def summary(scores: Mapping[str, float], **more: Any) -> dict[str, Any]:
    """Scores as a run record keeps them: percent, two digits."""
    return {"scores": {subset: round(score, 2) for subset, score in scores.items()}, **more}
