"""Tip-Adapter (Zhang et al., ECCV 2022, arXiv 2207.09519) over Trireme's memory.

A cache joins CLIP: logits = 100 f W + alpha exp(-beta (1 - f F')) L, with the picture's embedding f (d), the class
prompts W (d, c), the support pictures F (N, d) as keys and their one-hot classes L (N, c) as values. Tip-Adapter-F
trains F. Against the authors' code: pictures are encoded once, without augmentation; the last epoch is taken, never
the best one on test; alpha and beta come from a coarser and wider grid, on validation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from trireme.errors import UsageError, unknown_name
from trireme.files import atomic_file, fingerprint
from trireme.methods.base import Context, Validation, require_fitted, require_memory
from trireme.methods.classes import class_embeddings, rank, similarity
from trireme.methods.inner import same_classes, with_classes
from trireme.methods.selection import Setting, grid_settings, grid_shape, note_unchosen, select, subset_scores
from trireme.methods.support import note_unpictured, support
from trireme.types import Floats, Ints, Predictions, Sample, Supervision, Task

BLOCK = 256


@dataclass
class TipAdapterConfig:
    """Options of tip_adapter; defaults are those of the authors' code for ImageNet where it has them.

    Attributes:
        alpha, beta: weight and sharpness of the cache; while it trains, and where a grid has nothing to choose on.
        scale: factor on the cosines with the prompts.
        epochs: of training the keys; 0 is training-free.
        lr, batch, eps: of AdamW under a cosine schedule.
        grid: values of `alpha` and `beta` to choose from on validation pictures; empty: nothing is chosen.
    """

    alpha: float = 1.17
    beta: float = 1.0
    scale: float = 100.0
    epochs: int = 0
    lr: float = 1e-3
    batch: int = 256
    eps: float = 1e-4
    grid: dict[str, list[float]] = field(default_factory=dict)


class Cache(NamedTuple):
    """Keys sorted by class (N, d), the class of each (N,), and the prompts of all classes (c, d)."""

    keys: Floats
    labels: Ints
    texts: Floats

    def logits(self, queries: Floats, alpha: float, beta: float, scale: float) -> Floats:
        """(n, c), a block of pictures at a time."""
        starts = range(0, len(queries), BLOCK)
        parts = (self.cosines(queries[start : start + BLOCK]) for start in starts)
        return np.concatenate([self.joined(*part, alpha, beta, scale) for part in parts])

    def cosines(self, queries: Floats) -> tuple[Floats, Floats]:
        """With the prompts (n, c), and with the keys (n, N)."""
        return similarity(queries, self.texts), similarity(queries, self.keys)

    def joined(self, prompts: Floats, affinities: Floats, alpha: float, beta: float, scale: float) -> Floats:
        """(n, c). Rows are summed one like the other, however many there are."""
        weights = np.exp(beta * (affinities.astype(np.float64) - 1))
        pictured, first = np.unique(self.labels, return_index=True)
        total = scale * prompts.astype(np.float64)
        total[:, pictured] += alpha * np.add.reduceat(weights, first, axis=1)
        return total.astype(np.float32)


class TipAdapter:
    """Ranks classes by CLIP's logits plus what the labelled pictures of the memory say."""

    Config: ClassVar[type[TipAdapterConfig]] = TipAdapterConfig
    tasks: ClassVar[frozenset[Task]] = frozenset({Task.ZERO_SHOT, Task.FEW_SHOT, Task.DETECTION})
    version: ClassVar[int] = 1
    needs_memory = True

    def __init__(self, config: TipAdapterConfig) -> None:
        if config.epochs < 0 or min(config.batch, config.lr, config.eps, config.scale, config.beta) <= 0:
            raise UsageError("tip_adapter needs epochs of at least 0, and batch, lr, eps, scale and beta above 0")
        for key in config.grid:
            if key not in ("alpha", "beta"):
                raise unknown_name("tip_adapter grid key", key, ("alpha", "beta"))
        self.config = config
        self._setting: Setting = {"alpha": config.alpha, "beta": config.beta}
        self._context: Context | None = None
        self._cache: Cache | None = None
        self._facts: dict[str, Any] = {}

    @property
    def supervision(self) -> Supervision:
        """Labels of the support pictures."""
        return Supervision("labels" if self.config.epochs else "none", "labels")

    @property
    def uses_validation(self) -> bool:
        """Whether alpha or beta is chosen."""
        return bool(self.config.grid)

    def fit(self, context: Context) -> None:
        """Make the cache and choose alpha and beta; where epochs are given, train its keys with these and choose again.

        The authors' configs state those of the training for each dataset; here validation gives them too.
        """
        self._context, labels = context, require_memory(context, "tip_adapter").labels
        note_unpictured(support(labels, context.class_ids, context.class_names), context.class_names)
        self._fitted(context, self._made)
        if self.config.epochs:
            chosen = dict(self._setting)
            self._fitted(context, lambda of: self._trained(of, chosen))
            self._facts |= {
                "trained_with": chosen,
                "trained_parameters": require_fitted(self._cache, "tip_adapter").keys.size,
            }

    def _fitted(self, context: Context, make: Callable[[Context], Cache]) -> None:
        """Take a kind of cache, and what validation says about it."""
        self._cache = make(context)
        self._facts = {"support": len(self._cache.keys), "trained_parameters": 0}
        if self.config.grid and context.validation is not None:
            benchmark = context.validation.benchmark
            same = same_classes(context, benchmark)
            self._choose(context, context.validation, self._cache if same else make(with_classes(context, benchmark)))
        elif self.config.grid:
            self._facts |= note_unchosen({name: self._setting[name] for name in self.config.grid})

    def _made(self, context: Context) -> Cache:
        memory = require_memory(context, "tip_adapter")
        held = support(memory.labels, context.class_ids, context.class_names)
        rows = np.flatnonzero(held.labels >= 0)
        rows = rows[np.argsort(held.labels[rows], kind="stable")]
        keys = np.array(memory.embeddings("image")[rows], dtype=np.float32)
        return Cache(keys, held.labels[rows], class_embeddings(context.store, context.class_names, context.templates))

    def _trained(self, context: Context, chosen: Setting) -> Cache:
        """The cache with trained keys; read where a run before this one trained the same."""
        from trireme_tip_adapter.training import train

        cache, memory = self._made(context), require_memory(context, "tip_adapter").fingerprint
        prompts = [context.class_ids, context.class_names, context.templates]
        made_of = [self.version, self.config, chosen, memory, context.encoder.fingerprint, context.seed, prompts]
        path = context.artifacts / "tip_adapter" / f"{fingerprint([repr(one) for one in made_of])}.npy"
        if not path.exists():
            with atomic_file(path) as part, part.open("wb") as file:
                np.save(file, train(cache, replace(self.config, **chosen), context.seed, context.device))
        return cache._replace(keys=np.load(path, allow_pickle=False))

    def _choose(self, context: Context, validation: Validation, cache: Cache) -> None:
        cosines = cache.cosines(context.store.images([sample.image for sample in validation.samples]))

        def score(setting: Setting) -> dict[str, float]:
            logits = cache.joined(*cosines, scale=self.config.scale, **{**self._setting, **setting})
            return subset_scores(validation, rank(logits, context.keep)[0])

        best, tried = select(list(grid_settings(self.config.grid)), score, shape=grid_shape(self.config.grid))
        self._setting |= best.setting
        self._facts["selection"] = {"on": validation.benchmark.name, "tried": len(tried), "scores": best.scores}

    def predict(self, samples: Sequence[Sample]) -> Predictions:
        """Scores are logits."""
        context, cache = require_fitted(self._context, "tip_adapter"), require_fitted(self._cache, "tip_adapter")
        queries = context.store.images([sample.image for sample in samples])
        logits = cache.logits(queries, scale=self.config.scale, **self._setting)
        return Predictions(*rank(logits, context.keep))

    def facts(self) -> dict[str, Any]:
        """alpha and beta, how they were chosen, the size of the cache."""
        return {**self._setting, **self._facts}
