"""`trireme detections`: what a run found, in the results format of COCO and LVIS, for anyone's evaluator."""

from __future__ import annotations

from pathlib import Path

from trireme.errors import DataError, UsageError
from trireme.progress import say


def detections(run: Path, out: Path) -> int:
    """Write the detections of one finished run.

    Raises:
        UsageError: it is no run on a detection benchmark.
        DataError: the record is damaged, or its benchmark is not what it was.
    """
    from trireme import compose
    from trireme.benchmarks.detection import DetectionBenchmark, write_results
    from trireme.results.records import read_predictions, read_run
    from trireme.types import Role

    record = read_run(run)
    told = record.data["benchmark"]
    opened = told.get("opened") or {"name": told["name"], "options": {}}
    benchmark = compose.benchmark(opened["name"], opened["options"])
    if not isinstance(benchmark, DetectionBenchmark):
        raise UsageError(f"{run} is a run on {told['name']}, which has no boxes; give one on a detection benchmark")
    if benchmark.fingerprint(Role(told["role"])) != told["fingerprint"]:
        raise DataError(f"{told['name']} is not what {run} was made on (another version or another file); run it again")
    count = write_results(benchmark, read_predictions(record, ["sample_id", "status", "ranked", "scores"]), out)
    say(f"wrote {count} detections to {out}")
    return 0
