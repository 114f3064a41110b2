"""Commands that give finished runs to other trackers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trireme.cli.base import OUT_HELP, examples, finish, group

export = group("Give finished runs to wandb, to MLflow, or to model cards on the Hugging Face Hub.")
_Folder = Annotated[Path, typer.Argument(help=OUT_HELP)]
_Where = Annotated[
    list[str] | None,
    typer.Option(
        help="Only runs of these: KEY=VALUE[,VALUE], with method, benchmark, encoder, memory, seed, role, run or name; "
        "may be given several times."
    ),
]
_Predictions = Annotated[bool, typer.Option(help="Keep predictions.parquet beside run.json.")]
_Strict = Annotated[bool, typer.Option("--strict", help="Fail where a damaged record has to be left out.")]


@export.command(
    epilog=examples(
        "trireme export wandb --project mine",
        "WANDB_MODE=offline trireme export wandb out/quickstart --where method=reco,rar",
    )
)
def wandb(
    folder: _Folder = Path("out"),
    where: _Where = None,
    project: Annotated[str, typer.Option(help="Project of wandb.")] = "trireme",
    entity: Annotated[str | None, typer.Option(help="User or team; whoever is logged in by default.")] = None,
    predictions: _Predictions = True,
    strict: _Strict = False,
) -> None:
    """One run of Weights & Biases per finished run.

    What was exported before is not doubled. Needs `pip install 'trireme-bench[wandb]'`.
    """
    from trireme.commands.export import to_wandb

    finish(to_wandb(folder, where or [], project, entity, predictions, strict))


@export.command(
    epilog=examples(
        "trireme export mlflow --tracking-uri sqlite:///mlflow.db",
        "trireme export mlflow out/quickstart --experiment world --where benchmark=world/all",
    )
)
def mlflow(
    folder: _Folder = Path("out"),
    where: _Where = None,
    experiment: Annotated[str, typer.Option(help="Experiment of MLflow; made where it is missing.")] = "trireme",
    tracking_uri: Annotated[
        str | None, typer.Option(help="Store or server as MLflow writes it; else MLflow's own choice.")
    ] = None,
    predictions: _Predictions = True,
    strict: _Strict = False,
) -> None:
    """One run of MLflow per finished run.

    What was exported before is not doubled. Needs `pip install 'trireme-bench[mlflow]'`.
    """
    from trireme.commands.export import to_mlflow

    finish(to_mlflow(folder, where or [], experiment, tracking_uri, predictions, strict))


@export.command(
    "model-index",
    epilog=examples(
        "trireme export model-index --where method=reco", "trireme export model-index out/quickstart --save cards"
    ),
)
def model_index(
    folder: _Folder = Path("out"),
    where: _Where = None,
    save: Annotated[
        Path | None, typer.Option(help="Write a file per model into this folder instead of printing.")
    ] = None,
    strict: _Strict = False,
) -> None:
    """Scores as metadata of model cards (YAML, `model-index`)."""
    from trireme.commands.export import model_index as command

    finish(command(folder, where or [], save, strict))
