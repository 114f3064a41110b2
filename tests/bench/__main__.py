"""Print every benchmark as one table: what, ours, baseline, ratio."""

from __future__ import annotations

import argparse
import importlib
import platform
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

BENCHES = {
    "encoding": ("tests.bench.bench_retrieval", "bench_encoding"),
    "search": ("tests.bench.bench_retrieval", "bench_search"),
    "reco": ("tests.bench.bench_reco", "bench_reco_training"),
    "react": ("tests.bench.bench_react", "bench_react_steps"),
    "ranker": ("tests.bench.bench_ranker", "bench_ranker"),
    "agreement": ("tests.bench.bench_agreement", "bench_agreement"),
    "loading": ("tests.bench.bench_streaming", "bench_loading"),
    "streaming": ("tests.bench.bench_streaming", "bench_streaming"),
    "leaderboard": ("tests.bench.bench_leaderboard", "bench_leaderboard"),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", choices=[*BENCHES, []], help=f"which ones (default all): {', '.join(BENCHES)}"
    )
    names = parser.parse_args().names or list(BENCHES)
    console = Console()
    console.print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    for name in names:
        module, function = BENCHES[name]
        bench: Callable[[], list[dict[str, Any]]] = getattr(importlib.import_module(module), function)
        rows = bench()
        table = Table(title=name)
        for column in rows[0]:
            table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
        for row in rows:
            table.add_row(*[f"{value:,.3g}" if isinstance(value, float) else str(value) for value in row.values()])
        console.print(table)


if __name__ == "__main__":
    main()
