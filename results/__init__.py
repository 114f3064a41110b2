"""Run records, statistics and leaderboards. Nothing here loads a model, and nothing heavy is imported until it is used.

`trireme.results.load(path)` gives the tidy frame, `pivot` the table, `find_runs` the records themselves.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trireme.results.leaderboard import load as load
    from trireme.results.leaderboard import pivot as pivot
    from trireme.results.records import RunRecord as RunRecord
    from trireme.results.records import find_runs as find_runs
    from trireme.results.records import read_predictions as read_predictions
    from trireme.results.records import read_run as read_run
    from trireme.results.records import write_run as write_run
    from trireme.results.statistics import interval as interval
    from trireme.results.statistics import joint_paired_difference as joint_paired_difference
    from trireme.results.statistics import paired_difference as paired_difference
    from trireme.results.testing import holm as holm
    from trireme.results.testing import mcnemar_exact as mcnemar_exact
    from trireme.results.testing import smallest_difference as smallest_difference

_HOMES = {
    "load": "leaderboard",
    "pivot": "leaderboard",
    "RunRecord": "records",
    "find_runs": "records",
    "read_predictions": "records",
    "read_run": "records",
    "write_run": "records",
    "interval": "statistics",
    "joint_paired_difference": "statistics",
    "paired_difference": "statistics",
    "holm": "testing",
    "mcnemar_exact": "testing",
    "smallest_difference": "testing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trireme.results' has no attribute '{name}'")
    return getattr(import_module(f"trireme.results.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
