"""Both ways of reading ahead give what a plain loop gives, and each keeps its promise about threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trireme.retrieval import loading
from trireme.retrieval.loading import Load, Loaded, ahead, in_turns
from trireme.retrieval.segments import Bytes
from trireme.types import ImageRef

Way = Callable[[Load, Sequence[ImageRef], Bytes, int, int], Loaded]


def rows_of(refs: Sequence[ImageRef]) -> Bytes:
    return np.arange(len(refs), dtype=np.uint8).reshape(-1, 1)


def numbered(refs: Sequence[ImageRef], keys: Bytes) -> list[torch.Tensor | str]:
    return [str(key[0]) if key[0] % 3 == 0 else torch.tensor(int(key[0])) for key in keys]


@given(files=st.lists(st.sampled_from("abc"), max_size=60), workers=st.integers(1, 3), window=st.integers(1, 9))
@pytest.mark.parametrize("way", [ahead, in_turns])
def test_results_are_those_of_a_loop_in_its_order(way: Way, files: list[str], workers: int, window: int) -> None:
    refs = [ImageRef(name) for name in files]
    found = list(way(numbered, refs, rows_of(refs), workers, window))
    assert [i for i, _ in found] == list(range(len(refs)))
    assert [str(int(one)) if isinstance(one, torch.Tensor) else one for _, one in found] == [
        str(i) for i in range(len(refs))
    ]


@pytest.mark.parametrize("slow", [True, False])
def test_nothing_loads_in_turns_while_the_consumer_works(slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_WORTH_A_THREAD", 0.0 if slow else 60.0)
    refs = [ImageRef(str(i)) for i in range(50)]
    working, broken, places = threading.Event(), [], set()

    def load(part: Sequence[ImageRef], keys: Bytes) -> list[torch.Tensor | str]:
        places.add(threading.current_thread().name)
        time.sleep(0.001)
        if working.is_set():
            broken.append(part[0].path)
        return ["x"] * len(part)

    for _ in in_turns(load, refs, rows_of(refs), 2, 10):
        working.set()
        time.sleep(0.001)
        working.clear()
    assert not broken
    assert any(name.startswith("trireme-load") for name in places) is slow  # small pictures need no threads


def test_ahead_loads_while_the_consumer_works_but_no_more_than_its_window() -> None:
    refs = [ImageRef(str(i)) for i in range(30)]
    started: list[str] = []

    def load(part: Sequence[ImageRef], keys: Bytes) -> list[torch.Tensor | str]:
        started.append(part[0].path)
        return ["x"] * len(part)

    found = ahead(load, refs, rows_of(refs), 2, 5)
    next(found)
    deadline = time.monotonic() + 10
    while len(started) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(started) == 5
    assert len(list(found)) == 29


@pytest.mark.parametrize("way", [ahead, in_turns])
def test_loading_threads_compute_alone_and_leave_the_callers_threads(way: Way) -> None:
    before, inside = torch.get_num_threads(), []

    def load(part: Sequence[ImageRef], keys: Bytes) -> list[torch.Tensor | str]:
        time.sleep(0.002)
        if threading.current_thread() is not threading.main_thread():
            inside.append(torch.get_num_threads())
        return ["x"] * len(part)

    refs = [ImageRef(str(i)) for i in range(40)]
    list(way(load, refs, rows_of(refs), 2, 8))
    assert set(inside) == {1}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("way", [ahead, in_turns])
def test_an_error_of_a_thread_reaches_the_caller(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_WORTH_A_THREAD", 0.0)

    def load(part: Sequence[ImageRef], keys: Bytes) -> list[torch.Tensor | str]:
        if part[0].path == "20":
            raise MemoryError("no room")
        return ["x"] * len(part)

    refs = [ImageRef(str(i)) for i in range(40)]
    with pytest.raises(MemoryError, match="no room"):
        list(way(load, refs, rows_of(refs), 2, 8))
