"""`trireme train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trireme.cli.base import examples, finish, group

train = group("Train an encoder or a method's parts.")


@train.command("lite", epilog=examples("trireme train lite --out weights", "trireme train lite epochs=20 seed=1"))
def train_lite(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", show_default=False)] = None,
    out: Annotated[Path, typer.Option(help="Folder for the weights and the record of the run.")] = Path("out/lite"),
) -> None:
    """Train the `lite` encoder's head.

    On common classes and training-role art only. `trireme run encoder.weights=FOLDER/lite.safetensors` uses the result.
    """
    from trireme.commands.train import lite as command

    finish(command(arguments or [], out))


@train.command("reco", epilog=examples("trireme train reco", "trireme train reco method.reco.k=16 seed=1"))
def train_reco(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", show_default=False)] = None,
) -> None:
    """Train RECO's fusion and keep it; `trireme run method=reco` with the same settings finds it there."""
    from trireme.commands.train import reco as command

    finish(command(arguments or []))


@train.command(
    "react",
    epilog=examples(
        "trireme train react",
        "trireme train react method=react-locked-text benchmark=world/food --out food.safetensors",
        "torchrun --nproc_per_node 8 -m trireme train react method=react-paper encoder=open_clip ...",
    ),
)
def train_react(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="Also copy the customised encoder to this file.")] = None,
    official: Annotated[
        Path | None, typer.Option(help="Also write the whole model with the key names of the released checkpoints.")
    ] = None,
) -> None:
    """Customise an encoder on the pairs that a benchmark's class names retrieve.

    Goes on where a killed training stopped. `encoder.react=FILE` uses the result; `trireme run method=react` with the
    same settings finds it.
    """
    from trireme.commands.train import react as command

    finish(command(arguments or [], out, official))


@train.command(
    "ranker",
    epilog=examples(
        "trireme train ranker lite --out out/lite-ranker",
        "trireme train ranker lite-support --out out/lite-support steps=600",
        "trireme train ranker --out out/mine model=llava-hf/llava-1.5-7b-hf pairs=[csv:cars.csv] memory=csv:cars.csv",
    ),
)
def train_ranker(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[NAME] KEY=VALUE...", show_default=False)] = None,
    out: Annotated[Path, typer.Option(help="Folder for the trained parts and their record.")] = Path("out/ranker"),
    merged: Annotated[
        Path | None, typer.Option(help="Also write the whole model, LoRA merged, to this folder.")
    ] = None,
) -> None:
    """Train a multimodal model to rank candidates, as RAR does: LoRA on windows of retrieved neighbours.

    NAME is one of the rankers that ship (lite, lite-support); without it, model= says what is trained. encoder= and
    memory= (world) find the neighbours. Goes on where a killed training stopped.
    """
    from trireme.commands.ranker import train as command

    given = list(arguments or [])
    name = given.pop(0) if given and "=" not in given[0] else ""
    finish(command(name, given, out, merged))
