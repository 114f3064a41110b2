"""Which of the finished runs are meant: `KEY=VALUE[,VALUE]`, all of which have to hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from trireme.errors import UsageError, unknown_name
from trireme.results.records import RunRecord

KEYS: dict[str, Callable[[RunRecord], str]] = {
    "method": lambda record: record.method,
    "benchmark": lambda record: record.benchmark,
    "encoder": lambda record: str(record.data["encoder"]["name"]),
    "memory": lambda record: str((record.data["memory"] or {}).get("name", "none")),
    "seed": lambda record: str(record.seed),
    "role": lambda record: record.role,
    "run": lambda record: record.run,
    "name": lambda record: record.name,
}


def select(records: Iterable[RunRecord], where: Sequence[str]) -> list[RunRecord]:
    """The records that every condition holds of; test runs only, unless `role` is among the conditions.

    Raises:
        UsageError: a condition is no `KEY=VALUE`, its key is unknown, or it holds of no record (names those there are).
    """
    conditions = [_condition(text) for text in where]
    if "role" not in {key for key, _ in conditions}:
        conditions.append(("role", ["test"]))
    left = list(records)
    for key, values in conditions:
        there = {KEYS[key](record) for record in left}
        left = [record for record in left if KEYS[key](record) in values]
        if there and not left:
            raise unknown_name(f"{key} among the finished runs", values[0], there)
    return left


def _condition(text: str) -> tuple[str, list[str]]:
    key, equals, values = text.partition("=")
    if not equals or not values:
        raise UsageError(f"'{text}' is no condition; write KEY=VALUE, e.g. --where method=reco,rar")
    if key not in KEYS:
        raise unknown_name("key of --where", key, KEYS)
    return key, values.split(",")
