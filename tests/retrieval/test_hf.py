"""The transformers backend beside bare transformers: tiny random CLIP and SigLIP checkpoints, each with a tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from tests.retrieval.conftest import Pictures
from trireme.errors import DataError, TriremeError, UsageError
from trireme.retrieval.encoders.hf import TransformersEncoder

TEXTS = ["a photo of a fox", "clock", "a fox and a clock " * 40]
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
WORDS = ["<pad>", "<unk>", "<bos>", "a", "photo", "of", "fox", "clock", "and", "<eos>"]


def _tokenizer() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing("<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 9)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", bos_token="<bos>", eos_token="<eos>"
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-hf-clip")
    torch.manual_seed(0)
    text = VISION | {"vocab_size": 10, "max_position_embeddings": 16, "eos_token_id": 9, "bos_token_id": 2}
    config = CLIPConfig(text_config=text, vision_config=VISION | {"image_size": 32, "patch_size": 8}, projection_dim=24)
    CLIPModel(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-hf-siglip")
    torch.manual_seed(0)
    text = VISION | {"vocab_size": 10, "max_position_embeddings": 64}
    config = SiglipConfig(text_config=text, vision_config=VISION | {"image_size": 32, "patch_size": 8})
    SiglipModel(config).save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
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


def test_fingerprint_follows_files_not_the_folder(clip: Path, tmp_path: Path) -> None:
    base = TransformersEncoder(TransformersEncoder.Config(model=str(clip)))
    assert "model" not in vars(base)
    copy = tmp_path / "copy"
    shutil.copytree(clip, copy)
    assert TransformersEncoder(TransformersEncoder.Config(model=str(copy))).fingerprint == base.fingerprint
    settings = (copy / "preprocessor_config.json").read_text()
    (copy / "preprocessor_config.json").write_text(
        settings.replace('"do_center_crop": true', '"do_center_crop": false')
    )
    assert TransformersEncoder(TransformersEncoder.Config(model=str(copy))).fingerprint != base.fingerprint


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
