"""vLLM's own OpenAI-compatible server on loopback, for tests and the bench of agreement."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx

_PATIENCE = 240.0  # seconds to start, on a machine that does other things too
_ALWAYS: Mapping[str, Any] = {"host": "127.0.0.1", "dtype": "float32", "generation-config": "vllm"}
_QUIET = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING", "VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}


@contextmanager
def vllm_server(log: Path, **options: Any) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A running server and its address (with /v1); it and all that it started end with the context.

    Args:
        log: file that its output goes to.
        options: of the server, `_` for `-`; True for a flag.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager", "--port", str(port)]
    for name, value in {**_ALWAYS, **options}.items():
        command += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            env=os.environ | _QUIET,
            cwd=log.parent,
            start_new_session=True,
        )
    try:
        _wait(process, port, log)
        yield process, f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=5.0, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.5)
    raise AssertionError(log.read_text(errors="replace")[-3000:])
