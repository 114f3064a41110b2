"""Image-text retrieval as a benchmark: a sample is a picture that asks for captions, or a caption that asks for
pictures.

The label of both is what the picture shows (an item), so a candidate is a hit where its label is that of the sample;
the label is also the cluster of every interval, since the captions of one picture are not independent of each other,
nor of the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from trireme.benchmarks.base import RowBenchmark
from trireme.files import fingerprint
from trireme.types import DIRECTIONS, ImageRef, Role, Sample, Task

I2T, T2I = DIRECTIONS
METRICS = ("r@1", "r@5", "r@10")


@dataclass(frozen=True)
class ImageTextBenchmark(RowBenchmark):
    """Samples of both directions; `class_ids` are its items. There is no subset "all": the directions are two numbers,
    and a mean over queries would be one of captions, of which there are five times as many."""

    task: Task = Task.RETRIEVAL
    metrics: tuple[str, ...] = METRICS
    folds: tuple[str, ...] = ()
    """The fold of every item, where the set is in folds: then a query is compared with what is in its own alone."""

    def fingerprint(self, role: Role = Role.TEST) -> str:
        """That of the rows, with what captions say, the group of each sample and the folds."""
        told = [[one.id, one.text, one.group] for one in self.samples(role)]
        return fingerprint([super().fingerprint(role), told, *([self.folds] if self.folds else [])])

    @property
    def gallery_of(self) -> Callable[[Sample], str] | None:
        """Which fold a sample is in; None where all are compared with all."""
        return (lambda sample: self.folds[sample.label]) if self.folds else None


@dataclass(frozen=True, slots=True)
class Captioned:
    """A picture and its captions.

    Attributes:
        label: the item that it shows.
        captions: {id: text}; one or more, none of them blank.
        group: of the item, "" where items have none.
    """

    id: str
    image: ImageRef
    label: int
    captions: Mapping[str, str]
    group: str = ""


def samples_of(rows: Iterable[Captioned], prompt: str = "{}") -> tuple[Sample, ...]:
    """Each picture and each caption as a query: "i2t/<picture id>", "t2i/<caption id>".

    Args:
        prompt: what captions are put into.
    """
    found = []
    for row in rows:
        found.append(Sample(f"{I2T}/{row.id}", row.image, row.label, group=_group(I2T, row.group)))
        for name, text in row.captions.items():
            asked = prompt.replace("{}", text)
            found.append(Sample(f"{T2I}/{name}", row.image, row.label, asked, _group(T2I, row.group)))
    return tuple(found)


def subsets_of(
    groups: Sequence[str] = ("",), held: Mapping[str, tuple[str, ...]] | None = None
) -> dict[str, tuple[str, ...] | None]:
    """The two directions and, for items in groups, subsets of items with both directions together.

    Args:
        groups: all groups of items.
        held: {subset: its groups}.
    """
    found: dict[str, tuple[str, ...] | None] = {
        direction: tuple(_group(direction, group) for group in groups) for direction in DIRECTIONS
    }
    for subset, of in (held or {}).items():
        found[subset] = tuple(_group(direction, group) for direction in DIRECTIONS for group in of)
    return found


def _group(direction: str, group: str) -> str:
    return f"{direction}/{group}" if group else direction
