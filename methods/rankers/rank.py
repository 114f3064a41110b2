"""Questions to answers: the four ranking modes, the same on every engine."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from trireme.errors import DataError, UsageError, unknown_name
from trireme.methods.rankers.base import Answer, Engine, Generated, Mode, Prompt, Question, Scored, Status
from trireme.methods.rankers.parse import read_choice, read_list
from trireme.methods.rankers.prompts import WORDINGS, choice_prompt, continuation, letters_prompt, list_prompt

VERSION = 3
"""Of runs, which are named by it: raise it when a question leads to another prompt, or a reply to another order."""

_LOWEST = -1e4
_POLICY = re.compile(r"content[ _-]?(?:filter|policy|management)|polic(?:y|ies)\b|moderat|safety", re.IGNORECASE)
"""In the error of a server that declines for what a prompt shows or says."""

SCORED = (Mode.SCORE, Mode.LETTERS)
"""The modes that give a score for every candidate."""


@dataclass(frozen=True, slots=True)
class Asking:
    """How questions are put.

    Attributes:
        wording: of `list` and `score`, a key of `prompts.WORDINGS`.
        normalise: in `score`, divide a candidate's log-probability by its tokens.
        calibrate: in `score` and `letters`, subtract what the same candidate gets under a blank picture.
        max_tokens: of a reply in `list`.
    """

    mode: Mode = Mode.LIST
    wording: str = "paper"
    normalise: bool = False
    calibrate: bool = False
    max_tokens: int = 256

    def __post_init__(self) -> None:
        if self.wording not in WORDINGS:
            raise unknown_name("wording", self.wording, WORDINGS)
        if self.calibrate and self.mode not in SCORED:
            raise UsageError(f"calibrate has no meaning in mode '{self.mode}'; use score or letters, or leave it out")
        if self.normalise and self.mode is not Mode.SCORE:
            raise UsageError(f"normalise has no meaning in mode '{self.mode}'; use score, or leave it out")
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens={self.max_tokens}: a reply has at least one token")

    def effective(self) -> dict[str, str | bool | int]:
        """The options that can change an answer in this mode, for keys and hashes."""
        used = {
            Mode.LIST: ("wording", "max_tokens"),
            Mode.CHOICE: (),
            Mode.SCORE: ("wording", "normalise", "calibrate"),
            Mode.LETTERS: ("calibrate",),
        }[self.mode]
        return {"mode": str(self.mode), "version": VERSION, **{name: getattr(self, name) for name in used}}


def rank(engine: Engine, questions: Sequence[Question], asking: Asking) -> list[Answer]:
    """One answer a question, in their order. A question that gets no reply is marked TIMEOUT, in retrieval order.

    One that can never get a reply is UNREADABLE, or REFUSED where a policy is the reason; the reply is that reason.
    A question without candidates is not asked; its order is empty.

    Raises:
        UsageError: more candidates than there are letters. DataError: the model gives NaN.
    """
    asked = [question for question in questions if question.candidates]
    answers = iter(_rank(engine, asked, asking) if asked else [])
    return [next(answers) if question.candidates else Answer((), "", Status.OK) for question in questions]


def asked_texts(question: Question, asking: Asking) -> list[str]:
    """Everything that a question says and that can be answered to it, as text, for keys of replies."""
    if asking.mode is Mode.LETTERS:
        prompt, letters = letters_prompt(question)
        return [*prompt.texts, *letters]
    if asking.mode is Mode.CHOICE:
        return [*choice_prompt(question).texts, *question.candidates]
    texts = list(list_prompt(question, asking.wording).texts)
    if asking.mode is Mode.LIST:
        return texts
    return [*texts, *(continuation(name, asking.wording) for name in question.candidates)]


def _rank(engine: Engine, questions: Sequence[Question], asking: Asking) -> list[Answer]:
    if asking.mode is Mode.SCORE:
        prompts = [list_prompt(question, asking.wording) for question in questions]
        texts = [[continuation(name, asking.wording) for name in question.candidates] for question in questions]
        found, blank = engine.score(prompts, texts), _blank(engine, prompts, texts, asking)
        return _by_score(questions, found, blank, asking.normalise)
    if asking.mode is Mode.LETTERS:
        lettered = [letters_prompt(question) for question in questions]
        prompts, texts = [prompt for prompt, _ in lettered], [list(letters) for _, letters in lettered]
        found, blank = engine.next_token(prompts, texts), _blank(engine, prompts, texts, asking)
        return _by_score(questions, found, blank, False)
    return _by_reply(engine, questions, asking)


def _by_reply(engine: Engine, questions: Sequence[Question], asking: Asking) -> list[Answer]:
    if asking.mode is Mode.LIST:
        prompts = [list_prompt(question, asking.wording) for question in questions]
        replies = engine.generate(prompts, asking.max_tokens)
    else:
        prompts = [choice_prompt(question) for question in questions]
        replies = engine.choose(prompts, [list(dict.fromkeys(question.candidates)) for question in questions])
    read = read_list if asking.mode is Mode.LIST else read_choice
    answers = []
    for question, reply in zip(questions, replies, strict=True):
        if reply.failed:
            answers.append(_unanswered(len(question.candidates), reply))
            continue
        text = reply.text.encode("utf-8", "replace").decode("utf-8")  # half of a surrogate pair cannot be stored
        order, status = read(text, question.candidates)
        answers.append(Answer(order, text, status, None, reply.prompt_tokens, reply.completion_tokens))
    return answers


def _by_score(
    questions: Sequence[Question], found: Sequence[Scored], blank: Sequence[Scored] | None, normalise: bool
) -> list[Answer]:
    answers = []
    for position, (question, scored) in enumerate(zip(questions, found, strict=True)):
        prior = blank[position] if blank is not None else None
        failed = scored if scored.failed else prior
        if failed is not None and failed.failed:
            answers.append(_unanswered(len(question.candidates), failed))
            continue
        values = _values(scored, normalise)
        spent = (scored.prompt_tokens, scored.completion_tokens)
        if prior is not None:
            values = [value - other for value, other in zip(values, _values(prior, normalise), strict=True)]
        if any(math.isnan(value) for value in values):
            raise DataError("the ranker gives NaN for a candidate; its dtype is too small or its weights are broken")
        order = sorted(range(len(values)), key=lambda i: -values[i])  # stable: equal scores keep retrieval order
        answers.append(Answer(tuple(order), "", Status.OK, tuple(values), *spent))
    return answers


def _values(scored: Scored, normalise: bool) -> list[float]:
    """Log-probabilities, a token impossible in the model's precision counted as very unlikely."""
    sums = [max(total, _LOWEST) for total in scored.sums]
    return [total / count for total, count in zip(sums, scored.tokens, strict=True)] if normalise else sums


def _unanswered(candidates: int, given: Generated | Scored) -> Answer:
    status = Status.TIMEOUT
    if given.permanent:
        status = Status.REFUSED if _POLICY.search(given.failed) else Status.UNREADABLE
    return Answer(tuple(range(candidates)), given.failed, status)


def _blank(
    engine: Engine, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]], asking: Asking
) -> list[Scored] | None:
    """The same questions under a blank picture in the place of the query's. Every text is asked once a prompt."""
    if not asking.calibrate:
        return None
    blanks = [replace(prompt, images=(*prompt.images[:-1], None)) for prompt in prompts]
    wanted: dict[Prompt, dict[str, int]] = {}
    for prompt, options in zip(blanks, texts, strict=True):
        places = wanted.setdefault(prompt, {})
        for option in options:
            places.setdefault(option, len(places))
    ask = engine.score if asking.mode is Mode.SCORE else engine.next_token
    found = dict(zip(wanted, ask(list(wanted), [list(places) for places in wanted.values()]), strict=True))
    return [
        _picked(found[prompt], [wanted[prompt][o] for o in options])
        for prompt, options in zip(blanks, texts, strict=True)
    ]


def _picked(scored: Scored, places: Sequence[int]) -> Scored:
    if scored.failed:
        return scored
    return Scored(tuple(scored.sums[i] for i in places), tuple(scored.tokens[i] for i in places))
