"""SuS-X (Udandarao et al., ICCV 2023, arXiv 2211.16198) over Trireme's memory: only class names are known.

SuS: each class name retrieves its support pictures from the memory. TIP-X then joins three terms,

    logits = 100 f W + alpha exp(-beta (1 - f F')) L + gamma psi(-M) L,

with the picture f (d), the prompts W (d, c), the support F (N, d) and the classes L (N, c) that retrieved it. M (n, N)
holds KL(s || S), s and S being the softmax of f W / T and F W / T; psi stretches it to the range of the affinities
f F'. In the authors' code the ranges are those of all test pictures at once, so that one picture's answer depends on
the others; here they are those of the support against itself. alpha, beta and gamma come from a coarser grid, on
validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trireme.errors import UsageError, unknown_name
from trireme.methods.base import Context, Validation, require_fitted, require_memory
from trireme.methods.classes import class_embeddings, rank, similarity
from trireme.methods.inner import same_classes, with_classes
from trireme.methods.selection import Setting, grid_settings, grid_shape, note_unchosen, select, subset_scores
from trireme.retrieval.memory import Side
from trireme.types import Floats, Ints, Predictions, Sample, Supervision, Task

Doubles = NDArray[np.float64]
WEIGHTS = ("alpha", "beta", "gamma")
BLOCK = 64


@dataclass
class SusXConfig:
    """Options of sus_x.

    Attributes:
        k: support pictures a class.
        search: "text": those with the nearest captions; "image": the nearest pictures (the paper's, whose LAION index
            is searched so; it needs an encoder that knows the names).
        alpha, beta, gamma: of the formula, where a grid has nothing to choose on.
        scale: factor on the cosines with the prompts.
        temperature: T of the distributions over classes (the authors' code: 0.5).
        grid: values of alpha, beta and gamma to choose from on validation pictures; empty: nothing is chosen.
    """

    k: int = 4
    search: str = "text"
    alpha: float = 1.0
    beta: float = 5.0
    gamma: float = 0.5
    scale: float = 100.0
    temperature: float = 0.5
    grid: dict[str, list[float]] = field(default_factory=dict)


class Terms(NamedTuple):
    """Of n pictures: cosines with the prompts (n, c), affinities and rescaled divergences with the support (n, N)."""

    prompts: Doubles
    affinities: Doubles
    divergences: Doubles


class SupportSet:
    """What the class names retrieved: keys sorted by class (N, d), the class of each (N,), prompts (c, d)."""

    def __init__(self, context: Context, config: SusXConfig) -> None:
        memory, self.temperature = require_memory(context, "sus_x"), config.temperature
        self.texts = class_embeddings(context.store, context.class_names, context.templates)
        side: Side = "text" if config.search == "text" else "image"
        hits = memory.search(self.texts, side, config.k, encoder=context.encoder.fingerprint)
        kept = hits.rows >= 0
        self.labels: Ints = np.repeat(np.arange(len(hits.rows)), kept.sum(axis=1))
        self.keys: Floats = np.array(memory.embeddings("image")[hits.rows[kept]], dtype=np.float32)
        self.classes, self.first = np.unique(self.labels, return_index=True)
        self.logs = self._logs(self.keys)
        self.widest, self.lowest = 0.0, 1.0
        for start in range(0, len(self.keys), BLOCK):  # never (N, N) at once
            rows = slice(start, start + BLOCK)
            self.widest = max(self.widest, float(self._divergences(self.logs[rows]).max()))
            self.lowest = min(self.lowest, float(similarity(self.keys[rows], self.keys).min()))

    def _logs(self, queries: Floats) -> Doubles:
        """(n, c) logarithms of the distributions over classes."""
        values = similarity(queries, self.texts).astype(np.float64) / self.temperature
        values -= values.max(axis=1, keepdims=True)
        shifted: Doubles = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
        return shifted

    def _divergences(self, logs: Doubles) -> Doubles:
        """(n, N) KL(query || support). Products of one size: no digit depends on how many rows there are."""
        found = np.empty((len(logs), len(self.logs)))
        for start in range(0, len(logs), BLOCK):
            rows = logs[start : start + BLOCK]
            padded = np.zeros((BLOCK, rows.shape[1]))
            padded[: len(rows)] = np.exp(rows)
            own = np.einsum("ij,ij->i", padded[: len(rows)], rows)
            found[start : start + BLOCK] = own[:, None] - (self.logs @ padded.T).T[: len(rows)]
        return np.maximum(found, 0)  # rounding can make a zero negative

    def terms(self, queries: Floats) -> Terms:
        """Everything that does not depend on alpha, beta and gamma. KL from 0 on is mapped to affinities from the
        lowest on to 1, as between the support pictures themselves."""
        stretch = (1 - self.lowest) / self.widest if self.widest > 0 else 0.0
        divergences = self.lowest + stretch * self._divergences(self._logs(queries))
        affinities = similarity(queries, self.keys).astype(np.float64)
        return Terms(similarity(queries, self.texts).astype(np.float64), affinities, divergences)

    def logits(self, terms: Terms, scale: float, alpha: float, beta: float, gamma: float) -> Floats:
        """(n, c)."""
        weights = alpha * np.exp(beta * (terms.affinities - 1)) - gamma * terms.divergences
        total = scale * terms.prompts
        total[:, self.classes] += np.add.reduceat(weights, self.first, axis=1)
        return total.astype(np.float32)


class SusX:
    """Ranks classes by CLIP's logits and by the pictures that the class names retrieve. Reads no label."""

    Config: ClassVar[type[SusXConfig]] = SusXConfig
    tasks: ClassVar[frozenset[Task]] = frozenset({Task.ZERO_SHOT, Task.FEW_SHOT, Task.DETECTION})
    version: ClassVar[int] = 1
    needs_memory = True

    def __init__(self, config: SusXConfig) -> None:
        if config.search not in ("text", "image"):
            raise unknown_name("search of sus_x", config.search, ("text", "image"))
        if config.k < 1 or min(config.beta, config.scale, config.temperature) <= 0:
            raise UsageError("sus_x needs k of at least 1, and beta, scale and temperature above 0")
        for key in config.grid:
            if key not in WEIGHTS:
                raise unknown_name("sus_x grid key", key, WEIGHTS)
        self.config = config
        self._setting: Setting = {name: getattr(config, name) for name in WEIGHTS}
        self._context: Context | None = None
        self._support: SupportSet | None = None
        self._facts: dict[str, Any] = {}

    @property
    def supervision(self) -> Supervision:
        """Captions where they are searched."""
        return Supervision("none", "captions" if self.config.search == "text" else "none")

    @property
    def uses_validation(self) -> bool:
        """Whether alpha, beta or gamma is chosen."""
        return bool(self.config.grid)

    def fit(self, context: Context) -> None:
        """Retrieve the support; choose alpha, beta and gamma."""
        self._context, self._support = context, SupportSet(context, self.config)
        self._facts = {"support": len(self._support.keys)}
        if self.config.grid and context.validation is not None:
            self._choose(context, context.validation)
        elif self.config.grid:
            self._facts |= note_unchosen({name: self._setting[name] for name in self.config.grid})

    def _choose(self, context: Context, validation: Validation) -> None:
        benchmark, held = validation.benchmark, require_fitted(self._support, "sus_x")
        if not same_classes(context, benchmark):
            held = SupportSet(with_classes(context, benchmark), self.config)
        terms = held.terms(context.store.images([sample.image for sample in validation.samples]))

        def score(setting: Setting) -> dict[str, float]:
            logits = held.logits(terms, self.config.scale, **{**self._setting, **setting})
            return subset_scores(validation, rank(logits, context.keep)[0])

        best, tried = select(list(grid_settings(self.config.grid)), score, shape=grid_shape(self.config.grid))
        self._setting |= best.setting
        self._facts["selection"] = {"benchmark": benchmark.name, "tried": len(tried), "scores": best.scores}

    def predict(self, samples: Sequence[Sample]) -> Predictions:
        """Scores are logits."""
        context, held = require_fitted(self._context, "sus_x"), require_fitted(self._support, "sus_x")
        terms = held.terms(context.store.images([sample.image for sample in samples]))
        return Predictions(*rank(held.logits(terms, self.config.scale, **self._setting), context.keep))

    def facts(self) -> dict[str, Any]:
        """The weights, how they were chosen, and how many pictures were retrieved."""
        return {**self._setting, **self._facts}
