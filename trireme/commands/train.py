"""`trireme train`: the parts that are trained once and used by every later run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from trireme.progress import say
from trireme.request import parse


def lite(out: Path | None) -> int:
    """Train the `lite` encoder's weights."""
    from trireme.retrieval.encoders.lite.training import train

    train(out)
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
