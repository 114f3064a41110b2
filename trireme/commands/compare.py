"""`trireme compare`: two methods on the same samples, by benchmark and subset."""

from __future__ import annotations

import math
from pathlib import Path

from trireme.errors import UsageError, unknown_name
from trireme.progress import say


def compare(first: str, second: str, folder: Path, metric: str | None = None) -> int:
    """Print the paired difference of every benchmark, encoder, memory and seed that both methods ran on."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from trireme.results.records import DERIVED_METRICS, RunRecord, find_runs, read_predictions
    from trireme.results.statistics import paired_difference

    runs = find_runs(folder)
    for name in (first, second):
        if name not in {run.method for run in runs}:
            raise unknown_name("method among the finished runs", name, {run.method for run in runs})

    def setting(run: RunRecord) -> tuple[str, ...]:
        data = run.data
        return (
            run.benchmark,
            data["benchmark"]["fingerprint"],
            run.role,
            data["encoder"]["fingerprint"],
            str(run.seed),
        )

    others = [run for run in runs if run.method == second]
    pairs = [(a, b) for a in runs if a.method == first for b in others if setting(a) == setting(b)]
    pairs = [(a, b) for a, b in pairs if _memory(a) == _memory(b) or None in (_memory(a), _memory(b))]
    if not pairs:
        raise UsageError(f"'{first}' and '{second}' share no benchmark, encoder, memory and seed in {folder}")
    print(f"{first} minus {second}, percentage points")
    print(
        f"{'benchmark':18} {'subset':8} {'metric':8} {'n':>6} {'diff':>7} {'95 % interval':>17} {'p':>8}  encoder, seed"
    )
    for a, b in pairs:
        used = metric or next(m for m in a.data["metrics"] if m not in DERIVED_METRICS)
        columns = ["sample_id", "label", "group", "status", used]
        tables = read_predictions(a, columns), read_predictions(b, columns)
        for subset, groups in a.data["benchmark"]["subsets"].items():
            if groups is not None and not tables[0].filter(pc.is_in(tables[0]["group"], pa.array(groups))).num_rows:
                continue
            found = paired_difference(*tables, used, groups)
            p = "" if found.p is None else f"{found.p:.4f}"
            interval = "" if math.isnan(found.low) else f"[{found.low:.1f}, {found.high:.1f}]"
            print(
                f"{a.benchmark:18} {subset:8} {used:8} {found.n:6} {found.difference:+7.1f} {interval:>17} {p:>8}  "
                f"{a.data['encoder']['name']}, {a.seed}"
            )
    if len(pairs) > 1:
        say("note: p values are not corrected for the number of rows")
    return 0


def _memory(run: object) -> str | None:
    data = run.data  # type: ignore[attr-defined]
    return None if data["memory"] is None else str(data["memory"]["fingerprint"])
