"""What every declaration of a command shares."""

from __future__ import annotations

import typer

OUT_HELP = "Folder of the run records, as given to `trireme run out=`."


def group(text: str) -> typer.Typer:
    """Commands that share a line of help."""
    return typer.Typer(
        help=text,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def examples(*lines: str) -> str:
    """The end of a command's help: command lines, which the tests check (tests/test_docs.py)."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def finish(code: int) -> None:
    """End a command with an exit code."""
    if code:
        raise typer.Exit(code)
