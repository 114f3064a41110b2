"""`trireme compare`: two methods on the same samples, by benchmark and subset, and where they disagree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trireme.errors import DataError, UsageError, unknown_name
from trireme.files import atomic_file
from trireme.progress import say

if TYPE_CHECKING:
    from trireme.results.comparison import Setting
    from trireme.results.comparison_text import Comparison
    from trireme.results.records import RunRecord

FORMATS = ("terminal", "csv", "json", "md")
SUFFIXES = {".csv": "csv", ".json": "json", ".md": "md", ".txt": "terminal"}
ROLES = ("test", "validation")
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
    role: str = "test",
) -> int:
    """Print the paired difference of every setting that both methods ran in, and where they disagree.

    Args:
        pictures: how many flipped pictures of each kind to list.
        role: of the samples. Test and validation are never in one call, whose rows are corrected together.

    Raises:
        UsageError: an unknown method, metric, subset, benchmark, format or role; the nearest is named.
        DataError: no finished run of this role.
    """
    chosen = _format(format, save)
    from trireme.results.comparison_text import render

    text = render(_compared(first, second, folder, metric, subsets, benchmarks, pictures, role), chosen)
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
    role: str,
) -> Comparison:
    from trireme.commands.opened import Opened
    from trireme.results.comparison import Skipped, having, pooled, rows, settings
    from trireme.results.comparison_text import Comparison
    from trireme.results.disagreement import disagreement

    if role not in ROLES:
        raise unknown_name("role", role, ROLES)
    found = having(_of_benchmarks(settings(_runs(folder, role), first, second, role), benchmarks), metric)
    listed, skipped = rows(found, metric, subsets)
    told, unusable = [one.text for one in skipped], [one.setting for one in skipped if one.whole]
    usable = [one for one in found if not any(one is other for other in unusable)]
    opened = Opened()
    lines, contained = pooled(usable, opened.benchmark, metric) if len(usable) > 1 else ([], {})
    shown = usable if benchmarks else [one for one in usable if one.first.benchmark not in contained]
    where = subsets[0] if len(subsets) == 1 else "all"
    differ = []
    for one in shown:
        try:
            differ.append(disagreement(one, opened.benchmark(one.first), one.metric(metric), pictures, where))
        except DataError as error:
            told.append(Skipped(one, "where they disagree", str(error)).text)
    disagreements = [one for one in differ if one is not None]
    return Comparison(first, second, listed, lines, contained, disagreements, told)


def _runs(folder: Path, role: str) -> list[RunRecord]:
    from trireme.results.leaderboard import nothing_there
    from trireme.results.records import find_runs

    runs = [run for run in find_runs(folder) if run.role == role]
    if not runs:
        raise nothing_there(folder, role)
    return runs


def _of_benchmarks(found: list[Setting], names: Sequence[str]) -> list[Setting]:
    known = {one.first.benchmark for one in found}
    for name in names:
        if name not in known:
            raise unknown_name("benchmark that both methods ran on", name, known)
    return [one for one in found if not names or one.first.benchmark in names]
