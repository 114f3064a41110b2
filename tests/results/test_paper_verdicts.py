"""Verdicts on made-up scores. Expected values are worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trireme.errors import DataError, UsageError
from trireme.results.paper import Cell, Paper, read_paper
from trireme.results.paper.expected import write_expected
from trireme.results.paper.verdicts import (
    DIFFERS,
    NOT_RUN,
    OFF,
    REPRODUCED,
    Score,
    Verdict,
    exit_code,
    judge,
    judge_mean,
)

MADE = {"encoder": "e1", "benchmark": "b1", "memory": None}


def paper(tmp_path: Path, own: bool = False, **value: Any) -> Paper:
    """One row of two columns and their mean; `value` is added to the first column."""
    table = {
        "table": "t",
        "title": "t",
        "tier": "own" if own else "hard",
        "source": ["A"],
        "metric": "top1",
        "protocol": "any",
        "tolerance": 0.1,
        "run": {"method": "knn"},
        "columns": [
            {"name": "x", "run": {"benchmark": "cub"}},
            {"name": "y", "run": {"benchmark": "cars"}},
            {"name": "mean", "mean_of_others": True},
        ],
        "rows": [{"name": "a", "values": [{"value": 50.0, **value}, 60.0, 55.0]}],
    }
    path = tmp_path / "own.json"
    content = {"paper": "own", "title": "t", "citation": "c", "own": own, "sources": {"A": "b"}, "tables": [table]}
    path.write_text(json.dumps(content))
    return read_paper(path)


def cell(tmp_path: Path, **value: Any) -> Cell:
    return paper(tmp_path, **value).tables[0].cells[0]


@pytest.mark.parametrize(
    ("score", "low", "high", "verdict"),
    [
        (52.0, 49.0, 55.0, REPRODUCED),  # 50 is in our interval
        (52.0, 50.0, 55.0, REPRODUCED),  # its edge is part of it
        (52.0, 50.5, 55.0, OFF),
        (50.1, 50.05, 50.2, REPRODUCED),  # outside of the interval, within the tolerance of 0.1
        (50.2, None, None, OFF),  # no interval: the tolerance alone
        (50.1, None, None, REPRODUCED),
    ],
)
def test_a_paper_value(tmp_path: Path, score: float, low: float | None, high: float | None, verdict: str) -> None:
    found = judge(cell(tmp_path), Score(score, low, high, 100))
    assert found.verdict == verdict
    assert found.delta == pytest.approx(score - 50)


@pytest.mark.parametrize(
    ("stored", "score", "verdict"),
    [
        ({"low": 48.0, "high": 52.0}, 51.9, REPRODUCED),
        ({"low": 48.0, "high": 52.0}, 52.2, OFF),  # although 50 is in the wide interval of the new score
        ({"low": 48.0, "high": 52.0, "exact": True}, 50.1, REPRODUCED),
        ({"low": 48.0, "high": 52.0, "exact": True}, 50.2, OFF),  # inside the interval, but it computes the same always
    ],
)
def test_a_result_of_our_own_has_to_stay_in_its_stored_interval(
    tmp_path: Path, stored: dict[str, Any], score: float, verdict: str
) -> None:
    assert judge(cell(tmp_path, **stored), Score(score, 40.0, 60.0, 100)).verdict == verdict


@pytest.mark.parametrize(
    ("stored", "made", "why"),
    [
        ({"made": MADE}, {**MADE, "encoder": "e2"}, "the encoder is another one (e2, the stored result had e1)"),
        ({"made": MADE}, {**MADE, "memory": "m"}, "the memory is another one (m, the stored result had none)"),
        ({"made": MADE, "n": 99}, MADE, "100 samples, the stored result had 99"),
        ({"differs": "another crop"}, MADE, "another crop"),
    ],
)
def test_another_protocol_is_never_called_reproduced(
    tmp_path: Path, stored: dict[str, Any], made: dict[str, Any], why: str
) -> None:
    found = judge(cell(tmp_path, **stored), Score(50.0, 40.0, 60.0, 100, made))
    assert (found.verdict, found.why) == (DIFFERS, why)


def test_the_mean_of_cells(tmp_path: Path) -> None:
    """Half-widths 3 and 4 of independent sets: sqrt(9 + 16) / 2 = 2.5 around the mean of 53 and 65."""
    x, y, mean = paper(tmp_path).tables[0].cells
    parts = [judge(x, Score(53.0, 50.0, 56.0, 9)), judge(y, Score(65.0, 61.0, 69.0, 9))]
    found = judge_mean(mean, parts)
    assert found.found is not None
    assert (found.found.score, found.found.low, found.found.high) == (59.0, 56.5, 61.5)
    assert found.verdict == OFF  # 55 is not in it
    assert judge_mean(mean, [parts[0], judge(y, None, "no data")]).verdict == NOT_RUN
    assert judge_mean(mean, parts[:1]).verdict == NOT_RUN, "a mean of some is none"
    differing = judge_mean(mean, [parts[0], Verdict(y, Score(65.0, 61.0, 69.0), DIFFERS, "another split")])
    assert (differing.verdict, differing.why) == (DIFFERS, "another split")


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        ([REPRODUCED, NOT_RUN, DIFFERS], 0),
        ([REPRODUCED, OFF], 1),
        ([OFF, NOT_RUN], 1),
        ([NOT_RUN, DIFFERS], 3),
        ([NOT_RUN], 3),
    ],
)
def test_exit_codes(tmp_path: Path, kinds: list[str], code: int) -> None:
    one = cell(tmp_path)
    assert exit_code([Verdict(one, None, kind) for kind in kinds]) == code


def test_expected_results_are_written_and_hold(tmp_path: Path) -> None:
    mine = paper(tmp_path, own=True)
    x, y, _ = mine.tables[0].cells
    found = [judge(x, Score(41.00004, 40.0, 42.0, 7, MADE)), judge(y, Score(61.0, 60.0, 62.0, 7, MADE))]
    again = read_paper(write_expected(mine, found, tmp_path / "new.json")).tables[0].cells
    assert [(one.value, one.low, one.high, one.n, one.made) for one in again[:2]] == [
        (41.0, 40.0, 42.0, 7, MADE),
        (61.0, 60.0, 62.0, 7, MADE),
    ]
    assert judge(again[0], Score(41.5, 40.5, 42.5, 7, MADE)).verdict == REPRODUCED
    assert judge(again[0], Score(42.5, 41.5, 43.5, 7, MADE)).verdict == OFF


def test_published_values_are_never_overwritten(tmp_path: Path) -> None:
    theirs = paper(tmp_path)
    found = [judge(theirs.tables[0].cells[0], Score(41.0, 40.0, 42.0, 7))]
    with pytest.raises(UsageError, match="never overwritten"):
        write_expected(theirs, found, tmp_path / "new.json")
    mine = paper(tmp_path, own=True)
    with pytest.raises(DataError, match=r"1 cells were not found \(first: own/t: a, x: no data\)"):
        write_expected(mine, [judge(mine.tables[0].cells[0], None, "no data")], tmp_path / "new.json")
    assert not (tmp_path / "new.json").exists()
