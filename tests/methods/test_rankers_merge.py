"""An adapter merged into a checkpoint on disk. The reference is peft's own merge of the loaded model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from trireme.errors import UsageError
from trireme.methods.rankers.checkpoint import CheckpointConfig, open_checkpoint
from trireme.methods.rankers.merge import merged

from .tiny_mllm import tiny_adapter, tiny_fastvlm, tiny_llava, tiny_qwen


@pytest.mark.parametrize("make", [tiny_llava, tiny_qwen, tiny_fastvlm])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_weights_are_those_that_peft_merges(
    make: Callable[[Path], Path], dtype: str, tmp_path: Path, own_home: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    folder = make(tmp_path / "model")
    adapter = tiny_adapter(folder, tmp_path / "adapter")
    found = Path(merged(open_checkpoint(CheckpointConfig(model=str(folder), adapter=str(adapter), dtype=dtype)), dtype))
    asked = {"dtype": getattr(torch, dtype)}
    ours = AutoModelForImageTextToText.from_pretrained(found, **asked).state_dict()
    base = AutoModelForImageTextToText.from_pretrained(folder, **asked)
    before = {name: value.clone() for name, value in base.state_dict().items()}
    theirs = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload().state_dict()
    assert set(ours) == set(theirs)
    differ = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not differ
    assert any(not torch.equal(theirs[name], before[name]) for name in before), "the adapter makes a difference"
    assert [path.name for path in sorted(found.iterdir())] == [path.name for path in sorted(folder.iterdir())]
    for path in folder.glob("*.safetensors"):  # vLLM looks for the names that the files have
        assert set(load_file(path)) == set(load_file(found / path.name))


def test_it_is_made_once_and_anew_for_another_adapter(tmp_path: Path, own_home: Path) -> None:
    folder = tiny_fastvlm(tmp_path / "model")
    adapter = tiny_adapter(folder, tmp_path / "adapter")
    config = CheckpointConfig(model=str(folder), adapter=str(adapter))
    first = merged(open_checkpoint(config), "float32")
    written = Path(first, "config.json").stat().st_mtime_ns
    assert merged(open_checkpoint(config), "float32") == first
    assert Path(first, "config.json").stat().st_mtime_ns == written
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file({name: 2 * value for name, value in tensors.items()}, adapter / "adapter_model.safetensors")
    assert merged(open_checkpoint(config), "float32") != first


def test_what_is_more_than_a_plain_lora_is_refused(tmp_path: Path, own_home: Path) -> None:
    folder = tiny_fastvlm(tmp_path / "model")
    adapter = tiny_adapter(folder, tmp_path / "adapter")
    config = CheckpointConfig(model=str(folder), adapter=str(adapter))
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(settings | {"use_dora": True}))
    with pytest.raises(UsageError, match="use_dora"):
        merged(open_checkpoint(config), "float32")
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    tensors = load_file(adapter / "adapter_model.safetensors")
    odd = {name.replace("layers.0", "blocks.0"): value for name, value in tensors.items()}
    save_file(odd, adapter / "adapter_model.safetensors")
    with pytest.raises(UsageError, match="0 tensors of the checkpoint"):
        merged(open_checkpoint(config), "float32")
    assert not list((own_home / "models").glob("merged-*[!k]")), "nothing half-written is left"
