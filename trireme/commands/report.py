"""`trireme report`: one HTML file with the table, the plots, and what was retrieved and ranked for some pictures."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from trireme.errors import UsageError
from trireme.files import atomic_file
from trireme.progress import say

SAMPLES = 6
NAME = "report.html"


def report(
    folder: Path,
    save: Path | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    role: str = "test",
    benchmarks: Collection[str] = (),
) -> int:
    """Write the report; beside the runs where no file is named.

    Raises:
        UsageError: an unknown benchmark or role, or a file that is no HTML.
        DataError: no finished run of this role in the folder.
    """
    path = save or folder / NAME
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{path}: a report is an HTML file; give --save a name that ends in .html")
    from trireme.commands.opened import Opened
    from trireme.commands.thumbnails import Thumbnails
    from trireme.results.report.build import report as build

    opened = Opened()
    pictures = Thumbnails(opened)
    text = build(folder, opened.benchmark, pictures, pictures.told, samples, seed, role, benchmarks)
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
    say(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB; {pictures.told()})")
    return 0
