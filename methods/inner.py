"""Methods within a method: a first stage that another one re-ranks, a cheap answer before an expensive one.

A combined method can do, needs and was told what its parts can do, need and were told together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from trireme.errors import DataError, UsageError
from trireme.methods.base import Context, Method, Validation
from trireme.registry import METHODS
from trireme.retrieval.encoders.base import Encoder
from trireme.types import Benchmark, Predictions, Sample, Supervision

_TOLD = ("none", "captions", "labels")


def open_inner(given: Mapping[str, Any]) -> Method:
    """The method that a field marked `trireme.types.INNER` holds.

    Args:
        given: `method`, `registry` and `config`, as the runner resolves a config; or, made in Python, `method` as it is
            registered with options beside it.

    Raises:
        UsageError: no such method, or no such option.
    """
    options = dict(given)
    name = options.pop("method", None)
    cls = METHODS.load(options.get("registry", name))
    try:
        config = options["config"] if "registry" in options else cls.Config(**options)
    except TypeError as error:
        raise UsageError(f"method '{name}': {error}") from error
    method: Method = cls(config)
    return method


def fit_inner(method: Method, context: Context) -> None:
    """Fit it on what a run of its own would be given: validation pictures only where it chooses on them."""
    method.fit(context if getattr(method, "uses_validation", True) else replace(context, validation=None))


def with_classes(context: Context, benchmark: Benchmark) -> Context:
    """The same context for the classes of another benchmark, such as the one that validation scores."""
    return replace(
        context,
        class_ids=tuple(benchmark.class_ids),
        class_names=tuple(benchmark.class_names),
        templates=tuple(benchmark.templates),
    )


def same_classes(context: Context, benchmark: Benchmark) -> bool:
    """Whether a method fitted on the context answers in the classes of the benchmark."""
    asked = (context.class_ids, context.class_names, context.templates)
    return asked == tuple(map(tuple, (benchmark.class_ids, benchmark.class_names, benchmark.templates)))


def ranked(method: Method, name: str, samples: Sequence[Sample]) -> Predictions:
    """What a part says about samples; labels are kept from it.

    Raises:
        DataError: it ranks no class for a sample, or answers for another number of samples.
    """
    found = method.predict([sample.unlabelled() for sample in samples])
    if len(found.ranked) != len(samples) or found.ranked.shape != found.scores.shape:
        raise DataError(f"method '{name}' was asked for {len(samples)} samples and answered with {found.ranked.shape}")
    if len(nothing := np.flatnonzero((found.ranked < 0).all(axis=1))):
        raise DataError(f"method '{name}' ranks no class for {len(nothing)} samples (first: {samples[nothing[0]].id})")
    return found


def told(parts: Iterable[Method]) -> Supervision:
    """The most that any part was told, in training and at inference."""
    found = [part.supervision for part in parts]
    return Supervision(
        max((one.training for one in found), key=_TOLD.index), max((one.inference for one in found), key=_TOLD.index)
    )


def stronger(one: str, other: str) -> str:
    """Of two words of `Supervision` the one that tells more."""
    return max(one, other, key=_TOLD.index)


def rankers_of(parts: Iterable[Method]) -> tuple[str, ...]:
    """Every ranker that a part may ask."""
    return tuple(dict.fromkeys(name for part in parts for name in getattr(part, "rankers", ())))


def check_parts(parts: Iterable[Method], encoder: Encoder) -> None:
    """Ask each part that checks its encoder. UsageError."""
    for part in parts:
        if hasattr(part, "check"):
            part.check(encoder)


def check_validation_of(parts: Iterable[Method], validation: Validation) -> None:
    """Ask each part that chooses on validation pictures and checks them. UsageError."""
    for part in parts:
        if getattr(part, "uses_validation", True) and hasattr(part, "check_validation"):
            part.check_validation(validation)


def trained_parameters(facts: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """For the record: the parameters that all parts trained; nothing where none of them says so."""
    counts = [one["trained_parameters"] for one in facts if isinstance(one.get("trained_parameters"), int)]
    return {"trained_parameters": sum(counts)} if counts else {}
