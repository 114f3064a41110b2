"""Stored batches, and the table of a run record made from them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trireme.benchmarks.base import RowBenchmark
from trireme.errors import DataError, TriremeError
from trireme.methods.rankers.base import REPLY_STATUS
from trireme.partial import Gathered, Partial, as_table, check_answered, merge, unanswered
from trireme.readable import Readable
from trireme.results.statistics import score_rows
from trireme.scoring import scored_table
from trireme.types import ImageRef, Predictions, Role, Sample

CLASSES = ("ant", "bee", "cat")


def samples(n: int) -> list[Sample]:
    return [Sample(f"s{i:02}", ImageRef(f"/{i}.png", f"{i:064}"), i % 3) for i in range(n)]


def benchmark(rows: Sequence[Sample]) -> RowBenchmark:
    groups = ("common", "common", "rare")
    subsets = {"all": None, "rare": ("rare",)}
    return RowBenchmark("b", "1", CLASSES, CLASSES, groups, subsets, ("a {}",), {Role.TEST: rows})


def predict(asked: Sequence[Sample]) -> Predictions:
    """A method whose answer depends on the sample's number alone: class (7 i) mod 3 first, then the next one."""
    number = np.array([int(sample.id[1:]) for sample in asked], dtype=np.int64)
    ranked = np.stack([7 * number % 3, (7 * number + 1) % 3], axis=1).reshape(-1, 2)
    scores = np.stack([number, -number], axis=1).astype(np.float32).reshape(-1, 2)
    return Predictions(ranked, scores, {"retrieved": [[sample.id] * (i % 2) for i, sample in enumerate(asked)]})


def readable(rows: Sequence[Sample], failed: Sequence[str] = ()) -> Readable:
    return Readable(rows, [row for row in rows if row.id not in failed], dict.fromkeys(failed, "truncated"))


@given(order=st.permutations(range(12)), cuts=st.sets(st.integers(1, 11)))
@settings(deadline=None)
def test_order_and_batches_never_change_the_table(order: list[int], cuts: set[int]) -> None:
    rows = samples(12)
    whole = scored_table(benchmark(rows), readable(rows), as_table(rows, predict(rows), "m"))
    shuffled = [rows[i] for i in order]
    edges = [0, *sorted(cuts), 12]
    parts = [shuffled[a:b] for a, b in pairwise(edges)]
    table = merge([as_table(part, predict(part), "m") for part in parts])
    assert scored_table(benchmark(rows), readable(rows), table).drop_columns("retrieved") == whole.drop_columns(
        "retrieved"
    )


def test_values_against_a_hand_count() -> None:
    """(7 i) mod 3 = i mod 3, so the first class is always the label: top1 is 1 for every sample, and so is top5."""
    rows = samples(6)
    table = scored_table(benchmark(rows), readable(rows), as_table(rows, predict(rows), "m"))
    assert table["top1"].to_pylist() == [1.0] * 6
    assert table["group"].to_pylist() == ["common", "common", "rare"] * 2
    wrong = Predictions(np.array([[1, -1]] * 6), np.ones((6, 2), np.float32))
    table = scored_table(benchmark(rows), readable(rows), as_table(rows, wrong, "m"))
    assert table["top1"].to_pylist() == [0.0, 1.0, 0.0] * 2, "only the bees are ranked first"
    assert table["ranked"].to_pylist() == [[1]] * 6, "padding is not stored"


def test_failed_and_unlabelled_samples_do_not_count() -> None:
    rows = [*samples(6), Sample("s06", ImageRef("/x.png"), -1)]
    asked = readable(rows, failed=["s01", "s04"])
    table = scored_table(benchmark(rows), asked, as_table(asked.samples, predict(asked.samples), "m"))
    assert table["status"].to_pylist() == ["ok", "failed", "ok", "ok", "failed", "ok", "ok"]
    assert table["top1"].to_pylist() == [1.0, None, 1.0, 1.0, None, 1.0, None]
    assert table["ranked"][1].as_py() == []
    assert table["label"].to_pylist()[-1] == -1
    scores = {row["subset"]: row for row in score_rows(table, {"all": None, "rare": ("rare",)}, ["top1"])}
    assert scores["all"]["n"] == 4, "6 labelled samples less 2 failed ones"
    assert scores["rare"]["n"] == 2


def test_a_lost_prediction_is_an_error() -> None:
    rows = samples(3)
    with pytest.raises(DataError, match=r"1 samples of 'b' have no prediction \(first: s02\)"):
        scored_table(benchmark(rows), readable(rows), as_table(rows[:2], predict(rows[:2]), "m"))
    with pytest.raises(DataError, match="no picture of 'b' can be read"):
        scored_table(benchmark(rows), readable(rows), None)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Predictions(np.zeros((2, 1), np.int64), np.zeros((2, 1), np.float32)), "asked for 3 samples"),
        (Predictions(np.zeros((3, 2), np.int64), np.zeros((3, 1), np.float32)), r"scores \(3, 1\)"),
        (Predictions(np.zeros((3, 1), np.int64), np.zeros((3, 1), np.float32), {"a": [1]}), "1 values for 3"),
        (Predictions(np.zeros((3, 1), np.int64), np.zeros((3, 1), np.float32), {"label": [1] * 3}), "reserved name"),
    ],
)
def test_a_method_that_answers_something_else_is_named(wrong: Predictions, said: str) -> None:
    with pytest.raises(TriremeError, match=said) as caught:
        as_table(samples(3), wrong, "odd")
    assert "'odd'" in str(caught.value)


def test_stored_batches_survive_and_damaged_ones_are_computed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = samples(9)
    partial = Partial(tmp_path, "abc")
    assert partial.load() is None
    for start in (0, 3, 6):
        partial.add(as_table(rows[start : start + 3], predict(rows[start : start + 3]), "m"))
    again = Partial(tmp_path, "abc")
    stored = again.load()
    assert stored is not None
    assert stored["sample_id"].to_pylist() == [row.id for row in rows]
    second = sorted(again.folder.glob("*.parquet"))[1]
    second.write_bytes(second.read_bytes()[:40])
    stored = again.load()
    assert stored is not None
    assert stored["sample_id"].to_pylist() == [row.id for row in (*rows[:3], *rows[6:])]
    assert str(second) in capsys.readouterr().err
    again.add(as_table(rows[3:6], predict(rows[3:6]), "m"))
    restored = again.load()
    assert restored is not None
    assert sorted(restored["sample_id"].to_pylist()) == [row.id for row in rows]
    again.remove()
    assert Partial(tmp_path, "abc").load() is None


def test_a_column_that_is_empty_in_one_batch() -> None:
    """The first batch retrieved nothing, so Arrow cannot tell the type of its lists."""
    empty = pa.table({"sample_id": ["a"], "retrieved": [[]]})
    full = pa.table({"sample_id": ["b"], "retrieved": [["x"]]})
    found = merge([empty, full])
    assert found is not None
    assert found["retrieved"].to_pylist() == [[], ["x"]]


def test_many_small_batches_are_joined_into_what_they_hold() -> None:
    """Reference: all batches merged at once. 150 of one row, of which the first 70 retrieved nothing."""
    rows = samples(150)
    batches = [as_table([row], predict([row]), "m") for row in rows]
    empty = pa.array([[]], pa.list_(pa.null()))
    batches = [b.set_column(3, "retrieved", empty) if i < 70 else b for i, b in enumerate(batches)]
    gathered = Gathered(batches[0])
    for batch in batches[1:]:
        gathered.add(batch)
    table = gathered.take()
    assert table is not None
    assert table.equals(merge(batches))
    assert {column.num_chunks for column in table.columns} == {1}
    assert gathered.take() is None


def test_a_table_in_order_is_not_copied() -> None:
    rows = samples(5)
    table = as_table(rows, predict(rows), "m")
    column = scored_table(benchmark(rows), readable(rows), table)["retrieved"]
    held, given = (one.chunk(0).values.buffers()[-1] for one in (column, table["retrieved"]))
    assert held.address == given.address


def test_the_same_sample_twice_counts_once() -> None:
    rows = samples(2)
    table = as_table(rows, predict(rows), "m")
    found = merge([table, table])
    assert found is not None
    assert found.num_rows == 2


def ask(asked: Sequence[Sample], silent: frozenset[str] = frozenset()) -> Predictions:
    """The same by a ranker that has no reply for some samples, which then keep another order."""
    found = predict(asked)
    lost = np.array([sample.id in silent for sample in asked], dtype=bool)
    found.ranked[lost] = found.ranked[lost, ::-1]
    extras = {
        REPLY_STATUS: ["timeout" if one else "ok" for one in lost],
        "reply": ["no\nroute" if one else "text" for one in lost],
    }
    return Predictions(found.ranked, found.scores, extras)


@given(
    silent=st.frozensets(st.sampled_from([row.id for row in samples(9)])),
    cuts=st.sets(st.integers(1, 8)),
    again=st.frozensets(st.sampled_from([row.id for row in samples(9)])),
)
@settings(deadline=None, max_examples=25)
def test_what_got_no_reply_is_asked_again_and_nothing_else(
    silent: frozenset[str], cuts: set[int], again: frozenset[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two rounds in which some samples get no reply, then one in which all do: the table of an undisturbed run."""
    rows = samples(9)
    partial = Partial(tmp_path_factory.mktemp("partial"), "abc")
    edges = [0, *sorted(cuts), 9]
    for start, end in pairwise(edges):
        partial.add(as_table(rows[start:end], ask(rows[start:end], silent), "m"))

    def left() -> list[Sample]:
        stored = partial.load()
        done = set() if stored is None else set(stored["sample_id"].to_pylist())
        return [row for row in rows if row.id not in done]

    assert {row.id for row in left()} == silent
    partial.add(as_table(left(), ask(left(), again), "m"))
    assert {row.id for row in left()} == silent & again
    partial.add(as_table(left(), ask(left()), "m"))
    whole = scored_table(benchmark(rows), readable(rows), as_table(rows, ask(rows), "m"))
    assert scored_table(benchmark(rows), readable(rows), partial.load()) == whole


def test_a_run_fails_above_one_percent_without_reply() -> None:
    rows = samples(3)
    table = as_table(rows, ask(rows, frozenset({"s01", "s02"})), "m")
    assert unanswered(table) == [("s01", "no\nroute"), ("s02", "no\nroute")]
    assert unanswered(as_table(rows, predict(rows), "m")) == [], "a method that asks nobody"
    check_answered(unanswered(table), done=200, asked=200)
    said = r"no reply for 2 of 64 samples, more than 1 % of all 199 \(first: s01: no route\); .* run again to ask only"
    with pytest.raises(DataError, match=said):
        check_answered(unanswered(table), done=64, asked=199)


def test_a_sample_without_a_question_is_kept() -> None:
    """A method may ask about some samples only; a null status is no lost reply."""
    table = pa.table({"sample_id": ["a", "b"], REPLY_STATUS: pa.array([None, "timeout"], pa.string())})
    assert unanswered(table) == [("b", "")]
