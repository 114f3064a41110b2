"""The tables of the papers for `trireme ls` and `trireme show`: read from their files, nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Iterator

from trireme.results.paper import Paper, Table, papers, read_paper
from trireme.results.paper.slips import noted


def rows() -> Iterator[tuple[str, str]]:
    """Name and one line of each table."""
    for path in papers().values():
        for table in read_paper(path).tables:
            yield table.name, f"{table.title} ({table.tier}, {len(table.cells)} values)"


def show(name: str) -> bool:
    """Print the table of this name, PAPER/TABLE; False where there is none."""
    path = papers().get(name.partition("/")[0])
    if path is None or "/" not in name:
        return False
    paper = read_paper(path)
    found = [table for table in paper.tables if table.name == name]
    for table in found:
        _show(paper, table)
    return bool(found)


def _show(paper: Paper, table: Table) -> None:
    print(f"# table {table.name}: {paper.path}\n{table.title} ({table.tier}); {paper.citation}")
    digits = max(len(f"{cell.value:g}".partition(".")[2]) for cell in table.cells)
    values = {(cell.row, cell.column): f"{cell.value:.{min(digits, 3)}f}" for cell in table.cells}
    columns = [name for name in table.columns() if any(column == name for _, column in values)]
    lines = [["", *columns]]
    for row in dict.fromkeys(cell.row for cell in table.cells):
        lines.append([row, *(values.get((row, column), "-") for column in columns)])
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        first, *rest = (
            cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join([first, *rest]).rstrip())
    for protocol in dict.fromkeys(cell.protocol for cell in table.cells):
        print(f"protocol: {protocol}")
    for tag, source in {tag: text for cell in table.cells for tag, text in cell.sources.items()}.items():
        print(f"source {tag}: {source}")
    for slip in noted(table):
        print(f"slip: {slip.of}, {slip.column}: printed {slip.printed:g}, recomputed {slip.recomputed:g}")
