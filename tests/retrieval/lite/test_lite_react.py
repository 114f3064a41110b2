"""The option `react` of the lite encoder: gated blocks on the committed head, name, fingerprint, refusals."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from trireme.errors import DataError, UsageError
from trireme.retrieval.encoders.base import Encoder
from trireme.retrieval.encoders.customised import Customised, changed_tensors, write_customised
from trireme.retrieval.encoders.gated import GATE, add_gated_blocks
from trireme.retrieval.encoders.lite import LiteEncoder
from trireme.retrieval.encoders.lite.model import LiteHead

PIXELS = torch.rand(4, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _trained(encoder: LiteEncoder) -> LiteHead:
    """Three real steps on the gates and the scale, on the trunk tokens of pixels, as a trainer takes them."""
    head = encoder.trainable().requires_grad_(False).train()
    blocks = add_gated_blocks(head, 2, seed=1)
    parameters = [value for block in blocks for value in block.parameters()]
    optimiser = torch.optim.AdamW([*parameters, head.logit_scale.requires_grad_(True)], lr=0.05)
    texts = torch.from_numpy(encoder.encode_texts(["fox", "clock", "grapes", "house"]))
    tokens = encoder.trunk_tokens(PIXELS)
    for _ in range(3):
        loss = torch.nn.functional.cross_entropy(head.logit_scale.exp() * head(tokens) @ texts.T, torch.arange(4))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return head.eval()


@pytest.fixture(scope="module")
def head(encoder: LiteEncoder) -> LiteHead:
    return _trained(encoder)


@pytest.fixture
def file(encoder: LiteEncoder, head: LiteHead, tmp_path: Path) -> Path:
    changed = changed_tensors(head, encoder.head)
    assert set(changed) == {name for name in head.state_dict() if GATE in name} | {"logit_scale"}
    path = tmp_path / "gated.safetensors"
    write_customised(path, Customised("gated_image", encoder.base_fingerprint, changed, 2, {"steps": 3}))
    return path


def test_what_was_trained_comes_back(encoder: LiteEncoder, head: LiteHead, file: Path) -> None:
    customised = LiteEncoder(LiteEncoder.Config(device="cpu", react=str(file)))
    assert isinstance(customised, Encoder)
    assert customised.name == "lite+react(gated)"
    assert customised.logit_scale == pytest.approx(math.exp(float(head.logit_scale.detach())))
    assert customised.logit_scale != encoder.logit_scale
    with torch.inference_mode():
        expected = head(encoder.trunk_tokens(PIXELS)).numpy()
    found = customised.encode_pixels(PIXELS)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert float(np.abs(found - encoder.encode_pixels(PIXELS)).max()) > 1e-3
    np.testing.assert_array_equal(customised.encode_tokens(PIXELS), encoder.encode_tokens(PIXELS))
    np.testing.assert_array_equal(customised.encode_texts(["fox"]), encoder.encode_texts(["fox"]))


def test_fingerprints(encoder: LiteEncoder, file: Path) -> None:
    customised = LiteEncoder(LiteEncoder.Config(device="cpu", react=str(file)))
    assert encoder.fingerprint == encoder.base_fingerprint == customised.base_fingerprint != customised.fingerprint
    copied = file.with_name("other.safetensors")
    copied.write_bytes(file.read_bytes())
    assert LiteEncoder(LiteEncoder.Config(react=str(copied))).fingerprint == customised.fingerprint
    scale = {"logit_scale": torch.tensor(1.0)}
    write_customised(copied, Customised("locked_text", encoder.base_fingerprint, scale, 0, {}))
    other = LiteEncoder(LiteEncoder.Config(react=str(copied)))
    assert other.fingerprint not in (customised.fingerprint, encoder.fingerprint)
    assert other.logit_scale == pytest.approx(math.e)


def test_another_base_is_refused(encoder: LiteEncoder, file: Path, weights_copy: Path) -> None:
    with safe_open(weights_copy, framework="pt") as content:
        metadata = content.metadata()
    tensors = load_file(weights_copy)
    tensors["proj"][0, 0] += 0.25
    save_file(tensors, weights_copy, metadata=metadata)
    config = LiteEncoder.Config(device="cpu", weights=str(weights_copy), react=str(file))
    found = LiteEncoder(LiteEncoder.Config(weights=str(weights_copy))).fingerprint
    expected = rf"fingerprint {encoder.fingerprint}, but the base of lite.*\+react\(gated\) has {found}"
    with pytest.raises(UsageError, match=expected):
        _ = LiteEncoder(config).fingerprint
    with pytest.raises(UsageError, match=expected):
        LiteEncoder(config).encode_pixels(PIXELS)
    with pytest.raises(UsageError, match=expected):
        _ = LiteEncoder(config).logit_scale


@pytest.mark.parametrize("variant", ["full", "locked_image"])
def test_text_model_comes_back(variant: str, encoder: LiteEncoder, tmp_path: Path) -> None:
    """Variants that train the text tower bring its tensors under `text.`; the file holds only those that moved."""
    model = encoder.trainable_text()
    assert all(value.requires_grad and not value.is_inference() for value in model.parameters())
    moved = {"text.embeddings.LayerNorm.bias": model.get_parameter("embeddings.LayerNorm.bias").detach() + 0.1}
    if variant == "full":
        moved["proj"] = encoder.head.proj * 0.5
    path = tmp_path / "texts.safetensors"
    write_customised(path, Customised(variant, encoder.base_fingerprint, moved, 0, {}))
    customised = LiteEncoder(LiteEncoder.Config(device="cpu", react=str(path)))
    texts = ["a red fox", "grapes"]
    with torch.no_grad():
        model.get_parameter("embeddings.LayerNorm.bias").add_(0.1)
        tokens = customised.tokenise(texts)
        mask = tokens["attention_mask"].unsqueeze(-1)
        hidden = model(**tokens).last_hidden_state
        expected = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).numpy()
    np.testing.assert_allclose(customised.encode_texts(texts), expected, atol=1e-5)
    assert float(np.abs(customised.encode_texts(texts) - encoder.encode_texts(texts)).max()) > 1e-3
    same = np.array_equal(customised.encode_pixels(PIXELS), encoder.encode_pixels(PIXELS))
    assert same == (variant == "locked_image")


def test_text_model_of_another_kind_is_named(encoder: LiteEncoder, tmp_path: Path) -> None:
    cases = {"text.absent": "1 unknown (absent)", "text.embeddings.LayerNorm.bias": "1 of another shape"}
    for name, message in cases.items():
        path = tmp_path / "texts.safetensors"
        write_customised(path, Customised("full", encoder.base_fingerprint, {name: torch.zeros(3)}, 0, {}))
        with pytest.raises(DataError, match=f"another architecture: {re.escape(message)}"):
            LiteEncoder(LiteEncoder.Config(device="cpu", react=str(path))).encode_texts(["fox"])
    write_customised(path, Customised("locked_text", encoder.base_fingerprint, {name: torch.zeros(384)}, 0, {}))
    with pytest.raises(DataError, match=r"locked_text of a customised encoder leaves 1 tensors \(first: text\."):
        LiteEncoder(LiteEncoder.Config(device="cpu", react=str(path))).encode_pixels(PIXELS)


def test_damaged_files_are_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DataError, match="is not a whole safetensors file"):
        _ = LiteEncoder(LiteEncoder.Config(react=str(file))).fingerprint
    with pytest.raises(DataError, match=r"absent\.safetensors does not exist"):
        _ = LiteEncoder(LiteEncoder.Config(react="absent.safetensors")).fingerprint


def test_trainable_copies_take_gradients(encoder: LiteEncoder) -> None:
    """Also where the head was first loaded inside inference mode, as every encode call does."""
    fresh = LiteEncoder(LiteEncoder.Config(device="cpu"))
    before = fresh.encode_pixels(PIXELS)
    copied = fresh.trainable()
    assert all(value.requires_grad and not value.is_inference() for value in copied.parameters())
    tokens = fresh.trunk_tokens(PIXELS)
    assert tokens.shape == (4, 16, 640)
    copied(tokens).sum().backward()
    with torch.no_grad():
        for value in copied.parameters():
            value.add_(1.0)
    np.testing.assert_array_equal(fresh.encode_pixels(PIXELS), before)
    assert not any(value.requires_grad for value in fresh.head.parameters())
