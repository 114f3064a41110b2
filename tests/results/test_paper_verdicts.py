"""Verdicts on made-up scores. Expected values are worked out by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.docs import ROOT
from trireme.errors import DataError, UsageError
from trireme.results.paper import Cell, Paper, papers, read_paper
from trireme.results.paper.expected import write_expected
from trireme.results.paper.rerun import half_width
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
from trireme.results.statistics import interval

MADE = {"encoder": "e1", "benchmark": "b1", "memory": None}


def paper(tmp_path: Path, own: bool = False, **value: Any) -> Paper:
    """Two rows of two columns and their mean; `value` is added to the first cell."""
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
        "rows": [
            {"name": "a", "values": [{"value": 50.0, **value}, 60.0, 55.0]},
            {"name": "b", "values": [54.0, 60.0, 57.0]},
        ],
    }
    path = tmp_path / "own.json"
    content = {"paper": "own", "title": "t", "citation": "c", "own": own, "sources": {"A": "b"}, "tables": [table]}
    path.write_text(json.dumps(content))
    return read_paper(path)


def cell(tmp_path: Path, **value: Any) -> Cell:
    return paper(tmp_path, **value).tables[0].cells[0]


@pytest.mark.parametrize(
    ("score", "rerun", "verdict", "why"),
    [
        (50.1, None, REPRODUCED, "within 0.1 of the value: the tolerance"),
        (50.2, None, OFF, "within 0.1 of the value: the tolerance"),
        (50.9, 0.9, REPRODUCED, "within 0.9 of the value: chance in the pictures of the same classes"),
        (49.1, 0.9, REPRODUCED, "within 0.9 of the value: chance in the pictures of the same classes"),
        (51.0, 0.9, OFF, "within 0.9 of the value: chance in the pictures of the same classes"),
        # row b has 54 there: 52 is in the middle, and what is beyond it is nearer to b
        (52.0, 3.0, REPRODUCED, "within 2 of the value: half of the 4 to the nearest other value of the table"),
        (52.1, 3.0, OFF, "within 2 of the value: half of the 4 to the nearest other value of the table"),
        (47.9, 3.0, OFF, "within 2 of the value: half of the 4 to the nearest other value of the table"),
    ],
)
def test_a_paper_value(tmp_path: Path, score: float, rerun: float | None, verdict: str, why: str) -> None:
    """Whatever an interval that draws classes says, here 0 to 100."""
    found = judge(cell(tmp_path), Score(score, 0.0, 100.0, 100, rerun))
    assert (found.verdict, found.why) == (verdict, why)
    assert found.delta == pytest.approx(score - 50)
    assert found.allowed is not None
    assert sum(found.allowed) == pytest.approx(2 * 50.0)


def test_equal_values_of_a_table_leave_the_tolerance_alone(tmp_path: Path) -> None:
    """The second column has 60 in both rows: no interval tells one from the other."""
    same = paper(tmp_path).tables[0].cells[1]
    assert (same.value, same.rival) == (60.0, 0.0)
    assert judge(same, Score(60.1, None, None, 9, 2.0)).verdict == REPRODUCED
    assert judge(same, Score(60.2, None, None, 9, 2.0)).verdict == OFF


def test_the_nearest_value_is_one_of_the_same_data_set() -> None:
    """RAR's Table 2, by hand: Pets has 55.6 and 60.9 (5.3 apart), with 61.8 0.9 from that; Avg 57.0 has 63.0 and 63.2.
    REACT's table is of one data set: 62.9 is 0.3 from the 63.2 of another row, and of the same column."""
    few = {(one.row, one.column): one.rival for one in read_paper(papers()["rar"]).table("table2").cells}
    assert few["4-shot CLIP+KNN", "Pets"] == 5.3
    assert few["4-shot RAR (LLaVA1.5)", "Pets"] == 0.9
    assert few["4-shot CLIP+KNN", "Avg"] == 6.0
    imagenet = {(one.row, one.column): one.rival for one in read_paper(papers()["react"]).table("imagenet").cells}
    assert imagenet["CLIP B/32", "locked-text, LAION-400M"] == 0.3  # 66.6, a baseline
    real = {(one.row, one.column): one.rival for one in read_paper(papers()["react"]).table("real").cells}
    assert real["OpenAI templates", "Pets"] == 0.7  # 87.4, of the same column


def test_the_interval_on_the_same_classes() -> None:
    """By hand. Class 0 has 1 1 0 0: s^2 = (4 / 4) / 3 = 1/3; class 1 has 1 1 1 1: 0. The mean's variance is
    (4/8)^2 (1/3) / 4 = 1/48, half of the interval 1.959964 / sqrt(48) = 28.2896 points; of the mean over two classes
    the same here. With two pictures more in class 1, (4/10)^2 / 12 = 1/75: 22.6317; the mean over classes stays.
    Failed samples, and those of another group, are not there.
    """
    values = [1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0]
    table = pa.table(
        {
            "label": [0] * 4 + [1] * 6 + [1, 2],
            "group": ["common"] * 8 + ["rare"] * 2 + ["common"] * 2,
            "status": ["ok"] * 10 + ["failed"] * 2,
            "top1": values,
        }
    )
    assert half_width(table, ["common"], "top1") == pytest.approx(28.2896, abs=1e-3)
    assert half_width(table, ["common"], "mean_per_class") == pytest.approx(28.2896, abs=1e-3)
    assert half_width(table, None, "top1") == pytest.approx(22.6317, abs=1e-3)
    assert half_width(table, None, "mean_per_class") == pytest.approx(28.2896, abs=1e-3)
    assert half_width(table, ["rare"], "top1") == 0.0
    assert half_width(table, ["none"], "top1") == 0.0


def test_it_is_that_of_a_bootstrap_within_classes() -> None:
    """EuroSAT's shape, ten classes of 810, seven of them always nearly right: about 70 % within 0.7 points, where
    drawing classes gives tens of points. 4,000 draws; a quantile of them is sure to about 3 %."""
    rng = np.random.default_rng(0)
    shares = np.array([0.99] * 7 + [0.03] * 3)
    labels = np.repeat(np.arange(10), 810)
    values = rng.random(8100) < shares[labels]
    table = pa.table({"label": labels, "group": ["all"] * 8100, "status": ["ok"] * 8100, "top1": values.astype(float)})
    right = values.reshape(10, 810).sum(1)
    draws = rng.binomial(810, right / 810, (4000, 10)).sum(1) / 81.0
    low, high = np.quantile(draws, [0.025, 0.975])
    width = half_width(table, None, "top1")
    assert width == pytest.approx((high - low) / 2, rel=0.06)
    assert width < 0.5
    drawn = interval(values.astype(float), labels)
    assert drawn.high - drawn.low > 20


_WIDTH = re.compile(
    r"\| ([\d,]+) classes of (\d+)(?: pictures)?, (\d+) to (\d+) % right "
    r"\| ([\d.]+) \| ([\d.]+) to ([\d.]+) \| ±([\d.]+) \|"
)


def test_the_widths_that_the_page_tells() -> None:
    """docs/reproduce.md names test sets and both intervals; each is made again here."""
    told = _WIDTH.findall((ROOT / "docs" / "reproduce.md").read_text())
    assert len(told) == 4
    for classes, pictures, least, most, *shown in told:
        c, n = int(classes.replace(",", "")), int(pictures)
        right = np.rint(n * np.linspace(int(least), int(most), c) / 100)[:, None] > np.arange(n)
        labels, values = np.repeat(np.arange(c), n), right.ravel().astype(float)
        table = pa.table({"label": labels, "group": ["a"] * (c * n), "status": ["ok"] * (c * n), "top1": values})
        assert [f"{one:.1f}" for one in (*interval(values, labels), half_width(table, None, "top1"))] == shown


@pytest.mark.parametrize(
    ("stored", "found", "why"),
    [
        ({}, {"failed": 1}, "1 samples failed and are left out of the score"),
        ({"pictures": 100}, {"failed": 1}, "1 samples failed and are left out of the score"),
        ({"pictures": 101}, {}, "100 test pictures, the paper's test set has 101"),
        ({}, {"whole": 101}, "100 test pictures, the data set has 101"),
    ],
)
def test_a_score_on_other_pictures_is_no_reproduction(
    tmp_path: Path, stored: dict[str, Any], found: dict[str, Any], why: str
) -> None:
    judged = judge(cell(tmp_path, **stored), Score(50.0, 40.0, 60.0, 100, **found))
    assert (judged.verdict, judged.why, judged.allowed) == (DIFFERS, why, None)
    assert judge(cell(tmp_path, pictures=100), Score(50.0, None, None, 100, whole=100)).verdict == REPRODUCED


@pytest.mark.parametrize(
    ("stored", "score", "verdict"),
    [
        ({"low": 48.0, "high": 52.0}, 51.9, REPRODUCED),
        ({"low": 48.0, "high": 52.0}, 52.2, OFF),  # although 50 is in the wide interval of the new score
        # where it is stored, the interval on the same classes counts, however near row b's 54 is
        ({"low": 30.0, "high": 70.0, "rerun": 3.0}, 53.0, REPRODUCED),
        ({"low": 30.0, "high": 70.0, "rerun": 3.0}, 53.1, OFF),
        ({"low": 30.0, "high": 70.0, "rerun": 0.0}, 50.1, REPRODUCED),
        ({"low": 30.0, "high": 70.0, "rerun": 0.0}, 50.2, OFF),
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
    found = judge(cell(tmp_path, **stored), Score(50.0, 40.0, 60.0, 100, made=made))
    assert (found.verdict, found.why) == (DIFFERS, why)


def test_the_mean_of_cells(tmp_path: Path) -> None:
    """Half-widths 3 and 4 of independent sets: sqrt(9 + 16) / 2 = 2.5 around the mean of 53 and 65."""
    x, y, mean = paper(tmp_path).tables[0].cells[:3]
    parts = [judge(x, Score(53.0, 50.0, 56.0, 9, 0.6)), judge(y, Score(65.0, 61.0, 69.0, 9, 0.8))]
    found = judge_mean(mean, parts)
    assert found.found is not None
    assert (found.found.score, found.found.low, found.found.high) == (59.0, 56.5, 61.5)
    assert found.found.rerun == pytest.approx(0.5)  # sqrt(0.36 + 0.64) / 2
    assert found.verdict == OFF
    near = [judge(x, Score(50.0, 47.0, 53.0, 9, 0.6)), judge(y, Score(60.9, 57.0, 65.0, 9, 0.8))]
    assert judge_mean(mean, near).verdict == REPRODUCED  # 55.45, 0.45 from 55
    unknown = judge_mean(mean, [near[0], judge(y, Score(60.9, 57.0, 65.0, 9))])
    assert unknown.verdict == OFF, "one cell tells nothing of chance, so the mean has its tolerance of 0.1"
    assert judge_mean(mean, [parts[0], judge(y, None, "no data")]).verdict == NOT_RUN
    assert judge_mean(mean, parts[:1]).verdict == NOT_RUN, "a mean of some is none"
    differing = judge_mean(mean, [parts[0], Verdict(y, Score(65.0, 61.0, 69.0), DIFFERS, "another split")])
    assert (differing.verdict, differing.why) == (DIFFERS, "another split")


@pytest.mark.parametrize(
    ("kinds", "code", "own"),
    [
        ([REPRODUCED], 0, 0),
        ([REPRODUCED, NOT_RUN], 0, 1),
        ([REPRODUCED, DIFFERS], 0, 1),
        ([REPRODUCED, OFF], 1, 1),
        ([OFF, NOT_RUN], 1, 1),
        ([NOT_RUN, DIFFERS], 3, 1),
        ([DIFFERS], 3, 1),
        ([NOT_RUN], 3, 3),
    ],
)
def test_exit_codes(tmp_path: Path, kinds: list[str], code: int, own: int) -> None:
    """Of our own results, which can all be computed again, none may be missing or made from other inputs."""
    one = cell(tmp_path)
    verdicts = [Verdict(one, None, kind) for kind in kinds]
    assert (exit_code(verdicts), exit_code(verdicts, own=True)) == (code, own)


def test_a_run_that_failed_never_ends_with_0(tmp_path: Path) -> None:
    fine, failed = judge(cell(tmp_path), Score(50.0, None, None)), judge(cell(tmp_path), None, "no memory", failed=True)
    assert (failed.verdict, failed.why) == (NOT_RUN, "no memory")
    assert exit_code([fine, failed]) == 1
    assert exit_code([failed]) == 3


def test_expected_results_are_written_and_hold(tmp_path: Path) -> None:
    mine = paper(tmp_path, own=True)
    x, y = mine.tables[0].cells[:2]
    found = [
        judge(x, Score(41.0000004, 40.0, 42.0, 7, 0.4, made=MADE)),
        judge(y, Score(61.0, 60.0, 62.0, 7, made=MADE)),
    ]
    again = read_paper(write_expected(mine, found, tmp_path / "new.json", "trireme 9")).tables[0].cells
    assert json.loads((tmp_path / "new.json").read_bytes())["scored_by"] == "trireme 9"
    assert [(one.value, one.low, one.high, one.rerun, one.n, one.made) for one in again[:2]] == [
        (41.0, 40.0, 42.0, 0.4, 7, MADE),
        (61.0, 60.0, 62.0, None, 7, MADE),
    ]
    assert judge(again[1], Score(61.9, 40.5, 62.5, 7, made=MADE)).verdict == REPRODUCED
    assert judge(again[1], Score(62.1, 40.5, 62.5, 7, made=MADE)).verdict == OFF
    assert judge(again[0], Score(41.4, 40.5, 42.5, 7, made=MADE)).verdict == REPRODUCED
    assert judge(again[0], Score(41.5, 40.5, 42.5, 7, made=MADE)).verdict == OFF


def test_published_values_are_never_overwritten(tmp_path: Path) -> None:
    theirs = paper(tmp_path)
    found = [judge(theirs.tables[0].cells[0], Score(41.0, 40.0, 42.0, 7))]
    with pytest.raises(UsageError, match="never overwritten"):
        write_expected(theirs, found, tmp_path / "new.json", "")
    mine = paper(tmp_path, own=True)
    x = mine.tables[0].cells[0]
    with pytest.raises(DataError, match=r"1 cells were not found \(first: own/t: a, x: no data\)"):
        write_expected(mine, [judge(x, None, "no data")], tmp_path / "new.json", "")
    with pytest.raises(DataError, match=r"samples failed in 1 cells \(first: own/t: a, x\)"):
        write_expected(mine, [judge(x, Score(41.0, 40.0, 42.0, failed=1))], tmp_path / "new.json", "")
    assert not (tmp_path / "new.json").exists()
