"""The report from stored runs: what is drawn, what is chosen, and that nothing of a record is taken for HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from trireme.commands.report import report as command
from trireme.errors import DataError, UsageError
from trireme.results.leaderboard import standings
from trireme.results.records import RunRecord, find_runs, write_run
from trireme.results.report.answers import answers
from trireme.results.report.build import report
from trireme.results.report.cases import Picture, choose
from trireme.results.report.charts import charts
from trireme.results.report.confusion import confusion
from trireme.results.report.grids import leaderboard, overview
from trireme.results.report.lines import Line, Part, parts
from trireme.results.report.series import by_k, by_shots
from trireme.results.report.svg import Drawing, Labels, decades, families_of, percent_ticks, text_width
from trireme.results.shown import Shown

from .synthetic import record, store, store_ranked, table

LABELS = [0, 0, 1, 1, 2, 2, 3, 3]
HOSTILE = "<script>alert(1)</script>"
NAMES = ("cat", "dog", HOSTILE, "owl", "fox", "yak")


class Found:
    """Pictures of one pixel, with captions that try to be HTML; `gone` names samples that have none."""

    def __init__(self, gone: Sequence[str] = ()) -> None:
        self.gone = gone

    def sample(self, line: Line, sample: str) -> Picture:
        if sample in self.gone:
            return Picture("", 0, 0, "", "picture not found")
        return Picture("data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=", 1, 1, "")

    def region(self, line: Line, sample: str) -> Picture | None:
        return None

    def pair(self, line: Line, pair: str, label: int) -> Picture:
        return Picture("data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=", 1, 1, f'"><b>{pair}', "", True)


def shown(record: RunRecord) -> Shown:
    return Shown(NAMES)


def made(root: Path, **options: Any) -> str:
    return report(root, shown, Found(options.pop("gone", ())), lambda: "pictures told", **options)


def found_parts(root: Path) -> list[Part]:
    return parts(standings(root), find_runs(root))


class Tags(HTMLParser):
    """Tags in order, attributes by tag, and the texts of table cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def store_answers(root: Path, ranked: Sequence[Sequence[int]], **changes: Any) -> None:
    """A run whose rankings are chosen; top1 follows from them."""
    top1 = [float(row[0] == label) for row, label in zip(ranked, LABELS, strict=True)]
    predictions = table(top1, LABELS)
    place = predictions.column_names.index("ranked")
    predictions = predictions.set_column(place, "ranked", pa.array(ranked, pa.list_(pa.int32())))
    scores = pa.array([[1.0 / (i + 1) for i in range(len(row))] for row in ranked], pa.list_(pa.float32()))
    predictions = predictions.set_column(predictions.column_names.index("scores"), "scores", scores)
    for column in ("retrieved", "reply", "candidates"):
        if column in changes:
            predictions = predictions.append_column(column, pa.array(changes.pop(column)))
    write_run(root, record(predictions, **changes), predictions)


ONE = [[0, 1], [0, 1], [1, 0], [0, 1], [2, 3], [3, 2], [1, 0], [3, 0]]
"""Right about s0, s1, s2, s4, s7."""
TWO = [[0, 1], [1, 0], [1, 0], [0, 1], [2, 3], [3, 2], [1, 3], [3, 0]]
"""Right about s0, s2, s4, s7: the two differ on s1 alone; neither has s3, s5, s6."""


def two(root: Path) -> None:
    store_answers(root, ONE, retrieved=[["p1", "p2"]] * 8)
    store_answers(root, TWO, method__name="zero_shot", method__registry="zero_shot", memory=None)


def test_samples_are_chosen_by_their_answers(tmp_path: Path) -> None:
    """In turn: a difference, one that all have wrong, a difference (none is left), one that all have right ..."""
    two(tmp_path)
    found = answers(found_parts(tmp_path)[0])
    assert found is not None
    assert [line.method for line in found.lines] == ["knn", "zero_shot"]
    chosen = [(found.samples[row], kind) for row, kind in choose(found, 4)]
    assert chosen[0] == ("s1", "differ")
    # s6 ranks its class second once; in s3 and s5 it stands second in both, so s6 is the hardest of the three
    assert chosen[1] == ("s6", "wrong")
    assert [kind for _, kind in chosen[2:]] == ["right", "wrong"]
    assert choose(found, 4) == choose(found, 4), "the same seed gives the same samples"
    assert len(choose(found, 100)) == 8
    rights = {next(found.samples[row] for row, kind in choose(found, 4, seed) if kind == "right") for seed in range(20)}
    assert len(rights) > 1, "another seed takes others that are as good"


def test_confusion_by_hand(tmp_path: Path) -> None:
    """Of 4 answers (2 samples, 2 methods) about class 1, 2 say 0; about class 0, 1 says 1; about class 2, 2 say 3."""
    two(tmp_path)
    found = answers(found_parts(tmp_path)[0])
    assert found is not None
    square = confusion(found, Shown(NAMES), "world/all", "c")
    assert square is not None
    assert "dog taken for cat: 50 %" in square.svg
    assert "cat taken for dog: 25 %" in square.svg
    assert "&lt;script&gt;alert(1)&lt;/script&gt; taken for owl: 50 %" in square.svg
    assert "<script>" not in square.svg


def test_nothing_of_a_record_becomes_html(tmp_path: Path) -> None:
    hostile = {"method__name": f"m{HOSTILE}", "encoder__name": '"><img src=x onerror=alert(1)>', "name": "hostile"}
    reply = ["<b>1</b>\n</pre><script>alert(2)</script>"] * 8
    ranking = {"reply": reply, "candidates": [[0, 1]] * 8, "retrieved": [["</figcaption><script>"]] * 8}
    store_answers(tmp_path, ONE, **hostile, **ranking)
    store_answers(tmp_path, TWO, method__name="zero_shot", encoder__name=hostile["encoder__name"])
    page = made(tmp_path)
    tags = Tags(page)
    assert len(tags.all("script")) == 1, "ours"
    assert "alert" not in re.findall(r"(?s)<script>(.*?)</script>", page)[0]
    assert not any("onerror" in attributes for _, attributes in tags.tags)
    assert "m&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;/pre&gt;&lt;script&gt;alert(2)" in page
    assert not tags.all("b") or all(attributes == {} for attributes in tags.all("b"))


def test_the_page_stands_alone_and_can_be_read_aloud(tmp_path: Path) -> None:
    two(tmp_path)
    store(tmp_path, [1, 0] * 4, LABELS, benchmark__name="cub", benchmark__fingerprint="c" * 16)
    page = made(tmp_path, gone=["s1"])
    tags = Tags(page)
    links = [value for _, attributes in tags.tags for key, value in attributes.items() if key in ("src", "href")]
    assert links
    assert all(str(link).startswith(("data:", "#")) for link in links), "nothing is fetched"
    assert "@import" not in page
    assert "url(" not in page
    idents = [attributes["id"] for _, attributes in tags.tags if "id" in attributes]
    assert len(idents) == len(set(idents))
    assert {str(link)[1:] for link in links if str(link).startswith("#")} <= set(idents)
    assert tags.all("html") == [{"lang": "en"}]
    assert len(tags.all("table")) == len(tags.all("caption"))
    assert all(attributes.get("scope") in ("col", "row") for attributes in tags.all("th"))
    assert all(attributes["alt"] for attributes in tags.all("img"))
    drawings = tags.all("svg")
    assert drawings
    for drawing in drawings:
        assert drawing["role"] == "img"
        assert set(str(drawing["aria-labelledby"]).split()) <= set(idents)
    assert "picture not found" in page
    assert "pictures told" in page


def test_scores_of_the_page_are_those_of_the_leaderboard(tmp_path: Path) -> None:
    """knn has 5 of 8 right, zero_shot 4 of 8."""
    two(tmp_path)
    [part] = found_parts(tmp_path)
    rows = {row[0].text: row[1] for row in leaderboard(part).rows}
    assert {name: (cell.text, cell.key) for name, cell in rows.items()} == {
        "knn": ("62.5", 62.5),
        "zero_shot": ("50.0", 50.0),
    }
    assert [name for name, cell in rows.items() if cell.best] == ["knn"]
    assert overview([part]) == [], "one benchmark needs no overview"


def test_shots_and_k_are_drawn_where_such_runs_exist(tmp_path: Path) -> None:
    drawn = {"from": "0" * 16, "rule": "random", "seed": 0, "classes": 4, "short": 0, "short_classes": {}}
    for place, shots in enumerate((1, 2, 4)):
        memory = {"memory__name": f"world/memory@{shots}", "memory__fingerprint": f"{place + 1}" * 16}
        told = [1] * (place + 2) + [0] * (6 - place)
        store(tmp_path, told, LABELS, **memory, memory__drawn={**drawn, "shots": shots})
    for k in (1, 5):
        store(tmp_path, [1] * 6 + [0, 0], LABELS, method__config={"k": k, "temperature": 0.1}, method__name=f"knn-{k}")
    store(tmp_path, [1, 1] + [0] * 6, LABELS, method__name="zero_shot", method__registry="zero_shot", memory=None)
    [part] = found_parts(tmp_path)
    [shots] = by_shots(part)
    assert [(value, line.score) for value, line in shots.points] == [(1, 25.0), (2, 37.5), (4, 50.0)]
    [ks] = by_k(part)
    assert [value for value, _ in ks.points] == [1, 5]
    titles = [chart.title for chart in charts(part, families_of(["knn"]), "x")]
    assert titles == [
        "Scores with intervals",
        "Common against rare",
        "Score against pictures a class",
        "Score against k",
    ], "no cost: all runs are equally fast"


def test_lines_that_share_a_name_are_told_apart(tmp_path: Path) -> None:
    store(tmp_path, [1] * 8, LABELS)
    store(tmp_path, [0] * 8, LABELS, memory__name="other", memory__fingerprint="1" * 16)
    store(tmp_path, [0, 1] * 4, LABELS, encoder__name="big", encoder__fingerprint="2" * 16, images_per_second=10.0)
    [part] = found_parts(tmp_path)
    labels = {line.label for line in part.lines}
    assert len(labels) == 3
    assert "knn · other" in labels
    [cost] = [chart for chart in charts(part, families_of(["knn"]), "x") if chart.title == "Score against cost"]
    assert "50.0 at 10" in cost.svg


def test_metrics_of_whole_sets_are_drawn_too(tmp_path: Path) -> None:
    predictions = table([1, 0] * 4, LABELS)
    row = {"subset": "all", "metric": "ap", "score": 40.0, "ci_low": 30.0, "ci_high": 50.0, "n": 8}
    replicates = {"units": 8, "draws": 2, "of": [{"subset": "all", "metric": "ap", "values": [39.0, 41.0]}]}
    content = record(predictions, metrics=["top1"], benchmark__subsets={"all": None})
    content |= {"metrics": ["ap", "top1"], "scores": [row, *content["scores"]], "replicates": replicates}
    write_run(tmp_path, content, predictions)
    page = made(tmp_path)
    assert "ap in %" in page
    assert "30.0–50.0" in page


def test_hundreds_of_runs_stay_one_small_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(100):
        store(tmp_path, (rng.random(8) < 0.5).astype(int).tolist(), LABELS, method__name=f"method-{i}")
    page = made(tmp_path)
    assert "The first 40 of 100 lines" in page
    assert page.count('scope="row"') == 100
    assert len(page) < 400_000


def test_a_ranker_is_shown_with_its_reply(tmp_path: Path) -> None:
    store_ranked(tmp_path, [1, 0] * 4, [1] * 8, LABELS)
    store_answers(tmp_path, ONE, reply=["[dog, cat]"] * 8, candidates=[[1, 0]] * 8, method__name="other")
    page = made(tmp_path, samples=3)
    assert "Candidates of other" in page
    assert "<pre>[dog, cat]</pre>" in page


def test_wrong_requests(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no results at"):
        command(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no finished test run in .*; run `trireme run"):
        command(tmp_path)
    two(tmp_path)
    with pytest.raises(UsageError, match="did you mean 'world/all'"):
        command(tmp_path, benchmarks=["world/al"])
    with pytest.raises(UsageError, match="a report is an HTML file"):
        command(tmp_path, save=tmp_path / "report.pdf")


def test_damaged_records_are_listed_and_the_rest_is_shown(tmp_path: Path) -> None:
    two(tmp_path)
    (tmp_path / "runs" / "cut").mkdir()
    (tmp_path / "runs" / "cut" / "run.json").write_text('{"schema": 1,')
    assert command(tmp_path) == 0
    page = (tmp_path / "report.html").read_text()
    assert "Left out" in page
    assert "run.json cannot be read" in page
    assert "62.5" in page
    assert "Class names and pictures are missing: world/all is not what it was" in page


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 100, [0, 20, 40, 60, 80, 100]), (71.3, 80.1, [70, 72, 74, 76, 78, 80, 82]), (50, 50, [])],
)
def test_ticks_hold_what_is_drawn(low: float, high: float, expected: list[float]) -> None:
    found = percent_ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    assert found == expected or not expected
    assert found[0] < found[-1]


def test_decades_hold_what_is_drawn() -> None:
    assert decades(2600, 12000) == [2000, 5000, 10000, 20000]
    assert decades(0.5, 90000) == [0.1, 1, 10, 100, 1000, 10000, 100000]


def test_labels_lie_neither_on_each_other_nor_outside() -> None:
    drawing, labels = Drawing(300, "t", "d", "n"), Labels((0, 0, 400, 300))
    for i in range(12):
        labels.place(drawing, 200 + i, 150, f"method-{i}")
    boxes = labels.taken
    assert len(boxes) + len(labels.left_out) == 12
    assert len(boxes) >= 8
    for i, one in enumerate(boxes):
        assert 0 <= one[0] < one[2] <= 400
        assert one[2] - one[0] == pytest.approx(text_width("method-0"), abs=7)
        for other in boxes[i + 1 :]:
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert apart
