"""Killing a method's process in the middle, and going on from what it left: there is no other proof of resuming."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trireme.conformance.asking import Answers, ask
from trireme.conformance.report import NotCheckedError, broken, quiet
from trireme.conformance.setting import EncoderKind, Setting, samples_of
from trireme.types import Task

_DONE, _FAULT = "answers.npz", "fault.txt"
_LIMIT = 300
"""Seconds that a process may take; one that hangs breaks the rule."""


@dataclass(frozen=True)
class Work:
    """What the process does that will be killed.

    Attributes:
        fit_for: seconds after which it is killed while it fits; 0: it is not, but after half of the samples.
    """

    method: type[Any]
    config: Any
    task: Task
    folder: Path
    encoder: EncoderKind
    home: str
    classes: int
    fit_for: float = 0.0


def answers_before(work: Work) -> Answers:
    """Run, be killed, and give what was stored until then: the answers to the first half of the samples; none where it
    was killed while it fitted.

    Raises:
        NotCheckedError: no process can be killed here, or another process cannot import the method.
        BrokenRuleError: the process failed by itself.
    """
    if not hasattr(signal, "setitimer"):
        raise NotCheckedError("this system cannot kill a process by a timer")
    chosen = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    processes: Any = multiprocessing.get_context(chosen)
    if chosen == "forkserver":
        wanted = ["trireme.conformance.interruption", *(["open_clip"] if work.encoder == "open_clip" else [])]
        processes.set_forkserver_preload(wanted)
    process = processes.Process(target=_work, args=(work,), daemon=True)
    try:
        process.start()
    except Exception as error:  # pickle raises AttributeError, TypeError and its own
        raise NotCheckedError(f"another process cannot be told of the method ({error})") from error
    process.join(_LIMIT)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise broken(f"it does not end within {_LIMIT} s where it is interrupted and goes on")
    return _left(work, process.exitcode)


def _left(work: Work, code: int) -> Answers:
    fault = work.folder / _FAULT
    if fault.exists():
        raise broken(f"after it was killed while it fitted, it fails: {fault.read_text(encoding='utf-8')}")
    if code in (-signal.SIGALRM, -signal.SIGKILL):
        return _read(work.folder / _DONE) if code == -signal.SIGKILL else {}
    raise NotCheckedError(f"another process cannot import {work.method.__module__}.{work.method.__qualname__}")


def _work(work: Work) -> None:
    """Fit and answer half of the samples, unless the timer strikes first; then die as by `kill -9`."""
    os.environ["TRIREME_HOME"] = work.home
    with quiet():
        try:
            setting, method = Setting(work.folder, work.encoder), work.method(work.config)
            context = setting.context(method, work.task, "interrupted")
            if work.fit_for:
                signal.setitimer(signal.ITIMER_REAL, work.fit_for)  # nothing catches it: the process is gone at once
            method.fit(context)
            signal.setitimer(signal.ITIMER_REAL, 0)
            samples = samples_of(work.task)
            _write(work.folder / _DONE, ask(method, samples[: len(samples) // 2], work.task, work.classes))
        except Exception as error:
            (work.folder / _FAULT).write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
    os.kill(os.getpid(), signal.SIGKILL)


def _write(path: Path, answers: Answers) -> None:
    rows: dict[str, Any] = {}
    for sample, answer in answers.items():
        parts = answer if isinstance(answer, tuple) else (answer,)
        rows |= {f"{sample}|{place}": part for place, part in enumerate(parts)}
    np.savez(path, **rows)


def _read(path: Path) -> Answers:
    found: dict[str, list[Any]] = {}
    with np.load(path, allow_pickle=False) as rows:
        for name in rows.files:
            found.setdefault(name.rpartition("|")[0], []).append(rows[name])
    return {sample: tuple(parts) if len(parts) > 1 else parts[0] for sample, parts in found.items()}
