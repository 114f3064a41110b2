"""What a check found: one outcome a rule, and how rules are run one after the other."""

from __future__ import annotations

import io
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trireme.errors import BrokenRuleError, TriremeError, unknown_name

PASSED, WARNED, BROKEN, SKIPPED = "pass", "warn", "FAIL", "skip"
_FIRST, _TELLING = "declaration", "resume"
"""The rule without which nothing else can be looked at; the one whose absence the summary tells."""


class Doubtful(str):
    """What a rule returns that is kept, but hardly as it was meant."""

    __slots__ = ()


class NotCheckedError(Exception):
    """A rule that cannot be looked at here; the text says why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one rule.

    Attributes:
        status: "pass", "warn" (kept, but look at it), "FAIL" or "skip".
        detail: how the rule is broken, why it was not looked at, or what is worth knowing of a pass.
    """

    rule: str
    status: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All outcomes of one check. Its text has a line a rule; in a test: `assert report.passed, report`.

    Attributes:
        name: what was checked.
        source: where it comes from: a distribution with its version, or a module.
    """

    kind: str
    name: str
    source: str
    outcomes: tuple[Outcome, ...]

    @property
    def passed(self) -> bool:
        """Whether no rule is broken."""
        return not self.broken

    @property
    def broken(self) -> tuple[str, ...]:
        """The rules that are broken."""
        return tuple(one.rule for one in self.outcomes if one.status == BROKEN)

    def __str__(self) -> str:
        width = max((len(one.rule) for one in self.outcomes), default=0)
        lines = [f"{one.status}  {self.name}  {one.rule:{width}}  {one.detail}".rstrip() for one in self.outcomes]
        counts = Counter(one.status for one in self.outcomes)
        words = {PASSED: "passed", WARNED: "doubtful", BROKEN: "broken", SKIPPED: "skipped"}
        told = [f"{counts[status]} {word}" for status, word in words.items() if status != WARNED or counts[status]]
        told += [f"{one.rule} NOT checked" for one in self.outcomes if (one.rule, one.status) == (_TELLING, SKIPPED)]
        return "\n".join([*lines, f"{self.kind} {self.name} ({self.source}): {', '.join(told)}"])


Rule = Callable[[Any], str | None]
"""Looks at a trial; returns what is worth knowing (Doubtful: a warning), raises BrokenRuleError, NotCheckedError or
what a plugin raises."""


def broken(what: str) -> BrokenRuleError:
    """For a rule that names itself when it is run."""
    return BrokenRuleError("", what)


def run_rules(rules: Mapping[str, Rule], trial: Any, chosen: Sequence[str] | None = None) -> tuple[Outcome, ...]:
    """The outcomes of all rules, or of those chosen. What a plugin says on the way is not shown.

    Raises:
        UsageError: no such rule.
    """
    for name in chosen or ():
        if name not in rules:
            raise unknown_name("rule", name, rules)
    found: list[Outcome] = []
    for name, rule in rules.items():
        if found and (found[0].rule, found[0].status) == (_FIRST, BROKEN):
            found.append(Outcome(name, SKIPPED, f"see {_FIRST}"))
        elif chosen is None or name in chosen:
            found.append(_outcome(name, rule, trial))
    return tuple(one for one in found if chosen is None or one.rule in chosen)


def _outcome(name: str, rule: Rule, trial: Any) -> Outcome:
    with quiet():
        try:
            said = rule(trial) or ""
            return Outcome(name, WARNED if isinstance(said, Doubtful) else PASSED, str(said))
        except NotCheckedError as reason:
            return Outcome(name, SKIPPED, " ".join(str(reason).split()))
        except (Exception, SystemExit) as error:
            return Outcome(name, BROKEN, told(error))


def told(error: BaseException) -> str:
    """An error in one line; of those that are nobody's message, with their type."""
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, TriremeError) else f"{type(error).__name__}: {text}".rstrip(": ")


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing is printed: a check fits a method a dozen times, and its notes would come as often."""
    with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
        yield


@contextmanager
def own_home() -> Iterator[Path]:
    """An empty home of Trireme for a check, so that nothing of it stays and nothing that is there takes part."""
    before = os.environ.get("TRIREME_HOME")
    with tempfile.TemporaryDirectory(prefix="trireme-check-") as folder:
        os.environ["TRIREME_HOME"] = folder
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ["TRIREME_HOME"]
            else:
                os.environ["TRIREME_HOME"] = before
