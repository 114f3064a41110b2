"""What the indices and ids of a record stand for. `results` opens no benchmark: whoever calls says it, where it can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from trireme.results.records import RunRecord
from trireme.types import ImageRef


@dataclass(frozen=True, slots=True)
class Shown:
    """A benchmark's names and pictures, as they were when the run was made.

    Attributes:
        names: class names by class index; empty where the benchmark cannot be opened any more.
        ids: class ids by class index, as labels of memories name them.
        pictures: sample id -> its picture (or region of one).
        texts: sample id -> the caption that asks, of samples that are captions.
        problem: why names or pictures are missing, "" where none are.
    """

    names: Sequence[str] = ()
    ids: Sequence[str] = ()
    pictures: Mapping[str, ImageRef] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    def name(self, index: int) -> str:
        """The name of a class, or which one it is where names are not known."""
        if index < 0:
            return "unknown"
        return self.names[index] if index < len(self.names) else f"class {index}"

    def key(self, sample: str) -> str:
        """What two benchmarks share where they share this picture; "" where it is not known."""
        ref = self.pictures.get(sample)
        return "" if ref is None else f"{ref.sha256 or ref.path} {ref.region.text if ref.region else ''}"


Opener = Callable[[RunRecord], Shown]
