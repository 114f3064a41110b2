"""Errors that a person reads. The command line prints them as one line and exits with their code."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class TriremeError(Exception):
    """Something went wrong that the user can act on; the message says what to do next."""

    exit_code = 1


class UsageError(TriremeError):
    """The request itself is wrong: an unknown name, key or value."""

    exit_code = 2


class DataError(TriremeError):
    """Data is missing, truncated, corrupt, or of another version than the one asked for."""


class MemoryMismatchError(TriremeError):
    """A memory or an embedding does not belong to the encoder that queries it."""


class BrokenRuleError(TriremeError):
    """A method, benchmark, encoder or ranker does what its contract forbids.

    Attributes:
        rule: which one, as `trireme check` calls it.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule

    @classmethod
    def by(cls, who: str, rule: str, what: str) -> BrokenRuleError:
        """Who breaks which rule, and how, in one sentence."""
        return cls(rule, f"{who} breaks the rule '{rule}': {what}")


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name nobody registered, with the nearest known one.

    Args:
        kind: what was looked up, singular ("method", "benchmark", "config key").
        name: what the user typed.
        known: every name that would have worked.
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        hint = f"did you mean '{near[0]}'?"
    elif names:
        hint = "known: " + ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    else:
        hint = "none is known"
    return UsageError(f"unknown {kind} '{name}'; {hint}")
