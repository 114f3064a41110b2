"""What all runs share is left as it is: a plugin that trains the encoder in place would change every later score.

The encoder answers one picture and one text directly, past the cache, before the plugin's method is fitted and before
anything that came after is stored. Where it answers something else, the run fails, and the others get a fresh encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np

from trireme.errors import BrokenRuleError
from trireme.plan import Run
from trireme.retrieval.encoders.base import Encoder
from trireme.types import Floats
from trireme.workbench import Workbench

Check = Callable[[], None]
_TEXT = "a photo of a cat"
_TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-3, "float16": 2e-4}
"""How far the numbers of a unit vector may move between two calls on one input, where sums are taken in another order;
of the smaller types some of their steps (2^-8 and 2^-11) at 1 / sqrt(512), a usual number of such a vector. Weights
that move by 1e-5 each, as in a short step of training, move it by 3e-4 in float32 and by 2e-3 in bfloat16 (measured on
ViT-B/32 with random weights)."""


@contextmanager
def guarded(run: Run, bench: Workbench, config: Any) -> Iterator[Check]:
    """While a run's method works; gives what is to be called before any of its results is stored.

    Only the methods of other distributions are watched: Trireme's own are held against this rule by its tests.

    Args:
        config: the method's own copy of its configuration.

    Raises:
        BrokenRuleError: the method changed the encoder, or its configuration, which the record states.
    """
    if not run.by_plugin:
        yield lambda: None
        return
    part = bench.encoder(run.encoder)
    before, facts = probe(part.encoder), _facts(part.encoder)

    def check() -> None:
        if repr(asdict(config)) != repr(run.method.resolved()):
            what = "it changes its configuration, which the record states; keep what it works with elsewhere"
            raise BrokenRuleError.by(f"method '{run.method.label}'", "inputs", what)
        if why := changed(part.encoder, before, facts):
            what = f"it changes the encoder {facts[0]} that all runs share ({why}); work on a copy of it"
            raise BrokenRuleError.by(f"method '{run.method.label}'", "inputs", what)

    part.store.before_write = check
    try:
        yield check
        check()
    except BaseException:
        if changed(part.encoder, before, facts):
            bench.forget_encoder(run.encoder)
        raise
    finally:
        part.store.before_write = None


def changed(encoder: Encoder, before: Floats, facts: tuple[Any, ...]) -> str:
    """How an encoder differs from what it was, "" where it does not."""
    if _facts(encoder) != facts:
        return "its fingerprint or scale is another one"
    try:
        after = probe(encoder)
    except Exception as error:
        return f"it raises {type(error).__name__}: {' '.join(str(error).split())[:100]}"
    if after.shape != before.shape:
        return f"its embeddings are {after.shape}, they were {before.shape}"
    moved = float(np.abs(after - before).max())
    within = _TOLERANCE.get(getattr(getattr(encoder, "config", None), "dtype", "float32"), 1e-5)
    return "" if moved <= within else f"its embeddings moved by {moved:.2g}"  # NaN is not within anything


def probe(encoder: Encoder) -> Floats:
    """Embeddings (2, d) of one fixed picture and one text, not through the cache."""
    from PIL import Image

    ramp = np.arange(64, dtype=np.uint8)
    pixels = np.stack([np.add.outer(ramp, 3 * ramp), np.add.outer(2 * ramp, ramp), np.add.outer(ramp, ramp)], axis=-1)
    picture = encoder.preprocess(Image.fromarray(pixels))
    return np.concatenate([encoder.encode_pixels(picture[None]), encoder.encode_texts([_TEXT])]).astype(np.float32)


def _facts(encoder: Encoder) -> tuple[Any, ...]:
    return encoder.name, encoder.fingerprint, encoder.dim, float(encoder.logit_scale)
