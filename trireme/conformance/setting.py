"""What a method is fitted on in a check: a mock task, its memory and all else of a context, as a run makes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq

from trireme.benchmarks.base import RowPairs
from trireme.benchmarks.validation_only import ValidationOnly
from trireme.conformance.mock_encoder import MockEncoder
from trireme.conformance.mock_ranker import MockRanker
from trireme.conformance.mocks import CLASSES, note_look, open_benchmark, open_pairs
from trireme.files import sha256_file
from trireme.methods.base import Context, Validation
from trireme.retrieval.encoders.base import Encoder
from trireme.retrieval.index import IndexConfig
from trireme.retrieval.memory import Memory
from trireme.retrieval.memory_build import ARRAYS, MANIFEST, PAIRS
from trireme.retrieval.store import EmbeddingStore
from trireme.types import RANKED, Benchmark, Pair, Role, Sample, Task

EncoderKind = Literal["mock", "open_clip"]
Held = Literal["whole", "relabelled", "recaptioned", "foreign", "empty", "none"]
"""What a memory holds: the mock pairs; those with the labels, or with the captions, of other classes; with labels of no
class; no pair at all; or there is no memory."""
_NAMES = {
    Task.ZERO_SHOT: "mock/zero-shot",
    Task.FEW_SHOT: "mock/few-shot",
    Task.DETECTION: "mock/detection",
    Task.RETRIEVAL: "mock/retrieval",
}
_TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def benchmark_of(task: Task) -> Benchmark:
    """The mock benchmark of a task."""
    return open_benchmark(_NAMES[task])


def samples_of(task: Task) -> list[Sample]:
    """Its test samples as a method sees them."""
    return [sample.unlabelled() for sample in benchmark_of(task).samples()]


class _Noted(ValidationOnly):
    """It refuses test samples, and the rule `labels` hears of a method that asked and went on."""

    __slots__ = ()

    def _refuse(self, role: Role) -> None:
        note_look(self.name, role)
        super()._refuse(role)


class Setting:
    """Makes contexts in one folder, which another process can use too.

    Args:
        encoder: "mock", or a tiny open_clip model with random weights, for methods that work on a real model.
    """

    def __init__(self, folder: Path, encoder: EncoderKind = "mock") -> None:
        self.folder, self.kind = folder, encoder

    @cached_property
    def encoder(self) -> Encoder:
        """The mock encoder, or a tiny open_clip model for methods that need a real one."""
        if self.kind == "mock":
            return MockEncoder()
        from trireme.retrieval.encoders.openclip import OpenClipEncoder

        return OpenClipEncoder(OpenClipEncoder.Config(model=f"local-dir:{_tiny_open_clip(self.folder)}", device="cpu"))

    @cached_property
    def store(self) -> EmbeddingStore:
        return EmbeddingStore(self.encoder, self.folder / "embeddings", workers=1)

    def context(
        self, method: Any, task: Task, artifacts: str, held: Held = "whole", classes: int = len(CLASSES), seed: int = 0
    ) -> Context:
        """The context of a run of this method on this task.

        Args:
            artifacts: its folder of trained parts below the setting's; another one trains anew.
            classes: how many of the mock classes there are.
        """
        named = task is not Task.RETRIEVAL
        benchmark = benchmark_of(task)
        return Context(
            encoder=self.encoder,
            store=self.store,
            memory=self.memory(held) if method.needs_memory else None,
            class_ids=benchmark.class_ids[:classes] if named else (),
            class_names=benchmark.class_names[:classes] if named else (),
            templates=benchmark.templates if named else (),
            validation=self._validation(benchmark) if getattr(method, "uses_validation", True) else None,
            pair_set=lambda name: RowPairs("mock/train", _changed(open_pairs("mock/train").rows, held)),
            seed=seed,
            device="cpu",
            artifacts=self.folder / artifacts,
            ranker=lambda name: MockRanker(),
            keep=getattr(benchmark, "keep", RANKED),
            every_class=getattr(benchmark, "every_class", False),
        )

    def _validation(self, benchmark: Benchmark) -> Validation | None:
        if benchmark.validation is None:
            return None
        opened = open_benchmark(benchmark.validation)
        return Validation(_Noted(opened), sorted(opened.samples(Role.VALIDATION), key=lambda sample: sample.id))

    def memory(self, held: Held) -> Memory | None:
        """The memory, built where it is not there."""
        if held == "none":
            return None
        rows = _changed(open_pairs("mock/zero-shot").rows, held)
        built = Memory.build(
            RowPairs(f"mock/{held}", rows), self.store, index=IndexConfig(), root=self.folder / "memories"
        )
        return Memory.open(_emptied(built.folder, self.folder / "memories" / "empty")) if held == "empty" else built


def _changed(rows: Sequence[Pair], held: Held) -> tuple[Pair, ...]:
    """Pairs with what a memory of this kind says of each picture."""
    size = len(CLASSES)
    change: Mapping[str, Callable[[Pair], Pair]] = {
        "relabelled": lambda pair: replace(pair, label=f"m{(int(pair.label[1:]) + 3) % size}"),
        "foreign": lambda pair: replace(pair, label=f"other-{pair.label}"),
    }
    if held == "recaptioned":
        return tuple(
            replace(pair, caption=other.caption) for pair, other in zip(rows, [*rows[5:], *rows[:5]], strict=True)
        )
    return tuple(map(change.get(held, lambda pair: pair), rows))


def _emptied(folder: Path, target: Path) -> Path:
    """The same memory without its pairs."""
    if not target.is_dir():
        target.mkdir(parents=True)
        for name in ARRAYS.values():
            np.save(target / name, np.load(folder / name, allow_pickle=False)[:0])
        pq.write_table(pq.read_table(folder / PAIRS).slice(0, 0), target / PAIRS)
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        manifest["counts"] = dict.fromkeys(manifest["counts"], 0)
        manifest["files"] = {path.name: sha256_file(path) for path in sorted(target.iterdir())}
        (target / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return target


def _tiny_open_clip(folder: Path) -> Path:
    """A CLIP of 2 M parameters with random weights that are the same every time, as open_clip keeps one."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    place = folder / "tiny-clip"
    if not (place / "open_clip_config.json").exists():
        place.mkdir(parents=True, exist_ok=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            save_file(open_clip.CLIP(**_TINY).state_dict(), str(place / "open_clip_model.safetensors"))
        content = json.dumps({"model_cfg": _TINY, "preprocess_cfg": {}})
        (place / "open_clip_config.json").write_text(content, encoding="utf-8")
    return place
