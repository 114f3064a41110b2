"""Every format from one small board whose cells are known."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from trireme.errors import UsageError
from trireme.results.extra_columns import with_extra
from trireme.results.leaderboard import COLUMNS, leaderboard, standings
from trireme.results.tables import benchmark_tables, score_text
from trireme.results.writers import FORMATS, render, write

from .synthetic import store, store_ranked

LABELS = [0, 1, 2, 3]


@pytest.fixture
def board(tmp_path: Path) -> pd.DataFrame:
    """knn 3 of 4 right (common 2/2, rare 1/2); my_knn 1 of 4 (common 1/2, rare 0/2), chosen on validation."""
    store(tmp_path / "out", [1, 1, 1, 0], LABELS, run="aaaaaaaaaaaaaaaa")
    told = {"training": "captions", "inference": "none"}
    store(
        tmp_path / "out",
        [1, 0, 0, 0],
        LABELS,
        method__name="my_knn",
        method__supervision=told,
        memory=None,
        validation={"name": "world/validation", "fingerprint": "f" * 16},
        run="bbbbbbbbbbbbbbbb",
    )
    return standings(tmp_path / "out")


def test_csv_has_exactly_the_columns(board: pd.DataFrame) -> None:
    """The first row by hand: 3 of 4; four classes of one sample, so draws are Binomial(4, 3/4) / 4. Of four
    units an interval leaves out 0.01 % at each end (Phi(-3.182 sqrt(4 / 3))), and 0 is 0.4 % of the draws."""
    lines = render(board, "csv").splitlines()
    assert lines[0] == "method,benchmark,subset,metric,score,ci_low,ci_high,n,encoder,memory,seeds,run"
    assert lines[1] == "knn,world/all,all,top1,75.0000,0.0000,100.0000,4,lite,world/memory,0,aaaaaaaaaaaaaaaa"
    assert lines[2] == "my_knn,world/all,all,top1,25.0000,0.0000,100.0000,4,lite,,0,bbbbbbbbbbbbbbbb"
    assert len(lines) == 1 + 2 * 3 * 2


def test_csv_quotes_seeds_and_reads_back(tmp_path: Path) -> None:
    for seed in (0, 1):
        store(tmp_path, [1, 0, 1, 0], LABELS, seed=seed)
    frame = leaderboard(tmp_path)
    back = pd.read_csv(io.StringIO(render(frame, "csv")), dtype={"seeds": str})
    assert list(back["seeds"].unique()) == ["0,1"]
    assert back["score"].tolist() == frame["score"].round(4).tolist()


def test_csv_is_the_text_of_pandas_own_writer(board: pd.DataFrame) -> None:
    frame = board.assign(method=['a"b', "a,b", "a\nb", None, *board["method"][4:]])
    frame.loc[4, "score"] = None
    found = render(frame, "csv", columns=("cost", "validity"))
    columns = found.splitlines()[0].split(",")
    expected = with_extra(frame)[columns].to_csv(index=False, float_format="%.4f", lineterminator="\n")
    assert found == expected


def test_markdown_by_hand(board: pd.DataFrame) -> None:
    text = render(board, "md")
    lines = text.splitlines()
    assert lines[0] == "### world/all: top1 in % [95 % interval], encoder lite"
    assert len({len(line) for line in lines[2:6]}) == 1, "pipes are aligned"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:6]]
    assert cells[0] == [
        "method",
        "told in training",
        "told at inference",
        "chosen on",
        "memory",
        "all (n = 4)",
        "common (n = 2)",
        "rare (n = 2)",
        "seeds",
    ]
    assert [cell.endswith(":") for cell in cells[1]] == [False] * 5 + [True] * 3 + [False]
    best = ["**75.0 [0.0, 100.0]**", "**100.0 [15.8, 100.0]**", "**50.0 [0.0, 100.0]**"]
    assert cells[2] == ["knn", "none", "labels", "-", "world/memory", *best, "0"]
    assert cells[3][:5] == ["my_knn", "captions", "none", "validation", "-"]
    assert cells[3][5] == "25.0 [0.0, 100.0]"


def test_latex_is_escaped_and_booktabs(board: pd.DataFrame) -> None:
    text = render(board, "latex")
    assert r"my\_knn & captions & none & validation & - & \underline{25.0 [0.0, 100.0]}" in text
    assert r"\caption{world/all: top1 in \% [95 \% interval], encoder lite}" in text
    assert r"\textbf{75.0 [0.0, 100.0]}" in text
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lllllrrrl}"):
        assert text.count(rule) == 1
    assert r"a\textbackslash{}b\_\&\%\$\#\{\}\textasciitilde{}\textasciicircum{}" in render(
        board.replace("knn", r"a\b_&%$#{}~^"), "latex"
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a|b", r"| a\|b "),
        ("a\\|b", r"| a\\\|b "),
        ("<script>alert(1)</script>", r"| \<script>alert(1)\</script> "),
        ("**bold** `c` [l](javascript:1)", r"| \*\*bold\*\* \`c\` [l]\(javascript:1) "),
        ("two\nlines", "| two lines "),
        ("a\u202eb\x1b[31m", "| ab[31m "),
    ],
)
def test_markdown_shows_names_as_they_are(name: str, shown: str, board: pd.DataFrame) -> None:
    r"""In CommonMark a backslash before punctuation makes it plain, so `\\|` is a backslash and the end of a cell."""
    assert shown in render(board.replace("knn", name), "md")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a<b>|c", r"a\textless{}b\textgreater{}\textbar{}c & none"),
        ("[x", "\n{}[x & none"),
        ("*x", "\n{}*x & none"),
        ("two\nlines", "\ntwo lines & none"),
    ],
)
def test_latex_shows_names_as_they_are(name: str, shown: str, board: pd.DataFrame) -> None:
    assert shown in render(board.replace("knn", name), "latex")


@pytest.mark.parametrize("format", ["terminal", "md", "latex", "html"])
def test_no_name_steers_a_terminal_or_turns_letters_around(format: str, board: pd.DataFrame) -> None:
    text = render(board.replace("knn", "a\x1b[31m\u202e\u2066\x9bb"), format, notes=["left out: \x1b]0;title\x07"])
    assert not set(text) & set("\x1b\x07\x9b\u202e\u2066")


def test_csv_keeps_names_as_they_are(board: pd.DataFrame) -> None:
    """It is data: what a spreadsheet makes of =cmd() is the spreadsheet's."""
    assert "\n=cmd()," in render(board.replace("knn", "=cmd()"), "csv")


class Page(HTMLParser):
    """The cells of a page's table, and its open tags."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.classes: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.last = dict(attrs).get("class") or ""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
            self.classes[data] = self.last


def test_html_is_well_formed_escaped_and_self_contained(board: pd.DataFrame) -> None:
    text = render(board.replace("my_knn", "<b>&knn"), "html")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert [row[0] for row in page.rows] == ["method", "knn", "<b>&knn"]
    assert page.rows[1][5] == "75.0 [0.0, 100.0]"
    assert page.classes["75.0 [0.0, 100.0]"] == "score best"
    assert page.classes["25.0 [0.0, 100.0]"] == "score second"
    assert "http" not in text


def test_terminal_shows_every_cell(board: pd.DataFrame) -> None:
    text = render(board)
    scores = ("75.0 [0.0, 100.0]", "25.0 [0.0, 100.0]")
    for cell in ("world/all: top1 in %", "knn", "my_knn", "captions", "chosen on", "validation", *scores):
        assert cell in text
    assert "\x1b" not in text, "no colour codes where stdout is not a terminal"


def test_a_board_without_supervision_columns_still_prints(board: pd.DataFrame) -> None:
    (table,) = benchmark_tables(board[list(COLUMNS)])
    assert table.columns[:2] == ["method", "memory"]
    assert [row[0] for row in table.rows] == ["knn", "my_knn"]


def test_methods_that_stand_for_several_runs_show_their_run(tmp_path: Path) -> None:
    for k, values in ((1, [1, 1, 1, 0]), (5, [1, 0, 0, 0])):
        store(tmp_path, values, LABELS, method__config={"k": k}, run=str(k) * 16)
    (table,) = benchmark_tables(standings(tmp_path))
    assert [row[0] for row in table.rows] == ["knn (111111)", "knn (555555)"]


def test_main_metric_is_the_first_of_the_benchmark(tmp_path: Path) -> None:
    store(tmp_path, [1, 1, 1, 0], LABELS, metrics=["mean_per_class", "top1", "top5"])
    (table,) = benchmark_tables(standings(tmp_path))
    assert table.title.startswith("world/all: mean_per_class")


def test_missing_scores_and_ties(tmp_path: Path) -> None:
    """Only common samples: rare is null. Both methods have the same score, so both are best."""
    for name in ("knn", "reco"):
        store(tmp_path, [1, 0], [0, 2], method__name=name)
    (table,) = benchmark_tables(standings(tmp_path))
    assert [row[6] for row in table.rows] == ["-", "-"]
    assert table.best == {(0, 4), (1, 4), (0, 5), (1, 5)}
    assert score_text(61.26) == "61.3"
    lines = render(standings(tmp_path), "csv").splitlines()
    assert "knn,world/all,rare,top1,,,,0,lite,world/memory,0," in "\n".join(lines)


def test_pivot_in_every_text_format(tmp_path: Path, board: pd.DataFrame) -> None:
    store(tmp_path / "out", [1, 1, 1, 1], LABELS, benchmark__name="world/food", method__name="knn")
    frame = standings(tmp_path / "out")
    assert render(frame, "csv", by="benchmark").splitlines() == [
        "method,memory,world/all,world/food,mean,mean rank",
        "knn,world/memory,75.0000,100.0000,87.5000,",
        "my_knn,,25.0000,,,",
    ]
    lines = [line for line in render(frame, "md", by="benchmark").splitlines() if line]
    assert [cell.strip() for cell in lines[-3].strip("|").split("|")] == ["my_knn", "-", "25.0", "-", "-", "-"]
    assert lines[-1] == "no mean for my_knn: no score on world/food"
    for format in ("terminal", "latex", "html"):
        text = render(frame, format, by="benchmark")
        assert "87.5" in text
        assert lines[-1].replace("_", r"\_" if format == "latex" else "_") in text


@pytest.mark.parametrize("suffix", ["csv", "parquet", "md", "tex", "html", "txt"])
def test_files_are_written_by_suffix(suffix: str, board: pd.DataFrame, tmp_path: Path) -> None:
    path = write(board, tmp_path / "deep" / f"board.{suffix}")
    if suffix == "parquet":
        pd.testing.assert_frame_equal(pd.read_parquet(path), board[list(COLUMNS)])
    else:
        assert path.read_text() == render(board, {"tex": "latex", "txt": "terminal"}.get(suffix, suffix))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_wrong_formats_name_what_to_do(board: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'latex'"):
        render(board, "latx")
    with pytest.raises(UsageError, match=r"ends in \.parquet"):
        render(board, "parquet")
    with pytest.raises(UsageError, match="cannot tell the format"):
        write(board, tmp_path / "board.doc")
    with pytest.raises(UsageError, match=r"'\.parquet' is for parquet, not for md; leave one of them out"):
        write(board, tmp_path / "board.parquet", "md")
    with pytest.raises(UsageError, match=r"'\.txt' is for terminal, not for parquet"):
        write(board, tmp_path / "board.txt", "parquet")
    assert not list(tmp_path.glob("board.*"))
    assert write(board, tmp_path / "board.txt", "md").read_text().startswith("### world/all")
    assert set(FORMATS) == {"terminal", "csv", "parquet", "md", "latex", "html"}


def test_output_is_stable(board: pd.DataFrame, tmp_path: Path) -> None:
    again = standings(tmp_path / "out")
    for format in ("terminal", "csv", "md", "latex", "html"):
        assert render(board, format) == render(again, format)


def test_ceiling_and_replies_stand_beside_the_scores(board: pd.DataFrame, tmp_path: Path) -> None:
    """rar: all 2 of 4 right, candidates hold the class for 3 of 4 (common 2/2, rare 1/2)."""
    store_ranked(tmp_path / "out", [1, 0, 1, 0], [1, 1, 1, 0], LABELS)
    (table,) = benchmark_tables(standings(tmp_path / "out"))
    assert table.title == "world/all: top1 in % [95 % interval], encoder lite, ranker lite, vllm"
    assert list(table.columns[-3:]) == ["hit@5: all / common / rare", "replies", "seeds"]
    cells = {row[0]: list(row[-3:]) for row in table.rows}
    assert cells["rar"] == ["75.0 / 100.0 / 50.0", "3 ok, 1 repaired", "0"]
    assert cells["knn"] == ["-", "-", "0"]
    assert max(table.numeric) == len(table.columns) - 3
    assert not any(column >= len(table.columns) - 3 for _, column in table.best), "a ceiling is nobody's best score"
    for format in ("terminal", "md", "latex", "html"):
        assert "75.0 / 100.0 / 50.0" in render(standings(tmp_path / "out"), format)
    (plain,) = benchmark_tables(leaderboard(tmp_path / "out"))
    assert list(plain.columns[-2:]) == ["hit@5: all / common / rare", "seeds"], "the CSV's columns count no replies"
    assert "hit@" not in render(board, "md")


def test_rows_say_which_ranker_and_k_where_they_differ(tmp_path: Path) -> None:
    for k, name in ((5, "lite, vllm"), (10, "lite, transformers")):
        facts = {"ranker": {"name": name, "fingerprint": name}}
        store_ranked(tmp_path, [1, 0, 1, 0], [1, 1, 1, 0], LABELS, k=k, method__facts=facts, method__config={"k": k})
    store(tmp_path, [1, 1, 1, 1], LABELS)
    (table,) = benchmark_tables(standings(tmp_path))
    place = table.columns.index("ranker")
    assert {row[0]: row[place] for row in table.rows if row[0] == "knn"} == {"knn": "-"}
    shown = {row[place]: row[-3] for row in table.rows}
    assert shown["lite, vllm"] == "hit@5: 75.0 / 100.0 / 50.0"
    assert shown["lite, transformers"] == "hit@10: 75.0 / 100.0 / 50.0"
    assert [row[0] for row in table.rows] == ["knn", "rar", "rar"], "the ranker tells them apart, no hash is needed"


def test_a_narrow_terminal_breaks_no_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """120 columns hold the longest words of every column; half of that does not, and still nothing is left out."""
    store_ranked(tmp_path, [1, 0, 1, 0], [1, 1, 1, 0], LABELS)
    store(tmp_path, [1, 1, 1, 1], LABELS, memory=None)
    for width in (120, 60):
        monkeypatch.setattr("trireme.results.writers._WIDE", width)
        text = render(standings(tmp_path))
        assert all(len(line) <= width for line in text.splitlines())
        assert "…" not in text
        words = {word for line in text.splitlines() for word in line.replace("│", " ").split()}
        if width == 120:
            assert {"world/memory", "inference", "repaired", "common", "hit@5:", "[0.0,", "100.0]"} <= words
