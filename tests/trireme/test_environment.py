"""What a process asks of the C library before it computes."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_PROBE = """
import resource
from trireme.environment import keep_freed_memory
keep = {keep}
if keep:
    assert keep_freed_memory()
def take():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = b"1" * 200_000_000
    del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
take()
print(take())
"""


def faults(keep: bool) -> int:
    """Page faults of a second block of 200 MB, after a first one was freed."""
    command = [sys.executable, "-c", _PROBE.format(keep=keep)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other ways")
def test_what_was_freed_is_there_without_page_faults() -> None:
    assert faults(keep=True) < 100  # 200 MB are 48,828 pages of 4 KiB; with huge pages fewer, but never none
    assert faults(keep=False) >= 90


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other ways")
def test_arrow_takes_its_memory_where_the_rest_does() -> None:
    probe = (
        "from trireme.environment import keep_freed_memory; keep_freed_memory(); "
        "import pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["system"]
