"""`trireme train lite` on real pictures, shortened: it learns, touches the head alone, leaves whole files or none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from trireme.errors import DataError, UsageError
from trireme.files import fingerprint
from trireme.retrieval.encoders.lite import LiteEncoder, trunk
from trireme.retrieval.encoders.lite.augment import augment
from trireme.retrieval.encoders.lite.checkpoint import HEAD_FILE, RECORD_FILE, committed_weights, read_head, write_head
from trireme.retrieval.encoders.lite.losses import contrastive, keep_neighbours
from trireme.retrieval.encoders.lite.text import text_folder
from trireme.retrieval.encoders.lite.training import TrainingSet, TrainLiteConfig, fit, train
from trireme.retrieval.encoders.lite.validation import embed
from trireme.retrieval.encoders.lite.views import read_pixels
from trireme.types import Benchmark, Pair, PairSet

SHORT = TrainLiteConfig(epochs=8, views=2, batch_size=16, warmup_steps=5, evaluate_every=4, width=64)


@pytest.fixture(scope="module")
def record(few: PairSet, few_validation: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("trained")
    return train(SHORT, few, few_validation, out), out


def test_training_lowers_the_loss_and_learns_its_classes(
    record: tuple[dict, Path], few: PairSet, few_validation: Benchmark
) -> None:
    written, out = record
    losses = [row["loss"] for row in written["epochs"]]
    assert losses[-1] < losses[0]
    encoder = LiteEncoder(LiteEncoder.Config(device="cpu", weights=str(out / HEAD_FILE)))
    pairs = few.pairs()
    labels = sorted({pair.label for pair in pairs})
    names = encoder.encode_texts(
        [few_validation.class_names[few_validation.class_ids.index(label)] for label in labels]
    )
    images = encoder.encode_pixels(read_pixels([pair.image for pair in pairs]))
    right = np.mean((images @ names.T).argmax(1) == [labels.index(pair.label) for pair in pairs])
    assert right > 0.5  # chance among 30 classes is 3 %


def test_record_says_what_was_trained_on(record: tuple[dict, Path], few: PairSet, few_validation: Benchmark) -> None:
    written, out = record
    assert json.loads((out / RECORD_FILE).read_text()) == written
    assert written["config"] == asdict(SHORT)
    assert written["training"]["pictures"] == len(few.pairs())
    assert written["training"]["classes"] == len({pair.label for pair in few.pairs()})
    assert written["training"]["pictures_fingerprint"] == fingerprint(sorted(pair.id for pair in few.pairs()))
    assert written["frozen"] == {"trunk": trunk.WHEEL_SHA256, "text": written["frozen"]["text"]}


def test_committed_record_is_of_training_roles_alone(train_common: PairSet, validation: Benchmark) -> None:
    """What ships was trained on exactly `world/train-common`: no test or validation family, common classes only."""
    written = json.loads(committed_weights().with_name(RECORD_FILE).read_text())
    pairs = train_common.pairs()
    groups = dict(zip(validation.class_ids, validation.class_groups, strict=True))
    assert {groups[pair.label] for pair in pairs} == {"common"}
    assert not {pair.source for pair in pairs} & {"twemoji", "noto", "emojione-v1"}
    assert written["training"]["fingerprint"] == train_common.fingerprint
    assert written["training"]["pictures_fingerprint"] == fingerprint(sorted(pair.id for pair in pairs))
    assert written["training"]["sources"] == sorted({pair.source for pair in pairs})
    assert written["config"] == asdict(TrainLiteConfig())  # the command without arguments makes them


def test_only_the_head_trains(few: PairSet, few_validation: Benchmark, tmp_path: Path) -> None:
    """The frozen models' files are byte for byte what they were, and no frozen value is among the trained ones."""
    files = [trunk.trunk_file(), *sorted(text_folder().iterdir())]
    before = [file.read_bytes() for file in files]
    short = TrainLiteConfig(epochs=1, views=1, batch_size=16, width=64)
    written = train(short, few, few_validation, tmp_path)
    assert [file.read_bytes() for file in files] == before
    head = read_head(tmp_path / HEAD_FILE)
    assert written["trained_parameters"] == sum(value.numel() for value in head.parameters())
    assert not {"stem", "early", "late"} & {name.split(".")[0] for name in head.state_dict()}


def test_same_seed_same_head_other_seed_other_head() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 24, 16, trunk.WIDTH, generator=generator).bfloat16()
    texts = torch.nn.functional.normalize(torch.randn(24, 384, generator=generator), dim=-1)
    data = TrainingSet(tokens, torch.arange(24) % 6, texts[:6], texts)
    short = TrainLiteConfig(epochs=3, batch_size=8, width=64, precision="float32")
    first, second = (fit(short, data, None)[0] for _ in range(2))
    third = fit(TrainLiteConfig(**{**asdict(short), "seed": 1}), data, None)[0]
    a, b, c = (embed(head, tokens[0]) for head in (first, second, third))
    torch.testing.assert_close(a, b, atol=0, rtol=0)
    assert float((a - c).abs().max()) > 0.01


def test_equal_weights_are_equal_bytes(tmp_path: Path) -> None:
    """Written by processes of their own, whose hashes of texts differ; what ships is written so as well."""
    code = (
        "import sys, torch; from pathlib import Path\n"
        "from trireme.retrieval.encoders.lite.checkpoint import write_head\n"
        "from trireme.retrieval.encoders.lite.model import HeadShape, LiteHead\n"
        "torch.manual_seed(0); write_head(Path(sys.argv[1]), LiteHead(HeadShape(width=64)), {})\n"
    )
    written = []
    for seed in ("1", "2", "3"):
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / seed)], env={**os.environ, "PYTHONHASHSEED": seed}, check=True
        )
        written.append((tmp_path / seed / HEAD_FILE).read_bytes())
    assert written[0] == written[1] == written[2]
    again = write_head(tmp_path, read_head(committed_weights()), {})
    assert again.read_bytes() == committed_weights().read_bytes()


@pytest.mark.slow
def test_killed_training_leaves_nothing(tmp_path: Path) -> None:
    """kill -9 in the middle of the epochs: no file is there that looks like a result."""
    code = (
        "import sys; from pathlib import Path\n"
        "from trireme.benchmarks.world import open_benchmark, open_pairs\n"
        "from trireme.retrieval.encoders.lite.training import TrainLiteConfig, train\n"
        "config = TrainLiteConfig(epochs=10_000, views=1, width=64)\n"
        "train(config, open_pairs('world/tiny-train'), open_benchmark('world/tiny-validation'), Path(sys.argv[1]))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    deadline = time.monotonic() + 120
    for line in process.stderr:
        assert time.monotonic() < deadline
        if "zero_shot" in line:  # it trains, and has measured once
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert list(tmp_path.iterdir()) == []


def test_bad_requests_are_named(few: PairSet, few_validation: Benchmark, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batch_size"):
        train(TrainLiteConfig(batch_size=1), few, few_validation, tmp_path)
    with pytest.raises(UsageError, match="float16"):
        train(TrainLiteConfig(precision="float16"), few, few_validation, tmp_path)

    class Strange:
        name = fingerprint = "strange"

        def pairs(self) -> list[Pair]:
            pair = few.pairs()[0]
            return [Pair("odd/1", pair.image, pair.caption, "no-such-class")]

    with pytest.raises(DataError, match=r"odd/1.*no-such-class"):
        train(SHORT, Strange(), few_validation, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_contrastive_loss_by_hand() -> None:
    """Two pictures of one class and one of another, cosines written out."""
    images = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), dim=-1)
    texts = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    logits = 2.0 * np.array([[1, 1, 0], [0.6, 0.6, 0.8], [0, 0, 1]])
    target = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])

    def cross_entropy(values: np.ndarray) -> float:
        return float(-(target * (values - np.log(np.exp(values).sum(1, keepdims=True)))).sum(1).mean())

    expected = (cross_entropy(logits) + cross_entropy(logits.T)) / 2
    got = contrastive(images, texts, torch.tensor([7, 7, 3]), torch.tensor(2.0))
    assert float(got) == pytest.approx(expected, rel=1e-5)


def test_contrastive_loss_is_clips_when_classes_differ() -> None:
    generator = torch.Generator().manual_seed(1)
    images, texts = torch.nn.functional.normalize(torch.randn(2, 5, 8, generator=generator), dim=-1)
    logits, own = 10.0 * images @ texts.T, torch.arange(5)
    clip = (torch.nn.functional.cross_entropy(logits, own) + torch.nn.functional.cross_entropy(logits.T, own)) / 2
    torch.testing.assert_close(contrastive(images, texts, own, torch.tensor(10.0)), clip)


def test_keep_neighbours_is_zero_for_the_teacher_itself() -> None:
    rows = torch.nn.functional.normalize(torch.randn(6, 5, generator=torch.Generator().manual_seed(2)), dim=-1)
    assert float(keep_neighbours(rows, rows, 0.1)) == pytest.approx(0.0, abs=1e-6)
    assert float(keep_neighbours(rows.roll(1, 0), rows, 0.1)) > 0.01


@pytest.mark.parametrize("paint", [lambda x: x * 0 + 1.0, lambda x: x])
def test_augmented_views_keep_range_and_white(paint: Callable[[torch.Tensor], torch.Tensor]) -> None:
    pixels = paint(torch.rand(12, 3, 128, 128, generator=torch.Generator().manual_seed(3)) * 2 - 1)
    views = augment(pixels, torch.Generator().manual_seed(4))
    assert views.shape == pixels.shape
    assert float(views.min()) >= -1.0 - 1e-5
    assert float(views.max()) <= 1.0 + 1e-5
    if float(pixels.min()) == 1.0:
        torch.testing.assert_close(views, pixels, atol=1e-4, rtol=0)  # white pictures stay white
    else:
        other = augment(pixels, torch.Generator().manual_seed(5))
        assert float((views - other).abs().max()) > 0.1
    again = augment(pixels, torch.Generator().manual_seed(4))
    torch.testing.assert_close(views, again, atol=0, rtol=0)
