"""Leaderboards in the formats people paste, print and compute with.

`csv` and `parquet` hold the long frame, exactly the columns of `leaderboard.COLUMNS`. `terminal`, `md`, `latex` and
`html` hold one table per benchmark (methods by subsets), or the pivot where `by` is given. The best score of a column
is bold, and the second best underlined, which Markdown cannot do.
"""

from __future__ import annotations

import csv
import html
import io
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from trireme.errors import UsageError, unknown_name
from trireme.files import atomic_file
from trireme.results.extra_columns import Column, extra_columns, with_extra
from trireme.results.leaderboard import COLUMNS
from trireme.results.ranking import crossed, pivot
from trireme.results.tables import TextTable, benchmark_tables, pivot_table

FORMATS = ("terminal", "csv", "parquet", "md", "latex", "html")
SUFFIXES = {".csv": "csv", ".parquet": "parquet", ".md": "md", ".tex": "latex", ".html": "html", ".txt": "terminal"}
_WIDE = 200
"""Columns of text where stdout is no terminal and nothing has to fit."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """Of a pivot, which scores it is made of; see `trireme.results.ranking.pivot`."""

    metric: str | None = None
    subset: str = "all"
    contained: Mapping[str, str] = field(default_factory=dict)


def render(
    frame: pd.DataFrame,
    format: str = "terminal",
    by: str | None = None,
    rank: str = "score",
    columns: Sequence[str] = (),
    notes: Sequence[str] = (),
    crossing: Crossing | None = None,
) -> str:
    """The frame as text.

    Args:
        frame: from `standings` (or `leaderboard`: the same without who was told what).
        format: one of FORMATS but parquet.
        by: make the pivot by "benchmark", "subset", "encoder" or "memory" instead.
        rank: of a pivot, best first by "score" (the mean) or by "rank" (the mean rank).
        columns: sets of columns to add, "cost" and "validity"; a pivot has no place for them.
        notes: lines below the last table; CSV has no place for them.
        crossing: of a pivot, which scores it is made of.

    Raises:
        UsageError: unknown format, axis, ranking or set of columns.
    """
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    if format == "parquet":
        raise UsageError("parquet is not text; name a file that ends in .parquet")
    if format == "csv":
        return _csv(_data(frame, by, rank, columns, crossing))
    extra, of = _extra(by, columns), crossing or Crossing()
    tables = (
        [pivot_table(frame, by, of.metric, rank, of.subset, of.contained)] if by else benchmark_tables(frame, extra)
    )
    if notes:
        tables[-1] = replace(tables[-1], notes=(*tables[-1].notes, *notes))
    return render_tables(tables, format)


def render_tables(tables: list[TextTable], format: str) -> str:
    """Tables as text in a format that is for people: "terminal", "md", "latex" or "html"."""
    return _RENDERERS[format]([_clean(table) for table in tables])


def _clean(table: TextTable) -> TextTable:
    """Every text on one line, without the signs that steer a terminal or turn around the letters beside them."""
    return replace(
        table,
        title=_line(table.title),
        columns=[_line(text) for text in table.columns],
        rows=[[_line(text) for text in row] for row in table.rows],
        notes=tuple(_line(note) for note in table.notes),
    )


_BREAKS = dict.fromkeys(map(ord, "\t\n\v\f\r\x85\u2028\u2029"), " ")
_STEERING = [*range(32), *range(127, 160), 0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
"""C0 and C1 controls, and the bidirectional formatting characters of Unicode (UAX #9, section 2)."""
_ONE_LINE = dict.fromkeys(_STEERING) | _BREAKS


def _line(text: str) -> str:
    return text if text.isascii() and text.isprintable() else text.translate(_ONE_LINE)


def write(
    frame: pd.DataFrame,
    path: Path | str,
    format: str | None = None,
    by: str | None = None,
    rank: str = "score",
    columns: Sequence[str] = (),
    notes: Sequence[str] = (),
    crossing: Crossing | None = None,
) -> Path:
    """Write the frame to a file, whole or not at all; the format is told by the suffix where it is not given.

    The other arguments are those of `render`.
    """
    path = Path(path)
    chosen = format or SUFFIXES.get(path.suffix.lower())
    if chosen is None:
        raise UsageError(f"{path}: cannot tell the format from '{path.suffix}'; use {', '.join(SUFFIXES)}")
    suffix = path.suffix.lower()
    if SUFFIXES.get(suffix, chosen) != chosen and (suffix != ".txt" or chosen == "parquet"):
        raise UsageError(f"{path}: '{suffix}' is for {SUFFIXES[suffix]}, not for {chosen}; leave one of them out")
    text = None if chosen == "parquet" else render(frame, chosen, by, rank, columns, notes, crossing)
    with atomic_file(path) as part:
        if text is None:
            _data(frame, by, rank, columns, crossing).to_parquet(part, index=False)
        else:
            part.write_text(text, encoding="utf-8", newline="\n")
    return path


def _extra(by: str | None, columns: Sequence[str]) -> tuple[Column, ...]:
    if by and columns:
        raise UsageError("columns of cost and validity are of single benchmarks; ask for them or for a pivot, not both")
    return extra_columns(columns)


def _data(
    frame: pd.DataFrame, by: str | None, rank: str, columns: Sequence[str], crossing: Crossing | None
) -> pd.DataFrame:
    """What CSV and Parquet hold: the pivot, or the long frame's columns and then the extra ones."""
    extra = _extra(by, columns)
    if by:
        of = crossing or Crossing()
        return pivot(frame, by, of.metric, of.subset, rank, of.contained).reset_index()
    return (with_extra(frame) if extra else frame)[[*COLUMNS, *(column.name for column in extra)]]


def crossing_notes(frame: pd.DataFrame, by: str, rank: str, of: Crossing) -> list[str]:
    """What has to be said with a pivot and has no place in CSV and Parquet."""
    return crossed(frame, by, of.metric, of.subset, rank, of.contained).notes


def _csv(frame: pd.DataFrame) -> str:
    """The same text as pandas' own writer with four decimals, in half the time: 10,000 runs are 60,000 lines."""
    texts = []
    for name in frame:
        values, missing = frame[name].tolist(), frame[name].isna().tolist()
        decimals = frame[name].dtype.kind == "f"
        texts.append(
            ["" if gone else f"{value:.4f}" if decimals else value for value, gone in zip(values, missing, strict=True)]
        )
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(frame.columns)
    writer.writerows(zip(*texts, strict=True))
    return file.getvalue()


def _terminal(tables: list[TextTable]) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    tty = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if tty else _WIDE
    console = Console(file=io.StringIO(), width=width, force_terminal=tty, highlight=False)
    for table in tables:
        shown = Table(title=Text(table.title), title_justify="left", title_style="bold")
        for column, (header, room) in enumerate(zip(table.columns, _widths(table, width), strict=True)):
            # folded, so that nothing is cut off
            right = column in table.numeric
            shown.add_column(Text(header), justify="right" if right else "left", width=room, overflow="fold")
        for i, row in enumerate(table.rows):
            shown.add_row(*(Text(cell, _emphasis(table, i, j, "bold", "underline")) for j, cell in enumerate(row)))
        console.print(shown)
        for note in table.notes:
            console.print(Text(note))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def _emphasis(table: TextTable, row: int, column: int, best: str, second: str) -> str:
    """The one, the other or nothing, for a cell."""
    return best if (row, column) in table.best else second if (row, column) in table.second else ""


def _widths(table: TextTable, width: int) -> list[int | None]:
    """Characters for each column, so that no word is broken; all None where not even that fits.

    Args:
        width: of the whole table, with three characters a column and one more for borders.
    """
    columns = list(zip(table.columns, *table.rows, strict=True))
    wanted = [max(map(len, cells)) for cells in columns]
    least = [max(len(word) for cell in cells for word in cell.split() or [""]) for cells in columns]
    room = width - 3 * len(columns) - 1
    for cap in range(max(wanted), 0, -1):
        fitted: list[int | None] = [max(few, min(cap, many)) for few, many in zip(least, wanted, strict=True)]
        if sum(filter(None, fitted)) <= room:
            return fitted
    return [None] * len(columns)


def _markdown(tables: list[TextTable]) -> str:
    """GitHub tables with aligned pipes."""
    return "\n".join(_markdown_table(table) for table in tables)


def _markdown_table(table: TextTable) -> str:
    cells = [[_markdown_text(text) for text in table.columns]]
    for i, row in enumerate(table.rows):
        texts = [_markdown_text(text) for text in row]
        cells.append([f"**{text}**" if (i, j) in table.best else text for j, text in enumerate(texts)])
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(table.columns))]
    right = table.numeric

    def line(row: list[str]) -> str:
        padded = (c.rjust(w) if j in right else c.ljust(w) for j, (c, w) in enumerate(zip(row, widths, strict=True)))
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * (width - 1) + ":" if j in right else "-" * width for j, width in enumerate(widths)]
    return "\n".join(
        [
            f"### {_markdown_text(table.title)}",
            "",
            line(cells[0]),
            line(rule),
            *map(line, cells[1:]),
            "",
            *_paragraphs(table),
        ]
    )


def _paragraphs(table: TextTable) -> list[str]:
    return [line for note in table.notes for line in (_markdown_text(note), "")]


_MARKDOWN = str.maketrans({sign: f"\\{sign}" for sign in "\\|<*`"})


def _markdown_text(text: str) -> str:
    """The text itself, no HTML, emphasis, code or link. An underscore inside of a word is none of these."""
    return text.translate(_MARKDOWN).replace("](", "]\\(")


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)


def _latex(tables: list[TextTable]) -> str:
    return "% needs \\usepackage{booktabs}\n" + "\n".join(_latex_table(table) for table in tables)


def _latex_table(table: TextTable) -> str:
    def line(row: list[str]) -> str:
        text = " & ".join(row) + r" \\"
        return f"{{}}{text}" if text.startswith(("[", "*")) else text  # else an argument of the line above

    columns = "".join("r" if column in table.numeric else "l" for column in range(len(table.columns)))
    rows = []
    for i, row in enumerate(table.rows):
        marks = [_emphasis(table, i, j, r"\textbf", r"\underline") for j in range(len(row))]
        texts = [text.translate(_LATEX) for text in row]
        rows.append(line([f"{mark}{{{text}}}" if mark else text for mark, text in zip(marks, texts, strict=True)]))
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            f"\\caption{{{table.title.translate(_LATEX)}}}",
            f"\\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            line([text.translate(_LATEX) for text in table.columns]),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par{{\footnotesize {note.translate(_LATEX)}\par}}" for note in table.notes),
            r"\end{table}",
            "",
        ]
    )


_STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem; }
table { border-collapse: collapse; margin-bottom: 2rem; }
caption { text-align: left; font-weight: 600; padding: .5rem 0; }
th, td { text-align: left; padding: .25rem .75rem; border-bottom: 1px solid #ccc; }
.score { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.best { font-weight: 700; }
.second { text-decoration: underline; }
.note { margin-top: 0; }"""


def _html(tables: list[TextTable]) -> str:
    """One page that opens without a network."""
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    body = "\n".join(_html_table(table) for table in tables)
    title = "<title>Trireme leaderboard</title>"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>{head}{title}\n<style>\n{_STYLE}\n</style></head>\n'
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _html_table(table: TextTable) -> str:
    def cell(tag: str, i: int, j: int, text: str) -> str:
        names = [*(["score"] if j in table.numeric else []), *_emphasis(table, i, j, "best", "second").split()]
        scope = ' scope="row"' if tag == "th" else ""
        return f"<{tag}{scope}{_class(names)}>{html.escape(text)}</{tag}>"

    header = "".join(
        f'<th scope="col"{_class(["score"] if j in table.numeric else [])}>{html.escape(text)}</th>'
        for j, text in enumerate(table.columns)
    )
    rows = "\n".join(
        "<tr>" + "".join(cell("th" if j == 0 else "td", i, j, text) for j, text in enumerate(row)) + "</tr>"
        for i, row in enumerate(table.rows)
    )
    notes = "".join(f'\n<p class="note">{html.escape(note)}</p>' for note in table.notes)
    return (
        f"<table>\n<caption>{html.escape(table.title)}</caption>\n<thead><tr>{header}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody>\n</table>{notes}"
    )


def _class(names: list[str]) -> str:
    return f' class="{" ".join(names)}"' if names else ""


_RENDERERS = {"terminal": _terminal, "md": _markdown, "latex": _latex, "html": _html}
