"""From stored predictions to the table of a run record: one row for every sample asked, in the order of their ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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
    ids = pa.array([sample.id for sample in asked], pa.string())
    ok = np.array([sample.id not in readable.failures for sample in asked])
    rows = pc.index_in(ids, predictions["sample_id"])
    lost = ids.filter(pc.and_(rows.is_null(), pa.array(ok)))
    if len(lost):
        raise DataError(f"{len(lost)} samples of '{benchmark.name}' have no prediction (first: {lost[0]}); run again")
    taken = _taken(predictions, pc.if_else(pa.array(ok), rows, None))  # a null row where the picture failed
    labels = np.array([sample.label for sample in asked], dtype=np.int64)
    columns = {
        "sample_id": ids,
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


def _taken(table: pa.Table, rows: pa.Array) -> pa.Table:
    """Rows of a table in another order. In their own order they are not copied: a whole set is large."""
    same = len(rows) == table.num_rows and rows.equals(pa.array(np.arange(len(rows)), rows.type))
    return table if same else table.take(rows)


def _empty_for_null(lists: pa.ChunkedArray) -> pa.Array:
    """One array, with an empty list in the place of none."""
    held = _joined(lists)
    ends = np.cumsum(_lengths(held), dtype=np.int64)
    return pa.ListArray.from_arrays(pa.array([0, *ends], pa.int32()), held.flatten(), type=held.type)


def _padded(lists: pa.Array) -> Ints:
    """Lists of class indices as (n, m), -1 padded."""
    lengths = _lengths(lists)
    width = max(int(lengths.max(initial=0)), 1)
    padded = np.full((len(lists), width), -1, dtype=np.int64)
    padded[np.arange(width) < lengths[:, None]] = lists.flatten().to_numpy()
    return padded


def _lengths(lists: pa.Array) -> Ints:
    """(n,) how many items each list has; 0 where there is none."""
    lengths: Ints = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths


def _joined(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
