"""Any open_clip model as an encoder."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from trireme.errors import DataError, UsageError
from trireme.files import fingerprint
from trireme.retrieval.encoders import customised
from trireme.retrieval.encoders.base import normalise, resolve_device, resolve_dtype
from trireme.retrieval.encoders.official import load_official
from trireme.retrieval.encoders.openclip_source import OpenClipConfig, Source, resolve
from trireme.types import Floats

# open_clip's own names: LayerNorm stays float32 inside the half-precision models, as their authors ran them.
_PRECISION = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
_TEXTS_AT_ONCE = 256


class OpenClipEncoder:
    """Pictures and texts through an open_clip model; see `OpenClipConfig` for what can be chosen.

    Attributes:
        base_fingerprint: the fingerprint without a customised encoder on top; `fingerprint` itself where there is none.

    Raises (when built):
        UsageError: unknown model or tag; preprocessing or activation that does not belong to the weights; a customised
            encoder made from another one.
        TriremeError, DataError: weights that cannot be downloaded or read.
    """

    Config = OpenClipConfig

    def __init__(self, config: OpenClipConfig) -> None:
        self.config = config
        self.dtype = resolve_dtype(config.dtype)
        self.device = resolve_device(config.device)
        self.source: Source = resolve(config)
        react = Path(config.react).expanduser() if config.react else None
        self._customised = None if self.source.official else react
        self.name = f"open_clip:{self.source.label}" + (f"+react({react.stem})" if react else "")
        self.dim = int(self.source.architecture["embed_dim"])
        self.base_fingerprint = fingerprint(self._identity())
        self.fingerprint = customised.fingerprint_with(self.base_fingerprint, self.name, self._customised)

    def _identity(self) -> Mapping[str, Any]:
        return {
            "backend": "open_clip",
            "model": self.config.model if ":" not in self.config.model else "",
            "architecture": self.source.architecture,
            "weights": self.source.weights,
            "preprocess": self.source.preprocess,
            "dtype": self.config.dtype,
        }

    @cached_property
    def model(self) -> torch.nn.Module:
        """The model in evaluation mode on its device, customised where `react` says so; loaded at the first use."""
        with torch.inference_mode(False):  # tensors made inside inference mode could never be trained
            model = self._open_clip_model()
            if self.source.official:
                load_official(model, self.source.official)
            elif self._customised:
                found = customised.read_as(self._customised, self.base_fingerprint, self.fingerprint)
                customised.apply(model, found)
            return model.eval()

    def trainable(self) -> torch.nn.Module:
        """A copy of `model` whose every parameter takes gradients, in evaluation mode; the encoder keeps its own."""
        return copy.deepcopy(self.model).requires_grad_(True)

    def _open_clip_model(self) -> torch.nn.Module:
        config, source = self.config, self.source
        named = ":" not in config.model
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                model: torch.nn.Module = open_clip.create_model(
                    config.model,
                    pretrained=str(source.checkpoint) if named and source.checkpoint else None,
                    load_weights=source.checkpoint is not None,
                    precision=_PRECISION[config.dtype],
                    device=self.device,
                    force_quick_gelu=config.force_quick_gelu,
                    force_preprocess_cfg=dict(source.preprocess),
                    pretrained_text=False,
                    require_pretrained=source.checkpoint is not None,
                )
        except Exception as error:  # torch, safetensors, the hub and open_clip each raise their own kinds
            raise DataError(f"cannot load {self.name} from {source.checkpoint}: {_first_line(error)}") from error
        return model

    @cached_property
    def logit_scale(self) -> float:
        return float(self.model.get_parameter("logit_scale").exp().item())

    @cached_property
    def _transform(self) -> Any:
        return image_transform_v2(PreprocessCfg(**self.source.preprocess), is_train=False)

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            return open_clip.get_tokenizer(self.config.model)
        except Exception as error:
            raise DataError(f"cannot load the tokenizer of {self.name}: {_first_line(error)}") from error

    def tokenise(self, texts: Sequence[str]) -> torch.Tensor:
        """n texts to (n, context length) int64 on the CPU, as the model's `encode_text` takes them."""
        tokens: torch.Tensor = self._tokenizer(list(texts))
        return tokens

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """An RGB picture to (3, H, W) float32: open_clip's own inference transform."""
        pixels: torch.Tensor = self._transform(image)
        return pixels

    def encode_pixels(self, pixels: torch.Tensor) -> Floats:
        """(n, 3, H, W) to (n, d), L2-normalised. BadEmbeddingError on NaN."""
        with torch.inference_mode():
            features = self.model.encode_image(pixels.to(self.device, self.dtype))  # type: ignore[operator]
            return normalise(features, self.name)

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """n texts to (n, d), L2-normalised; cut at the model's context length. BadEmbeddingError on NaN."""
        parts = [torch.zeros(0, self.dim)]
        with torch.inference_mode():
            for start in range(0, len(texts), _TEXTS_AT_ONCE):
                tokens = self.tokenise(texts[start : start + _TEXTS_AT_ONCE]).to(self.device)
                parts.append(self.model.encode_text(tokens).float().cpu())  # type: ignore[operator]
            return normalise(torch.cat(parts), self.name)

    def encode_tokens(self, pixels: torch.Tensor) -> Floats:
        """(n, 3, H, W) to the patch tokens after the last block and the final norm, (n, tokens, width), no class token.

        Raises:
            UsageError: the image tower has no patch tokens (ResNets and other convolutional networks).
        """
        visual: Any = self.model.visual
        vit = hasattr(visual, "transformer") or hasattr(getattr(visual, "trunk", None), "patch_embed")
        if not vit or not hasattr(visual, "forward_intermediates"):
            raise UsageError(f"{self.name} is not a vision transformer and has no patch tokens; choose a ViT")
        if getattr(visual, "attn_pool", None) is not None:
            raise UsageError(f"{self.name} pools its tokens by attention (CoCa) and has no patch tokens of its own")
        with torch.inference_mode():
            found = visual.forward_intermediates(
                pixels.to(self.device, self.dtype),
                indices=1,
                normalize_intermediates=True,
                intermediates_only=True,
                output_fmt="NLC",
            )
            tokens: Floats = found["image_intermediates"][-1].float().cpu().numpy()
        return tokens


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if len(lines) < 2 else f"{lines[0]} {lines[1]}")[:240] if lines else type(error).__name__
