"""What a page of the documentation shows: blocks that are run, from the first to the last in one folder, and commands
that are only shown.

`bash` and `python` blocks are run; a `yaml` or `python` block whose first line is a comment with a path is written to
that path instead.
Other blocks, and indented ones, are only shown: their commands are checked (`tests.commands`), not run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = (*sorted((ROOT / "docs").glob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")))
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_RUN = ("bash", "python")
_PROGRAM = re.compile(r"(?:[A-Z_]+=\S+ )*(?:\S*/)?(?:trireme\s|torchrun\s.*-m trireme\s)")
_SPAN = re.compile(r"`([^`\n]+)`")


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


@dataclass(frozen=True)
class Shown:
    """A command of `trireme` that a page shows and nobody runs, and the line of the page that it starts on.

    Attributes:
        spoken: it stands within a sentence.
    """

    text: str
    line: int
    spoken: bool = False

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


def shown(page: Path) -> Iterator[Shown]:
    """The commands of indented blocks, of blocks that are not run, and those within a sentence, in no special order."""
    content = page.read_text(encoding="utf-8")
    run = _BLOCK.sub(lambda found: "\n" * found[0].count("\n") if found[1] in _RUN else found[0], content)
    lines = run.splitlines()
    for number, line in enumerate(lines):
        if _PROGRAM.match(line.strip()):
            yield Shown(_whole(lines, number), number + 1)
        else:
            yield from (Shown(span, number + 1, True) for span in _SPAN.findall(line) if _PROGRAM.match(span))


def _whole(lines: Sequence[str], start: int) -> str:
    """A command with the lines that it goes on in; a comment behind the backslash is left to the shell's rules."""
    parts = []
    for line in lines[start:]:
        parts.append(line.strip().removesuffix("\\").strip())
        if not line.rstrip().endswith("\\"):
            break
    return " ".join(parts)


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
        if block.language not in _RUN:
            continue
        command = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
        done = subprocess.run(
            [*command, block.text], cwd=folder, env=environment, text=True, capture_output=True, timeout=600
        )
        told = f"{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, f"{page.name}, line {block.line}: exit {done.returncode}\n{block.text}\n{told}"
        printed.append(told)
    return "\n".join(printed)
