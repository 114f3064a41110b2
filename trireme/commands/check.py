"""`trireme check`: a method, benchmark, encoder or ranker against the rules of its kind."""

from __future__ import annotations

from collections.abc import Sequence

from trireme import config
from trireme.commands.new import KINDS
from trireme.errors import UsageError, unknown_name


def check(kind: str, name: str, options: Sequence[str], rules: Sequence[str]) -> int:
    """Print a line a rule; 1 where one is broken.

    Raises:
        UsageError: an unknown kind, name, option or rule.
    """
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    config.find(kind, name)  # a wrong name is told before anything heavy is imported
    given: dict[str, str] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not value:
            raise UsageError(f"'{option}' is not FIELD=VALUE, such as k=10")
        given[key] = value
    from trireme.conformance import CHECKS

    report = CHECKS[kind](name, given, list(rules) or None)
    print(report)
    return 0 if report.passed else 1
