"""REACT in other processes: two that train together, one that is killed, two that ask at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from trireme.methods import checkpoints
from trireme.methods.base import Context
from trireme.methods.react.steps import Stepper

from .customising import PowerCutError, apart, customise, disc_context, power_cut, same_tensors

BUSY: dict[str, Any] = {"variant": "locked_text", "lr": 1e-3, "epochs": 3, "averaging": 0.6, "caption_parts": 0.5}
TOGETHER: list[dict[str, Any]] = [
    {**BUSY, "variant": "gated_image", "patience": 1, "interpolation": [1.0, 0.5]},
    {**BUSY, "accumulation": 2, "clip": 1.0},
    {**BUSY, "variant": "full", "grad_checkpointing": True},
    {**BUSY, "variant": "locked_image", "accumulation": 4},
]


@pytest.fixture
def context(clip_folder: Path, tmp_path: Path) -> Context:
    return disc_context(clip_folder, tmp_path)


@pytest.mark.slow
def test_two_processes_train_what_one_trains(clip_folder: Path, context: Context, tmp_path: Path) -> None:
    """The same batches dealt out to two processes: the same losses, choices and weights, up to the order of sums."""
    alone = [customise(context, **options) for options in TOGETHER]
    context.artifacts = tmp_path / "together"
    started = apart(clip_folder, context, *TOGETHER, processes=2)
    _, said = started.communicate(timeout=300)
    assert started.returncode == 0, said[-3000:]
    for options, one in zip(TOGETHER, alone, strict=True):
        other = customise(context, **options)
        assert other.name == one.name
        wanted, found = load_file(one.encoder), load_file(other.encoder)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            torch.testing.assert_close(
                without_key_bias(name, found[name]), without_key_bias(name, value), rtol=0, atol=1e-5, msg=name
            )
        facts, expected = (dict(part.record["training"]) for part in (other, one))
        assert facts.pop("losses") == pytest.approx(expected.pop("losses"), abs=1e-4)
        assert facts.pop("logit_scale") == pytest.approx(expected.pop("logit_scale"), abs=2e-3)
        assert facts == expected
        assert other.record["interpolation"] == one.record["interpolation"]
    assert "going on" not in said
    assert len(list((context.artifacts / "react").glob("*/record.json"))) == len(TOGETHER)
    assert not list((context.artifacts / "react").glob("*.partial"))


@pytest.mark.slow
def test_the_first_process_decides_for_all(clip_folder: Path, context: Context, tmp_path: Path) -> None:
    """By hand: the first one's scores rise from 51 with every measurement, so it never stops early, prefers of three
    shares the one measured last, and of two recipes the second. By the scores of the other, which fall, that one would
    stop after two epochs of either recipe."""
    options = {**BUSY, "patience": 1, "interpolation": [1.0, 0.5, 0.25], "train_grid": {"lr": [1e-3, 2e-3]}}
    started = apart(clip_folder, context, options, processes=2, contrary="scores")
    out, said = ended(started)
    assert started.returncode == 0, said[-3000:]
    [first, other] = sorted(line.split() for line in out.splitlines())
    assert (first[0], other[0]) == ("0", "1")
    assert first[1] == other[1], "the processes chose different recipes"
    records = {path.parent.name: json.loads(path.read_text()) for path in context.artifacts.glob("react/*/record.json")}
    assert len(records) == 2
    measured = {record["key"]["options"]["lr"]: record["training"] for record in records.values()}
    assert [entry["all"] for entry in measured[1e-3]["measured"]] == [51, 52, 53]
    assert [entry["all"] for entry in measured[2e-3]["measured"]] == [58, 59, 60], (
        "after the base's 54 and three shares"
    )
    for record in records.values():
        assert not record["training"]["stopped_early"]
        assert record["training"]["kept_epoch"] == 3
        assert record["interpolation"] == 0.25
    assert records[first[1]]["key"]["options"]["lr"] == 2e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("contrary", "message"),
    [
        ("pairs", "process 1 would train something else than the first one"),
        ("checkpoints", "process 1 does not find the first one's "),
    ],
)
def test_processes_that_see_different_things_end_with_one_line(
    contrary: str, message: str, clip_folder: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would wait for each other for ever."""
    options = {**BUSY, "checkpoint_every": 1}
    monkeypatch.setattr(Stepper, "update", power_cut(2))
    with pytest.raises(PowerCutError):
        customise(context, **options)  # alone: leaves a checkpoint after its first step
    started = apart(clip_folder, context, options, processes=2, contrary=contrary)
    _, said = ended(started)
    assert started.returncode != 0
    assert f"trireme.errors.DataError: {message}" in said


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it printed; one that hangs is ended, and its processes with it."""
    try:
        return process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.communicate(timeout=60)
        raise


def without_key_bias(name: str, value: torch.Tensor) -> torch.Tensor:
    """A key's bias adds the same to every score of a query, and softmax does not see it: its gradient is zero but for
    rounding, which AdamW turns into steps that no two orders of summation share."""
    if not name.endswith("in_proj_bias"):
        return value
    query, _, values = value.chunk(3)
    return torch.cat([query, values])


def test_a_killed_training_goes_on_bit_for_bit(
    clip_folder: Path, context: Context, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """kill -9 in the middle of a real process, after some of its twelve steps."""
    options = {**BUSY, "epochs": 6, "checkpoint_every": 1, "accumulation": 2, "patience": 4}
    whole = customise(context, **options)
    context.artifacts = tmp_path / "killed"
    process = apart(clip_folder, context, options, pause=0.1)
    end = time.monotonic() + 120
    while not (files := list(context.artifacts.glob("react/*.partial/checkpoint.safetensors"))) or _step(files[0]) < 3:
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < end, "the other process wrote no checkpoint"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    step = _step(files[0])
    assert 3 <= step < 12
    capsys.readouterr()
    resumed = customise(context, **options)
    assert f"going on after step {step} of 12" in capsys.readouterr().err
    same_tensors(whole.encoder, resumed.encoder)
    assert whole.record == resumed.record


def _step(checkpoint: Path) -> int:
    state = checkpoints.load(checkpoint)
    return 0 if state is None else state.step


def test_two_processes_that_ask_at_once_train_once(
    clip_folder: Path, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process is training; this one waits for it and takes what it made, without a step of its own."""
    options = {**BUSY, "checkpoint_every": 1}
    alone = customise(context, **options)
    context.artifacts = tmp_path / "asked"
    process = apart(clip_folder, context, options, pause=0.1)
    end = time.monotonic() + 120
    while not list(context.artifacts.glob("react/*.partial/checkpoint.safetensors")):
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < end, "the other process wrote no checkpoint"
        time.sleep(0.02)

    def forbidden(*_: object) -> None:
        raise AssertionError("trained twice")

    monkeypatch.setattr(Stepper, "update", forbidden)
    found = customise(context, **options)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    same_tensors(alone.encoder, found.encoder)
    assert found.record == alone.record
