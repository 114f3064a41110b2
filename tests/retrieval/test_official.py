"""REACT's released checkpoints: names and shapes by the official code, in and out, and every mix-up that is refused.

The released files cannot be had here (no hub); the state dicts are made by hand from microsoft/react a1a796f,
react_customization/src/open_clip/model.py, transformer.py and model_configs/react_ViT-*.json.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.retrieval.conftest import TINY
from trireme.errors import DataError, UsageError
from trireme.retrieval.encoders.gated import GATE, add_gated_blocks
from trireme.retrieval.encoders.official import RELEASED, backbone_of, export_official, load_official
from trireme.retrieval.encoders.openclip import OpenClipConfig, OpenClipEncoder
from trireme.retrieval.encoders.openclip_source import resolve

NAMED = {  # vision layers, width, patch; text width; embedding dimension (equal in these three)
    "ViT-B-32": (12, 768, 32, 512),
    "ViT-B-16": (12, 768, 16, 512),
    "ViT-L-14": (24, 1024, 14, 768),
}
Shapes = dict[str, tuple[int, ...]]


def _block(prefix: str, width: int) -> Shapes:
    """The parameters that a layer and its gated block have in common."""
    linear: Shapes = {"attn.in_proj_": (3 * width, width), "attn.out_proj.": (width, width)}
    linear |= {"mlp.c_fc.": (4 * width, width), "mlp.c_proj.": (width, 4 * width)}
    shapes: Shapes = {}
    for name, shape in linear.items():
        shapes |= {f"{prefix}{name}weight": shape, f"{prefix}{name}bias": shape[:1]}
    for name in ("ln_1.", "ln_2."):
        shapes |= {f"{prefix}{name}weight": (width,), f"{prefix}{name}bias": (width,)}
    return shapes


def official_shapes(layers: int, width: int, patch: int, text: int, gated: int) -> Shapes:
    """Every key of a released checkpoint with its shape; 224 px, 77 tokens of 49,408 words, 12 text layers."""
    shapes: Shapes = {"logit_scale": (), "positional_embedding": (77, text), "token_embedding.weight": (49408, text)}
    shapes |= {"text_projection": (text, text), "ln_final.weight": (text,), "ln_final.bias": (text,)}
    shapes |= {"visual.class_embedding": (width,), "visual.proj": (width, text)}
    shapes |= {"visual.positional_embedding": ((224 // patch) ** 2 + 1, width)}
    shapes |= {"visual.conv1.weight": (width, 3, patch, patch)}
    for name in ("visual.ln_pre.", "visual.ln_post."):
        shapes |= {f"{name}weight": (width,), f"{name}bias": (width,)}
    for layer in range(12):
        shapes |= _block(f"transformer.resblocks.{layer}.", text)
    for layer in range(layers):
        prefix = f"visual.transformer.resblocks.{layer}."
        shapes |= _block(prefix, width)
        if layer + gated >= layers:  # transformer.py, Transformer.__init__
            shapes |= _block(f"{prefix}gated_attn_block.", width)
            shapes |= {f"{prefix}gated_attn_block.alpha_attn": (), f"{prefix}gated_attn_block.alpha_dense": ()}
    return shapes


def _file(path: Path, shapes: Shapes, prefix: str = "", bare: bool = False, **extra: Tensor) -> Path:
    """A checkpoint of zeros, each tensor one number shown many times: the shapes are real, the file is small."""
    state = {f"{prefix}{name}": torch.zeros(()).expand(shape) for name, shape in shapes.items()} | extra
    torch.save(state if bare else {"epoch": 32, "state_dict": state}, path)
    return path


def _meta(name: str) -> nn.Module:
    config = open_clip.get_model_config(name)
    with torch.device("meta"):
        model: nn.Module = open_clip.CLIP(**config)
    return model


@pytest.mark.filterwarnings("ignore:.*meta parameter")
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("gated", [6, 0])
@pytest.mark.parametrize("name", list(NAMED))
def test_official_names_and_shapes_load(name: str, gated: int, prefix: str, tmp_path: Path) -> None:
    """On the meta device loading checks every name and shape and holds no numbers: 380 M parameters cost nothing."""
    layers = NAMED[name][0]
    shapes = official_shapes(*NAMED[name], gated=gated)
    model = _meta(name)
    load_official(model, _file(tmp_path / "c.pt", shapes, prefix, bare=gated == 0))
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == shapes
    found = {int(key.split(".")[3]) for key in model.state_dict() if GATE in key}
    assert found == set(range(layers - gated, layers))


@pytest.mark.filterwarnings("ignore:.*meta parameter")
def test_names_of_other_releases(tmp_path: Path) -> None:
    """Buffers that older code saved are dropped; a text tower under `text.` is found; anything else is refused."""
    shapes = official_shapes(*NAMED["ViT-B-32"], gated=6)
    mask = {"attn_mask": torch.zeros(77, 77), "context_length": torch.tensor(77)}
    load_official(_meta("ViT-B-32"), _file(tmp_path / "old.pt", shapes, **mask))
    nested = {f"text.{key}" if not key.startswith(("visual.", "logit")) else key: shapes[key] for key in shapes}
    load_official(_meta("ViT-B-32"), _file(tmp_path / "nested.pt", nested))
    own = {"embed_dim": 512, "vision_cfg": open_clip.get_model_config("ViT-B-32")["vision_cfg"]}
    with torch.device("meta"):
        custom = open_clip.CustomTextCLIP(**own, text_cfg=open_clip.get_model_config("ViT-B-32")["text_cfg"])
    load_official(custom, _file(tmp_path / "plain.pt", shapes))
    with pytest.raises(DataError, match=r"another architecture: 1 unknown \(visual\.extra\)"):
        load_official(_meta("ViT-B-32"), _file(tmp_path / "extra.pt", {**shapes, "visual.extra": (3,)}))


@pytest.mark.parametrize("gated", [6, 0])
def test_another_architecture_is_named(gated: int, tmp_path: Path) -> None:
    """B/16 into B/32: the patches and their positions differ. L/14 into B/32: layers are left over."""
    file = _file(tmp_path / "clip-vit-base-16.pt", official_shapes(*NAMED["ViT-B-16"], gated=gated))
    with pytest.raises(DataError, match="checkpoint of another architecture") as caught:
        load_official(_meta("ViT-B-32"), file)
    assert str(caught.value).endswith(
        ": 2 of another shape (visual.conv1.weight (768, 3, 16, 16) for (768, 3, 32, 32), "
        "visual.positional_embedding (197, 768) for (50, 768))"
    )
    large = _file(tmp_path / "large.pt", official_shapes(*NAMED["ViT-L-14"], gated=gated))
    with pytest.raises(DataError, match=r"\d+ unknown \(visual\.transformer\.resblocks\.12\..*of another shape"):
        load_official(_meta("ViT-B-32"), large)


def test_gates_must_be_the_last_layers(tmp_path: Path) -> None:
    shapes = official_shapes(*NAMED["ViT-B-32"], gated=6)
    moved = {key.replace("resblocks.6.gated", "resblocks.2.gated"): shape for key, shape in shapes.items()}
    with pytest.raises(DataError, match="gated blocks before layers 2, 7, 8, 9, 10, 11 of 12; only the last"):
        load_official(_meta("ViT-B-32"), _file(tmp_path / "moved.pt", moved))


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["gated-image", "locked-text"])
def test_vit_b_32_gives_what_it_was_exported_from(variant: str, tmp_path: Path) -> None:
    """Real values of all 194 M parameters: embeddings of the encoder on the file equal the model's bit for bit."""
    torch.manual_seed(0)
    config = open_clip.get_model_config("ViT-B-32-quickgelu")
    model = open_clip.CLIP(**config).eval()
    if variant == "gated-image":
        for block in add_gated_blocks(model.visual, 6, seed=1):
            block.alpha_attn.data.fill_(0.4)
            block.alpha_dense.data.fill_(-0.3)
    file = tmp_path / f"clip-vit-base-32-{variant}.pt"
    export_official(model, file)
    options = OpenClipConfig(model="ViT-B-32-quickgelu", react=str(file), device="cpu")
    encoder = OpenClipEncoder(options)
    assert encoder.name == f"open_clip:ViT-B-32-quickgelu+react(clip-vit-base-32-{variant})"
    pixels, texts = torch.rand(1, 3, 224, 224), ["a fox"]
    with torch.inference_mode():
        images = model.encode_image(pixels, normalize=True).numpy()
        words = model.encode_text(open_clip.get_tokenizer("ViT-B-32")(texts), normalize=True).numpy()
    np.testing.assert_array_equal(encoder.encode_pixels(pixels), images)
    np.testing.assert_allclose(encoder.encode_texts(texts), words, atol=1e-6)
    shapes = official_shapes(*NAMED["ViT-B-32"], gated=6 if variant == "gated-image" else 0)
    exported = torch.load(file, weights_only=True, mmap=True)
    assert list(exported) == ["state_dict"]
    assert {key: tuple(value.shape) for key, value in exported["state_dict"].items()} == shapes


@pytest.fixture(scope="module")
def tiny_name(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny CLIP by name, with and without QuickGELU, as open_clip has its own."""
    folder = tmp_path_factory.mktemp("configs")
    for name, extra in (("tiny-react", {}), ("tiny-react-quickgelu", {"quick_gelu": True})):
        (folder / f"{name}.json").write_text(json.dumps(TINY | extra))
    open_clip.add_model_config(folder)
    return "tiny-react"


def _exported(folder: Path, name: str, quick: bool, gated: int = 1) -> tuple[nn.Module, Path]:
    torch.manual_seed(0)
    model = open_clip.CLIP(**TINY, quick_gelu=quick).eval()
    if gated:
        for block in add_gated_blocks(model.visual, gated, seed=1):
            block.alpha_attn.data.fill_(0.5)
            block.alpha_dense.data.fill_(0.5)
    export_official(model, folder / name)
    return model, folder / name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("suffix", [".pt", ".bin", ".safetensors"])
def test_every_suffix_gives_the_same(tiny_name: str, suffix: str, dtype: str, tmp_path: Path) -> None:
    model, file = _exported(tmp_path, "clip-vit-tiny-gated-image.pt", quick=True)
    if suffix == ".safetensors":
        save_file(model.state_dict(), file.with_suffix(suffix))
    elif suffix == ".bin":
        torch.save({f"module.{key}": value for key, value in model.state_dict().items()}, file.with_suffix(suffix))
    config = OpenClipConfig(model=f"{tiny_name}-quickgelu", react=str(file.with_suffix(suffix)), device="cpu")
    encoder = OpenClipEncoder(replace(config, dtype=dtype))
    pixels = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        expected = model.encode_image(pixels, normalize=True).numpy()
    found = encoder.encode_pixels(pixels)
    if dtype == "float32":
        np.testing.assert_allclose(found, expected, atol=1e-6)
    else:
        assert ((found * expected).sum(1) > 0.99).all()
    assert encoder.fingerprint == encoder.base_fingerprint
    forced = OpenClipEncoder(replace(config, model=tiny_name, force_quick_gelu=True, dtype=dtype))
    np.testing.assert_array_equal(forced.encode_pixels(pixels), found)


def test_fingerprint_follows_the_file(tiny_name: str, tmp_path: Path) -> None:
    _, one = _exported(tmp_path, "clip-vit-tiny-a.pt", quick=True)
    _, two = _exported(tmp_path, "clip-vit-tiny-b.pt", quick=True, gated=2)
    config = OpenClipConfig(model=f"{tiny_name}-quickgelu", react=str(one), device="cpu")
    first = OpenClipEncoder(config)
    assert "model" not in vars(first)
    assert OpenClipEncoder(replace(config, react=str(two))).fingerprint != first.fingerprint
    copied = tmp_path / "elsewhere" / "clip-vit-other-name.pt"
    copied.parent.mkdir()
    copied.write_bytes(one.read_bytes())
    assert OpenClipEncoder(replace(config, react=str(copied))).fingerprint == first.fingerprint


def _resolve(tmp_path: Path, stem: str, model: str, **options: Any) -> dict[str, Any]:
    file = tmp_path / f"{stem}.pt"
    file.write_bytes(b"weights")  # only hashed: `resolve` loads nothing
    source = resolve(OpenClipConfig(model=model, react=str(file), **options))
    return {**source.preprocess, "quick_gelu": source.architecture.get("quick_gelu", False)}


@pytest.mark.parametrize("stem", list(RELEASED))
def test_released_files_get_their_activation_and_preprocessing(stem: str, tmp_path: Path) -> None:
    """factory.py: QuickGELU for `react_clip_*` alone. pretrained.py: mean and std 0.5 for OpenCLIP L/14 alone."""
    base = {"32": "ViT-B-32", "16": "ViT-B-16"}.get(stem.split("-base-")[-1][:2], "ViT-L-14")
    base = "ViT-bigG-14" if "bigG" in stem else base
    wrong, right = base, f"{base}-quickgelu"
    if stem.startswith("openclip"):
        wrong, right = right, wrong
    found = _resolve(tmp_path, stem, right)
    assert found["quick_gelu"] == stem.startswith("clip-")
    half = stem.startswith("openclip-vit-large")
    assert found["mean"] == ((0.5, 0.5, 0.5) if half else open_clip.OPENAI_DATASET_MEAN)
    assert found["std"] == ((0.5, 0.5, 0.5) if half else open_clip.OPENAI_DATASET_STD)
    assert (found["size"], found["interpolation"], found["resize_mode"]) == (224, "bicubic", "shortest")
    with pytest.raises(UsageError, match=f"QuickGELU.*use model={right}( |$)"):
        _resolve(tmp_path, stem, wrong)


def test_backbone_by_name_or_by_option(tmp_path: Path) -> None:
    assert backbone_of(Path("clip-vit-base-32-mine.pt"), "") == "openai"
    with pytest.raises(
        UsageError, match=r"react_imagenet\.pt does not tell.*add react_base=openai\|laion400m\|laion2b"
    ):
        backbone_of(Path("react_imagenet.pt"), "")
    with pytest.raises(UsageError, match="was tuned from laion2b, as its name says; drop react_base=openai"):
        backbone_of(Path("openclip-laion2b-vit-base-32-gated-image.pt"), "openai")
    with pytest.raises(UsageError, match="unknown react_base 'laion400'; did you mean 'laion400m'"):
        backbone_of(Path("mine.pt"), "laion400")
    assert not _resolve(tmp_path, "mine", "ViT-B-32", react_base="laion2b")["quick_gelu"]
    assert _resolve(tmp_path, "mine", "ViT-B-32-quickgelu", react_base="openai")["quick_gelu"]
    assert _resolve(tmp_path, "mine", "ViT-L-14", react_base="laion2b")["mean"] == (0.5, 0.5, 0.5)
    assert _resolve(tmp_path, "mine", "ViT-B-32", react_base="laion400m", force_quick_gelu=True)["quick_gelu"]
    with pytest.raises(UsageError, match="not trained with QuickGELU; drop force_quick_gelu"):
        _resolve(tmp_path, "mine", "ViT-B-32", react_base="laion2b", force_quick_gelu=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pretrained": "openai"}, "brings all weights; drop pretrained=openai"),
        ({"random": True}, "brings all weights; drop random=True"),
        ({"origin": "openai"}, "brings all weights; drop origin=openai"),
        ({"image_mean": (0.5, 0.5, 0.5)}, "image_mean=.* contradicts the weights"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        _resolve(tmp_path, "clip-vit-base-32-gated-image", "ViT-B-32-quickgelu", **options)


def test_wrong_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="says itself where it is gated; use model=ViT-B-32"):
        _resolve(tmp_path, "clip-vit-base-32-gated-image", "react_ViT-B-32")
    with pytest.raises(UsageError, match="react_base is for react=FILE"):
        resolve(OpenClipConfig(model="ViT-B-32", random=True, react_base="openai"))
    with pytest.raises(DataError, match=r"absent\.pt does not exist"):
        resolve(OpenClipConfig(model="ViT-B-32", react=str(tmp_path / "absent.pt")))


class _Code:
    """Something that unpickling would have to run code for."""


def test_damaged_files_and_code_are_refused(tiny_name: str, tmp_path: Path) -> None:
    _, whole = _exported(tmp_path, "clip-vit-tiny.pt", quick=True)
    content = whole.read_bytes()
    short = tmp_path / "clip-vit-short.pt"
    for keep in (0, 100, len(content) // 2):
        short.write_bytes(content[:keep])
        encoder = OpenClipEncoder(OpenClipConfig(model=f"{tiny_name}-quickgelu", react=str(short), device="cpu"))
        with pytest.raises(DataError, match=r"clip-vit-short\.pt is (damaged|no weights file)") as caught:
            encoder.encode_texts(["a fox"])
        assert "\n" not in str(caught.value)
    torch.save({"state_dict": torch.load(whole, weights_only=True)["state_dict"], "args": _Code()}, short)
    with pytest.raises(DataError, match=r"Python object \S*_Code, whose loading would run code"):
        OpenClipEncoder(replace(encoder.config, react=str(short))).encode_texts(["a fox"])


def test_only_what_the_official_code_has_is_exported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"end in \.pt or \.bin, not \.safetensors"):
        export_official(_meta("ViT-B-32"), tmp_path / "x.safetensors")
    for name in ("RN50", "ViT-B-16-SigLIP"):
        config = {key: value for key, value in open_clip.get_model_config(name).items() if key != "custom_text"}
        with torch.device("meta"):
            model = (open_clip.CLIP if name == "RN50" else open_clip.CustomTextCLIP)(**config)
        with pytest.raises(UsageError, match="has no official form"):
            export_official(model, tmp_path / "x.pt")
