"""`trireme curve`: accuracy by share of calls of a finished cascade."""

from __future__ import annotations

import math
from pathlib import Path

from trireme.progress import say


def curve(run: Path, save: Path | None = None) -> int:
    """Print the cost curve of one run, or write it as CSV.

    Raises:
        UsageError: it is no run of cascade. DataError: the record is damaged.
    """
    from trireme.files import atomic_file
    from trireme.results.cost import cost_curve
    from trireme.results.records import read_run

    record = read_run(run)
    frame = cost_curve(record)
    if save is not None:
        with atomic_file(save) as part:
            frame.to_csv(part, index=False)
        say(f"wrote {save}")
        return 0
    print(f"{record.method} on {record.benchmark}: top1 in % [95 % interval] by calls, the least sure pictures first")
    last = frame.iloc[-1]
    print(f"it asked about {100 * last['share']:.1f} % of these pictures ({last['calls']} calls), the last line")
    subsets = list(dict.fromkeys(frame["subset"]))
    print(f"{'calls':>7} {'share':>7}  " + "  ".join(f"{subset:^19}" for subset in subsets))
    for calls, rows in frame.groupby("calls", sort=True):
        cells = [_cell(*numbers) for numbers in rows[["top1", "ci_low", "ci_high"]].to_numpy(dtype=float).tolist()]
        print(f"{calls:7} {100 * rows['share'].iloc[0]:6.1f}%  " + "  ".join(f"{cell:^19}" for cell in cells))
    return 0


def _cell(score: float, low: float, high: float) -> str:
    """Without an interval where there is none, such as for one class."""
    return f"{score:5.1f}" if math.isnan(low) else f"{score:5.1f} [{low:4.1f}, {high:5.1f}]"
