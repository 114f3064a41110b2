"""What `run.json` holds, and the check that every writer and reader passes through.

    schema             the version of this description that the record was written by (`SCHEMA`)
    name               folder name below runs/, e.g. "reco--world-all--lite--0--1f3a5c7e9b2d4f60"
    run                hash of everything that can change a score, and of nothing else
    created            ISO 8601, UTC
    method             {name, registry, config, supervision {training, inference}, facts}
    benchmark          {name, version, fingerprint, role, task, subsets {subset: [group] | null}, classes (how many)},
                       and `opened` {name, options}: what the command line called it, with its options
    encoder            {name, fingerprint, config}
    memory             null | {name, fingerprint, size (pairs), index, manifest (extract)}
    seed               int
    validation         null where the method selected nothing | {...}: what hyper-parameters were selected on
    samples            {asked, done, failed, failures [{id, reason}]}; asked = done + failed
    metrics            [name], the main one first; `hit@k`, where a ranker was asked, comes after the benchmark's own
    scores             [{subset, metric, score, ci_low, ci_high, n}]; percent, null where it is not defined
    seconds            {phase: seconds}
    peak_memory_mib, images_per_second    numbers, or null where not measured
    versions           {package: version}
    git                null | {commit, dirty}
    command            the command line
    machine            {...}
    predictions        {file, rows, bytes, sha256}: added by `write_run`
    intervals          the version of `INTERVALS` that drew those of `scores`: added by `write_run` (absent: older)

A record may hold more keys; they are kept. `replicates`, where some metrics are no mean over samples, is {units, draws,
of [{subset, metric, values}]}: what each of them is when the benchmark's units are drawn anew, in percent, null where
it is not defined (`trireme.results.resampling`); such a metric has no column. `memory.index_recall` is the share of
exact neighbours that an approximate index found, the mean over samples of the column of this name; null for an exact
index. `memory.near_equal` counts, for a memory given as it is, the test and validation pictures that have a picture of
almost the same embedding in it: {cosine, compared, found}. `memory.drawn`, null where a memory holds all pairs of its
set, is {from, shots, rule, seed, classes, short, short_classes} of the pairs that `NAME@N` drew: the fingerprint of the
memory of all pairs, how many a class, the rule and its seed (null: without effect), and how many of the classes have
fewer, the first of them by name. `replies`, null or absent where no ranker was asked, is
{statuses {status: samples}, prompt_tokens, completion_tokens} of the whole run; statuses are words of `REPLY_STATUSES`,
and one that does not occur may be left out. A sample of status "timeout" got no reply: it is done, it is scored in
retrieval order, and the next `trireme run` asks again. Five keys are read where they are there, since runs that differ
in one are never joined over seeds: `method.version`; `method.facts.ranker`, the {name, fingerprint, ...} of the ranker;
`training`, a list of {name, fingerprint, ...} of the pair sets that a method learned from; `validation.fingerprint`;
`plugins`, a list of {kind, name, package, version} of what other distributions bring to the run (with `code`, a hash,
where they are installed to be edited). `configs` beside it says who brought the YAML configs, and is not read.

predictions.parquet has one row per sample asked; its metadata hold the version under `trireme.schema` (absent: 1):

    sample_id  string
    label      int32, index of the right class, -1 where it is withheld
    group      dictionary<string>, the group of the right class ("common", "rare" ...)
    status     dictionary<string>, "ok" or "failed"
    ranked     list<int32>, class indices best first
    scores     list<float32>, in the same order
    <metric>   float32, one column a metric that is a mean: the sample's value in [0, 1], null where it failed
    candidates list<int32>, of a re-ranker: the classes it chose among; hit@k is whether the right one is there
    reply_status string, of a re-ranker: what became of the question about this sample, a word of `REPLY_STATUSES`
    found      list<string>, in retrieval: ids of the samples that were found, best first; `ranked` has their labels
    gallery    string, in retrieval: hash of the samples that were ranked, as far as their pictures could be read
    ...        the method's extras by their own names
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np

from trireme.errors import DataError
from trireme.files import fingerprint
from trireme.results.specification import ANY, Checker, Null, describe, expect

SCHEMA = 1
"""The version that is written. A change of what follows, or of a column's type, needs the next one, a step from the
last one in `trireme.results.migrations`, and frozen example records in the tests: whatever was once written is read."""
INTERVALS = 1
"""Raised by one whenever the same predictions get other intervals, so that a table can say which of them are older."""
HIT = "hit@"
"""How the metric of candidates begins: hit@5 is the share of samples whose right class is among five candidates, and so
the ceiling of any ranking of them."""
REPLY_STATUSES = ("ok", "repaired", "unreadable", "refused", "timeout")
"""What can become of a question to a ranker, in the order of tables."""


_NUMBER = (int, float)
SPEC: dict[str, Any] = {
    "schema": int,
    "name": str,
    "run": str,
    "created": str,
    "method": {
        "name": str,
        "registry": str,
        "config": Mapping,
        "supervision": {"training": str, "inference": str},
        "facts": Mapping,
    },
    "benchmark": {
        "name": str,
        "version": str,
        "fingerprint": str,
        "role": str,
        "task": str,
        "subsets": Mapping,
        "classes": int,
    },
    "encoder": {"name": str, "fingerprint": str, "config": Mapping},
    "memory": Null({"name": str, "fingerprint": str, "size": int, "index": ANY, "manifest": Mapping}),
    "seed": int,
    "validation": Null(Mapping),
    "samples": {"asked": int, "done": int, "failed": int, "failures": [{"id": str, "reason": str}]},
    "metrics": [str],
    "scores": [
        {
            "subset": str,
            "metric": str,
            "score": Null(_NUMBER),
            "ci_low": Null(_NUMBER),
            "ci_high": Null(_NUMBER),
            "n": int,
        }
    ],
    "seconds": Mapping,
    "peak_memory_mib": Null(_NUMBER),
    "images_per_second": Null(_NUMBER),
    "versions": Mapping,
    "git": Null(Mapping),
    "command": ANY,
    "machine": Mapping,
}
REPLICATES_SPEC = Null({"units": int, "draws": int, "of": [{"subset": str, "metric": str, "values": Sequence}]})
REPLIES_SPEC = Null({"statuses": Mapping, "prompt_tokens": int, "completion_tokens": int})
DRAWN_SPEC = Null({"from": str, "shots": int, "rule": str, "short": int})
OPTIONAL_SPECS = {
    "training": Null([Mapping]),
    "plugins": Null([Mapping]),
    "intervals": Null(int),
    "encoder.customised": Null(Mapping),
    "validation.name": Null(str),
    "validation.fingerprint": Null(str),
    "encoder.customised.chosen_on": Null(str),
    "method.facts.ranker.name": Null(str),
}
"""What else is read, where it is there. No version of its own: these refuse only what the text above never allowed, and
what no reader could use."""
_ROUNDED = 1e-6
"""Scores are stored with six decimals."""
_FARTHEST = 2**63
"""Whole numbers are columns of 64 bits."""
PREDICTIONS_SPEC = {"file": str, "rows": int, "bytes": int, "sha256": str}


COLUMNS = {
    "sample_id": "string",
    "label": "int32",
    "group": "dictionary<values=string, indices=int32, ordered=0>",
    "status": "dictionary<values=string, indices=int32, ordered=0>",
    "ranked": "list<item: int32>",
    "scores": "list<item: float>",
}
"""The columns of every predictions file with their types as Arrow writes them; a metric's is `METRIC_COLUMN`."""
METRIC_COLUMN = "float"
_check_keys = Checker(SPEC)
_check_replicates = Checker(REPLICATES_SPEC)
_check_replies_spec = Checker(REPLIES_SPEC)
_check_drawn = Checker(DRAWN_SPEC)
_check_optional = {name: Checker(spec) for name, spec in OPTIONAL_SPECS.items()}
_check_groups = Checker([str])
check_predictions_entry = Checker(PREDICTIONS_SPEC)
"""Of `predictions`, which `write_run` adds to a checked record."""


def content_fingerprint() -> str:
    """Hash of all that this version says about a record; a test holds it against the one stored for `SCHEMA`."""
    specs = (SPEC, REPLICATES_SPEC, REPLIES_SPEC, DRAWN_SPEC, PREDICTIONS_SPEC)
    return fingerprint([[describe(spec) for spec in specs], REPLY_STATUSES, COLUMNS, METRIC_COLUMN])


def check_record(record: Mapping[str, Any]) -> None:
    """Check a whole record: every key present, of its type, and its numbers consistent.

    Raises:
        DataError: naming the key.
    """
    schema = record.get("schema")
    if schema != SCHEMA:
        raise DataError(f"schema {schema!r} is not the one that this version reads ({SCHEMA})")
    _check_keys(record, "")
    samples = record["samples"]
    if samples["asked"] != samples["done"] + samples["failed"]:
        raise DataError("'samples.asked' is not 'samples.done' + 'samples.failed'")
    if samples["failed"] != len(samples["failures"]):
        raise DataError(f"'samples.failed' is {samples['failed']} but {len(samples['failures'])} failures are listed")
    _check_replicates(record.get("replicates"), "replicates")
    _check_drawn((record["memory"] or {}).get("drawn"), "memory.drawn")
    _check_replies(record)
    _check_rest(record)
    metrics, subsets = record["metrics"], record["benchmark"]["subsets"]
    if not metrics:
        raise DataError("'metrics' is empty")
    sets = {one["metric"] for one in (record.get("replicates") or {}).get("of", ())}
    seen = set()
    for position, row in enumerate(record["scores"]):
        if row["metric"] not in metrics:
            raise DataError(f"'scores[{position}].metric' is '{row['metric']}', which 'metrics' does not list")
        if row["subset"] not in subsets:
            raise DataError(f"'scores[{position}].subset' is '{row['subset']}', which the benchmark does not have")
        if (row["subset"], row["metric"]) in seen:
            raise DataError(f"'scores[{position}]' is a second score of '{row['metric']}' on '{row['subset']}'")
        seen.add((row["subset"], row["metric"]))
        _check_score(row, position)
        if row["metric"] not in sets:
            _check_mean(row, position, samples["asked"])


def _check_replies(record: Mapping[str, Any]) -> None:
    replies = record.get("replies")
    _check_replies_spec(replies, "replies")
    if not replies:
        return
    counts = replies["statuses"]
    for status, count in counts.items():
        if status not in REPLY_STATUSES:
            raise DataError(f"'replies.statuses' has '{status}', which is none of {', '.join(REPLY_STATUSES)}")
        expect(count, int, f"replies.statuses.{status}")
    total, done = sum(counts.values()), record["samples"]["done"]
    if total > done:
        raise DataError(f"'replies.statuses' counts {total} replies for {done} samples")


def _check_score(row: Mapping[str, Any], position: int) -> None:
    if not 0 <= row["n"] < _FARTHEST:
        raise DataError(f"'scores[{position}].n' is {row['n']}, which is no number of samples")
    if row["score"] is None:
        if row["n"]:
            raise DataError(f"'scores[{position}].score' is null although n is {row['n']}")
        return
    for key in ("score", "ci_low", "ci_high"):
        value = row[key]
        if value is not None and not 0 <= value <= 100:  # NaN too
            raise DataError(f"'scores[{position}].{key}' is {value}; a score is a percentage")
    low, high = row["ci_low"], row["ci_high"]
    if low is not None and high is not None and low > high:
        raise DataError(f"'scores[{position}]' has an interval from {low} to {high}")


def _check_mean(row: Mapping[str, Any], position: int, asked: int) -> None:
    """A score that is a mean over samples: of no more than were asked, and in its interval."""
    if row["n"] > asked:
        raise DataError(f"'scores[{position}].n' is {row['n']}, but {asked} samples were asked")
    score, low, high = row["score"], row["ci_low"], row["ci_high"]
    if score is None or low is None or high is None:
        return
    if not low - _ROUNDED <= score <= high + _ROUNDED:
        raise DataError(f"'scores[{position}].score' is {score}, outside its interval from {low} to {high}")


def _check_rest(record: Mapping[str, Any]) -> None:
    """Keys that are read where they are there, and whole numbers that no column can hold."""
    get, facts = record.get, record["method"]["facts"]
    encoder, ranker, chosen = record["encoder"].get("customised"), facts.get("ranker"), record["validation"] or {}
    there = [("training", get("training")), ("plugins", get("plugins")), ("intervals", get("intervals"))]
    there += [(f"validation.{key}", chosen.get(key)) for key in ("name", "fingerprint") if chosen]
    there.append(("encoder.customised", encoder))
    if isinstance(encoder, Mapping):
        there.append(("encoder.customised.chosen_on", encoder.get("chosen_on")))
    if isinstance(ranker, Mapping):
        there.append(("method.facts.ranker.name", ranker.get("name")))
    for name, value in there:
        if value is not None:
            _check_optional[name](value, name)
    for subset, groups in record["benchmark"]["subsets"].items():
        if groups is not None:
            _check_groups(groups, f"benchmark.subsets.{subset}")
    _check_whole("seed", record["seed"])
    _check_whole("samples.asked", record["samples"]["asked"])
    _check_whole("method.facts.trained_parameters", facts.get("trained_parameters"))
    _check_whole("memory.size", (record["memory"] or {}).get("size"))
    for key in ("prompt_tokens", "completion_tokens"):
        _check_whole(f"replies.{key}", (record.get("replies") or {}).get(key))


def _check_whole(name: str, value: Any) -> None:
    if isinstance(value, int) and not -_FARTHEST <= value < _FARTHEST:
        raise DataError(f"'{name}' is {value:.1e}, more than a column of 64 bits can hold")


def plain(value: Any, where: str = "") -> Any:
    """The same value in JSON's own types: numpy scalars and arrays, paths and enumerations are turned into them.

    Raises:
        DataError: naming the key of a value that JSON cannot hold (NaN and infinity are such values).
    """
    if isinstance(value, Enum):
        return plain(value.value, where)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise DataError(f"'{where}' is {value}, which a run record cannot hold")
        return value
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist(), where)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}" if where else str(key)) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [plain(item, f"{where}[{position}]") for position, item in enumerate(items)]
    raise DataError(f"'{where}' is {type(value).__name__}, which a run record cannot hold")
