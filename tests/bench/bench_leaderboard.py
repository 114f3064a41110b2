"""Time and peak memory of `trireme leaderboard` over 1,000 run records, beside pandas reading the files in a loop."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.results.synthetic import record, table
from trireme.progress import progress
from trireme.results.records import write_run

RUNS, SAMPLES, CLASSES, REPEATS = 1000, 200, 50, 5

BASELINE = """
import json, sys
from pathlib import Path
import pandas as pd
meta = ["run", "seed", ["method", "name"], ["benchmark", "name"], ["encoder", "name"], ["memory", "name"]]
files = sorted(Path(sys.argv[1]).glob("runs/*/run.json"))
frames = [pd.json_normalize(json.loads(file.read_text()), "scores", meta) for file in files]
print(pd.concat(frames).sort_values(["benchmark.name", "subset", "metric", "score"]).to_csv(index=False))
"""


def bench_leaderboard() -> list[dict[str, Any]]:
    """Medians of whole processes, interleaved; files are in the page cache for all of them.

    The second set of records has three seeds of everything, so that intervals are drawn from the stored predictions.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seeds in (1, 3):
            root = Path(folder) / str(seeds)
            _write(root, seeds)
            ours = [sys.executable, "-m", "trireme", "leaderboard", str(root), "--format", "csv"]
            loop = [sys.executable, "-c", BASELINE, str(root)]
            floor = [sys.executable, "-c", "import pandas"]
            commands = {"trireme leaderboard": ours, "pandas in a loop": loop, "import pandas": floor}
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
            for _ in range(REPEATS):
                for name, command in commands.items():
                    found[name].append(_measure(command))
            seconds = {name: statistics.median(s for s, _ in measured) for name, measured in found.items()}
            rows += [
                {
                    "records": f"{RUNS} runs, {seeds} seed{'s' if seeds > 1 else ''}",
                    "what": name,
                    "seconds": seconds[name],
                    "ratio": seconds[name] / seconds["pandas in a loop"],
                    "peak MiB": max(mib for _, mib in measured),
                }
                for name, measured in found.items()
            ]
    return rows


def _write(root: Path, seeds: int) -> None:
    rng = np.random.default_rng(0)
    labels = (np.arange(SAMPLES) % CLASSES).tolist()
    with progress("write records", RUNS, "runs") as bar:
        for number in range(RUNS):
            setting, seed = divmod(number, seeds)
            method, benchmark = setting % 20, setting // 20
            predictions = table((rng.random(SAMPLES) < 0.5).astype(float).tolist(), labels)
            content = record(
                predictions,
                method__name=f"method{method}",
                benchmark__name=f"world/{benchmark}",
                seed=seed,
                memory__manifest={f"key{i}": "x" * 40 for i in range(40)},
            )
            write_run(root, content, predictions)
            bar.advance()


def _measure(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident MiB of one process.

    The peak is read from /proc while it runs: `ru_maxrss` of a child also counts this process, its parent.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, _high_water(process.pid))
        time.sleep(0.005)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} ended with {process.returncode}")
    return seconds, peak


def _high_water(pid: int) -> float:
    """Peak resident MiB of a process so far; 0 where it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
