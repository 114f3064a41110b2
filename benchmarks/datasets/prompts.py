"""Prompts and class names of published sets: data files with a version and a source, or a library's own lists."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

OPEN_CLIP = "open_clip:imagenet"


@cache
def prompts(name: str) -> tuple[str, ...]:
    """The template list of this name, each with one {} for the class name.

    Args:
        name: of a list in `templates.json`, "FILE:SET" for that of a set in `FILE.json`, or "open_clip:imagenet" for
            the 80 that `open_clip` holds.
    """
    if name == OPEN_CLIP:
        from open_clip import zero_shot_metadata

        return tuple(template("{}") for template in zero_shot_metadata.OPENAI_IMAGENET_TEMPLATES)
    file, _, of_set = name.partition(":")
    if of_set:
        return tuple(_of_file(file)["sets"][of_set]["templates"])
    lists = json.loads((files("trireme.benchmarks.datasets") / "templates.json").read_text(encoding="utf-8"))
    return tuple(lists["lists"][name]["templates"])


@cache
def _of_file(name: str) -> dict[str, Any]:
    """A data file with prompts (and perhaps class names) by set."""
    path = files("trireme.benchmarks.datasets") / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@cache
def class_names(name: str) -> tuple[str, ...]:
    """The list of this name in `class_names.json`, in the order of its class numbers."""
    lists = json.loads((files("trireme.benchmarks.datasets") / "class_names.json").read_text(encoding="utf-8"))
    return tuple(lists["lists"][name]["names"])


@cache
def imagenet_names() -> tuple[str, ...]:
    """The 1000 names that `open_clip` holds, in the order of the sorted synsets."""
    from open_clip import zero_shot_metadata

    return tuple(zero_shot_metadata.IMAGENET_CLASSNAMES)
