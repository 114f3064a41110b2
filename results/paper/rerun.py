"""How far chance can move a score on the same classes: the interval that a comparison with a paper may use.

A paper's test set is ours too, class by class. An interval that draws classes answers another question (what would
other classes give?) and is far too wide here: 70 % on ten classes may be 59 to 82. This one leaves the classes and
their numbers of pictures alone and lets chance in at the pictures: the score is a weighted sum of the classes' means,
so its variance is the sum of theirs, w_c^2 s_c^2 / n_c (W. G. Cochran, "Sampling Techniques", 3rd edition 1977, section
5.4). A bootstrap within classes gives the same but for its own chance. Two computations on the same pictures differ by
less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from trireme.results.records import DERIVED_METRICS

_Z = 1.959964
"""97.5 % point of the normal distribution."""


def half_width(predictions: Any, groups: Sequence[str] | None, metric: str) -> float:
    """Half of the 95 % interval of a mean over pictures (or over classes, of a metric that is one), in points.

    Args:
        predictions: `pyarrow.Table` of a run, see `trireme.results.records`; rows that failed do not count.
        groups: those that the subset holds, None for all.

    Returns:
        0 where every class is all right or all wrong: then nothing tells how far chance moves it. A class of one
        picture adds nothing, which makes the interval narrower, never wider.
    """
    labels = predictions["label"].to_numpy()
    keep = (labels >= 0) & (_strings(predictions["status"]) == "ok")
    if groups is not None:
        keep &= np.isin(_strings(predictions["group"]), list(groups))
    column = predictions[DERIVED_METRICS.get(metric, metric)].to_numpy(zero_copy_only=False)
    values = column[keep].astype(np.float64)
    classes, position = np.unique(labels[keep], return_inverse=True)
    if not len(classes):
        return 0.0
    counts = np.bincount(position).astype(np.float64)
    means = np.bincount(position, weights=values) / counts
    squares = np.bincount(position, weights=(values - means[position]) ** 2)
    spread = squares / np.maximum(counts - 1, 1)  # s_c^2; 0 for a single picture
    weights = 1 / len(classes) if metric in DERIVED_METRICS else counts / counts.sum()
    return 100 * _Z * math.sqrt(float((weights**2 * spread / counts).sum()))


def _strings(column: Any) -> Any:
    return np.asarray(column.cast("string").to_pylist(), dtype=str)
