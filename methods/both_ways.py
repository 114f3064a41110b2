"""Pictures and captions that ask for each other, ranked by what a method makes of them; one way for every method.

Shapes: n queries, m candidates, d embedding dimension, k candidates kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

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


class _Side(NamedTuple):
    """The pictures or the captions of a gallery, m of them, and what a method makes of them, (m, d)."""

    samples: Sequence[Sample]
    embedded: Floats

    @classmethod
    def among(cls, samples: Sequence[Sample], embedded: Floats, name_of: Mapping[str, str], name: str) -> _Side:
        """Those of one gallery; nothing is copied where that is all of them."""
        rows = [row for row, one in enumerate(samples) if name_of[one.id] == name]
        if len(rows) == len(samples):
            return cls(samples, embedded)
        return cls([samples[row] for row in rows], embedded[rows])


class _Gallery(NamedTuple):
    """What is compared with each other."""

    images: _Side
    texts: _Side


class BothWays:
    """A fitted method as an answer to samples that are pictures and captions.

    A picture is compared with every caption of its gallery, a caption with every picture. What is embedded stays here,
    (number of samples, d).

    Args:
        samples: every readable sample of a role: an unreadable picture is missing in both directions.
        gallery_of: which gallery a sample is in, where a benchmark has several; None: all are one.

    Raises:
        TriremeError: the method declares the task and does not have both sides.
    """

    def __init__(
        self,
        method: Method,
        samples: Sequence[Sample],
        keep: int = RANKED,
        gallery_of: Callable[[Sample], str] | None = None,
    ) -> None:
        if not isinstance(method, CrossModal):
            raise TriremeError(
                f"method '{type(method).__name__}' declares the task {Task.RETRIEVAL} and lacks embed_images or "
                "embed_texts"
            )
        self._keep = keep
        shown, told = pictures(samples), captions(samples)
        images = _in_blocks(method.embed_images, [one.image for one in shown])
        texts = _in_blocks(method.embed_texts, [one.text for one in told])
        names = [gallery_of(one) if gallery_of else "" for one in samples]
        name_of = dict(zip((one.id for one in samples), names, strict=True))
        self._galleries = {
            name: _Gallery(_Side.among(shown, images, name_of, name), _Side.among(told, texts, name_of, name))
            for name in dict.fromkeys(names)
        }
        self._place = {
            one.id: (name, i)
            for name, gallery in self._galleries.items()
            for side in gallery
            for i, one in enumerate(side.samples)
        }
        self.gallery = fingerprint([one.id for one in samples] if gallery_of is None else list(name_of.items()))

    def predict(self, samples: Sequence[Sample]) -> Predictions:
        """Labels of the candidates, best first, and their ids; a label repeats where several captions have it."""
        n = len(samples)
        ranked = np.full((n, self._keep), -1, dtype=np.int64)
        scores = np.zeros((n, self._keep), dtype=np.float32)
        found: list[list[str]] = [[] for _ in samples]
        parts: dict[tuple[str, bool], list[int]] = {}
        for row, sample in enumerate(samples):
            parts.setdefault((self._place[sample.id][0], bool(sample.text)), []).append(row)
        for (name, told), rows in parts.items():
            images, texts = self._galleries[name]
            asking, asked = (texts, images) if told else (images, texts)
            places = [self._place[samples[row].id][1] for row in rows]
            best, products = nearest(asking.embedded[places], asked.embedded, self._keep)
            labels = np.array([one.label for one in asked.samples], dtype=np.int64)
            ranked[rows, : best.shape[1]] = labels[best]
            scores[rows, : best.shape[1]] = products
            for row, positions in zip(rows, best.tolist(), strict=True):
                found[row] = [asked.samples[position].id for position in positions]
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
