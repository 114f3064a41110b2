"""Large sets: peak memory of a whole run at 10,000 and at 100,000 pictures, and loading beside torch's DataLoader.

The pictures are small and made up and the model is tiny, so that what grows with the set shows, not what computes.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from tests.bench.bench_retrieval import BATCH, alternating, photos
from tests.retrieval.tiny_hf import tiny_clip
from trireme.retrieval.encoders.base import Encoder
from trireme.retrieval.encoders.openclip import OpenClipConfig, OpenClipEncoder
from trireme.retrieval.store import EmbeddingStore
from trireme.types import Floats, ImageRef

SIZES = (10_000, 100_000)
CLASSES, SUPPORT, SIDE = 100, 1_000, 32


def bench_streaming() -> list[dict[str, Any]]:
    """One row a size: peak memory of the process with its libraries, and what of it is no file's; ratios to the first.

    Of 100,000 samples the list itself (names, paths, hashes) takes about 50 MB.
    """
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny_clip(folder / "clip")
        support = _table(folder, "support", SUPPORT)
        for size in SIZES:
            for method in ("zero_shot", "knn"):
                rows.append(_run(folder, model, method, _table(folder, f"set-{size}", size), support, size))
    first = {row["what"].split(",")[0]: row for row in rows[:2]}
    for row in rows:
        base = first[row["what"].split(",")[0]]
        row |= {"ratio of peaks": row["peak MiB"] / base["peak MiB"]}
        row |= {"ratio of anonymous": row["anonymous MiB"] / base["anonymous MiB"]}
    return rows


def _table(folder: Path, name: str, size: int) -> Path:
    """A CSV of made-up pictures: noise of 32 pixels, each with a class of 100."""
    table = folder / f"{name}.csv"
    if table.exists():
        return table
    rng = np.random.default_rng(size)
    (folder / name).mkdir()
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label"))
        for i in range(size):
            place = f"{name}/{i:06}.png"
            Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / place)
            writer.writerow((place, f"class {i % CLASSES}"))
    return table


def _run(folder: Path, model: Path, method: str, table: Path, support: Path, size: int) -> dict[str, Any]:
    out = folder / f"out-{size}-{method}"
    command = [sys.executable, "-m", "trireme", "run", f"method={method}", f"benchmark=csv:{table}", f"out={out}"]
    command += [f"memory=csv:{support}", "encoder=transformers", f"encoder.model={model}"]
    start = time.perf_counter()
    with (out.parent / f"{out.name}.txt").open("w+") as said:
        running = subprocess.Popen(
            command, env=os.environ | {"TRIREME_HOME": str(folder / "home")}, stdout=said, stderr=said
        )
        peak, anonymous = _watched(running)
        if running.returncode:
            said.seek(0)
            raise RuntimeError(said.read()[-2000:])
    spent = time.perf_counter() - start
    what = f"{method}, {size:,} pictures"
    return {
        "what": what, "seconds": spent, "pictures/s": size / spent, "peak MiB": peak, "anonymous MiB": anonymous
    }  # fmt: skip


def _watched(running: subprocess.Popen[bytes]) -> tuple[float, float]:
    """Largest resident size of a process in all its time, and the largest of its memory that is no file's, MiB.

    proc(5): VmHWM is kept by Linux, RssAnon is read 20 times a second. Pages of files that were read through a map are
    in the first alone; Linux drops them where memory is wanted.
    """
    most = {"VmHWM": 0, "RssAnon": 0}
    while running.poll() is None:
        for line in _status(running.pid):
            name, _, value = line.partition(":")
            if name in most:
                most[name] = max(most[name], int(value.split()[0]))
        time.sleep(0.05)
    return most["VmHWM"] / 1024, most["RssAnon"] / 1024


def _status(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return []  # it has ended


class _Pictures(Dataset[torch.Tensor]):
    """What anyone would write for a DataLoader."""

    def __init__(self, encoder: Encoder, refs: list[ImageRef]) -> None:
        self._encoder, self._refs = encoder, refs

    def __len__(self) -> int:
        return len(self._refs)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self._encoder.preprocess(Image.open(self._refs[index].path).convert("RGB"))


def bench_loading() -> list[dict[str, Any]]:
    """Encoding through the store beside a DataLoader with a worker a core: photographs of 640 and of 1,600 pixels."""
    encoder = OpenClipEncoder(OpenClipConfig(model="ViT-S-32-alt", random=True))
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for count, side in ((512, 640), (128, 1_600)):
            refs = photos(Path(name), count, side)

            def ours(refs: list[ImageRef] = refs) -> Floats:
                with tempfile.TemporaryDirectory() as root:
                    return EmbeddingStore(encoder, Path(root), batch_size=BATCH).images(refs)

            def bare(refs: list[ImageRef] = refs) -> Floats:
                loader = DataLoader(_Pictures(encoder, refs), batch_size=BATCH, num_workers=os.cpu_count() or 2)
                return np.concatenate([encoder.encode_pixels(batch) for batch in loader])

            np.testing.assert_allclose(ours(), bare(), atol=1e-5)
            mine, other = alternating(ours, bare)
            rows.append(
                {
                    "what": f"load and encode {count} photographs of {side} px, {encoder.name}",
                    "ours images/s": count / mine,
                    "DataLoader images/s": count / other,
                    "time ratio": mine / other,
                }
            )
    return rows
