"""Fusions for one context: fresh ones, trained ones (from disk where that training was done before), the choice."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from trireme.methods.base import Context
from trireme.methods.reco.artifacts import remembered, trained
from trireme.methods.reco.choose import Fusions, Trial, summary
from trireme.methods.reco.config import RecoConfig, architecture
from trireme.methods.reco.fusion import parameters
from trireme.methods.reco.refine import Retriever, new_fusion
from trireme.methods.reco.search import MODALITIES
from trireme.methods.reco.training import Recipe, train, training_set, unreadable_pairs
from trireme.methods.selection import Setting, grid_settings, select


@dataclass(frozen=True, slots=True)
class Outcome:
    """Fusions and what the run record should say about them."""

    fusions: Fusions
    facts: dict[str, Any]


class Trainer:
    """Makes the fusions that start at one setting."""

    def __init__(self, context: Context, retriever: Retriever, config: RecoConfig, setting: Setting) -> None:
        self._context, self._retriever, self._config, self._setting = context, retriever, config, setting

    def fusions(self, trial: Trial | None) -> Outcome:
        """The fusions to use: as they start, or trained; validation decides where the config lets it."""
        if not self._config.train_on:
            return self._untrained()
        recipes = list(grid_settings(self._config.train_grid)) if trial is not None else [{}]
        outcomes = [self._trained(recipe) for recipe in recipes]
        if trial is None:
            return outcomes[0]
        if self._config.choose_trained:
            outcomes.insert(0, self._untrained())
        if len(outcomes) == 1:
            return outcomes[0]
        return self._best(outcomes, trial)

    def _best(self, outcomes: list[Outcome], trial: Trial) -> Outcome:
        names = [outcome.facts.get("artifact", "untrained") for outcome in outcomes]
        key = {"what": "training", "start": self._setting, "outcomes": names, **trial.key()}
        answer = remembered(self._context.artifacts / "reco", key, lambda: self._compare(outcomes, trial))
        chosen = outcomes[answer["chosen"]]
        return Outcome(chosen.fusions, {**chosen.facts, "training_selection": answer["tried"]})

    def _compare(self, outcomes: list[Outcome], trial: Trial) -> dict[str, Any]:
        candidates: list[Setting] = [{"outcome": i} for i in range(len(outcomes))]
        k = int(self._setting["k"])
        best, tried = select(
            candidates,
            lambda candidate: trial.fusions(outcomes[candidate["outcome"]].fusions, k),
            trial.zero_shot(),
            self._config.may_lose,
        )
        table = [
            summary(entry.scores, **outcome.facts["training"]) for entry, outcome in zip(tried, outcomes, strict=True)
        ]
        return {"chosen": best.setting["outcome"], "tried": table}

    def _fresh(self) -> Fusions:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._context.seed)
            encoder = self._context.encoder
            return {side: new_fusion(self._config, self._setting, side, encoder) for side in MODALITIES}

    def _untrained(self) -> Outcome:
        return Outcome(self._fresh(), {"training": {"epochs": 0}, "trained_parameters": 0})

    def _trained(self, changes: Setting) -> Outcome:
        context, memory, k = self._context, self._retriever.memory, int(self._setting["k"])
        config = replace(self._config, **{name: type(getattr(self._config, name))(v) for name, v in changes.items()})
        recipe = recipe_of(config, context.encoder.logit_scale)
        sets = [context.pair_set(name) for name in config.train_on]
        key = {
            "method": "reco",
            "architecture": architecture(config),
            "start": self._setting,
            "recipe": asdict(recipe),
            "encoder": context.encoder.fingerprint,
            "memory": memory.fingerprint if memory is not None else None,
            "pairs": [pairs.fingerprint for pairs in sets],
            "seed": context.seed,
        }
        pairs = [pair for one in sets for pair in one.pairs()]
        unreadable = unreadable_pairs(context.store, pairs)
        if unreadable:  # a training without them is another one: it is not taken for the whole after a repair
            key["without"] = sorted(unreadable)
        fusions = self._fresh()

        def run() -> dict[str, Any]:
            encoder = context.encoder.fingerprint
            data = training_set(context.store, memory, pairs, self._retriever.plans, k, encoder)
            losses = train(fusions, data, memory, recipe, context.seed, context.device)
            return {"pairs": len(data), "losses": losses}

        name, record = trained(
            context.artifacts / "reco", key, nn.ModuleDict({str(side): fusion for side, fusion in fusions.items()}), run
        )
        facts = {
            "training": {"epochs": recipe.epochs, "lr": recipe.lr, "weight_decay": recipe.weight_decay},
            "trained_parameters": sum(parameters(fusion) for fusion in fusions.values()),
            "artifact": name,
            "artifact_sha256": record["sha256"],
            "training_sets": {pairs.name: pairs.fingerprint for pairs in sets},
            "training_pairs": record["pairs"],
            "training_failed": len(unreadable),
            "losses": [round(loss, 4) for loss in record["losses"]],
        }
        return Outcome(fusions, facts)


def recipe_of(config: RecoConfig, logit_scale: float) -> Recipe:
    """The training recipe of a config; its temperature is in units of the encoder's own."""
    return Recipe(
        epochs=config.epochs,
        batch=config.batch,
        lr=config.lr,
        weight_decay=config.weight_decay,
        warmup=config.warmup,
        scale=config.loss_scale * logit_scale,
        learn_scale=config.learn_tau,
        rotate=config.rotate,
        distinct_captions=config.distinct_captions,
    )
