"""Predictions of a run that is not finished: each batch is a file, whole or absent, so a killed run goes on there.

A sample that a ranker did not answer for is no part of them: whoever goes on asks again.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trireme.errors import DataError, TriremeError
from trireme.files import atomic_file, lock_file
from trireme.methods.rankers.base import REPLY_STATUS, Status
from trireme.progress import say
from trireme.readable import MOST_FAILED
from trireme.types import Predictions, Sample

CANDIDATES = "candidates"
"""The column of the classes that a re-ranker chose among."""
_TOGETHER = 64
RESERVED = ("sample_id", "label", "group", "status", "ranked", "scores", CANDIDATES)


class Partial:
    """The stored batches of one run, below `<out>/.partial/<hash of the run>`."""

    def __init__(self, out: Path, run: str) -> None:
        self.folder = out / ".partial" / run
        self._next = 0

    def load(self) -> pa.Table | None:
        """What earlier processes predicted, one row a sample; a file that cannot be read is dropped."""
        tables = []
        for path in sorted(self.folder.glob("*.parquet")):
            try:
                tables.append(pq.read_table(path))
            except (pa.ArrowException, OSError) as error:
                say(f"warning: {path} is damaged and will be computed again ({' '.join(str(error).split())[:120]})")
                path.unlink()
        return merge(tables)

    def add(self, table: pa.Table) -> None:
        """Store what was answered of one batch, under a number in order of arrival."""
        table = table.filter(pa.array([not silent for silent in _silent(table)], pa.bool_()))
        if not table.num_rows:
            return
        while (path := self.folder / f"{self._next:06}.parquet").exists():
            self._next += 1
        with atomic_file(path) as part:
            pq.write_table(table, part)

    def remove(self, finished: bool = True) -> None:
        """Forget the batches, while holding the lock.

        Args:
            finished: whoever comes next finds nothing to do, so that the lock can go too.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        if finished:
            lock_file(self.folder).unlink(missing_ok=True)


class Gathered:
    """The predictions of a run while they are made. Small batches are joined: each costs more than its rows."""

    def __init__(self, stored: pa.Table | None) -> None:
        self._joined: list[pa.Table] = [] if stored is None else [stored]
        self._batches: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        self._batches.append(table)
        if len(self._batches) == _TOGETHER:
            self._joined.append(pa.concat_tables(self._batches, promote_options="permissive").combine_chunks())
            self._batches = []

    def take(self) -> pa.Table | None:
        """All of them as one table, each sample once; none is left here.

        Columns are joined one after the other, so that the whole is never there twice.
        """
        parts, self._joined, self._batches = [*self._joined, *self._batches], [], []
        table = merge(parts)
        parts.clear()
        if table is None:
            return None
        for place, name in enumerate(table.column_names):
            table = table.set_column(place, name, table[name].combine_chunks())
        return table


def unanswered(table: pa.Table) -> list[tuple[str, str]]:
    """(sample id, reason) of the predictions for which a ranker gave no reply; none for methods that ask none."""
    lost = table.filter(pa.array(_silent(table), pa.bool_()))
    reasons = lost["reply"].to_pylist() if "reply" in lost.column_names else [""] * lost.num_rows
    return list(zip(lost["sample_id"].to_pylist(), reasons, strict=True))


def _silent(table: pa.Table) -> list[bool]:
    """Which rows a ranker gave no reply for."""
    if REPLY_STATUS not in table.column_names:
        return [False] * table.num_rows
    return [status == Status.TIMEOUT for status in table[REPLY_STATUS].to_pylist()]


def check_answered(lost: Sequence[tuple[str, str]], done: int, asked: int) -> None:
    """Refuse to go on where more than 1 % of the samples of a run got no reply, as of those that cannot be read.

    Args:
        lost: see `unanswered`.
        done: predictions so far.
        asked: samples of the whole run.

    Raises:
        DataError: naming the first one and its reason.
    """
    if len(lost) > MOST_FAILED * asked:
        sample, reason = lost[0]
        raise DataError(
            f"the ranker gave no reply for {len(lost)} of {done} samples, more than 1 % of all {asked} "
            f"(first: {sample}: {' '.join(reason.split())[:200] or 'no reason given'}); every reply that came is kept, "
            "run again to ask only for the rest"
        )


def merge(tables: Sequence[pa.Table]) -> pa.Table | None:
    """Batches as one table, each sample once; a column that is empty in one takes the type it has in another."""
    if not tables:
        return None
    table = pa.concat_tables(tables, promote_options="permissive")
    if pc.count_distinct(table["sample_id"]).as_py() == table.num_rows:
        return table
    ids = table["sample_id"].to_pylist()
    return table.take(sorted({sample: row for row, sample in reversed(list(enumerate(ids)))}.values()))


def as_table(samples: Sequence[Sample], predictions: Predictions, method: str) -> pa.Table:
    """A batch of predictions as a table: sample_id, ranked, scores and the method's extras.

    Raises:
        TriremeError: the method answered for another number of samples, or an extra has a reserved name.
    """
    n = len(samples)
    if len(predictions.ranked) != n or predictions.ranked.shape != predictions.scores.shape:
        shapes = f"ranked {predictions.ranked.shape}, scores {predictions.scores.shape}"
        raise TriremeError(f"method '{method}' was asked for {n} samples and answered with {shapes}")
    found = predictions.ranked >= 0
    columns = {
        "sample_id": pa.array([sample.id for sample in samples], pa.string()),
        "ranked": pa.array([row[ok] for row, ok in zip(predictions.ranked, found, strict=True)], pa.list_(pa.int32())),
        "scores": pa.array(
            [row[ok] for row, ok in zip(predictions.scores, found, strict=True)], pa.list_(pa.float32())
        ),
    }
    if predictions.candidates is not None:
        kept = [row[row >= 0] for row in predictions.candidates]
        columns[CANDIDATES] = pa.array(kept, pa.list_(pa.int32()))
    for name, values in predictions.extras.items():
        if name in RESERVED or len(values) != n:
            raise TriremeError(
                f"method '{method}': the extra '{name}' has a reserved name, or {len(values)} values for {n}"
            )
        columns[name] = pa.array(values)
    return pa.table(columns)
