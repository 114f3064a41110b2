"""From a results folder to the page: which benchmarks, in which order, with which plots and samples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from trireme.errors import UsageError, unknown_name
from trireme.results.leaderboard import standings
from trireme.results.records import RunRecord, survey
from trireme.results.report.answers import answers
from trireme.results.report.cases import Pictures, cases
from trireme.results.report.charts import Chart, charts
from trireme.results.report.confusion import confusion
from trireme.results.report.grids import leaderboard, overview
from trireme.results.report.lines import Line, Part, parts
from trireme.results.report.page import Page, Section, render
from trireme.results.report.svg import families_of
from trireme.results.shown import Opener


def report(
    folder: Path,
    shown: Opener,
    pictures: Pictures,
    told: Callable[[], str],
    samples: int = 6,
    seed: int = 0,
    role: str = "test",
    benchmarks: Collection[str] = (),
) -> str:
    """The report of a results folder as HTML.

    Args:
        told: asked at the end for one line about the pictures.
        samples: so many of each benchmark are shown with what was retrieved.
        seed: of the choice among samples that are as good as each other.

    Raises:
        DataError: no finished run of this role.
        UsageError: an unknown benchmark or role; jinja2 is not installed.
    """
    found = survey(folder)
    frame = standings(folder, role)
    for name in benchmarks:
        if name not in set(frame["benchmark"]):
            raise unknown_name("benchmark among the finished runs", name, set(frame["benchmark"]))
    if benchmarks:
        frame = frame[frame["benchmark"].isin(list(benchmarks))]
    chosen = parts(frame, found.runs)
    if not chosen:
        raise UsageError(f"no run in {folder} has a score")
    lines = [line for part in chosen for line in part.lines]
    families = families_of([line.family for line in lines])
    sections = [_section(i, part, families, shown, pictures, samples, seed) for i, part in enumerate(chosen)]
    used = {line.family for line in lines}
    page = Page(
        f"Trireme: {_methods(lines)} on {len(chosen)} benchmark{'s' if len(chosen) > 1 else ''}",
        list(_facts(lines)),
        overview(chosen),
        sections,
        families,
        [one.reason for one in found.left_out],
        told(),
    )
    return render(page, used)


def _methods(lines: Sequence[Line]) -> str:
    count = len({line.method for line in lines})
    return f"{count} method{'s' if count > 1 else ''}"


def _section(
    place: int,
    part: Part,
    families: Sequence[str],
    shown: Opener,
    pictures: Pictures,
    samples: int,
    seed: int,
) -> Section:
    ident = f"b{place}"
    told = shown(part.record)
    drawn: list[Chart] = list(charts(part, families, ident))
    found = answers(part)
    looked_at = []
    if found is not None:
        if square := confusion(found, told, part.name, f"{ident}-confusion"):
            drawn.append(square)
        looked_at = cases(found, told, pictures, samples, seed)
    problem = f"Class names and pictures are missing: {told.problem}." if told.problem else ""
    return Section(ident, part.name, _summary(part), leaderboard(part), drawn, looked_at, problem)


def _summary(part: Part) -> str:
    data = part.record.data
    n = max(score.n for line in part.lines for score in line.scores.values())
    rows = f"{len(part.lines)} row{'s' if len(part.lines) != 1 else ''}"
    return f"{rows}, {n} samples, {data['benchmark']['classes']} classes, {part.metric}"


def _facts(lines: Sequence[Line]) -> Iterator[tuple[str, str]]:
    records = [record for line in lines for record in line.records]
    yield "runs", str(len({record.run for record in records}))
    yield "encoders", ", ".join(sorted({line.encoder for line in lines}))
    yield "memories", ", ".join(sorted({line.memory for line in lines if line.memory})) or "none"
    days = sorted(str(record.data["created"])[:10] for record in records)
    yield "made", days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    yield "trireme", ", ".join(sorted({str(r.data["versions"].get("trireme", "?")) for r in records}))
    yield "commits", _some(sorted({_commit(record) for record in records}))
    yield "machine", _some(sorted({_machine(record) for record in records}))


def _some(values: Sequence[str]) -> str:
    shown = ", ".join(values[:3])
    return shown if len(values) <= 3 else f"{shown} and {len(values) - 3} more"


def _commit(record: RunRecord) -> str:
    git = record.data["git"]
    return f"{str(git.get('commit'))[:8]}{' (changed)' if git.get('dirty') else ''}" if git else "unknown"


def _machine(record: RunRecord) -> str:
    machine = record.data["machine"]
    parts = [machine.get("cpu"), f"{machine['cores']} cores" if "cores" in machine else None, machine.get("gpu")]
    return ", ".join(str(part) for part in parts if part) or "unknown"
