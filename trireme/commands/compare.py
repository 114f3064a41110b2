"""`trireme compare`: two methods on the same samples, by benchmark and subset, and where they disagree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trireme.errors import UsageError, unknown_name
from trireme.files import atomic_file
from trireme.progress import say

if TYPE_CHECKING:
    from trireme.results.comparison import Setting
    from trireme.results.comparison_text import Comparison

FORMATS = ("terminal", "csv", "json", "md")
SUFFIXES = {".csv": "csv", ".json": "json", ".md": "md", ".txt": "terminal"}
PICTURES = 5


def compare(
    first: str,
    second: str,
    folder: Path,
    metric: str | None = None,
    subsets: Sequence[str] = (),
    benchmarks: Sequence[str] = (),
    pictures: int = PICTURES,
    format: str | None = None,
    save: Path | None = None,
) -> int:
    """Print the paired difference of every setting that both methods ran in, and where they disagree.

    Args:
        pictures: how many flipped pictures of each kind to list.

    Raises:
        UsageError: an unknown method, metric, subset, benchmark or format; the nearest is named.
    """
    chosen = _format(format, save)
    from trireme.results.comparison_text import render

    text = render(_compared(first, second, folder, metric, subsets, benchmarks, pictures), chosen)
    if save is None:
        print(text.rstrip("\n"))
        return 0
    with atomic_file(save) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
    say(f"wrote {save}")
    return 0


def _format(format: str | None, save: Path | None) -> str:
    if format is not None and format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    if format is None and save is not None and save.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{save}: cannot tell the format from '{save.suffix}'; use {', '.join(SUFFIXES)} or --format")
    return format or (SUFFIXES[save.suffix.lower()] if save else "terminal")


def _compared(
    first: str,
    second: str,
    folder: Path,
    metric: str | None,
    subsets: Sequence[str],
    benchmarks: Sequence[str],
    pictures: int,
) -> Comparison:
    from trireme.commands.opened import Opened
    from trireme.results.comparison import having, pooled, rows, settings
    from trireme.results.comparison_text import Comparison
    from trireme.results.disagreement import disagreement
    from trireme.results.records import find_runs

    runs = find_runs(folder)
    if not runs:
        raise UsageError(f"no finished run in {folder}; run `trireme run suite=world` or name another folder by --out")
    found = having(_of_benchmarks(settings(runs, first, second), benchmarks), metric)
    opened = Opened()
    lines, contained = pooled(found, opened.benchmark, metric) if len(found) > 1 else ([], {})
    shown = found if benchmarks else [one for one in found if one.first.benchmark not in contained]
    where = subsets[0] if len(subsets) == 1 else "all"
    differ = [disagreement(one, opened.benchmark(one.first), one.metric(metric), pictures, where) for one in shown]
    return Comparison(
        first, second, rows(found, metric, subsets), lines, contained, [one for one in differ if one is not None]
    )


def _of_benchmarks(found: list[Setting], names: Sequence[str]) -> list[Setting]:
    known = {one.first.benchmark for one in found}
    for name in names:
        if name not in known:
            raise unknown_name("benchmark that both methods ran on", name, known)
    return [one for one in found if not names or one.first.benchmark in names]
