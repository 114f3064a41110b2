"""Frames made from run records alone: the tidy long one, the leaderboard with seeds joined, and the pivot.

What is one row. Runs are joined over seeds only where everything else that can change a score is the same: method
(name, registry name, version, config), ranker fingerprint, benchmark fingerprint and role, encoder and memory
fingerprints, validation and training sets. Runs that share a method's name but differ in one of these stay separate
rows, told apart by `run`, and a note on stderr says so. A run that is found twice (a copied folder) counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from trireme.errors import DataError, UsageError, unknown_name
from trireme.files import fingerprint
from trireme.progress import say
from trireme.results.records import DERIVED_METRICS, RunRecord, find_runs, read_predictions, set_metrics
from trireme.results.resampling import joint_set_scores
from trireme.results.schema import HIT, REPLY_STATUSES
from trireme.results.statistics import joint_score_rows

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

_SCORE_KEYS = ("subset", "metric", "score", "ci_low", "ci_high", "n")
_NAMED = ["method", "benchmark", "subset", "metric", "encoder", "memory"]


def load(path: Path | str, strict: bool = False) -> pd.DataFrame:
    """The tidy long frame: one row per run x subset x metric, every role; empty where no run has finished.

    Args:
        path: a results root, its `runs` folder, or a single run's folder.
        strict: raise on a damaged record, which else is named on stderr and left out.

    Returns:
        Columns method, benchmark, role, subset, metric, main (is this the benchmark's main metric), score, ci_low,
        ci_high (percent), n, failed (samples), encoder, memory, memory_size (pairs), seed, supervision_training,
        supervision_inference, chosen_on ("validation" where the method chose settings on validation labels, else
        missing), trained_parameters, images_per_second, seconds (all phases), peak_memory_mib, created, name, run,
        config (hash of the method's config), the fingerprints of benchmark, encoder and memory, and of a method that
        asks a ranker: ranker (its name), replies_ok, replies_repaired, replies_unreadable, replies_refused,
        replies_timeout (samples), prompt_tokens, completion_tokens; missing for the others.

    Raises:
        DataError: the path does not exist; with `strict`, a record is damaged.
    """
    frame = _frame(row for record in find_runs(Path(path), strict) for row in _rows(record, record.scores))
    return frame.drop(columns="seeds")


def standings(path: Path | str, role: str = "test", strict: bool = False) -> pd.DataFrame:
    """`load` with seeds joined and rows sorted: the columns of `leaderboard`, then the rest of `load`'s.

    Where several seeds are joined, `score` is their mean, the interval draws classes and seeds (see
    `trireme.results.statistics`), `failed` is the largest of theirs, replies and tokens are sums, and other
    costs are means.

    Args:
        role: "test" by default; runs made to select something are listed only when "validation" is asked for.

    Raises:
        DataError: no finished run of this role.
    """
    if role not in ("test", "validation"):
        raise unknown_name("role", role, ("test", "validation"))
    records = [record for record in _distinct(find_runs(Path(path), strict), strict) if record.role == role]
    if not records:
        raise DataError(f"no finished {role} run in {path}; {_where_else(Path(path))}")
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(_identity(record), []).append(record)
    rows: list[dict[str, Any]] = []
    for group in groups.values():
        seeds = [record.seed for record in group]
        if len(set(seeds)) == len(seeds):
            rows += _joined(group, strict)
        else:  # equal in all that we compare and in seed, yet not the same run: never averaged
            for record in group:
                rows += _joined([record], strict)
    frame = _frame(rows).drop(columns="seed")
    _note_shared_names(frame)
    order = ["benchmark", "subset", "metric", "score", "method", "encoder", "memory", "run"]
    frame = frame.sort_values(order, ascending=[key != "score" for key in order], kind="stable", na_position="last")
    first = list(COLUMNS)
    return frame[first + [column for column in frame if column not in first]].reset_index(drop=True)


def _where_else(path: Path) -> str:
    """What to do where a folder has no runs: name the folders below it that have some."""
    near = sorted(str(runs.parent) for runs in path.glob("*/runs") if runs.is_dir())
    return f"there are some in {', '.join(near[:3])}" if near else "run `trireme run suite=world` first"


def leaderboard(path: Path | str, role: str = "test", strict: bool = False) -> pd.DataFrame:
    """The leaderboard, with exactly the columns of `COLUMNS`: `standings` without the rest.

    Rows are sorted by benchmark, subset, metric, falling score, method. `seeds` is e.g. "0,1,2", and `run` holds the
    hash of each seed's run, joined by "+".
    """
    return standings(path, role, strict)[list(COLUMNS)]


def pivot(frame: pd.DataFrame, by: str = "benchmark", metric: str | None = None, subset: str = "all") -> pd.DataFrame:
    """Scores as a table: one row per method, one column per value of `by`, and their mean (but over subsets).

    Args:
        frame: from `leaderboard`, `standings` or `load` (of one role, and one seed).
        by: what the columns are: "benchmark", "subset", "encoder" or "memory". The others, where they vary, are rows.
        metric: see `default_metric`; candidates' `hit@k` only where it is asked for.
        subset: which subset the scores are of; ignored with `by="subset"`.

    Returns:
        A frame indexed by method and what else varies, best first. `mean` is null where a cell of its row is missing:
        a mean over fewer benchmarks is no comparison.
    """
    axes = ("benchmark", "subset", "encoder", "memory")
    if by not in axes:
        raise unknown_name("table axis", by, axes)
    chosen = frame[frame["metric"] == (metric or default_metric(frame))]
    if by != "subset":
        chosen = chosen[chosen["subset"] == subset]
    if chosen.empty:
        of = frame[frame["metric"] == (metric or default_metric(frame))]
        elsewhere = f"; there are some on {', '.join(of['subset'].unique())}" if len(of) else ""
        raise UsageError(f"no score of metric '{metric or default_metric(frame)}' on subset '{subset}'{elsewhere}")
    chosen = chosen.fillna({"memory": "", "ranker": ""})
    index = ["method"] + [axis for axis in axes if axis not in (by, "subset") and chosen[axis].nunique() > 1]
    for tells_apart in ("ranker", "config", "run"):
        varies = tells_apart in chosen and chosen[tells_apart].nunique() > 1
        if varies and chosen.duplicated([*index, by]).any():
            index.append(tells_apart)
    table = chosen.pivot(index=index, columns=by, values="score")
    if by == "subset":  # `all` holds the other subsets already
        return table.sort_values(list(table.columns)[:1], ascending=False, kind="stable", na_position="last")
    table["mean"] = table.mean(axis=1, skipna=False)
    return table.sort_values("mean", ascending=False, kind="stable", na_position="last")


def default_metric(frame: pd.DataFrame) -> str:
    """`top1` where the frame has it, else its only main metric, or its only one but `hit@k`; UsageError where there are
    several."""
    names = [name for name in dict.fromkeys(frame["metric"]) if not name.startswith(HIT)]
    if "top1" not in names and "main" in frame and frame.loc[frame["main"], "metric"].nunique() == 1:
        return str(frame.loc[frame["main"], "metric"].iloc[0])
    if "top1" in names or not names:
        return "top1"
    if len(names) > 1:
        raise UsageError(f"name the metric: {', '.join(names)}")
    return str(names[0])


def _frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=list(_TYPES))
    return frame.astype({column: kind for column, kind in _TYPES.items() if kind})


_REPLIES = tuple(f"replies_{status}" for status in REPLY_STATUSES)
_TOKENS = ("prompt_tokens", "completion_tokens")
_TYPES: dict[str, str] = {
    "method": "str",
    "benchmark": "str",
    "role": "str",
    "subset": "str",
    "metric": "str",
    "main": "bool",
    "score": "float64",
    "ci_low": "float64",
    "ci_high": "float64",
    "n": "int64",
    "failed": "int64",
    "encoder": "str",
    "memory": "str",
    "memory_size": "Int64",
    "seed": "int64",
    "seeds": "str",
    "supervision_training": "str",
    "supervision_inference": "str",
    "chosen_on": "str",
    "trained_parameters": "Int64",
    "images_per_second": "float64",
    "seconds": "float64",
    "peak_memory_mib": "float64",
    "created": "str",
    "name": "str",
    "run": "str",
    "config": "str",
    "benchmark_fingerprint": "str",
    "encoder_fingerprint": "str",
    "memory_fingerprint": "str",
    "ranker": "str",
    **dict.fromkeys((*_REPLIES, *_TOKENS), "Int64"),
}


def _rows(record: RunRecord, scores: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    data = record.data
    method, memory = data["method"], data["memory"] or {}
    parameters = method["facts"].get("trained_parameters")
    common = {
        "method": method["name"],
        "benchmark": data["benchmark"]["name"],
        "role": data["benchmark"]["role"],
        "failed": data["samples"]["failed"],
        "encoder": data["encoder"]["name"],
        "memory": memory.get("name"),
        "memory_size": memory.get("size"),
        "seed": data["seed"],
        "seeds": str(data["seed"]),
        "supervision_training": method["supervision"]["training"],
        "supervision_inference": method["supervision"]["inference"],
        "chosen_on": "validation" if data["validation"] else (data["encoder"].get("customised") or {}).get("chosen_on"),
        "trained_parameters": parameters if isinstance(parameters, int) else None,
        "images_per_second": data["images_per_second"],
        "seconds": sum(value for value in data["seconds"].values() if isinstance(value, int | float)),
        "peak_memory_mib": data["peak_memory_mib"],
        "created": data["created"],
        "name": data["name"],
        "run": data["run"],
        "config": fingerprint([method["registry"], method["config"]])[:6],
        "benchmark_fingerprint": data["benchmark"]["fingerprint"],
        "encoder_fingerprint": data["encoder"]["fingerprint"],
        "memory_fingerprint": memory.get("fingerprint"),
        "ranker": _ranker(record).get("name"),
        **_replies(record),
    }
    main = data["metrics"][0]
    return [{**common, "main": score["metric"] == main, **{key: score[key] for key in _SCORE_KEYS}} for score in scores]


def _ranker(record: RunRecord) -> Mapping[str, Any]:
    """Which ranker answered: {name, fingerprint ...}; empty for a method that asks none."""
    found = record.data["method"]["facts"].get("ranker")
    return found if isinstance(found, Mapping) else {}


def _replies(record: RunRecord) -> dict[str, int | None]:
    """Columns of the replies' statuses and tokens; all None for a method that asks no ranker."""
    replies = record.data.get("replies")
    if not replies:
        return dict.fromkeys((*_REPLIES, *_TOKENS))
    counts = {f"replies_{status}": replies["statuses"].get(status, 0) for status in REPLY_STATUSES}
    return {**counts, **{name: replies[name] for name in _TOKENS}}


def _distinct(records: Sequence[RunRecord], strict: bool) -> list[RunRecord]:
    """Each run once, whatever the folder it was copied to; where its copies disagree, it is named and left out."""
    seen: dict[str, RunRecord] = {}
    disputed: set[str] = set()
    for record in records:
        first = seen.setdefault(record.run, record)
        if first is not record and first.scores != record.scores:
            problem = f"{first.folder} and {record.folder} are both run {record.run}, but their scores differ"
            if strict:
                raise DataError(f"{problem}; delete the wrong one")
            say(f"warning: left out: {problem}; delete the wrong one")
            disputed.add(record.run)
    return [record for run, record in seen.items() if run not in disputed]


def _identity(record: RunRecord) -> str:
    """Everything that can change a score, but the seed."""
    data = record.data
    method, memory, validation = data["method"], data["memory"] or {}, data["validation"] or {}
    return fingerprint(
        [
            [method["name"], method["registry"], method.get("version"), method["config"]],
            _ranker(record).get("fingerprint"),
            [data["benchmark"]["name"], data["benchmark"]["fingerprint"], data["benchmark"]["role"]],
            [data["encoder"]["name"], data["encoder"]["fingerprint"]],
            [memory.get("name"), _drawn(memory) or memory.get("fingerprint"), memory.get("index")],
            validation.get("fingerprint"),
            [pairs.get("fingerprint") for pairs in data.get("training") or ()],
        ]
    )


def _drawn(memory: Mapping[str, Any]) -> list[Any]:
    """What seeds draw by, and from which memory; empty where nothing is drawn. The pairs differ from seed to seed."""
    drawn = memory.get("drawn") or {}
    return [drawn["from"], drawn["shots"], drawn["rule"]] if drawn else []


def _joined(group: Sequence[RunRecord], strict: bool) -> list[dict[str, Any]]:
    """The rows of one method on one benchmark: its only run's scores, or those of several seeds together."""
    if len(group) == 1:
        return _rows(group[0], group[0].scores)
    group = sorted(group, key=lambda record: record.seed)
    common = set.intersection(*(set(record.data["metrics"]) for record in group))
    names = [metric for metric in group[0].data["metrics"] if metric in common]  # seeds may choose another k of hit@k
    sets = set_metrics(group[0].data)
    metrics = [metric for metric in names if metric not in sets]
    columns = ["label", "group", "status", *dict.fromkeys(DERIVED_METRICS.get(metric, metric) for metric in metrics)]
    readable, tables = [], []
    for record in group:
        try:
            tables.append(read_predictions(record, columns))
            readable.append(record)
        except DataError as error:
            if strict:
                raise
            say(f"warning: left out of the mean over seeds: {error}")
    if len(readable) < 2:
        return _rows(readable[0], readable[0].scores) if readable else []
    scores = joint_score_rows(tables, readable[0].data["benchmark"]["subsets"], metrics) if metrics else []
    scores += joint_set_scores([record.data for record in readable]) if sets else []
    per_seed = [_rows(record, scores) for record in readable]
    shared = {
        "seeds": ",".join(str(record.seed) for record in readable),
        "run": "+".join(record.run for record in readable),
        "failed": max(rows[0]["failed"] for rows in per_seed),
    }
    for counted in (*_REPLIES, *_TOKENS):
        counts = [rows[0][counted] for rows in per_seed if rows[0][counted] is not None]
        shared[counted] = sum(counts) if counts else None
    for cost in ("images_per_second", "seconds", "peak_memory_mib"):
        known = [rows[0][cost] for rows in per_seed if rows[0][cost] is not None]
        shared[cost] = sum(known) / len(known) if known else None
    return [{**row, **shared} for row in per_seed[0]]


def _note_shared_names(frame: pd.DataFrame) -> None:
    shared = frame[frame.duplicated(_NAMED, keep=False)]
    for (method, benchmark), rows in shared.groupby(["method", "benchmark"]):
        runs = sorted(set(rows["run"]))
        say(f"note: '{method}' on {benchmark} stands for {len(runs)} runs that differ: {', '.join(runs)}")
