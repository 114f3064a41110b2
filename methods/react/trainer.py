"""From a retrieved set to a customised encoder: train every recipe of the grid, choose on validation pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trireme.files import fingerprint
from trireme.methods.base import Context, Validation, require_memory
from trireme.methods.both_ways import captions, pictures, retrieves, validation_scores
from trireme.methods.classes import ensemble, rank_similar
from trireme.methods.react.artifacts import Artifact, customised
from trireme.methods.react.config import ReactConfig, dropped, training_options, unchosen
from trireme.methods.react.customise import Customisation, interpolated, shares_tried
from trireme.methods.react.distributed import check_split, decided, processes
from trireme.methods.react.distributed import rank as process_rank
from trireme.methods.react.retrieve import RetrievedSet, retrieve
from trireme.methods.react.steps import batch_size, precision_of
from trireme.methods.react.towers import Tower, check_encoder, load_tensors, make_tower, tensors_of
from trireme.methods.selection import Scored, Setting, grid_settings, note_unguarded, select, subset_scores
from trireme.progress import say
from trireme.retrieval.encoders.base import resolve_device
from trireme.retrieval.encoders.customised import Customised
from trireme.retrieval.overlap import trained_on
from trireme.types import Floats, Role

VERSION = 1
"""Raise it when the same options lead to other weights."""


class Judge:
    """Zero-shot scores of a tower on the validation pictures (of retrieval: and their captions), as the first process
    measures them.

    Every decision of a training comes from here, so that all processes take the same one.
    """

    def __init__(self, context: Context, validation: Validation, device: torch.device) -> None:
        self._context, self._validation, self._device = context, validation, device
        self._told = retrieves(validation.benchmark)
        self._shown = pictures(validation.samples)
        self._prompts = [
            template.replace("{}", name)
            for name in validation.benchmark.class_names
            for template in validation.benchmark.templates
        ]
        if self._told:
            self._prompts = [one.text for one in captions(validation.samples)]

    def measure(self, tower: Tower) -> dict[str, float]:
        """Percent of the main metric by subset."""
        return decided(lambda: self._measure(tower), self._device)

    @cached_property
    def zero_shot(self) -> dict[str, float]:
        """The same of the base encoder."""
        return decided(self._measure_base, self._device)

    def _measure(self, tower: Tower) -> dict[str, float]:
        images = tower.embed_images([sample.image for sample in self._shown])
        return self._scores(images, tower.embed_texts(self._prompts))

    def _measure_base(self) -> dict[str, float]:
        store = self._context.store
        images = store.images([sample.image for sample in self._shown])
        return self._scores(images, store.texts(self._prompts))

    def _scores(self, images: Floats, texts: Floats) -> dict[str, float]:
        if self._told:
            return validation_scores(self._validation, images, texts)
        prompts = texts.reshape(len(self._validation.benchmark.class_names), -1, texts.shape[1])
        return subset_scores(self._validation, rank_similar(images, ensemble(prompts))[0])


class Trainer:
    """Makes the customised encoder that a configuration asks for."""

    def __init__(self, context: Context, config: ReactConfig) -> None:
        self._context, self._config = context, config
        found = context.validation
        self._device = resolve_device(context.device)
        self._judge = Judge(context, found, self._device) if found is not None and found.samples else None

    def run(self) -> tuple[Artifact, dict[str, Any]]:
        """The artifact that validation prefers, and facts for the run record.

        Without validation pictures nothing is chosen; the facts then name the options that would have needed them.

        Raises:
            UsageError, DataError: see `check_encoder`, `retrieve` and `Customisation`.
        """
        recipes = list(grid_settings(self._config.train_grid)) if self._judge is not None else [{}]
        configs = [self._changed(recipe) for recipe in recipes]
        for config in configs:  # all of them before the first is trained
            check_encoder(self._context.encoder, config)
            check_split(config.batch, config.accumulation)
        facts = self._undecided()
        artifacts = [self._artifact(config) for config in configs]
        if self._judge is None or len(artifacts) == 1:
            return artifacts[0], facts
        scores = [artifact.record["validation"] for artifact in artifacts]
        numbers: list[Setting] = [{"recipe": number} for number in range(len(recipes))]
        best, _ = select(numbers, lambda s: scores[s["recipe"]], self._judge.zero_shot, self._config.may_lose)
        tried = [{**recipe, "scores": _rounded(score)} for recipe, score in zip(recipes, scores, strict=True)]
        return artifacts[best.setting["recipe"]], {"recipe_selection": tried}

    def _undecided(self) -> dict[str, Any]:
        """What the options leave to validation pictures that there are not: said, and for the record."""
        validation = self._context.validation
        if self._judge is not None and validation is not None:
            note_unguarded(self._config.may_lose, validation)
            return {}
        without = unchosen(self._config)
        if without and process_rank() == 0:
            stated = "; ".join(f"{option}: {what}" for option, what in without.items())
            say(f"note: there are no validation pictures to choose on; {stated}")
        return {"without_validation": without} if without else {}

    def _changed(self, recipe: Setting) -> ReactConfig:
        kinds = {name: type(getattr(self._config, name)) for name in recipe}
        return replace(self._config, **{name: kinds[name](value) for name, value in recipe.items()})

    def _artifact(self, config: ReactConfig) -> Artifact:
        context = self._context
        retrieved = retrieve(context, config)
        memory = require_memory(context, "react")
        key = {
            "method": ["react", VERSION],
            "options": training_options(config),
            "batch": batch_size(len(retrieved.rows), config),
            # dropout is drawn pass by pass; without it they only cost time
            "passes": config.accumulation * processes() if dropped(config) else None,
            "precision": precision_of(config, self._device),
            "interpolation": list(shares_tried(config)),
            "may_lose": config.may_lose,
            "encoder": context.encoder.fingerprint,
            "memory": memory.fingerprint,
            "classes": fingerprint(context.class_ids),
            "pairs": retrieved.fingerprint,
            "validation": self._validation_key(),
            "seed": context.seed,
        }

        def train(folder: Path) -> Customised:
            found = self._customise(config, retrieved, folder)
            # the weights may travel without the artifact's other files: they tell how they came to be
            return replace(found, record={**found.record, "made_by": key})

        return customised(context.artifacts / "react", key, retrieved, self._device, train)

    def _validation_key(self) -> list[Any] | None:
        """Classes, prompts and labels of the benchmark decide a choice as well as its readable pictures do."""
        found = self._context.validation
        if self._judge is None or found is None:
            return None
        return [found.benchmark.fingerprint(Role.VALIDATION), fingerprint([sample.id for sample in found.samples])]

    def _customise(self, config: ReactConfig, retrieved: RetrievedSet, folder: Path) -> Customised:
        context, seed = self._context, self._context.seed + config.seed_offset
        memory = require_memory(context, "react")
        rows, positions = np.unique(retrieved.rows, return_inverse=True)
        refs, captions = memory.refs(rows), memory.captions(rows)
        tower = make_tower(context.encoder, config, refs, captions, context.store, seed, folder)
        base = tensors_of(tower)
        measure = self._judge.measure if self._judge is not None else None
        pairs = positions.astype(np.int64)
        trained = Customisation(tower, config, pairs, folder, self._device, seed, measure, _value).run()
        share, scores = self._share(config, tower, base, trained.tensors)
        record = {
            "variant": config.variant,
            "memory": memory.manifest["name"],
            "told": "labels" if config.search == "i2i" else "captions",
            "chosen_on": "validation" if self._judge is not None else None,
            "pictures": trained_on(refs),
            "retrieved": retrieved.facts,
            "training": trained.facts,
            "trained_parameters": sum(value.numel() for value in tower.trainable.values()),
            "gated_layers": tower.gated,
            "interpolation": share,
            "interpolation_selection": scores,
            "validation": scores.get(str(share), {}),
        }
        base_fingerprint = context.encoder.base_fingerprint  # type: ignore[attr-defined]
        tensors = interpolated(base, trained.tensors, share)
        return Customised(config.variant, base_fingerprint, tensors, tower.gated, record)

    def _share(self, config: ReactConfig, tower: Tower, base: Any, end: Any) -> tuple[float, dict[str, Any]]:
        """The interpolation that validation prefers, and the scores of all; without validation the first one."""
        shares: Sequence[float] = shares_tried(config)
        if self._judge is None:
            return shares[0], {}
        judge = self._judge

        def score(setting: Setting) -> dict[str, float]:
            load_tensors(tower, interpolated(base, end, setting["share"]))
            with torch.no_grad():
                return judge.measure(tower)

        tower.module.eval()
        best, tried = select([{"share": s} for s in shares], score, judge.zero_shot, config.may_lose)
        return best.setting["share"], {str(entry.setting["share"]): _rounded(entry.scores) for entry in tried}


def _value(scores: dict[str, float]) -> float:
    return Scored({}, scores).value


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {subset: round(score, 4) for subset, score in scores.items()}
