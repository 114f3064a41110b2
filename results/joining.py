"""Runs that differ in nothing but the seed, joined from their stored predictions; what was joined is remembered.

A single run can be scored anew in the same way. All of it reads every sample of every seed, some milliseconds a run. So
the scores of many such groups are kept in one file beside `runs/`, `.joined.json`, under a key of all that they follow
from: the code that computes them, and of each seed its run, the predictions' stated checksum, and their file's size and
time of change. It is written whole or not at all, may be deleted at any time, and a file that cannot be read or written
counts as empty.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from trireme.errors import DataError, TriremeError
from trireme.files import atomic_file, fingerprint
from trireme.results import resampling, statistics, testing
from trireme.results.frame import REPLIES, TOKENS
from trireme.results.records import DERIVED_METRICS, LeftOut, RunRecord, read_predictions, set_metrics

MEMORY = ".joined.json"
_ROUNDED = 1e-4
"""Percentage points: stored scores have six decimals, and were summed in another order."""
WORTH_KEEPING = 50
"""Groups of seeds that have to be joined anew before the file is written: small results folders never get one."""


class Joined:
    """The scores of groups of seeds, computed or remembered; `left_out` names seeds that could not be used."""

    def __init__(self, runs: Path) -> None:
        """`runs` is the folder that holds the records' folders."""
        self._file = runs.parent / MEMORY
        self._known = _remembered(self._file)
        self._new: dict[str, Any] = {}
        self.left_out: list[LeftOut] = []
        self._asked: dict[tuple[str, str, str], dict[str, list[Path]]] = {}

    def scores(self, group: Sequence[RunRecord]) -> tuple[list[RunRecord], list[dict[str, Any]]]:
        """The seeds that can be used, and their joint scores from stored predictions; of none no scores."""
        key = _key(group)
        if key in self._known:
            return list(group), self._known[key]["scores"]
        usable, scores, asked = _join(group, self.left_out)
        for record in usable:
            kind = (record.benchmark, str(record.data["benchmark"]["fingerprint"]), record.role)
            self._asked.setdefault(kind, {}).setdefault(asked, []).append(record.folder)
        if len(usable) == len(group):
            self._new[key] = {"runs": [record.run for record in group], "scores": scores}
        return usable, scores

    def other_samples(self) -> list[str]:
        """A line for every run that was read and whose samples are not those of most others on its benchmark."""
        lines = []
        for (benchmark, *_), kinds in self._asked.items():
            usual = max(kinds.values(), key=len)
            if len(kinds) > 1:
                lines += [
                    f"{folder}: its samples are not those of {len(usual)} other runs on {benchmark}, whose "
                    "fingerprint it states"
                    for folders in kinds.values()
                    if folders is not usual
                    for folder in folders
                ]
        return lines

    def keep(self, runs: set[str]) -> None:
        """Remember what was computed, where it is worth it; forget what is not about these runs."""
        if len(self._new) < WORTH_KEEPING:
            return
        kept = {key: one for key, one in self._known.items() if runs.issuperset(one["runs"])} | self._new
        try:
            with atomic_file(self._file) as part:
                part.write_text(json.dumps(kept, separators=(",", ":")), encoding="utf-8")
        except (OSError, TriremeError):  # a folder of somebody else's results; next time it is computed again
            return


def _remembered(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _key(group: Sequence[RunRecord]) -> str:
    seeds = []
    for record in group:
        stated = record.data["predictions"]
        try:
            file = (record.folder / stated["file"]).stat()
        except OSError:
            return ""  # found out when it is read
        seeds.append([record.run, record.data["metrics"], stated["sha256"], file.st_size, file.st_mtime_ns])
        if record.data.get("replicates"):
            seeds.append([record.data["replicates"], record.data["scores"]])
    return fingerprint([_code(), seeds, group[0].data["benchmark"]["subsets"]])


@cache
def _code() -> str:
    """Hash of the source of everything that joined scores are computed by."""
    files = [Path(str(module.__file__)) for module in (resampling, statistics, testing)]
    return fingerprint([file.read_text(encoding="utf-8") for file in [*files, Path(__file__)]])


def _join(group: Sequence[RunRecord], left_out: list[LeftOut]) -> tuple[list[RunRecord], list[dict[str, Any]], str]:
    """The seeds that can be used, their scores, and a hash of the samples that they asked for."""
    common = set.intersection(*(set(record.data["metrics"]) for record in group))
    names = [metric for metric in group[0].data["metrics"] if metric in common]  # seeds may choose another k of hit@k
    sets = set_metrics(group[0].data)
    metrics = [metric for metric in names if metric not in sets]
    sources = list(dict.fromkeys(DERIVED_METRICS.get(metric, metric) for metric in metrics))
    usable, tables = [], []
    for record in group:
        try:
            table = read_predictions(record, ["sample_id", "label", "group", "status", *sources])
            statistics.check_values(table, sources)
        except DataError as error:
            named = str(error) if str(record.folder) in str(error) else f"{record.folder}: {error}"
            left_out.append(LeftOut(record.folder, named))
        else:
            usable.append(record)
            tables.append(table)
    asked = [fingerprint(sorted(table["sample_id"].to_pylist())) for table in tables]
    other = _of_other_samples(usable, asked)
    left_out += other
    without = {one.folder for one in other}
    kept = [place for place, record in enumerate(usable) if record.folder not in without]
    if not kept:
        return [], [], ""
    usable, tables = [usable[place] for place in kept], [tables[place] for place in kept]
    scores = statistics.joint_score_rows(tables, usable[0].data["benchmark"]["subsets"], metrics) if metrics else []
    scores += resampling.joint_set_scores([record.data for record in usable]) if sets else []
    return usable, scores, asked[kept[0]]


def _of_other_samples(records: Sequence[RunRecord], asked: Sequence[str]) -> list[LeftOut]:
    """Seeds whose samples are not those of most others, although they state one benchmark; all where none are most."""
    if len(records) < 2:
        return []
    usual = max(asked, key=asked.count)
    if asked.count(usual) == len(asked):
        return []
    wrong = [place for place, key in enumerate(asked) if key != usual or 2 * asked.count(usual) <= len(asked)]
    return [
        LeftOut(
            records[place].folder,
            f"{records[place].folder}: its samples are not those of the other seeds on {records[place].benchmark}, "
            "whose fingerprint it states; run it again",
        )
        for place in wrong
    ]


def stated_otherwise(record: RunRecord, scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line about the scores that a record states and its predictions do not give, if there are any.

    Intervals may differ: they are drawn as today's code does.
    """
    anew = {(row["subset"], row["metric"]): row["score"] for row in scores}
    differ = []
    for row in record.scores:
        now = anew.get((row["subset"], row["metric"]))
        if now != row["score"] and (now is None or row["score"] is None or abs(now - row["score"]) > _ROUNDED):
            differ.append(f"{row['metric']} on {row['subset']} is {_said(row['score'])} there, {_said(now)} anew")
    if not differ:
        return []
    more = f" and {len(differ) - 1} more" if len(differ) > 1 else ""
    return [f"{record.folder}: run.json states other scores than its predictions give: {differ[0]}{more}"]


def _said(score: float | None) -> str:
    return "none" if score is None else f"{score:.2f}"


def shared(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One entry for several seeds: `failed` is the largest of theirs, replies and tokens are sums, costs are means.

    Args:
        entries: `trireme.results.frame.entry` of each seed, in their order.
    """
    together = dict(entries[0])
    together["seeds"] = ",".join(one["seeds"] for one in entries)
    together["run"] = "+".join(one["run"] for one in entries)
    together["failed"] = max(one["failed"] for one in entries)
    for counted in (*REPLIES, *TOKENS):
        counts = [one[counted] for one in entries if one[counted] is not None]
        together[counted] = sum(counts) if counts else None
    for cost in ("images_per_second", "seconds", "peak_memory_mib"):
        known = [one[cost] for one in entries if one[cost] is not None]
        together[cost] = sum(known) / len(known) if known else None
    return together
