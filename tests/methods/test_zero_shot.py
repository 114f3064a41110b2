"""zero_shot against CLIP's formula computed with bare open_clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from trireme.errors import UsageError
from trireme.methods.base import Context, Method
from trireme.methods.zero_shot import ZeroShot, ZeroShotConfig
from trireme.types import Sample

from .conftest import NAMES, TEMPLATES


def test_it_is_clips_classifier(clip_context: Context, disc_samples: list[Sample], clip_folder: Path) -> None:
    """The reference follows open_clip's own zero-shot recipe: normalise, mean over templates, normalise, cosine."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{clip_folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{clip_folder}")
    model.eval()
    with torch.no_grad():
        classes = []
        for name in NAMES:
            prompts = model.encode_text(tokenizer([template.format(name) for template in TEMPLATES]))
            mean = torch.nn.functional.normalize(prompts, dim=-1).mean(dim=0)
            classes.append(mean / mean.norm())
        pixels = torch.stack([transform(Image.open(sample.image.path)) for sample in disc_samples])
        images = torch.nn.functional.normalize(model.encode_image(pixels), dim=-1)
        expected = (images @ torch.stack(classes).T).numpy()
    method = ZeroShot(ZeroShotConfig())
    method.fit(clip_context)
    got = method.predict(disc_samples)
    by_class = np.take_along_axis(got.scores, np.argsort(got.ranked, axis=1), axis=1)
    np.testing.assert_allclose(by_class, expected, atol=1e-5)
    np.testing.assert_array_equal(got.ranked[:, 0], expected.argmax(axis=1))
    assert isinstance(method, Method)
    assert method.facts() == {"classes": 5, "templates": 3}


def test_own_templates_replace_the_benchmarks(clip_context: Context, disc_samples: list[Sample]) -> None:
    own = ZeroShot(ZeroShotConfig(templates=["{}"]))
    own.fit(clip_context)
    clip_context.templates = ("{}",)
    plain = ZeroShot(ZeroShotConfig())
    plain.fit(clip_context)
    np.testing.assert_array_equal(own.predict(disc_samples).scores, plain.predict(disc_samples).scores)


def test_predict_before_fit() -> None:
    with pytest.raises(UsageError, match="before fit"):
        ZeroShot(ZeroShotConfig()).predict([])
