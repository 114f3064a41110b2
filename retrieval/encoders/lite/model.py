"""The trained part of `lite`: a small vision transformer over the frozen trunk's patch tokens.

The names follow CLIP's vision transformer (`class_embedding`, `positional_embedding`, `transformer.resblocks`,
`ln_post`, `proj`, `logit_scale`): code that walks such a tower or puts blocks before its blocks finds what it expects.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trireme.retrieval.encoders.lite.text import DIM
from trireme.retrieval.encoders.lite.trunk import FOLD, GRID, STAGE_4, STAGE_5, WIDTH

GRID_CHANNELS = STAGE_4 // FOLD + STAGE_5
"""Channels of a place of the grid in the linear map: stage 4 averaged over its four places, and stage 5."""


@dataclass(frozen=True, slots=True)
class HeadShape:
    """The architecture: everything that the shapes of the weights depend on."""

    layers: int = 2
    width: int = 256
    heads: int = 4
    mlp_ratio: int = 4


class ChannelDropout(nn.Module):
    """Dropout with one mask for all tokens of a picture: no place can fill in for another, and it costs little."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, channels) -> the same shape; the identity when not training."""
        if not self.training or not self.share:
            return x
        kept = torch.rand(x.shape[0], 1, x.shape[2], device=x.device) >= self.share
        return x * (kept / (1.0 - self.share)).to(x.dtype)


class ResidualAttentionBlock(nn.Module):
    """Pre-norm self-attention and MLP, each added to its input."""

    def __init__(self, shape: HeadShape, dropout: float = 0.0) -> None:
        super().__init__()
        width, hidden = shape.width, shape.width * shape.mlp_ratio
        self.heads = shape.heads
        self.ln_1 = nn.LayerNorm(width)
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), ChannelDropout(dropout), nn.Linear(hidden, width))
        self.dropout = ChannelDropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width) -> the same shape."""
        x = x + self.dropout(self._attention(self.ln_1(x)))
        out: Tensor = x + self.dropout(self.mlp(self.ln_2(x)))
        return out

    def _attention(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = self.in_proj(x).view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        # Written out: for 17 tokens, the backward pass of the fused kernel costs more than all other products together.
        weights = (q @ k.transpose(-1, -2) / math.sqrt(width // self.heads)).softmax(-1)
        out: Tensor = self.out_proj((weights.to(v.dtype) @ v).transpose(1, 2).reshape(n, tokens, width))
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

    To the projected class token a linear map of the whole grid is added. It keeps what the trunk already tells apart,
    on which classes without training rest, and it learns in few epochs.

    Args:
        dropout: of the residual branches, in training only.
        feature_dropout: share of token channels zeroed in a training pass.
        token_dropout: share of patch tokens that the transformer does not see in a training pass.
    """

    def __init__(
        self,
        shape: HeadShape | None = None,
        dropout: float = 0.0,
        feature_dropout: float = 0.0,
        token_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.shape = shape = shape or HeadShape()
        self.feature_dropout, self.token_dropout = ChannelDropout(feature_dropout), token_dropout
        self.feature_mean: Tensor
        self.feature_scale: Tensor
        self.register_buffer("feature_mean", torch.zeros(WIDTH))
        self.register_buffer("feature_scale", torch.ones(WIDTH))
        self.patch_embedding = nn.Linear(WIDTH, shape.width)
        self.class_embedding = nn.Parameter(torch.randn(shape.width) * 0.02)
        self.positional_embedding = nn.Parameter(torch.randn(GRID * GRID + 1, shape.width) * 0.02)
        self.ln_pre = nn.LayerNorm(shape.width)
        self.transformer = Transformer(shape, dropout)
        self.ln_post = nn.LayerNorm(shape.width)
        self.proj = nn.Parameter(torch.randn(shape.width, DIM) * shape.width**-0.5)
        self.grid_proj = nn.Linear(GRID * GRID * GRID_CHANNELS, DIM, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def standardise(self, tokens: Tensor) -> None:
        """Set the mean and scale of each token channel from (n, 16, 640) training tokens."""
        values = tokens.float()
        self.feature_mean.copy_(values.mean((0, 1)))
        self.feature_scale.copy_(1.0 / values.std((0, 1)).clamp(min=1e-6))

    def neighbour_features(self, tokens: Tensor) -> Tensor:
        """(n, 16, 640) trunk tokens -> (n, 16 * 192): stage 5 on its grid, the teacher of `keep_neighbours`."""
        return tokens[..., STAGE_4:].float().flatten(1)

    def clone(self) -> LiteHead:
        """A copy in evaluation mode that does not train."""
        return copy.deepcopy(self).eval().requires_grad_(False)

    def embed(self, tokens: Tensor) -> Tensor:
        """(n, 16, 640) trunk tokens -> (n, 17, width), what goes into the first block; the class token comes first."""
        return self._embed(self._standardised(tokens))

    def project(self, x: Tensor, tokens: Tensor) -> Tensor:
        """(n, 17, width) out of the last block, with the (n, 16, 640) trunk tokens -> (n, 384), L2-normalised."""
        return self._project(x, self._standardised(tokens))

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, 16, 640) trunk tokens -> (n, 384), L2-normalised: `project(transformer(embed(tokens)), tokens)`."""
        features = self.feature_dropout(self._standardised(tokens))
        return self._project(self.transformer(self._embed(features)), features)

    def _embed(self, features: Tensor) -> Tensor:
        x = self.patch_embedding(features) + self.positional_embedding[1:]
        if self.training and self.token_dropout:
            kept = max(1, round(x.shape[1] * (1 - self.token_dropout)))
            rows = torch.rand(x.shape[:2], device=x.device).argsort(1)[:, :kept, None]
            x = x.gather(1, rows.expand(-1, -1, x.shape[2]))
        first = (self.class_embedding + self.positional_embedding[0]).to(x.dtype).expand(len(x), 1, -1)
        out: Tensor = self.ln_pre(torch.cat([first, x], 1))
        return out

    def _project(self, x: Tensor, features: Tensor) -> Tensor:
        stage_4 = features[..., :STAGE_4].reshape(len(features), GRID * GRID, STAGE_4 // FOLD, FOLD).mean(3)
        grid = torch.cat([stage_4, features[..., STAGE_4:]], 2)
        image = self.ln_post(x[:, 0]) @ self.proj + self.grid_proj(grid.flatten(1))
        return F.normalize(image.float(), dim=-1)

    def _standardised(self, tokens: Tensor) -> Tensor:
        return (tokens - self.feature_mean) * self.feature_scale
