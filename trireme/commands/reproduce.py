"""`trireme reproduce`: a paper's table beside what the same comparison gives here, cell by cell, with a verdict."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from trireme.commands.paper_needs import Here, Need, arguments
from trireme.errors import TriremeError, UsageError, unknown_name
from trireme.progress import say
from trireme.results.paper import Cell, Paper, Table, papers, read_paper
from trireme.results.paper.verdicts import Verdict, exit_code, judge, judge_mean

if TYPE_CHECKING:
    from trireme.results.records import RunRecord

_FILTERS = ("table", "row", "column", "tier", "method", "benchmark", "memory", "encoder")


@dataclass(frozen=True, slots=True)
class Wish:
    """What of which table, as asked for on the command line.

    Attributes:
        out: results folder where runs are looked for, and computed.
        collect: compute nothing.
        where: {one of row, column, tier, method, benchmark, ...: the values that are wanted}.
    """

    out: Path
    collect: bool
    where: Mapping[str, Collection[str]]


def reproduce(
    name: str,
    changes: Sequence[str] = (),
    out: Path = Path("out"),
    where: Sequence[str] = (),
    collect: bool = False,
    format: str = "terminal",
    tables: Path | None = None,
    expect: Path | None = None,
) -> int:
    """Compute what can be computed of PAPER or PAPER/TABLE, print paper, ours, difference, interval and verdict.

    Args:
        changes: KEY=VALUE of `trireme run` that change no number.
        tables: a file of tables of your own, instead of those that ship.
        expect: store what was found as the expected results: a file of our own tables, as `tables`.

    Returns:
        0: all that ran is reproduced; 1: some is off, or a run failed; of our own results also where one is missing or
        made from other inputs; 3: nothing could be compared.
    """
    from trireme.commands.reproduce_text import print_verdicts

    paper, chosen = find(name, tables)
    here = Here(dict(_pair(change) for change in changes))
    wish = Wish(out, collect, _filters(where))
    wanted = {table.name: [cell for cell in table.cells if _wanted(cell, wish.where)] for table in chosen}
    if not any(wanted.values()):
        raise UsageError(f"no cell of {name} fits --where {' '.join(where)}")
    here.one_encoder(cell for cells in wanted.values() for cell in cells)
    verdicts: dict[str, list[Verdict]] = {}
    for table in chosen:
        verdicts[table.name] = _verdicts(table, wanted[table.name], here, wish)
    if expect is not None:
        from trireme.results.paper.expected import write_expected

        found = [one for of_table in verdicts.values() for one in of_table]
        say(f"wrote {write_expected(paper, found, expect, _this_code())}")
        return 0
    print_verdicts(paper, [table for table in chosen if verdicts[table.name]], verdicts, format)
    return exit_code([one for found in verdicts.values() for one in found], paper.own)


def _this_code() -> str:
    """Version and commit of the code that computes scores and intervals now."""
    from trireme.environment import git_state, versions

    state = git_state()
    told = f", commit {state['commit'][:12]}{' and changes' if state['dirty'] else ''}" if state else ""
    return f"trireme {versions()['trireme']}{told}"


def list_tables(name: str = "", changes: Sequence[str] = (), format: str = "terminal", file: Path | None = None) -> int:
    """Print every table, hard ones first: how many cells can be computed here now, and what the others need."""
    from trireme.commands.reproduce_text import print_list

    here = Here(dict(_pair(change) for change in changes))
    if name or file is not None:
        chosen = find(name, file)[1]
    else:
        chosen = [table for path in papers().values() for table in read_paper(path).tables]
    chosen.sort(key=lambda table: (("hard", "soft", "own").index(table.tier), table.name))
    print_list([(table, here.lacking(table, table.cells)) for table in chosen], format)
    return 0


def find(name: str, file: Path | None = None) -> tuple[Paper, list[Table]]:
    """The paper, and the one table that is named or all of them.

    Raises:
        UsageError: an unknown paper or table; names the nearest.
    """
    first, slash, _ = name.partition("/")
    if file is not None:
        paper = read_paper(file)
        if name and first != paper.name:
            raise UsageError(f"{file} holds the tables of '{paper.name}', not of '{first}'")
    else:
        shipped = papers()
        if first not in shipped:
            raise unknown_name("paper", first, shipped)
        paper = read_paper(shipped[first])
    return paper, [paper.table(name)] if slash else list(paper.tables)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not value:
        raise UsageError(f"'{text}' is not KEY=VALUE")
    return key, value


def _filters(given: Sequence[str]) -> dict[str, list[str]]:
    found = {}
    for text in given:
        key, value = _pair(text)
        if key not in _FILTERS:
            raise unknown_name("filter", key, _FILTERS)
        found[key] = [part.strip() for part in value.split(",")]
    return found


def _wanted(cell: Cell, where: Mapping[str, Collection[str]]) -> bool:
    """Whether a cell passes every filter; names of rows and columns may hold commas themselves."""

    def held(key: str) -> str:
        return str(getattr(cell, key)) if key in ("table", "row", "column", "tier") else cell.run.get(key, "")

    return all(held(key) in values or held(key) == ",".join(values) for key, values in where.items())


def _verdicts(table: Table, cells: Sequence[Cell], here: Here, wish: Wish) -> list[Verdict]:
    """One verdict a cell, in the order of the table. What a mean is of is computed too, where all of it can be."""
    asked = {(cell.row, cell.column) for cell in cells}
    for cell, needs in here.lacking(table, [cell for cell in cells if cell.mean_of]).items():
        if wish.collect or not _blocked(needs):
            asked |= {(cell.row, column) for column in cell.mean_of}
    parts = [cell for cell in table.cells if (cell.row, cell.column) in asked and not cell.mean_of]
    lacking = {cell: _blocked(needs) for cell, needs in here.lacking(table, parts).items()}
    runs = _Runs(*_records([cell for cell in parts if not lacking[cell]], here, wish), wish)
    found = {(cell.row, cell.column): _judged(cell, lacking[cell], here, runs) for cell in parts}
    for cell in cells:
        if cell.mean_of:
            held = [found[cell.row, column] for column in cell.mean_of if (cell.row, column) in found]
            found[cell.row, cell.column] = judge_mean(cell, held)
    return [found[cell.row, cell.column] for cell in cells]


def _blocked(needs: Iterable[Need]) -> str:
    return " and ".join(need.text for need in needs if need.blocks)


def _judged(cell: Cell, lacking: str, here: Here, runs: _Runs) -> Verdict:
    if cell.never or (lacking and not runs.wish.collect):
        return judge(cell, None, lacking)
    from trireme.commands.paper_runs import score_of

    found, why, failed = runs.of(here.settings(cell))
    if not found:
        return judge(cell, None, lacking or why, failed)
    score, why = score_of(cell, found)
    return judge(cell, score, why, failed=score is None)


@dataclass
class _Runs:
    """Finished runs, by the cells that they belong to."""

    records: Sequence[RunRecord]
    failed: Mapping[str, str]
    wish: Wish
    _known: dict[str, tuple[list[RunRecord], str]] = field(default_factory=dict)

    def of(self, given: Mapping[str, str]) -> tuple[list[RunRecord], str, bool]:
        """The runs of a cell, or none and the reason, and whether a run failed."""
        from trireme.commands.paper_runs import Wanted

        key = " ".join(arguments(given))
        if key not in self._known:
            found, why = Wanted(given).among(self.records)
            self._known[key] = found, self.failed.get(key, f"{why} in {self.wish.out}")
        return *self._known[key], key in self.failed


def _records(cells: Sequence[Cell], here: Here, wish: Wish) -> tuple[list[RunRecord], dict[str, str]]:
    """Records that may be of these cells, and {arguments of a cell: why its run failed}."""
    from trireme.results.records import find_runs

    if wish.collect:
        return find_runs(wish.out), {}
    if not cells:
        return [], {}
    from trireme.commands.paper_runs import joined

    wanted = [here.settings(cell) for cell in cells]
    hashes: set[str] = set()
    failed: dict[str, str] = {}
    for call in joined(wanted):
        of_call = [given for given in wanted if _part_of(given, call)]
        made, reasons = _run(call, wish.out)
        hashes |= made
        for given in of_call:
            start = f" on {given['benchmark']}, "
            told = [why for what, why in reasons if what.startswith(given["method"]) and start in what]
            told += [why for what, why in reasons if not what]
            told += [f"a run of the same call failed: {why}" for _, why in reasons]
            failed |= {" ".join(arguments(given)): told[0]} if told else {}
    return [one for one in find_runs(wish.out) if one.run in hashes] if hashes else [], failed


def _part_of(given: Mapping[str, str], call: Mapping[str, str]) -> bool:
    return given.keys() == call.keys() and all(
        value in call[key].split(",") if key in ("benchmark", "method") else value == call[key]
        for key, value in given.items()
    )


def _run(call: Mapping[str, str], out: Path) -> tuple[set[str], list[tuple[str, str]]]:
    """Hashes of the runs of one call of the runner, and what failed with its reason ("" for the call as a whole)."""
    from trireme.request import parse
    from trireme.runner import run_plan

    words = [*arguments(call), f"out={out}"]
    try:
        outcome = run_plan(parse(words), ["trireme", "run", *words])
    except TriremeError as error:  # the other calls of the table may still run
        say(f"failed: {error}")
        return set(), [("", str(error))]
    return outcome.runs, [(failure.what, failure.reason) for failure in outcome.failures]
