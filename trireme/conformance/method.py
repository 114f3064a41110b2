"""The rules of a method. Each is looked at on mock tasks; what a rule asks for is its docstring's first line."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from scipy.stats import binom

from trireme.conformance.asking import Answers, ask, poisoned, repeated, require_same
from trireme.conformance.configuration import check_round_trip
from trireme.conformance.interruption import Work, answers_before
from trireme.conformance.mocks import CLASSES
from trireme.conformance.report import Doubtful, NotCheckedError, Rule, broken, told
from trireme.conformance.setting import Held, benchmark_of, samples_of
from trireme.conformance.trial import MethodTrial
from trireme.conformance.watching import disturb
from trireme.errors import BrokenRuleError, TriremeError
from trireme.results.schema import plain
from trireme.types import Sample, Supervision, Task

_TOLD = ("none", "captions", "labels")
_HAS = ("fit", "predict", "facts", "supervision", "needs_memory", "uses_validation")
_MANY = 300
"""Samples of the largest batch that is tried: more than the batches of a run (`batch_size`, 256)."""


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
    """It fits and answers on a benchmark of each task that it declares, better than by chance."""
    shares, poor = [], []
    for task in trial.tasks:
        error = trial.failure(task)
        if error is not None and not isinstance(error, BrokenRuleError):
            raise broken(f"{task}: {told(error)}") from error
        if error is None and task in trial.ranking:
            right, asked = _right(task, trial.fitted(task).answers)
            shares.append(f"{task} {100 * right / asked:.0f} %")
            poor += [task] if right <= binom.ppf(0.95, asked, 1 / len(CLASSES)) else []
        else:
            shares.append(str(task))
    said = ", ".join(shares)
    if poor and trial.setting.kind == "mock":
        by = f"chance gives {100 / len(CLASSES):.3g} %"
        return Doubtful(f"{said} of the first classes are right; {by}: are the indices those of context.class_ids?")
    return said


def _right(task: Task, answers: Answers) -> tuple[int, int]:
    """How many of the first classes are right, and of how many samples."""
    labels = {sample.id: sample.label for sample in benchmark_of(task).samples()}
    firsts = {sample: ranked[0] if len(ranked) else -1 for sample, (ranked, _) in answers.items()}
    return sum(first == labels[sample] for sample, first in firsts.items()), len(firsts)


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
    for task in trial.tasks:
        before = trial.fitted(task)
        disturb(1)
        after = trial.fit(task, "trained-again")
        disturb(2)
        advice = "draw every random number from a generator seeded by context.seed"
        require_same(before.answers, after.answers, f"{task}: {advice}")
        again = ask(before.method, samples_of(task), task, len(CLASSES))
        require_same(before.answers, again, f"{task}: asking twice must give the same answer twice")
    return ""


def batches(trial: MethodTrial) -> str:
    """An answer does not depend on how many samples are asked about at once, nor on the first batch of all."""
    for task in trial.tasks:
        found, asked, method = trial.fitted(task), samples_of(task), trial.unasked(task)
        answers = ask(method, asked, task, len(CLASSES), 1)
        require_same(found.answers, answers, f"{task}: one by one it answers differently than in batches of 7")
        times = repeated(asked, -(-_MANY // len(asked)))
        many = [sample for again in times for sample in again]
        answers = ask(method, many, task, len(CLASSES), len(many))
        for again in times:
            renamed = {one.id: answers[copy.id] for one, copy in zip(asked, again, strict=True)}
            why = f"{task}: with {len(many)} samples at once it answers differently than with 7"
            require_same(found.answers, renamed, why)
    return ""


def sample_order(trial: MethodTrial) -> str:
    """An answer does not depend on the samples that come before it."""
    for task in trial.tasks:
        found, asked = trial.fitted(task), samples_of(task)
        answers = ask(found.method, asked[::-1], task, len(CLASSES))
        require_same(found.answers, answers, f"{task}: in the opposite order it answers differently")
    return ""


def _raise_told(trial: MethodTrial, rule: str) -> None:
    """BrokenRuleError where an error that broke this rule came up on the way."""
    for task in trial.tasks:
        error = trial.failure(task)
        if isinstance(error, BrokenRuleError) and error.rule == rule:
            raise broken(f"{task}: {error}")


def inputs(trial: MethodTrial) -> str:
    """Samples, context, memory, config and the state of the process are as they were after it fitted and answered."""
    _raise_told(trial, "inputs")
    for task in trial.tasks:
        if changed := trial.fitted(task).changed:
            raise broken(f"{task}: it changes {changed}; other methods of the comparison share it")
    return ""


def labels(trial: MethodTrial) -> str:
    """Test labels do not reach it: under other ids and paths, with wrong labels, it gives the same answers."""
    _raise_told(trial, "labels")
    for task in trial.tasks:
        if looked := trial.fitted(task).looked:
            raise broken(f"{task}: it asks for the test samples of {looked}")
    if not trial.ranking:
        raise NotCheckedError("retrieval has no labels that a method could see")
    for task in trial.ranking:
        found, asked = trial.fitted(task), samples_of(task)
        false = poisoned(asked, len(CLASSES), _copies(asked, trial.folder / "copies"))
        answers = ask(found.method, list(false.values()), task, len(CLASSES))
        renamed = {one: answers[false[one].id] for one in false}
        why = f"{task}: an answer depends on the picture alone, not on its id, path, label or group"
        require_same(found.answers, renamed, why)
    return ""


def _copies(samples: Sequence[Sample], folder: Path) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    found = {}
    for place, path in enumerate(dict.fromkeys(one.image.path for one in samples)):
        found[path] = shutil.copy(path, folder / f"other-{place}.png")
    return {path: str(copy) for path, copy in found.items()}


def supervision(trial: MethodTrial) -> str:
    """What it says that it is not told does not change its answers: labels of pictures, captions."""
    told_of = trial.fitted().method.supervision
    most = max((told_of.training, told_of.inference), key=_TOLD.index)
    if most == "labels":
        raise NotCheckedError("it says that it is told labels, the most there is")
    held: list[tuple[Held, str]] = [("relabelled", "labels")]
    held += [("recaptioned", "captions")] if most == "none" else []
    for task in trial.tasks:
        for kind, what in held:
            after = trial.fit(task, f"trained-{kind}", kind)
            require_same(trial.fitted(task).answers, after.answers, f"{task}: it reads {what} and declares {told_of}")
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
        heard.append(f"{shown}: {_answered_or_refused(trial, shown, trial.tasks[0], held=held)}")
    return "; ".join(heard)


def one_class(trial: MethodTrial) -> str:
    """With one class it answers, or says what is wrong."""
    if not trial.ranking:
        raise NotCheckedError("retrieval has no classes")
    heard = {task: _answered_or_refused(trial, "one class", task, classes=1) for task in trial.ranking}
    if len({*heard.values()}) == 1:
        return heard[trial.ranking[0]]
    return ", ".join(f"{task}: {what}" for task, what in heard.items())


def _answered_or_refused(trial: MethodTrial, shown: str, task: Task, **changed: Any) -> str:
    trial.fitted(task)  # where it fails on the whole task, that is what is told
    try:
        trial.fit(task, f"trained-{shown.replace(' ', '-')}", **changed)
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
    method = trial.cls(deepcopy(trial.config))
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
