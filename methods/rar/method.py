"""RAR (Liu et al., arXiv 2403.13805): the candidates come from retrieval, a multimodal model puts them in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from trireme.errors import DataError, UsageError
from trireme.methods.base import Context, Method, Validation, require_fitted
from trireme.methods.inner import (
    check_parts,
    check_validation_of,
    open_inner,
    rankers_of,
    stronger,
    trained_parameters,
    with_classes,
)
from trireme.methods.rankers.base import REPLY_STATUS, Answer, Example, Question, Status
from trireme.methods.rankers.rank import VERSION as RANKING
from trireme.methods.rankers.replies import CachedRanker, Replies
from trireme.methods.rar.candidates import Candidates
from trireme.methods.rar.config import RarConfig, asking_of, changed, check
from trireme.methods.rar.first_stage import FirstStage
from trireme.methods.recall import recall_column
from trireme.methods.selection import (
    Setting,
    grid_settings,
    note_unchosen,
    note_unguarded,
    select,
    subset_scores,
    unguarded,
)
from trireme.methods.support import note_unpictured
from trireme.retrieval.encoders.base import Encoder
from trireme.types import Floats, Ints, Predictions, Sample, Supervision, Task


@dataclass(slots=True)
class _State:
    """What `fit` leaves behind."""

    context: Context
    config: RarConfig
    """with what validation chose"""
    weight: float | None
    """of the ranker's score in the fusion; None: the ranker decides alone"""
    stage: FirstStage
    facts: dict[str, Any]


class Rar:
    """Ranks the retrieved candidates by a multimodal model, and what follows them by retrieval.

    Where the candidates come from another method, that one's ranking and scores are the retrieval.
    """

    Config: ClassVar[type[RarConfig]] = RarConfig
    tasks: ClassVar[frozenset[Task]] = frozenset({Task.ZERO_SHOT, Task.FEW_SHOT, Task.DETECTION})
    version: ClassVar[int] = 1000 * RANKING + 2

    def __init__(self, config: RarConfig) -> None:
        check(config)
        self.config = config
        self._parts = [open_inner(config.candidates)] if config.candidates else []
        if rankers_of(self._parts):
            raise UsageError(
                "rar takes its candidates from a method that asks no ranker; see `cascade` for two rankers"
            )
        self._state: _State | None = None

    @property
    def needs_memory(self) -> bool:
        """Whether pictures are searched."""
        return self._parts[0].needs_memory if self._parts else self.config.retriever != "i2t"

    @property
    def supervision(self) -> Supervision:
        """Labels of the support pictures at inference; what the ranker's training was told is among the facts. Of
        another method's candidates, what that one is told.
        """
        told = self._state.facts["ranker"]["told"] if self._state is not None else "none"
        if self._parts:
            of = self._parts[0].supervision
            return Supervision(stronger(told, of.training), of.inference)
        return Supervision(told, "labels" if self.needs_memory else "none")

    @property
    def _chooses(self) -> bool:
        """Whether a setting or a weight is chosen."""
        return bool(self.config.grid) or len(self.config.fusion) > 1

    @property
    def uses_validation(self) -> bool:
        """Whether anything is chosen, by whoever finds the candidates too."""
        return self._chooses or any(part.uses_validation for part in self._parts)

    @property
    def rankers(self) -> tuple[str, ...]:
        """The rankers that may be asked, by name."""
        return tuple(dict.fromkeys(map(str, self.config.grid.get("ranker", [self.config.ranker]))))

    def check(self, encoder: Encoder) -> None:
        """Let whoever finds the candidates refuse the encoder. UsageError."""
        check_parts(self._parts, encoder)

    def check_validation(self, validation: Validation) -> None:
        """Refuse a guard for a subset that the benchmark does not have. UsageError."""
        unguarded(self.config.may_lose, validation)
        check_validation_of(self._parts, validation)

    def fit(self, context: Context) -> None:
        """Find the support pictures; choose settings on validation pictures where there are some.

        Raises:
            UsageError: no memory, or a ranker that cannot be opened.
            DataError: no memory picture has a label of these classes; a validation picture got no reply.
        """
        config = self.config
        facts: dict[str, Any] = {}
        weight = config.fusion[0] if config.fusion else None
        if self._chooses and context.validation is not None and context.validation.samples:
            config, weight, facts = self._select(context, context.validation)
        elif self._chooses:
            stated = {name: getattr(config, name) for name in config.grid}
            facts = note_unchosen(stated | ({"fusion": weight} if len(config.fusion) > 1 else {}))
        stage = self._stage(context)
        if stage.support is not None:
            note_unpictured(stage.support, context.class_names)
        engine = context.ranker(config.ranker)
        facts["ranker"] = {
            "config": config.ranker,
            "name": engine.name,
            "fingerprint": engine.fingerprint,
            "told": engine.told,
        }
        self._state = _State(context, config, weight, stage, facts)

    def _stage(self, context: Context) -> FirstStage:
        """Who finds candidates among the classes of a context, as many as any setting of the grid asks for."""
        most = max(context.keep, self.config.k, *self.config.grid.get("k", []))
        inner: Method | None = open_inner(self.config.candidates) if self._parts else None
        return FirstStage(replace(context, keep=most) if inner else context, self.config, inner)

    def _select(self, context: Context, validation: Validation) -> tuple[RarConfig, float | None, dict[str, Any]]:
        """The configuration and the weight that validation prefers, with the scores of all."""
        benchmark = validation.benchmark
        note_unguarded(self.config.may_lose, validation)
        stage = self._stage(with_classes(context, benchmark))
        weights: list[float | None] = list(self.config.fusion) or [None]
        settings: list[Setting] = []
        scores: list[dict[str, float]] = []
        reference: dict[str, float] = {}
        retrieved: dict[tuple[Any, ...], Candidates] = {}
        for point in grid_settings(self.config.grid):
            config = changed(self.config, point)
            searched = (config.k, config.votes, config.temperature)
            if searched not in retrieved:
                retrieved[searched] = stage(validation.samples, config)
            found = retrieved[searched]
            reference = reference or subset_scores(validation, found.order)
            answers = _ask(context, config, validation.samples, found, benchmark.class_names)
            _check_answered(answers, benchmark.name)
            for weight in weights:
                settings.append({**point, "weight": weight})
                scores.append(subset_scores(validation, _ranked(found, answers, weight)[0]))
        numbers: list[Setting] = [{"number": number} for number in range(len(settings))]
        best, _ = select(numbers, lambda setting: scores[setting["number"]], reference, self.config.may_lose)
        chosen = settings[best.setting["number"]]
        tried = [
            {**s, "scores": {name: round(v, 2) for name, v in score.items()}}
            for s, score in zip(settings, scores, strict=True)
        ]
        facts = {"selection": {"benchmark": benchmark.name, "chosen": chosen, "retrieval": reference, "tried": tried}}
        point = {key: value for key, value in chosen.items() if key != "weight"}
        return changed(self.config, point), chosen["weight"], facts

    def predict(self, samples: Sequence[Sample]) -> Predictions:
        """Candidates in the ranker's order, then the other classes in retrieval order.

        Scores are fused scores where there is a fusion. Where the ranker decides alone they are those of retrieval in
        the ranker's order: its first choice has the best of them. Classes after the candidates stand below the last.
        """
        state = require_fitted(self._state, "rar")
        context, config = state.context, state.config
        found = state.stage(samples, config)
        answers = _ask(context, config, samples, found, context.class_names)
        ranked, scores = _ranked(found, answers, state.weight)
        extras = state.stage.extras(samples) | self._extras(state, found, answers)
        return Predictions(ranked, scores, extras, found.classes)

    def _extras(self, state: _State, found: Candidates, answers: Sequence[Answer]) -> dict[str, Sequence[Any]]:
        memory, ids = state.context.memory, state.context.class_ids
        extras: dict[str, Sequence[Any]] = {
            "candidate_classes": [[ids[c] for c in row[row >= 0]] for row in found.classes],
            "retrieval_scores": [
                row[kept >= 0].tolist() for row, kept in zip(found.scores, found.classes, strict=True)
            ],
            "ranker_scores": [list(answer.scores or ()) for answer in answers],
            "ranker_order": [list(answer.order) for answer in answers],
            "reply": [answer.reply for answer in answers],
            REPLY_STATUS: [str(answer.status) for answer in answers],
            "prompt_tokens": [answer.prompt_tokens for answer in answers],
            "completion_tokens": [answer.completion_tokens for answer in answers],
            **recall_column(found.recall),
        }
        if memory is not None and state.config.retriever == "i2i" and not self._parts:
            extras["retrieved"] = [[str(memory.ids[i]) for i in row[row >= 0]] for row in found.rows]
        return extras

    def facts(self) -> dict[str, Any]:
        """The ranker, what was chosen, and the support."""
        state = require_fitted(self._state, "rar")
        chosen = {key: getattr(state.config, key) for key in ("mode", "wording", "k", "votes", "ranker")}
        searched = state.stage.facts()
        trained = trained_parameters([searched.get("candidates", {}).get("facts", {})])
        return {**chosen, "weight": state.weight, **searched, **trained, **state.facts}


def _ask(
    context: Context, config: RarConfig, samples: Sequence[Sample], found: Candidates, names: Sequence[str]
) -> list[Answer]:
    """One answer a sample."""
    ranker = CachedRanker(context.ranker(config.ranker), Replies())
    memory = context.memory
    questions = []
    for sample, classes, rows in zip(samples, found.classes, found.rows, strict=True):
        kept = classes >= 0
        examples: tuple[Example, ...] = ()
        if config.examples and memory is not None:
            shown = [(int(c), int(r)) for c, r in zip(classes[kept], rows[kept], strict=True)][: config.examples]
            refs = memory.refs([row for _, row in shown])
            examples = tuple(Example(ref, names[c]) for ref, (c, _) in zip(refs, shown, strict=True))
        questions.append(Question(sample.image, tuple(names[c] for c in classes[kept]), examples))
    before = ranker.asked
    answers = ranker.rank(questions, asking_of(config))
    context.store.forwards += ranker.asked - before  # the count of the run is kept by its store
    return answers


def _check_answered(answers: Sequence[Answer], benchmark: str) -> None:
    """Choose nothing without all replies: the next run, which has them, could choose otherwise."""
    lost = [answer.reply for answer in answers if answer.status is Status.TIMEOUT]
    if lost:
        raise DataError(
            f"the ranker gave no reply for {len(lost)} of {len(answers)} validation pictures of '{benchmark}' (first: "
            f"{' '.join(lost[0].split())[:200]}); every reply that came is kept, run again to ask only for the rest"
        )


def _ranked(found: Candidates, answers: Sequence[Answer], weight: float | None) -> tuple[Ints, Floats]:
    """(n, m) classes and their scores: candidates by the answer (fused where a weight is given), then retrieval's."""
    width = max(found.order.shape[1], found.classes.shape[1])
    ranked = np.full((len(answers), width), -1, dtype=np.int64)
    scores = np.full((len(answers), width), -np.inf, dtype=np.float32)
    for row, answer in enumerate(answers):
        classes = found.classes[row][found.classes[row] >= 0]
        retrieval = [float(score) for score in found.scores[row][: len(classes)]]
        values = _final_scores(answer, retrieval, weight)
        order = sorted(range(len(classes)), key=lambda i: (-values[i], answer.order.index(i)))
        if weight is None:
            values = _in_order(retrieval, order)
        first = list(dict.fromkeys(int(classes[i]) for i in order))
        best = {c: max(values[i] for i in range(len(classes)) if classes[i] == c) for c in first}
        rest = [int(c) for c in found.order[row] if c >= 0 and c not in best]
        lowest = min(best.values(), default=0.0)
        line = [*first, *rest][:width]
        ranked[row, : len(line)] = line
        scores[row, : len(line)] = [best.get(c, lowest - 1 - place) for place, c in enumerate(line)]
    return ranked, scores


def _in_order(retrieval: Sequence[float], order: Sequence[int]) -> list[float]:
    """The retrieval scores of a picture, handed out anew: the best to whom the ranker puts first.

    A score then says how near the picture's neighbours are, as that of every method does, and pictures and boxes can be
    compared by it; the ranker alone decides the order.
    """
    best = sorted(retrieval, reverse=True)
    values = [0.0] * len(order)
    for place, candidate in enumerate(order):
        values[candidate] = best[place]
    return values


def _final_scores(answer: Answer, retrieval: Sequence[float], weight: float | None) -> list[float]:
    """One value a candidate, higher is better; without scores of the ranker, its order counts."""
    if weight is not None and answer.scores is not None:
        return [r + weight * s for r, s in zip(retrieval, answer.scores, strict=True)]
    if weight is not None:  # no reply: retrieval decides
        return list(retrieval)
    if answer.scores is not None:
        return list(answer.scores)
    places = {position: place for place, position in enumerate(answer.order)}
    return [-float(places[i]) for i in range(len(retrieval))]
