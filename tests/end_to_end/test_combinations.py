"""Combinations from outside: batches, hashes, records, and the cost curve of a finished cascade."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.end_to_end.conftest import Place
from trireme.commands.curve import _cell
from trireme.errors import UsageError
from trireme.results import find_runs, read_predictions
from trireme.results.cost import _boundaries, cost_curve
from trireme.results.records import RunRecord

MOCK = ("benchmark=mock/zero-shot", "encoder=mock")
PARTS = (
    "method=cascade",
    "method.cascade.cheap=knn-10",
    "method.cascade.expensive=rar-list",
    "method.cascade.expensive.ranker=mock",
)


def run_of(place: Place, out: str = "out", **wanted: Any) -> RunRecord:
    found = find_runs(place.folder / out, strict=True)
    [one] = [run for run in found if all(getattr(run, key) == value for key, value in wanted.items())]
    return one


def answers(record: RunRecord) -> list[dict[str, Any]]:
    return read_predictions(record).to_pylist()


def test_batches_that_ask_nobody_fit_those_that_ask(place: Place) -> None:
    """One sample a batch: the ranker's columns are there in some batches only. A run found again is not made again."""
    place.trireme("run", *PARTS, *MOCK, "batch_size=1", "out=single")
    place.trireme("run", *PARTS, *MOCK)
    single, whole = run_of(place, "single"), run_of(place)
    assert single.run == whole.run
    assert answers(single) == answers(whole)
    asked = [row["asked"] for row in answers(whole)]
    assert 0 < sum(asked) < len(asked)
    assert sum(whole.data["replies"]["statuses"].values()) == sum(asked)
    assert [row["reply_status"] is not None for row in answers(whole)] == asked
    again = place.trireme("run", *PARTS, *MOCK)
    assert "0 runs computed, 1 already there" in again.stdout + again.stderr


def test_the_record_says_what_both_were_told_and_how_the_threshold_was_chosen(place: Place) -> None:
    place.trireme("run", PARTS[0], *PARTS[2:], *MOCK, "method.cascade.cheap=zero_shot")
    record = run_of(place)
    method = record.data["method"]
    assert method["supervision"] == {"training": "none", "inference": "labels"}  # rar's, whose memory is labelled
    facts = method["facts"]
    assert facts["selection"]["benchmark"] == "mock/validation"
    pictures = record.data["validation"]["done"]
    assert facts["selection"]["chosen"]["calls"] <= 0.2 * pictures
    assert [point["budget"] for point in facts["curve"]] == [0.0, 0.05, 0.1, 0.2, 0.5, 1.0]
    assert facts["curve"][-1]["calls"] == pictures
    assert "hit@5" in record.data["metrics"]
    for row in answers(record):
        assert row["hit@5"] >= row["top1"]
        if not row["asked"]:
            assert row["hit@5"] == row["top1"]  # the answer stands
            assert row["candidates"] == [row["cheap_first"]]


def test_an_option_of_a_part_makes_another_run(place: Place) -> None:
    for more in ("method.cascade.cheap.k=3", "method.cascade.cheap=knn-10"):
        place.trireme("run", *PARTS[:1], *PARTS[2:], *MOCK, more)
    assert len({run.run for run in find_runs(place.folder / "out")}) == 2


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("method.cascade.expensive=recco", "unknown method 'recco'; did you mean 'reco'"),
        ("method.cascade.cheap.kk=3", "unknown config key 'kk'"),
        ("method.cascade.cheap=cascade", "method config 'cascade' holds itself"),
    ],
)
def test_mistakes_in_parts_are_one_line(place: Place, option: str, said: str) -> None:
    given = [one for one in PARTS if one.partition("=")[0] != option.partition("=")[0]]
    if "expensive=" in option:
        given.remove(PARTS[3])
    done = place.trireme("run", *given, *MOCK, option, code=2)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_task_that_a_part_cannot_do_is_left_out(place: Place) -> None:
    done = place.trireme("run", "method=cascade,knn", "benchmark=mock/detection", "encoder=mock")
    assert "cascade does no detection benchmark" in done.stderr
    assert [run.method for run in find_runs(place.folder / "out")] == ["knn"]


def test_a_point_of_the_curve_never_splits_a_tie(place: Place) -> None:
    """As `within` does: of those that are equally sure all are asked or none."""
    place.trireme("run", *PARTS[:1], *PARTS[2:], *MOCK, "method.cascade.cheap=knn-10", "method.cascade.budget=1")
    record = run_of(place)
    sure = sorted(row["confidence"] for row in answers(record))
    frame = cost_curve(record, [count / 24 for count in range(25)])
    expected = [count for count in range(25) if count in (0, 24) or sure[count - 1] < sure[count]]
    assert sorted(set(frame["calls"])) == expected
    assert _boundaries(np.array([0.1, 0.1, 0.3, 0.3, 0.3, 0.7]), 6).tolist() == [0, 2, 5, 6]
    assert _boundaries(np.array([0.1, 0.1, 0.3, 0.3, 0.3, 0.7]), 2).tolist() == [0, 2]
    assert _boundaries(np.array([]), 0).tolist() == [0]


def test_a_score_without_an_interval_is_shown_alone() -> None:
    assert _cell(50.0, float("nan"), float("nan")) == " 50.0"
    assert _cell(50.0, 40.0, 60.0) == " 50.0 [40.0,  60.0]"


def test_the_curve_is_that_of_the_parts_alone(place: Place, comparison: tuple[str, ...], tmp_path: Path) -> None:
    """Expected from the runs of both parts by themselves: the least sure samples have one's answer, the rest the
    other's. A run that asked about everybody knows the whole curve, one that asked some its beginning."""
    arguments = [one.replace("zero_shot,knn", "zero_shot,knn,cascade") for one in comparison]
    parts = ("method.cascade.cheap=knn", "method.cascade.expensive=zero_shot")
    place.trireme(*arguments, *parts, "method.cascade.budget=1")
    whole = next(run for run in find_runs(place.folder / "out") if run.method.startswith("cascade"))
    rows, cheap, expensive = answers(whole), *(answers(run_of(place, method=name)) for name in ("knn", "zero_shot"))
    margins = np.array([row["scores"][0] - row["scores"][1] for row in cheap])
    labels = [row["label"] for row in rows]
    frame = cost_curve(whole).set_index(["calls", "subset"])
    assert [calls for calls, _ in frame.index] == [0, 6, 12, 24, 60, 120]
    for calls in (0, 6, 12, 24, 60, 120):
        chosen = set(np.argsort(margins, kind="stable")[:calls].tolist())
        first = [(expensive if i in chosen else cheap)[i]["ranked"][0] for i in range(120)]
        assert frame.loc[(calls, "all"), "top1"] == pytest.approx(100 * np.mean(np.equal(first, labels)))
    threshold = float(np.sort(margins)[30])
    place.trireme(*arguments, *parts, f"method.cascade.threshold={threshold!r}", "out=some")
    some = next(run for run in find_runs(place.folder / "some") if run.method.startswith("cascade"))
    assert sum(row["asked"] for row in answers(some)) == 30
    part = cost_curve(some).set_index("calls")["top1"]
    assert part.index.tolist() == [0, 6, 12, 24, 30]
    assert part[:4].tolist() == frame.xs("all", level="subset")["top1"][:4].tolist()
    printed = place.trireme("curve", str(whole.folder)).stdout
    assert f"{frame.loc[(24, 'all'), 'top1']:.1f}" in printed
    place.trireme("curve", str(whole.folder), "--save", str(tmp_path / "curve.csv"))
    assert (tmp_path / "curve.csv").read_text().startswith("share,calls,subset,n,top1,ci_low,ci_high\n0.0,0,all,120,")
    assert "it asked about 100.0 % of these pictures (120 calls), the last line" in printed
    ranked_by_recall = replace(whole, data={**whole.data, "metrics": ["mean_per_class", "top1"]})
    with pytest.raises(UsageError, match=r"the main metric of .* is mean_per_class; it has no curve"):
        cost_curve(ranked_by_recall)
    refused = place.trireme("curve", str(run_of(place, method="knn").folder), code=2)
    assert "only runs of cascade have a curve" in refused.stderr
