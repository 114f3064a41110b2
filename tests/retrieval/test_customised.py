"""The file of a customised encoder: what comes back, which bytes are written, and every way in which it is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from tests.retrieval.conftest import TINY
from trireme.errors import DataError, UsageError
from trireme.retrieval.encoders.customised import (
    Customised,
    apply,
    changed_tensors,
    customised_fingerprint,
    is_customised,
    read_customised,
    write_customised,
)
from trireme.retrieval.encoders.gated import GATE, add_gated_blocks, image_tower
from trireme.retrieval.encoders.lite.checkpoint import committed_weights, read_head

RECORD = {"steps": 12, "losses": [1.5, 0.25], "note": "retrieved pairs, naïve"}


def _model() -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = open_clip.CLIP(**TINY).eval()
    return model


def _moved(model: nn.Module, chosen: Callable[[str], bool], seed: int = 1) -> nn.Module:
    """A trained stand-in: a copy whose chosen parameters stand elsewhere."""
    moved = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    for name, value in moved.named_parameters():
        if chosen(name):
            value.data = value.data + 0.1 * torch.randn(value.shape, generator=generator)
    return moved


def _gated(base: nn.Module, last: int = 1) -> tuple[nn.Module, Customised]:
    model = copy.deepcopy(base)
    add_gated_blocks(image_tower(model), last, seed=3)
    model = _moved(model, lambda name: GATE in name or name == "logit_scale")
    return model, Customised("gated_image", "abc", changed_tensors(model, base), last, RECORD)


@pytest.fixture(scope="module")
def base() -> nn.Module:
    return _model()


@pytest.fixture(scope="module")
def gated(base: nn.Module) -> tuple[nn.Module, Customised]:
    return _gated(base)


@pytest.fixture
def file(tmp_path: Path, gated: tuple[nn.Module, Customised]) -> Path:
    path = tmp_path / "gi.safetensors"
    write_customised(path, gated[1])
    return path


def test_gated_model_comes_back(base: nn.Module, gated: tuple[nn.Module, Customised], file: Path) -> None:
    trained, written = gated
    read = read_customised(file)
    assert replace(read, tensors={}) == replace(written, tensors={})
    assert set(read.tensors) == {name for name in trained.state_dict() if GATE in name} | {"logit_scale"}
    model = copy.deepcopy(base)
    apply(model, read)
    pixels, words = torch.rand(2, 3, 32, 32), torch.randint(1, 49408, (2, 16))
    with torch.inference_mode():
        assert torch.equal(model.encode_image(pixels), trained.encode_image(pixels))
        assert torch.equal(model.encode_text(words), base.encode_text(words))
        assert not torch.equal(model.encode_image(pixels), base.encode_image(pixels))
    assert torch.equal(model.logit_scale, trained.logit_scale)


@pytest.mark.parametrize("variant", ["locked_text", "locked_image", "full"])
def test_ungated_variants_hold_only_what_changed(variant: str, base: nn.Module, tmp_path: Path) -> None:
    chosen = {
        "locked_text": lambda name: name.startswith("visual.transformer") or name == "logit_scale",
        "locked_image": lambda name: name.startswith("transformer."),
        "full": lambda name: name.endswith("weight"),
    }[variant]
    trained = _moved(base, chosen)
    write_customised(tmp_path / "c.safetensors", Customised(variant, "abc", changed_tensors(trained, base), 0, {}))
    read = read_customised(tmp_path / "c.safetensors")
    assert set(read.tensors) == {name for name, _ in base.named_parameters() if chosen(name)}
    model = copy.deepcopy(base)
    apply(model, read)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in trained.state_dict().items())


def test_lite_head_comes_back(tmp_path: Path) -> None:
    """The committed head: names are relative to the `LiteHead`, the gates go before its two layers."""
    head = read_head(committed_weights())
    tokens = torch.randn(3, 16, 640, generator=torch.Generator().manual_seed(0))
    trained, customised = _gated(head, last=2)
    for kind in (customised, Customised("locked_text", "abc", {"proj": head.proj + 1}, 0, {})):
        write_customised(tmp_path / "c.safetensors", kind)
        model = copy.deepcopy(head)
        apply(model, read_customised(tmp_path / "c.safetensors"))
        assert not torch.equal(model(tokens), head(tokens))
        if kind is customised:
            assert torch.equal(model(tokens), trained(tokens))
    with pytest.raises(DataError, match=r"locked_image of a customised encoder leaves 1 tensors \(first: proj\) alone"):
        apply(copy.deepcopy(head), Customised("locked_image", "abc", {"proj": head.proj}, 0, {}))


def test_equal_content_gives_equal_bytes(gated: tuple[nn.Module, Customised], file: Path, tmp_path: Path) -> None:
    written = gated[1]
    names = sorted(written.tensors, reverse=True)
    turned = replace(
        written,
        tensors={name: written.tensors[name].clone() for name in names},
        record=dict(reversed(list(RECORD.items()))),
    )
    write_customised(tmp_path / "other name.safetensors", turned)
    assert (tmp_path / "other name.safetensors").read_bytes() == file.read_bytes()
    with safe_open(file, framework="pt") as content:
        metadata = content.metadata()
    assert list(metadata) == ["trireme"]
    about = json.loads(metadata["trireme"])
    assert list(about) == sorted(about)
    assert about["record"] == RECORD


def test_fingerprint_is_over_tensors_and_variant(tmp_path: Path) -> None:
    def of(customised: Customised, name: str = "a") -> str:
        write_customised(tmp_path / f"{name}.safetensors", customised)
        return customised_fingerprint(tmp_path / f"{name}.safetensors")

    one = Customised("full", "abc", {"x": torch.tensor([1.0, 2.0])}, 0, {"seconds": 1})
    first = of(one)
    assert len(first) == 16
    assert of(replace(one, record={"seconds": 2}), "elsewhere") == first
    others = [
        replace(one, variant="locked_text"),
        replace(one, tensors={"x": torch.tensor([1.0, 2.5])}),
        replace(one, tensors={"y": torch.tensor([1.0, 2.0])}),
        replace(one, tensors={"x": torch.tensor([[1.0, 2.0]])}),
        replace(one, tensors={"x": torch.tensor([1.0, 2.0]).bfloat16()}),
        replace(one, tensors={"x": torch.tensor([1.0, 2.0]), "z": torch.tensor(0.0)}),
    ]
    assert len({first, *map(of, others)}) == 7


def test_missing_truncated_damaged_and_foreign_files(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    with pytest.raises(DataError, match=r"absent\.safetensors does not exist"):
        read_customised(tmp_path / "absent.safetensors")
    for keep in (0, 5, 300, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:keep])
        with pytest.raises(DataError, match=r"gi\.safetensors is not a whole safetensors file") as caught:
            read_customised(file)
        assert "\n" not in str(caught.value)
        with pytest.raises(DataError, match=r"gi\.safetensors is not a whole safetensors file"):
            is_customised(file)
    file.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
    with pytest.raises(DataError, match="its tensors are not those that were written"):
        read_customised(file)
    save_file({"x": torch.zeros(1)}, file)
    with pytest.raises(DataError, match=r"gi\.safetensors is no customised encoder of Trireme"):
        read_customised(file)
    assert not is_customised(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "has version 2 of the format, this Trireme reads version 1"),
        ({"format": "something else"}, "is no customised encoder of Trireme"),
        ({"base": None}, "its head lacks base"),
        ({"variant": "half"}, "is damaged .unknown variant of a customised encoder 'half'"),
    ],
)
def test_heads_of_another_kind(file: Path, change: dict[str, object], message: str) -> None:
    with safe_open(file, framework="pt") as content:
        about = json.loads(content.metadata()["trireme"]) | change
    tensors = load_file(file)
    about = {key: value for key, value in about.items() if value is not None}
    save_file(tensors, file, metadata={"trireme": json.dumps(about)})
    assert is_customised(file)
    with pytest.raises(DataError, match=message):
        read_customised(file)


def test_another_architecture_is_named(base: nn.Module, gated: tuple[nn.Module, Customised]) -> None:
    """A wider tower: of a block's 14 tensors, all but the two alphas depend on the width."""
    written = gated[1]
    wide = open_clip.CLIP(**{**TINY, "vision_cfg": {**TINY["vision_cfg"], "width": 64}})
    with pytest.raises(
        DataError, match=r"another architecture: 12 of another shape \(visual\..*\(32,\) for \(64,\), .*"
    ):
        apply(wide, written)
    deep = open_clip.CLIP(**{**TINY, "vision_cfg": {**TINY["vision_cfg"], "layers": 3}})
    with pytest.raises(
        DataError, match=r"14 missing \(visual\.transformer\.resblocks\.2\..*14 unknown \(visual.*\.1\."
    ):
        apply(deep, written)
    with pytest.raises(DataError, match="3 gated layers, the image tower has 2"):
        apply(copy.deepcopy(base), replace(written, gated=3))
    lost = {name: value for name, value in written.tensors.items() if not name.endswith("alpha_attn")}
    with pytest.raises(DataError, match=r"1 missing \(visual\..*alpha_attn\)"):
        apply(copy.deepcopy(base), replace(written, tensors=lost))


def test_variant_keeps_what_it_locks(base: nn.Module, gated: tuple[nn.Module, Customised]) -> None:
    changed = changed_tensors(_moved(base, lambda name: name in ("visual.proj", "text_projection")), base)
    for variant, first in (("locked_text", "text_projection"), ("locked_image", r"visual\.proj")):
        with pytest.raises(
            DataError, match=rf"{variant} .* leaves 1 tensors \(first: {first}\) alone, but brings them"
        ):
            apply(copy.deepcopy(base), Customised(variant, "abc", changed, 0, {}))
    mixed = {**gated[1].tensors, "visual.proj": changed["visual.proj"]}
    with pytest.raises(DataError, match="gated_image of a customised encoder leaves 1 tensors"):
        apply(copy.deepcopy(base), replace(gated[1], tensors=mixed))


def test_bad_content_is_not_written(gated: tuple[nn.Module, Customised], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown variant"):
        Customised("gated", "abc", {}, 1, {})
    for variant, layers in (("full", 2), ("gated_image", 0)):
        with pytest.raises(UsageError, match="only gated_image has them"):
            Customised(variant, "abc", {}, layers, {})
    broken = {**gated[1].tensors, "logit_scale": torch.tensor(float("nan"))}
    with pytest.raises(
        DataError, match=r"1 customised tensors hold NaN or infinity \(first: logit_scale\); not written"
    ):
        write_customised(tmp_path / "c.safetensors", replace(gated[1], tensors=broken))
    with pytest.raises(ValueError, match="JSON"):
        write_customised(tmp_path / "c.safetensors", replace(gated[1], record={"loss": float("inf")}))
    assert not (tmp_path / "c.safetensors").exists()
