"""Several processes by `torchrun`; a single process needs no launcher and comes through here unchanged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from trireme.errors import UsageError


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


def agreed(answer: bool, device: torch.device) -> bool:
    """The first process's answer, in all of them."""
    if processes() == 1:
        return answer
    flag = torch.tensor([int(answer)], device=device)
    dist.broadcast(flag, src=0)
    return bool(flag.item())


def check_split(batch: int, accumulation: int) -> None:
    """UsageError where the passes of a batch cannot be dealt out evenly."""
    if batch % (accumulation * processes()):
        raise UsageError(
            f"batch={batch} cannot be dealt out to {processes()} processes in {accumulation} passes each; "
            f"choose a multiple of {accumulation * processes()}"
        )
