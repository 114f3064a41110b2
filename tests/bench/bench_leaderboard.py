"""`trireme leaderboard` over 10,000 run records, and 1,000,000 predictions scored anew, beside pandas in a loop.

`seconds` is the wall clock of a whole process; `CPU` is what it used of it, which other processes on the machine change
less. All files are in the page cache.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tests.results.synthetic import changed, record, table
from trireme.progress import progress
from trireme.results.joining import MEMORY
from trireme.results.records import PREDICTIONS_FILE, RUN_FILE, write_run

RUNS, SAMPLES, CLASSES, REPEATS = 10_000, 200, 50, 3
DISTINCT = 60
PREDICTIONS, MANY_CLASSES, DRAWS = 1_000_000, 10_000, 2000

BASELINE = """
import json, sys
from pathlib import Path
import pandas as pd
meta = ["run", "seed", ["method", "name"], ["benchmark", "name"], ["encoder", "name"], ["memory", "name"]]
files = sorted(Path(sys.argv[1]).glob("runs/*/run.json"))
frames = [pd.json_normalize(json.loads(file.read_text()), "scores", meta) for file in files]
print(pd.concat(frames).sort_values(["benchmark.name", "subset", "metric", "score"]).to_csv(index=False))
"""

SEEDS_BASELINE = """
import json, sys
from pathlib import Path
import pandas as pd
frames = []
for file in sorted(Path(sys.argv[1]).glob("runs/*/run.json")):
    run = json.loads(file.read_text())
    frame = pd.read_parquet(file.parent / "predictions.parquet", columns=["group", "top1", "top5"])
    scores = pd.concat({"all": frame[["top1", "top5"]].mean(), **dict(list(frame.groupby("group").mean().iterrows()))})
    frames.append(scores.rename((run["method"]["name"], run["benchmark"]["name"], run["seed"])))
print(pd.concat(frames, axis=1).T.groupby(level=[0, 1]).mean().to_csv())
"""

RESCORE_BASELINE = f"""
import sys
from pathlib import Path
import numpy as np
import pandas as pd
file = next(Path(sys.argv[1]).glob("runs/*/predictions.parquet"))
frame = pd.read_parquet(file, columns=["label", "group", "top1", "top5"])
rng = np.random.default_rng(0)
for subset in (None, "common", "rare"):
    chosen = frame if subset is None else frame[frame["group"] == subset]
    by_class = chosen.groupby("label")[["top1", "top5"]]
    sums, counts = by_class.sum(), by_class.size()
    draws = []
    for _ in range({DRAWS}):
        drawn = rng.choice(counts.index, len(counts))
        draws.append(sums.loc[drawn].sum() / counts.loc[drawn].sum())
    print(subset, chosen[["top1", "top5"]].mean(), pd.DataFrame(draws).quantile([0.025, 0.975]))
"""


class Measured(NamedTuple):
    """One process: wall seconds, CPU seconds, peak resident MiB."""

    seconds: float
    cpu: float
    mib: float


def bench_leaderboard() -> list[dict[str, Any]]:
    """Medians of whole processes, interleaved.

    The second set of records has three seeds of everything: the first time they are joined from the stored predictions,
    and what was joined is remembered for the next time (`trireme.results.joining`).
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        single, threes, large = (Path(folder) / name for name in ("single", "threes", "large"))
        _write(single, RUNS, 1)
        _write(threes, RUNS // 3 * 3, 3)
        _write_large(large)
        plain = {"trireme leaderboard": _ours(single), "pandas in a loop": _python(BASELINE, single)}
        rows += _rows(f"{RUNS:,} runs", {**plain, "import pandas": _python("import pandas")}, "pandas in a loop")
        first = {"first time": _ours(threes), "pandas in a loop, no interval": _python(SEEDS_BASELINE, threes)}
        of = f"{RUNS // 3 * 3:,} runs, 3 seeds"
        rows += _rows(of, first, "pandas in a loop, no interval", repeats=1, forget=threes / MEMORY)
        rows += _rows(of, {"again": _ours(threes)}, "again")
        anew = {
            "trireme leaderboard --rescore": [*_ours(large), "--rescore"],
            "pandas in a loop, 2,000 draws": _python(RESCORE_BASELINE, large),
        }
        rows += _rows(f"{PREDICTIONS:,} predictions", anew, "pandas in a loop, 2,000 draws")
    return rows


def _ours(root: Path) -> list[str]:
    return [sys.executable, "-m", "trireme", "leaderboard", str(root), "--format", "csv"]


def _python(code: str, *arguments: Path) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def _rows(
    of: str, commands: dict[str, list[str]], baseline: str, repeats: int = REPEATS, forget: Path | None = None
) -> list[dict[str, Any]]:
    """One row per command. A file to forget is deleted before each."""
    found: dict[str, list[Measured]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            if forget is not None:
                forget.unlink(missing_ok=True)
            found[name].append(_measure(command))
    medians = {name: statistics.median(one.seconds for one in measured) for name, measured in found.items()}
    return [
        {
            "of": of,
            "what": name,
            "seconds": medians[name],
            "CPU": statistics.median(one.cpu for one in measured),
            "ratio": medians[name] / medians[baseline],
            "peak MiB": max(one.mib for one in measured),
        }
        for name, measured in found.items()
    ]


def _write_large(root: Path) -> None:
    """One run of a million samples of ten thousand classes."""
    rng = np.random.default_rng(0)
    label = np.sort(rng.integers(0, MANY_CLASSES, PREDICTIONS)).astype(np.int32)
    words = pa.array(["common", "rare", "ok"])
    few = pa.array(np.zeros(PREDICTIONS + 1, dtype=np.int32))
    predictions = pa.table(
        {
            "sample_id": np.char.mod("s%d", np.arange(PREDICTIONS)),
            "label": label,
            "group": pa.DictionaryArray.from_arrays(pa.array((label % 2).astype(np.int32)), words),
            "status": pa.DictionaryArray.from_arrays(pa.array(np.full(PREDICTIONS, 2, dtype=np.int32)), words),
            "ranked": pa.ListArray.from_arrays(few, pa.array([], pa.int32())),
            "scores": pa.ListArray.from_arrays(few, pa.array([], pa.float32())),
            "top1": (rng.random(PREDICTIONS) < 0.6).astype(np.float32),
            "top5": (rng.random(PREDICTIONS) < 0.8).astype(np.float32),
        }
    )
    write_run(root, record(predictions), predictions)


def _write(root: Path, runs: int, seeds: int) -> None:
    """Records of 20 methods on as many benchmarks as it takes. What `write_run` wrote for 60 of them is copied for the
    others under names and hashes of their own, which spares 10,000 writes to the disk's own memory."""
    rng = np.random.default_rng(0)
    labels = (np.arange(SAMPLES) % CLASSES).tolist()
    models = []
    for number in range(DISTINCT):
        predictions = table((rng.random(SAMPLES) < 0.5).astype(float).tolist(), labels)
        folder = write_run(root / "models", record(predictions, seed=number), predictions)
        models.append((json.loads((folder / RUN_FILE).read_text()), (folder / PREDICTIONS_FILE).read_bytes()))
    with progress("write records", runs, "runs") as bar:
        for number in range(runs):
            setting, seed = divmod(number, seeds)
            content, parquet = models[number % DISTINCT]
            content = changed(
                content,
                {
                    "method__name": f"method{setting % 20}",
                    "benchmark__name": f"world/{setting // 20}",
                    "seed": seed,
                    "memory__manifest": {f"key{i}": "x" * 40 for i in range(40)},
                },
            )
            folder = root / "runs" / content["name"]
            folder.mkdir(parents=True)
            (folder / RUN_FILE).write_text(json.dumps(content, indent=1))
            (folder / PREDICTIONS_FILE).write_bytes(parquet)
            bar.advance()


def _measure(command: list[str]) -> Measured:
    """One process, to its end.

    The peak is read from /proc while it runs: `ru_maxrss` of a child also counts this process, its parent.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak, ended = 0.0, 0
    while not ended:
        peak = max(peak, _high_water(process.pid))
        time.sleep(0.005)
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} ended with {process.returncode}")
    return Measured(time.perf_counter() - start, used.ru_utime + used.ru_stime, peak)


def _high_water(pid: int) -> float:
    """Peak resident MiB of a process so far; 0 where it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
