"""Fusions against closed forms and hand computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trireme.errors import UsageError
from trireme.methods.reco.fusion import Attention, FusionShape, Start, Transformer, build, parameters
from trireme.methods.reco.search import Retrieved

DIM, K = 16, 4
START = Start(scale=7.0, gate=1.5, residual=0.25)


def batch(seed: int, n: int = 3, k: int = K, dim: int = DIM, missing: int = 0) -> tuple[torch.Tensor, Retrieved]:
    generator = torch.Generator().manual_seed(seed)

    def unit(*shape: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)

    found = torch.ones(n, k, dtype=torch.bool)
    found[:, k - missing :] = False
    return unit(n, dim), Retrieved(unit(n, k, dim), unit(n, k, dim), found)


def closed_form(query: np.ndarray, keys: np.ndarray, values: np.ndarray, start: Start) -> np.ndarray:
    """q + gate sum_j softmax_j(scale q . key_j) (value_j - residual key_j), normalised; one query, in loops."""
    weights = [math.exp(start.scale * float(query @ key)) for key in keys]
    out = query.copy()
    for weight, key, value in zip(weights, keys, values, strict=True):
        out = out + start.gate * weight / sum(weights) * (value - start.residual * key)
    return out / np.linalg.norm(out)


@pytest.mark.parametrize("kind", ["attention", "weighted_mean"])
@pytest.mark.parametrize("missing", [0, 2])
def test_attention_starts_at_its_closed_form(kind: str, missing: int) -> None:
    query, retrieved = batch(0, missing=missing)
    refined = build(FusionShape(kind, DIM, K, heads=1), START).double()(query, retrieved)
    seen = K - missing
    for i in range(len(query)):
        expected = closed_form(
            query[i].numpy(), retrieved.keys[i, :seen].numpy(), retrieved.values[i, :seen].numpy(), START
        )
        np.testing.assert_allclose(refined[i].detach().numpy(), expected, atol=1e-7)


@pytest.mark.parametrize("heads", [1, 4])
def test_attention_projects_every_hit_as_its_equation_says(heads: int) -> None:
    """With trained (here random) matrices, against the plain order of the equation: project, score, sum, project."""
    query, retrieved = batch(5, missing=1)
    fusion = build(FusionShape("attention", DIM, K, heads=heads), START).double()
    assert isinstance(fusion, Attention)
    generator = torch.Generator().manual_seed(0)
    for matrix in fusion.projections.values():
        matrix.data = torch.randn(DIM, DIM, generator=generator, dtype=torch.float64)
    w = {name: matrix.detach() for name, matrix in fusion.projections.items()}
    expected = []
    for q, keys, values in zip(query, retrieved.keys[:, :-1], retrieved.values[:, :-1], strict=True):
        asked, offered, moved = w["query"] @ q, keys @ w["key"].T, (values - START.residual * keys) @ w["value"].T
        parts = []
        for part in torch.arange(DIM).view(heads, -1):
            weights = (START.scale * offered[:, part] @ asked[part]).softmax(dim=0)
            parts.append(weights @ moved[:, part])
        out = q + START.gate * w["out"] @ torch.cat(parts)
        expected.append(out / out.norm())
    torch.testing.assert_close(fusion(query, retrieved), torch.stack(expected), atol=1e-6, rtol=0)


def test_mean_is_the_mean_of_the_query_and_what_was_found() -> None:
    query, retrieved = batch(1, missing=1)
    refined = build(FusionShape("mean", DIM, K), START)(query, retrieved)
    by_hand = (query + retrieved.values[:, 0] + retrieved.values[:, 1] + retrieved.values[:, 2]) / 4
    by_hand = by_hand / by_hand.norm(dim=-1, keepdim=True)
    np.testing.assert_allclose(refined.numpy(), by_hand.numpy(), atol=1e-12)


@pytest.mark.parametrize("kind", ["attention", "weighted_mean", "mean", "transformer"])
def test_nothing_found_leaves_a_finite_answer_that_ignores_the_padding(kind: str) -> None:
    query, retrieved = batch(2, missing=K)
    fusion = build(FusionShape(kind, DIM, K, heads=2, mlp_dim=8), START).double().eval()
    other = Retrieved(retrieved.keys * 3, retrieved.values * -5, retrieved.found)
    refined = fusion(query, retrieved)
    assert torch.isfinite(refined).all()
    torch.testing.assert_close(refined, fusion(query, other))
    if kind != "transformer":
        torch.testing.assert_close(refined, query)


def test_one_encoder_layer_has_the_parameters_counted_in_papers_1a() -> None:
    # PAPERS.md 1a: one standard layer with d = 512 and FFN 2048 has 3,152,384; 11 learned positions x 512 make
    # 3,158,016
    assert parameters(Transformer(512, 10, 8, 2048, norm_first=False, positions=False)) == 3_152_384
    assert parameters(Transformer(512, 10, 8, 2048, norm_first=False, positions=True)) == 3_158_016


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_the_paper_fusion_is_torchs_encoder_layer_read_at_the_query(norm: str) -> None:
    query, retrieved = batch(4, missing=1)
    torch.manual_seed(0)
    fusion = build(FusionShape("transformer", DIM, K, heads=4, mlp_dim=8, norm=norm), START).double()
    assert isinstance(fusion, Transformer)
    tokens = torch.cat([query.unsqueeze(1), retrieved.values], dim=1)
    absent = torch.cat([torch.zeros(len(query), 1, dtype=torch.bool), ~retrieved.found], dim=1)
    whole = fusion.layer.train()(tokens, src_key_padding_mask=absent)[
        :, 0
    ]  # dropout is 0; train() avoids fused kernels
    torch.testing.assert_close(fusion(query, retrieved), torch.nn.functional.normalize(whole, dim=-1))


def test_mlp_sees_nothing_retrieved() -> None:
    query, retrieved = batch(3)
    fusion = build(FusionShape("mlp", DIM, K, mlp_dim=8), START).double()
    other = Retrieved(retrieved.keys[:, :0], retrieved.values[:, :0], retrieved.found[:, :0])
    torch.testing.assert_close(fusion(query, retrieved), fusion(query, other))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["attention", "weighted_mean", "mean", "transformer"]))
def test_the_order_of_what_was_retrieved_does_not_matter(seed: int, kind: str) -> None:
    """Without position embeddings every fusion is a function of the set of hits."""
    query, retrieved = batch(seed)
    torch.manual_seed(0)
    fusion = build(FusionShape(kind, DIM, K, heads=4, mlp_dim=8), START).double().eval()
    order = torch.randperm(K, generator=torch.Generator().manual_seed(seed))
    shuffled = Retrieved(retrieved.keys[:, order], retrieved.values[:, order], retrieved.found[:, order])
    torch.testing.assert_close(fusion(query, retrieved), fusion(query, shuffled))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_turning_the_space_turns_the_closed_form_with_it(seed: int) -> None:
    from trireme.methods.reco.training import rotation

    query, retrieved = batch(seed)
    turn = rotation(DIM, np.random.default_rng(seed)).double()
    torch.testing.assert_close(turn @ turn.T, torch.eye(DIM, dtype=torch.float64), atol=1e-6, rtol=0)
    fusion = build(FusionShape("weighted_mean", DIM, K), START).double()
    turned = Retrieved(retrieved.keys @ turn, retrieved.values @ turn, retrieved.found)
    torch.testing.assert_close(fusion(query @ turn, turned), fusion(query, retrieved) @ turn, atol=1e-6, rtol=0)


def test_heads_that_do_not_divide_the_dimension_are_refused() -> None:
    with pytest.raises(UsageError, match="3 heads"):
        build(FusionShape("attention", DIM, K, heads=3), START)


def test_unknown_fusion_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'weighted_mean'"):
        build(FusionShape("weigted_mean", DIM, K), START)
