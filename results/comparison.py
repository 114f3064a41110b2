"""Two methods on the same samples: the table of differences, and where they disagree.

A row is a benchmark, a subset and a metric in one setting (role, encoder, memory); seeds are joined as the leaderboard
joins them. Metrics that are no mean over samples are compared draw by draw, one seed a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trireme.errors import DataError, UsageError, unknown_name
from trireme.files import fingerprint
from trireme.results.records import DERIVED_METRICS, RunRecord, column_metrics, read_predictions, set_metrics
from trireme.results.shown import Opener
from trireme.results.statistics import PICTURE, PairedDifference
from trireme.results.testing import holm

POOLED = "pooled"
"""Stands for the benchmark's name in the line over several benchmarks."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Runs of A and of B that differ in nothing but the method: one pair a seed."""

    pairs: tuple[tuple[RunRecord, RunRecord], ...]

    @property
    def first(self) -> RunRecord:
        return self.pairs[0][0]

    @property
    def told(self) -> dict[str, str]:
        """What a reader can tell it by."""
        a, b = self.pairs[0]
        memory = a.data["memory"] or b.data["memory"]
        return {
            "benchmark": a.benchmark,
            "role": a.role,
            "encoder": str(a.data["encoder"]["name"]),
            "memory": str(memory["name"]) if memory else "none",
            "seeds": ",".join(str(one.seed) for one, _ in self.pairs),
            "runs": " and ".join("+".join(pair[side].run[:6] for pair in self.pairs) for side in (0, 1)),
        }

    def metric(self, asked: str | None) -> str:
        """The metric to compare by: the one asked for, else the benchmark's main one.

        Raises:
            UsageError: it has none of this name that two runs can be compared by.
            DataError: the runs share none at all.
        """
        shared = [name for name in self.first.data["metrics"] if all(name in b.data["metrics"] for _, b in self.pairs)]
        known = [name for name in shared if name not in DERIVED_METRICS]
        if not known:
            raise DataError("the two runs share no metric that can be compared")
        if asked is None:
            return str(known[0])
        if asked in DERIVED_METRICS:
            raise UsageError(f"{asked} has no paired test; compare by {DERIVED_METRICS[asked]} or another metric")
        if asked not in known:
            raise unknown_name(f"metric of both methods on {self.first.benchmark}", asked, known)
        return asked


@dataclass(frozen=True, slots=True)
class Row:
    """One difference, A minus B, in percentage points; see `PairedDifference` for its numbers."""

    benchmark: str
    role: str
    subset: str
    metric: str
    n: int
    difference: float
    ci_low: float | None
    ci_high: float | None
    only_a: int | None
    only_b: int | None
    p: float | None
    """Exact McNemar test where there is one, else that of the bootstrap."""
    p_bootstrap: float | None
    """Draws whole classes (or pictures with their boxes), as the interval does."""
    p_holm: float | None
    """The larger of the two corrected for the number of rows, the pooled line not counted."""
    smallest: float | None
    encoder: str
    memory: str
    seeds: str
    runs: str

    @property
    def careful(self) -> float | None:
        """The larger of the two p: neither the independence that McNemar's takes nor the shape that the other one
        takes may make a difference look safer."""
        return max((p for p in (self.p, self.p_bootstrap) if p is not None), default=None)


@dataclass(frozen=True, slots=True)
class Skipped:
    """What could not be compared, and why; `whole` where no subset of the setting could be."""

    setting: Setting
    subset: str
    reason: str
    whole: bool = False

    @property
    def text(self) -> str:
        told = self.setting.told
        where = [told["benchmark"], *([self.subset] if self.subset else [])]
        return f"{', '.join(where)} (encoder {told['encoder']}, memory {told['memory']}): {self.reason}"


def settings(runs: Sequence[RunRecord], first: str, second: str, role: str = "test") -> list[Setting]:
    """Where both methods ran on the same samples; a method without a memory goes with any.

    Args:
        role: only runs on samples of this role: a selection made on validation samples is no result.

    Raises:
        UsageError: no run of a method, the nearest name is given; or they share no setting.
    """
    runs = [run for run in runs if run.role == role]
    for name in (first, second):
        if name not in {run.method for run in runs}:
            raise unknown_name(f"method among the finished {role} runs", name, {run.method for run in runs})
    if first == second:
        raise UsageError(f"'{first}' cannot be compared with itself; name two methods")
    groups: dict[tuple[str, ...], list[tuple[RunRecord, RunRecord]]] = {}
    others = [run for run in runs if run.method == second]
    for a in runs:
        for b in others if a.method == first else ():
            if _setting(a) == _setting(b) and a.seed == b.seed and _same_memory(a, b):
                key = (*_setting(a), *(_configuration(run) for run in (a, b)), _drawn(a) or _drawn(b))
                groups.setdefault(key, []).append((a, b))
    if not groups:
        raise UsageError(f"'{first}' and '{second}' share no benchmark, encoder, memory and seed")
    found = []
    for pairs in groups.values():
        ordered = sorted(pairs, key=lambda pair: (pair[0].seed, pair[0].run, pair[1].run))
        alike = len({a.seed for a, _ in ordered}) < len(ordered)  # differ in what no column says: never joined
        found += [Setting((pair,)) for pair in ordered] if alike else [Setting(tuple(ordered))]
    return sorted(found, key=lambda one: tuple(one.told.values()))


def having(found: Sequence[Setting], metric: str | None) -> list[Setting]:
    """The settings whose benchmarks have the metric; all where none has, for `Setting.metric` to refuse."""
    return [one for one in found if metric in one.first.data["metrics"]] or list(found)


def _setting(run: RunRecord) -> tuple[str, ...]:
    data = run.data
    return run.benchmark, run.role, data["benchmark"]["fingerprint"], data["encoder"]["fingerprint"]


def _configuration(run: RunRecord) -> str:
    return fingerprint([run.data["method"]["registry"], run.data["method"]["config"]])


def _same_memory(a: RunRecord, b: RunRecord) -> bool:
    memories = [(run.data["memory"] or {}).get("fingerprint") for run in (a, b)]
    return memories[0] == memories[1] or None in memories


def _drawn(run: RunRecord) -> str:
    """The memory; of one that seeds draw anew, what they draw from and by what rule."""
    memory = run.data["memory"] or {}
    drawn = memory.get("drawn") or {}
    what = [drawn["from"], drawn["shots"], drawn["rule"]] if drawn else [memory.get("fingerprint")]
    return fingerprint([memory.get("name"), *what]) if memory else ""


def rows(
    found: Sequence[Setting], metric: str | None = None, subsets: Sequence[str] = ()
) -> tuple[list[Row], list[Skipped]]:
    """The differences of every setting, with p values corrected for their number; and what cannot be compared.

    Args:
        subsets: only these; all where none is named.

    Raises:
        UsageError: an unknown metric or subset.
    """
    known = {name for one in found for name in one.first.data["benchmark"]["subsets"]}
    for name in subsets:
        if name not in known:
            raise unknown_name("subset of these benchmarks", name, known)
    every = [row for one in found for row in _rows(one, metric, subsets)]
    listed = [row for row in every if isinstance(row, Row)]
    corrected = holm([row.careful for row in listed])
    compared = [replace(row, p_holm=p) for row, p in zip(listed, corrected, strict=True)]
    return compared, [row for row in every if isinstance(row, Skipped)]


def _rows(setting: Setting, asked: str | None, subsets: Sequence[str]) -> Iterator[Row | Skipped]:
    """Of every subset that has a sample in one of the runs."""
    try:
        metric = setting.metric(asked)
        of_set = any(metric in set_metrics(run.data) for pair in setting.pairs for run in pair)
        tables = [] if of_set else [(_values(one, metric), _values(other, metric)) for one, other in setting.pairs]
    except DataError as error:
        yield Skipped(setting, "", str(error), whole=True)
        return
    every: list[Row | Skipped] = []
    for subset in _subsets(setting, metric, subsets):
        for one in [Setting((pair,)) for pair in setting.pairs] if of_set else [setting]:
            try:
                every.append(_row(one, subset, metric, _difference(one, subset, metric, tables)))
            except DataError as error:
                every.append(Skipped(setting, subset, str(error)))
    lost = [one for one in every if isinstance(one, Skipped)]
    if every and len(lost) == len(every):
        same = not subsets and len({one.reason for one in lost}) == 1
        yield from (replace(one, subset="" if same else one.subset, whole=True) for one in (lost[:1] if same else lost))
    else:
        yield from every


def _subsets(setting: Setting, metric: str, asked: Sequence[str]) -> list[str]:
    """Those with a sample, in the benchmark's order, then those that only scores have (an evaluator names its own)."""
    rows = [row for pair in setting.pairs for run in pair for row in run.scores]
    scored = dict.fromkeys(row["subset"] for row in rows if row["metric"] == metric and row["n"])
    ordered = dict.fromkeys([*setting.first.data["benchmark"]["subsets"], *scored])
    return [subset for subset in ordered if subset in scored and (not asked or subset in asked)]


def _difference(setting: Setting, subset: str, metric: str, tables: Sequence[tuple[Any, Any]]) -> PairedDifference:
    from trireme.results.resampling import paired_set_difference
    from trireme.results.statistics import joint_paired_difference

    a, b = setting.pairs[0]
    if not tables:
        return paired_set_difference(a.data, b.data, subset, metric)
    return joint_paired_difference(tables, metric, a.data["benchmark"]["subsets"].get(subset))


def _values(run: RunRecord, metric: str) -> Any:
    """With the picture of each box, in detection: its sample's id is `picture/box`."""
    import pyarrow.compute as pc

    table = read_predictions(run, ["sample_id", "label", "group", "status", metric])
    if run.data["benchmark"]["task"] != "detection":
        return table
    return table.append_column(PICTURE, pc.replace_substring_regex(table["sample_id"], "/[^/]*$", ""))


def _row(setting: Setting, subset: str, metric: str, found: PairedDifference) -> Row:
    p = found.p if found.p is not None else found.p_bootstrap
    return Row(
        subset=subset,
        metric=metric,
        n=found.n,
        difference=found.difference,
        ci_low=_or_none(found.low),
        ci_high=_or_none(found.high),
        only_a=found.only_a,
        only_b=found.only_b,
        p=p,
        p_bootstrap=found.p_bootstrap,
        p_holm=None,
        smallest=found.smallest,
        **setting.told,
    )


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


@dataclass(frozen=True, slots=True)
class Pooled:
    """The line over several benchmarks.

    Attributes:
        row: every sample counts the same, classes of different benchmarks are different classes.
        benchmarks: the ones that it holds.
        contained: benchmark -> the one that holds all of its pictures, so that they count once.
    """

    row: Row
    benchmarks: tuple[str, ...]
    contained: Mapping[str, str]


def pooled(
    found: Sequence[Setting], shown: Opener, metric: str | None = None
) -> tuple[list[Pooled], Mapping[str, str]]:
    """One line for every encoder and metric with two benchmarks or more, and what is contained in what.

    A benchmark with several memories of one size is left out of it: its samples would count twice.
    """
    contained = containment(found, shown)
    groups: dict[tuple[str, ...], list[Setting]] = {}
    for one in found:
        used = one.metric(metric)
        if used in column_metrics(one.first.data) and one.first.benchmark not in contained:
            a, b = one.pairs[0]
            shots = [((run.data["memory"] or {}).get("drawn") or {}).get("shots") for run in (a, b)]
            key = (used, a.role, str(a.data["encoder"]["fingerprint"]), str(shots[0] or shots[1]))
            groups.setdefault(key, []).append(one)
    lines = []
    for (used, *_), members in groups.items():
        names = [one.first.benchmark for one in members]
        alone = [one for one in members if names.count(one.first.benchmark) == 1]
        if len(alone) > 1 and (row := _pooled(alone, used)):
            lines.append(Pooled(row, tuple(one.first.benchmark for one in alone), contained))
    return lines, contained


def containment(found: Sequence[Setting], shown: Opener) -> dict[str, str]:
    """{benchmark: the one that holds all of its pictures and more}, as far as pictures are known."""
    keys: dict[str, frozenset[str]] = {}
    for one in found:
        told = shown(one.first)
        keys.setdefault(one.first.benchmark, frozenset(map(told.key, told.pictures)) - {""})
    held = {}
    for name, own in keys.items():
        wider = [(len(others), other) for other, others in keys.items() if own and own < others]
        if wider:
            held[name] = max(wider)[1]
    return held


def _pooled(members: Sequence[Setting], metric: str) -> Row | None:
    from trireme.results.statistics import joint_paired_difference

    by_seed = [{a.seed: (a, b) for a, b in one.pairs} for one in members]
    seeds = sorted(set.intersection(*(set(pairs) for pairs in by_seed)))
    if not seeds:
        return None
    joined = [tuple(_joined([pairs[seed][side] for pairs in by_seed], metric) for side in (0, 1)) for seed in seeds]
    difference = joint_paired_difference([(a, b) for a, b in joined], metric)
    memories = {one.told["memory"] for one in members}
    return replace(
        _row(members[0], "all", metric, difference),
        benchmark=POOLED,
        memory=memories.pop() if len(memories) == 1 else "each its own",
        seeds=",".join(map(str, seeds)),
        runs="",
    )


def _joined(runs: Sequence[RunRecord], metric: str) -> Any:
    """The predictions of runs on different benchmarks as those of one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    tables, parts, start = [_values(run, metric) for run in runs], [], 0
    boxes = any(PICTURE in table.column_names for table in tables)
    for place, (run, table) in enumerate(zip(runs, tables, strict=True)):
        label = table["label"].cast(pa.int64())
        picture = table[PICTURE] if PICTURE in table.column_names else table["sample_id"]
        ids, pictures = (pc.binary_join_element_wise(f"{place}", names, "/") for names in (table["sample_id"], picture))
        columns = {
            "sample_id": ids,
            "label": pc.if_else(pc.greater_equal(label, 0), pc.add(label, start), label),
            "group": table["group"].cast("string"),
            "status": table["status"].cast("string"),
            metric: table[metric],
        }
        parts.append(pa.table(columns | ({PICTURE: pictures} if boxes else {})))
        start += int(run.data["benchmark"]["classes"])
    joined = pa.concat_tables(parts)
    if not joined.num_rows:
        raise DataError("the runs hold no sample")
    return joined
