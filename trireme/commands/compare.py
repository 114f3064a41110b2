"""`trireme compare`: two methods on the same samples, by benchmark and subset."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trireme.errors import UsageError, unknown_name
from trireme.progress import say

if TYPE_CHECKING:
    from trireme.results.records import RunRecord
    from trireme.results.statistics import PairedDifference

Pair = tuple["RunRecord", "RunRecord"]


def compare(first: str, second: str, folder: Path, metric: str | None = None) -> int:
    """Print the paired difference of every benchmark, role, encoder, memory and seed that both methods ran on.

    Role and memory stand in the first line where all rows have the same one, else in each row.
    """
    from trireme.results.records import find_runs

    pairs = _pairs(find_runs(folder), first, second)
    if not pairs:
        raise UsageError(f"'{first}' and '{second}' share no benchmark, encoder, memory and seed in {folder}")
    told = [{"role": a.role, "memory": _memory_name(a, b)} for a, b in pairs]
    varying = [key for key in told[0] if len({one[key] for one in told}) > 1]
    shared = [f"{key} {value}" for key, value in told[0].items() if key not in varying]
    print(", ".join([f"{first} minus {second}, percentage points", *shared]))
    print(
        f"{'benchmark':18} {'subset':8} {'metric':8} {'n':>6} {'diff':>7} {'95 % interval':>17} {'p':>8}  "
        + ", ".join(["encoder", "seed", *varying])
    )
    for (a, b), one in zip(pairs, told, strict=True):
        where = ", ".join([a.data["encoder"]["name"], str(a.seed), *(one[key] for key in varying)])
        for subset, used, found in _differences(a, b, metric):
            p = "" if found.p is None else f"{found.p:.4f}"
            interval = "" if math.isnan(found.low) else f"[{found.low:.1f}, {found.high:.1f}]"
            print(
                f"{a.benchmark:18} {subset:8} {used:8} {found.n:6} {found.difference:+7.1f} {interval:>17} {p:>8}  "
                f"{where}"
            )
    if len(pairs) > 1:
        say("note: p values are not corrected for the number of rows")
    return 0


def _pairs(runs: Sequence[RunRecord], first: str, second: str) -> list[Pair]:
    """Runs of both methods that differ in nothing but the method; one without a memory goes with any."""
    for name in (first, second):
        if name not in {run.method for run in runs}:
            raise unknown_name("method among the finished runs", name, {run.method for run in runs})

    def setting(run: RunRecord) -> tuple[str, ...]:
        prints = run.data["benchmark"]["fingerprint"], run.data["encoder"]["fingerprint"]
        return (run.benchmark, run.role, str(run.seed), *prints)

    others = [run for run in runs if run.method == second]
    pairs = [(a, b) for a in runs if a.method == first for b in others if setting(a) == setting(b)]
    return [(a, b) for a, b in pairs if _memory(a) == _memory(b) or None in (_memory(a), _memory(b))]


def _differences(a: RunRecord, b: RunRecord, metric: str | None) -> Iterator[tuple[str, str, PairedDifference]]:
    """(subset, metric, difference) for every subset that holds a sample."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from trireme.results.records import DERIVED_METRICS, read_predictions, set_metrics
    from trireme.results.resampling import paired_set_difference
    from trireme.results.statistics import paired_difference

    used = metric or next(m for m in a.data["metrics"] if m not in DERIVED_METRICS)
    if used in set_metrics(a.data) and used in set_metrics(b.data):
        for row in a.data["scores"]:
            if row["metric"] == used and row["n"]:
                yield row["subset"], used, paired_set_difference(a.data, b.data, row["subset"], used)
        return
    columns = ["sample_id", "label", "group", "status", used]
    tables = read_predictions(a, columns), read_predictions(b, columns)
    for subset, groups in a.data["benchmark"]["subsets"].items():
        if groups is None or tables[0].filter(pc.is_in(tables[0]["group"], pa.array(groups))).num_rows:
            yield subset, used, paired_difference(*tables, used, groups)


def _memory(run: RunRecord) -> str | None:
    return None if run.data["memory"] is None else str(run.data["memory"]["fingerprint"])


def _memory_name(a: RunRecord, b: RunRecord) -> str:
    found = a.data["memory"] or b.data["memory"]
    return str(found["name"]) if found else "none"
