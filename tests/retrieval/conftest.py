"""A tiny, randomly initialised open_clip model saved like a real one, and pictures of noise."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from trireme.retrieval.encoders.openclip import OpenClipConfig, OpenClipEncoder
from trireme.types import ImageRef

TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}

Pictures = Callable[..., list[ImageRef]]


@pytest.fixture(autouse=True)
def _alone(own_home: Path) -> None:
    """No test of this folder touches the caches of the machine."""


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """open_clip's own folder layout: open_clip_config.json and one weights file."""
    folder = tmp_path_factory.mktemp("tiny-clip")
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**TINY).state_dict(), str(folder / "open_clip_model.safetensors"))
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {}}))
    return folder


@pytest.fixture(scope="session")
def tiny_config(tiny_folder: Path) -> OpenClipConfig:
    return OpenClipConfig(model=f"local-dir:{tiny_folder}", device="cpu")


@pytest.fixture
def tiny(tiny_config: OpenClipConfig) -> OpenClipEncoder:
    return OpenClipEncoder(tiny_config)


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    """`pictures(n, seed=0)`: n PNG files of noise, each other seed other files, without hashes."""

    def make(n: int, seed: int = 0) -> list[ImageRef]:
        folder = tmp_path / f"pictures{seed}"
        folder.mkdir(exist_ok=True)
        noise = np.random.default_rng(seed)
        refs = []
        for i in range(n):
            path = folder / f"{i:04}.png"
            Image.fromarray(noise.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
            refs.append(ImageRef(str(path)))
        return refs

    return make
