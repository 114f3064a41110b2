"""Contexts for methods: a tiny random open_clip model over drawn pictures, and vectors where answers are known."""

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

from trireme.methods.base import Context
from trireme.retrieval.encoders.openclip import OpenClipConfig, OpenClipEncoder
from trireme.retrieval.index import IndexConfig
from trireme.retrieval.memory import Memory
from trireme.retrieval.store import EmbeddingStore
from trireme.types import ImageRef, Pair, PairSet, Sample

from .synthetic import Pairs, VectorWorld

TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
NAMES = ("red disc", "green disc", "blue disc", "yellow disc", "grey disc")
COLOURS = ((220, 40, 40), (40, 180, 60), (40, 70, 220), (230, 210, 40), (130, 130, 130))
TEMPLATES = ("{}", "a drawing of a {}.", "art of the {}.")


@pytest.fixture(autouse=True)
def _alone(request: pytest.FixtureRequest) -> Iterator[None]:
    """Own caches (but for tests on the prepared world), and one thread: the same bits on a busy machine."""
    if "world" not in request.fixturenames:
        request.getfixturevalue("own_home")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised open_clip model, saved as open_clip's own folder."""
    folder = tmp_path_factory.mktemp("tiny-clip")
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**TINY).state_dict(), str(folder / "open_clip_model.safetensors"))
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {}}))
    return folder


def draw(path: Path, colour: tuple[int, int, int], seed: int) -> ImageRef:
    """A noisy picture of one colour."""
    noise = np.random.default_rng(seed).integers(-25, 26, (40, 40, 3))
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(path)
    return ImageRef(str(path))


@pytest.fixture
def discs(tmp_path: Path) -> Callable[[str, int], list[Pair]]:
    """`discs(name, n)`: n pictures of each of five colours, with captions and labels."""

    def make(name: str, n: int) -> list[Pair]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        pairs = []
        for c, colour in enumerate(COLOURS):
            for i in range(n):
                seed = 1000 * c + i + 10_000 * sum(map(ord, name))
                ref = draw(folder / f"{c}-{i}.png", colour, seed)
                pairs.append(Pair(f"{name}/{c}-{i}", ref, f"{NAMES[c]}, number {i}", f"class-{c}", name))
        return pairs

    return make


@pytest.fixture
def clip_context(clip_folder: Path, discs: Callable[[str, int], list[Pair]], tmp_path: Path) -> Context:
    """Five colours, four memory pictures of each, a real encoder with random weights."""
    encoder = OpenClipEncoder(OpenClipConfig(model=f"local-dir:{clip_folder}", device="cpu"))
    store = EmbeddingStore(encoder, batch_size=8, workers=1)
    memory = Memory.build(Pairs("discs/memory", discs("memory", 4)), store, index=IndexConfig())
    sets: dict[str, PairSet] = {"discs/train": Pairs("discs/train", discs("train", 6))}
    return Context(
        encoder=encoder,
        store=store,
        memory=memory,
        class_ids=tuple(f"class-{c}" for c in range(5)),
        class_names=NAMES,
        templates=TEMPLATES,
        validation=None,
        pair_set=sets.__getitem__,
        seed=0,
        device="cpu",
        artifacts=tmp_path / "trained",
    )


@pytest.fixture
def disc_samples(discs: Callable[[str, int], list[Pair]]) -> list[Sample]:
    """Three test pictures of each colour."""
    return [Sample(p.id, p.image, int(p.label[-1])) for p in discs("test", 3)]


@pytest.fixture
def vectors(tmp_path: Path) -> VectorWorld:
    """Known and unknown concepts as vectors; see `synthetic`."""
    return VectorWorld(tmp_path / "vectors")
