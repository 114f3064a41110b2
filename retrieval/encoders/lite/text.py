"""The frozen text tower of `lite`: all-MiniLM-L6-v2, run by transformers, out of a PyPI wheel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trireme.errors import DataError
from trireme.minilm import WHEEL_SHA256, text_folder

__all__ = ["DIM", "MAX_TOKENS", "WHEEL_SHA256", "TextTower", "text_folder"]

MAX_TOKENS = 128
DIM = 384
BATCH = 64


class TextTower:
    """Texts to unit vectors: the mean of the last hidden states over the real tokens, L2-normalised."""

    def __init__(self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # it would stand on stderr among our own
        folder = text_folder()
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
            self._model: Any = AutoModel.from_pretrained(folder, dtype=dtype)
        except Exception as error:  # transformers raises many kinds for a damaged file
            raise DataError(
                f"cannot load the text model in {folder} ({error}); delete that folder and run again"
            ) from error
        self._model.eval().requires_grad_(False).to(device)
        self._device = torch.device(device)

    @property
    def model(self) -> nn.Module:
        """The transformers model, in evaluation mode and frozen."""
        model: nn.Module = self._model
        return model

    def tokenise(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """n texts, each cut at 128 tokens -> `input_ids` and `attention_mask`, (n, t) int64, padded to the longest."""
        found = self._tokenizer(list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        return {name: found[name] for name in ("input_ids", "attention_mask")}

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """n texts, each cut at 128 tokens -> (n, 384) float32 on the CPU. Sorted by length, so little is padded."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        out = torch.zeros(len(texts), DIM)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            out[rows] = self._encode_batch([texts[i] for i in rows])
        return out

    def _encode_batch(self, texts: list[str]) -> Tensor:
        tokens = {name: value.to(self._device) for name, value in self.tokenise(texts).items()}
        hidden: Tensor = self._model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, dim=-1).float().cpu()
