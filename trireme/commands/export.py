"""`trireme export`: finished runs given to wandb, MLflow, or a model card on the Hugging Face Hub."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trireme.errors import UsageError
from trireme.progress import progress, say

if TYPE_CHECKING:
    from trireme.results.export.content import Outcome
    from trireme.results.records import RunRecord


def to_wandb(
    folder: Path, where: Sequence[str], project: str, entity: str | None, predictions: bool, strict: bool
) -> int:
    """Export to Weights & Biases; WANDB_MODE=offline writes folders for `wandb sync`."""
    from trireme.results.export.to_wandb import Target, export_wandb

    records = _chosen(folder, where, strict)
    return _carry_out("wandb", project, records, export_wandb(records, Target(project, entity, predictions)))


def to_mlflow(
    folder: Path, where: Sequence[str], experiment: str, uri: str | None, predictions: bool, strict: bool
) -> int:
    """Export to MLflow's tracking server or store."""
    from trireme.results.export.to_mlflow import export_mlflow

    records = _chosen(folder, where, strict)
    return _carry_out("MLflow", experiment, records, export_mlflow(records, experiment, uri, predictions))


def model_index(folder: Path, where: Sequence[str], save: Path | None, strict: bool) -> int:
    """Print the metadata of each model's card, or write a file per model into a folder."""
    from trireme.files import atomic_file
    from trireme.results.export.model_index import file_name, model_indexes
    from trireme.results.leaderboard import standings

    records = _chosen(folder, where, strict)
    roles = {record.role for record in records}
    if len(roles) > 1:
        raise UsageError(f"a card's scores are of one role, not of {' and '.join(sorted(roles))}")
    models = model_indexes(standings(folder, roles.pop(), strict), records)
    if save is None:
        print("\n".join(f"---\n{text.rstrip()}" for text in models.values()))
        return 0
    files = {file_name(name): name for name in models}
    if len(files) < len(models):
        raise UsageError("two models would have one file; choose by --where")
    for file, name in files.items():
        with atomic_file(save / file) as part:
            part.write_text(f"---\n{models[name].rstrip()}\n---\n", encoding="utf-8")
    say(f"wrote {len(files)} files to {save}")
    return 0


def _chosen(folder: Path, where: Sequence[str], strict: bool) -> list[RunRecord]:
    from trireme.results.export.selection import select
    from trireme.results.records import find_runs

    records = select(find_runs(folder, strict), where)
    if not records:
        raise UsageError(f"no finished test run in {folder} to export; run `trireme run suite=world` first")
    return records


def _carry_out(
    tracker: str, place: str, records: Sequence[RunRecord], exported: Iterable[tuple[RunRecord, Outcome]]
) -> int:
    from trireme.results.export.content import Outcome

    counts: Counter[Outcome] = Counter()
    with progress(f"export to {tracker}", len(records), "runs") as bar:
        for _, outcome in exported:
            counts[outcome] += 1
            bar.advance()
    say(f"{tracker}, {place}: " + ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome))
    return 0
