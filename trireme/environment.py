"""Where and with what a run was computed: package versions, git state, machine, peak memory."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import trireme

PACKAGES = (
    "torch",
    "torchvision",
    "open_clip_torch",
    "transformers",
    "timm",
    "faiss-cpu",
    "faiss-gpu-cu12",
    "numpy",
    "pandas",
    "pyarrow",
    "pillow",
    "safetensors",
)


_MMAP_MAX, _TRIM_THRESHOLD = -4, -1  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Have glibc keep what is freed for the next request of this process; False where there is no glibc.

    It else gives large blocks back at once, and torch on a CPU asks for the same ones again in every step: up to half
    of the time of a forward pass went into the kernel's page faults. The peak stays what it was. Arrow, where it is not
    imported yet, asks glibc too: with an allocator of its own, neither could use what the other frees.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    try:
        library = ctypes.CDLL(None)
        return bool(library.mallopt(_MMAP_MAX, 0)) and bool(library.mallopt(_TRIM_THRESHOLD, -1))
    except (AttributeError, OSError, TypeError):  # another C library, or none to ask
        return False


def versions() -> dict[str, str]:
    """Version of Python, of Trireme and of every package that can touch a number; absent ones are left out."""
    found = {"python": platform.python_version(), "trireme": trireme.__version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def git_state() -> dict[str, Any] | None:
    """{commit, dirty} of the checkout that Trireme is imported from, None for an installed copy."""
    root = Path(trireme.__path__[0]).resolve().parent
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        dirty = bool(_git(root, "status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": dirty}


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory, torch's threads and GPU."""
    import torch

    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def reset_peak_memory() -> None:
    """Start a new peak where Linux allows it (proc(5), clear_refs 5); elsewhere it is the whole process's."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_memory_mib() -> float:
    """Largest resident size of this process since the last reset, MiB: libraries and pages of mapped files, too."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024
