"""The option `react` of the open_clip encoder with our own files: name, fingerprint, embeddings, refusals."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from trireme.errors import DataError, UsageError
from trireme.retrieval.encoders.base import Encoder
from trireme.retrieval.encoders.customised import Customised, changed_tensors, write_customised
from trireme.retrieval.encoders.gated import GATE, add_gated_blocks
from trireme.retrieval.encoders.openclip import OpenClipConfig, OpenClipEncoder

PIXELS = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def trained(tiny: OpenClipEncoder) -> nn.Module:
    """A gated copy after a few real steps: the frozen tower stays, gates and the scale move."""
    model = tiny.trainable().requires_grad_(False).train()
    blocks = add_gated_blocks(model.get_submodule("visual"), 2, seed=1)
    parameters = [value for block in blocks for value in block.parameters()]
    parameters.append(model.get_parameter("logit_scale").requires_grad_(True))
    optimiser = torch.optim.AdamW(parameters, lr=0.02)
    words = torch.randint(1, 49408, (3, 16), generator=torch.Generator().manual_seed(1))
    for _ in range(4):
        images, texts, scale = model(PIXELS, words)
        loss = nn.functional.cross_entropy(scale * images @ texts.T, torch.arange(3))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


@pytest.fixture
def file(tiny: OpenClipEncoder, trained: nn.Module, tmp_path: Path) -> Path:
    tensors = changed_tensors(trained, tiny.model)
    path = tmp_path / "gated world.safetensors"
    write_customised(path, Customised("gated_image", tiny.base_fingerprint, tensors, 2, {}))
    return path


def test_what_was_trained_comes_back(
    tiny: OpenClipEncoder, trained: nn.Module, file: Path, tiny_config: OpenClipConfig
) -> None:
    encoder = OpenClipEncoder(replace(tiny_config, react=str(file)))
    assert "model" not in vars(encoder)
    assert isinstance(encoder, Encoder)
    assert encoder.name == f"{tiny.name}+react(gated world)"
    with torch.inference_mode():
        expected = trained.encode_image(PIXELS, normalize=True).numpy()  # type: ignore[operator]
    np.testing.assert_array_equal(encoder.encode_pixels(PIXELS), expected)
    assert float(np.abs(expected - tiny.encode_pixels(PIXELS)).max()) > 1e-3
    np.testing.assert_array_equal(encoder.encode_texts(["a fox"]), tiny.encode_texts(["a fox"]))
    assert encoder.encode_tokens(PIXELS).shape == tiny.encode_tokens(PIXELS).shape
    assert encoder.logit_scale == pytest.approx(trained.get_parameter("logit_scale").exp().item())
    assert encoder.logit_scale != tiny.logit_scale


def test_training_touches_no_frozen_tensor(tiny: OpenClipEncoder, trained: nn.Module) -> None:
    changed = changed_tensors(trained, tiny.model)
    assert set(changed) == {name for name in trained.state_dict() if GATE in name} | {"logit_scale"}


def test_fingerprints(tiny: OpenClipEncoder, file: Path, tiny_config: OpenClipConfig) -> None:
    """The base's own is unchanged by the option; the customised one follows tensors, not the path or the record."""
    encoder = OpenClipEncoder(replace(tiny_config, react=str(file)))
    assert tiny.fingerprint == tiny.base_fingerprint == encoder.base_fingerprint != encoder.fingerprint
    elsewhere = file.with_name("other.safetensors")
    shutil.copy(file, elsewhere)
    assert OpenClipEncoder(replace(tiny_config, react=str(elsewhere))).fingerprint == encoder.fingerprint
    scale = {"logit_scale": torch.tensor(1.0)}
    write_customised(elsewhere, Customised("locked_text", tiny.base_fingerprint, scale, 0, {}))
    assert OpenClipEncoder(replace(tiny_config, react=str(elsewhere))).fingerprint != encoder.fingerprint


def test_another_base_is_refused(
    tiny: OpenClipEncoder, file: Path, tiny_folder: Path, tiny_config: OpenClipConfig, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_folder, other)
    weights = load_file(other / "open_clip_model.safetensors")
    weights["visual.proj"] = weights["visual.proj"] + 1
    save_file(weights, other / "open_clip_model.safetensors")
    base = OpenClipEncoder(replace(tiny_config, model=f"local-dir:{other}")).fingerprint
    expected = f"fingerprint {tiny.fingerprint}, but the base of open_clip:other.* has {base}: choose the model"
    with pytest.raises(UsageError, match=expected):
        OpenClipEncoder(replace(tiny_config, model=f"local-dir:{other}", react=str(file)))
    with pytest.raises(UsageError, match="weights and dtype"):
        OpenClipEncoder(replace(tiny_config, dtype="bfloat16", react=str(file)))
    with pytest.raises(UsageError, match="react_base is for"):
        OpenClipEncoder(replace(tiny_config, react=str(file), react_base="openai"))


def test_damaged_files_are_refused_when_the_encoder_is_built(file: Path, tiny_config: OpenClipConfig) -> None:
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DataError, match="is not a whole safetensors file"):
        OpenClipEncoder(replace(tiny_config, react=str(file)))
    with pytest.raises(DataError, match=r"absent\.safetensors does not exist"):
        OpenClipEncoder(replace(tiny_config, react="absent.safetensors"))


def test_tokens_are_what_the_text_tower_takes(tiny: OpenClipEncoder) -> None:
    tokens = tiny.tokenise(["a fox", ""])
    assert (tokens.shape, tokens.dtype) == ((2, 16), torch.int64)
    with torch.inference_mode():
        found = tiny.model.encode_text(tokens, normalize=True).numpy()  # type: ignore[operator]
    np.testing.assert_allclose(found, tiny.encode_texts(["a fox", ""]), atol=1e-6)


def test_trainable_copies_take_gradients(tiny: OpenClipEncoder, tiny_config: OpenClipConfig) -> None:
    """Also where the model was first loaded inside inference mode, as every encode call does."""
    encoder = OpenClipEncoder(tiny_config)
    before = encoder.encode_pixels(PIXELS)
    model = encoder.trainable()
    assert all(value.requires_grad and not value.is_inference() for value in model.parameters())
    model.encode_image(PIXELS).sum().backward()  # type: ignore[operator]
    with torch.no_grad():
        for value in model.parameters():
            value.add_(1.0)
    np.testing.assert_array_equal(encoder.encode_pixels(PIXELS), before)
