"""A comparison of two methods as text: for a terminal, Markdown, CSV (the rows alone) or JSON (everything)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from trireme.errors import UsageError
from trireme.results.comparison import Pooled, Row
from trireme.results.disagreement import ClassChange, Disagreement, Flip
from trireme.results.tables import MISSING, TextTable
from trireme.results.writers import render_tables

_SETTING = ("role", "encoder", "memory", "seeds", "runs")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A minus B.

    Attributes:
        pooled: lines over several benchmarks.
        contained: benchmarks left out of them, with the one that holds their pictures.
        disagreements: of every setting whose metric is a matter of right or wrong.
        skipped: what could not be compared, one line each with its reason.
    """

    first: str
    second: str
    rows: Sequence[Row]
    pooled: Sequence[Pooled]
    contained: Mapping[str, str]
    disagreements: Sequence[Disagreement]
    skipped: Sequence[str] = ()


def render(found: Comparison, format: str) -> str:
    """The comparison in one of the formats "terminal", "md", "csv" and "json".

    Raises:
        UsageError: there is nothing to compare.
    """
    if not found.rows:
        why = "; ".join(found.skipped) or "they share no sample of these subsets"
        raise UsageError(f"'{found.first}' and '{found.second}' cannot be compared: {why}")
    if format == "json":
        return json.dumps(_plain(found), indent=2, ensure_ascii=False) + "\n"
    if format == "csv":
        return _csv(found)
    return "\n".join(_parts(found, format))


def _plain(found: Comparison) -> dict[str, object]:
    content = asdict(found)
    content["unit"] = "percentage points, first minus second"
    return content


def _csv(found: Comparison) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in [*found.rows, *(one.row for one in found.pooled)])
    return text.getvalue()


def _parts(found: Comparison, format: str) -> Iterator[str]:
    yield render_tables([_table(found)], format)
    yield from (f"{line}{_end(format)}" for line in _notes(found))
    for one in found.disagreements:
        yield from _disagreement(found, one, format)


def _end(format: str) -> str:
    return "\n" if format == "md" else ""


def _table(found: Comparison) -> TextTable:
    """What all rows share stands in the title."""
    rows = [*found.rows, *(one.row for one in found.pooled)]
    varying = [name for name in _SETTING if len({getattr(row, name) for row in found.rows}) > 1]
    if "runs" in varying and not _ambiguous(found.rows):
        varying.remove("runs")
    shared = [f"{name} {getattr(rows[0], name)}" for name in _SETTING[:-1] if name not in varying]
    numbers = ["n", "difference", "95 % interval", f"only {found.first}", f"only {found.second}"]
    numbers += ["p", "p (classes drawn)", "p (Holm)", "smallest"]
    columns = ["benchmark", "subset", "metric", *numbers, *varying]
    return TextTable(
        ", ".join([f"{found.first} minus {found.second}, percentage points", *shared]),
        columns,
        [[*_numbers(row), *(getattr(row, name) for name in varying)] for row in rows],
        frozenset(),
        frozenset(range(3, 3 + len(numbers))),
    )


def _ambiguous(rows: Sequence[Row]) -> bool:
    """Whether two rows can only be told apart by their runs."""
    told = [(row.benchmark, row.subset, row.metric, row.role, row.encoder, row.memory, row.seeds) for row in rows]
    return len(set(told)) < len(told)


def _numbers(row: Row) -> list[str]:
    return [
        row.benchmark,
        row.subset,
        row.metric,
        str(row.n),
        signed(row.difference),
        MISSING if row.ci_low is None or row.ci_high is None else f"[{_rounded(row.ci_low)}, {_rounded(row.ci_high)}]",
        *(MISSING if count is None else str(count) for count in (row.only_a, row.only_b)),
        *(p_text(p) for p in (row.p, row.p_bootstrap, row.p_holm)),
        MISSING if row.smallest is None else f"{row.smallest:.1f}",
    ]


def signed(value: float) -> str:
    """One decimal with its sign; what rounds to zero has none."""
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text


def _rounded(value: float) -> str:
    return signed(value).removeprefix("+")


def p_text(p: float | None) -> str:
    """Four decimals; what is smaller is not written as 0."""
    return MISSING if p is None else "<0.0001" if p < 0.0001 else f"{p:.4f}"


def _notes(found: Comparison) -> Iterator[str]:
    yield (
        "p: exact McNemar test where the samples that only one has right are counted, else paired bootstrap; "
        "p (classes drawn): Student's t with the spread of the interval's draws of whole classes (pictures, in "
        f"detection); p (Holm): the larger of the two corrected for the {len(found.rows)} rows above"
        f"{' (not the pooled one)' if found.pooled else ''}; smallest: the true difference that these samples would "
        "show in 80 % of experiments."
    )
    yield from (f"Not compared: {one}" for one in found.skipped)
    wider: dict[str, list[str]] = {}
    for name, held in found.contained.items():
        wider.setdefault(held, []).append(name)
    for held, names in wider.items():
        yield f"All pictures of {', '.join(names)} are in {held}, too: they are not pooled with it, nor listed below."


def _disagreement(found: Comparison, one: Disagreement, format: str) -> Iterator[str]:
    told = one.setting
    where = ", ".join(
        [told["benchmark"], one.subset, *(f"{key} {told[key]}" for key in ("memory", "encoder", "seeds"))]
    )
    yield f"{_heading(format)}Where they disagree: {where}{_end(format)}"
    yield (
        f"Of {one.n} samples, both have {one.both} right, neither {one.neither}, only {found.first} {one.only_a}, "
        f"only {found.second} {one.only_b} ({one.metric}).{_end(format)}"
    )
    if one.problem:
        yield f"Names and pictures are missing: {one.problem}.{_end(format)}"
    for title, changes in (
        (f"Classes that {found.first} gains", one.gained),
        (f"Classes that {found.first} loses", one.lost),
    ):
        if changes:
            yield render_tables([_classes(title, changes, found)], format)
    if one.flipped:
        yield render_tables([_flips(one.flipped, one, found)], format)


def _heading(format: str) -> str:
    return "## " if format == "md" else "\n"


def _classes(title: str, changes: Sequence[ClassChange], found: Comparison) -> TextTable:
    rows = [[c.name, str(c.n), f"{c.right_a - c.right_b:+d}", str(c.right_a), str(c.right_b)] for c in changes]
    columns = ["class", "n", "change", f"{found.first} right", f"{found.second} right"]
    return TextTable(title, columns, rows, frozenset(), frozenset(range(1, 5)))


def _flips(flips: Sequence[Flip], one: Disagreement, found: Comparison) -> TextTable:
    names = {"a": found.first, "b": found.second}
    rows = [[f.sample, names[f.winner], f.truth, f.said_a, f.said_b, _place(f)] for f in flips]
    title = f"Pictures that flip ({len(flips)} of {one.only_a + one.only_b})"
    columns = ["sample", "only right", "class", f"{found.first} says", f"{found.second} says", "picture"]
    return TextTable(title, columns, rows, frozenset(), frozenset())


def _place(flip: Flip) -> str:
    box = "" if flip.box is None else f" box {', '.join(f'{value:g}' for value in flip.box)}"
    return f"{flip.path}{box}" or MISSING
