"""The report's page: a template, a style sheet and a script of a few lines, all in one file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from trireme.errors import UsageError
from trireme.results.report.cases import Case
from trireme.results.report.charts import Chart
from trireme.results.report.grids import Grid


@dataclass(frozen=True, slots=True)
class Section:
    """What is shown of a benchmark; `ident` is unique on the page."""

    ident: str
    name: str
    summary: str
    grid: Grid
    charts: Sequence[Chart]
    cases: Sequence[Case]
    problem: str


@dataclass(frozen=True, slots=True)
class Page:
    """The whole report.

    Attributes:
        facts: (what, value) of the head.
        families: method families in the order of their colours.
        left_out: records that could not be used, one line each.
        pictures: one line about the pictures held: how many, how large, what is missing.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    overview: Sequence[Grid]
    sections: Sequence[Section]
    families: Sequence[str]
    left_out: Sequence[str]
    pictures: str


def render(page: Page, used: Collection[str]) -> str:
    """The page as HTML. Every text of a record is escaped; the SVG of charts escapes its own.

    Args:
        used: the families that have a line.

    Raises:
        UsageError: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError as error:
        raise UsageError("the report needs jinja2; run pip install 'trireme-bench[report]'") from error
    environment = Environment(
        loader=FunctionLoader(_read), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    told: dict[str, Any] = {
        "style": _read("report.css"),
        "script": _read("report.js"),
        "colour": _colours(page),
        "used": used,
    }
    return environment.get_template("report.html").render(page=page, **told)


def _read(name: str) -> str:
    return files("trireme.results.report").joinpath(name).read_text(encoding="utf-8")


def _colours(page: Page) -> dict[str, str]:
    return {family: f"c{i % 8}" for i, family in enumerate(page.families)}
