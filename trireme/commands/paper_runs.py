"""Which finished runs belong to a cell of a paper's table, and the runs that would make the others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trireme import compose
from trireme.commands.paper_needs import arguments
from trireme.errors import DataError
from trireme.files import fingerprint
from trireme.plan import default_memory, identity
from trireme.request import Request, is_own_draw, parse
from trireme.results.paper import Cell
from trireme.results.paper.rerun import half_width
from trireme.results.paper.verdicts import Score
from trireme.results.records import RunRecord, column_metrics, read_predictions, set_metrics
from trireme.results.resampling import joint_set_scores
from trireme.results.schema import plain
from trireme.results.statistics import check_values, joint_score_rows
from trireme.types import Role
from trireme.workbench import Workbench

Settings = Mapping[str, str]
_SAME = 1e-4
"""Points by which a score may differ from that of its predictions: records round to six digits."""


def joined(wanted: Iterable[Settings]) -> list[dict[str, str]]:
    """Few calls of `trireme run` that make all cells: equal but for the benchmark, then but for the method, is one.

    No call makes a run that is no cell of the table.
    """
    alike = [dict(one) for one in {fingerprint(one): one for one in wanted}.values()]
    return _merged(_merged(alike, "benchmark"), "method")


def _merged(calls: Sequence[Settings], key: str) -> list[dict[str, str]]:
    """Calls that differ in one key alone become one, with its values as a list."""
    groups: dict[str, list[Settings]] = {}
    for call in calls:
        groups.setdefault(fingerprint({k: v for k, v in call.items() if k != key}), []).append(call)
    return [{**group[0], key: ",".join(dict.fromkeys(call[key] for call in group))} for group in groups.values()]


class Wanted:
    """What the records of a cell must say, whatever they are called and whoever computed them."""

    def __init__(self, given: Settings) -> None:
        request = parse(arguments(given))
        self._request, name = request, request.methods[0]
        component, cls = compose.method(name, request.overrides.get(("method", name), {}))
        self._method: Any = plain(identity(component, cls))
        encoder, _ = compose.encoder(
            request.encoders[0], request.overrides.get(("encoder", request.encoders[0]), {}), None, request.dtype
        )
        self._encoder = {"config": _placeless(encoder.resolved()), "customise": dict(encoder.customise)}
        self._memory = _memory_label(request) if cls(component.config).needs_memory else None
        self._ranker = Path(str(request.overrides.get(("ranker", ""), {}).get("model", ""))).name

    def fits(self, record: RunRecord) -> bool:
        """Whether the run is of this method, benchmark, encoder and memory; the seed is not asked for."""
        return self._fits(record, ("registry", "config", "version"))

    def _fits(self, record: RunRecord, keys: Sequence[str]) -> bool:
        data = record.data
        method, memory = data["method"], data["memory"]
        if data["benchmark"]["name"] != self._request.benchmarks[0] or record.role != Role.TEST:
            return False
        made, asked = [method.get(key) for key in keys], [self._method[key] for key in keys]
        encoder = {"config": _placeless(data["encoder"]["config"]), "customise": data["encoder"].get("customise") or {}}
        ranker = str((method.get("facts", {}).get("ranker") or {}).get("name", ""))
        named = None if memory is None else memory["name"]
        return (made, encoder, named) == (asked, self._encoder, self._memory) and self._ranker in ranker

    def among(self, records: Sequence[RunRecord]) -> tuple[list[RunRecord], str]:
        """The runs of all seeds, by seed; none and the reason, where a seed is missing or they are ambiguous."""
        found: dict[str, dict[int, RunRecord]] = {}
        for record in records:
            if record.seed in self._request.seeds and self.fits(record):
                found.setdefault(_inputs(record), {})[record.seed] = record
        if len(found) > 1:
            names = sorted(run.run for runs in found.values() for run in runs.values())
            return (
                [],
                f"{len(found)} runs of other inputs fit ({', '.join(names[:2])}); keep one, or name another folder",
            )
        runs = next(iter(found.values()), {})
        missing = [str(seed) for seed in self._request.seeds if seed not in runs]
        if missing:
            whole = len(missing) == len(self._request.seeds)
            why = "no finished run" if whole else f"no finished run of seed {', '.join(missing)}"
            older = [one for one in records if self._fits(one, ("registry", "config"))] if whole else []
            return [], why + (" by this version of the method, but one by another" if older else "")
        return [runs[seed] for seed in sorted(runs)], ""


def _memory_label(request: Request) -> str | None:
    """What a record calls the memory."""
    named = request.memories[0] if request.memories else None
    own = default_memory(request.benchmarks[0])
    name = own if named is None else f"{own}{named}" if is_own_draw(named) else named
    return None if name is None else Workbench(request).memory_component(name).label


def _placeless(config: Mapping[str, Any]) -> dict[str, Any]:
    """An encoder's settings without where it runs and where its files lie."""
    kept = {key: value for key, value in plain(config).items() if key not in ("device", "origin")}
    return {key: Path(value).name if isinstance(value, str) and "/" in value else value for key, value in kept.items()}


def _inputs(record: RunRecord) -> str:
    """Everything that runs of several seeds share."""
    data = record.data
    memory, validation = data["memory"] or {}, data["validation"] or {}
    drawn = memory.get("drawn") or {}
    held = [drawn.get("from"), drawn.get("shots"), drawn.get("rule")] if drawn else memory.get("fingerprint")
    training = [pairs.get("fingerprint") for pairs in data.get("training") or ()]
    ranker = (data["method"].get("facts", {}).get("ranker") or {}).get("fingerprint")
    prints = [data["benchmark"]["fingerprint"], data["encoder"]["fingerprint"], validation.get("fingerprint")]
    return fingerprint([*prints, held, training, ranker])


def score_of(cell: Cell, runs: Sequence[RunRecord]) -> tuple[Score | None, str]:
    """The score of a cell, over seeds where there are several; None and the reason where the runs do not have it, or
    their predictions cannot be read.

    Scores and intervals are computed anew from the predictions, by today's code whatever wrote the record; of a metric
    of a whole set of predictions the score is the record's, and its interval is from the draws that the record keeps.
    """
    data = runs[0].data
    if cell.metric not in data["metrics"]:
        return None, f"the run has no metric '{cell.metric}'"
    if cell.subset not in data["benchmark"]["subsets"]:
        return None, f"the run has no subset '{cell.subset}'"
    try:
        rows, rerun = _rows(cell, runs)
    except DataError as error:
        return None, str(error)
    for row in rows:
        if (row["metric"], row["subset"]) == (cell.metric, cell.subset) and row["score"] is not None:
            if told := _contradicted(runs, row):
                return None, told
            low, high = row["ci_low"], row["ci_high"]
            bounds = [None if value is None or math.isnan(value) else float(value) for value in (low, high)]
            failed = sum(int(run.data["samples"]["failed"]) for run in runs)
            whole = _whole(data["benchmark"]["name"]) if cell.subset == "all" else None
            score = Score(float(row["score"]), bounds[0], bounds[1], int(row["n"]), rerun, failed, whole, _made(runs))
            return score, ""
    return None, f"the run has no score of '{cell.metric}' on '{cell.subset}'"


def _contradicted(runs: Sequence[RunRecord], row: Mapping[str, Any]) -> str:
    """How a single run's record tells another score than its predictions give; "" where it does not."""
    for told in runs[0].data["scores"] if len(runs) == 1 else ():
        same = (told["metric"], told["subset"]) == (row["metric"], row["subset"])
        if same and (told["score"] is None or abs(told["score"] - row["score"]) > _SAME):
            return f"record {runs[0].run} says {told['score']}, but its predictions give {row['score']}; run it again"
    return ""


def _rows(cell: Cell, runs: Sequence[RunRecord]) -> tuple[Sequence[Mapping[str, Any]], float | None]:
    """Rows of scores that hold the cell's, and half of its interval on the same classes.

    Of several seeds that half is their mean: it is the same pictures each time, so seeds do not make it smaller.
    """
    data = runs[0].data
    if cell.metric in set_metrics(data):
        return joint_set_scores([run.data for run in runs]), None  # from the draws that the record keeps
    tables = [_predictions(run) for run in runs]
    groups = data["benchmark"]["subsets"][cell.subset]
    widths = [half_width(table, groups, cell.metric) for table in tables]
    return joint_score_rows(tables, {cell.subset: groups}, [cell.metric]), sum(widths) / len(widths)


def _predictions(run: RunRecord) -> Any:
    table = read_predictions(run)
    check_values(table, column_metrics(run.data))
    return table


def _whole(benchmark: str) -> int | None:
    """Test pictures of a published set, where its number is verified."""
    from trireme.benchmarks.datasets.catalogue import PUBLISHED
    from trireme.benchmarks.datasets.spec import TEST

    count = PUBLISHED[benchmark].counts.get(TEST) if benchmark in PUBLISHED.specs() else None
    return count.number if count is not None and count.verified else None


def _made(runs: Sequence[RunRecord]) -> dict[str, Any]:
    data = runs[0].data
    memory = data["memory"] or {}
    drawn = memory.get("drawn") or {}
    return {
        "encoder": data["encoder"]["fingerprint"],
        "benchmark": data["benchmark"]["fingerprint"],
        "memory": drawn.get("from") or memory.get("fingerprint"),
        "runs": [run.run for run in runs],
        "created": max(str(run.data["created"]) for run in runs),
        "command": str(data["command"]),
    }
