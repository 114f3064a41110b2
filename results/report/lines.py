"""The rows of the leaderboard as plain objects: one line a method and setting on a benchmark, with its seeds joined."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from trireme.results.axes import with_labels
from trireme.results.records import RunRecord
from trireme.results.schema import HIT, REPLY_STATUSES


@dataclass(frozen=True, slots=True)
class Score:
    """Percent, with its 95 % interval; NaN where there is none."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Line:
    """A method in one setting on one benchmark.

    Attributes:
        label: its name, with what tells it apart where two lines of the benchmark share one.
        scores: subset -> score on the main metric.
        hits: "all" and so on -> percent of samples whose class was among a re-ranker's candidates.
        family: the registry name, which tells colours.
        shots: pictures a class of the memory, None where it holds all.
        facts: numbers and words for the table, missing ones left out.
        records: its runs, by seed.
    """

    label: str
    method: str
    family: str
    encoder: str
    memory: str
    scores: Mapping[str, Score]
    hits: Mapping[str, float]
    shots: int | None
    facts: Mapping[str, Any]
    records: Sequence[RunRecord]

    @property
    def score(self) -> float:
        """On the first subset, `all` in every benchmark of ours."""
        return next(iter(self.scores.values())).value


@dataclass(frozen=True, slots=True)
class Part:
    """A benchmark, of one fingerprint: its lines by falling score."""

    name: str
    metric: str
    subsets: Sequence[str]
    lines: Sequence[Line]

    @property
    def record(self) -> RunRecord:
        return self.lines[0].records[0]


_FACTS = (
    "supervision_training",
    "supervision_inference",
    "chosen_on",
    "images_per_second",
    "seconds",
    "peak_memory_mib",
    "trained_parameters",
    "memory_size",
    "failed",
    "prompt_tokens",
    "completion_tokens",
    "seeds",
)


def parts(frame: pd.DataFrame, records: Sequence[RunRecord]) -> list[Part]:
    """The benchmarks of a frame of `standings`: the one with most lines first, then by number of samples and name.

    Runs on benchmarks of one name and different fingerprints are not compared: each is a part, named by both.
    """
    by_run = {record.run: record for record in records}
    frame, _ = with_labels(frame)
    found = [_part(str(name), rows, by_run) for name, rows in frame.groupby("benchmark", sort=True)]
    return sorted(found, key=lambda part: (-len(part.lines), -_size(part), part.name))


def _size(part: Part) -> int:
    return max(score.n for score in part.lines[0].scores.values())


def _part(name: str, frame: pd.DataFrame, by_run: Mapping[str, RunRecord]) -> Part:
    metric = str(frame.loc[frame["main"], "metric"].iloc[0])
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in frame.to_dict("records"):
        groups.setdefault(str(row["run"]), []).append({str(key): value for key, value in row.items()})
    first = by_run[next(iter(groups)).split("+")[0]]
    subsets = [subset for subset in first.data["benchmark"]["subsets"] if _scored(frame, metric, subset)]
    lines = [_line(run, rows, metric, subsets, by_run) for run, rows in groups.items()]
    named = _told_apart([line for line in lines if line.scores])
    named.sort(key=lambda line: (math.isnan(line.score), -line.score, line.label))
    return Part(name, metric, subsets, named)


def _scored(frame: pd.DataFrame, metric: str, subset: str) -> bool:
    return bool(((frame["metric"] == metric) & (frame["subset"] == subset) & (frame["n"] > 0)).any())


def _line(
    run: str, rows: Sequence[Mapping[str, Any]], metric: str, subsets: Sequence[str], by_run: Mapping[str, RunRecord]
) -> Line:
    records = [by_run[one] for one in run.split("+")]
    first, data = rows[0], records[0].data
    held = {str(row["subset"]): row for row in rows if row["metric"] == metric}
    ordered = [subset for subset in subsets if subset in held]
    scores = {subset: _score(held[subset]) for subset in ordered}
    hits = {row["subset"]: row["score"] for row in rows if str(row["metric"]).startswith(HIT)}
    facts = {key: first[key] for key in _FACTS if key in first and not pd.isna(first[key])}
    replies = {status: first.get(f"replies_{status}") for status in REPLY_STATUSES}
    facts["replies"] = ", ".join(f"{n} {status}" for status, n in replies.items() if n is not None and n == n and n)
    drawn = (data["memory"] or {}).get("drawn") or {}
    return Line(
        label=str(first["method"]),
        method=str(first["method"]),
        family=str(data["method"]["registry"]),
        encoder=str(first["encoder"]),
        memory="" if pd.isna(first["memory"]) else str(first["memory"]),
        scores=scores,
        hits=hits,
        shots=drawn.get("shots"),
        facts=facts,
        records=records,
    )


def _score(row: Mapping[str, Any]) -> Score:
    return Score(float(row["score"]), float(row["ci_low"]), float(row["ci_high"]), int(row["n"]))


def _told_apart(lines: Sequence[Line]) -> list[Line]:
    """Labels of lines that share a method's name: with encoder or memory where that is enough, else the run."""
    named = list(lines)
    for key in ("memory", "encoder"):
        shared = Counter(line.label for line in named)
        values: dict[str, set[str]] = {}
        for line in named:
            values.setdefault(line.label, set()).add(getattr(line, key))
        named = [
            replace(line, label=f"{line.label} · {getattr(line, key) or 'no memory'}")
            if shared[line.label] > 1 and len(values[line.label]) > 1
            else line
            for line in named
        ]
    shared = Counter(line.label for line in named)
    return [
        replace(line, label=f"{line.label} · {line.records[0].run[:6]}") if shared[line.label] > 1 else line
        for line in named
    ]
