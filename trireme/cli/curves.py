"""The command that shows what calls of an expensive method buy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trireme.cli.base import examples, finish, group

commands = group("")


@commands.command(
    epilog=examples(
        "trireme curve out/runs/cascade--world-all--lite--0--1f3a5c7e9b2d4f60",
        "trireme curve out/runs/cascade--world-all--lite--0--1f3a5c7e9b2d4f60 --save curve.csv",
    )
)
def curve(
    run: Annotated[Path, typer.Argument(help="Folder of one finished run of cascade.")],
    save: Annotated[Path | None, typer.Option(help="Write it to this file as CSV instead of printing.")] = None,
) -> None:
    """Show a cascade's accuracy by the share of pictures that its expensive method was asked about."""
    from trireme.commands.curve import curve as command

    finish(command(run, save))
