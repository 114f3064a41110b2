"""The candidates of samples: by rar's own retrieval, or the first classes of another method's ranking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trireme.methods.base import Context, Method
from trireme.methods.inner import fit_inner, ranked
from trireme.methods.rar.candidates import Candidates, Retriever
from trireme.methods.rar.config import RarConfig
from trireme.methods.support import Support, support_facts
from trireme.types import Predictions, Sample


class FirstStage:
    """Finds the candidates among the classes of a context.

    Args:
        inner: whose ranking gives them, not fitted yet; None for the retrieval of the configuration.

    Raises:
        UsageError: no memory where one is searched. DataError: no memory picture has a label of these classes.
    """

    def __init__(self, context: Context, config: RarConfig, inner: Method | None) -> None:
        self._context, self._inner, self._name = context, inner, str(config.candidates.get("method", ""))
        self._retriever = None
        self._last: tuple[tuple[Sample, ...], Predictions] | None = None
        if inner is None:
            self._retriever = Retriever(context, config, context.class_ids, context.class_names)
        else:
            fit_inner(inner, context)

    @property
    def support(self) -> Support | None:
        """The memory pictures that are searched; None where names are, or where another method finds the candidates."""
        return None if self._retriever is None else self._retriever.support

    def __call__(self, samples: Sequence[Sample], config: RarConfig) -> Candidates:
        """Candidates of samples. `config` may differ from that of `__init__` in options of a grid."""
        if self._retriever is not None:
            return self._retriever(self._context.store.images([sample.image for sample in samples]), config)
        found = self._ranking(samples)
        rows = np.full_like(found.ranked[:, : config.k], -1)
        return Candidates(found.ranked[:, : config.k], found.scores[:, : config.k], rows, found.ranked, None)

    def extras(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """The columns of the method that found the candidates."""
        return {} if self._inner is None else dict(self._ranking(samples).extras)

    def _ranking(self, samples: Sequence[Sample]) -> Predictions:
        """What the method says; asked once for several settings of a grid."""
        assert self._inner is not None
        if self._last is None or self._last[0] != tuple(samples):
            self._last = tuple(samples), ranked(self._inner, self._name, samples)
        return self._last[1]

    def facts(self) -> dict[str, Any]:
        """What was searched, or the facts of the method that was asked."""
        if self._inner is None:
            return support_facts(self.support)
        return {"candidates": {"method": self._name, "facts": self._inner.facts()}}
