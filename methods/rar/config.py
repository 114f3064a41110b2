"""The options of rar, and what they stand for in the paper and its code."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

from trireme.errors import UsageError, unknown_name
from trireme.methods.rankers.base import Mode
from trireme.methods.rankers.rank import SCORED, Asking
from trireme.methods.selection import Setting
from trireme.types import INNER

RETRIEVERS = ("i2i", "i2t", "both")
GRID = ("ranker", "mode", "wording", "normalise", "calibrate", "k", "votes", "temperature", "examples")
"""Options that a grid may list."""


@dataclass
class RarConfig:
    """Options of rar. Defaults are the paper's (k = 5, list prompt of its appendix B, support pictures as memory).

    Attributes:
        candidates: another method whose first k classes are the candidates, `{method: NAME}` with options of NAME
            beside it; empty: retrieval, as the options below say.
        retriever: "i2i": the labels of the nearest memory pictures (classification); "i2t": the nearest class names
            (detection); "both": the two rankings joined by reciprocal rank (ours).
        k: candidates.
        distinct: k different classes; False: the classes of the first k neighbours, which may repeat (the authors'
            code). Only in "i2i".
        votes, temperature: neighbours that vote for the retrieval score and order of a class, as in knn (paper: 1).
        depth: neighbours searched, so that classes after the candidates can be ranked too.
        class_index: index over class names, "flat" or "hnsw" (M = 64 as in the authors' code). Pictures are searched
            with the memory's own index (`memory.index=hnsw memory.index.m=64` is the authors').
        ranker: a name of `trireme ls rankers`; `ranker.FIELD=VALUE` changes its settings.
        mode: "list", "choice", "score" or "letters" (methods/rankers/base.py).
        wording: of the prompt in "list" and "score": "paper", "in-context", "code", or "name" (ours, no candidates).
        normalise, calibrate, max_tokens: see methods/rankers/rank.py.
        examples: retrieved pictures, with their class names, shown before the question.
        fusion: weights w of a candidate's final score, retrieval score + w x log-probability; with several, validation
            chooses, 0 is retrieval alone. Empty: the ranker decides alone. Only in "score" and "letters".
        grid: values of other options to choose from on validation pictures.
        may_lose: points that a subset may lose on validation against the retrieval order.
    """

    candidates: dict[str, Any] = field(default_factory=dict, metadata=INNER)
    retriever: str = "i2i"
    k: int = 5
    distinct: bool = True
    votes: int = 1
    temperature: float = 0.05
    depth: int = 100
    class_index: str = "flat"
    ranker: str = "lite"
    mode: str = "list"
    wording: str = "paper"
    normalise: bool = False
    calibrate: bool = False
    max_tokens: int = 256
    examples: int = 0
    fusion: list[float] = field(default_factory=list)
    grid: dict[str, list[Any]] = field(default_factory=dict)
    may_lose: dict[str, float] = field(default_factory=dict)


def check(config: RarConfig) -> None:
    """Refuse what cannot work, before anything is searched or asked.

    Raises:
        UsageError: an unknown name, a value out of its range, or options that exclude each other.
    """
    for key, values in config.grid.items():
        if key not in GRID:
            raise unknown_name("rar grid key", key, GRID)
        if not values:
            raise UsageError(f"the grid of '{key}' lists no value")
    for option, known in (("retriever", RETRIEVERS), ("class_index", ("flat", "hnsw"))):
        if getattr(config, option) not in known:
            raise unknown_name(f"{option} of rar", getattr(config, option), known)
    if not all(math.isfinite(weight) and weight >= 0 for weight in config.fusion):
        raise UsageError("rar needs finite fusion weights of at least 0")
    for one in every_config(config):
        _check_one(one)
        if one.candidates:
            _check_candidates(one)


def _check_one(config: RarConfig) -> None:
    if config.mode not in list(Mode):
        raise unknown_name("mode of rar", config.mode, list(Mode))
    asking_of(config)
    if min(config.k, config.votes, config.depth) < 1 or not config.temperature > 0:
        raise UsageError("rar needs k, votes and depth of at least 1 and a temperature above 0")
    if config.depth < config.k:
        raise UsageError(f"rar searches depth={config.depth} neighbours, too few for k={config.k} candidates")
    if not config.distinct and config.retriever != "i2i":
        raise UsageError(f"retriever={config.retriever} finds classes, which never repeat; leave distinct at true")
    if config.fusion and config.mode not in SCORED:
        raise UsageError(f"mode '{config.mode}' gives no scores to fuse; use score or letters, or leave fusion empty")
    if config.examples < 0 or (config.examples and config.retriever != "i2i"):
        raise UsageError("rar shows retrieved pictures as examples: examples of at least 0, with retriever=i2i")


def _check_candidates(config: RarConfig) -> None:
    """Refuse options of the retrieval that another method takes the place of."""
    of = config.candidates.get("method")
    for option, kept in (("retriever", "i2i"), ("distinct", True), ("examples", 0)):
        if getattr(config, option) != kept:
            raise UsageError(f"rar takes its candidates from {of}; leave {option} at {str(kept).lower()}")
    for option in ("votes", "temperature"):
        if option in config.grid:
            raise UsageError(f"rar takes its candidates from {of}; {option} in its grid would change nothing")


def asking_of(config: RarConfig) -> Asking:
    """How the ranker is asked."""
    return Asking(Mode(config.mode), config.wording, config.normalise, config.calibrate, config.max_tokens)


def every_config(config: RarConfig) -> Iterator[RarConfig]:
    """The configuration with every combination of its grid, fields in their own types."""
    from trireme.methods.selection import grid_settings

    for setting in grid_settings(config.grid):
        yield changed(config, setting)


def changed(config: RarConfig, setting: Setting) -> RarConfig:
    """The configuration with the settings of one point of its grid.

    Raises:
        UsageError: a value of another type than its option.
    """
    kinds = {option.name: type(getattr(config, option.name)) for option in fields(config)}
    values = {}
    for key, value in setting.items():
        wanted = kinds[key]
        fits = isinstance(value, wanted) or (wanted is float and isinstance(value, int))
        if not fits or (wanted is not bool and isinstance(value, bool)):
            raise UsageError(f"the grid of rar lists {key}={value}, which is not {wanted.__name__}")
        values[key] = wanted(value)
    return replace(config, **values)
