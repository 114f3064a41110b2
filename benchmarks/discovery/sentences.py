"""Sentence embeddings of names, for sACC. Every encoder gives another metric, and says so in its name.

FineR's is Sentence-BERT all-mpnet-base-v2 (OatmealLiu/FineR @6a98db0, utils/semantic_similarity.py): the mean of the
last hidden states over the tokens, L2-normalised. all-MiniLM-L6-v2 is read in the same way. No torch until asked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from trireme.errors import DataError
from trireme.files import fingerprint
from trireme.hashes import file_sha256
from trireme.minilm import WHEEL_SHA256, text_folder
from trireme.types import Floats

MINILM = "minilm"
MAX_TOKENS = 128
_BATCH = 64
_NEEDS = ("config.json", "model.safetensors")
_TOKENIZERS = ("tokenizer.json", "vocab.txt")
_MODULES = ("Transformer", "Pooling", "Normalize")


@dataclass(frozen=True)
class Sentences:
    """A sentence encoder: "minilm", or the folder of a sentence-transformers checkpoint with mean pooling.

    Attributes:
        place: "minilm" or the folder.
    """

    place: str = MINILM

    def __post_init__(self) -> None:
        """DataError: the folder is no such checkpoint."""
        if self.place != MINILM:
            _check(self._folder)

    @property
    def _folder(self) -> Path:
        return text_folder() if self.place == MINILM else Path(self.place).expanduser()

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights, the configuration and the tokenizer."""
        if self.place == MINILM:
            return WHEEL_SHA256[:16]
        files = [self._folder / name for name in (*_NEEDS, *_TOKENIZERS)]
        return fingerprint([file_sha256(path) for path in files if path.is_file()])

    @property
    def name(self) -> str:
        """How metrics call it: "minilm", or the folder's name with the first digits of the fingerprint."""
        return MINILM if self.place == MINILM else f"{self._folder.resolve().name}-{self.fingerprint[:8]}"

    def embed(self, texts: Sequence[str]) -> Floats:
        """n texts -> (n, d), L2-normalised.

        Raises:
            DataError: the checkpoint cannot be loaded.
        """
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        folder = self._folder
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
        except Exception as error:  # transformers raises many kinds for a damaged file
            raise DataError(f"cannot load the sentence encoder in {folder} ({error}); fetch it again") from error
        found = []
        with torch.inference_mode():
            for start in range(0, len(texts), _BATCH):
                batch = list(texts[start : start + _BATCH])
                tokens = tokenizer(batch, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
                mask = tokens["attention_mask"].unsqueeze(-1).float()
                mean = (model(**tokens).last_hidden_state.float() * mask).sum(1) / mask.sum(1)
                found.append(torch.nn.functional.normalize(mean, dim=-1).numpy())
        embedded: Floats = np.concatenate(found).astype(np.float32)
        return embedded


def _check(folder: Path) -> None:
    lacking = [name for name in _NEEDS if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        lacking.append(_TOKENIZERS[0])
    if lacking:
        raise DataError(f"sentences={folder} lacks {lacking[0]}; name 'minilm' or a sentence-transformers checkpoint")
    modules = folder / "modules.json"
    if not modules.is_file():
        return
    kinds = [(str(one["type"]).rpartition(".")[2], str(one["path"])) for one in _read(modules)]
    odd = next((kind for kind, _ in kinds if kind not in _MODULES), None)
    pooling = [_read(folder / path / "config.json") for kind, path in kinds if kind == "Pooling"]
    modes = [
        mode for one in pooling for mode, chosen in one.items() if mode.startswith("pooling_mode") and chosen is True
    ]
    if odd is not None or modes not in ([], ["pooling_mode_mean_tokens"]):
        raise DataError(f"{modules}: only mean pooling over a transformer is read here, not {odd or ', '.join(modes)}")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} ({error}); fetch the sentence encoder again") from error
