"""Killed processes, two at once, a full disk: real processes, the real encoder."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.retrieval.conftest import Pictures
from trireme.errors import TriremeError
from trireme.retrieval.encoders.openclip import OpenClipConfig, OpenClipEncoder
from trireme.retrieval.store import EmbeddingStore

# Arguments: model, folder of pictures, rows a flush, seconds of extra work a picture.
SCRIPT = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(2)
from trireme.retrieval import store
from trireme.retrieval.encoders.openclip import OpenClipConfig, OpenClipEncoder
from trireme.types import ImageRef
model, folder, rows, pause = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
class Slow(OpenClipEncoder):
    def preprocess(self, image):
        time.sleep(pause)
        return super().preprocess(image)
encoder = Slow(OpenClipConfig(model=model, device="cpu"))
store.FLUSH_ROWS = rows
refs = [ImageRef(str(path)) for path in sorted(Path(folder).iterdir())]
store.EmbeddingStore(encoder, batch_size=8, workers=1).images(refs)
"""


def _start(model: str, folder: Path, rows: int = 16, pause: float = 0.0) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", SCRIPT, model, str(folder), str(rows), str(pause)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _wait_for_segments(folder: Path, count: int) -> None:
    end = time.monotonic() + 60
    while len(list(folder.glob("*.safetensors"))) < count:
        assert time.monotonic() < end, "the other process wrote nothing"
        time.sleep(0.005)


def test_killed_encoding_goes_on_where_it_stopped(
    tiny_config: OpenClipConfig, tiny: OpenClipEncoder, pictures: Pictures, tmp_path: Path
) -> None:
    """kill -9 after some flushes of 16; the rest is encoded then, and the array equals an uninterrupted one."""
    refs = pictures(200)
    store = EmbeddingStore(tiny, batch_size=8)
    process = _start(tiny_config.model, Path(refs[0].path).parent, pause=0.01)
    _wait_for_segments(store.folder / "images", 3)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    resumed = EmbeddingStore(tiny, batch_size=8)
    found = resumed.images(refs)
    kept = 200 - resumed.forwards
    assert 48 <= kept < 200
    assert kept % 8 == 0  # whole batches
    uninterrupted = EmbeddingStore(tiny, tmp_path / "elsewhere", batch_size=8).images(refs)
    np.testing.assert_allclose(found, uninterrupted, atol=1e-6)


@pytest.mark.slow
def test_two_processes_share_one_store(
    tiny_config: OpenClipConfig, tiny: OpenClipEncoder, pictures: Pictures, tmp_path: Path
) -> None:
    """Both finish, nothing is damaged, and a third finds every row; 25 flushes each make merging part of it."""
    refs = pictures(200)
    folder = Path(refs[0].path).parent
    both = [_start(tiny_config.model, folder, rows=8) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    third = EmbeddingStore(tiny, batch_size=8)
    expected = EmbeddingStore(tiny, tmp_path / "elsewhere", batch_size=8).images(refs)
    np.testing.assert_allclose(third.images(refs), expected, atol=1e-6)
    assert third.forwards == 0
    assert not list(third.folder.rglob("*.damaged"))
    assert not list(third.folder.rglob("*.part"))


def test_full_disk_is_one_line_and_leaves_nothing_half_written(tiny: OpenClipEncoder, pictures: Pictures) -> None:
    """The system's limit on file sizes stands in for a full disk: 100 rows of 32 floats do not fit into 8 KiB."""
    refs = pictures(100)
    tiny.encode_pixels(torch.zeros(1, 3, 32, 32))
    store = EmbeddingStore(tiny, batch_size=8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 10, hard))
    try:
        with pytest.raises(TriremeError, match=r"the disk is full while writing .*images") as caught:
            store.images(refs)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    store = EmbeddingStore(tiny, batch_size=8)
    assert not [path for path in store.folder.rglob("*") if path.is_file()]
    store.images(refs)
    assert store.forwards == 100
