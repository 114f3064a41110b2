"""`trireme reproduce`: published tables beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trireme.cli.base import OUT_HELP, examples, finish, group

commands = group("")


@commands.command(
    epilog=examples(
        "trireme reproduce --list",
        "trireme reproduce rar/table2 --where method=knn --out out/rar",
        "trireme reproduce rar/table2 --where row='4-shot CLIP+KNN' device=cuda encoder.pretrained=ViT-B-16.pt",
        "trireme reproduce react/imagenet --collect --out out --format csv",
        "trireme reproduce world/methods --out out/quickstart",
    )
)
def reproduce(
    name: Annotated[str, typer.Argument(help="PAPER or PAPER/TABLE, see `trireme ls paper`.")] = "",
    arguments: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", show_default=False)] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="List the tables and what of them can be computed here.")
    ] = False,
    out: Annotated[Path, typer.Option(help=OUT_HELP)] = Path("out"),
    where: Annotated[
        list[str] | None,
        typer.Option(help="Only these cells: KEY=VALUE,...; KEY is row, column, tier, method, benchmark, memory ..."),
    ] = None,
    collect: Annotated[
        bool, typer.Option("--collect", help="Compute nothing, read the finished runs of --out.")
    ] = False,
    format: Annotated[str, typer.Option(help="terminal, md, latex, html, csv or json.")] = "terminal",
    tables: Annotated[Path | None, typer.Option(help="A file of tables of your own, in the form of ours.")] = None,
    expect: Annotated[
        Path | None, typer.Option(help="Write what was found to this file, as the results to expect from now on.")
    ] = None,
) -> None:
    """Compute a published table and say which of its numbers come out.

    Prints paper, ours, difference, interval and a verdict for each cell. Exits with 0 where all that was compared is
    reproduced, 1 where some is off or a run failed (and of our own results, where one is missing or made from other
    inputs), 3 where nothing could be compared. KEY=VALUE may say device=, workers=, batch_size=, and where
    weights lie (encoder.pretrained=FILE, ranker.FIELD=VALUE).
    """
    from trireme.commands import reproduce as command
    from trireme.commands.reproduce_text import check_format
    from trireme.errors import UsageError

    check_format(format)
    if list_:
        finish(command.list_tables(name, arguments or [], format, tables))
        return
    if not name:
        raise UsageError(
            "name a table, such as `trireme reproduce rar/table2`; `trireme reproduce --list` has them all"
        )
    finish(command.reproduce(name, arguments or [], out, where or [], collect, format, tables, expect))
