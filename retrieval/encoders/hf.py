"""CLIP and SigLIP models of the transformers library as encoders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from trireme.errors import DataError, TriremeError, UsageError
from trireme.files import fingerprint
from trireme.retrieval.encoders.base import EncoderConfig, file_sha256, normalise, resolve_device, resolve_dtype
from trireme.types import Floats

_TEXTS_AT_ONCE = 256
_WEIGHTS, _SHARDS = "model.safetensors", "model.safetensors.index.json"
# What from_pretrained reads beside the weights: no code, no chat templates, and nothing that only generates.
_SETTINGS = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer.*.json",  # of one version of the library
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
_DOWNLOADED = (*_SETTINGS, "model*.safetensors", _SHARDS)  # no pickled weights
# SigLIP was trained on texts padded to exactly this many tokens (model cards of SigLIP and SigLIP 2).
_SIGLIP_LENGTH = 64
_FAMILIES = ("clip", "siglip")


class TransformersEncoder:
    """A CLIP, SigLIP or (fixed resolution) SigLIP 2 checkpoint.

    Raises (when built):
        UsageError: another kind of model.
        TriremeError: the hub cannot be reached. DataError: files are missing, or weights exist only pickled.
    """

    @dataclass
    class Config(EncoderConfig):
        """`model`: a hub id or a local folder; `revision`: a branch, tag or commit of the hub."""

        model: str = "openai/clip-vit-base-patch32"
        revision: str | None = None

    def __init__(self, config: Config) -> None:
        from transformers import AutoConfig

        self.config = config
        self.dtype = resolve_dtype(config.dtype)
        self.device = resolve_device(config.device)
        self.folder, label = _locate(config)
        try:
            self._architecture: Any = AutoConfig.from_pretrained(self.folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{self.folder}/config.json is not a model configuration: {_first_line(error)}") from error
        self.family = str(self._architecture.model_type)
        if self.family not in _FAMILIES:
            raise UsageError(f"{config.model} is a '{self.family}' model; known families: {', '.join(_FAMILIES)}")
        self.name = f"transformers:{label}"
        self.dim = self._dim()
        named = getattr(self._architecture, "transformers_weights", None)
        files = {path.name: file_sha256(path) for path in _files(self.folder, named)}
        self.fingerprint = fingerprint({"backend": "transformers", "files": files, "dtype": config.dtype})

    def _dim(self) -> int:
        if self.family == "clip":
            return int(self._architecture.projection_dim)
        text = self._architecture.text_config
        return int(getattr(text, "projection_size", None) or text.hidden_size)

    @cached_property
    def model(self) -> torch.nn.Module:
        """The model in evaluation mode on its device; loaded at the first use, from safetensors alone."""
        from transformers import AutoModel

        try:
            model: torch.nn.Module = AutoModel.from_pretrained(
                self.folder, local_files_only=True, use_safetensors=True, dtype=self.dtype
            )
        except Exception as error:  # safetensors, torch and transformers each raise their own kinds
            raise DataError(f"cannot load {self.name} from {self.folder}: {_first_line(error)}") from error
        return model.to(self.device).eval()

    @cached_property
    def logit_scale(self) -> float:
        return float(self.model.get_parameter("logit_scale").float().exp().item())

    @cached_property
    def _image_processor(self) -> Any:
        from transformers import AutoImageProcessor

        return self._load(AutoImageProcessor, "image processor")

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return self._load(AutoTokenizer, "tokenizer")

    def _load(self, kind: Any, what: str) -> Any:
        try:
            return kind.from_pretrained(self.folder, local_files_only=True)
        except Exception as error:
            raise DataError(
                f"cannot load the {what} of {self.name} from {self.folder}: {_first_line(error)}"
            ) from error

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """An RGB picture to (3, H, W) float32: the checkpoint's own image processor."""
        pixels: torch.Tensor = self._image_processor(images=image, return_tensors="pt")["pixel_values"][0]
        return pixels

    def encode_pixels(self, pixels: torch.Tensor) -> Floats:
        """(n, 3, H, W) to (n, d), L2-normalised. BadEmbeddingError on NaN."""
        model: Any = self.model
        with torch.inference_mode():
            return normalise(_pooled(model.get_image_features(pixels.to(self.device, self.dtype))), self.name)

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """n texts to (n, d), L2-normalised; padded and cut as the family was trained. BadEmbeddingError on NaN."""
        model: Any = self.model
        limit = int(self._architecture.text_config.max_position_embeddings)
        fixed = self.family == "siglip"
        parts = [torch.zeros(0, self.dim)]
        with torch.inference_mode():
            for start in range(0, len(texts), _TEXTS_AT_ONCE):
                tokens = self._tokenizer(
                    list(texts[start : start + _TEXTS_AT_ONCE]),
                    padding="max_length" if fixed else True,
                    max_length=min(_SIGLIP_LENGTH, limit) if fixed else limit,
                    truncation=True,
                    return_tensors="pt",
                ).to(self.device)
                parts.append(_pooled(model.get_text_features(**tokens)).float().cpu())
            return normalise(torch.cat(parts), self.name)

    def encode_tokens(self, pixels: torch.Tensor) -> Floats:
        """(n, 3, H, W) to patch tokens after the last block and the final norm, (n, tokens, width), no class token."""
        model: Any = self.model
        with torch.inference_mode():
            hidden = model.vision_model(pixel_values=pixels.to(self.device, self.dtype)).last_hidden_state
            if self.family == "clip":  # CLIP norms its class token only; the patches get the same norm here
                hidden = model.vision_model.post_layernorm(hidden[:, 1:])
            tokens: Floats = hidden.float().cpu().numpy()
        return tokens


def _pooled(output: Any) -> torch.Tensor:
    """transformers 5 returns the tower's output with the projected vector in it, version 4 the vector itself."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def _locate(config: TransformersEncoder.Config) -> tuple[Path, str]:
    """The local folder of a checkpoint and its name in tables; a hub id is downloaded first."""
    folder = Path(config.model).expanduser()
    if folder.is_dir():
        return folder, folder.resolve().name
    if folder.is_absolute() or config.model.startswith((".", "~")) or config.model.count("/") > 1:
        raise DataError(f"model folder {folder} does not exist")
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(config.model, revision=config.revision, allow_patterns=list(_DOWNLOADED))
    except Exception as error:
        raise TriremeError(
            f"cannot download {config.model} ({_first_line(error)}); check the network and the name, "
            "or give a local folder with model=/path/to/folder"
        ) from error
    return Path(found), config.model + (f"@{config.revision}" if config.revision else "")


def _files(folder: Path, named: str | None) -> list[Path]:
    """Every file that can change an embedding; other files of the folder do not count.

    Args:
        named: the file of weights, or their index, that the configuration names.

    Raises:
        DataError: there are no safetensors, or the index of their parts is damaged.
    """
    settings = {path for pattern in _SETTINGS for path in folder.glob(pattern) if path.is_file()}
    start = folder / (named or (_WEIGHTS if (folder / _WEIGHTS).is_file() else _SHARDS))
    if not start.is_file() or not start.name.endswith((".safetensors", ".safetensors.index.json")):
        raise DataError(f"{folder} has no {named or _WEIGHTS}; pickled weights are not read, convert them first")
    weights = {start}
    if start.suffix == ".json":
        try:
            weights |= {
                folder / str(name) for name in json.loads(start.read_text(encoding="utf-8"))["weight_map"].values()
            }
        except (ValueError, KeyError, AttributeError) as error:
            raise DataError(f"{start} is damaged ({_first_line(error)}); fetch it again") from error
    return sorted(settings | weights)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
