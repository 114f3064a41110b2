"""`trireme train react` and what runs on its encoder, from outside, on the tiny world and on drawn pictures."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from tests.end_to_end.conftest import Place
from trireme.registry import open_benchmark, open_pairs
from trireme.retrieval.encoders.customised import read_customised
from trireme.types import Role

SHORT = """method: react
search: t2t
across_classes: true
variant: locked_text
epochs: 6
batch: 32
views: 2
lr: 1.0e-3
token_dropout: 0.5
averaging: 0.9
"""
FEW = ("method=short", "benchmark=world/tiny")


def working_folder(folder: Path) -> Place:
    """With a method config `short`: six epochs in seconds."""
    (folder / "configs" / "method").mkdir(parents=True)
    (folder / "configs" / "method" / "short.yaml").write_text(SHORT)
    return Place(folder, shared=True)


def top1(place: Place, method: str, subset: str, out: str = "out") -> dict[str, float]:
    """{encoder: score}."""
    rows = [line.split(",") for line in place.table(out).splitlines()[1:]]
    return {row[8]: float(row[4]) for row in rows if (row[0], row[2], row[3]) == (method, subset, "top1")}


@pytest.fixture(scope="module")
def trained(world: None, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A customised encoder at mine.safetensors of the tiny world's 30 classes."""
    place = working_folder(tmp_path_factory.mktemp("react"))
    place.trireme("train", "react", *FEW, "--out", "mine.safetensors")
    return place


def test_the_encoder_serves_every_method(trained: Place) -> None:
    """`method=react` is zero-shot with its encoder; it, 1-NN and RECO have rows of their own beside the base's."""
    file = trained.folder / "mine.safetensors"
    trained.trireme("run", *FEW)
    trained.trireme("run", "method=zero_shot,knn,reco-start", "benchmark=world/tiny", f"encoder.react={file}")
    trained.trireme("run", "method=zero_shot,knn,reco-start", "benchmark=world/tiny")
    whole = top1(trained, "short", "all")
    assert top1(trained, "zero_shot", "all")["lite+react(mine)"] == whole["lite"]
    for method in ("zero_shot", "knn", "reco-start"):
        assert set(top1(trained, method, "all")) == {"lite", "lite+react(mine)"}


def test_the_records_tell_what_was_retrieved_and_trained(trained: Place) -> None:
    trained.trireme("run", *FEW)
    record = trained.records()["short"]
    facts = record["method"]["facts"]  # type: ignore[index]
    assert facts["variant"] == "locked_text"
    assert facts["retrieved"]["pairs"] >= 30
    assert facts["training"]["steps"] == 6 * (facts["retrieved"]["pairs"] // 32)
    assert record["method"]["supervision"] == {"training": "captions", "inference": "none"}  # type: ignore[index]
    customised = read_customised(trained.folder / "mine.safetensors")
    assert facts["trained_parameters"] == sum(value.numel() for value in customised.tensors.values())


def test_captions_are_told_to_whoever_uses_a_customised_encoder(trained: Place) -> None:
    out = f"encoder.react={trained.folder / 'mine.safetensors'}"
    trained.trireme("run", "method=zero_shot", "benchmark=world/tiny", out, "out=told")
    record = trained.records("told")["zero_shot"]
    assert record["method"]["supervision"] == {"training": "captions", "inference": "none"}  # type: ignore[index]
    assert record["encoder"]["customised"]["variant"] == "locked_text"  # type: ignore[index]


def test_no_test_or_validation_picture_was_retrieved(trained: Place) -> None:
    """Asserted from the stored set: by the pictures' bytes, which the pair sets and benchmarks know."""
    trained.trireme("run", *FEW)
    name = trained.records()["short"]["method"]["facts"]["artifact"]  # type: ignore[index]
    artifact = trained.home / "trained" / "react" / name
    used = set(pq.read_table(artifact / "retrieved.parquet")["pair_id"].to_pylist())
    pictures = {pair.image.sha256 for pair in open_pairs("world/tiny-memory").pairs() if pair.id in used}
    held_out = {s.image.sha256 for s in open_benchmark("world/tiny").samples(Role.TEST)}
    held_out |= {s.image.sha256 for s in open_benchmark("world/tiny-validation").samples(Role.VALIDATION)}
    assert pictures
    assert not pictures & held_out


def test_a_killed_training_goes_on_to_the_same_weights(world: None, tmp_path: Path) -> None:
    """`kill -9` after the first checkpoint; the file equals that of a training in one go, byte for byte."""
    trained = working_folder(tmp_path)
    shared, trained.shared = trained.home, False
    trained.home.mkdir()
    for part in shared.iterdir():
        if part.name != "trained":  # an earlier run of this test has left the encoder there
            (trained.home / part.name).symlink_to(part)
    options = (*FEW, "method.short.checkpoint_every=1", "seed=7")
    folder = trained.home / "trained" / "react"

    def checkpointed() -> bool:
        time.sleep(0.02)
        return bool(list(folder.glob("*.partial/*.safetensors")))

    trained.killed(checkpointed, "train", "react", *options, "--out", str(tmp_path / "no.safetensors"))
    assert not (tmp_path / "no.safetensors").exists()
    again = trained.process("train", "react", *options, "--out", str(tmp_path / "resumed.safetensors"))
    assert "going on after step" in again.stderr
    assert "2 views of" in again.stderr, "kept, not computed again"
    one_go = (*options[:-1], "method.short.seed_offset=7", "seed=0")
    trained.process("train", "react", *one_go, "--out", str(tmp_path / "whole.safetensors"))
    resumed, whole = (read_customised(tmp_path / f"{name}.safetensors") for name in ("resumed", "whole"))
    assert all(value.equal(whole.tensors[name]) for name, value in resumed.tensors.items())


def test_a_config_declares_a_customised_encoder(trained: Place) -> None:
    """The same file as `trireme train react` made; a wrong key is named with the nearest."""
    folder = trained.folder / "configs" / "encoder"
    folder.mkdir(parents=True, exist_ok=True)
    text = "encoder: lite\ncustomise:\n  method: short\n  benchmark: world/tiny\n"
    (folder / "declared.yaml").write_text(text)
    trained.trireme("run", "method=zero_shot", "benchmark=world/tiny", "encoder=declared", "out=declared")
    trained.trireme("run", *FEW, "out=declared")
    [[_, score]] = top1(trained, "zero_shot", "all", "declared").items()
    assert score == top1(trained, "short", "all", "declared")["lite"]
    half = ("method=zero_shot", "benchmark=world/tiny", "encoder=declared")
    refused = trained.trireme("run", *half, "encoder.dtype=bfloat16", "out=half", code=2)
    assert "encoder.dtype cannot change 'declared'" in refused.stderr
    assert "write dtype=bfloat16" in refused.stderr
    trained.trireme("run", *half, "dtype=bfloat16", "out=half")
    assert trained.records("half")["zero_shot"]["encoder"]["config"]["dtype"] == "bfloat16"  # type: ignore[index]
    (folder / "misspelt.yaml").write_text(text + "  sed: 1\n")
    wrong = trained.trireme("run", "method=knn", "benchmark=world/tiny", "encoder=misspelt", code=2)
    assert re.search(r"key of customise 'sed'.*did you mean 'seed'", wrong.stderr)


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        (["method.short.variant=gated_image", "method.short.layers=3"], 2, "1 to 2 layers"),
        (["method.short.min_similarity=0.99"], 1, "classes retrieved no pair"),
        (["method.short.variant=gated_images"], 2, "did you mean 'gated_image'"),
        (["method.short.lr=1e30"], 1, "not finite"),
        (["method.short.patience=1", "method.short.may_lose={comon: 1.0}"], 2, "did you mean 'common'"),
    ],
)
def test_what_cannot_work_is_told_in_one_line(trained: Place, changes: list[str], code: int, says: str) -> None:
    done = trained.trireme("train", "react", *FEW, *changes, code=code)
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_an_open_clip_model_by_the_official_recipe(place: Place, model: Path, pictures: Path) -> None:
    """Gated blocks by `react-paper` on pictures drawn here; the export holds every name of the released checkpoints'
    gated block, and 12 w^2 + 13 w + 2 parameters of it a layer (w = 64)."""
    arguments = (
        "method=react-paper",
        f"benchmark=folder:{pictures / 'test'}",
        f"memory=folder:{pictures / 'train'}",
        "encoder=open_clip",
        f"encoder.model=local-dir:{model}",
    )
    few = ("method.react-paper.epochs=2", "method.react-paper.batch=16")
    place.trireme("train", "react", *arguments, *few, "--out", "mine.safetensors", "--official", "official.pt")
    state = torch.load(place.folder / "official.pt", weights_only=True)["state_dict"]
    gated = {name: value for name, value in state.items() if "gated_attn_block" in name}
    assert {name.rsplit("gated_attn_block.")[1] for name in gated} >= {"alpha_attn", "attn.in_proj_weight"}
    assert sum(value.numel() for value in gated.values()) == 12 * 64**2 + 13 * 64 + 2
    place.trireme("run", "method=zero_shot", *arguments[1:], f"encoder.react={place.folder / 'mine.safetensors'}")
    assert place.records()["zero_shot"]["encoder"]["customised"]["variant"] == "gated_image"  # type: ignore[index]
    seen = (
        f"benchmark=folder:{pictures / 'train'}",
        *arguments[3:],
        f"encoder.react={place.folder / 'mine.safetensors'}",
    )
    leaked = place.trireme("run", "method=zero_shot", *seen, code=1)
    assert "was customised on" in leaked.stderr, "nobody tests on pictures that the encoder was trained on"
    official = ("encoder=lite", "--official", "no.pt")
    refused = place.trireme("train", "react", *arguments[1:3], *official, code=2)
    assert "drop --official" in refused.stderr, "before anything is trained"
