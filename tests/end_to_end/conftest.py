"""Real parts, small: pictures drawn here, an open_clip model with random weights on disk, `trireme` as a process."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trireme.cli import main
from trireme.files import home

CLASSES = ("red square", "green square", "blue square", "grey square", "yellow square", "black square")
_COLOURS = ((200, 60, 60), (60, 200, 60), (60, 60, 200), (128, 128, 128), (200, 200, 60), (40, 40, 40))


def draw(folder: Path, per_class: int, seed: int, size: int = 32) -> Path:
    """A folder per class of noisy coloured squares, so noisy that no method is right about all of them."""
    rng = np.random.default_rng(seed)
    for name, colour in zip(CLASSES, _COLOURS, strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = np.array(colour) + rng.normal(0, 40, 3) + rng.normal(0, 60, (size, size, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number:03}.png")
    return folder


@dataclass
class Place:
    """A working folder, and a home, in which `trireme` runs."""

    folder: Path
    shared: bool = False

    @property
    def home(self) -> Path:
        """Its own, or the default one where pictures and weights are shared with everything else."""
        return home() if self.shared else self.folder / "home"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`trireme` as a process of its own."""
        environment = {**os.environ, "TRIREME_HOME": str(self.home), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", "trireme", *arguments],
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=_hears_interrupts,
        )

    def process(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """The same, run to the end; checks the exit code."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=600)
        return _checked(subprocess.CompletedProcess(process.args, process.returncode, out, err), code)

    def trireme(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """The same command in this process, which has paid for its imports already."""
        out, err = io.StringIO(), io.StringIO()
        before = Path.cwd(), os.environ.get("TRIREME_HOME")
        os.chdir(self.folder)
        os.environ["TRIREME_HOME"] = str(self.home)
        try:
            with redirect_stdout(out), redirect_stderr(err):
                returned = main(arguments)
        finally:
            os.chdir(before[0])
            del os.environ["TRIREME_HOME"]
            if before[1] is not None:
                os.environ["TRIREME_HOME"] = before[1]
        return _checked(subprocess.CompletedProcess(arguments, returned, out.getvalue(), err.getvalue()), code)

    def killed(self, ready: Callable[[], bool], *arguments: str) -> None:
        """Run, and `kill -9` as soon as `ready()`; the run must not have ended by then."""
        process = self.start(*arguments)
        deadline = time.monotonic() + 120
        while not ready():
            assert process.poll() is None, f"ended before it could be killed: {process.communicate()}"
            assert time.monotonic() < deadline, "never became ready"
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL

    def table(self, out: str = "out") -> str:
        return self.trireme("leaderboard", out, "--format", "csv").stdout

    def records(self, out: str = "out") -> dict[str, dict[str, object]]:
        """{method: run.json} of a results folder that has one run a method."""
        found = [json.loads(path.read_text()) for path in (self.folder / out / "runs").glob("*/run.json")]
        return {record["method"]["name"]: record for record in found}


def _hears_interrupts() -> None:
    """A shell starts background jobs deaf to Ctrl-C, and whoever they start inherits it: also tests of Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _checked(done: subprocess.CompletedProcess[str], code: int) -> subprocess.CompletedProcess[str]:
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An open_clip model of 3 M parameters with random weights, as `local-dir:` reads it."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("models") / "tiny-clip"
    folder.mkdir()
    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16, "head_width": 32}
    text = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}
    configuration = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}
    torch.manual_seed(0)
    network = open_clip.CLIP(**configuration)
    save_file({name: tensor.clone() for name, tensor in network.state_dict().items()}, folder / "model.safetensors")
    content = {"model_cfg": configuration, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """`test` (6 classes x 20) and `train` (6 x 10) folders; returns their parent."""
    draw(tmp_path / "pictures" / "test", 20, seed=1)
    draw(tmp_path / "pictures" / "train", 10, seed=2)
    return tmp_path / "pictures"


@pytest.fixture
def comparison(model: Path, pictures: Path) -> tuple[str, ...]:
    """Arguments of `trireme` that compare two methods on the drawn pictures."""
    return (
        "run",
        "method=zero_shot,knn",
        f"benchmark=folder:{pictures / 'test'}",
        f"memory=folder:{pictures / 'train'}",
        "encoder=open_clip",
        f"encoder.model=local-dir:{model}",
    )
