"""Freeze example records of the current schema: real runs, small ones. `python -m tests.results.frozen.make`.

Writes v<SCHEMA>/runs beside this file, v<SCHEMA>/leaderboard.csv and the schema's fingerprint. It refuses where the
version was frozen before: records are what an earlier Trireme wrote, and are never made again.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from tests.benchmarks.detection_fixtures import counted, lvis_layout
from tests.benchmarks.test_detection_runs import memory
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.cli import main
from trireme.results.schema import SCHEMA, content_fingerprint

HERE = Path(__file__).resolve().parent
FINGERPRINTS = HERE / "fingerprints.json"
RUNS = (
    ("method=zero_shot,knn,reco", "benchmark=world/tiny"),
    ("method=knn", "benchmark=world/tiny", "memory=world@2", "seed=0,1"),
    ("method=rar-lite", "benchmark=world/tiny", "ranker.engine=transformers"),
)
DETECTION = ("method=knn", "benchmark=lvis", "benchmark.lvis.crop=1.0", "memory=folder:pictures")


def freeze() -> None:
    """Make the runs in a folder of their own and keep their records."""
    kept = HERE / f"v{SCHEMA}"
    if kept.exists():
        raise SystemExit(f"{kept} is there already; records of a version are frozen once")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for arguments in RUNS:
            _run(*arguments)
        os.environ["TRIREME_DATA"] = str(Path(folder) / "data")
        content = lvis_layout(Path("data"), pictures=6, classes=3)
        memory(Path("pictures"), content, "lvis")
        with PUBLISHED.replaced(counted("lvis", content)):
            _run(*DETECTION)
        for record in sorted(Path("out/runs").glob("[!.]*/run.json")):
            _without_machine(record)
        shutil.copytree("out/runs", kept / "runs", ignore=shutil.ignore_patterns(".*"))
    if main(["leaderboard", str(kept), "--save", str(kept / "leaderboard.csv")]):
        raise SystemExit("no leaderboard")
    stored = json.loads(FINGERPRINTS.read_text()) | {str(SCHEMA): content_fingerprint()}
    FINGERPRINTS.write_text(json.dumps(stored, indent=2) + "\n")


def _run(*arguments: str) -> None:
    if main(["run", *arguments, "out=out"]):
        raise SystemExit(f"failed: {' '.join(arguments)}")


def _without_machine(record: Path) -> None:
    """Without the computer, which no reader looks at, and in one line: replicates are thousands of numbers."""
    content = json.loads(record.read_text(encoding="utf-8"))
    content["machine"] = {"system": "Linux"}
    record.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    freeze()
