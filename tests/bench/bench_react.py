"""Seconds a step and peak memory of REACT's variants on open_clip's ViT-B-32 (random weights), side by side."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from typing import Any

BATCH, STEPS = 32, 4
VARIANTS = ("gated_image", "locked_text", "full")


def bench_react_steps() -> list[dict[str, Any]]:
    """Each variant in a process of its own, so that its peak memory is its own; the baseline is full tuning."""
    found = {}
    for variant in VARIANTS:
        command = [sys.executable, "-m", "tests.bench.bench_react", variant]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[variant] = json.loads(answer.splitlines()[-1])
    full = found["full"]
    return [
        {
            "what": f"REACT step, ViT-B-32 224 px, {variant}, batch {BATCH}, float32",
            "trained parameters (M)": one["parameters"] / 1e6,
            "seconds a step": one["seconds"],
            "ratio to full": one["seconds"] / full["seconds"],
            "peak MiB": one["peak_mib"],
            "peak ratio to full": one["peak_mib"] / full["peak_mib"],
        }
        for variant, one in found.items()
    ]


def measure(variant: str) -> dict[str, float]:
    """Steps as a training makes them: pictures read and augmented, forward, backward, AdamW."""
    import numpy as np
    import torch

    from trireme.environment import peak_memory_mib
    from trireme.methods.react.config import ReactConfig
    from trireme.methods.react.openclip import OpenClipTower
    from trireme.methods.react.steps import Stepper, optimiser_of
    from trireme.registry import open_pairs
    from trireme.retrieval.encoders.openclip import OpenClipEncoder
    from trireme.retrieval.encoders.openclip_source import OpenClipConfig
    from trireme.retrieval.store import EmbeddingStore

    encoder = OpenClipEncoder(OpenClipConfig(model="ViT-B-32", random=True))
    config = ReactConfig(variant=variant, batch=BATCH, precision="float32")
    pairs = open_pairs("world/train").pairs()[:BATCH]
    refs, captions = [pair.image for pair in pairs], [pair.caption for pair in pairs]
    tower = OpenClipTower(encoder, config, refs, captions, EmbeddingStore(encoder), seed=0)
    device = torch.device("cpu")
    stepper, optimiser = Stepper(tower, config, device, "float32", 0), optimiser_of(tower.trainable, config, device)
    seconds = []
    for step in range(STEPS):
        start = time.perf_counter()
        for inputs in tower.feed([[np.arange(BATCH)]], epoch=step):
            stepper.backward(inputs, step)
            stepper.update(optimiser, 1.0)
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": statistics.median(seconds[1:]),  # the first one also allocates
        "peak_mib": peak_memory_mib(),
        "parameters": sum(value.numel() for value in tower.trainable.values()),
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
