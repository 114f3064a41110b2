"""Run records on disk: one folder per run below `<root>/runs/`, whole or absent.

A run is `run.json` and `predictions.parquet` (both described in `trireme.results.schema`). The folder is written beside
its place and renamed into it, so a killed writer leaves nothing that looks finished; what it leaves starts with a dot
and is never read. A record that stands in for an older one of the same run is whole before that one is touched.
"""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trireme.errors import DataError, UsageError
from trireme.files import atomic_folder, locked, sha256_file, write_json
from trireme.progress import say
from trireme.results.migrations import NewerSchemaError, migrate
from trireme.results.parsing import RUN_FILE as RUN_FILE
from trireme.results.parsing import parse
from trireme.results.predictions import read_table, standard_table, stored_rows, write_table
from trireme.results.schema import INTERVALS, check_predictions_entry, check_record, plain

PREDICTIONS_FILE = "predictions.parquet"
DERIVED_METRICS = {"mean_per_class": "top1"}
"""Metrics that are no column of the predictions, with the column that they are computed from."""

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.,+=@")


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One finished run: its folder and the content of its `run.json`."""

    folder: Path
    data: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.data["name"])

    @property
    def run(self) -> str:
        """Hash of everything that can change a score."""
        return str(self.data["run"])

    @property
    def method(self) -> str:
        return str(self.data["method"]["name"])

    @property
    def benchmark(self) -> str:
        return str(self.data["benchmark"]["name"])

    @property
    def role(self) -> str:
        return str(self.data["benchmark"]["role"])

    @property
    def seed(self) -> int:
        return int(self.data["seed"])

    @property
    def scores(self) -> Sequence[Mapping[str, Any]]:
        """Rows of {subset, metric, score, ci_low, ci_high, n}, in percent."""
        rows: Sequence[Mapping[str, Any]] = self.data["scores"]
        return rows


def set_metrics(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The metrics of a record that are no mean over samples; see `trireme.results.resampling`."""
    found = {one["metric"] for one in (record.get("replicates") or {}).get("of", ())}
    return tuple(metric for metric in record["metrics"] if metric in found)


def column_metrics(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The metrics of a record that are a column of its predictions."""
    others = {*DERIVED_METRICS, *set_metrics(record)}
    return tuple(metric for metric in record["metrics"] if metric not in others)


def run_folder(root: Path, name: str) -> Path:
    """Where the run of this name lives below a results root.

    Raises:
        UsageError: the name cannot be a folder's name.
    """
    if not name or name.startswith(".") or not set(name) <= _NAME_CHARACTERS:
        raise UsageError(f"'{name}' cannot name a run; use letters, digits and -_.,+=@, not starting with a dot")
    return root / "runs" / name


def write_run(root: Path, record: Mapping[str, Any], predictions: Any, replace: bool = False) -> Path:
    """Store a finished run; storing it again is a no-op.

    Args:
        root: results root, e.g. `out`.
        record: all keys of `trireme.results.schema` but `predictions` and `intervals`, which are added here.
        predictions: a `pyarrow.Table` with one row per sample asked.
        replace: store it again in the place of the record that is there. One process at a time may, under a lock.

    Returns:
        The run's folder.

    Raises:
        DataError: a key or a column is missing or wrong (named), or another run has this name.
    """
    try:
        content: dict[str, Any] = plain(record)
        check_record(content)
    except DataError as error:
        raise DataError(f"cannot store run '{record.get('name')}': {error}") from error
    folder = run_folder(root, content["name"])
    there = _already_there(folder, content["run"])
    if there and not replace:
        return folder
    table = standard_table(predictions, content, column_metrics(content))
    if there:
        shutil.rmtree(_successor(folder), ignore_errors=True)
        _write_folder(_successor(folder), content, table)
        _succeed(folder)
        return folder
    if folder.exists():
        _move_aside(folder)
    _write_folder(folder, content, table)
    if not _already_there(folder, content["run"]):  # the rename lost against something that is no run
        raise DataError(f"{folder} was changed by another process while it was written; run again")
    return folder


def _write_folder(folder: Path, content: dict[str, Any], table: Any) -> None:
    with atomic_folder(folder) as part:
        write_table(table, part / PREDICTIONS_FILE)
        content["intervals"] = INTERVALS
        content["predictions"] = {
            "file": PREDICTIONS_FILE,
            "rows": table.num_rows,
            "bytes": (part / PREDICTIONS_FILE).stat().st_size,
            "sha256": sha256_file(part / PREDICTIONS_FILE),
        }
        write_json(part / RUN_FILE, content)


def _successor(folder: Path) -> Path:
    """Where a record waits, whole, for the place of an older one."""
    return folder.with_name(f".{folder.name}.new")


def _succeed(folder: Path) -> None:
    """Put the successor in the folder's place. A kill between the two renames is made good by `settle`."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    _successor(folder).rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def settle(root: Path, run: str) -> None:
    """End a replacement of this run's record that was killed when it had no folder. Only under the lock of the run."""
    for waiting in (root / "runs").glob(f".*--{run}.new"):
        folder = waiting.with_name(waiting.name.removeprefix(".").removesuffix(".new"))
        if not folder.exists():
            waiting.rename(folder)


def read_run(folder: Path) -> RunRecord:
    """The record in one run folder, checked; its predictions are not opened.

    Raises:
        DataError: naming the folder and what is wrong with it.
    """
    try:
        content = migrate(parse(folder))
        check_record(content)
        check_predictions_entry(content.get("predictions"), "predictions")
        _check_extent(folder, content)
    except FileNotFoundError as error:
        raise DataError(f"{folder}: {Path(error.filename).name} is missing, so it is no finished run") from error
    except NewerSchemaError as error:
        raise NewerSchemaError(f"{folder}: {error}") from error
    except RecursionError as error:
        raise DataError(f"{folder}: {RUN_FILE} is nested too deeply; run it again, or delete the folder") from error
    except (ValueError, DataError, OSError) as error:
        reason = error if isinstance(error, DataError) else f"{RUN_FILE} cannot be read ({error})"
        raise DataError(f"{folder}: {reason}; run it again, or delete the folder") from error
    return RunRecord(folder, content)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run folder that no mean may use, and why: one line that names the folder and says what to do."""

    folder: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Survey:
    """What a results folder holds: runs that can be used, and folders that cannot, both by folder name."""

    runs: list[RunRecord]
    left_out: list[LeftOut]


def survey(root: Path, footers: bool = False) -> Survey:
    """Every finished run below `root`, each once, and every folder that had to be left out; says nothing.

    A copy of a run's folder counts once. Folders that have one run hash or one name, yet another content (scores,
    metrics, samples, predictions), are all left out: nobody can tell which of them is right. Reads `run.json` files
    only; that predictions are the ones that were written is checked by size here, by checksum when they are read.

    Args:
        root: a results root, its `runs` folder, or a single run's folder.
        footers: open every predictions file's footer, and leave out records that state another number of rows; half a
            millisecond each.

    Raises:
        DataError: `root` does not exist.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"no results at {root}; run `trireme run suite=world` or name another folder")
    found, left_out = [], []
    with without_collection():
        for folder in _candidates(root):
            try:
                record = read_run(folder)
                found.append(_check_footer(record) if footers else record)
            except DataError as error:
                left_out.append(LeftOut(folder, str(error)))
        disputed = _disputed(found)
    left_out += [LeftOut(folder, reason) for folder, reason in disputed.items()]
    once = {record.run: record for record in reversed(found) if record.folder not in disputed}
    runs = [record for record in found if once.get(record.run) is record]
    return Survey(runs, sorted(left_out, key=lambda one: one.folder))


@contextmanager
def without_collection() -> Iterator[None]:
    """No search for cycles meanwhile: JSON has none, and looking for them in ten thousand records doubles the time.

    What was made meanwhile is then moved to the oldest generation (all that freezing and unfreezing does): it is looked
    through when that generation's turn comes, and not at once.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            if not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def find_runs(root: Path, strict: bool = False) -> list[RunRecord]:
    """`survey(root).runs`; what is left out is named on stderr.

    Args:
        root: a results root, its `runs` folder, or a single run's folder.
        strict: raise where a folder has to be left out.

    Raises:
        DataError: `root` does not exist, or a folder has to be left out and `strict` is set.
    """
    found = survey(root, footers=strict)
    for reason in dict.fromkeys(one.reason for one in found.left_out):
        if strict:
            raise DataError(reason)
        say(f"warning: left out: {reason}")
    return found.runs


def _check_footer(record: RunRecord) -> RunRecord:
    path, asked = record.folder / record.data["predictions"]["file"], record.data["samples"]["asked"]
    if (rows := stored_rows(path)) != asked:
        raise DataError(f"{path} has {rows} rows, but {asked} samples were asked; delete the folder and run again")
    return record


def _disputed(records: Sequence[RunRecord]) -> dict[Path, str]:
    """Folder -> reason, of records that share a run or a name with one that differs from them in content."""
    reasons: dict[Path, str] = {}
    for kind in ("run", "name"):
        groups: dict[str, list[RunRecord]] = {}
        for record in records:
            groups.setdefault(record.data[kind], []).append(record)
        for key, (first, *others) in groups.items():
            for other in others:
                if differs := _difference(first, other):
                    what = f"run {key}" if kind == "run" else f"named '{key}'"
                    reason = f"{first.folder} and {other.folder} are both {what}, but their {differs} differ"
                    reasons |= dict.fromkeys(
                        (one.folder for one in (first, *others)), f"{reason}; delete the wrong one"
                    )
                    break
    return reasons


def _difference(a: RunRecord, b: RunRecord) -> str:
    """In what two records of one run or name differ that must be the same; "" where they are copies of each other."""
    for key in ("scores", "metrics", "samples", "run"):
        if a.data[key] != b.data[key]:
            return key
    if a.data["predictions"]["sha256"] == b.data["predictions"]["sha256"]:
        return ""
    # another version of Arrow writes other bytes of the same rows
    columns = ["sample_id", "label", "group", "status", *column_metrics(a.data)]
    try:
        same = read_predictions(a, columns).equals(read_predictions(b, columns))
    except DataError:
        same = False
    return "" if same else "predictions"


def _candidates(root: Path) -> list[Path]:
    """Folders that should each hold a run. Only what lies in a folder named `runs` is taken for one."""
    if (root / RUN_FILE).is_file():
        return [root]
    runs = root if root.name == "runs" else root / "runs"
    if not runs.is_dir():
        return []
    with os.scandir(runs) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    return [runs / name for name in names]


def read_predictions(record: RunRecord, columns: Iterable[str] | None = None) -> Any:
    """The predictions of a run as a `pyarrow.Table`, after their checksum and row count are verified.

    A file of an older schema is given in the current one's columns (`trireme.results.migrations`).

    Raises:
        DataError: the file is missing, was changed since it was written, or lacks a column.
    """
    return read_table(record.folder / record.data["predictions"]["file"], record.data, columns)


def _already_there(folder: Path, run: str) -> bool:
    if not folder.exists():
        return False
    try:
        stored = read_run(folder)
    except NewerSchemaError:
        raise
    except DataError:
        return False
    if stored.run != run:
        raise DataError(f"{folder} holds another run ({stored.run}, not {run}); move one of them to another root")
    return True


def _move_aside(folder: Path) -> None:
    """A damaged folder must not block its own repair: keep it under a hidden name that no reader looks at."""
    with locked(folder.parent / f".{folder.name}"):
        try:
            read_run(folder)
        except DataError as error:
            aside = next(
                free for n in range(1_000_000) if not (free := folder.parent / f".{folder.name}.damaged-{n}").exists()
            )
            if folder.exists():
                folder.rename(aside)
                say(f"warning: {error} (kept as {aside.name})")


def _check_extent(folder: Path, content: Mapping[str, Any]) -> None:
    """One `stat`, no read: a cut file, and missing or extra samples, are noticed even when nobody opens it."""
    stated, asked = content["predictions"], content["samples"]["asked"]
    size = os.stat(os.path.join(folder, stated["file"])).st_size  # noqa: PTH116, PTH118 - as in `parse`
    if size != stated["bytes"]:
        raise DataError(f"{stated['file']} has {size} bytes where {stated['bytes']} were written")
    if stated["rows"] != asked:
        raise DataError(f"{stated['file']} has {stated['rows']} rows, but {asked} samples were asked")
