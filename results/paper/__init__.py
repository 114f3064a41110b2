"""Published tables as data, our own expected results in the same form, and what became of them here.

One file a paper: `reco.json`, `react.json`, `rar.json` hold the verified numbers of the papers, `world.json` what
Trireme itself gives on its default world. `trireme.results.paper.tables` says what a file holds.
"""

from __future__ import annotations

from trireme.results.paper.tables import Cell, Paper, Table, papers, read_paper

__all__ = ["Cell", "Paper", "Table", "papers", "read_paper"]
