"""What tests of REACT's training share: coloured discs and a tiny open_clip model, also for other processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from trireme.methods import checkpoints
from trireme.methods.base import Context, Validation
from trireme.methods.react import trainer
from trireme.methods.react.artifacts import Artifact
from trireme.methods.react.config import ReactConfig
from trireme.methods.react.distributed import process_group, rank
from trireme.methods.react.retrieve import RetrievedSet
from trireme.methods.react.steps import Stepper
from trireme.methods.react.towers import Tower, make_tower
from trireme.methods.react.trainer import Judge, Trainer
from trireme.retrieval.encoders.openclip import OpenClipConfig, OpenClipEncoder
from trireme.retrieval.index import IndexConfig
from trireme.retrieval.memory import Memory
from trireme.retrieval.store import EmbeddingStore
from trireme.types import ImageRef, Pair, PairSet, Sample

from .conftest import COLOURS, NAMES, TEMPLATES, draw
from .synthetic import Pairs, VectorBenchmark

ROOT = Path(__file__).resolve().parent.parent.parent
QUICK: dict[str, Any] = {
    "k": 20,
    "across_classes": True,
    "epochs": 2,
    "batch": 8,
    "lr": 1e-3,
    "warmup": 0.0,
    "precision": "float32",
}
"""A training on the twenty pairs of a disc memory: two epochs of two steps."""


def recipe(**options: Any) -> ReactConfig:
    """`QUICK` with some options changed."""
    return ReactConfig(**{**QUICK, **options})


def discs(folder: Path, name: str, each: int) -> list[Pair]:
    """`each` pictures of each of five colours with captions, drawn where they are absent."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    pairs = []
    for c, colour in enumerate(COLOURS):
        for i in range(each):
            path = folder / name / f"{c}-{i}.png"
            if not path.exists():
                draw(path, colour, 1000 * c + i + 10_000 * sum(map(ord, name)))
            ref, caption = ImageRef(str(path)), f"{NAMES[c]}: number {i}, of set {name}"
            pairs.append(Pair(f"{name}/{c}-{i}", ref, caption, f"class-{c}", name))
    return pairs


def disc_context(clip_folder: Path, folder: Path, validate: bool = True, **encoder: Any) -> Context:
    """Twenty memory pairs and, with `validate`, ten validation pictures; everything lies under `folder`."""
    made = OpenClipEncoder(OpenClipConfig(model=f"local-dir:{clip_folder}", device="cpu", **encoder))
    store = EmbeddingStore(made, folder / "embeddings", batch_size=8, workers=1)
    pairs = Pairs("discs/memory", discs(folder, "memory", 4))
    samples = [Sample(p.id, p.image, int(p.label[-1])) for p in discs(folder, "validation", 2)]
    benchmark = VectorBenchmark(
        samples,
        name="discs/validation",
        class_ids=tuple(f"class-{c}" for c in range(5)),
        class_names=NAMES,
        class_groups=("known",) * 3 + ("unknown",) * 2,
        templates=TEMPLATES,
    )
    sets: dict[str, PairSet] = {"discs/train": Pairs("discs/train", discs(folder, "train", 2))}
    return Context(
        encoder=made,
        store=store,
        memory=Memory.build(pairs, store, index=IndexConfig(), root=folder / "memories"),
        class_ids=benchmark.class_ids,
        class_names=benchmark.class_names,
        templates=benchmark.templates,
        validation=Validation(benchmark, samples) if validate else None,
        pair_set=sets.__getitem__,
        seed=0,
        device="cpu",
        artifacts=folder / "trained",
    )


def tower_of(context: Context, config: ReactConfig, rows: Sequence[int] | None = None) -> Tower:
    """The trainable copy of the context's encoder for some pairs of its memory, all unless given."""
    memory = context.memory
    assert memory is not None
    chosen = np.arange(len(memory)) if rows is None else np.array(rows, dtype=np.int64)
    return make_tower(
        context.encoder, config, memory.refs(chosen), memory.captions(chosen), context.store, context.seed
    )


def customise(context: Context, **options: Any) -> Artifact:
    """Retrieve and train with `QUICK` and these options."""
    return Trainer(context, recipe(**options)).run()[0]


def same_tensors(one: Path | dict[str, Tensor], other: Path | dict[str, Tensor]) -> None:
    """Equal names and equal bits."""
    first, second = (load_file(part) if isinstance(part, Path) else part for part in (one, other))
    assert first.keys() == second.keys()
    assert first
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def apart(
    clip_folder: Path,
    context: Context,
    *options: dict[str, Any],
    processes: int = 1,
    pause: float = 0.0,
    contrary: str = "",
) -> subprocess.Popen[str]:
    """`customise` with each of the options in a process of its own, or in several under torchrun; see `main`.

    Args:
        context: of `disc_context`; the other process makes its own from the same files.
        pause: seconds of extra work a step, so that there is time to kill it.
        contrary: what the processes do not agree on, of `CONTRARY`.
    """
    assert context.memory is not None
    folder = context.memory.folder.parent.parent
    launcher = ["torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m"]
    return subprocess.Popen(
        [
            *(sys.executable, "-m", *(launcher if processes > 1 else []), "tests.methods.customising"),
            *(str(clip_folder), str(folder), context.artifacts.name, json.dumps(options), str(pause), contrary),
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class PowerCutError(Exception):
    """Stands for whatever stops a process between two steps."""


def power_cut(step: int) -> Callable[..., None]:
    """Instead of `Stepper.update`: the process ends within that step, from 1."""
    update, number = Stepper.update, count(1)

    def cut(self: Stepper, optimiser: torch.optim.Optimizer, factor: float) -> None:
        if next(number) == step:
            raise PowerCutError
        update(self, optimiser, factor)

    return cut


def contrary_scores() -> None:
    """Scores on validation that rise by a point with every measurement in the first process, and fall in the others."""
    number = count(1)

    def scores(*_: object) -> dict[str, float]:
        points = next(number) if rank() == 0 else -next(number)
        return dict.fromkeys(("all", "known", "unknown"), 50.0 + points)

    Judge._scores = scores  # type: ignore[method-assign]


def contrary_checkpoints() -> None:
    """No process but the first one finds the checkpoint."""
    load = checkpoints.load
    checkpoints.load = lambda path: load(path) if rank() == 0 else None


def contrary_pairs() -> None:
    """No process but the first one retrieves all pairs."""
    found = trainer.retrieve

    def retrieve(context: Context, config: ReactConfig) -> RetrievedSet:
        return found(context, config if rank() == 0 else replace(config, k=2))

    trainer.retrieve = retrieve


CONTRARY: dict[str, Callable[[], None]] = {
    "": lambda: None,
    "scores": contrary_scores,
    "checkpoints": contrary_checkpoints,
    "pairs": contrary_pairs,
}


def main(clip_folder: str, folder: str, artifacts: str, options: str, pause: str, contrary: str) -> None:
    """What `apart` runs; prints the rank and the name of every artifact."""
    torch.set_num_threads(1)
    step = Stepper.update

    def slow(self: Stepper, optimiser: torch.optim.Optimizer, factor: float) -> None:
        time.sleep(float(pause))
        step(self, optimiser, factor)

    Stepper.update = slow  # type: ignore[method-assign]
    CONTRARY[contrary]()
    with process_group():
        context = disc_context(Path(clip_folder), Path(folder))
        context.artifacts = Path(folder) / artifacts
        for chosen in json.loads(options):
            line = f"{rank()} {customise(context, **chosen).name}\n"
            os.write(sys.stdout.fileno(), line.encode())  # at once: the processes share one pipe


if __name__ == "__main__":
    main(*sys.argv[1:])
