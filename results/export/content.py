"""What a tracker is told about a run, the same to all of them: settings, and numbers by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from trireme.files import sha256_file
from trireme.results.records import RUN_FILE, RunRecord

_SETTINGS = ("method", "benchmark", "encoder", "memory", "seed", "training", "validation", "versions", "git")
_ALONE = ("created", "command", "run", "schema")


class Outcome(StrEnum):
    """What became of one record."""

    EXPORTED = "exported"
    UPDATED = "updated"
    THERE = "already there"


def digest(record: RunRecord) -> str:
    """Hash of the record as it is stored, that of its predictions included."""
    return sha256_file(record.folder / RUN_FILE)


def settings(record: RunRecord) -> dict[str, Any]:
    """What was run and how, as the record has it: no score, and nothing of the computer."""
    return {key: record.data[key] for key in (*_ALONE, *_SETTINGS) if key in record.data}


def flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, text) of every value in a nested mapping; a list is one value."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, str(value)


def measures(record: RunRecord) -> dict[str, float]:
    """Numbers by name: `<metric>/<subset>` in percent, with `/ci_low`, `/ci_high` and `/n` below it, and what it cost.

    A number that is not defined is left out.
    """
    data = record.data
    found: dict[str, Any] = {}
    for row in record.scores:
        name = f"{row['metric']}/{row['subset']}"
        if row["score"] is not None:
            found[name] = row["score"]
            found |= {f"{name}/{key}": row[key] for key in ("ci_low", "ci_high", "n")}
    found |= {f"seconds/{phase}": seconds for phase, seconds in data["seconds"].items()}
    found |= {f"samples/{key}": data["samples"][key] for key in ("asked", "done", "failed")}
    found |= {key: data[key] for key in ("images_per_second", "peak_memory_mib")}
    replies = data.get("replies") or {"statuses": {}}
    found |= {f"replies/{status}": count for status, count in replies["statuses"].items()}
    found |= {key: replies.get(key) for key in ("prompt_tokens", "completion_tokens")}
    found["trained_parameters"] = data["method"]["facts"].get("trained_parameters")
    return {key: float(value) for key, value in found.items() if isinstance(value, int | float)}
