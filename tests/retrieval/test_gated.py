"""Gated blocks: bit for bit the base model at the start, REACT's equation afterwards, in every kind of image tower."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import open_clip
import pytest
import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import Transformer
from torch import Tensor, nn

from tests.retrieval.conftest import TINY
from trireme.errors import UsageError
from trireme.retrieval.encoders.gated import GATE, GatedBlock, add_gated_blocks, image_blocks
from trireme.retrieval.encoders.lite.checkpoint import committed_weights, read_head

TINY_QUICK: dict[str, Any] = {**TINY, "quick_gelu": True, "vision_cfg": {**TINY["vision_cfg"], "layers": 3}}


def _tower(name: str, dtype: torch.dtype | None = None) -> nn.Module:
    """The image tower of a named model as open_clip's factory builds it; half precision converts the matrices alone."""
    config = TINY_QUICK if name == "tiny" else open_clip.get_model_config(name)
    torch.manual_seed(0)
    tower: nn.Module = open_clip.model._build_vision_tower(
        config["embed_dim"], config["vision_cfg"], config.get("quick_gelu", False), cast_dtype=dtype
    ).eval()
    if dtype is not None:
        open_clip.model.convert_weights_to_lp(tower, dtype)
    return tower


def _tiny_tower(dtype: torch.dtype | None = None) -> nn.Module:
    return _tower("tiny", dtype)


def _timm_tower() -> nn.Module:
    torch.manual_seed(0)
    return TimmModel("vit_tiny_patch16_224", embed_dim=24, image_size=224, pretrained=False).eval()


def _open(blocks: list[GatedBlock], seed: int = 5) -> None:
    """Alphas and norms away from their start, so that every term of the equation counts."""
    generator = torch.Generator().manual_seed(seed)
    for block in blocks:
        for name, value in block.named_parameters():
            if value.ndim < 2:
                start = 1.0 if name.endswith("weight") else 0.0
                value.data = (start + 0.5 * torch.randn(value.shape, generator=generator)).to(value.dtype)


def _equation(x: Tensor, w: dict[str, Tensor], heads: int, act: Callable[[Tensor], Tensor], eps: float) -> Tensor:
    """The two lines of the official code (see gated.py) on (n, tokens, width), from products and sums alone."""

    def norm(v: Tensor, name: str) -> Tensor:
        centred = v - v.mean(-1, keepdim=True)
        return centred / (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]

    q, k, v = (norm(x, "ln_1") @ w["attn.in_proj_weight"].T + w["attn.in_proj_bias"]).chunk(3, -1)
    size = x.shape[-1] // heads
    mixed = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        weights = (q[..., part] @ k[..., part].transpose(-1, -2) / math.sqrt(size)).softmax(-1)
        mixed.append(weights @ v[..., part])
    attended = torch.cat(mixed, -1) @ w["attn.out_proj.weight"].T + w["attn.out_proj.bias"]
    x = x + torch.tanh(w["alpha_attn"]) * attended
    hidden = act(norm(x, "ln_2") @ w["mlp.c_fc.weight"].T + w["mlp.c_fc.bias"])
    return x + torch.tanh(w["alpha_dense"]) * (hidden @ w["mlp.c_proj.weight"].T + w["mlp.c_proj.bias"])


def _quick(v: Tensor) -> Tensor:
    return v * torch.sigmoid(1.702 * v)


def _gelu(v: Tensor) -> Tensor:
    return v * 0.5 * (1 + torch.erf(v / math.sqrt(2)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_committed_lite_head_is_the_same_at_the_start(dtype: torch.dtype) -> None:
    head = read_head(committed_weights()).to(dtype)
    tokens = torch.randn(7, 16, 640, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = head(tokens)
    gated = copy.deepcopy(head)
    blocks = add_gated_blocks(gated, 2, seed=3)
    assert torch.equal(gated(tokens), expected)
    assert torch.equal(copy.deepcopy(gated)(tokens), expected)
    assert all(value.dtype == dtype and value.requires_grad for block in blocks for value in block.parameters())
    _open(blocks)
    assert float((gated(tokens) - expected).detach().abs().max()) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_vit_b_32_is_the_same_at_the_start(dtype: torch.dtype | None) -> None:
    """open_clip's ViT-B-32 with random weights; 7,087,874 parameters a block and 42.5 M for REACT's six (PAPERS 2a)."""
    tower = _tower("ViT-B-32", dtype)
    pixels = torch.rand(1, 3, 224, 224).to(dtype)
    with torch.inference_mode():
        expected = tower(pixels)
        blocks = add_gated_blocks(tower, 6, seed=0)
        assert [sum(value.numel() for value in block.parameters()) for block in blocks] == [7_087_874] * 6
        assert torch.equal(tower(pixels), expected)
        assert torch.equal(copy.deepcopy(tower)(pixels), expected)
        _open(blocks)
        assert not torch.equal(tower(pixels), expected)


@pytest.mark.parametrize(
    ("name", "last", "each", "millions"), [("ViT-L-14", 6, 12_596_226, 75.6), ("ViT-bigG-14", 12, 33_248_386, 399.0)]
)
def test_parameters_of_large_models(name: str, last: int, each: int, millions: float) -> None:
    """Counts by the official code (PAPERS 2a), on the meta device; bigG's own MLP ratio of 4.9231 is not passed on."""
    with torch.device("meta"):
        tower = _tower(name)
    blocks = add_gated_blocks(tower, last, seed=0)
    counts = [sum(value.numel() for value in block.parameters()) for block in blocks]
    assert counts == [each] * last
    assert round(sum(counts) / 1e6, 1) == millions
    assert all(value.is_meta for block in blocks for value in block.parameters())


def test_tower_with_open_gates_follows_the_equation() -> None:
    """Reference: `_equation` before each of the untouched last layers, one after the other."""
    tower = _tiny_tower()
    plain = copy.deepcopy(tower)
    blocks = add_gated_blocks(tower, 2, seed=1)
    _open(blocks)
    pixels = torch.rand(3, 3, 32, 32)
    seen: list[Tensor] = []
    plain.transformer.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        plain(pixels)
        x = seen[0]
        for index, layer in enumerate(plain.transformer.resblocks):
            if index > 0:
                x = _equation(x, dict(blocks[index - 1].state_dict()), 2, _quick, 1e-5)
            x = layer(x)
        expected = plain.ln_post(x[:, 0]) @ plain.proj
        torch.testing.assert_close(tower(pixels), expected, atol=1e-5, rtol=1e-5)
        assert float((plain(pixels) - expected).abs().max()) > 0.1


def test_official_names_and_default_start() -> None:
    """Names: keys of microsoft/react a1a796f; start: PyTorch's own modules, drawn in the same order from the seed."""
    tower = _tiny_tower()
    before = torch.get_rng_state()
    first, second = add_gated_blocks(tower, 2, seed=9)
    assert torch.equal(torch.get_rng_state(), before)
    parts = ("ln_1", "ln_2", "attn.out_proj", "mlp.c_fc", "mlp.c_proj")
    named = {f"{part}.{kind}" for part in parts for kind in ("weight", "bias")}
    assert set(first.state_dict()) == named | {"alpha_attn", "alpha_dense", "attn.in_proj_weight", "attn.in_proj_bias"}
    prefixes = {name.split(GATE)[0] for name in tower.state_dict() if GATE in name}
    assert prefixes == {"transformer.resblocks.1.", "transformer.resblocks.2."}
    torch.manual_seed(9)
    attention, wide, narrow = nn.MultiheadAttention(32, 2), nn.Linear(32, 128), nn.Linear(128, 32)
    assert torch.equal(first.attn.in_proj_weight, attention.in_proj_weight)
    assert torch.equal(first.attn.out_proj.weight, attention.out_proj.weight)
    assert torch.equal(first.mlp.c_fc.weight, wide.weight)
    assert torch.equal(first.mlp.c_proj.weight, narrow.weight)
    assert not torch.equal(first.mlp.c_fc.weight, second.mlp.c_fc.weight)
    assert first.mlp.gelu is not second.mlp.gelu


def test_copies_run_their_own_block() -> None:
    tower = _tiny_tower()
    blocks = add_gated_blocks(tower, 1, seed=0)
    pixels = torch.rand(2, 3, 32, 32)
    other = copy.deepcopy(tower)
    _open(blocks)
    with torch.no_grad():
        assert not torch.equal(tower(pixels), other(pixels))
        other.load_state_dict(tower.state_dict())
        assert torch.equal(tower(pixels), other(pixels))


def test_gradient_checkpointing_changes_no_gradient() -> None:
    """As `--grad-checkpointing` of the official training; the frozen get none, every gated parameter one."""
    gradients = []
    for checkpointing in (False, True):
        tower = _tiny_tower().requires_grad_(False).train()
        blocks = add_gated_blocks(tower, 2, seed=2)
        _open(blocks)
        tower.set_grad_checkpointing(checkpointing)
        tower(torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)).pow(2).sum().backward()
        assert {name for name, value in tower.named_parameters() if value.grad is not None} == {
            name for name, _ in tower.named_parameters() if GATE in name
        }
        gradients.append([value.grad for block in blocks for value in block.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_at_the_start_only_the_alphas_move() -> None:
    """d/d alpha of tanh(alpha) f is f at 0, and everything inside f is multiplied by tanh(0) = 0."""
    tower = _tiny_tower().requires_grad_(False)
    (block,) = add_gated_blocks(tower, 1, seed=2)
    tower(torch.rand(2, 3, 32, 32)).pow(2).sum().backward()
    moved = {name for name, value in block.named_parameters() if value.grad is not None and value.grad.abs().max() > 0}
    assert moved == {"alpha_attn", "alpha_dense"}


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("keyword", [True, False])
def test_layouts_masks_and_keywords(batch_first: bool, keyword: bool) -> None:
    """The mask reaches the layer and not its gated block; tokens may come by keyword, batches first or second."""
    torch.manual_seed(0)
    host = nn.Module()
    host.transformer = Transformer(32, 2, 4, batch_first=batch_first).eval()
    plain = copy.deepcopy(host.transformer.resblocks[-1])
    (block,) = add_gated_blocks(host, 1, seed=4)
    _open([block])
    x = torch.randn(3, 5, 32)
    mask = torch.full((5, 5), float("-inf")).triu(1)
    with torch.no_grad():
        gated = _equation(x, dict(block.state_dict()), 4, _gelu, 1e-5)
        if not batch_first:
            x, gated = x.transpose(0, 1), gated.transpose(0, 1)
        layer = host.transformer.resblocks[-1]
        got = layer(attn_mask=mask, q_x=x) if keyword else layer(x, None, None, mask)
        torch.testing.assert_close(got, plain(gated, attn_mask=mask), atol=1e-5, rtol=1e-5)


def test_timm_tower_keeps_its_kind() -> None:
    """timm's norm has an epsilon of 1e-6 and its width of 192 comes in 3 heads; REACT's blocks follow."""
    tower = _timm_tower()
    pixels = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        expected = tower(pixels)
        blocks = add_gated_blocks(tower, 3, seed=0)
        assert torch.equal(tower(pixels), expected)
        assert (blocks[0].attn.num_heads, blocks[0].ln_1.eps) == (3, 1e-6)
        _open(blocks[-1:])
        seen: list[Tensor] = []
        tower.trunk.blocks[-1].norm1.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        before: list[Tensor] = []
        tower.trunk.blocks[-2].register_forward_hook(lambda module, args, out: before.append(out))
        assert not torch.equal(tower(pixels), expected)
        wanted = _equation(before[0], dict(blocks[-1].state_dict()), 3, _gelu, 1e-6)
        torch.testing.assert_close(seen[0], wanted, atol=1e-4, rtol=1e-4)


def test_half_precision_keeps_the_hosts_dtypes() -> None:
    """open_clip's half-precision models: matrices bfloat16, norms (and, as in the official code, alphas) float32."""
    tower = _tiny_tower(torch.bfloat16)
    (block,) = add_gated_blocks(tower, 1, seed=0)
    assert type(block.ln_1) is type(tower.transformer.resblocks[0].ln_1)
    assert {name: value.dtype for name, value in block.named_parameters()} == {
        name: torch.bfloat16 if "attn." in name or "mlp." in name else torch.float32
        for name, _ in block.named_parameters()
    }
    _open([block])
    wide = _tiny_tower()
    (copied,) = add_gated_blocks(wide, 1, seed=0)
    copied.load_state_dict(block.state_dict())
    pixels = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        half = tower(pixels.bfloat16())
    assert half.dtype == torch.bfloat16
    assert torch.cosine_similarity(half.float(), wide(pixels)).min() > 0.99


def test_layer_scale_of_the_host_is_taken_over() -> None:
    torch.manual_seed(0)
    cfg = {**TINY["vision_cfg"], "ls_init_value": 0.1}
    tower = open_clip.model._build_vision_tower(32, cfg)
    (block,) = add_gated_blocks(tower, 1, seed=0)
    assert {"ls_1.gamma", "ls_2.gamma"} <= set(block.state_dict())
    assert not {"ls_1.gamma", "ls_2.gamma"} & set(add_gated_blocks(_tiny_tower(), 1, seed=0)[0].state_dict())


@pytest.mark.parametrize("name", ["RN50", "convnext_base"])
def test_convolutional_towers_are_refused(name: str) -> None:
    with torch.device("meta"):
        tower = _tower(name)
    with pytest.raises(UsageError, match=r"the image tower \(\w+\) has no transformer layers.*choose a ViT"):
        image_blocks(tower)


def test_bad_requests_are_named() -> None:
    tower = _tiny_tower()
    assert len(image_blocks(tower)) == 3
    for last in (0, -1, 4):
        with pytest.raises(UsageError, match=rf"before 1 to 3 layers.* not {last}$"):
            add_gated_blocks(tower, last, seed=0)
    assert not any(GATE in name for name in tower.state_dict())
    add_gated_blocks(tower, 3, seed=0)
    with pytest.raises(UsageError, match="has gated blocks already"):
        add_gated_blocks(tower, 1, seed=0)
    with pytest.raises(UsageError, match=r"give its image tower, model\.visual"):
        image_blocks(open_clip.CLIP(**TINY))
