"""Any open_clip vision transformer while it is customised: pictures are read and augmented anew in every epoch."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from trireme.errors import DataError, UsageError
from trireme.methods.react.captions import caption_variants, draw
from trireme.methods.react.config import ReactConfig
from trireme.methods.react.towers import Inputs, gated_layers, select_trainable, unit
from trireme.retrieval.encoders.gated import GATE, add_gated_blocks, image_blocks
from trireme.retrieval.encoders.openclip import OpenClipEncoder
from trireme.retrieval.pictures import open_picture
from trireme.retrieval.store import EmbeddingStore
from trireme.types import Floats, ImageRef, Ints

_AT_ONCE = 64
_Item = tuple[int, int]
"""(epoch, pair): the seed of a picture's augmentation."""


class _Module(nn.Module):
    """Both towers as one callable, which DDP can wrap; a locked text tower is not part of it."""

    def __init__(self, model: nn.Module, text_trains: bool) -> None:
        super().__init__()
        self.model, self._text_trains = model, text_trains

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Pixels `image` (n, 3, h, w), and `text` (n, d) or its `tokens` (n, t)."""
        model: Any = self.model
        images = unit(model.encode_image(inputs["image"]))
        return images, unit(model.encode_text(inputs["tokens"])) if self._text_trains else inputs["text"]


class _Pictures(Dataset[Tensor | DataError]):
    """Augmented pictures; the same (epoch, pair) gives the same pixels in whatever process and order."""

    def __init__(self, refs: Sequence[ImageRef], transform: Any, seed: int) -> None:
        self._refs, self._transform, self._seed = refs, transform, seed

    def __getitem__(self, item: _Item) -> Tensor | DataError:
        """(3, h, w), or why there are none: raised in a worker process, an error would come with its traceback."""
        epoch, row = item
        try:
            image = open_picture(self._refs[row])
        except DataError as error:
            return error
        state = random.getstate(), np.random.get_state()
        seed = int(np.random.SeedSequence([self._seed, epoch, row]).generate_state(1)[0])
        try:
            with torch.random.fork_rng(devices=[]):
                random.seed(seed)
                np.random.seed(seed)  # RandAugment of timm draws from NumPy's global generator
                torch.default_generator.manual_seed(seed)
                pixels: Tensor = self._transform(image)
        finally:
            random.setstate(state[0])
            np.random.set_state(state[1])
        return pixels


def check_openclip(encoder: OpenClipEncoder, config: ReactConfig) -> None:
    """UsageError for options that open_clip models do not have, and for more gated blocks than there are layers."""
    if config.dropout or config.feature_dropout or config.token_dropout:
        raise UsageError("dropout, feature_dropout and token_dropout are options of lite; set them to 0")
    if config.variant == "gated_image":
        gated_layers(config, _layers(encoder))


def _layers(encoder: OpenClipEncoder) -> int:
    """Transformer layers of the image tower: of open_clip's own ViT without loading its weights."""
    vision = encoder.source.architecture["vision_cfg"]
    stated = vision.get("layers")
    if isinstance(stated, int) and not vision.get("timm_model_name"):
        return stated
    model: Any = encoder.model
    return len(image_blocks(model.visual))


class OpenClipTower:
    """See `trireme.methods.react.towers.Tower`."""

    def __init__(
        self,
        encoder: OpenClipEncoder,
        config: ReactConfig,
        refs: Sequence[ImageRef],
        captions: Sequence[str],
        store: EmbeddingStore,
        seed: int,
    ) -> None:
        self._encoder, self._config, self._store, self._seed = encoder, config, store, seed
        model: Any = copy.deepcopy(encoder.model).float()
        self.gated = gated_layers(config, _layers(encoder)) if config.variant == "gated_image" else 0
        if self.gated:
            add_gated_blocks(model.visual, self.gated, seed)
        if config.grad_checkpointing:
            model.set_grad_checkpointing()
        self._text_trains = config.variant in ("full", "locked_image")
        self.module: nn.Module = _Module(model, self._text_trains)
        self.trainable = select_trainable(dict(model.named_parameters()), config.variant, "visual.", GATE)
        self.scale = model.logit_scale
        self._variants = caption_variants(captions, seed) if config.caption_parts else [[text] for text in captions]
        flat = [text for variants in self._variants for text in variants]
        self._texts = self._frozen_texts(flat)
        self._pictures = _Pictures(refs, self._transform(), seed)
        self._workers = store.workers if encoder.device.type == "cuda" else 0
        self.facts: dict[str, Any] = {"augment": config.augment}

    def _frozen_texts(self, flat: Sequence[str]) -> Tensor:
        """(n, variants, d) embeddings by the locked text tower, or (n, variants, t) tokens for one that trains."""
        if self._text_trains:
            rows: Tensor = self._encoder.tokenise(flat)
        else:
            rows = torch.from_numpy(self._store.texts(flat))
        return rows.view(len(self._variants), -1, rows.shape[1])

    def _transform(self) -> Any:
        """The official recipe's augmentation by timm, with the size and normalisation of the weights."""
        if self._config.augment == "none":
            return self._encoder.preprocess
        from timm.data import create_transform

        shape = self._encoder.preprocess(Image.new("RGB", (8, 8))).shape
        preprocess = self._encoder.source.preprocess
        return _with_black(
            create_transform(
                input_size=tuple(shape),
                is_training=True,
                scale=(0.08, 1.0),
                ratio=(0.75, 4 / 3),
                hflip=0.5,
                interpolation="bicubic",
                color_jitter=0.4,
                auto_augment="rand-m9-mstd0.5-inc1",
                re_prob=0.25,
                re_count=1,
                re_mode="pixel",
                mean=preprocess["mean"],
                std=preprocess["std"],
            )
        )

    def feed(self, plan: Sequence[Sequence[Ints]], epoch: int) -> Iterator[list[Inputs]]:
        """Pictures are read ahead by worker processes, one forward pass a batch."""
        texts = draw(len(self._variants), self._config.caption_parts, np.random.default_rng([self._seed, epoch]))
        flat = [rows for step in plan for rows in step]
        loader = DataLoader(
            self._pictures,
            batch_sampler=[[(epoch, int(row)) for row in rows] for rows in flat],
            collate_fn=_batch,
            num_workers=self._workers,
            pin_memory=self._encoder.device.type == "cuda",
        )
        passes = iter(loader)
        for step in plan:
            yield [self._inputs(_next(passes), torch.from_numpy(rows), texts[rows]) for rows in step]

    def _inputs(self, pixels: Tensor, rows: Tensor, texts: Ints) -> Inputs:
        device = self._encoder.device
        chosen = self._texts[rows, torch.from_numpy(texts)].to(device, non_blocking=True)
        return {"image": pixels.to(device, non_blocking=True), "tokens" if self._text_trains else "text": chosen}

    @torch.inference_mode()
    def embed_images(self, refs: Sequence[ImageRef]) -> Floats:
        """(n, d)."""
        parts = []
        module: Any = self.module
        for start in range(0, len(refs), _AT_ONCE):
            pixels = [self._encoder.preprocess(open_picture(ref)) for ref in refs[start : start + _AT_ONCE]]
            parts.append(unit(module.model.encode_image(torch.stack(pixels).to(self._encoder.device))).cpu())
        if not parts:
            raise DataError("there is no picture to embed")
        found: Floats = torch.cat(parts).numpy()
        return found

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """(n, d); out of the cache where the text tower is locked."""
        if not self._text_trains:
            return self._store.texts(texts)
        module: Any = self.module
        tokens = self._encoder.tokenise(texts)
        parts = [
            unit(module.model.encode_text(part.to(self._encoder.device))).cpu()
            for part in torch.split(tokens, _AT_ONCE)
        ]
        found: Floats = torch.cat(parts).numpy()
        return found


def _batch(pictures: Sequence[Tensor | DataError]) -> Tensor | DataError:
    """(n, 3, h, w), or the first error."""
    pixels = [picture for picture in pictures if isinstance(picture, Tensor)]
    return next((picture for picture in pictures if isinstance(picture, DataError)), None) or torch.stack(pixels)


def _next(batches: Iterator[Tensor | DataError]) -> Tensor:
    found = next(batches)
    if isinstance(found, DataError):
        raise found
    return found


def _with_black(transform: Any) -> Any:
    """Let RandAugment posterise to 0 bits, where a strength drawn at random may lead.

    Pillow made a picture black then, until version 13 which refuses it.
    """
    for step in transform.transforms:
        for operation in getattr(step, "ops", ()):
            if operation.name.startswith("Posterize"):
                operation.aug_fn = _posterise
    return transform


def _posterise(image: Image.Image, bits: int, **_options: Any) -> Image.Image:
    if bits >= 8:
        return image
    return ImageOps.posterize(image, bits) if bits > 0 else Image.new(image.mode, image.size)
