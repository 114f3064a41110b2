"""What calls of an expensive method buy: accuracy by share of calls, from one finished run of `cascade`.

The run holds, for each sample, how sure the cheap method was, its first class, and where the expensive one was asked
its answer. So smaller numbers of calls can be scored afterwards, without asking anybody. Nothing is selected here: all
points are shown. A threshold asks about all samples of one confidence or about none, so only counts that split no such
tie are points: of the samples wanted, those that are left when the last tie does not fit are not asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trireme.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from trireme.results.records import RunRecord

SHARES = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
_COLUMNS = ("label", "group", "status", "ranked", "asked", "confidence", "cheap_first")


def cost_curve(record: RunRecord, shares: Sequence[float] = SHARES) -> pd.DataFrame:
    """Top-1 for shares of the samples, the least sure first, up to what the run asked; and for what it asked, the last.

    Args:
        shares: of the samples that were scored, 0 to 1. One that the run did not reach is left out; a run with
            `budget=1` reaches all of them.

    Returns:
        A row a share and subset: share, calls, subset, n, top1, ci_low, ci_high (percent).

    Raises:
        UsageError: it is no run of `cascade`, or top-1 is not the main metric of its benchmark.
        DataError: the predictions are damaged.
    """
    import pandas as pd

    from trireme.results.records import read_predictions
    from trireme.results.statistics import interval

    if record.data["method"]["registry"] != "cascade":
        raise UsageError(f"{record.folder} is a run of {record.method}; only runs of cascade have a curve")
    main = record.data["metrics"][0]
    if main != "top1":
        raise UsageError(f"a curve is of top1, and the main metric of {record.benchmark} is {main}; it has no curve")
    table = read_predictions(record, _COLUMNS).to_pandas()
    table = table[(table["status"] == "ok") & (table["label"] >= 0)]
    labels = table["label"].to_numpy()
    asked = table["asked"].to_numpy(dtype=bool)
    cheap = table["cheap_first"].to_numpy() == labels
    final = np.array([row[0] for row in table["ranked"]]) == labels
    order = np.lexsort((np.arange(len(table)), table["confidence"], ~asked))  # the asked ones are the least sure
    points = _boundaries(table["confidence"].to_numpy()[order], int(asked.sum()))
    wanted = [int(np.floor(share * len(table) + 1e-9)) for share in shares]
    calls = {int(points[points <= one].max()) for one in wanted if one <= asked.sum()} | {int(asked.sum())}
    rows = []
    for count in sorted(calls):
        right = cheap.copy()
        right[order[:count]] = final[order[:count]]
        for subset, groups in record.data["benchmark"]["subsets"].items():
            inside = np.ones(len(table), dtype=bool) if groups is None else table["group"].isin(groups).to_numpy()
            if inside.any():
                found = interval(right[inside], labels[inside])
                place = {"share": count / len(table), "calls": count, "subset": subset, "n": int(inside.sum())}
                rows.append({**place, "top1": found.score, "ci_low": found.low, "ci_high": found.high})
    return pd.DataFrame(rows)


def _boundaries(sure: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """The numbers of samples, up to `most`, that a threshold can ask about; `sure` is sorted among those."""
    inside = np.flatnonzero(sure[1:most] != sure[: max(most - 1, 0)]) + 1
    return np.unique(np.concatenate([[0], inside, [most]])).astype(np.int64)
