"""Fusions of a query with what it retrieved: phi_image and phi_text of the paper, and the alternatives beside them.

Shapes: n queries, k retrieved, d embedding dimension, e dimension of refined embeddings (d; 2 d for `Paired`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from trireme.errors import UsageError, unknown_name
from trireme.methods.reco.search import Retrieved
from trireme.retrieval.memory import Side

FUSIONS = ("paired", "attention", "weighted_mean", "mean", "transformer", "mlp")
TRAINABLE = ("paired", "attention", "transformer", "mlp")


@dataclass(frozen=True, slots=True)
class FusionShape:
    """The architecture of one fusion; see `RecoConfig` for what each field means."""

    kind: str
    modality: Side
    dim: int
    k: int
    heads: int = 8
    mlp_dim: int = 2048
    norm: str = "post"
    positions: bool = False
    share: float = 0.5


@dataclass(frozen=True, slots=True)
class Start:
    """Where an attention fusion starts.

    Attributes:
        scale: inverse temperature of the attention.
        gate: weight of what was retrieved (`Attention`).
        mix, keep: of `Paired`.
    """

    scale: float
    gate: float = 0.0
    mix: float = 0.0
    keep: float = 0.0


class Fusion(nn.Module):
    """phi(query, retrieved) -> refined query."""

    def forward(self, query: Tensor, retrieved: Retrieved) -> Tensor:
        """query (n, d) -> (n, e), L2-normalised."""
        raise NotImplementedError

    def lift(self, frozen: Tensor) -> Tensor:
        """A frozen embedding (n, d) where refined ones live, (n, e): the loss compares the two."""
        return frozen


class Frozen(Fusion):
    """Leaves the query as it is: the side that a one-sided ablation does not refine. `like` says where it must live."""

    def __init__(self, like: Fusion) -> None:
        super().__init__()
        self._lift = like.lift

    def lift(self, frozen: Tensor) -> Tensor:
        return self._lift(frozen)

    def forward(self, query: Tensor, retrieved: Retrieved) -> Tensor:
        return self.lift(query)


class Mean(Fusion):
    """The plain mean of the query and what it retrieved, which the paper reports to perform poorly."""

    def forward(self, query: Tensor, retrieved: Retrieved) -> Tensor:
        found = retrieved.found.unsqueeze(-1)
        total = query + (retrieved.values * found).sum(dim=1)
        return normalize(total / (1 + found.sum(dim=1)), dim=-1)


class Copy(nn.Module):
    """Attention that copies: the mean of the hits' fused side, weighted by how near their searched side is.

    r = W_o sum_j a_j W_v value_j,  a = softmax_j(scale (W_q q) . (W_k key_j)) in each head.

    The four matrices start at the identity, so that an untrained module is a closed form with one head. With
    `projected` False there are none and it stays that form.
    """

    def __init__(self, dim: int, heads: int, scale: float, projected: bool) -> None:
        super().__init__()
        _check_heads(dim, heads)
        self.heads = heads
        self.log_scale = nn.Parameter(torch.tensor(scale).log())
        names = ("query", "key", "value", "out") if projected else ()
        self.projections = nn.ParameterDict({name: torch.eye(dim) for name in names})

    def forward(self, query: Tensor, retrieved: Retrieved) -> Tensor:
        """(n, d); zeros for a query that found nothing.

        The projections are linear, so they move to where there is one row instead of k: W_k to the query's side of the
        inner product, W_v behind the weighted sum. That costs a fifth of projecting every hit (k = 10).
        """
        keys, values, found = retrieved
        asked = torch.einsum("hed,nd->nhe", self._matrix("query", query), query)
        probe = torch.einsum("hed,nhe->nhd", self._matrix("key", query), asked)
        logits = torch.einsum("nhd,nkd->nhk", probe, keys) * self.log_scale.exp()
        lowest = torch.finfo(logits.dtype).min  # not -inf: a query that found nothing must not turn gradients into NaN
        weights = logits.masked_fill(~found.unsqueeze(1), lowest).softmax(dim=-1) * found.unsqueeze(1)
        copied = torch.einsum("nhk,nkd->nhd", weights, values)
        heads = torch.einsum("hed,nhd->nhe", self._matrix("value", query), copied).flatten(1)
        return torch.einsum("hed,nd->nhe", self._matrix("out", query), heads).flatten(1)

    def _matrix(self, name: str, like: Tensor) -> Tensor:
        """W of a projection as (h, d / h, d): the rows of each head."""
        dim = like.shape[-1]
        matrix = self.projections[name] if name in self.projections else torch.eye(dim, dtype=like.dtype)
        return matrix.to(like.device).view(self.heads, dim // self.heads, dim)


class Attention(Fusion):
    """v_bar = normalise(q + gate r) with r by `Copy`: one refined embedding in the encoder's own space."""

    def __init__(self, dim: int, heads: int, start: Start, projected: bool) -> None:
        super().__init__()
        self.copy = Copy(dim, heads, start.scale, projected)
        self.gate = nn.Parameter(torch.tensor(start.gate))

    def forward(self, query: Tensor, retrieved: Retrieved) -> Tensor:
        return normalize(query + self.gate * self.copy(query, retrieved), dim=-1)


class Paired(Fusion):
    """Makes an image-caption pair of every query: the half that it lacks is copied from the memory.

    own half = normalise(q + mix r), other half = normalise(r + keep q), r by `Copy`. A refined embedding is the picture
    half times sqrt(1 - share) beside the caption half times sqrt(share). With mix and keep at 0, v_bar . t_bar is
    (1 - share) cos(picture, pictures that the prompt retrieved) + share cos(captions that the picture retrieved,
    prompt).

    One sum in one space (`Attention`) also compares retrieved captions with retrieved pictures. That is the comparison
    across modalities which the encoder gets wrong for concepts that it does not know, in favour of those it knows.
    """

    def __init__(self, shape: FusionShape, start: Start) -> None:
        super().__init__()
        if not 0 < shape.share < 1:
            raise UsageError("share must lie between 0 and 1")
        self.copy = Copy(shape.dim, shape.heads, start.scale, projected=True)
        self.mix = nn.Parameter(torch.tensor(start.mix))
        self.keep = nn.Parameter(torch.tensor(start.keep))
        self.picture_first = shape.modality == "image"
        self.share = shape.share

    def forward(self, query: Tensor, retrieved: Retrieved) -> Tensor:
        copied = self.copy(query, retrieved)
        nothing = ~retrieved.found.any(dim=1, keepdim=True)
        own = normalize(query + self.mix * copied, dim=-1)
        other = normalize(torch.where(nothing, query, copied + self.keep * query), dim=-1)
        return self._pair(own, other) if self.picture_first else self._pair(other, own)

    def lift(self, frozen: Tensor) -> Tensor:
        """The frozen embedding stands for both halves."""
        return self._pair(frozen, frozen)

    def _pair(self, picture: Tensor, caption: Tensor) -> Tensor:
        return torch.cat([(1 - self.share) ** 0.5 * picture, self.share**0.5 * caption], dim=-1)


class Transformer(Fusion):
    """The paper's fusion: one standard self-attention encoder layer over [query, retrieved], read at the query.

    Heads, MLP width, norm placement and position embeddings are not in the sources at hand; 8
    heads, width 2048 and post-norm are PyTorch's and the original transformer's. With d = 512, width 2048 and 1 + 10
    learned positions the layer has the 3.16 M parameters that the paper reports.
    """

    def __init__(self, dim: int, k: int, heads: int, mlp_dim: int, norm_first: bool, positions: bool) -> None:
        super().__init__()
        _check_heads(dim, heads)
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
        UsageError: unknown kind or norm placement, a share out of range, heads that do not divide the dimension.
    """
    if shape.norm not in ("post", "pre"):
        raise unknown_name("norm placement", shape.norm, ("post", "pre"))
    if shape.kind == "paired":
        return Paired(shape, start)
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


def _check_heads(dim: int, heads: int) -> None:
    if dim % heads:
        raise UsageError(f"{heads} heads do not divide the embedding dimension {dim}")


def parameters(module: nn.Module) -> int:
    """How many parameters of a module train."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
