"""Runs in Weights & Biases, online or as offline folders for `wandb sync`: one run a record, the id is its name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trireme.errors import TriremeError, UsageError
from trireme.files import write_json
from trireme.results.export.content import Outcome, digest, measures, settings
from trireme.results.records import RUN_FILE, RunRecord

_INSTALL = "pip install 'trireme-bench[wandb]'"
_LONGEST = 128
"""Most characters of a run's id."""
_STAMP = "trireme.json"
"""Beside the run in an offline folder: what of which record it holds."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where runs go.

    Attributes:
        project: of wandb; made by the server where it is missing.
        entity: user or team; None for the one who is logged in.
        predictions: log predictions.parquet as an artifact beside run.json.
    """

    project: str
    entity: str | None
    predictions: bool


def export_wandb(records: Iterable[RunRecord], target: Target) -> Iterator[tuple[RunRecord, Outcome]]:
    """Give records to wandb one by one; yields each with what became of it.

    Offline (WANDB_MODE=offline), folders are written below `wandb/` in $WANDB_DIR or here; one that holds the same
    record is left alone, one of an older record is replaced. Online, a run of the same id is continued: numbers,
    settings and artifacts are set anew, and the server keeps one version of files that did not change.

    Raises:
        TriremeError: wandb is not installed, or refuses (not logged in, no network).
        UsageError: WANDB_MODE says that nothing shall be kept.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        import wandb
    except ImportError as error:
        raise TriremeError(f"exporting to wandb needs wandb; run: {_INSTALL}") from error
    mode = os.environ.get("WANDB_MODE", "online")
    if mode not in ("online", "offline"):
        raise UsageError(f"WANDB_MODE={mode} keeps nothing; set it to online or offline")
    for record in records:
        with _told(wandb):
            outcome = _export(wandb, record, target, mode)
        yield record, outcome


@contextmanager
def _told(wandb: Any) -> Iterator[None]:
    """wandb's refusals as one line."""
    try:
        yield
    except wandb.errors.Error as error:
        reason = " ".join(str(error).split())[:300]
        raise TriremeError(
            f"wandb refused: {reason} Without a network, set WANDB_MODE=offline and run `wandb sync` later"
        ) from error


def _export(wandb: Any, record: RunRecord, target: Target, mode: str) -> Outcome:
    offline = mode == "offline"
    stamp: dict[str, Any] = {"record": digest(record), **asdict(target)}
    earlier = list(_earlier(record, target)) if offline else []
    if [found for _, found in earlier] == [stamp]:
        return Outcome.THERE
    for folder, _ in earlier:
        shutil.rmtree(folder)
    run = wandb.init(
        project=target.project,
        entity=target.entity,
        id=_id(record),
        name=record.name,
        group=record.benchmark,
        job_type=record.method,
        tags=[record.method, record.role],
        config=settings(record),
        resume="allow",
        dir=str(_root()),
        mode=mode,
        settings=wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            x_disable_meta=True,  # of this computer, which need not be the one that made the run
            x_disable_stats=True,
            x_save_requirements=False,
        ),
    )
    updated, folder = bool(earlier) or bool(run.resumed), Path(run.settings.sync_dir)
    try:
        if offline:
            write_json(folder / _STAMP, {**stamp, "record": None})  # begun: whatever comes next replaces it
        run.summary.update(measures(record))
        _log_files(wandb, run, record, target)
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()
    if offline:
        write_json(folder / _STAMP, stamp)
    return Outcome.UPDATED if updated else Outcome.EXPORTED


def _log_files(wandb: Any, run: Any, record: RunRecord, target: Target) -> None:
    artifact = wandb.Artifact(f"run-{record.run}", type="trireme-run")
    artifact.add_file(str(record.folder / RUN_FILE))
    if target.predictions:
        artifact.add_file(str(record.folder / record.data["predictions"]["file"]))
    run.log_artifact(artifact)


def _earlier(record: RunRecord, target: Target) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Offline folders that an earlier export of this run to this project left, with what they hold."""
    for folder in sorted(_root().glob(f"wandb/offline-run-*-{_id(record)}")):
        stamp = folder / _STAMP
        try:
            found = json.loads(stamp.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if (found.get("project"), found.get("entity")) == (target.project, target.entity):
            yield folder, found


def _root() -> Path:
    return Path(os.environ.get("WANDB_DIR") or ".").absolute()


def _id(record: RunRecord) -> str:
    """The record's name, or so much of its end as wandb takes; the hash of the run is at the end."""
    return record.name[-_LONGEST:]
