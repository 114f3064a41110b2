"""The command line. This file only declares the commands; what they do is imported when one is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from trireme import __version__
from trireme.environment import keep_freed_memory
from trireme.errors import unknown_name
from trireme.faults import describe
from trireme.progress import say

OUT_HELP = "Folder of the run records, as given to `trireme run out=`."


def _group(text: str) -> typer.Typer:
    return typer.Typer(
        help=text,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


app = _group("Trireme: RECO, REACT and RAR compared over one shared memory, on the same pictures.")
data = _group("What of the data sets is here, and how to bring the rest.")
memory = _group("Build, inspect and search memories.")
train = _group("Train an encoder or a method's parts.")
app.add_typer(data, name="data")
app.add_typer(memory, name="memory")
app.add_typer(train, name="train")


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(f"trireme {__version__}")
        raise typer.Exit


@app.command(
    epilog=_examples(
        "trireme run suite=world",
        "trireme run method=knn,reco benchmark=world/food,world/animals seed=0,1,2",
        "trireme run method=reco benchmark=world/all method.reco.k=16 encoder=lite memory=world memory.index=hnsw",
        "trireme run method=zero_shot,knn benchmark=folder:photos/test memory=folder:photos/train",
        "trireme run method=knn,reco benchmark=world/all memory=world@1,world@2,world@4 seed=0,1,2,3,4",
        "trireme run method=zero_shot benchmark=csv:cars.csv encoder=open_clip encoder.model=ViT-B-32",
        "trireme run method=rar-list benchmark=csv:cars.csv memory=csv:cars.csv ranker.model=llava-hf/llava-1.5-7b-hf",
    )
)
def run(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", show_default=False)] = None,
) -> None:
    """Compare methods on benchmarks; finished runs are not computed again.

    A run is method x benchmark x encoder x memory x seed; every combination asked for is computed.

    \b
    Keys:
      suite=NAME             a named set of benchmarks and methods; the keys below replace its lists
      method=NAME,...        see `trireme ls methods`; method.NAME.FIELD=VALUE changes one setting
      benchmark=NAME,...     see `trireme ls benchmarks`; folder:PATH, csv:PATH and the like are yours;
                             benchmark.KEY=VALUE gives an option, such as benchmark.label=COLUMN
      encoder=NAME,...       lite by default; encoder.FIELD=VALUE changes one setting
      memory=NAME,...        see `trireme ls memories`; folder:PATH, csv:PATH and the like are yours; none;
                             NAME@N draws N pictures a class with the run's seed, memory.draw=RULE says how
      ranker.FIELD=VALUE     of the multimodal models that rar asks, see `trireme ls rankers`
      seed=N,...             0 by default
      role=validation        score validation pictures instead of test pictures
      out=FOLDER             where run records go (out)
      device= dtype=         where and how the encoder computes (auto, float32)
      batch_size= workers=   samples per stored batch, threads that read pictures; no result depends on them
    """
    from trireme.commands.run import run as command

    _finish(command(arguments or []))


@app.command(
    epilog=_examples(
        "trireme leaderboard",
        "trireme leaderboard out/quickstart --format csv",
        "trireme leaderboard --format md --save t.md",
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
) -> None:
    """Print the table of all finished runs."""
    from trireme.commands.leaderboard import leaderboard as command

    _finish(command(folder, by, format, save, role))


@app.command(epilog=_examples("trireme compare reco zero_shot", "trireme compare reco knn --out out/quickstart"))
def compare(
    first: Annotated[str, typer.Argument(help="A method as the leaderboard names it.")],
    second: Annotated[str, typer.Argument(help="Another method.")],
    out: Annotated[Path, typer.Option(help=OUT_HELP)] = Path("out"),
) -> None:
    """Test the difference between two methods.

    On the same samples, with a 95 % interval and a paired test.
    """
    from trireme.commands.compare import compare as command

    _finish(command(first, second, out))


@app.command(
    epilog=_examples("trireme detections out/runs/knn--world-detection--lite--0--1f3a5c7e9b2d4f60 --out found.json")
)
def detections(
    run: Annotated[Path, typer.Argument(help="Folder of one finished run on a detection benchmark.")],
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = Path("detections.json"),
) -> None:
    """Write what a run found in the results format of COCO and LVIS."""
    from trireme.commands.detections import detections as command

    _finish(command(run, out))


@app.command(epilog=_examples("trireme ls methods", "trireme ls benchmarks"))
def ls(
    kind: Annotated[str, typer.Argument(help="methods, benchmarks, encoders, memories, rankers or suites.")] = "",
) -> None:
    """List names; all kinds where none is given."""
    from trireme.commands.names import ls as command

    _finish(command(kind))


@app.command(epilog=_examples("trireme show reco", "trireme show world/food"))
def show(name: Annotated[str, typer.Argument(help="Any name that `trireme ls` prints.")]) -> None:
    """Print what a name stands for."""
    from trireme.commands.names import show as command

    _finish(command(name))


@app.command(epilog=_examples("trireme doctor"))
def doctor() -> None:
    """Check this machine.

    Packages, downloads, data, weights, disk space. Exits with 1 where something needed is missing.
    """
    from trireme.commands.doctor import doctor as command

    _finish(command())


@data.command("status", epilog=_examples("trireme data status", "trireme data status aircraft"))
def data_status(name: Annotated[str, typer.Argument(help="One data set, with its counts checked.")] = "") -> None:
    """What of each data set is on this machine, and how to bring the rest."""
    from trireme.commands.data import status as command

    _finish(command(name))


@data.command(
    "prepare",
    epilog=_examples(
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

    _finish(command(name, arguments or [], verify))


@memory.command(
    "build", epilog=_examples("trireme memory build world", "trireme memory build folder:photos encoder=lite")
)
def memory_build(
    name: Annotated[str, typer.Argument(help="A memory's name, or folder:PATH, csv:PATH, parquet:PATH.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", show_default=False)] = None,
) -> None:
    """Build a memory, or open it where it exists.

    Takes encoder= encoder.FIELD= memory.FIELD= device= dtype= workers=.
    """
    from trireme.commands.memory import build as command

    _finish(command(name, arguments or []))


@memory.command("inspect", epilog=_examples("trireme memory inspect world"))
def memory_inspect(
    name: Annotated[str, typer.Argument(help="A memory's name, or the folder of a built one.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", show_default=False)] = None,
) -> None:
    """Print a memory's manifest and what it holds by source and label."""
    from trireme.commands.memory import inspect as command

    _finish(command(name, arguments or []))


@memory.command(
    "search",
    epilog=_examples(
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

    _finish(command(query, arguments or [], side, k))


@train.command("lite", epilog=_examples("trireme train lite --out weights", "trireme train lite epochs=20 seed=1"))
def train_lite(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", show_default=False)] = None,
    out: Annotated[Path, typer.Option(help="Folder for the weights and the record of the run.")] = Path("out/lite"),
) -> None:
    """Train the `lite` encoder's head.

    On common classes and training-role art only. `trireme run encoder.weights=FOLDER/lite.safetensors` uses the result.
    """
    from trireme.commands.train import lite as command

    _finish(command(arguments or [], out))


@train.command("reco", epilog=_examples("trireme train reco", "trireme train reco method.reco.k=16 seed=1"))
def train_reco(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", show_default=False)] = None,
) -> None:
    """Train RECO's fusion and keep it; `trireme run method=reco` with the same settings finds it there."""
    from trireme.commands.train import reco as command

    _finish(command(arguments or []))


@train.command(
    "react",
    epilog=_examples(
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

    _finish(command(arguments or [], out, official))


@train.command(
    "ranker",
    epilog=_examples(
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
    _finish(command(name, given, out, merged))


def _finish(code: int) -> None:
    if code:
        raise typer.Exit(code)


def _commands() -> dict[str, dict[str, None]]:
    """Command -> its subcommands, from the declarations above."""

    def named(group: typer.Typer) -> list[str]:
        return [c.name or (c.callback.__name__ if c.callback else "") for c in group.registered_commands]

    tree: dict[str, dict[str, None]] = {name: {} for name in named(app)}
    for group in app.registered_groups:
        assert group.name is not None
        assert group.typer_instance is not None
        tree[group.name] = dict.fromkeys(named(group.typer_instance))
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
