"""The transformers backend beside bare transformers: tiny random CLIP and SigLIP checkpoints, each with a tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    CLIPModel,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from tests.retrieval.conftest import Pictures
from tests.retrieval.tiny_hf import VISION, tiny_clip, tiny_tokenizer
from trireme.errors import DataError, TriremeError, UsageError
from trireme.retrieval.encoders.hf import TransformersEncoder

TEXTS = ["a photo of a fox", "clock", "a fox and a clock " * 40]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("tiny-hf-clip"))


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-hf-siglip")
    torch.manual_seed(0)
    text = VISION | {"vocab_size": 10, "max_position_embeddings": 64}
    config = SiglipConfig(text_config=text, vision_config=VISION | {"image_size": 32, "patch_size": 8})
    SiglipModel(config).save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def _vectors(output: object) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output.pooler_output


@pytest.mark.parametrize(
    ("family", "padding", "dim"),
    [("clip", {"padding": True, "max_length": 16}, 24), ("siglip", {"padding": "max_length", "max_length": 64}, 32)],
)
def test_embeddings_are_those_of_bare_transformers(
    family: str, padding: dict[str, object], dim: int, request: pytest.FixtureRequest, pictures: Pictures
) -> None:
    """Reference: processor, tokenizer and get_*_features called as the model cards show; the long text is cut."""
    folder = request.getfixturevalue(family)
    images = [Image.open(ref.path).convert("RGB") for ref in pictures(3)]
    model = AutoModel.from_pretrained(folder).eval()
    pixels = AutoImageProcessor.from_pretrained(folder)(images=images, return_tensors="pt")
    tokens = AutoTokenizer.from_pretrained(folder)(TEXTS, truncation=True, return_tensors="pt", **padding)
    with torch.inference_mode():
        expected_images = torch.nn.functional.normalize(_vectors(model.get_image_features(**pixels))).numpy()
        expected_texts = torch.nn.functional.normalize(_vectors(model.get_text_features(**tokens))).numpy()
    encoder = TransformersEncoder(TransformersEncoder.Config(model=str(folder), device="cpu"))
    found = encoder.encode_pixels(torch.stack([encoder.preprocess(image) for image in images]))
    np.testing.assert_allclose(found, expected_images, atol=1e-6)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected_texts, atol=1e-6)
    assert (encoder.dim, found.shape) == (dim, (3, dim))
    assert encoder.logit_scale == pytest.approx(model.logit_scale.exp().item())
    assert encoder.encode_tokens(pixels["pixel_values"]).shape == (3, 16, 32)  # 32 px in patches of 8 px, width 32


def encoder_of(folder: Path) -> TransformersEncoder:
    return TransformersEncoder(TransformersEncoder.Config(model=str(folder), device="cpu"))


def changed(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


def test_fingerprint_follows_what_is_read_and_not_the_folder(clip: Path, tmp_path: Path) -> None:
    base = encoder_of(clip)
    assert "model" not in vars(base)
    copy = tmp_path / "copy"
    shutil.copytree(clip, copy)
    for name in ("notes.txt", "README.md", "results.json", "training_args.json", "model.fp16.safetensors"):
        (copy / name).write_text("nobody reads this")
    assert encoder_of(copy).fingerprint == base.fingerprint
    seen = {base.fingerprint}
    for name, old, new in (
        ("preprocessor_config.json", '"do_center_crop": true', '"do_center_crop": false'),
        ("tokenizer.json", '"fox": 6', '"fax": 6'),
        ("tokenizer_config.json", '"pad_token": "<pad>"', '"pad_token": "<unk>"'),
        ("config.json", '"projection_dim": 24', '"projection_dim": 25'),
    ):
        changed(copy / name, old, new)
        seen.add(encoder_of(copy).fingerprint)
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    assert len(seen | {encoder_of(copy).fingerprint}) == 6


def test_weights_in_parts_count_with_their_index(clip: Path, tmp_path: Path) -> None:
    """As save_pretrained cuts large models; a part that is not listed does not count, one that is missing is named."""
    folder = tmp_path / "parts"
    shutil.copytree(clip, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    CLIPModel.from_pretrained(clip).save_pretrained(folder, max_shard_size="20KB")
    parts = sorted(folder.glob("model-*.safetensors"))
    assert len(parts) > 1
    np.testing.assert_array_equal(encoder_of(folder).encode_texts(TEXTS), encoder_of(clip).encode_texts(TEXTS))
    before = encoder_of(folder).fingerprint
    (folder / "model-99999-of-99999.safetensors").write_bytes(b"nobody reads this")
    assert encoder_of(folder).fingerprint == before
    content = bytearray(parts[-1].read_bytes())
    content[-1] ^= 1
    parts[-1].write_bytes(content)
    assert encoder_of(folder).fingerprint != before
    parts[-1].unlink()
    with pytest.raises(DataError, match=parts[-1].name):
        encoder_of(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": ')
    with pytest.raises(DataError, match=r"model\.safetensors\.index\.json is damaged"):
        encoder_of(folder)


def test_bad_checkpoints_are_named(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(TriremeError, match=r"cannot download openai/clip-vit-base-patch32 .*local folder"):
        TransformersEncoder(TransformersEncoder.Config())
    with pytest.raises(DataError, match="model folder /nowhere/at/all does not exist"):
        TransformersEncoder(TransformersEncoder.Config(model="/nowhere/at/all"))
    pickled = tmp_path / "pickled"
    shutil.copytree(clip, pickled, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"has no model\.safetensors; pickled weights are not read"):
        TransformersEncoder(TransformersEncoder.Config(model=str(pickled)))
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(UsageError, match="is a 'bert' model; known families: clip, siglip"):
        TransformersEncoder(TransformersEncoder.Config(model=str(tmp_path / "bert")))


def test_truncated_weights_are_named(clip: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    shutil.copytree(clip, short)
    whole = (short / "model.safetensors").read_bytes()
    (short / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    encoder = TransformersEncoder(TransformersEncoder.Config(model=str(short), device="cpu"))
    with pytest.raises(DataError, match="cannot load transformers:short from"):
        encoder.encode_texts(["a fox"])
