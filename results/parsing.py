"""The text of a run.json as JSON: nothing but JSON, and nothing that breaks whoever walks through it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from trireme.errors import DataError
from trireme.results.schema import plain

RUN_FILE = "run.json"


class _NotFiniteError(Exception):
    pass


def _refuse(constant: str) -> Any:
    raise _NotFiniteError(constant)


_JSON = json.JSONDecoder(parse_constant=_refuse)
"""JSON alone: Python's own reader takes NaN and Infinity too, and every mean over them is lost."""


def parse(folder: Path) -> dict[str, Any]:
    """The content of a folder's run.json, which nothing has checked yet.

    Raises:
        DataError: it is no JSON object, or holds a number that is none (names the key).
        ValueError: it is no JSON.
        RecursionError: it is nested too deeply to be walked through.
    """
    with open(os.path.join(folder, RUN_FILE), "rb") as file:  # noqa: PTH118, PTH123 - ten thousand Paths take a while
        text = file.read().decode("utf-8")
    try:
        content = _JSON.decode(text)
    except _NotFiniteError:
        content = plain(json.loads(text))  # names the key
    if not isinstance(content, dict):
        raise DataError(f"{RUN_FILE} is not a JSON object")
    if "\\ud" in text or "\\uD" in text:
        json.dumps(content, ensure_ascii=False).encode("utf-8")  # half a sign is no text, and no file can hold it
    if text.count("{") + text.count("[") > _MANY and _deeper_than(_DEEPEST, content):
        raise RecursionError
    return content


_DEEPEST, _MANY = 100, 500
"""A record is some ten levels deep; what is far deeper breaks whoever walks through it. Brackets are counted first,
which takes no time."""


def _deeper_than(most: int, content: Any) -> bool:
    level = [content]
    for _ in range(most):
        inner = [one.values() if isinstance(one, dict) else one for one in level]
        level = [one for values in inner for one in values if isinstance(one, dict | list)]
        if not level:
            return False
    return True
