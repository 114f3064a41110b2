"""Which rows of a leaderboard to show: filters by column, and the best of several settings, chosen on validation.

Filters: `COLUMN OP VALUE`, several of them separated by commas (all must hold). OP is one of = != < <= > >=. For text,
= and != take patterns with * and ?, and alternatives separated by |; `-` stands for a missing value, as in the tables.
Numbers are compared as numbers. A comma that no column and operator follow belongs to the value: `ranker=lite, vllm`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import pandas as pd

from trireme.errors import UsageError, unknown_name
from trireme.results.ranking import told

_CONDITION = re.compile(r"\s*(\w+)\s*(!=|<=|>=|=|<|>)\s*(.*?)\s*", re.DOTALL)
_BETWEEN = re.compile(r",(?=\s*\w+\s*(?:!=|<=|>=|=|<|>))")
_NUMBERS: dict[str, Callable[[Any, float], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
MISSING = "-"


@dataclass(frozen=True, slots=True)
class Condition:
    """One filter: `column`, one of = != < <= > >=, and what stands behind it."""

    column: str
    operator: str
    value: str

    def __str__(self) -> str:
        return f"{self.column}{self.operator}{self.value}"


def conditions(text: str) -> list[Condition]:
    """The filters in one `--where`.

    Raises:
        UsageError: a part is no filter.
    """
    found = []
    for part in _BETWEEN.split(text):
        match = _CONDITION.fullmatch(part)
        if match is None:
            raise UsageError(
                f"'{part.strip()}' is no filter; write COLUMN=VALUE, e.g. method=knn or method!=knn,n>=100"
            )
        found.append(Condition(*match.groups()))
    return found


def where(frame: pd.DataFrame, filters: Sequence[Condition]) -> pd.DataFrame:
    """The rows for which all filters hold.

    Args:
        frame: from `standings`.

    Raises:
        UsageError: an unknown column, a value that cannot be compared, or no row is left (names the filter's values).
    """
    for one in filters:
        if one.column not in frame:
            raise unknown_name("column", one.column, [str(name) for name in frame])
        kept = frame[_holds(frame[one.column], one)]
        if kept.empty:
            values = [MISSING if pd.isna(value) else f"{value}" for value in frame[one.column].unique()]
            raise UsageError(f"no row with {one}; {one.column} is {told(sorted(values), most=8)}")
        frame = kept
    return frame.reset_index(drop=True)


def _holds(column: pd.Series[Any], one: Condition) -> pd.Series[bool]:
    missing = column.isna()
    if one.operator in ("=", "!=") and one.value in (MISSING, ""):
        return missing if one.operator == "=" else ~missing
    if pd.api.types.is_bool_dtype(column):
        column = column.map({True: "true", False: "false"})
    elif pd.api.types.is_numeric_dtype(column):
        compared: pd.Series[bool] = _NUMBERS[one.operator](column, _number(one)).fillna(False).astype(bool)
        return compared | missing if one.operator == "!=" else compared & ~missing
    if one.operator not in ("=", "!="):
        raise UsageError(f"{one}: {one.column} is text; compare it by = or !=")
    patterns = [part.strip() for part in one.value.split("|")]
    values = {value: any(fnmatchcase(value, pattern) for pattern in patterns) for value in column.dropna().unique()}
    matches = column.map(values).fillna(False).astype(bool)
    return matches if one.operator == "=" else ~matches


def _number(one: Condition) -> float:
    try:
        return float(one.value)
    except ValueError:
        raise UsageError(f"{one}: {one.column} is a number, and '{one.value}' is none") from None


def best_of(validation: pd.DataFrame, test: pd.DataFrame, column: str) -> tuple[pd.DataFrame, list[str]]:
    """Of all settings with one value of `column`, the one that did best on validation pictures: its test scores.

    Nothing is chosen by a test score: where the chosen setting has no test run, none is shown, not the next best.

    Args:
        validation, test: `standings` of these roles.
        column: e.g. "method" (configs, encoders and memories of one name compete), "registry" or "encoder".

    Returns:
        The rows of `test` that were chosen, whose `chosen_on` is "validation" now; and lines that say what was chosen
        by which score, and what could not be.

    Raises:
        UsageError: an unknown column, or no test score is left, or what competes ran on validation pictures of several
            fingerprints, whose scores say nothing about each other.
    """
    if column not in ("method", "registry", "encoder", "memory", "ranker"):
        raise unknown_name("column to choose within", column, ("method", "registry", "encoder", "memory", "ranker"))
    main = validation[validation["main"] & (validation["subset"] == "all") & validation["score"].notna()]
    kept, notes = [], []
    for benchmark, rows in test.groupby("benchmark", sort=True):
        held = _validation_of(str(benchmark), rows, set(main["benchmark"]))
        if held is None:
            notes.append(f"left out: {benchmark}, which has no validation run; make some with role=validation")
            continue
        for value, tried in main[main["benchmark"] == held].groupby(column, dropna=False, sort=True):
            _same_pictures(held, tried)
            chosen = tried.sort_values(["score", "method", "setting"], ascending=[False, True, True]).iloc[0]
            shown = rows[rows["setting"] == chosen["setting"]]
            kept.append(shown.assign(chosen_on="validation"))
            said = f"{benchmark}: best of {tried['setting'].nunique()} of {column} {_named(value)} on {held} is "
            said += f"{chosen['method']} with {chosen['score']:.1f}"
            notes.append(said if len(shown) else f"{said}, which has no test run")
    found = pd.concat(kept) if kept else test.iloc[:0]
    if found.empty:
        raise UsageError("no setting has a validation run and a test run; make validation runs with role=validation")
    return found.loc[~found.index.duplicated()].sort_index().reset_index(drop=True), notes


def _same_pictures(benchmark: str, tried: pd.DataFrame) -> None:
    prints = sorted(tried["benchmark_fingerprint"].unique())
    if len(prints) > 1:
        raise UsageError(
            f"validation runs on {benchmark} are of {len(prints)} benchmarks ({', '.join(prints)}), whose scores "
            "cannot be compared: move the runs on all but one of these fingerprints out of the results folder"
        )


def _named(value: Any) -> str:
    return MISSING if pd.isna(value) else str(value)


def _validation_of(benchmark: str, rows: pd.DataFrame, known: set[str]) -> str | None:
    """The benchmark with the validation pictures of this one: what a run of it chose on, else itself, else the only one
    of its family (`world/validation` for `world/food`)."""
    stated = set(rows["validation"].dropna()) & known
    if len(stated) == 1:
        return str(next(iter(stated)))
    if benchmark in known:
        return benchmark
    family = [name for name in known if "/" in benchmark and name.split("/")[0] == benchmark.split("/")[0]]
    return family[0] if len(family) == 1 else None
