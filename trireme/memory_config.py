"""The settings of a memory: the schema of configs/memory and of `memory.KEY=VALUE`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trireme.retrieval.index import IndexConfig


@dataclass
class MemoryConfig:
    """How a memory is built from a pair set.

    Attributes:
        index: the FAISS index of both sides.
        draw: the rule by which `NAME@N` draws N pictures a class (`trireme.benchmarks.few_shot`).
        threshold: pixel correlation above which a pair counts as a near-duplicate of a test or validation picture.
        deduplicate_against: benchmarks whose pictures of every role are kept out. The run's own benchmark always is.
        labels: for `faiss:PATH`, an index written elsewhere: the file with one label a row.
        label_column: the column of that file, where it is a table.
        pairs_options: options of the pair set, such as the names of a table's columns.
    """

    index: IndexConfig = field(default_factory=IndexConfig)
    draw: str = "random"
    threshold: float = 0.9
    deduplicate_against: list[str] = field(default_factory=list)
    labels: str = ""
    label_column: str = "label"
    pairs_options: dict[str, Any] = field(default_factory=dict)
