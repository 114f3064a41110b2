"""`trireme data` and `trireme memory`."""

from __future__ import annotations

from typing import Annotated

import typer

from trireme.cli.base import examples, finish, group

data = group("What of the data sets is here, and how to bring the rest.")
memory = group("Build, inspect and search memories.")


@data.command("status", epilog=examples("trireme data status", "trireme data status aircraft"))
def data_status(name: Annotated[str, typer.Argument(help="One data set, with its counts checked.")] = "") -> None:
    """What of each data set is on this machine, and how to bring the rest."""
    from trireme.commands.data import status as command

    finish(command(name))


@data.command(
    "prepare",
    epilog=examples(
        "trireme data prepare world",
        "trireme data prepare world --verify",
        "trireme data prepare pets from=images.tar.gz,annotations.tar.gz",
    ),
)
def data_prepare(
    name: Annotated[str, typer.Argument(help="The data set, see `trireme data status`.")] = "world",
    arguments: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", show_default=False)] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Compare the checksum of every picture too.")] = False,
) -> None:
    """Fetch, verify and prepare the world; goes on where an earlier call stopped.

    Published sets are not downloaded: from=FILE,... extracts their official archives where `trireme data status NAME`
    says, then everything is counted.
    """
    from trireme.commands.data import prepare as command

    finish(command(name, arguments or [], verify))


@memory.command(
    "build", epilog=examples("trireme memory build world", "trireme memory build folder:photos encoder=lite")
)
def memory_build(
    name: Annotated[str, typer.Argument(help="A memory's name, or folder:PATH, csv:PATH, parquet:PATH.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", show_default=False)] = None,
) -> None:
    """Build a memory, or open it where it exists.

    Takes encoder= encoder.FIELD= memory.FIELD= device= dtype= workers=.
    """
    from trireme.commands.memory import build as command

    finish(command(name, arguments or []))


@memory.command("inspect", epilog=examples("trireme memory inspect world"))
def memory_inspect(
    name: Annotated[str, typer.Argument(help="A memory's name, or the folder of a built one.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", show_default=False)] = None,
) -> None:
    """Print a memory's manifest and what it holds by source and label."""
    from trireme.commands.memory import inspect as command

    finish(command(name, arguments or []))


@memory.command(
    "search",
    epilog=examples(
        'trireme memory search "a red fruit"',
        'trireme memory search "a red fruit" --side image',
        "trireme memory search photo.png",
    ),
)
def memory_search(
    query: Annotated[str, typer.Argument(help="A text, or the path of a picture.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", show_default=False)] = None,
    side: Annotated[str, typer.Option(help="Search pictures (image) or captions (text).")] = "image",
    k: Annotated[int, typer.Option(min=1, help="How many pairs to show.")] = 5,
) -> None:
    """The pairs nearest to a text or a picture. Takes memory= (world) encoder= (lite) and their settings."""
    from trireme.commands.memory import search as command

    finish(command(query, arguments or [], side, k))
