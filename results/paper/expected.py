"""Results of our own as expected from now on: a file of tables with the values that were found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trireme.errors import DataError, UsageError
from trireme.files import write_json
from trireme.results.paper.tables import Paper
from trireme.results.paper.verdicts import Verdict

DIGITS = 6
"""As run records have them: with fewer, a score could be shown one digit off its own stored value."""


def write_expected(paper: Paper, verdicts: Sequence[Verdict], path: Path, scored_by: str) -> Path:
    """Write the paper's file with new values: score, interval, samples, and what they were made with.

    Args:
        scored_by: the code that computed scores and intervals from the predictions, whatever made those.

    Raises:
        UsageError: the paper is not ours, or is written to another paper's file.
        DataError: a cell was not found, or samples of it failed; nothing is written.
    """
    if not paper.own:
        raise UsageError(f"'{paper.name}' holds published values, which are never overwritten; name a table of our own")
    missing = [one for one in verdicts if one.found is None]
    if missing:
        raise DataError(f"{len(missing)} cells were not found (first: {missing[0].cell.where}: {missing[0].why})")
    failed = [one for one in verdicts if one.found is not None and one.found.failed]
    if failed:
        raise DataError(f"samples failed in {len(failed)} cells (first: {failed[0].cell.where}); run them again first")
    found = {(one.cell.table, one.cell.row, one.cell.column): one for one in verdicts}
    data: dict[str, Any] = json.loads(paper.path.read_bytes())
    data["scored_by"] = scored_by
    for table in data["tables"]:
        names = [column["name"] for column in table["columns"]]
        for row in table["rows"]:
            held = row.pop("made", None)
            row["values"] = [{"made": held, **old} if held and isinstance(old, dict) else old for old in row["values"]]
            row["values"] = [
                _value(found[key], old) if (key := (table["table"], row["name"], name)) in found else old
                for name, old in zip(names, row["values"], strict=True)
            ]
            _share(row)
    write_json(path, data)
    return path


def _share(row: dict[str, Any]) -> None:
    """What all values of a row were made with is told once, at the row."""
    made = [value.get("made") for value in row["values"] if isinstance(value, dict)]
    row.pop("made", None)
    if made and made[0] and all(one == made[0] for one in made) and len(made) == len(row["values"]):
        for value in row["values"]:
            del value["made"]
        row["made"] = made[0]


def _value(verdict: Verdict, old: Any) -> dict[str, Any]:
    score = verdict.found
    assert score is not None  # checked for all cells
    kept = {key: one for key, one in old.items() if key != "made"} if isinstance(old, Mapping) else {}
    limits = {"low": score.low, "high": score.high, **({} if score.rerun is None else {"rerun": score.rerun})}
    numbers = {key: None if value is None else round(value, DIGITS) for key, value in limits.items()}
    made = {key: value for key, value in score.made.items() if key != "runs"}
    return {**kept, "value": round(score.score, DIGITS), **numbers, "n": score.n, "made": made}
