"""`trireme train`: the parts that are trained once and used by every later run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from trireme.config import Named
from trireme.errors import UsageError
from trireme.progress import say
from trireme.registry import open_benchmark, open_pairs
from trireme.request import parse


def lite(arguments: Sequence[str], out: Path) -> int:
    """Train the head of the `lite` encoder on common classes; `KEY=VALUE` changes one setting of the training."""
    from trireme.compose import resolve
    from trireme.retrieval.encoders.lite.training import TrainLiteConfig, train

    overrides = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise UsageError(f"'{argument}' is not key=value, such as epochs=20")
        overrides[key] = value
    chosen = resolve(Named("train lite", "lite", "", "", {}, None), TrainLiteConfig, overrides)
    pictures, memory = open_pairs("world/train-common"), open_pairs("world/memory")
    train(chosen.config, pictures, open_benchmark("world/validation"), out, memory)
    return 0


def reco(arguments: Sequence[str]) -> int:
    """Fit RECO without predicting anything, and print what was trained."""
    given = {argument.partition("=")[0] for argument in arguments}
    defaults = {"method": "reco", "benchmark": "world/all"}
    request = parse([*(f"{key}={value}" for key, value in defaults.items() if key not in given), *arguments])
    from trireme.runner import fit_plan

    for run, facts in fit_plan(request):
        say(f"{run}:")
        print(json.dumps(facts, indent=2, ensure_ascii=False, default=str))
    return 0
