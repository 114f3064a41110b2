"""Run records with chosen content, valid by the package's own writer: for tests here and for the benchmark script."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trireme.files import fingerprint
from trireme.results.records import write_run
from trireme.results.statistics import score_rows

SUBSETS: dict[str, list[str] | None] = {"all": None, "common": ["common"], "rare": ["rare"]}


def table(
    top1: Sequence[float],
    labels: Sequence[int],
    groups: Sequence[str] | None = None,
    failed: Sequence[int] = (),
    top5: Sequence[float] | None = None,
) -> pa.Table:
    """Predictions of len(top1) samples named s0, s1 ...; rows in `failed` have no values."""
    n = len(top1)
    ok = [i not in failed for i in range(n)]
    rng = np.random.default_rng(0)
    ranked = [[int(label), int(label) + 1] if ok[i] else [] for i, label in enumerate(labels)]
    return pa.table(
        {
            "sample_id": [f"s{i}" for i in range(n)],
            "label": pa.array(labels, pa.int32()),
            "group": list(groups)
            if groups is not None
            else ["common" if label % 2 == 0 else "rare" for label in labels],
            "status": ["ok" if state else "failed" for state in ok],
            "ranked": pa.array(ranked, pa.list_(pa.int32())),
            "scores": pa.array([list(rng.random(len(row))) for row in ranked], pa.list_(pa.float32())),
            "top1": pa.array([v if s else None for v, s in zip(top1, ok, strict=True)], pa.float32()),
            "top5": pa.array([v if s else None for v, s in zip(top5 or top1, ok, strict=True)], pa.float32()),
        }
    )


def record(predictions: pa.Table, **changes: Any) -> dict[str, Any]:
    """A complete record of these predictions. Changes are dotted keys with `__` for the dot: method__name="reco"."""
    status = predictions["status"].to_pylist()
    failed = [i for i, state in zip(predictions["sample_id"].to_pylist(), status, strict=True) if state == "failed"]
    subsets, metrics = changes.get("benchmark__subsets", SUBSETS), changes.get("metrics", ["top1", "top5"])
    content: dict[str, Any] = {
        "schema": 1,
        "name": "",
        "run": "",
        "created": "2024-05-06T07:08:09+00:00",
        "method": {
            "name": "knn",
            "registry": "knn",
            "config": {"k": 1},
            "supervision": {"training": "none", "inference": "labels"},
            "facts": {},
        },
        "benchmark": {
            "name": "world/all",
            "version": "1",
            "fingerprint": "b" * 16,
            "role": "test",
            "task": "zero_shot",
            "subsets": subsets,
            "classes": 40,
        },
        "encoder": {"name": "lite", "fingerprint": "e" * 16, "config": {"dtype": "float32"}},
        "memory": {
            "name": "world/memory",
            "fingerprint": "0" * 16,
            "size": 1000,
            "index": "flat",
            "manifest": {"threshold": 0.9},
        },
        "seed": 0,
        "validation": None,
        "samples": {
            "asked": len(status),
            "done": len(status) - len(failed),
            "failed": len(failed),
            "failures": [{"id": i, "reason": "cannot be read"} for i in failed],
        },
        "metrics": metrics,
        "scores": score_rows(predictions, subsets, metrics),
        "seconds": {"encode": 1.0, "predict": 0.5},
        "peak_memory_mib": 512.0,
        "images_per_second": 200.0,
        "versions": {"trireme": "0.1.0"},
        "git": {"commit": "a" * 40, "dirty": False},
        "command": "trireme run suite=world",
        "machine": {"cpus": 2},
    }
    return changed(content, changes)


def changed(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy with the dotted keys set; `run` and `name` follow from the content where they are not given."""
    result: dict[str, Any] = copy.deepcopy(dict(content))
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        inner = result
        for key in parents:
            inner = inner[key]
        inner[last] = value
    identity = [result[key] for key in ("method", "benchmark", "encoder", "memory", "seed", "validation")]
    result["run"] = changes.get("run") or fingerprint(identity)
    result["name"] = changes.get("name") or f"{result['method']['name']}--{result['run']}"
    return result


def store_ranked(
    root: Path, top1: Sequence[float], hit: Sequence[float], labels: Sequence[int], k: int = 5, **changes: Any
) -> Path:
    """Write a run of a method that asked a ranker: all replies are ok but one, `hit` is the column hit@k."""
    predictions = table(top1, labels).append_column(f"hit@{k}", pa.array(hit, pa.float32()))
    told = {
        "method__name": "rar",
        "metrics": ["top1", "top5", f"hit@{k}"],
        "method__facts": {"ranker": {"name": "lite, vllm", "fingerprint": "r" * 16}},
        "replies": {"statuses": {"ok": len(top1) - 1, "repaired": 1}, "prompt_tokens": 100, "completion_tokens": 8},
    }
    return write_run(root, record(predictions, **(told | changes)), predictions)


def store(root: Path, top1: Sequence[float], labels: Sequence[int], failed: Sequence[int] = (), **changes: Any) -> Path:
    """Write a run with these per-sample values."""
    predictions = table(top1, labels, failed=failed)
    return write_run(root, record(predictions, **changes), predictions)


def content(**changes: Any) -> tuple[dict[str, Any], pa.Table]:
    """A record and its predictions: four samples of four classes, of which the last one failed."""
    predictions = table([1, 0, 1, 0], [0, 1, 2, 3], failed=[3])
    return record(predictions, **changes), predictions
