"""What there is, and whether this machine can run it."""

from __future__ import annotations

from typing import Annotated

import typer

from trireme.cli.base import examples, finish, group

commands = group("")


@commands.command(epilog=examples("trireme ls methods", "trireme ls benchmarks"))
def ls(
    kind: Annotated[
        str, typer.Argument(help="methods, benchmarks, encoders, memories, rankers, suites or paper.")
    ] = "",
) -> None:
    """List names; all kinds where none is given.

    What another distribution brings has its name and version in brackets.
    """
    from trireme.commands.names import ls as command

    finish(command(kind))


@commands.command(epilog=examples("trireme show reco", "trireme show world/food"))
def show(name: Annotated[str, typer.Argument(help="Any name that `trireme ls` prints.")]) -> None:
    """Print what a name stands for."""
    from trireme.commands.names import show as command

    finish(command(name))


@commands.command(epilog=examples("trireme doctor"))
def doctor() -> None:
    """Check this machine.

    Packages, downloads, data, weights, disk space. Exits with 1 where something needed is missing.
    """
    from trireme.commands.doctor import doctor as command

    finish(command())
