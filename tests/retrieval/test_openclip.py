"""The open_clip backend beside bare open_clip, and the mixed-up choices that it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.retrieval.conftest import TINY, Pictures
from trireme.errors import DataError, TriremeError, UsageError
from trireme.retrieval.encoders.base import BadEmbeddingError
from trireme.retrieval.encoders.openclip import OpenClipConfig, OpenClipEncoder
from trireme.retrieval.encoders.openclip_source import resolve

TEXTS = ["a photo of a fox", "clock", ""]


def _pixels(encoder: OpenClipEncoder, pictures: Pictures, n: int = 3) -> torch.Tensor:
    return torch.stack([encoder.preprocess(Image.open(ref.path).convert("RGB")) for ref in pictures(n)])


def test_embeddings_are_those_of_bare_open_clip(tiny: OpenClipEncoder, tiny_folder: Path, pictures: Pictures) -> None:
    """Reference: open_clip's own three calls on the same files. Float32 rounding apart, equal."""
    name = f"local-dir:{tiny_folder}"
    model, transform = open_clip.create_model_from_pretrained(name)
    model.eval()
    images = torch.stack([transform(Image.open(ref.path)) for ref in pictures(3)])
    with torch.inference_mode():
        expected_images = model.encode_image(images, normalize=True).numpy()
        expected_texts = model.encode_text(open_clip.get_tokenizer(name)(TEXTS), normalize=True).numpy()
    np.testing.assert_allclose(tiny.encode_pixels(_pixels(tiny, pictures)), expected_images, atol=1e-6)
    np.testing.assert_allclose(tiny.encode_texts(TEXTS), expected_texts, atol=1e-6)
    assert tiny.dim == 32
    assert tiny.logit_scale == pytest.approx(model.logit_scale.exp().item())


def test_tokens_are_those_that_open_clip_returns_itself(tiny: OpenClipEncoder, pictures: Pictures) -> None:
    """Reference: open_clip's `output_tokens` switch. 32 px in patches of 8 px: 16 tokens of width 32."""
    pixels = _pixels(tiny, pictures)
    found = tiny.encode_tokens(pixels)
    visual = tiny.model.visual
    visual.output_tokens = True
    with torch.inference_mode():
        expected = visual(pixels)[1].numpy()
    assert found.shape == (3, 16, 32)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_named_model_with_a_local_file(tmp_path: Path) -> None:
    """An architecture by name, weights in a local file, safetensors or .pt: the same model comes back."""
    (tmp_path / "tiny-by-name.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(tmp_path / "tiny-by-name.json")
    torch.manual_seed(1)
    model = open_clip.create_model("tiny-by-name").eval()
    save_file(model.state_dict(), str(tmp_path / "w.safetensors"))
    torch.save(model.state_dict(), tmp_path / "w.pt")
    pixels = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        expected = model.encode_image(pixels, normalize=True).numpy()
    for name in ("w.safetensors", "w.pt"):
        config = OpenClipConfig(model="tiny-by-name", pretrained=str(tmp_path / name), device="cpu")
        np.testing.assert_allclose(OpenClipEncoder(config).encode_pixels(pixels), expected, atol=1e-6)


def test_random_weights_only_on_request() -> None:
    with pytest.raises(UsageError, match="needs weights"):
        OpenClipEncoder(OpenClipConfig(model="RN50"))
    with pytest.raises(UsageError, match="contradict"):
        OpenClipEncoder(OpenClipConfig(model="RN50", pretrained="openai", random=True))
    one = OpenClipEncoder(OpenClipConfig(model="RN50", random=True, seed=1))
    two = OpenClipEncoder(OpenClipConfig(model="RN50", random=True, seed=2))
    assert one.fingerprint != two.fingerprint
    with pytest.raises(UsageError, match="has no patch tokens"):
        one.encode_tokens(torch.zeros(1, 3, 224, 224))


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown open_clip model 'ViT-B32'; did you mean 'ViT-B-32'"):
        OpenClipEncoder(OpenClipConfig(model="ViT-B32", pretrained="openai"))
    with pytest.raises(UsageError, match=r"'laion2b_s34b'.*did you mean 'laion2b_s34b_b79k'"):
        OpenClipEncoder(OpenClipConfig(model="ViT-B-32", pretrained="laion2b_s34b"))
    with pytest.raises(DataError, match=r"absent\.safetensors does not exist"):
        OpenClipEncoder(OpenClipConfig(model="ViT-B-32", pretrained="/nowhere/absent.safetensors"))


def test_download_failure_says_that_a_local_file_works() -> None:
    """The hub is switched off for all tests (tests/conftest.py), as on a machine without a network."""
    with pytest.raises(TriremeError, match=r"cannot download weights 'openai'.*local file") as caught:
        OpenClipEncoder(OpenClipConfig(model="ViT-B-32-quickgelu", pretrained="openai"))
    assert "\n" not in str(caught.value)


def test_quick_gelu_must_fit_the_weights(tmp_path: Path) -> None:
    """Facts from open_clip's table: openai tags are QuickGELU, laion2b ones are not."""
    with pytest.raises(UsageError, match="use model=ViT-B-32-quickgelu or force_quick_gelu=true"):
        resolve(OpenClipConfig(model="ViT-B-32", pretrained="openai"))
    with pytest.raises(UsageError, match="not trained with QuickGELU; drop"):
        resolve(OpenClipConfig(model="ViT-B-32", pretrained="laion2b_s34b_b79k", force_quick_gelu=True))
    with pytest.raises(UsageError, match="use model=ViT-B-32"):
        resolve(OpenClipConfig(model="ViT-B-32-quickgelu", pretrained="laion2b_s34b_b79k"))
    file = _file(tmp_path)
    with pytest.raises(UsageError, match="a file with origin=openai was trained with QuickGELU"):
        resolve(OpenClipConfig(model="ViT-B-32", pretrained=file, origin="openai"))
    quick = resolve(OpenClipConfig(model="ViT-B-32", pretrained=file, origin="openai", force_quick_gelu=True))
    named = resolve(OpenClipConfig(model="ViT-B-32-quickgelu", pretrained=file, origin="openai"))
    assert quick.architecture["quick_gelu"]
    assert named.architecture["quick_gelu"]


def _file(folder: Path) -> str:
    """A file to hash: `resolve` never loads it."""
    (folder / "w.safetensors").write_bytes(b"weights")
    return str(folder / "w.safetensors")


def test_preprocessing_belongs_to_the_weights(tmp_path: Path) -> None:
    """Facts from open_clip's table: SigLIP tags have mean 0.5 and squash; ViT-L-14 tags differ among themselves."""
    file = _file(tmp_path)
    siglip = resolve(OpenClipConfig(model="ViT-B-16-SigLIP", pretrained=file)).preprocess
    assert siglip["mean"] == (0.5, 0.5, 0.5)
    assert siglip["resize_mode"] == "squash"
    clip = resolve(OpenClipConfig(model="ViT-B-32", pretrained=file)).preprocess
    assert clip["mean"] == open_clip.OPENAI_DATASET_MEAN
    with pytest.raises(UsageError, match="add origin=TAG"):
        resolve(OpenClipConfig(model="ViT-L-14", pretrained=file))
    inception = OpenClipConfig(model="ViT-L-14", pretrained=file, origin="laion2b_s32b_b82k")
    assert resolve(inception).preprocess["mean"] == (0.5, 0.5, 0.5)
    assert resolve(replace(inception, image_mean=(0.5, 0.5, 0.5))) == resolve(inception)
    with pytest.raises(UsageError, match=r"image_std=.* contradicts the weights"):
        resolve(replace(inception, image_std=open_clip.OPENAI_DATASET_STD))
    with pytest.raises(UsageError, match="unknown origin"):
        resolve(replace(inception, origin="laion2b_s32b"))


def test_no_tag_of_open_clip_is_refused_by_its_own_table(tmp_path: Path) -> None:
    """Every (model, tag) that open_clip lists passes, with force_quick_gelu where the tag wants it."""
    file = _file(tmp_path)
    for model, tag in open_clip.list_pretrained():
        if model not in open_clip.list_models():
            continue
        cfg = open_clip.get_pretrained_cfg(model, tag)
        config = OpenClipConfig(
            model=model, pretrained=file, origin=tag, force_quick_gelu=bool(cfg.get("quick_gelu", False))
        )
        assert resolve(config).preprocess["mean"] == tuple(cfg["mean"]), (model, tag)


def test_fingerprint_without_loading(tiny_folder: Path, tmp_path: Path, tiny_config: OpenClipConfig) -> None:
    """It follows weights, preprocessing and dtype; path and device do not matter; nothing is loaded."""
    base = OpenClipEncoder(tiny_config)
    assert "model" not in vars(base)
    elsewhere = tmp_path / "copy"
    shutil.copytree(tiny_folder, elsewhere)
    assert OpenClipEncoder(replace(tiny_config, model=f"local-dir:{elsewhere}")).fingerprint == base.fingerprint
    assert OpenClipEncoder(replace(tiny_config, dtype="bfloat16")).fingerprint != base.fingerprint
    assert OpenClipEncoder(replace(tiny_config, image_mean=(0.0, 0.0, 0.0))).fingerprint != base.fingerprint
    weights = load_file(elsewhere / "open_clip_model.safetensors")
    weights["logit_scale"] = weights["logit_scale"] + 1
    save_file(weights, str(elsewhere / "open_clip_model.safetensors"))
    assert OpenClipEncoder(replace(tiny_config, model=f"local-dir:{elsewhere}")).fingerprint != base.fingerprint


class _Code:
    """Something that unpickling would have to run code for."""


def test_damaged_or_foreign_weights_are_named(tiny_folder: Path, tmp_path: Path) -> None:
    pixels = torch.zeros(1, 3, 224, 224)
    torch.save({"state_dict": _Code()}, tmp_path / "pickled.pt")
    shutil.copy(tiny_folder / "open_clip_model.safetensors", tmp_path / "other.safetensors")
    whole = (tmp_path / "other.safetensors").read_bytes()
    (tmp_path / "short.safetensors").write_bytes(whole[: len(whole) // 2])
    for name in ("pickled.pt", "other.safetensors", "short.safetensors"):
        encoder = OpenClipEncoder(OpenClipConfig(model="ViT-S-32-alt", pretrained=str(tmp_path / name), device="cpu"))
        with pytest.raises(DataError, match=f"cannot load open_clip:ViT-S-32-alt:.*{name}") as caught:
            encoder.encode_pixels(pixels)
        assert "\n" not in str(caught.value)


def test_nan_weights_are_refused(tiny_folder: Path, tmp_path: Path, pictures: Pictures) -> None:
    folder = tmp_path / "nan"
    shutil.copytree(tiny_folder, folder)
    weights = load_file(folder / "open_clip_model.safetensors")
    weights["visual.proj"] = weights["visual.proj"] * float("nan")
    save_file(weights, str(folder / "open_clip_model.safetensors"))
    encoder = OpenClipEncoder(OpenClipConfig(model=f"local-dir:{folder}", device="cpu"))
    with pytest.raises(BadEmbeddingError, match="encoder open_clip:nan gives NaN"):
        encoder.encode_pixels(_pixels(encoder, pictures))


def test_half_precision_stays_close(tiny_config: OpenClipConfig, tiny: OpenClipEncoder, pictures: Pictures) -> None:
    """bfloat16 has 8 bits of mantissa: cosines with float32 embeddings stay above 0.99."""
    pixels = _pixels(tiny, pictures)
    half = OpenClipEncoder(replace(tiny_config, dtype="bfloat16")).encode_pixels(pixels)
    assert ((half * tiny.encode_pixels(pixels)).sum(axis=1) > 0.99).all()
