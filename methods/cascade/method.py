"""A cheap method answers where it is sure, an expensive one where it is not; how sure is chosen on validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from trireme.errors import DataError, UsageError
from trireme.methods.base import Context, Method, Validation, require_fitted
from trireme.methods.cascade.columns import candidates, columns
from trireme.methods.cascade.confidence import (
    Doubles,
    Rule,
    fitted_temperature,
    margins,
    mixed,
    probabilities,
    within,
)
from trireme.methods.cascade.config import CascadeConfig, check
from trireme.methods.inner import (
    check_parts,
    check_validation_of,
    fit_inner,
    open_inner,
    ranked,
    rankers_of,
    same_classes,
    told,
    trained_parameters,
    with_classes,
)
from trireme.methods.rankers.base import REPLY_STATUS, Status
from trireme.methods.selection import Setting, note_unguarded, select, subset_scores, unguarded
from trireme.retrieval.encoders.base import Encoder
from trireme.types import Predictions, Sample, Supervision, Task


class _Parts(NamedTuple):
    cheap: Method
    expensive: Method


@dataclass(slots=True)
class _State:
    """What `fit` leaves behind."""

    parts: _Parts
    rule: Rule
    temperature: float | None
    """of the probability; None where the margin counts"""
    facts: dict[str, Any]


class Cascade:
    """Ranks classes by the cheap method, or by the expensive one where the cheap one is not sure.

    Scores are those of whoever answered, on two scales, so it does nothing that compares scores between samples: no
    detection, and no metric that needs a score of every class.
    """

    Config: ClassVar[type[CascadeConfig]] = CascadeConfig
    tasks: ClassVar[frozenset[Task]] = frozenset({Task.ZERO_SHOT, Task.FEW_SHOT})
    version: ClassVar[int] = 1

    def __init__(self, config: CascadeConfig) -> None:
        check(config)
        self.config = config
        self._parts = self._opened()
        self._state: _State | None = None

    def _opened(self) -> _Parts:
        return _Parts(open_inner(self.config.cheap), open_inner(self.config.expensive))

    @property
    def needs_memory(self) -> bool:
        """Whether one of the two does."""
        return any(part.needs_memory for part in self._parts)

    @property
    def supervision(self) -> Supervision:
        """The most that either of the two is told."""
        return told(self._parts if self._state is None else self._state.parts)

    @property
    def _chooses(self) -> bool:
        """Whether the threshold is chosen, or the temperature of a probability fitted."""
        given = self.config.threshold is not None or self.config.is_extreme
        return not given or self.config.confidence == "probability"

    @property
    def uses_validation(self) -> bool:
        """Whether anything is chosen, by one of the two too."""
        return self._chooses or any(part.uses_validation for part in self._parts)

    @property
    def rankers(self) -> tuple[str, ...]:
        """Those that either of the two may ask."""
        return rankers_of(self._parts)

    def check(self, encoder: Encoder) -> None:
        """Let both refuse the encoder. UsageError."""
        check_parts(self._parts, encoder)

    def check_validation(self, validation: Validation) -> None:
        """Refuse a guard for a subset that the benchmark does not have. UsageError."""
        unguarded(self.config.may_lose, validation)
        check_validation_of(self._parts, validation)

    def fit(self, context: Context) -> None:
        """Fit both; choose the threshold on validation pictures, which both are asked about.

        Raises:
            UsageError: there are none to choose on, or the benchmark compares scores between samples.
            DataError: a validation picture got no reply of a ranker.
        """
        if context.every_class:
            raise UsageError(
                "cascade gives scores of two methods, which cannot be compared between pictures as this benchmark's "
                "metrics do; run the two methods by themselves"
            )
        parts = self._opened()
        for part in parts:
            fit_inner(part, context)
        rule, temperature = self._given(), None
        facts: dict[str, Any] = {}
        if self._chooses:
            if context.validation is None or not context.validation.samples:
                raise UsageError(
                    "cascade chooses its threshold on validation pictures, and this benchmark has none; give "
                    "threshold=NUMBER with confidence=margin, or budget=0 or budget=1"
                )
            note_unguarded(self.config.may_lose, context.validation)
            rule, temperature, facts = self._select(context, context.validation, parts)
        self._state = _State(parts, rule, temperature, facts)

    def _given(self) -> Rule:
        if self.config.threshold is not None:
            return Rule("some", self.config.threshold)
        return Rule("all" if self.config.budget == 1 else "none")

    def _select(
        self, context: Context, validation: Validation, parts: _Parts
    ) -> tuple[Rule, float | None, dict[str, Any]]:
        """The rule and the temperature that validation gives, with the cost curve."""
        benchmark, config = validation.benchmark, self.config
        if not same_classes(context, benchmark):
            parts = self._opened()
            for part in parts:
                fit_inner(part, with_classes(context, benchmark))
        cheap, expensive = (
            _answered(part, str(of["method"]), validation)
            for part, of in zip(parts, (config.cheap, config.expensive), strict=True)
        )
        temperature = None
        if config.confidence == "probability":
            labels = np.array([sample.label for sample in validation.samples], dtype=np.int64)
            temperature = fitted_temperature(cheap, labels)
        sure = _confidence(cheap, temperature)

        def scored(rule: Rule) -> dict[str, float]:
            asked = rule.asked(sure)
            taken = Predictions(expensive.ranked[asked], expensive.scores[asked])
            return subset_scores(validation, mixed(cheap, taken, asked)[0])

        def point(rule: Rule) -> dict[str, Any]:
            calls = int(rule.asked(sure).sum())
            scores = {name: round(score, 2) for name, score in scored(rule).items()}
            return {"calls": calls, "share": calls / len(sure), "threshold": rule.threshold, "scores": scores}

        shares = sorted(set(config.shares))
        curve = [{"budget": share, **point(within(sure, share))} for share in shares]
        rule = self._given() if config.threshold is not None else within(sure, config.budget)
        if config.choose == "score":
            settings: list[Setting] = [{"share": share} for share in shares if share <= config.budget]
            best, _ = select(
                settings, lambda one: scored(within(sure, one["share"])), scored(Rule("none")), config.may_lose
            )
            rule = within(sure, best.setting["share"])
        chosen = {"asks": rule.asks, **point(rule)}
        facts = {"selection": {"benchmark": benchmark.name, "pictures": len(sure), "chosen": chosen}, "curve": curve}
        return rule, temperature, facts

    def predict(self, samples: Sequence[Sample]) -> Predictions:
        """Scores are those of whoever answered. Columns of both are kept, and `asked`, `confidence` and `cheap_first`
        (index of the cheap method's first class), from which the cost curve can be drawn afterwards.
        """
        state = require_fitted(self._state, "cascade")
        cheap = ranked(state.parts.cheap, str(self.config.cheap["method"]), samples)
        sure = _confidence(cheap, state.temperature)
        asked = state.rule.asked(sure)
        expensive = None
        if asked.any():
            unsure = [sample for sample, ask in zip(samples, asked, strict=True) if ask]
            expensive = ranked(state.parts.expensive, str(self.config.expensive["method"]), unsure)
        classes, scores = mixed(cheap, expensive, asked)
        extras = columns(cheap.extras, {} if expensive is None else expensive.extras, asked)
        extras |= {
            "asked": asked.tolist(),
            "confidence": sure.tolist(),
            "cheap_first": cheap.ranked[:, 0].tolist(),
        }
        return Predictions(classes, scores, extras, candidates(cheap, expensive, asked) if self.rankers else None)

    def facts(self) -> dict[str, Any]:
        """The rule, how it was chosen, the cost curve on validation, and the facts of both methods."""
        state, config = require_fitted(self._state, "cascade"), self.config
        inner = [part.facts() for part in state.parts]
        given = (config.cheap, config.expensive)
        cheap, expensive = ({"method": of["method"], "facts": facts} for of, facts in zip(given, inner, strict=True))
        asking = [facts["ranker"] for facts in inner[::-1] if "ranker" in facts]
        return {
            "confidence": config.confidence,
            "temperature": state.temperature,
            "asks": state.rule.asks,
            "threshold": state.rule.threshold,
            **state.facts,
            "cheap": cheap,
            "expensive": expensive,
            **({"ranker": asking[0]} if asking else {}),
            **trained_parameters(inner),
        }


def _confidence(found: Predictions, temperature: float | None) -> Doubles:
    return margins(found) if temperature is None else probabilities(found, temperature)


def _answered(part: Method, name: str, validation: Validation) -> Predictions:
    """What a part says about the validation pictures; DataError where its ranker gave no reply for one."""
    found = ranked(part, name, validation.samples)
    lost = [i for i, status in enumerate(found.extras.get(REPLY_STATUS, ())) if status == Status.TIMEOUT]
    if lost:
        reason = " ".join(str(found.extras["reply"][lost[0]]).split())[:200]
        raise DataError(
            f"the ranker of '{name}' gave no reply for {len(lost)} of {len(validation.samples)} validation pictures of "
            f"'{validation.benchmark.name}' (first: {reason}); every reply that came is kept, run again to ask only "
            "for the rest"
        )
    return found
