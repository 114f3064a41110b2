"""The trained part of `lite`: a small vision transformer over the frozen trunk's patch tokens.

The names follow CLIP's vision transformer (`class_embedding`, `positional_embedding`, `transformer.resblocks`, `ln_post`, `proj`,
`logit_scale`), so that code which walks such a tower, or puts new blocks before its blocks, finds what it expects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trireme.retrieval.encoders.lite.text import DIM
from trireme.retrieval.encoders.lite.trunk import GRID, WIDTH


@dataclass(frozen=True, slots=True)
class HeadShape:
    """The architecture: everything that the shapes of the weights depend on."""

    layers: int = 2
    width: int = 256
    heads: int = 4
    mlp_ratio: int = 4


class ResidualAttentionBlock(nn.Module):
    """Pre-norm self-attention and MLP, each added to its input."""

    def __init__(self, shape: HeadShape, dropout: float = 0.0) -> None:
        super().__init__()
        width, hidden = shape.width, shape.width * shape.mlp_ratio
        self.heads, self.dropout = shape.heads, dropout
        self.ln_1 = nn.LayerNorm(width)
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width) -> the same shape."""
        x = x + F.dropout(self._attention(self.ln_1(x)), self.dropout, self.training)
        return x + F.dropout(self.mlp(self.ln_2(x)), self.dropout, self.training)

    def _attention(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = self.in_proj(x).view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(n, tokens, width))
        return out


class Transformer(nn.Module):
    """The blocks in a row."""

    def __init__(self, shape: HeadShape, dropout: float = 0.0) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualAttentionBlock(shape, dropout) for _ in range(shape.layers))

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width) -> the same shape."""
        for block in self.resblocks:
            x = block(x)
        return x


class LiteHead(nn.Module):
    """Trunk tokens to unit image embeddings in the space of the text tower.

    The projected class token is added to a linear map of the mean trunk token: the map keeps what the trunk already tells apart (good for
    classes nobody trained on), the transformer adds what depends on where things are.

    Args:
        dropout: of the residual branches, in training only.
        token_dropout: share of patch tokens left out of a training pass.
    """

    def __init__(self, shape: HeadShape | None = None, dropout: float = 0.0, token_dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape = shape or HeadShape()
        self.token_dropout = token_dropout
        self.feature_mean = nn.Buffer(torch.zeros(WIDTH))
        self.feature_scale = nn.Buffer(torch.ones(()))
        self.patch_embedding = nn.Linear(WIDTH, shape.width)
        self.class_embedding = nn.Parameter(torch.randn(shape.width) * 0.02)
        self.positional_embedding = nn.Parameter(torch.randn(GRID * GRID + 1, shape.width) * 0.02)
        self.ln_pre = nn.LayerNorm(shape.width)
        self.transformer = Transformer(shape, dropout)
        self.ln_post = nn.LayerNorm(shape.width)
        self.proj = nn.Parameter(torch.randn(shape.width, DIM) * shape.width**-0.5)
        self.skip = nn.Parameter(torch.randn(WIDTH, DIM) * WIDTH**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def embed(self, tokens: Tensor) -> Tensor:
        """(n, 16, 1280) trunk tokens -> (n, 17, width), what goes into the first block; the class token comes first."""
        x = self.patch_embedding(self._standardised(tokens)) + self.positional_embedding[1:]
        if self.training and self.token_dropout:
            kept = max(1, round(x.shape[1] * (1 - self.token_dropout)))
            rows = torch.rand(x.shape[:2], device=x.device).argsort(1)[:, :kept, None]
            x = x.gather(1, rows.expand(-1, -1, x.shape[2]))
        first = (self.class_embedding + self.positional_embedding[0]).to(x.dtype).expand(len(x), 1, -1)
        out: Tensor = self.ln_pre(torch.cat([first, x], 1))
        return out

    def project(self, x: Tensor, tokens: Tensor) -> Tensor:
        """(n, 17, width) out of the last block, with the (n, 16, 1280) trunk tokens -> (n, 384), L2-normalised."""
        mean = self._standardised(tokens).mean(1)
        return F.normalize(self.ln_post(x[:, 0]) @ self.proj + mean @ self.skip, dim=-1)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, 16, 1280) trunk tokens -> (n, 384), L2-normalised."""
        return self.project(self.transformer(self.embed(tokens)), tokens)

    def _standardised(self, tokens: Tensor) -> Tensor:
        return (tokens - self.feature_mean) * self.feature_scale
