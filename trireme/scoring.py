"""From stored predictions to the table of a run record: one row for every sample asked, in the order of their ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trireme.errors import DataError
from trireme.partial import CANDIDATES, RESERVED
from trireme.readable import Readable
from trireme.results.resampling import set_scores
from trireme.results.schema import HIT
from trireme.results.statistics import score_rows
from trireme.types import Benchmark, Ints, Role, SetBenchmark


def scored_table(benchmark: Benchmark, readable: Readable, predictions: pa.Table | None) -> pa.Table:
    """The columns that `trireme.results.schema` describes, with the method's extras after them.

    Args:
        predictions: a row for every readable sample, in any order; None where there is none.

    Raises:
        DataError: a readable sample has no prediction, or a metric's values are missing.
    """
    asked = readable.asked
    if predictions is None:
        raise DataError(f"no picture of '{benchmark.name}' can be read; nothing was predicted")
    rows = {sample: row for row, sample in enumerate(predictions["sample_id"].to_pylist())}
    lost = [sample.id for sample in readable.samples if sample.id not in rows]
    if lost:
        raise DataError(f"{len(lost)} samples of '{benchmark.name}' have no prediction (first: {lost[0]}); run again")
    ok = np.array([sample.id not in readable.failures for sample in asked])
    order = pa.array([rows[sample.id] if fine else None for sample, fine in zip(asked, ok, strict=True)], pa.int64())
    taken = predictions.take(order)  # a null row where the picture failed
    labels = np.array([sample.label for sample in asked], dtype=np.int64)
    columns = {
        "sample_id": pa.array([sample.id for sample in asked], pa.string()),
        "label": pa.array(labels, pa.int32()),
        "group": pa.array([sample.group_among(benchmark.class_groups) for sample in asked], pa.string()),
        "status": pa.array(np.where(ok, "ok", "failed").tolist(), pa.string()),
        "ranked": _empty_for_null(taken["ranked"]),
        "scores": _empty_for_null(taken["scores"]),
    }
    counted = ok & (labels >= 0)
    values = benchmark.score(_padded(columns["ranked"].filter(pa.array(counted))), labels[counted])
    for metric, found in values.items():
        if len(found) != counted.sum():
            raise DataError(f"benchmark '{benchmark.name}' gives {len(found)} values of {metric} for {counted.sum()}")
        full = np.full(len(asked), np.nan, dtype=np.float32)
        full[counted] = found
        columns[metric] = pa.array(full, pa.float32(), mask=~counted)
    if CANDIDATES in taken.column_names:
        columns[CANDIDATES] = _empty_for_null(taken[CANDIDATES])
        columns |= _hit(columns[CANDIDATES], labels, counted)
    columns |= {name: taken[name] for name in taken.column_names if name not in RESERVED and name not in columns}
    return pa.table(columns)


def _hit(candidates: pa.Array, labels: Ints, counted: NDArray[np.bool_]) -> dict[str, pa.Array]:
    """The column hit@k: whether the right class is among the candidates, of which the most offered is k."""
    rows = _padded(candidates)
    found = (rows == labels[:, None]).any(axis=1).astype(np.float32)
    return {f"{HIT}{rows.shape[1]}": pa.array(found, pa.float32(), mask=~counted)}


def all_scores(benchmark: Benchmark, role: Role, table: pa.Table) -> dict[str, Any]:
    """`metrics`, `scores` and, where some of them are no mean over samples, `replicates` of a run record.

    Args:
        table: see `scored_table`.
    """
    metrics = (*benchmark.metrics, *_hit_metrics(table))
    if not isinstance(benchmark, SetBenchmark) or not benchmark.set_metrics:
        return {"metrics": list(metrics), "scores": score_rows(table, benchmark.subsets, metrics)}
    means = [metric for metric in metrics if metric not in benchmark.set_metrics]
    rows = score_rows(table, benchmark.subsets, means) if means else []
    found, replicates = set_scores(benchmark.evaluator(table, role))
    place = {subset: i for i, subset in enumerate(benchmark.subsets)}
    rows = sorted([*found, *rows], key=lambda row: (place[row["subset"]], metrics.index(row["metric"])))
    return {"metrics": list(metrics), "scores": rows, "replicates": replicates}


def _hit_metrics(table: pa.Table) -> tuple[str, ...]:
    """The metric of the candidates, where a scored table has one."""
    return tuple(name for name in table.column_names if name.startswith(HIT))


def _empty_for_null(lists: pa.ChunkedArray) -> pa.Array:
    return pa.array([row if row is not None else [] for row in lists.to_pylist()], lists.type)


def _padded(lists: pa.Array) -> Ints:
    """Lists of class indices as (n, m), -1 padded."""
    rows = lists.to_pylist()
    width = max((len(row) for row in rows), default=0)
    padded = np.full((len(rows), max(width, 1)), -1, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded
