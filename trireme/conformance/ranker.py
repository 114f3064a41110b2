"""The rules of a ranker: one answer a prompt in every mode that it offers, alone as among others, and no exception."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from trireme.conformance.configuration import check_round_trip
from trireme.conformance.mocks import CLASSES, labelled
from trireme.conformance.report import NotCheckedError, Rule, broken
from trireme.errors import UsageError
from trireme.methods.rankers.base import Generated, Mode, Prompt, Question, Scored
from trireme.methods.rankers.prompts import choice_prompt, continuation, letters_prompt, list_prompt
from trireme.types import ImageRef

_HAS = ("name", "fingerprint", "told", "version", "generate", "choose", "score", "next_token")
_TOLERANCE = 1e-2
"""Log-probabilities in two batches; half precision rounds as coarsely."""


@dataclass
class RankerTrial:
    """A ranker under check, with four questions of different lengths."""

    cls: Any
    config: Any

    @cached_property
    def engine(self) -> Any:
        return self.cls(self.config)

    @cached_property
    def questions(self) -> list[Question]:
        return [Question(one.image, CLASSES[n : 2 * n + 2]) for n, one in enumerate(labelled("test")[:4])]

    def ask(self, mode: Mode, questions: Sequence[Question], engine: Any = None) -> list[Any]:
        """What it answers in a mode. NotCheckedError where it does not offer it."""
        engine = engine or self.engine
        asking: Mapping[Mode, Callable[[], list[Any]]] = {
            Mode.LIST: lambda: engine.generate([list_prompt(one, "paper") for one in questions], 64),
            Mode.CHOICE: lambda: engine.choose(
                [choice_prompt(o) for o in questions], [o.candidates for o in questions]
            ),
            Mode.SCORE: lambda: engine.score([list_prompt(one, "name") for one in questions], _spoken(questions)),
            Mode.LETTERS: lambda: engine.next_token(*_lettered(questions)),
        }
        try:
            return asking[mode]()
        except UsageError as error:
            raise NotCheckedError(f"not offered: {error}") from error

    @cached_property
    def modes(self) -> list[Mode]:
        """Those that it offers."""
        offered = []
        for mode in Mode:
            try:
                self.ask(mode, self.questions[:1])
            except NotCheckedError:
                continue
            offered.append(mode)
        if not offered:
            raise broken("it offers none of the modes list, choice, score and letters")
        return offered


def _spoken(questions: Sequence[Question]) -> list[list[str]]:
    return [[continuation(name, "name") for name in one.candidates] for one in questions]


def _lettered(questions: Sequence[Question]) -> tuple[list[Prompt], list[list[str]]]:
    made = [letters_prompt(one) for one in questions]
    return [prompt for prompt, _ in made], [list(letters) for _, letters in made]


def declaration(trial: RankerTrial) -> str:
    """All of the contract is there."""
    if absent := [name for name in _HAS if not hasattr(trial.engine, name)]:
        raise broken(f"it has no `{absent[0]}`; see trireme.methods.rankers.base.Engine")
    if trial.engine.told not in ("none", "captions", "labels"):
        raise broken(f"`told` is {trial.engine.told!r}; say none, captions or labels")
    if not isinstance(trial.engine.version, int):
        raise broken("`version` is no whole number")
    return str(trial.engine.name)


def config(trial: RankerTrial) -> str:
    """The config is a dataclass with defaults, and each field comes back from the command line and from JSON."""
    return check_round_trip("ranker", trial.cls)


def modes(trial: RankerTrial) -> str:
    """It offers one mode at least; the others it refuses by UsageError."""
    return ", ".join(trial.modes)


def shapes(trial: RankerTrial) -> str:
    """One answer a prompt, of the type of the contract, with one value a text."""
    for mode in trial.modes:
        found, wanted = trial.ask(mode, trial.questions), Scored if mode in (Mode.SCORE, Mode.LETTERS) else Generated
        if len(found) != len(trial.questions) or not all(isinstance(one, wanted) for one in found):
            raise broken(f"{mode}: it does not give one {wanted.__name__} a prompt")
        for one, question in zip(found, trial.questions, strict=True):
            if one.failed:
                raise broken(f"{mode}: it fails on a small picture: {one.failed}")
            if isinstance(one, Scored) and not len(one.sums) == len(one.tokens) == len(question.candidates):
                raise broken(
                    f"{mode}: {len(one.sums)} sums and {len(one.tokens)} tokens for {len(question.candidates)} texts"
                )
    return ""


def numbers(trial: RankerTrial) -> str:
    """Log-probabilities are numbers up to 0."""
    for mode in trial.modes:
        for one in trial.ask(mode, trial.questions):
            if isinstance(one, Scored) and any(math.isnan(value) or value > 1e-3 for value in one.sums):
                raise broken(f"{mode}: {min(one.sums, key=lambda v: (not math.isnan(v), -v))} is no log-probability")
    return ""


def choices(trial: RankerTrial) -> str:
    """A constrained reply is one of the choices."""
    if Mode.CHOICE not in trial.modes:
        raise NotCheckedError("not offered")
    for one, question in zip(trial.ask(Mode.CHOICE, trial.questions), trial.questions, strict=True):
        if one.text not in question.candidates:
            raise broken(f"it says '{one.text[:80]}', which is none of the choices")
    return ""


def determinism(trial: RankerTrial) -> str:
    """Asked again, and built again, it answers the same under the same fingerprint: decoding is greedy."""
    other = trial.cls(trial.config)
    if other.fingerprint != trial.engine.fingerprint or not str(other.fingerprint):
        raise broken("its fingerprint is another one when it is built again")
    for mode in trial.modes:
        first = trial.ask(mode, trial.questions)
        _same(first, trial.ask(mode, trial.questions), f"{mode}: asked again, it answers differently")
        _same(first, trial.ask(mode, trial.questions, other), f"{mode}: built again, it answers differently")
    return ""


def batches(trial: RankerTrial) -> str:
    """An answer does not depend on the other prompts of a call, nor on their order."""
    for mode in trial.modes:
        together = trial.ask(mode, trial.questions)
        alone = [one for question in trial.questions for one in trial.ask(mode, [question])]
        _same(together, alone, f"{mode}: alone, a prompt gets another answer than among others")
        turned = trial.ask(mode, trial.questions[::-1])[::-1]
        _same(together, turned, f"{mode}: in the opposite order, prompts get other answers")
    return ""


def failures(trial: RankerTrial) -> str:
    """A picture that cannot be read makes its own answer `failed`, and no other."""
    lost = Question(ImageRef("/nowhere/lost.png"), CLASSES[:3])
    for mode in trial.modes:
        try:
            found = trial.ask(mode, [trial.questions[0], lost, trial.questions[1]])
        except Exception as error:
            raise broken(
                f"{mode}: a picture that is missing stops all prompts: {type(error).__name__}: {error}"
            ) from error
        if [bool(one.failed) for one in found] != [False, True, False]:
            raise broken(f"{mode}: of three prompts the one without its picture does not say `failed`, or others do")
    return ""


def fingerprint(trial: RankerTrial) -> str:
    """The fingerprint is short and plain."""
    if not re.fullmatch(r"[\w.:-]{1,200}", str(trial.engine.fingerprint)):
        raise broken("its fingerprint is no short text; see trireme.files.fingerprint")
    return str(trial.engine.fingerprint)


def _same(before: Sequence[Any], after: Sequence[Any], what: str) -> None:
    for one, other in zip(before, after, strict=True):
        if isinstance(one, Generated):
            same = one.text == other.text
        else:
            same = all(abs(a - b) <= _TOLERANCE for a, b in zip(one.sums, other.sums, strict=True))
        if not same:
            raise broken(what)


RULES: Mapping[str, Rule] = {
    "declaration": declaration,
    "config": config,
    "modes": modes,
    "shapes": shapes,
    "numbers": numbers,
    "choices": choices,
    "determinism": determinism,
    "batches": batches,
    "failures": failures,
    "fingerprint": fingerprint,
}
