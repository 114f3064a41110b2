"""`trireme train ranker`: gather labelled pictures and their neighbours, and train a ranker on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trireme.compose import resolve
from trireme.config import Named
from trireme.errors import DataError, UsageError, unknown_name
from trireme.methods.rankers.training.train import Material, TrainRankerConfig, train_ranker
from trireme.methods.support import support
from trireme.progress import say
from trireme.request import parse_parts
from trireme.types import Benchmark, Ints, Pair
from trireme.workbench import Workbench

_LITE: Mapping[str, Any] = {
    "model": "lite",
    "lessons": "names",
    "augment": True,
    "r": 16,
    "alpha": 32,
    "dropout": 0.0,
    "layers": 15,
    "steps": 150,
    "lr": 1e-3,
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "lite": {**_LITE, "pairs": ["world/train-common"]},
    "lite-support": {**_LITE, "pairs": ["world/train-common", "world/memory"], "steps": 400},
}
"""The two rankers that ship, by what they learned from: common classes only, or the memory pictures of all classes."""
_BENCH_KEYS = ("encoder", "memory", "device", "dtype", "workers")


def train(preset: str, arguments: Sequence[str], out: Path, merged: Path | None) -> int:
    """Train the ranker `preset`, or one of your own where it is ""; print how it is used."""
    if preset and preset not in PRESETS:
        raise unknown_name("ranker to train", preset, PRESETS)
    own = [argument for argument in arguments if argument.partition("=")[0].partition(".")[0] not in _BENCH_KEYS]
    config = _config(preset, [*own, *(argument for argument in arguments if argument.startswith("device="))])
    bench = Workbench(parse_parts([a for a in arguments if a not in own]))
    found = train_ranker(config, _material(config, bench), out, preset or "ranker", merged)
    option = "model" if config.model == "lite" else "adapter"
    say(f"use it with ranker.{option}={found}" + (f" ranker.model={config.model}" if option == "adapter" else ""))
    return 0


def _config(preset: str, arguments: Sequence[str]) -> TrainRankerConfig:
    overrides: dict[str, Any] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise UsageError(f"'{argument}' is not key=value, such as steps=500")
        overrides[key] = value
    fields = dict(PRESETS.get(preset, {}))
    config: TrainRankerConfig = resolve(
        Named("train ranker", preset, "", "", fields, None), TrainRankerConfig, overrides
    ).config
    return config


def _material(config: TrainRankerConfig, bench: Workbench) -> Material:
    """Labelled pictures and, for ranking lessons, the classes of each one's neighbours in the memory, itself left out.

    Raises:
        DataError: a picture of the benchmark among the pairs, or no labelled picture.
    """
    benchmark = bench.benchmark(config.benchmark)
    for name in config.pairs:
        bench.check_training(name, config.benchmark)
    pairs = _labelled(config, bench, benchmark)
    index = {class_id: i for i, class_id in enumerate(benchmark.class_ids)}
    sources: dict[str, Any] = {
        "pairs": [bench.pair_set_facts(name) for name in config.pairs],
        "pictures": len(pairs),
        "classes": len({pair.label for pair in pairs}),
        "benchmark": config.benchmark,
    }
    neighbours = np.full((len(pairs), 0), -1, dtype=np.int64)
    if config.lessons != "names":
        neighbours, found = _neighbours(config, bench, benchmark, pairs)
        sources |= found
    refs, labels = [pair.image for pair in pairs], [index[pair.label] for pair in pairs]
    return Material(refs, labels, neighbours, benchmark.class_names, sources)


def _neighbours(
    config: TrainRankerConfig, bench: Workbench, benchmark: Benchmark, pairs: Sequence[Pair]
) -> tuple[Ints, dict[str, Any]]:
    """(n, k) class indices of each picture's nearest labelled memory pictures, and what was searched."""
    encoder, name = bench.request.encoders[0], (bench.request.memories or ("world",))[0]
    store, memory = bench.encoder(encoder).store, bench.memory(name, encoder, config.benchmark, config.seed)
    held = support(memory.labels, benchmark.class_ids, benchmark.class_names)
    queries = store.images([pair.image for pair in pairs])
    own = [{pair.id} for pair in pairs]
    hits = memory.search(queries, "image", config.neighbours, exclude=own, allowed=held.allowed)
    facts = {"memory": memory.fingerprint, "encoder": store.encoder.fingerprint}
    return np.where(hits.rows >= 0, held.labels[hits.rows], -1), facts


def _labelled(config: TrainRankerConfig, bench: Workbench, benchmark: Benchmark) -> list[Pair]:
    known = set(benchmark.class_ids)
    found = {p.id: p for name in config.pairs for p in bench.pair_set(name).pairs() if p.label in known}
    if not found:
        raise DataError(f"no picture of {', '.join(config.pairs)} has a label of {config.benchmark}")
    return [found[key] for key in sorted(found)]
