"""A method under check, and what became of it on each task."""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from trireme.conformance.asking import Answers, ask
from trireme.conformance.mocks import CLASSES, watched
from trireme.conformance.report import NotCheckedError
from trireme.conformance.setting import EncoderKind, Held, Setting, samples_of
from trireme.conformance.watching import changes, snapshot
from trireme.errors import BrokenRuleError, UsageError
from trireme.methods.base import Context
from trireme.types import Task


@dataclass
class Fitted:
    """A method after `fit`, with what it answered to all samples of a task."""

    method: Any
    context: Context
    answers: Answers
    changed: str
    """what of its context it changed, "" for nothing"""
    looked: str
    """the benchmark whose test samples it asked for by itself, "" for none"""
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
    _fitted: dict[Task, Fitted | Exception] = field(default_factory=dict)
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

    @cached_property
    def setting(self) -> Setting:
        return Setting(self.folder, self._kind)

    @property
    def ranking(self) -> list[Task]:
        """The tasks with classes, in which answers are ranked ones."""
        return [task for task in self.tasks if task is not Task.RETRIEVAL]

    @property
    def tasks(self) -> list[Task]:
        """The declared ones in the order of `Task`."""
        return [task for task in Task if task in self.cls.tasks]

    def fitted(self, task: Task | None = None) -> Fitted:
        """Fitted once on a task, the first one unless another is asked for.

        Raises:
            NotCheckedError: it fails there, which is for the rule "tasks" to tell.
        """
        task = task or self.tasks[0]
        if task not in self._fitted:
            try:
                self._fitted[task] = self.fit(task, "trained")
            except Exception as error:
                self._fitted[task] = _named(error)
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

    def fit(self, task: Task, artifacts: str, held: Held = "whole", classes: int = len(CLASSES)) -> Fitted:
        """Fit anew, and ask about all samples of the task."""
        given, asked = deepcopy(self.config), samples_of(task)
        method = self.cls(given)
        context = self.setting.context(method, task, artifacts, held, classes)
        before, start = snapshot(self.config, context), time.perf_counter()
        dtype = torch.get_default_dtype()
        try:
            with watched() as looked:
                method.fit(context)
                seconds = time.perf_counter() - start
                answers = ask(method, asked, task, classes)
            after = snapshot(given, context)
        finally:
            torch.set_default_dtype(dtype)  # else one rule would break all that come after it
        return Fitted(method, context, answers, changes(before, after), "".join(looked[:1]), seconds)

    def unasked(self, task: Task) -> Any:
        """Fitted anew from what was trained, and asked about nothing yet."""
        method = self.cls(deepcopy(self.config))
        method.fit(self.setting.context(method, task, "trained"))
        return method


def _named(error: Exception) -> Exception:
    """numpy's refusal to write into an array of the memory is a rule of ours."""
    if isinstance(error, ValueError) and "read-only" in str(error):
        return BrokenRuleError("inputs", f"it writes into an array that it only may read, copy it: {error}")
    return error
