"""RECO (Iscen et al., arXiv 2306.07196): refine the picture and the prompts with what they retrieve, then compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from trireme.methods.base import Context, Validation, require_fitted, require_memory
from trireme.methods.classes import rank_similar
from trireme.methods.recall import Recall, recall_column
from trireme.methods.reco.artifacts import remembered
from trireme.methods.reco.captions import trial_of
from trireme.methods.reco.choose import ClassTexts, Fusions, Trial, choose_start, start_setting
from trireme.methods.reco.config import RecoConfig, check
from trireme.methods.reco.refine import Retriever
from trireme.methods.reco.trainer import Trainer
from trireme.methods.selection import Setting, note_unchosen, note_unguarded, unguarded
from trireme.retrieval.memory import Side
from trireme.types import Floats, ImageRef, Predictions, Sample, Supervision, Task


@dataclass(slots=True)
class _State:
    """What `fit` leaves behind."""

    context: Context
    retriever: Retriever
    k: int
    fusions: Fusions
    classes: Floats | None
    """(c, d) refined class embeddings, t_bar; None where there are no classes"""
    facts: dict[str, Any]
    recall: dict[Side, Recall] = field(default_factory=dict)
    """of an approximate index, on the pictures and captions of retrieval"""


class Reco:
    """Ranks classes by the similarity of the refined picture and the refined prompts. Reads captions, never labels."""

    Config: ClassVar[type[RecoConfig]] = RecoConfig
    tasks: ClassVar[frozenset[Task]] = frozenset({Task.ZERO_SHOT, Task.FEW_SHOT, Task.DETECTION, Task.RETRIEVAL})
    version: ClassVar[int] = 1

    def __init__(self, config: RecoConfig) -> None:
        check(config)
        self.config = config
        self._state: _State | None = None

    @property
    def needs_memory(self) -> bool:
        """False for the MLP control, which retrieves nothing."""
        return self.config.fusion != "mlp"

    @property
    def uses_validation(self) -> bool:
        """Whether a start or a training is chosen."""
        return bool(self.config.grid or self.config.train_grid or self.config.choose_trained)

    @property
    def supervision(self) -> Supervision:
        """Captions of the training pairs where it trains, captions of the memory where it retrieves."""
        return Supervision("captions" if self.config.train_on else "none", "captions" if self.needs_memory else "none")

    def check_validation(self, validation: Validation) -> None:
        """Refuse a guard for a subset that the benchmark does not have. UsageError."""
        unguarded(self.config.may_lose, validation)

    def fit(self, context: Context) -> None:
        """Choose the start, train the fusion (or load it), choose between them, refine the classes.

        Raises:
            UsageError: a memory is needed and missing or empty, or a guard is for a subset that is not there.
            DataError: the training pairs cannot be used.
            MemoryMismatchError: another encoder built the memory.
        """
        config = self.config
        memory = require_memory(context, "reco") if self.needs_memory else None
        retriever = Retriever(memory, config, context.encoder.fingerprint, context.device)
        trial = None
        if self.uses_validation and context.validation is not None and context.validation.samples:
            note_unguarded(config.may_lose, context.validation)
            trial = trial_of(context, context.validation, retriever, config)
        setting, facts = self._start(trial, context.artifacts)
        if config.grid and trial is None:
            facts |= note_unchosen({name: setting.get(name, getattr(config, name)) for name in config.grid})
        outcome = Trainer(context, retriever, config, setting).fusions(trial)
        k, classes = int(setting["k"]), None
        if context.class_names:
            names, templates = context.class_names, context.templates
            texts = ClassTexts(context.store, retriever, names, templates, config.prompts, k)
            if (shares := retriever.recall(texts.queries, "text", k)) is not None:
                facts["retrieval_recall"] = {"text": float(shares.mean())}
            classes = texts.refined(outcome.fusions["text"], k)
        self._state = _State(context, retriever, k, outcome.fusions, classes, {**setting, **facts, **outcome.facts})

    def _start(self, trial: Trial | None, artifacts: Path) -> tuple[Setting, dict[str, Any]]:
        """Where the fusion starts: what validation prefers in the grid, else what the config says."""
        if trial is None or not self.config.grid:
            return start_setting(self.config), {}
        scored = trial

        def choose() -> dict[str, Any]:
            setting, facts = choose_start(scored, self.config)
            return {"setting": setting, "facts": facts}

        key = {"what": "start", "defaults": start_setting(self.config), "grid": self.config.grid, **trial.key()}
        answer = remembered(artifacts / "reco", key, choose)
        return answer["setting"], {"start_selection": answer["facts"]}

    def predict(self, samples: Sequence[Sample]) -> Predictions:
        """Scores are cosines of v_bar and t_bar; the column `retrieved` lists the pairs that each picture found."""
        state = require_fitted(self._state, "reco")
        queries = state.context.store.images([sample.image for sample in samples])
        rows = state.retriever.rows(queries, "image", state.k)
        refined = state.retriever.refine(state.fusions["image"], queries, rows, "image")
        classes = require_fitted(state.classes, "reco")
        ranked, scores = rank_similar(refined, classes, state.context.keep)
        if state.retriever.memory is None:
            return Predictions(ranked, scores)
        ids = state.retriever.memory.ids
        retrieved = [[str(ids[row]) for row in found if row >= 0] for found in rows]
        recall = recall_column(state.retriever.recall(queries, "image", state.k))
        return Predictions(ranked, scores, {"retrieved": retrieved, **recall})

    def embed_images(self, images: Sequence[ImageRef]) -> Floats:
        """v_bar of every picture, (n, e)."""
        state = require_fitted(self._state, "reco")
        return self._refined(state, state.context.store.images(images), "image")

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """t_bar of every text, (m, e): a caption asks the memory's captions, as a class's prompt does."""
        state = require_fitted(self._state, "reco")
        return self._refined(state, state.context.store.texts(texts), "text")

    def _refined(self, state: _State, queries: Floats, modality: Side) -> Floats:
        rows = state.retriever.rows(queries, modality, state.k)
        if (shares := state.retriever.recall(queries, modality, state.k)) is not None:
            state.recall.setdefault(modality, Recall()).add(float(shares.mean()), len(queries))
        return state.retriever.refine(state.fusions[modality], queries, rows, modality)

    def facts(self) -> dict[str, Any]:
        """The setting and how it was chosen, what was trained, the recall of an approximate index on text queries."""
        state = require_fitted(self._state, "reco")
        measured = {"retrieval_recall": {str(side): of.mean for side, of in state.recall.items()}}
        return state.facts | (measured if state.recall else {})
