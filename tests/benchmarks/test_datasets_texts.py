"""Annotation files that are lines of text."""

from __future__ import annotations

from pathlib import Path

from trireme.benchmarks.datasets.texts import lines, table


def test_a_line_ends_where_editors_end_it(tmp_path: Path) -> None:
    """A byte order mark, both line ends of text files, and characters that `str.splitlines` takes for line ends."""
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffred\u2028fox\r\n\r\nbarn\x85owl\ncrane\x0cred".encode())
    assert lines(path) == ["red\u2028fox", "barn\x85owl", "crane\x0cred"]


def test_the_first_cell_has_no_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeff1 a.jpg\n2 b.jpg\n".encode())
    assert table(path, 2) == [["1", "a.jpg"], ["2", "b.jpg"]]
