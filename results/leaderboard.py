"""Frames made from run records alone: the tidy long one, and the leaderboard with seeds joined.

What is one row. Runs are joined over seeds only where everything else that can change a score is the same: method
(name, registry name, version, config), ranker fingerprint, benchmark fingerprint and role, encoder and memory
fingerprints, validation and training sets. Runs that share a method's name but differ in one of these stay separate
rows, told apart by `run`, and a note on stderr says so. A run that is found twice (a copied folder) counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from trireme.errors import DataError, unknown_name
from trireme.progress import say
from trireme.results.frame import TYPES, Entry, entry, sorted_tidy, tidy
from trireme.results.joining import Joined, shared, stated_otherwise
from trireme.results.ranking import default_metric as default_metric
from trireme.results.ranking import pivot as pivot
from trireme.results.records import LeftOut, RunRecord, find_runs, survey, without_collection
from trireme.results.schema import INTERVALS

COLUMNS = (
    "method",
    "benchmark",
    "subset",
    "metric",
    "score",
    "ci_low",
    "ci_high",
    "n",
    "encoder",
    "memory",
    "seeds",
    "run",
)
"""The columns of `leaderboard` and of its CSV, in this order."""

_NAMED = ["method", "benchmark", "subset", "metric", "encoder", "memory"]
_Member = tuple[dict[str, Any], RunRecord]
_ALL = (*COLUMNS, *(column for column in TYPES if column not in (*COLUMNS, "seed")))
_ORDER = ["benchmark", "subset", "metric", "score", "method", "encoder", "memory", "run"]


@dataclass(frozen=True, slots=True)
class Board:
    """A leaderboard and what could not be on it.

    Attributes:
        frame: see `standings`.
        left_out: run folders that no score is from, each with its reason.
        runs: the finished runs of the role.
        notes: records whose scores are not those of their predictions, where these were scored anew.
        intervals: a line where some were drawn in another way than others, else nothing.
    """

    frame: pd.DataFrame
    left_out: tuple[LeftOut, ...]
    runs: tuple[RunRecord, ...]
    notes: tuple[str, ...] = ()
    intervals: tuple[str, ...] = ()


def load(path: Path | str, strict: bool = False) -> pd.DataFrame:
    """The tidy long frame: one row per run x subset x metric, every role; empty where no run has finished.

    Args:
        path: a results root, its `runs` folder, or a single run's folder.
        strict: raise on a damaged record, which else is named on stderr and left out.

    Returns:
        Columns method, benchmark, role, subset, metric, main (is this the benchmark's main metric), score, ci_low,
        ci_high (percent), n, failed (samples), encoder, memory, memory_size (pairs), seed, supervision_training,
        supervision_inference, chosen_on ("validation" where the method chose settings on validation labels, else
        missing), validation (the benchmark that it chose on), trained_parameters, images_per_second, seconds (all
        phases), peak_memory_mib, created, name, run, registry (name of the method's class), config (hash of the
        method's config), setting (hash of all that can change a score but benchmark and seed), the fingerprints of
        benchmark, encoder and memory, and of a method that asks a ranker: ranker (its name), replies_ok,
        replies_repaired, replies_unreadable, replies_refused, replies_timeout (samples), prompt_tokens,
        completion_tokens; missing for the others.

    Raises:
        DataError: the path does not exist; with `strict`, a record is damaged.
    """
    entries = [(entry(record), record.scores) for record in find_runs(Path(path), strict)]
    return tidy(entries, [column for column in TYPES if column != "seeds"])


def standings(path: Path | str, role: str = "test", strict: bool = False) -> pd.DataFrame:
    """`load` with seeds joined and rows sorted: the columns of `leaderboard`, then the rest of `load`'s.

    Where several seeds are joined, `score` is their mean, the interval draws classes and seeds (see
    `trireme.results.statistics`), `failed` is the largest of theirs, replies and tokens are sums, and other
    costs are means.

    Args:
        role: "test" by default; runs made to select something are listed only when "validation" is asked for.
        strict: raise where a folder has to be left out, which else is named on stderr.

    Raises:
        DataError: no finished run of this role.
    """
    found = board(path, role, footers=strict)
    for reason in dict.fromkeys(one.reason for one in found.left_out):
        if strict:
            raise DataError(reason)
        say(f"warning: left out: {reason}")
    if found.frame.empty:
        raise nothing_there(Path(path), role)
    return found.frame


def board(
    path: Path | str,
    role: str = "test",
    rescore: bool = False,
    columns: Sequence[str] | None = None,
    footers: bool = False,
) -> Board:
    """`standings`, empty where no run of this role has finished, and what had to be left out; says nothing of these.

    Args:
        rescore: compute the scores of single runs too anew from their stored predictions, with intervals; else those
            that the record states are taken. (Metrics that are no mean over samples follow from stored draws.)
        footers: see `trireme.results.records.survey`.
        columns: at least `COLUMNS`; all of `standings` where none are named, which takes longer for many records.

    Raises:
        DataError: the path does not exist.
    """
    if role not in ("test", "validation"):
        raise unknown_name("role", role, ("test", "validation"))
    with without_collection():
        found = survey(Path(path), footers)
        runs = [record for record in found.runs if record.role == role]
        entries, unusable, notes, intervals = _joined(runs, found.runs, rescore)
        frame = sorted_tidy(entries, columns or _ALL, _ORDER)
    _note_shared_names(frame)
    return Board(frame, (*found.left_out, *unusable), tuple(runs), tuple(notes), tuple(intervals))


def leaderboard(path: Path | str, role: str = "test", strict: bool = False) -> pd.DataFrame:
    """The leaderboard, with exactly the columns of `COLUMNS`: `standings` without the rest.

    Rows are sorted by benchmark, subset, metric, falling score, method. `seeds` is e.g. "0,1,2", and `run` holds the
    hash of each seed's run, joined by "+".
    """
    return standings(path, role, strict)[list(COLUMNS)]


def nothing_there(path: Path, role: str) -> DataError:
    """What to do where a folder has no runs: name the folders below it that have some."""
    near = sorted(str(runs.parent) for runs in path.glob("*/runs") if runs.is_dir())
    there = f"there are some in {', '.join(near[:3])}" if near else "run `trireme run suite=world` first"
    return DataError(f"no finished {role} run in {path}; {there}")


def _joined(
    records: Sequence[RunRecord], everything: Sequence[RunRecord], rescore: bool
) -> tuple[list[Entry], list[LeftOut], list[str], list[str]]:
    groups: dict[tuple[Any, ...], list[_Member]] = {}
    for record in records:
        common = entry(record)
        groups.setdefault(_identity(common, record), []).append((common, record))
    joined = Joined(everything[0].folder.parent) if everything else None
    entries: list[Entry] = []
    notes: list[str] = []
    drawn: list[int | None] = []
    for members in _parted(groups.values()):
        if joined is None or (len(members) == 1 and not rescore):
            entries += [(common, record.scores) for common, record in members]
            drawn += [record.data.get("intervals") for _, record in members]
            continue
        drawn.append(INTERVALS)
        usable, scores = joined.scores([record for _, record in members])
        if len(usable) == 1:
            notes += stated_otherwise(usable[0], scores)
        runs = {record.run for record in usable}
        if kept := [common for common, _ in members if common["run"] in runs]:
            entries.append((shared(kept), scores))
    if joined is not None:
        joined.keep({record.run for record in everything})
    notes += joined.other_samples() if joined else []
    return entries, joined.left_out if joined else [], notes, _older(drawn)


def _older(drawn: Sequence[int | None]) -> list[str]:
    """A line where some intervals were stored by another version of how they are drawn, beside those of today's."""
    others = sum(version != INTERVALS for version in drawn)
    if not 0 < others < len(drawn):
        return []
    return [
        f"the intervals of {others} of {len(drawn)} runs (seeds joined) were drawn as another version of Trireme did; "
        "--rescore draws all anew"
    ]


def _parted(groups: Iterable[list[_Member]]) -> Iterator[list[_Member]]:
    """Groups by seed; several runs of one seed are equal in all that we compare, yet not the same run: never averaged,
    so each of their group stands alone."""
    for members in groups:
        members.sort(key=lambda member: (member[1].seed, member[1].run))
        if len({record.seed for _, record in members}) == len(members):
            yield members
        else:
            yield from ([member] for member in members)


def _identity(common: dict[str, Any], record: RunRecord) -> tuple[Any, ...]:
    """Everything that can change a score, but the seed."""
    benchmark = (common["benchmark"], common["benchmark_fingerprint"], common["role"])
    return (common["setting"], *benchmark, (record.data["validation"] or {}).get("fingerprint"))


def _note_shared_names(frame: pd.DataFrame) -> None:
    shared_names = frame[frame.duplicated(_NAMED, keep=False)]
    for (method, benchmark), rows in shared_names.groupby(["method", "benchmark"]):
        runs = sorted(set(rows["run"]))
        say(f"note: '{method}' on {benchmark} stands for {len(runs)} runs that differ: {', '.join(runs)}")
