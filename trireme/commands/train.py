"""`trireme train`: the parts that are trained once and used by every later run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trireme.config import Named, find
from trireme.errors import UsageError
from trireme.files import atomic_file
from trireme.progress import say
from trireme.registry import open_benchmark, open_pairs
from trireme.request import Request, parse


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
    for _ in _fitted("reco", arguments):
        pass
    return 0


def react(arguments: Sequence[str], out: Path | None, official: Path | None) -> int:
    """Customise an encoder and print where it is. Under `torchrun`, all processes train together.

    Args:
        out: gets a copy.
        official: gets the whole model with the key names of the released checkpoints; open_clip encoders only.
    """
    from trireme.methods.react.distributed import process_group, rank

    _check_react(_request("react", arguments), out, official)
    with process_group():
        for method in _fitted("react", arguments):
            if rank() != 0:
                continue
            file: Path = method.encoder_file
            if out is not None:
                with atomic_file(out) as part:
                    shutil.copyfile(file, part)
                file = out
            if official is not None:
                _export(method.encoder, official)
            say(f"customised encoder: {method.encoder_file}, beside it what was retrieved")
            say(f"use it with encoder.react={file}")
    return 0


def _check_react(request: Request, out: Path | None, official: Path | None) -> None:
    """Refuse before anything is trained."""
    for name in request.methods:
        if find("method", name).target != "react":
            raise UsageError(f"method '{name}' customises no encoder; see the methods react* of `trireme ls methods`")
    many = len(request.methods) * len(request.benchmarks) * len(request.encoders) * len(request.seeds) > 1
    for option, path in (("--out", out), ("--official", official)):
        if path is not None and many:
            raise UsageError(f"{option} takes one encoder; ask for one method, benchmark, encoder and seed")
        if path is not None and path.is_dir():
            raise UsageError(f"{option} {path} is a folder; give a file")
    if official is None:
        return
    if official.suffix not in (".pt", ".bin"):
        raise UsageError(f"official checkpoints end in .pt or .bin; rename --official {official}")
    for name in request.encoders:
        if find("encoder", name).target != "open_clip":
            raise UsageError(f"official key names are those of open_clip models, {name} is none; drop --official")


def _export(encoder: Any, path: Path) -> None:
    from trireme.retrieval.encoders.official import export_official

    export_official(encoder.model, path)
    say(f"wrote {path} with the official key names")


def _fitted(method: str, arguments: Sequence[str]) -> Iterator[Any]:
    """Fit what the arguments ask for, by default `method` on the whole world; print each one's facts."""
    from trireme.runner import fit_plan

    for run, fitted in fit_plan(_request(method, arguments)):
        if int(os.environ.get("RANK", "0")) == 0:
            say(f"{run}:")
            print(json.dumps(fitted.facts(), indent=2, ensure_ascii=False, default=str))
        yield fitted


def _request(method: str, arguments: Sequence[str]) -> Request:
    given = {argument.partition("=")[0] for argument in arguments}
    defaults = {"method": method, "benchmark": "world/all"}
    return parse([*(f"{key}={value}" for key, value in defaults.items() if key not in given), *arguments])
