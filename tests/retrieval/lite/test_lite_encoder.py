"""`LiteEncoder` with the committed weights: shapes, determinism, fingerprint, damaged weights, what it recognises."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from trireme.errors import DataError
from trireme.plan import make_plan
from trireme.request import parse
from trireme.retrieval.encoders.base import Encoder, load_image
from trireme.retrieval.encoders.lite import LiteEncoder
from trireme.retrieval.encoders.lite.checkpoint import committed_weights, read_head
from trireme.retrieval.encoders.lite.model import HeadShape, LiteHead
from trireme.types import Benchmark, Sample
from trireme.workbench import Workbench


@pytest.fixture(scope="module")
def pixels(encoder: LiteEncoder, samples: list[Sample]) -> torch.Tensor:
    return torch.stack([encoder.preprocess(load_image(sample.image.path)) for sample in samples])


def test_is_an_encoder(encoder: LiteEncoder) -> None:
    assert isinstance(encoder, Encoder)
    assert (encoder.name, encoder.dim) == ("lite", 384)
    assert len(encoder.fingerprint) == 16
    assert 1 < encoder.logit_scale <= 100  # CLIP's own bounds of the factor


def test_embeddings_are_unit_vectors_of_384(encoder: LiteEncoder, pixels: torch.Tensor) -> None:
    for values in (encoder.encode_pixels(pixels[:5]), encoder.encode_texts(["fox", "a very long text " * 90])):
        assert values.shape[1] == 384
        assert values.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1.0, atol=1e-5)
    assert encoder.encode_pixels(pixels[:0]).shape == (0, 384)
    assert encoder.encode_texts([]).shape == (0, 384)


def test_batches_and_order_change_nothing(encoder: LiteEncoder, pixels: torch.Tensor) -> None:
    together = encoder.encode_pixels(pixels[:21])
    single = np.concatenate([encoder.encode_pixels(one[None]) for one in pixels[:21]])
    np.testing.assert_allclose(together, single, atol=2e-5)
    order = np.random.default_rng(0).permutation(21)
    np.testing.assert_allclose(encoder.encode_pixels(pixels[order]), together[order], atol=2e-5)
    np.testing.assert_array_equal(encoder.encode_pixels(pixels[:21]), together)
    texts = ["fox", "grapes on a plate, " * 12, "a", "the long way home"] * 20
    alone = np.concatenate([encoder.encode_texts([one]) for one in texts[:4]] * 20)
    np.testing.assert_allclose(encoder.encode_texts(texts), alone, atol=2e-5)


def test_another_instance_gives_the_same(encoder: LiteEncoder, pixels: torch.Tensor) -> None:
    other = LiteEncoder(LiteEncoder.Config(device="cpu"))
    assert other.fingerprint == encoder.fingerprint
    np.testing.assert_array_equal(other.encode_pixels(pixels[:8]), encoder.encode_pixels(pixels[:8]))


def test_tokens_lead_to_the_embedding(encoder: LiteEncoder, pixels: torch.Tensor) -> None:
    """What a method that caches tokens relies on: the head alone makes the embedding, and so do its three steps."""
    tokens = torch.from_numpy(encoder.encode_tokens(pixels[:9]))
    assert tokens.shape == (9, 16, 640)
    np.testing.assert_allclose(encoder.encode_features(tokens), encoder.encode_pixels(pixels[:9]), atol=1e-5)
    head = encoder.head
    with torch.inference_mode():
        x = head.embed(tokens)
        for block in head.transformer.resblocks:
            x = block(x)
        np.testing.assert_allclose(head.project(x, tokens).numpy(), encoder.encode_pixels(pixels[:9]), atol=1e-5)


def test_recognises_pictures_it_never_saw(
    encoder: LiteEncoder, pixels: torch.Tensor, samples: list[Sample], validation: Benchmark
) -> None:
    """Validation art, 1,167 names: chance is 0.09 %; the floor lies well below the recorded validation score."""
    names = encoder.encode_texts(validation.class_names)
    right = (encoder.encode_pixels(pixels) @ names.T).argmax(1) == np.array([sample.label for sample in samples])
    common = np.array([validation.class_groups[sample.label] == "common" for sample in samples])
    assert right[common].mean() > 0.35


def test_other_weights_show_in_the_name_and_never_in_a_hash(weights_copy: Path, world: None) -> None:
    """A copy of the committed file under other names: tables tell them apart, runs are the same."""
    mine = weights_copy.with_name("mine.safetensors")
    mine.write_bytes(weights_copy.read_bytes())
    as_trained = f"lite(weights={weights_copy.parent.name})"  # trained weights are always called lite.safetensors
    chosen = {"lite": committed_weights(), "lite(weights=mine)": mine, as_trained: weights_copy}
    hashes = set()
    for name, path in chosen.items():
        assert LiteEncoder(LiteEncoder.Config(weights=str(path))).name == name
        request = parse(["method=zero_shot", "benchmark=world/tiny", "encoder=lite", f"encoder.weights={path}"])
        bench = Workbench(request)
        [run], _ = make_plan(request, bench)
        assert bench.encoder("lite").encoder.name == name
        hashes.add(run.hash)
    assert LiteEncoder().name == "lite"
    assert len(hashes) == 1


def test_fingerprint_depends_on_what_changes_a_number(encoder: LiteEncoder, weights_copy: Path) -> None:
    assert fingerprint_of(weights_copy) == encoder.fingerprint  # the path does not count
    assert LiteEncoder(LiteEncoder.Config(device="auto")).fingerprint == encoder.fingerprint
    assert LiteEncoder(LiteEncoder.Config(dtype="bfloat16")).fingerprint != encoder.fingerprint
    with safe_open(weights_copy, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(weights_copy)
    other = weights_copy.with_name("other.safetensors")
    save_file(tensors, other, metadata={**metadata, "note": "written elsewhere"})
    assert other.read_bytes() != weights_copy.read_bytes()
    assert fingerprint_of(other) == encoder.fingerprint  # nor does how the file is laid out
    save_file({name: value.float() for name, value in tensors.items()}, other, metadata=metadata)
    stored_wider = fingerprint_of(other)
    tensors["proj"][0, 0] += 0.25
    save_file(tensors, other, metadata=metadata)
    heads = {"lite": json.dumps(json.loads(metadata["lite"]) | {"heads": 8})}
    save_file(load_file(weights_copy), weights_copy, metadata=heads)
    assert len({encoder.fingerprint, stored_wider, fingerprint_of(other), fingerprint_of(weights_copy)}) == 4


def fingerprint_of(path: Path) -> str:
    return LiteEncoder(LiteEncoder.Config(weights=str(path))).fingerprint


def test_fingerprint_and_scale_load_no_model(tmp_path: Path) -> None:
    """In a home without any model file: reaching for one would have to download it."""
    code = (
        "from trireme.retrieval.encoders.lite import LiteEncoder; import sys\n"
        "e = LiteEncoder(); print(e.fingerprint, e.logit_scale); sys.exit('timm' in sys.modules)"
    )
    environment = {"TRIREME_HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "models").exists()
    assert done.stdout.split()[0] == LiteEncoder().fingerprint


def test_bfloat16_is_close_to_float32(encoder: LiteEncoder, pixels: torch.Tensor) -> None:
    half = LiteEncoder(LiteEncoder.Config(device="cpu", dtype="bfloat16"))
    cosines = (half.encode_pixels(pixels[:16]) * encoder.encode_pixels(pixels[:16])).sum(1)
    assert cosines.min() > 0.97  # 8 bits of mantissa through some sixty layers
    assert (half.encode_texts(["fox"]) @ encoder.encode_texts(["fox"]).T).item() > 0.99


def test_committed_weights_are_small_and_whole() -> None:
    path = committed_weights()
    assert path.stat().st_size < 10_000_000  # small enough for a repository
    head = read_head(path)
    assert len(head.transformer.resblocks) >= 2
    assert not any(value.requires_grad for value in head.parameters())


@pytest.mark.parametrize("keep", [0, 7, 1000, 0.5, -1])
def test_truncated_weights_are_refused(weights_copy: Path, keep: float) -> None:
    content = weights_copy.read_bytes()
    weights_copy.write_bytes(content[: int(len(content) * keep) if 0 < keep < 1 else int(keep)])
    with pytest.raises(DataError, match=r"lite\.safetensors"):
        read_head(weights_copy)


def test_foreign_and_broken_weights_are_refused(weights_copy: Path, tmp_path: Path) -> None:
    with safe_open(weights_copy, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(weights_copy)
    cases = {
        "missing tensor": ({name: value for name, value in tensors.items() if name != "proj"}, metadata),
        "other shape": (tensors | {"proj": torch.zeros(3, 3)}, metadata),
        "no metadata": (tensors, None),
        "other metadata": (tensors, {"lite": "[1, 2]"}),
        "NaN": (tensors | {"proj": torch.full_like(tensors["proj"], math.nan)}, metadata),
    }
    for case, (values, about) in cases.items():
        path = tmp_path / f"{case}.safetensors"
        save_file(values, path, metadata=about)
        with pytest.raises(DataError, match=case.split()[0] if case == "NaN" else "lite"):
            read_head(path)
    with pytest.raises(DataError, match="trireme train lite"):
        _ = LiteEncoder(LiteEncoder.Config(weights=str(tmp_path / "absent.safetensors"))).logit_scale


def test_head_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    head = LiteHead(HeadShape(layers=3, width=64), dropout=0.1, feature_dropout=0.1, token_dropout=0.5).train()
    (head(torch.randn(6, 16, 640)) @ torch.randn(384)).sum().backward()
    idle = [name for name, value in head.named_parameters() if value.grad is None and name != "logit_scale"]
    assert idle == []
