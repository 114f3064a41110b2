"""Which model a ranker is, what is known of its training, and the rankers that ship."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from trireme.errors import DataError, UsageError
from trireme.methods.rankers.checkpoint import CheckpointConfig, open_checkpoint
from trireme.methods.rankers.lite import shipped
from trireme.methods.rankers.lite.shipped import put_together, read_parts, write_adapter, write_parts

from .tiny_mllm import tiny_fastvlm

LORA = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"], "layers": [1]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_fastvlm(tmp_path_factory.mktemp("fastvlm"))


def lora(folder: Path) -> dict[str, torch.Tensor]:
    """LoRA tensors of both projections of block 1, with the shapes of the tiny model."""
    state = load_file(folder / "model.safetensors")
    made = {}
    for layer in ("q_proj", "v_proj"):
        weight = next(v for n, v in state.items() if n.endswith(f"layers.1.self_attn.{layer}.weight"))
        made[f"layers.1.self_attn.{layer}.lora_A.weight"] = torch.full((2, weight.shape[1]), 0.01)
        made[f"layers.1.self_attn.{layer}.lora_B.weight"] = torch.full((weight.shape[0], 2), 0.5)
    return made


def test_a_checkpoint_is_told_by_its_files_not_by_its_place(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    one, two = (open_checkpoint(CheckpointConfig(model=str(place))) for place in (folder, copy))
    assert one.identity == two.identity
    assert (one.told, one.pictures, one.adapter) == ("none", ({},), "")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "changed": 1}))
    assert open_checkpoint(CheckpointConfig(model=str(copy))).identity != one.identity


def test_precision_picture_size_and_context_change_the_fingerprint(folder: Path) -> None:
    asked = [{}, {"dtype": "float32"}, {"image_size": 64}, {"context": 256}]
    found = [open_checkpoint(CheckpointConfig(model=str(folder), **one)).fingerprint_for("vllm") for one in asked]
    found.append(open_checkpoint(CheckpointConfig(model=str(folder))).fingerprint_for("transformers"))
    assert len(set(found)) == len(found)


def test_a_revision_is_part_of_a_hub_models_identity() -> None:
    one, two = (open_checkpoint(CheckpointConfig(model="org/model", revision=r)) for r in ("", "abc"))
    assert one.identity != two.identity
    assert one.model == "org/model"


def test_the_record_beside_an_adapter_says_what_training_told(folder: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    write_adapter(adapter, LORA, lora(folder))
    plain = open_checkpoint(CheckpointConfig(model=str(folder), adapter=str(adapter)))
    assert (plain.told, plain.name) == ("none", f"{folder.name}+adapter")
    (adapter / "ranker.json").write_text(json.dumps({"told": "labels", "pictures": {"count": 1}}))
    taught = open_checkpoint(CheckpointConfig(model=str(folder), adapter=str(adapter)))
    assert (taught.told, taught.pictures) == ("labels", ({}, {"count": 1}))
    assert taught.identity == plain.identity  # the record changes no answer
    (adapter / "ranker.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        open_checkpoint(CheckpointConfig(model=str(folder), adapter=str(adapter)))


@pytest.mark.parametrize("model", ["./nowhere", "/nowhere/at/all", "~/nowhere-at-all"])
def test_a_folder_that_is_not_there_is_not_taken_for_a_hub_id(model: str) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        open_checkpoint(CheckpointConfig(model=model))


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no config\.json"):
        open_checkpoint(CheckpointConfig(model=str(tmp_path)))


def test_parts_go_onto_their_base_and_nothing_else_changes(folder: Path, tmp_path: Path) -> None:
    before = load_file(folder / "model.safetensors")
    name = next(n for n in before if n.startswith("model.multi_modal_projector.linear_1.weight"))
    short = name.removeprefix("model.multi_modal_projector.")
    parts = tmp_path / "parts.safetensors"
    tensors = {f"projector.{short}": torch.ones_like(before[name])}
    write_parts(parts, LORA, {**tensors, **{f"lora.{key}": value for key, value in lora(folder).items()}})
    put_together(folder, parts, tmp_path / "made")
    after = load_file(tmp_path / "made" / "model.safetensors")
    assert {n for n in before if not torch.equal(before[n], after[n])} == {name}
    assert torch.equal(after[name], torch.ones_like(before[name]))
    adapter = load_file(tmp_path / "made" / "adapter" / "adapter_model.safetensors")
    assert set(adapter) == {f"base_model.model.model.language_model.{key}" for key in lora(folder)}


def test_peft_loads_the_adapter_that_is_written(folder: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    write_adapter(tmp_path / "adapter", LORA, lora(folder))
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    weight = model.model.language_model.layers[1].self_attn.q_proj.weight.detach().clone()
    merged = PeftModel.from_pretrained(model, str(tmp_path / "adapter")).merge_and_unload()
    added = merged.model.language_model.layers[1].self_attn.q_proj.weight - weight
    # alpha / r x B A = 4 / 2 x (0.5 x 0.01 summed over r = 2) = 0.02 in every cell
    assert torch.allclose(added, torch.full_like(added, 0.02), atol=1e-6)


def test_equal_parts_are_equal_bytes_and_damaged_ones_are_named(folder: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    tensors = lora(folder)
    write_parts(one, LORA, tensors)
    write_parts(two, LORA, dict(reversed(tensors.items())))
    assert one.read_bytes() == two.read_bytes()
    about, found = read_parts(one)
    assert about["lora"] == LORA
    assert found.keys() == tensors.keys()
    two.write_bytes(one.read_bytes()[:100])
    with pytest.raises(DataError, match="holds no parts"):
        read_parts(two)


@pytest.mark.parametrize("name", sorted(shipped.SHIPPED))
def test_the_shipped_rankers_are_whole_and_say_how_they_were_made(name: str) -> None:
    own = shipped.SHIPPED[name]
    about, tensors = read_parts(own.file)
    record = json.loads(own.record.read_text(encoding="utf-8"))
    assert own.file.stat().st_size < 15e6
    assert all(bool(value.isfinite().all()) for value in tensors.values())
    assert {key.partition(".")[0] for key in tensors} == {"projector", "tower", "lora"}
    assert about["lora"]["r"] == record["config"]["r"]
    assert record["told"] == "labels"
    sources = {source for pairs in record["training"]["pairs"] for source in pairs["sources"]}
    # art of the test and validation roles is in no training (benchmarks/world/families.py)
    assert not sources & {"twemoji", "noto", "emojione-v1"}
    assert ("world/memory" in [pairs["name"] for pairs in record["training"]["pairs"]]) == (name == "lite-support")
