"""Fusions of a query with what it retrieved: phi_image and phi_text of the paper, and the alternatives compared with
them.

Shapes: n queries, k retrieved, d embedding dimension. Every fusion returns (n, d), L2-normalised.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from trireme.errors import UsageError, unknown_name
from trireme.methods.reco.search import Retrieved

FUSIONS = ("attention", "weighted_mean", "mean", "transformer", "mlp")
TRAINABLE = ("attention", "transformer", "mlp")


@dataclass(frozen=True, slots=True)
class FusionShape:
    """The architecture of one fusion; see `RecoConfig` for what each field means."""

    kind: str
    dim: int
    k: int
    heads: int = 8
    mlp_dim: int = 2048
    norm: str = "post"
    positions: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """Where an attention fusion starts: inverse temperature, weight of the retrieved, share of the key subtracted."""

    scale: float
    gate: float
    residual: float = 0.0


class Fusion(nn.Module):
    """phi(query, retrieved) -> refined query."""

    def forward(self, query: Tensor, retrieved: Retrieved) -> Tensor:
        """query (n, d) -> (n, d), L2-normalised."""
        raise NotImplementedError


class Identity(Fusion):
    """Leaves the query as it is: the side that a one-sided ablation does not refine."""

    def forward(self, query: Tensor, retrieved: Retrieved) -> Tensor:
        return query


class Mean(Fusion):
    """The plain mean of the query and what it retrieved, which the paper reports to perform poorly."""

    def forward(self, query: Tensor, retrieved: Retrieved) -> Tensor:
        found = retrieved.found.unsqueeze(-1)
        total = query + (retrieved.values * found).sum(dim=1)
        return normalize(total / (1 + found.sum(dim=1)), dim=-1)


class Attention(Fusion):
    """Attention over the hits: keys are the searched side of each hit, values the fused side.

    out = normalise(q + gate W_o sum_j a_j W_v (value_j - residual key_j)),  a = softmax_j(scale (W_q q) . (W_k key_j))
    per head.

    All four matrices start at the identity, so an untrained module is a closed form: the query plus a weighted mean of
    what was retrieved ("attend and copy"). With `projected` False it stays that form (`weighted_mean`). `residual` > 0
    subtracts what the encoder itself says about a hit, so that the query moves by the error that the encoder makes on
    its neighbours.
    """

    def __init__(self, dim: int, heads: int, start: Start, projected: bool) -> None:
        super().__init__()
        if dim % heads:
            raise UsageError(f"{heads} heads do not divide the embedding dimension {dim}")
        self.heads = heads
        self.log_scale = nn.Parameter(torch.tensor(start.scale).log())
        self.gate = nn.Parameter(torch.tensor(start.gate))
        self.residual = nn.Parameter(torch.tensor(start.residual))
        names = ("query", "key", "value", "out") if projected else ()
        self.projections = nn.ParameterDict({name: torch.eye(dim) for name in names})

    def _matrix(self, name: str, like: Tensor) -> Tensor:
        """W of a projection as (h, d / h, d): the rows of each head."""
        dim = like.shape[-1]
        matrix: Tensor = self.projections[name] if name in self.projections else torch.eye(dim, dtype=like.dtype)
        return matrix.to(like.device).view(self.heads, dim // self.heads, dim)

    def forward(self, query: Tensor, retrieved: Retrieved) -> Tensor:
        """The projections are linear, so they move to where there is one row instead of k: W_k to the query's side of
        the inner product, W_v behind the weighted sum. An epoch costs a fifth of projecting every hit (k = 10)."""
        keys, values, found = retrieved
        asked = torch.einsum("hed,nd->nhe", self._matrix("query", query), query)
        probe = torch.einsum("hed,nhe->nhd", self._matrix("key", query), asked)
        logits = torch.einsum("nhd,nkd->nhk", probe, keys) * self.log_scale.exp()
        lowest = torch.finfo(logits.dtype).min  # not -inf: a query that found nothing must not turn gradients into NaN
        weights = logits.masked_fill(~found.unsqueeze(1), lowest).softmax(dim=-1) * found.unsqueeze(1)
        copied = torch.einsum("nhk,nkd->nhd", weights, values - self.residual * keys)
        heads = torch.einsum("hed,nhd->nhe", self._matrix("value", query), copied).flatten(1)
        out = torch.einsum("hed,nd->nhe", self._matrix("out", query), heads).flatten(1)
        return normalize(query + self.gate * out, dim=-1)


class Transformer(Fusion):
    """The paper's fusion: one standard self-attention encoder layer over [query, retrieved], read at the query.

    Heads, MLP width, norm placement and position embeddings are not given by the sources at hand (PAPERS.md 1a); 8
    heads, width 2048 and post-norm are PyTorch's and the original transformer's. With d = 512, width 2048 and 1 + 10
    learned positions the layer has the 3.16 M parameters that the paper reports.
    """

    def __init__(self, dim: int, k: int, heads: int, mlp_dim: int, norm_first: bool, positions: bool) -> None:
        super().__init__()
        if dim % heads:
            raise UsageError(f"{heads} heads do not divide the embedding dimension {dim}")
        self.layer = nn.TransformerEncoderLayer(
            dim, heads, mlp_dim, dropout=0.0, batch_first=True, norm_first=norm_first
        )
        self.positions = nn.Parameter(torch.randn(1 + k, dim) * dim**-0.5) if positions else None

    def forward(self, query: Tensor, retrieved: Retrieved) -> Tensor:
        tokens = torch.cat([query.unsqueeze(1), retrieved.values], dim=1)
        if self.positions is not None:
            tokens = tokens + self.positions[: tokens.shape[1]]
        absent = torch.cat([torch.zeros_like(retrieved.found[:, :1]), ~retrieved.found], dim=1)
        return normalize(self._query_output(tokens, absent), dim=-1)

    def _query_output(self, tokens: Tensor, absent: Tensor) -> Tensor:
        """The layer's output at token 0, (n, d). Nothing reads the other tokens' outputs, so they are not computed."""
        layer, query = self.layer, tokens[:, :1]
        if layer.norm_first:
            query = query + self._attend(layer.norm1(tokens), absent)
            refined: Tensor = query + self._feed_forward(layer.norm2(query))
        else:
            query = layer.norm1(query + self._attend(tokens, absent))
            refined = layer.norm2(query + self._feed_forward(query))
        return refined[:, 0]

    def _attend(self, tokens: Tensor, absent: Tensor) -> Tensor:
        out: Tensor = self.layer.self_attn(tokens[:, :1], tokens, tokens, key_padding_mask=absent, need_weights=False)[
            0
        ]
        return out

    def _feed_forward(self, rows: Tensor) -> Tensor:
        out: Tensor = self.layer.linear2(self.layer.activation(self.layer.linear1(rows)))
        return out


class Mlp(Fusion):
    """The control of the paper's Fig. 3: an MLP trained on the same pairs, which sees nothing retrieved."""

    def __init__(self, dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dim, mlp_dim), nn.ReLU(), nn.Linear(mlp_dim, dim))

    def forward(self, query: Tensor, retrieved: Retrieved) -> Tensor:
        refined: Tensor = self.layers(query)
        return normalize(refined, dim=-1)


def build(shape: FusionShape, start: Start) -> Fusion:
    """A new fusion. The weights of `transformer` and `mlp` come from torch's global generator: seed it first.

    Raises:
        UsageError: unknown kind or norm placement, or heads that do not divide the dimension.
    """
    if shape.norm not in ("post", "pre"):
        raise unknown_name("norm placement", shape.norm, ("post", "pre"))
    if shape.kind == "attention":
        return Attention(shape.dim, shape.heads, start, projected=True)
    if shape.kind == "weighted_mean":
        return Attention(shape.dim, 1, start, projected=False)
    if shape.kind == "mean":
        return Mean()
    if shape.kind == "transformer":
        return Transformer(shape.dim, shape.k, shape.heads, shape.mlp_dim, shape.norm == "pre", shape.positions)
    if shape.kind == "mlp":
        return Mlp(shape.dim, shape.mlp_dim)
    raise unknown_name("fusion", shape.kind, FUSIONS)


def parameters(module: nn.Module) -> int:
    """How many parameters of a module train."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
