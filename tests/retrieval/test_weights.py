"""Weights files of others: what is read, what is refused and why, and how differences are named."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from trireme.errors import DataError
from trireme.retrieval.encoders.weights import differences, read_state, same_tensor

STATE = {"a.weight": torch.arange(600.0).view(20, 30), "b": torch.tensor(2.0)}
RAN: list[str] = []


def _run(text: str) -> None:
    RAN.append(text)


class _Code:
    """Something whose unpickling calls a function."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return _run, ("code of the file ran",)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ["w.pt", "w.bin"])
def test_what_training_writes_is_read(tmp_path: Path, name: str, legacy: bool) -> None:
    """Bare and under `state_dict` beside an optimiser, in PyTorch's zip format and in the one before it."""
    full = {"epoch": 3, "name": "run", "state_dict": STATE, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}}
    for content in (STATE, full):
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=not legacy)
        read = read_state(tmp_path / name)
        assert list(read) == list(STATE)
        assert all(torch.equal(read[key], STATE[key]) for key in STATE)


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors")
    assert all(torch.equal(value, STATE[name]) for name, value in read_state(tmp_path / "w.safetensors").items())


def test_no_code_of_a_file_is_run(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "extra": _Code()}, tmp_path / "code.pt")
    with pytest.raises(DataError, match=r"code\.pt holds the Python object \S*_run, whose loading would run code"):
        read_state(tmp_path / "code.pt")
    (tmp_path / "raw.bin").write_bytes(pickle.dumps({"a": _Code()}, protocol=2))
    with pytest.raises(DataError, match=r"raw\.bin holds the Python object \S*_run"):
        read_state(tmp_path / "raw.bin")
    assert RAN == []


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_truncated_files_are_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save_file(STATE, path)
    else:
        torch.save({"state_dict": STATE}, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    for keep in (0, 5, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:keep])
        with pytest.raises(DataError, match=rf"{path.name} is (damaged or no weights file|no weights file)") as caught:
            read_state(path)
        assert "\n" not in str(caught.value)


def test_other_content_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.pt does not exist"):
        read_state(tmp_path / "absent.pt")
    (tmp_path / "pointer.pt").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match=r"pointer\.pt is no weights file of PyTorch"):
        read_state(tmp_path / "pointer.pt")
    for content in ([1], {}, {"state_dict": {"a": 1}}, torch.zeros(2)):
        torch.save(content, tmp_path / "odd.pt")
        with pytest.raises(DataError, match=r"odd\.pt holds no state dict"):
            read_state(tmp_path / "odd.pt")


def test_differences_are_counted_and_named() -> None:
    zeros = {name: torch.zeros(2, 3) for name in "abcdefg"}
    assert differences(zeros, dict(reversed(zeros.items()))) == ""
    given = {**{name: zeros[name] for name in "ef"}, "x": zeros["a"], "g": torch.zeros(4)}
    assert differences(zeros, given) == (
        "4 missing (a, b, c, ...), 1 unknown (x), 1 of another shape (g (4,) for (2, 3))"
    )


def test_same_tensor_is_bit_for_bit() -> None:
    one = torch.tensor([1.0, 2.0])
    assert same_tensor(one, one.clone())
    for other in (one.bfloat16(), one[:1], one + 1e-6, torch.tensor([1.0, float("nan")])):
        assert not same_tensor(other, one)
    assert not same_tensor(other, other)
