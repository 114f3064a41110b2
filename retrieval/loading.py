"""Reading pictures for a model: ahead of one that computes elsewhere, or in turns with one that needs the same cores.

Both give the same results in the same order. `load` gets neighbours of one file and their keys, and answers for each.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby, islice

import torch

from trireme.retrieval.segments import Bytes
from trireme.types import ImageRef

Load = Callable[[Sequence[ImageRef], Bytes], list[torch.Tensor | str]]
Loaded = Iterator[tuple[int, torch.Tensor | str]]

_TOGETHER = 16  # regions of one file that are cut out of one reading of it, where they are asked one after the other
_TRIAL = 8  # files that are loaded without threads, to see how long one takes
_WORTH_A_THREAD = 0.001  # seconds; below it threads lose more by waiting for Python's lock than they win


def ahead(load: Load, refs: Sequence[ImageRef], keys: Bytes, workers: int, window: int) -> Loaded:
    """Results in order, loaded by threads about `window` pictures ahead of the consumer."""
    pool = _pool(workers)
    pending: deque[Future[list[torch.Tensor | str]]] = deque()
    parts = _by_file(refs)
    submitted, position = 0, 0
    try:
        while position < len(refs):
            while submitted < len(refs) and submitted - position < window:
                part = next(parts)
                pending.append(pool.submit(load, refs[part], keys[part]))
                submitted = part.stop
            for loaded in pending.popleft().result():
                yield position, loaded
                position += 1
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_turns(load: Load, refs: Sequence[ImageRef], keys: Bytes, workers: int, window: int) -> Loaded:
    """Results in order, about `window` pictures loaded while the consumer waits, none while it works.

    Small pictures are loaded by the caller's thread, others by threads.
    """

    def one_part(part: slice) -> list[torch.Tensor | str]:
        return load(refs[part], keys[part])

    parts = _by_file(refs)
    position = 0
    with _pool(workers) as pool:
        block, threads = list(islice(parts, _TRIAL)), False
        while block:
            start = time.perf_counter()
            answers = pool.map(one_part, block) if threads else map(one_part, block)
            loaded = [one for answer in answers for one in answer]
            threads = threads or time.perf_counter() - start > _WORTH_A_THREAD * len(block)
            for one in loaded:
                yield position, one
                position += 1
            block = _next(parts, window)


def _pool(workers: int) -> ThreadPoolExecutor:
    # torch starts a team of threads for every thread that uses it, whose number of threads makes all teams wait slower
    return ThreadPoolExecutor(workers, "trireme-load", initializer=torch.set_num_threads, initargs=(1,))


def _next(parts: Iterator[slice], window: int) -> list[slice]:
    """The next parts, until they hold `window` pictures."""
    found: list[slice] = []
    for part in parts:
        found.append(part)
        if part.stop - found[0].start >= window:
            break
    return found


def _by_file(refs: Sequence[ImageRef]) -> Iterator[slice]:
    """Neighbours that are of one file, at most `_TOGETHER` of them."""
    start = 0
    for _, group in groupby(refs, key=lambda ref: ref.path):
        end = start + sum(1 for _ in group)
        for first in range(start, end, _TOGETHER):
            yield slice(first, min(first + _TOGETHER, end))
        start = end
