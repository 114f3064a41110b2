"""From run records to the rows of the tidy long frame, column by column: ten thousand records pass here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trireme.files import fingerprint
from trireme.results.records import RunRecord
from trireme.results.schema import REPLY_STATUSES

REPLIES = tuple(f"replies_{status}" for status in REPLY_STATUSES)
TOKENS = ("prompt_tokens", "completion_tokens")
OF_A_SCORE = ("subset", "metric", "score", "ci_low", "ci_high", "n")
TYPES: dict[str, str] = {
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
    "validation": "str",
    "trained_parameters": "Int64",
    "images_per_second": "float64",
    "seconds": "float64",
    "peak_memory_mib": "float64",
    "created": "str",
    "name": "str",
    "run": "str",
    "registry": "str",
    "config": "str",
    "version": "str",
    "variant": "str",
    "setting": "str",
    "benchmark_fingerprint": "str",
    "encoder_fingerprint": "str",
    "memory_fingerprint": "str",
    "ranker": "str",
    **dict.fromkeys((*REPLIES, *TOKENS), "Int64"),
}
"""Column -> type, in the order of the frame."""

Row = Mapping[str, Any]
Entry = tuple[Row, Sequence[Row]]
"""What holds for a whole run (or its seeds together), and its rows of `OF_A_SCORE`; see `entry`."""


def tidy(
    entries: Sequence[Entry], columns: Iterable[str] = TYPES, order: NDArray[np.intp] | None = None
) -> pd.DataFrame:
    """One row per entry x score; empty where there is no entry.

    Args:
        columns: some of `TYPES`.
        order: (rows,) places of the rows in the order wanted: sorting two columns is cheaper than moving forty.
    """
    runs = np.repeat(np.arange(len(entries)), [len(scores) for _, scores in entries])
    scores = [score for _, of_run in entries for score in of_run]
    if order is not None:
        runs, scores = runs[order], [scores[place] for place in order]
    found: dict[str, Any] = {}
    for column in columns:
        kind = TYPES[column]
        if column in OF_A_SCORE:
            found[column] = pd.Series([score[column] for score in scores], dtype=kind)
        elif column == "main":
            mains = [common["main_metric"] for common, _ in entries]
            same = [score["metric"] == mains[run] for score, run in zip(scores, runs.tolist(), strict=True)]
            found[column] = pd.Series(same, dtype=kind)
        else:  # converted once a run, then repeated
            found[column] = pd.Series([common[column] for common, _ in entries], dtype=kind).array.take(runs)
    return pd.DataFrame(found, copy=False)


def sorted_tidy(entries: Sequence[Entry], columns: Iterable[str], by: Sequence[str]) -> pd.DataFrame:
    """The same with rows sorted by some columns: scores fall, the others rise, what is missing comes last."""
    keys = tidy(entries, by)
    falling = [key != "score" for key in by]
    placed = keys.sort_values(list(by), ascending=falling, kind="stable", na_position="last")
    return tidy(entries, columns, placed.index.to_numpy())


def entry(record: RunRecord) -> dict[str, Any]:
    """What holds for all rows of a record: the columns of `TYPES` but those of a score, and `main_metric`."""
    data = record.data
    method, memory = data["method"], data["memory"] or {}
    parameters = method["facts"].get("trained_parameters")
    config = fingerprint([method["registry"], method["config"]])
    return {
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
        "validation": (data["validation"] or {}).get("name"),
        "trained_parameters": parameters if isinstance(parameters, int) else None,
        "images_per_second": data["images_per_second"],
        "seconds": sum(value for value in data["seconds"].values() if isinstance(value, int | float)),
        "peak_memory_mib": data["peak_memory_mib"],
        "created": data["created"],
        "name": data["name"],
        "run": data["run"],
        "registry": method["registry"],
        "config": config[:6],
        "version": None if (version := method.get("version")) is None else str(version),
        "variant": (variant := _variant(record, config)),
        "setting": _setting(record, variant),
        "benchmark_fingerprint": data["benchmark"]["fingerprint"],
        "encoder_fingerprint": data["encoder"]["fingerprint"],
        "memory_fingerprint": memory.get("fingerprint"),
        "ranker": ranker(record).get("name"),
        "main_metric": data["metrics"][0],
        **_replies(record),
    }


def _variant(record: RunRecord, config: str) -> str:
    """Hash of everything that can change a score but the seed, the benchmark and what may be the benchmark's own (pairs
    of the memory, what was learned from and selected on): one method over several benchmarks is one of these."""
    data = record.data
    method, memory = data["method"], data["memory"] or {}
    plugins = [one for one in data.get("plugins") or () if one.get("kind") != "benchmark"]
    return fingerprint(
        [
            [method["name"], method.get("version"), config],
            ranker(record).get("fingerprint"),
            [data["encoder"]["name"], data["encoder"]["fingerprint"]],
            [memory.get("index"), _drawn(memory)[1:]],
            *([plugins] if plugins else []),
        ]
    )


def _setting(record: RunRecord, variant: str) -> str:
    """Hash of everything that can change a score but the benchmark, what was selected on, and the seed."""
    memory, training = record.data["memory"] or {}, record.data.get("training") or ()
    pairs = [memory.get("name"), _drawn(memory) or memory.get("fingerprint")]
    return fingerprint([variant, pairs, [one.get("fingerprint") for one in training]])


def ranker(record: RunRecord) -> Mapping[str, Any]:
    """Which ranker answered: {name, fingerprint ...}; empty for a method that asks none."""
    found = record.data["method"]["facts"].get("ranker")
    return found if isinstance(found, Mapping) else {}


def _drawn(memory: Mapping[str, Any]) -> list[Any]:
    """What seeds draw by, and from which memory; empty where nothing is drawn. The pairs differ from seed to seed."""
    drawn = memory.get("drawn") or {}
    return [drawn["from"], drawn["shots"], drawn["rule"]] if drawn else []


_NO_REPLIES: dict[str, int | None] = dict.fromkeys((*REPLIES, *TOKENS))


def _replies(record: RunRecord) -> dict[str, int | None]:
    """Columns of the replies' statuses and tokens; all None for a method that asks no ranker."""
    replies = record.data.get("replies")
    if not replies:
        return _NO_REPLIES
    counts = {f"replies_{status}": replies["statuses"].get(status, 0) for status in REPLY_STATUSES}
    return {**counts, **{name: replies[name] for name in TOKENS}}
