"""Prompt templates, read from `templates.json`. A benchmark names its list; lists are never shared by accident."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files


@cache
def templates(name: str) -> tuple[str, ...]:
    """The list called `name`; each template has one `{}` for the class name."""
    lists = json.loads((files("trireme.benchmarks") / "templates.json").read_text(encoding="utf-8"))
    return tuple(lists[name])
