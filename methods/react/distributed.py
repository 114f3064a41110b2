"""Several processes by `torchrun`; a single process needs no launcher and comes through here unchanged."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from trireme.errors import DataError, UsageError

T = TypeVar("T")


def rank() -> int:
    """This process among all, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def processes() -> int:
    """How many there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def launched() -> bool:
    """Whether `torchrun` started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that `torchrun` started, NCCL on GPUs and gloo on CPUs; nothing without it."""
    if not launched():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # the first process may wait for another command that makes the same encoder, the others then wait for it
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(days=2))
    try:
        yield
    finally:
        dist.destroy_process_group()


def barrier() -> None:
    """Wait until every process is here."""
    if processes() > 1:
        dist.barrier()


def decided(decide: Callable[[], T], device: torch.device) -> T:
    """What the first process finds, in all of them; the others do not look for themselves.

    Processes on other hardware may round otherwise. Were each to decide by its own numbers how training goes on, one
    would stop while the others wait for it.

    Args:
        decide: gives plain data, which travels pickled.
    """
    if processes() == 1:
        return decide()
    held = [decide() if rank() == 0 else None]
    dist.broadcast_object_list(held, src=0, device=device)
    found: T = held[0]  # type: ignore[assignment]
    return found


def check_same(what: T, device: torch.device, message: str) -> None:
    """DataError with `message` in a process where `what` is not what it is in the first one."""
    if decided(lambda: what, device) != what:
        raise DataError(f"process {rank()} {message}")


def check_split(batch: int, accumulation: int) -> None:
    """UsageError where the passes of a batch cannot be dealt out evenly."""
    if batch % (accumulation * processes()):
        raise UsageError(
            f"batch={batch} cannot be dealt out to {processes()} processes in {accumulation} passes each; "
            f"choose a multiple of {accumulation * processes()}"
        )
