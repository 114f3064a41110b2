"""The rules of a method. Each is looked at on mock tasks; what a rule asks for is its docstring's first line."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trireme.conformance.asking import Answers, ask, changes, disturb, poisoned, require_same, snapshot
from trireme.conformance.configuration import check_round_trip
from trireme.conformance.interruption import Work, answers_before
from trireme.conformance.mocks import CLASSES
from trireme.conformance.report import NotCheckedError, Rule, broken, told
from trireme.conformance.setting import EncoderKind, Held, Setting, samples_of
from trireme.errors import BrokenRuleError, TriremeError, UsageError
from trireme.methods.base import Context
from trireme.results.schema import plain
from trireme.types import Sample, Supervision, Task

_TOLD = ("none", "captions", "labels")
_HAS = ("fit", "predict", "facts", "supervision", "needs_memory", "uses_validation")


@dataclass
class _Fitted:
    """A method after `fit`, with what it answered to all samples of a task."""

    method: Any
    context: Context
    answers: Answers
    changed: str
    """what of its context it changed, "" for nothing"""
    seconds: float


@dataclass
class MethodTrial:
    """A method under check.

    Attributes:
        folder: everything of the check lies below it.
        config: an instance of its `Config`.
    """

    cls: Any
    config: Any
    folder: Path
    _fitted: dict[Task, _Fitted | Exception] = field(default_factory=dict)
    _kind: EncoderKind = "mock"

    def choose_encoder(self) -> None:
        """Take the mock encoder, or a tiny open_clip model where the method's own `check` refuses that.

        Raises:
            UsageError: it refuses both; what it says of the second.
        """
        try:
            refuses = getattr(self.cls(self.config), "check", None)
        except UsageError:
            raise
        except Exception:  # for the rules to tell
            return
        if refuses is not None:
            try:
                refuses(Setting(self.folder).encoder)
            except UsageError:
                self._kind = "open_clip"
                refuses(self.setting.encoder)

    @property
    def setting(self) -> Setting:
        return Setting(self.folder, self._kind)

    @property
    def tasks(self) -> list[Task]:
        """The declared ones in the order of `Task`."""
        return [task for task in Task if task in self.cls.tasks]

    def fitted(self, task: Task | None = None) -> _Fitted:
        """Fitted once on a task, the first one unless another is asked for.

        Raises:
            NotCheckedError: it fails there, which is for the rule "tasks" to tell.
        """
        task = task or self.tasks[0]
        if task not in self._fitted:
            try:
                self._fitted[task] = self.fit(task, "trained")
            except Exception as error:
                self._fitted[task] = error
        found = self._fitted[task]
        if isinstance(found, Exception):
            raise NotCheckedError(f"it does not get through the task {task}, see above")
        return found

    def failure(self, task: Task) -> Exception | None:
        """What it raised there."""
        try:
            self.fitted(task)
        except NotCheckedError:
            found = self._fitted[task]
            return found if isinstance(found, Exception) else None
        return None

    def fit(self, task: Task, artifacts: str, held: Held = "whole", classes: int = len(CLASSES)) -> _Fitted:
        """Fit anew, and ask about all samples of the task."""
        method = self.cls(self.config)
        context = self.setting.context(method, task, artifacts, held, classes)
        before, start = snapshot(method, context), time.perf_counter()
        method.fit(context)
        seconds = time.perf_counter() - start
        answers = ask(method, samples_of(task), task, classes)
        return _Fitted(method, context, answers, changes(before, snapshot(method, context)), seconds)


def declaration(trial: MethodTrial) -> str:
    """`Config`, `tasks`, `version`, `supervision` and all functions are there, of the types of the contract."""
    cls = trial.cls
    tasks = getattr(cls, "tasks", None)
    if not isinstance(tasks, frozenset | set) or not tasks or not all(isinstance(task, Task) for task in tasks):
        raise broken("`tasks` is no frozenset of trireme.types.Task with one at least")
    version = getattr(cls, "version", None)
    if not isinstance(version, int) or isinstance(version, bool):
        raise broken("`version` is no whole number; start with 1 and raise it when the answers change")
    method = cls(trial.config)
    if absent := [name for name in _HAS if not hasattr(method, name)]:
        raise broken(f"it has no `{absent[0]}`; see trireme.methods.base.Method")
    supervision = method.supervision
    if not isinstance(supervision, Supervision) or not {supervision.training, supervision.inference} <= set(_TOLD):
        raise broken(f"`supervision` is no trireme.types.Supervision of {', '.join(_TOLD)}")
    if Task.RETRIEVAL in tasks and not (hasattr(cls, "embed_images") and hasattr(cls, "embed_texts")):
        raise broken("it declares the task retrieval and lacks embed_images or embed_texts")
    return ", ".join(trial.tasks)


def config(trial: MethodTrial) -> str:
    """The config is a dataclass with defaults, and each field comes back from the command line and from JSON."""
    return check_round_trip("method", trial.cls)


def tasks(trial: MethodTrial) -> str:
    """It fits and answers on a benchmark of each task that it declares."""
    for task in trial.tasks:
        error = trial.failure(task)
        if error is not None and not isinstance(error, BrokenRuleError):
            raise broken(f"{task}: {told(error)}") from error
    return ", ".join(trial.tasks)


def _answer_rule(name: str) -> Rule:
    """A rule that every answer is held against as it comes."""

    def rule(trial: MethodTrial) -> str:
        for task in trial.tasks:
            error = trial.failure(task)
            if isinstance(error, BrokenRuleError) and error.rule == name:
                raise broken(f"{task}: {error}")
            if error is not None:
                raise NotCheckedError(f"it does not get through the task {task}, see above")
        return ""

    return rule


def order(trial: MethodTrial) -> str:
    """The best class stands first: scores fall along a row."""
    for task in trial.tasks:
        for sample, answer in trial.fitted(task).answers.items() if task is not Task.RETRIEVAL else ():
            if (answer[1][1:] > answer[1][:-1]).any():
                raise broken(f"{task}: a score of sample {sample} is higher than the one before it")
    return ""


def determinism(trial: MethodTrial) -> str:
    """The same seed gives the same answers, trained anew and whatever the global random states are."""
    before = trial.fitted()
    disturb(1)
    after = trial.fit(trial.tasks[0], "trained-again")
    disturb(2)
    require_same(before.answers, after.answers, "draw every random number from a generator seeded by context.seed")
    again = ask(before.method, samples_of(trial.tasks[0]), trial.tasks[0], len(CLASSES))
    require_same(before.answers, again, "asking twice must give the same answer twice")
    return ""


def batches(trial: MethodTrial) -> str:
    """An answer does not depend on how many samples are asked about at once."""
    for task in trial.tasks:
        found, asked = trial.fitted(task), samples_of(task)
        for size in (1, len(asked)):
            answers = ask(found.method, asked, task, len(CLASSES), size)
            require_same(found.answers, answers, f"{task}: with batches of {size} it answers differently than with 7")
    return ""


def sample_order(trial: MethodTrial) -> str:
    """An answer does not depend on the samples that come before it."""
    for task in trial.tasks:
        found, asked = trial.fitted(task), samples_of(task)
        answers = ask(found.method, asked[::-1], task, len(CLASSES))
        require_same(found.answers, answers, f"{task}: in the opposite order it answers differently")
    return ""


def inputs(trial: MethodTrial) -> str:
    """Samples, context, memory and config are as they were after it fitted and answered."""
    for task in trial.tasks:
        error = trial.failure(task)
        if isinstance(error, BrokenRuleError) and error.rule == "inputs":
            raise broken(str(error))
        if changed := trial.fitted(task).changed:
            raise broken(f"it changes {changed}; other methods of the comparison read it too")
    return ""


def labels(trial: MethodTrial) -> str:
    """Test labels do not reach it: under other ids and paths, with wrong labels, it gives the same answers."""
    ranks = [task for task in trial.tasks if task is not Task.RETRIEVAL]
    if not ranks:
        raise NotCheckedError("retrieval has no labels that a method could see")
    found, asked = trial.fitted(ranks[0]), samples_of(ranks[0])
    false = poisoned(asked, len(CLASSES), _copies(asked, trial.folder / "copies"))
    answers = ask(found.method, list(false.values()), ranks[0], len(CLASSES))
    renamed = {one: answers[false[one].id] for one in false}
    require_same(found.answers, renamed, "an answer depends on the picture alone, not on its id, path, label or group")
    return ""


def _copies(samples: Sequence[Sample], folder: Path) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    found = {}
    for place, path in enumerate(dict.fromkeys(one.image.path for one in samples)):
        found[path] = shutil.copy(path, folder / f"other-{place}.png")
    return {path: str(copy) for path, copy in found.items()}


def supervision(trial: MethodTrial) -> str:
    """What it says that it is not told does not change its answers: labels of pictures, captions."""
    before, task = trial.fitted(), trial.tasks[0]
    told_of = before.method.supervision
    most = max((told_of.training, told_of.inference), key=_TOLD.index)
    if most == "labels":
        raise NotCheckedError("it says that it is told labels, the most there is")
    held: list[tuple[Held, str]] = [("relabelled", "labels")]
    held += [("recaptioned", "captions")] if most == "none" else []
    for kind, what in held:
        after = trial.fit(task, f"trained-{kind}", kind)
        require_same(before.answers, after.answers, f"it reads {what} and declares {told_of}")
    return str(most)


def memory(trial: MethodTrial) -> str:
    """Without a memory, with an empty one and with one of other classes it answers, or says what is wrong."""
    if not trial.fitted().method.needs_memory:
        raise NotCheckedError("it needs no memory")
    heard = []
    kinds: Mapping[Held, str] = {
        "none": "no memory",
        "empty": "an empty memory",
        "foreign": "a memory of other classes",
    }
    for held, shown in kinds.items():
        heard.append(f"{shown}: {_answered_or_refused(trial, shown, held=held)}")
    return "; ".join(heard)


def one_class(trial: MethodTrial) -> str:
    """With one class it answers, or says what is wrong."""
    if trial.tasks == [Task.RETRIEVAL]:
        raise NotCheckedError("retrieval has no classes")
    return _answered_or_refused(trial, "one class", classes=1)


def _answered_or_refused(trial: MethodTrial, shown: str, **changed: Any) -> str:
    trial.fitted()  # where it fails on the whole task, that is what is told
    try:
        trial.fit(trial.tasks[0], f"trained-{shown.replace(' ', '-')}", **changed)
    except BrokenRuleError as error:
        raise broken(f"with {shown}: {error}") from error
    except TriremeError:
        return "refuses"
    except Exception as error:
        advice = "answer, or raise trireme.errors.DataError with a line on what to do"
        raise broken(f"with {shown} it raises {told(error)}; {advice}") from error
    return "answers"


def resume(trial: MethodTrial) -> str:
    """Killed while it fits and again while it answers, it goes on and answers as if nothing had happened."""
    found, task = trial.fitted(), trial.tasks[0]
    work = Work(
        trial.cls, trial.config, task, trial.folder, trial.setting.kind, str(trial.folder), len(CLASSES),
        fit_for=max(found.seconds / 2, 0.002),
    )  # fmt: skip
    answers_before(work)
    stored = answers_before(replace(work, fit_for=0.0))
    method = trial.cls(trial.config)
    method.fit(trial.setting.context(method, task, "interrupted"))
    left = [sample for sample in samples_of(task) if sample.id not in stored]
    both = {**stored, **ask(method, left, task, len(CLASSES))}
    require_same(found.answers, both, "a run that was killed and goes on ends in other answers")
    return ""


def facts(trial: MethodTrial) -> str:
    """`facts()` is a mapping that JSON can hold."""
    found = trial.fitted().method.facts()
    if not isinstance(found, Mapping):
        raise broken(f"facts() gives {type(found).__name__}; give a dictionary")
    plain(found, "facts")
    return ", ".join(map(str, found))[:60]


RULES: Mapping[str, Rule] = {
    "declaration": declaration,
    "config": config,
    "tasks": tasks,
    "shapes": _answer_rule("shapes"),
    "numbers": _answer_rule("numbers"),
    "ids": _answer_rule("ids"),
    "order": order,
    "determinism": determinism,
    "batches": batches,
    "sample-order": sample_order,
    "inputs": inputs,
    "labels": labels,
    "supervision": supervision,
    "memory": memory,
    "one-class": one_class,
    "resume": resume,
    "facts": facts,
}
