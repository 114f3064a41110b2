"""What a run record says beside its scores: every input with its fingerprint, and how the run was computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from trireme import environment
from trireme.methods.base import Context, Method
from trireme.methods.rankers.base import REPLY_STATUS, Status
from trireme.methods.recall import INDEX_RECALL
from trireme.origins import configs_of
from trireme.plan import Run, effective
from trireme.readable import Readable
from trireme.results.schema import SCHEMA
from trireme.retrieval.encoders.customised import is_customised, read_customised
from trireme.types import Role
from trireme.workbench import Workbench


def assemble(
    run: Run,
    bench: Workbench,
    context: Context,
    method: Method,
    readable: Readable,
    predictions: pa.Table,
    seconds: Mapping[str, float],
    predicted: int,
) -> dict[str, Any]:
    """Everything of `trireme.results.schema` but the scores and the command line.

    Args:
        predictions: of every sample, those of earlier processes included.
        seconds: by phase; `predict` gives the rate.
        predicted: samples that this process predicted.
    """
    benchmark = bench.benchmark(run.benchmark)
    supervision, customised = method.supervision, _customised(context)
    spent, rankers = seconds.get("predict", 0.0), getattr(method, "rankers", ())
    return {
        "schema": SCHEMA,
        "name": run.name,
        "run": run.hash,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "method": {
            "name": run.method.label,
            "registry": run.method.target,
            "version": getattr(run.method_class, "version", 1),
            "config": dict(effective(run.method)),
            "supervision": {
                "training": _strongest(
                    supervision.training, customised.get("told", "captions") if customised else "none"
                ),
                "inference": supervision.inference,
            },
            "facts": method.facts(),
        },
        "benchmark": {
            "name": benchmark.name,
            "version": benchmark.version,
            "fingerprint": benchmark.fingerprint(run.role),
            "role": str(run.role),
            "task": str(benchmark.task),
            "subsets": {name: None if held is None else list(held) for name, held in benchmark.subsets.items()},
            "classes": len(benchmark.class_ids),
            "opened": {
                "name": run.benchmark,
                "options": dict(bench.request.overrides.get(("benchmark", run.benchmark), {})),
            },
        },
        "encoder": {
            "name": context.encoder.name,
            "fingerprint": context.encoder.fingerprint,
            "config": bench.encoder(run.encoder).component.resolved(),
            "customise": dict(bench.encoder(run.encoder).component.customise),
            "customised": customised,
        },
        "memory": _memory(run, bench, context, predictions),
        "seed": run.seed,
        "plugins": [dict(one) for one in run.plugins],
        "configs": [dict(one) for one in configs_of(run.method, run.benchmark, run.encoder, run.memory, rankers)],
        "training": [bench.pair_set_facts(name) for name in run.training_sets],
        "validation": _validation(run, bench),
        "samples": {
            "asked": len(readable.asked),
            "done": len(readable.samples),
            "failed": len(readable.failures),
            "failures": [{"id": sample, "reason": reason} for sample, reason in readable.failures.items()],
        },
        "metrics": list(benchmark.metrics),
        "replies": _replies(predictions),
        "seconds": dict(seconds),
        "peak_memory_mib": round(environment.peak_memory_mib(), 1),
        "images_per_second": round(predicted / spent, 1) if predicted and spent else None,
        "versions": environment.versions(),
        "git": environment.git_state(),
        "machine": environment.machine(),
    }


def _strongest(*told: str) -> str:
    """What training was told in all: whoever customised the encoder was told something too."""
    return max(told, key=("none", "captions", "labels").index)


def _customised(context: Context) -> dict[str, Any] | None:
    """How the encoder was customised, as its file says; None for a base encoder."""
    file = getattr(getattr(context.encoder, "config", None), "react", "")
    if not file:
        return None
    path = Path(file).expanduser()
    if not is_customised(path):
        return {"file": path.name, "variant": "released"}
    found = read_customised(path)
    about = {name: value for name, value in found.record.items() if name != "pictures"}
    return {"file": path.name, "base": found.base, "variant": found.variant, **about}


def _memory(run: Run, bench: Workbench, context: Context, predictions: pa.Table) -> dict[str, Any] | None:
    if run.memory is None or context.memory is None:
        return None
    manifest = context.memory.manifest
    kept = {key: manifest[key] for key in ("name", "encoder", "pairs", "counts") if key in manifest}
    duplicates = manifest.get("near_duplicates")
    if duplicates:  # how many and by which rule; the memory itself lists them
        kept["near_duplicates"] = {key: value for key, value in duplicates.items() if key != "removed"}
    measured = INDEX_RECALL in predictions.column_names
    return {
        "name": bench.memory_component(run.memory).label,
        "fingerprint": context.memory.fingerprint,
        "size": len(context.memory),
        "drawn": manifest.get("drawn"),
        "index": manifest["index"],
        "near_equal": bench.near_equal(run.memory, run.encoder, run.benchmark),
        "index_recall": pc.mean(predictions[INDEX_RECALL]).as_py() if measured else None,
        "manifest": kept,
    }


def _replies(predictions: pa.Table) -> dict[str, Any] | None:
    """How many replies of a ranker have each status, and what they cost; None for methods that ask none."""
    if REPLY_STATUS not in predictions.column_names:
        return None
    counts = Counter(status for status in predictions[REPLY_STATUS].to_pylist() if status is not None)
    tokens = {name: pc.sum(predictions[name]).as_py() or 0 for name in ("prompt_tokens", "completion_tokens")}
    return {"statuses": dict(sorted(counts.items())), **tokens}


def without_reply(record: Mapping[str, Any]) -> int:
    """How many samples of a record got no reply of a ranker; their order is that of retrieval."""
    replies = record.get("replies") or {}
    return int(replies.get("statuses", {}).get(Status.TIMEOUT, 0))


def lacking(record: Mapping[str, Any]) -> int:
    """How many pictures a record could not read, and how many replies it did not get."""
    failed = len((record.get("validation") or {}).get("failures", ())) + int(record["samples"]["failed"])
    memory = (record["memory"] or {}).get("manifest", {}).get("counts", {})
    return failed + int(memory.get("unreadable", 0)) + without_reply(record)


def _validation(run: Run, bench: Workbench) -> dict[str, Any] | None:
    """What the method could select on; what it did select is among its facts."""
    if run.validation is None:
        return None
    kept = bench.readable(run.validation, Role.VALIDATION, run.encoder)
    return {
        "name": run.validation,
        "fingerprint": bench.validation_fingerprint(run.benchmark),
        "asked": len(kept.asked),
        "done": len(kept.samples),
        "failures": [{"id": sample, "reason": reason} for sample, reason in kept.failures.items()],
    }
