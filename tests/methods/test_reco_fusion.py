"""Fusions against closed forms and hand computations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trireme.errors import UsageError
from trireme.methods.reco.fusion import Attention, Frozen, FusionShape, Start, Transformer, build, parameters
from trireme.methods.reco.search import Retrieved
from trireme.methods.reco.training import rotation

DIM, K = 16, 4
START = Start(scale=7.0, gate=1.5, mix=0.5, keep=0.25)


def batch(seed: int, n: int = 3, k: int = K, dim: int = DIM, missing: int = 0) -> tuple[torch.Tensor, Retrieved]:
    generator = torch.Generator().manual_seed(seed)

    def unit(*shape: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)

    found = torch.ones(n, k, dtype=torch.bool)
    found[:, k - missing :] = False
    return unit(n, dim), Retrieved(unit(n, k, dim), unit(n, k, dim), found)


def shape(kind: str, **options: Any) -> FusionShape:
    return FusionShape(kind, options.pop("modality", "image"), options.pop("dim", DIM), K, **options)


def copied(query: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """sum_j softmax_j(scale q . key_j) value_j, one query, in loops."""
    weights = [math.exp(START.scale * float(query @ key)) for key in keys]
    return np.sum([w / sum(weights) * value for w, value in zip(weights, values, strict=True)], axis=0)


def unit(row: np.ndarray) -> np.ndarray:
    return row / np.linalg.norm(row)


@pytest.mark.parametrize("kind", ["attention", "weighted_mean"])
@pytest.mark.parametrize("missing", [0, 2])
def test_attention_starts_at_its_closed_form(kind: str, missing: int) -> None:
    query, retrieved = batch(0, missing=missing)
    refined = build(shape(kind, heads=1), START).double()(query, retrieved)
    seen = K - missing
    for i in range(len(query)):
        r = copied(query[i].numpy(), retrieved.keys[i, :seen].numpy(), retrieved.values[i, :seen].numpy())
        np.testing.assert_allclose(refined[i].detach().numpy(), unit(query[i].numpy() + 1.5 * r), atol=1e-7)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_paired_fills_the_half_that_a_query_lacks(modality: str) -> None:
    query, retrieved = batch(6)
    fusion = build(shape("paired", modality=modality, heads=1, share=0.2), START).double()
    refined = fusion(query, retrieved).detach().numpy()
    for i in range(len(query)):
        q = query[i].numpy()
        r = copied(q, retrieved.keys[i].numpy(), retrieved.values[i].numpy())
        own, other = unit(q + 0.5 * r), unit(r + 0.25 * q)
        picture, caption = (own, other) if modality == "image" else (other, own)
        np.testing.assert_allclose(refined[i], np.r_[0.8**0.5 * picture, 0.2**0.5 * caption], atol=1e-7)


def test_paired_compares_pictures_with_pictures_and_captions_with_captions() -> None:
    """Without mix and keep: (1 - share) cos(picture, retrieved pictures) + share cos(retrieved captions, prompt)."""
    (v, of_v), (t, of_t) = batch(7), batch(8)
    start = Start(scale=7.0)
    v_bar = build(shape("paired", heads=1, share=0.3), start).double()(v, of_v)
    t_bar = build(shape("paired", modality="text", heads=1, share=0.3), start).double()(t, of_t)
    captions = [copied(q.numpy(), k.numpy(), x.numpy()) for q, k, x in zip(v, of_v.keys, of_v.values, strict=True)]
    pictures = [copied(q.numpy(), k.numpy(), x.numpy()) for q, k, x in zip(t, of_t.keys, of_t.values, strict=True)]
    for i in range(len(v)):
        for j in range(len(t)):
            expected = 0.7 * v[i].numpy() @ unit(pictures[j]) + 0.3 * unit(captions[i]) @ t[j].numpy()
            assert (v_bar[i] @ t_bar[j]).item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("kind", ["paired", "attention"])
def test_a_frozen_embedding_is_lifted_to_where_refined_ones_live(kind: str) -> None:
    """Inner products between frozen embeddings survive the lift, so the mixed terms of the loss mean what they say."""
    query, retrieved = batch(9)
    fusion = build(shape(kind, heads=1), START).double()
    lifted = fusion.lift(query)
    assert lifted.shape == fusion(query, retrieved).shape
    torch.testing.assert_close(lifted @ lifted.T, query @ query.T)
    torch.testing.assert_close(Frozen(fusion)(query, retrieved), lifted)


@pytest.mark.parametrize("heads", [1, 4])
def test_attention_projects_every_hit_as_its_equation_says(heads: int) -> None:
    """With trained (here random) matrices, against the plain order of the equation: project, score, sum, project."""
    query, retrieved = batch(5, missing=1)
    fusion = build(shape("attention", heads=heads), START).double()
    assert isinstance(fusion, Attention)
    generator = torch.Generator().manual_seed(0)
    for matrix in fusion.copy.projections.values():
        matrix.data = torch.randn(DIM, DIM, generator=generator, dtype=torch.float64)
    w = {name: matrix.detach() for name, matrix in fusion.copy.projections.items()}
    expected = []
    for q, keys, values in zip(query, retrieved.keys[:, :-1], retrieved.values[:, :-1], strict=True):
        asked, offered, moved = w["query"] @ q, keys @ w["key"].T, values @ w["value"].T
        parts = []
        for part in torch.arange(DIM).view(heads, -1):
            weights = (START.scale * offered[:, part] @ asked[part]).softmax(dim=0)
            parts.append(weights @ moved[:, part])
        out = q + START.gate * w["out"] @ torch.cat(parts)
        expected.append(out / out.norm())
    torch.testing.assert_close(fusion(query, retrieved), torch.stack(expected), atol=1e-6, rtol=0)


def test_mean_is_the_mean_of_the_query_and_what_was_found() -> None:
    query, retrieved = batch(1, missing=1)
    refined = build(shape("mean"), START)(query, retrieved)
    by_hand = (query + retrieved.values[:, 0] + retrieved.values[:, 1] + retrieved.values[:, 2]) / 4
    by_hand = by_hand / by_hand.norm(dim=-1, keepdim=True)
    np.testing.assert_allclose(refined.numpy(), by_hand.numpy(), atol=1e-12)


@pytest.mark.parametrize("kind", ["paired", "attention", "weighted_mean", "mean", "transformer"])
def test_nothing_found_leaves_a_finite_answer_that_ignores_the_padding(kind: str) -> None:
    query, retrieved = batch(2, missing=K)
    fusion = build(shape(kind, heads=2, mlp_dim=8), START).double().eval()
    other = Retrieved(retrieved.keys * 3, retrieved.values * -5, retrieved.found)
    refined = fusion(query, retrieved)
    assert torch.isfinite(refined).all()
    torch.testing.assert_close(refined, fusion(query, other))
    if kind != "transformer":
        torch.testing.assert_close(refined, fusion.lift(query))


def test_one_encoder_layer_has_the_parameters_that_the_paper_reports() -> None:
    # attention 4 (512 x 512 + 512), FFN 512 x 2048 + 2048 + 2048 x 512 + 512, two norms 2 x 1024: 3,152,384; 11 learned
    # positions x 512 make 3,158,016, which the paper rounds to 3.16 M
    assert parameters(Transformer(512, 10, 8, 2048, norm_first=False, positions=False)) == 3_152_384
    assert parameters(Transformer(512, 10, 8, 2048, norm_first=False, positions=True)) == 3_158_016


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_the_paper_fusion_is_torchs_encoder_layer_read_at_the_query(norm: str) -> None:
    query, retrieved = batch(4, missing=1)
    torch.manual_seed(0)
    fusion = build(shape("transformer", heads=4, mlp_dim=8, norm=norm), START).double()
    assert isinstance(fusion, Transformer)
    tokens = torch.cat([query.unsqueeze(1), retrieved.values], dim=1)
    absent = torch.cat([torch.zeros(len(query), 1, dtype=torch.bool), ~retrieved.found], dim=1)
    whole = fusion.layer.train()(tokens, src_key_padding_mask=absent)[
        :, 0
    ]  # dropout is 0; train() avoids fused kernels
    torch.testing.assert_close(fusion(query, retrieved), torch.nn.functional.normalize(whole, dim=-1))


def test_mlp_sees_nothing_retrieved() -> None:
    query, retrieved = batch(3)
    fusion = build(shape("mlp", mlp_dim=8), START).double()
    other = Retrieved(retrieved.keys[:, :0], retrieved.values[:, :0], retrieved.found[:, :0])
    torch.testing.assert_close(fusion(query, retrieved), fusion(query, other))


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000), kind=st.sampled_from(["paired", "attention", "weighted_mean", "mean", "transformer"])
)
def test_the_order_of_what_was_retrieved_does_not_matter(seed: int, kind: str) -> None:
    """Without position embeddings every fusion is a function of the set of hits."""
    query, retrieved = batch(seed)
    torch.manual_seed(0)
    fusion = build(shape(kind, heads=4, mlp_dim=8), START).double().eval()
    order = torch.randperm(K, generator=torch.Generator().manual_seed(seed))
    shuffled = Retrieved(retrieved.keys[:, order], retrieved.values[:, order], retrieved.found[:, order])
    torch.testing.assert_close(fusion(query, retrieved), fusion(query, shuffled))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["weighted_mean", "attention", "paired"]))
def test_turning_the_space_keeps_every_comparison(seed: int, kind: str) -> None:
    """Inner products of refined embeddings are the same in the turned space, so no ranking can change."""
    query, retrieved = batch(seed)
    turn = rotation(DIM, np.random.default_rng(seed)).double()
    torch.testing.assert_close(turn @ turn.T, torch.eye(DIM, dtype=torch.float64), atol=1e-6, rtol=0)
    fusion = build(shape(kind, heads=1), START).double()
    turned = Retrieved(retrieved.keys @ turn, retrieved.values @ turn, retrieved.found)
    one, other = fusion(query @ turn, turned), fusion(query, retrieved)
    torch.testing.assert_close(one @ one.T, other @ other.T, atol=1e-6, rtol=0)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_that_leaves_a_half_out_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="share"):
        build(shape("paired", heads=1, share=share), START)


def test_heads_that_do_not_divide_the_dimension_are_refused() -> None:
    with pytest.raises(UsageError, match="3 heads"):
        build(shape("attention", heads=3), START)


def test_unknown_fusion_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'weighted_mean'"):
        build(shape("weigted_mean"), START)
