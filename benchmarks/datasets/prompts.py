"""Prompts and class names of published sets: data files with a version and a source, or a library's own lists."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

OPEN_CLIP = "open_clip:imagenet"


@cache
def prompts(name: str) -> tuple[str, ...]:
    """The template list of this name, each with one {} for the class name.

    Args:
        name: of a list in `templates.json`, or "open_clip:imagenet" for the 80 that `open_clip` holds.
    """
    if name == OPEN_CLIP:
        from open_clip import zero_shot_metadata

        return tuple(template("{}") for template in zero_shot_metadata.OPENAI_IMAGENET_TEMPLATES)
    lists = json.loads((files("trireme.benchmarks.datasets") / "templates.json").read_text(encoding="utf-8"))
    return tuple(lists["lists"][name]["templates"])


@cache
def class_names(name: str) -> tuple[str, ...]:
    """The class names of `names/<name>.json`, in the order of its class numbers."""
    path = files("trireme.benchmarks.datasets") / "names" / f"{name}.json"
    return tuple(json.loads(path.read_text(encoding="utf-8"))["names"])


@cache
def imagenet_names() -> tuple[str, ...]:
    """The 1000 names that `open_clip` holds, in the order of the sorted synsets."""
    from open_clip import zero_shot_metadata

    return tuple(zero_shot_metadata.IMAGENET_CLASSNAMES)
