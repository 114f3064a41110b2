"""Runs what a page of the documentation shows, from its first block to its last, in one folder.

`bash` and `python` blocks are run; a `yaml` or `python` block whose first line is a comment with a path is written to
that path instead.
Other blocks, and indented ones, are only shown.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line of the page that it starts on."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    content = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(content):
        yield Block(found[1], found[2], content.count("\n", 0, found.start()) + 2)


def run_page(page: Path, folder: Path, home: Path) -> str:
    """Run a page in a folder, `trireme` being this checkout's; what it printed.

    Raises:
        AssertionError: a block failed; names its line and holds what it printed.
    """
    programs = folder / ".programs"
    programs.mkdir(parents=True)
    (programs / "trireme").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m trireme "$@"\n')
    (programs / "trireme").chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "TRIREME_HOME": str(home), "OMP_NUM_THREADS": "1"}
    printed = []
    for block in blocks(page):
        if block.language in ("yaml", "python") and (name := re.match(r"# (\S+\.(?:yaml|py))\n", block.text)):
            file = folder / name[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text)
            continue
        if block.language not in ("bash", "python"):
            continue
        command = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
        done = subprocess.run(
            [*command, block.text], cwd=folder, env=environment, text=True, capture_output=True, timeout=600
        )
        told = f"{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, f"{page.name}, line {block.line}: exit {done.returncode}\n{block.text}\n{told}"
        printed.append(told)
    return "\n".join(printed)
