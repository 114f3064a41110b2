"""`lite` while it is customised: its trunk is frozen, so it runs once over a few augmented views of each picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trireme.errors import UsageError
from trireme.methods.react.captions import caption_variants, draw
from trireme.methods.react.config import ReactConfig
from trireme.methods.react.towers import Inputs, gated_layers, select_trainable, unit
from trireme.methods.react.views import views_of
from trireme.retrieval.encoders.gated import GATE, add_gated_blocks
from trireme.retrieval.encoders.lite.encoder import TEXT_PREFIX, LiteEncoder
from trireme.retrieval.encoders.lite.model import LiteHead
from trireme.retrieval.store import EmbeddingStore
from trireme.types import Floats, ImageRef, Ints

_AT_ONCE = 256


class _Module(nn.Module):
    """Both towers as one callable, which DDP can wrap. `text` is None where embeddings of texts come in."""

    def __init__(self, head: LiteHead, text: nn.Module | None) -> None:
        super().__init__()
        self.head, self.text = head, text

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Trunk tokens `image` (n, 16, 640), and `text` (n, d) or `input_ids` and `attention_mask` (n, t)."""
        images = unit(self.head(inputs["image"]))
        if self.text is None:
            return images, inputs["text"]
        mask = inputs["attention_mask"]
        hidden = self.text(input_ids=inputs["input_ids"], attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return images, unit((hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9))


class LiteTower:
    """See `trireme.methods.react.towers.Tower`. The text tower is run only where the variant trains it.

    Args:
        folder: keeps the trunk's tokens until the training is done, so that a killed one goes on from them.
    """

    def __init__(
        self,
        encoder: LiteEncoder,
        config: ReactConfig,
        refs: Sequence[ImageRef],
        captions: Sequence[str],
        store: EmbeddingStore,
        seed: int,
        folder: Path | None = None,
    ) -> None:
        self._encoder, self._config, self._store, self._seed = encoder, config, store, seed
        self._folder = folder
        base = encoder.head
        head = LiteHead(base.shape, config.dropout, config.feature_dropout, config.token_dropout)
        head.load_state_dict(base.state_dict())
        self.gated = gated_layers(config, base.shape.layers)
        if self.gated:
            add_gated_blocks(head, self.gated, seed)
        self._text_trains = config.variant in ("full", "locked_image")
        text = _text_model(encoder, config.dropout) if self._text_trains else None
        self.module: nn.Module = _Module(head, text).to(encoder.device)
        named = dict(head.named_parameters())
        if text is not None:
            named |= {f"{TEXT_PREFIX}{name}": value for name, value in text.named_parameters()}
        # of a lite head all but logit_scale is image tower; "image." stands for it while parts are chosen
        marked = {_marked(name): value for name, value in named.items()}
        chosen = select_trainable(marked, config.variant, "image.", GATE)
        self.trainable = {name.removeprefix("image."): value for name, value in chosen.items()}
        self.scale = head.logit_scale
        self._variants = caption_variants(captions, seed) if config.caption_parts else [[text] for text in captions]
        self._texts = None if self._text_trains else self._frozen_texts()
        self._tokens = views_of(refs, config.views if config.augment == "recipe" else 1, seed, folder)
        self.facts: dict[str, Any] = {"views": len(self._tokens)}

    def _frozen_texts(self) -> Tensor:
        """(variants, n, d) of the captions and their cuts."""
        flat = [text for variants in self._variants for text in variants]
        return (
            torch.from_numpy(self._store.texts(flat)).view(len(self._variants), -1, self._encoder.dim).transpose(0, 1)
        )

    def feed(self, plan: Sequence[Sequence[Ints]], epoch: int) -> Iterator[list[Inputs]]:
        """A random view of every picture and its caption, drawn anew in every epoch."""
        generator = np.random.default_rng([self._seed, epoch])
        count = len(self._variants)
        views = torch.from_numpy(generator.integers(0, len(self._tokens), count))
        texts = torch.from_numpy(draw(count, self._config.caption_parts, generator))
        for step in plan:
            yield [self._inputs(torch.from_numpy(rows), views, texts) for rows in step]

    def _inputs(self, rows: Tensor, views: Tensor, texts: Tensor) -> Inputs:
        device = self._encoder.device
        found = {"image": self._tokens[views[rows], rows].to(device).float()}
        if self._texts is not None:
            return found | {"text": self._texts[texts[rows], rows].to(device)}
        return found | self._tokenised([self._variants[int(row)][int(texts[row])] for row in rows])

    def _tokenised(self, texts: list[str]) -> dict[str, Tensor]:
        tokens: dict[str, Tensor] = self._encoder.tokenise(texts)
        return {name: tokens[name].to(self._encoder.device) for name in ("input_ids", "attention_mask")}

    @torch.inference_mode()
    def embed_images(self, refs: Sequence[ImageRef]) -> Floats:
        """(n, d)."""
        module: Any = self.module
        tokens = views_of(refs, 1, 0, self._folder)[0]
        parts = [module.head(part.to(self._encoder.device).float()) for part in torch.split(tokens, _AT_ONCE)]
        found: Floats = torch.cat(parts).float().cpu().numpy()
        return found

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """(n, d); out of the cache where the text tower is locked."""
        if not self._text_trains:
            return self._store.texts(texts)
        module: Any = self.module
        empty = torch.zeros(1, *self._tokens.shape[2:], device=self._encoder.device)
        parts = []
        for start in range(0, len(texts), _AT_ONCE):
            inputs = {"image": empty, **self._tokenised(list(texts[start : start + _AT_ONCE]))}
            parts.append(module(inputs)[1].cpu())
        found: Floats = torch.cat(parts).numpy()
        return found


def check_lite(encoder: LiteEncoder, config: ReactConfig) -> None:
    """UsageError for options that lite does not have, and for more gated blocks than it has layers."""
    if config.grad_checkpointing:
        raise UsageError("lite has two small layers; gradient checkpointing would only slow it down")
    gated_layers(config, encoder.head.shape.layers)


def _text_model(encoder: LiteEncoder, dropout: float) -> nn.Module:
    """A trainable copy in float32, whose own dropout is the one that the configuration states."""
    model = encoder.trainable_text().float()
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = dropout
    return model


def _marked(name: str) -> str:
    return name if name == "logit_scale" or name.startswith(TEXT_PREFIX) else f"image.{name}"
