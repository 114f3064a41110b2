"""Encoders that a config declares as customised: which settings they may have, told before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.conftest import draw
from trireme.customised import customised_file
from trireme.errors import UsageError
from trireme.methods.react import React
from trireme.request import parse
from trireme.workbench import Workbench

MODEL = "encoder: open_clip\nmodel: ViT-S-32-alt\nrandom: true\n"
CUSTOMISE = "customise:\n  method: react-paper\n  benchmark: folder:test\n  memory: folder:train\n"


class FittedError(Exception):
    """Stands for hours of training."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the encoder configs `small` and, customised from it, `mine`; returns that of configs."""
    monkeypatch.setenv("TRIREME_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TRIREME_CONFIGS", raising=False)
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "test", 2, seed=1)
    draw(tmp_path / "train", 2, seed=2)
    made = tmp_path / "configs" / "encoder"
    made.mkdir(parents=True)
    (made / "small.yaml").write_text(MODEL)
    (made / "mine.yaml").write_text(f"{MODEL}{CUSTOMISE}  base: small\n")

    def fit(*_: object) -> None:
        raise FittedError

    monkeypatch.setattr(React, "fit", fit)
    return made


def opened(*arguments: str, encoder: str = "mine") -> None:
    request = parse([f"encoder={encoder}", "method=zero_shot", "benchmark=folder:test", *arguments])
    Workbench(request, customised_file).encoder(encoder)


@pytest.mark.parametrize(
    ("argument", "instead"),
    [
        ("encoder.dtype=bfloat16", "write dtype=bfloat16 without `encoder.`: it holds for both"),
        ("encoder.react=x.safetensors", "write encoder=small encoder.react=x.safetensors"),
        (
            "encoder.seed=3",
            "put `seed: 3` into an encoder config of its own and name that config in `customise:` as `base:`",
        ),
    ],
)
def test_the_command_line_makes_no_other_encoder_of_it(argument: str, instead: str) -> None:
    """Training took the base as its config has it, and only then was it found that the file does not fit."""
    with pytest.raises(UsageError) as caught:
        opened(argument)
    key = argument.partition("=")[0]
    assert str(caught.value) == (
        f"{key} cannot change 'mine', which is customised from 'small' as its config says; {instead}"
    )


@pytest.mark.parametrize(
    "arguments",
    [(), ("encoder.device=cpu",), ("dtype=bfloat16",), ("encoder.dtype=float32",), ("dtype=float16", "device=cpu")],
    ids=" ".join,
)
def test_what_leaves_it_the_same_encoder_is_welcome(arguments: tuple[str, ...]) -> None:
    with pytest.raises(FittedError):
        opened(*arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{MODEL}seed: 3\n{CUSTOMISE}  base: small\n", "encoder odd: its seed is not that of its base 'small'"),
        (f"{MODEL}dtype: float16\n{CUSTOMISE}  base: small\n", "encoder odd: its dtype is not that of its base"),
        (MODEL + CUSTOMISE, "encoder odd: its model is not that of its base 'open_clip'; set it in an encoder config"),
        (f"{MODEL}{CUSTOMISE}  base: lite\n", "encoder odd is open_clip, but its base 'lite' is lite"),
        (f"{MODEL}{CUSTOMISE}  base: mine\n", "encoder odd: its base 'mine' is customised already"),
        (f"{MODEL}{CUSTOMISE}  base: smal\n", "unknown encoder 'smal'; did you mean 'small'"),
    ],
)
def test_its_own_config_says_what_its_base_says(text: str, message: str, folder: Path) -> None:
    (folder / "odd.yaml").write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        opened(encoder="odd")
    assert "\n" not in str(caught.value)
