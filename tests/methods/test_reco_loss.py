"""The three-term loss against a plain double loop of its definition in the paper (arXiv 2306.07196)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from trireme.methods.reco.loss import info_nce, reco_loss


def unit(seed: int, n: int = 5, d: int = 4) -> torch.Tensor:
    rows = np.random.default_rng(seed).standard_normal((n, d))
    return torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def looped(v: torch.Tensor, t: torch.Tensor, tau: float) -> float:
    """- sum_i [ log softmax_j(v_i . t_j / tau)_i + log softmax_j(v_j . t_i / tau)_i ], one number at a time."""
    n = len(v)
    total = 0.0
    for i in range(n):
        rows = [math.exp(sum(float(a) * float(b) for a, b in zip(v[i], t[j], strict=True)) / tau) for j in range(n)]
        columns = [math.exp(sum(float(a) * float(b) for a, b in zip(v[j], t[i], strict=True)) / tau) for j in range(n)]
        total -= math.log(rows[i] / sum(rows)) + math.log(columns[i] / sum(columns))
    return total


@pytest.mark.parametrize("tau", [1.0, 0.07])
def test_info_nce_equals_its_double_loop(tau: float) -> None:
    v, t = unit(0), unit(1)
    assert float(info_nce(v, t, 1 / tau)) == pytest.approx(looped(v, t, tau), rel=1e-9)


def test_reco_loss_is_refined_with_refined_and_each_refined_with_the_frozen_other() -> None:
    v, t, v_bar, t_bar = (unit(seed) for seed in range(4))
    expected = looped(v_bar, t_bar, 0.1) + looped(v_bar, t, 0.1) + looped(v, t_bar, 0.1)
    assert float(reco_loss(v_bar, t_bar, v, t, 10.0)) == pytest.approx(expected, rel=1e-9)


def test_equal_similarities_cost_two_log_n_a_pair() -> None:
    same = torch.ones(4, 3) / 3**0.5  # every softmax is uniform, so each of the 4 pairs costs 2 log 4
    assert float(info_nce(same, same, 5.0)) == pytest.approx(4 * 2 * math.log(4), rel=1e-5)
