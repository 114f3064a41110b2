"""Pictures and captions that ask for each other, ranked by what a method makes of them; one way for every method.

Shapes: n queries, m candidates, d embedding dimension, k candidates kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trireme.errors import TriremeError
from trireme.files import fingerprint
from trireme.methods.base import CrossModal, Method, Validation
from trireme.methods.classes import rank_similar
from trireme.methods.selection import subset_scores
from trireme.types import RANKED, Benchmark, Floats, Ints, Predictions, Sample, Task

FOUND = "found"
"""The extra that lists the ids of the candidates, best first; `ranked` holds their labels."""
GALLERY = "gallery"
"""The extra that tells the candidates apart from others: an answer is true for these alone."""
_QUERIES = 256
_TOGETHER = 4096


def nearest(queries: Floats, candidates: Floats, keep: int = RANKED) -> tuple[Ints, Floats]:
    """The k = min(keep, m) candidates of the largest inner product for each query, best first, and these products.

    They are computed in blocks of queries and of candidates, never (n, m) at once. Ties go to the earlier candidate.

    Returns:
        Positions (n, k) and scores (n, k).

    Raises:
        DataError: an embedding is NaN.
    """
    starts = range(0, max(len(queries), 1), _QUERIES)
    blocks = [rank_similar(queries[start : start + _QUERIES], candidates, keep) for start in starts]
    return np.concatenate([positions for positions, _ in blocks]), np.concatenate([scores for _, scores in blocks])


class BothWays:
    """A fitted method as an answer to samples that are pictures and captions.

    A picture is compared with every caption among the samples, a caption with every picture. What is embedded stays
    here, (number of samples, d).

    Args:
        samples: every readable sample of a role: an unreadable picture is missing in both directions.

    Raises:
        TriremeError: the method declares the task and does not have both sides.
    """

    def __init__(self, method: Method, samples: Sequence[Sample], keep: int = RANKED) -> None:
        if not isinstance(method, CrossModal):
            raise TriremeError(
                f"method '{type(method).__name__}' declares the task {Task.RETRIEVAL} and lacks embed_images or "
                "embed_texts"
            )
        self._keep = keep
        self._pictures, self._captions = pictures(samples), captions(samples)
        self._images = _in_blocks(method.embed_images, [one.image for one in self._pictures])
        self._texts = _in_blocks(method.embed_texts, [one.text for one in self._captions])
        self._place = {one.id: i for side in (self._pictures, self._captions) for i, one in enumerate(side)}
        self.gallery = fingerprint([one.id for one in samples])

    def predict(self, samples: Sequence[Sample]) -> Predictions:
        """Labels of the candidates, best first, and their ids; a label repeats where several captions have it."""
        n = len(samples)
        ranked = np.full((n, self._keep), -1, dtype=np.int64)
        scores = np.zeros((n, self._keep), dtype=np.float32)
        found: list[list[str]] = [[] for _ in samples]
        for told in (False, True):
            rows = [row for row, sample in enumerate(samples) if bool(sample.text) is told]
            places = [self._place[samples[row].id] for row in rows]
            asking, asked = (self._texts, self._images) if told else (self._images, self._texts)
            candidates = self._pictures if told else self._captions
            best, products = nearest(asking[places], asked, self._keep)
            labels = np.array([one.label for one in candidates], dtype=np.int64)
            ranked[rows, : best.shape[1]] = labels[best]
            scores[rows, : best.shape[1]] = products
            for row, positions in zip(rows, best.tolist(), strict=True):
                found[row] = [candidates[position].id for position in positions]
        return Predictions(ranked, scores, {FOUND: found, GALLERY: [self.gallery] * n})

    def still_true(self, stored: pa.Table | None) -> pa.Table | None:
        """What an earlier process predicted about the same candidates; a picture that was repaired since is another."""
        return None if stored is None else stored.filter(pc.equal(stored[GALLERY], self.gallery))


def pictures(samples: Sequence[Sample]) -> list[Sample]:
    """The pictures that ask, which are what captions look for."""
    return [one for one in samples if not one.text]


def captions(samples: Sequence[Sample]) -> list[Sample]:
    """The captions that ask, which are what pictures look for."""
    return [one for one in samples if one.text]


def retrieves(benchmark: Benchmark) -> bool:
    """Whether pictures and captions of a benchmark ask for each other."""
    return benchmark.task is Task.RETRIEVAL


def validation_scores(validation: Validation, images: Floats, texts: Floats) -> dict[str, float]:
    """Percent of the main metric by subset, as `trireme.methods.selection.subset_scores` gives it for classes.

    Args:
        images: of `pictures(validation.samples)`, in their order.
        texts: of `captions(validation.samples)`.
    """
    shown, told = pictures(validation.samples), captions(validation.samples)
    ranked = []
    for candidates, asking, asked in ((told, images, texts), (shown, texts, images)):
        labels = np.array([one.label for one in candidates], dtype=np.int64)
        ranked.append(labels[nearest(asking, asked)[0]])
    width = min(part.shape[1] for part in ranked)
    both = Validation(validation.benchmark, [*shown, *told])
    return subset_scores(both, np.concatenate([part[:, :width] for part in ranked]))


def _in_blocks(embed: Any, items: Sequence[Any]) -> Floats:
    """Embeddings of all items, of which there are some, asked for some thousands at a time."""
    blocks: list[Floats] = [embed(items[start : start + _TOGETHER]) for start in range(0, len(items), _TOGETHER)]
    return np.concatenate(blocks)
