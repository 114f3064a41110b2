"""The command line. These files only declare the commands; what they do is imported when one is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from trireme import __version__
from trireme.cli import curves, names, plugins, records, reproducing, running
from trireme.cli.base import group
from trireme.cli.exporting import export
from trireme.cli.stores import data, memory
from trireme.cli.training import train
from trireme.environment import keep_freed_memory
from trireme.errors import unknown_name
from trireme.faults import describe
from trireme.progress import say

app = group("Trireme: RECO, REACT and RAR compared over one shared memory, on the same pictures.")
for part in (running, records, curves, reproducing, names, plugins):
    app.registered_commands += part.commands.registered_commands
app.add_typer(data, name="data")
app.add_typer(memory, name="memory")
app.add_typer(train, name="train")
app.add_typer(export, name="export")


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(f"trireme {__version__}")
        raise typer.Exit


def _commands() -> dict[str, dict[str, None]]:
    """Command -> its subcommands, from the declarations above."""

    def named(one: typer.Typer) -> list[str]:
        return [c.name or (c.callback.__name__ if c.callback else "") for c in one.registered_commands]

    tree: dict[str, dict[str, None]] = {name: {} for name in named(app)}
    for inner in app.registered_groups:
        assert inner.name is not None
        assert inner.typer_instance is not None
        tree[inner.name] = dict.fromkeys(named(inner.typer_instance))
    return tree


def _check_names(arguments: Sequence[str]) -> Sequence[str]:
    """The arguments, with --help added to a group that lacks its command.

    Raises:
        UsageError: an unknown command; names the nearest.
    """
    tree = _commands()
    if not arguments:
        return ["--help"]
    if arguments[0].startswith("-"):
        return arguments
    if arguments[0] not in tree:
        raise unknown_name("command", arguments[0], tree)
    inner = tree[arguments[0]]
    if inner and len(arguments) > 1 and not arguments[1].startswith("-") and arguments[1] not in inner:
        raise unknown_name(f"{arguments[0]} command", arguments[1], inner)
    return [*arguments, "--help"] if inner and len(arguments) == 1 else arguments


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong request, 130 interrupted."""
    # threads that spin while they wait make torch ten times slower where another process wants the cores; torch's
    # OpenMP reads this when it loads
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    keep_freed_memory()
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = os.environ.get("TRIREME_DEBUG", "") not in ("", "0") or "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    try:
        code = app(_check_names(given), prog_name="trireme", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader is gone; nothing left to say
        return 1
    except Exception as error:
        if debug:
            raise
        line, code = describe(error)
        say(f"error: {line}")
    if code == 130:
        say("interrupted; run the same command again to go on")
    return code if isinstance(code, int) else 0
