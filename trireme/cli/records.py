"""Commands that read finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trireme.cli.base import OUT_HELP, examples, finish, group

commands = group("")


@commands.command(
    epilog=examples(
        "trireme leaderboard",
        "trireme leaderboard out/quickstart --format csv",
        "trireme leaderboard --format md --save t.md",
        "trireme leaderboard out/quickstart --by benchmark --rank rank",
        "trireme leaderboard --by benchmark --metric top5 --subset rare",
        "trireme leaderboard --where 'benchmark=world/*,method!=knn' --columns cost",
        "trireme leaderboard --role validation --best-of method",
    )
)
def leaderboard(
    folder: Annotated[Path, typer.Argument(help=OUT_HELP)] = Path("out"),
    by: Annotated[
        str | None, typer.Option(help="One table with these as columns: benchmark, subset, encoder or memory.")
    ] = None,
    format: Annotated[str | None, typer.Option(help="terminal (default), csv, md, latex, html or parquet.")] = None,
    save: Annotated[
        Path | None, typer.Option(help="Write to this file instead of printing; its suffix tells the format.")
    ] = None,
    role: Annotated[str, typer.Option(help="test, or validation for runs with role=validation.")] = "test",
    where: Annotated[
        list[str] | None,
        typer.Option(help="Only rows like COLUMN=VALUE, with != < <= > >= too, * in texts, a|b, and commas for 'and'."),
    ] = None,
    rank: Annotated[str, typer.Option(help="With --by: best first by mean score, or rank.")] = "score",
    metric: Annotated[
        str | None, typer.Option(help="With --by: the scores of this metric; of the main one else.")
    ] = None,
    subset: Annotated[str | None, typer.Option(help="With --by: on this subset; on all else.")] = None,
    columns: Annotated[
        list[str] | None, typer.Option(help="Add columns: cost or validity, as often as needed.")
    ] = None,
    best_of: Annotated[
        str | None,
        typer.Option(help="Of all with the same method (encoder, memory ...), the best on validation pictures."),
    ] = None,
    rescore: Annotated[bool, typer.Option(help="Compute all scores anew from the stored predictions.")] = False,
    strict: Annotated[bool, typer.Option(help="Exit with 1 where a run had to be left out.")] = False,
) -> None:
    """Print the table of all finished runs."""
    from trireme.commands.leaderboard import Choice
    from trireme.commands.leaderboard import leaderboard as command

    choice = Choice(role, (), where or (), best_of, columns or (), rank, metric, subset)
    finish(command(folder, by, format, save, choice, strict, rescore))


@commands.command(
    epilog=examples(
        "trireme compare reco zero_shot",
        "trireme compare reco knn --out out/quickstart --benchmark world/all",
        "trireme compare knn-10 knn --subset rare --pictures 20 --save knn.md",
    )
)
def compare(
    first: Annotated[str, typer.Argument(help="A method as the leaderboard names it.")],
    second: Annotated[str, typer.Argument(help="Another method.")],
    out: Annotated[Path, typer.Option(help=OUT_HELP)] = Path("out"),
    metric: Annotated[str | None, typer.Option(help="Compare by this metric; each benchmark's main one else.")] = None,
    subset: Annotated[list[str] | None, typer.Option(help="Only this subset, as often as needed.")] = None,
    benchmark: Annotated[list[str] | None, typer.Option(help="Only this benchmark, as often as needed.")] = None,
    pictures: Annotated[int, typer.Option(help="List so many flipped pictures of each kind.", min=0)] = 5,
    format: Annotated[str | None, typer.Option(help="terminal (default), csv, json or md.")] = None,
    save: Annotated[
        Path | None, typer.Option(help="Write to this file instead of printing; its suffix tells the format.")
    ] = None,
    role: Annotated[str, typer.Option(help="test, or validation for runs with role=validation.")] = "test",
) -> None:
    """Test the difference between two methods.

    On the same samples, with a 95 % interval and a paired test; then where the two disagree: classes gained and lost,
    and the pictures that only one has right.
    """
    from trireme.commands.compare import compare as command

    finish(command(first, second, out, metric, subset or (), benchmark or (), pictures, format, save, role))


@commands.command(
    epilog=examples(
        "trireme report",
        "trireme report out/quickstart --save report.html",
        "trireme report --benchmark world/all --samples 20",
    )
)
def report(
    folder: Annotated[Path, typer.Argument(help=OUT_HELP)] = Path("out"),
    save: Annotated[Path | None, typer.Option(help="The HTML file to write; report.html beside the runs else.")] = None,
    samples: Annotated[int, typer.Option(help="Show so many pictures of each benchmark.", min=0)] = 6,
    seed: Annotated[int, typer.Option(help="Chooses among pictures that are as good as each other.")] = 0,
    benchmark: Annotated[list[str] | None, typer.Option(help="Only this benchmark, as often as needed.")] = None,
    role: Annotated[str, typer.Option(help="test, or validation for runs with role=validation.")] = "test",
) -> None:
    """Write one HTML file about all finished runs.

    Tables that can be sorted, plots, and for some pictures what was retrieved and how it was ranked. It opens without
    a network.
    """
    from trireme.commands.report import report as command

    finish(command(folder, save, samples, seed, role, benchmark or ()))


@commands.command(
    epilog=examples("trireme detections out/runs/knn--world-detection--lite--0--1f3a5c7e9b2d4f60 --out found.json")
)
def detections(
    run: Annotated[Path, typer.Argument(help="Folder of one finished run on a detection benchmark.")],
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = Path("detections.json"),
) -> None:
    """Write what a run found in the results format of COCO and LVIS."""
    from trireme.commands.detections import detections as command

    finish(command(run, out))
