"""The plugins of examples/ are as small as they are said to be, and installed as a user would install them."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import pytest

from trireme.registry import METHODS

EXAMPLES = sorted(
    path.parent for path in (Path(__file__).resolve().parent.parent / "examples").glob("*/pyproject.toml")
)
_NO_CODE = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


def code_lines(path: Path) -> int:
    """Lines with code: neither blank, nor comment, nor docstring."""
    text, documents = path.read_text(encoding="utf-8"), set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            documents |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return len(
        {line for one in tokens if one.type not in _NO_CODE for line in range(one.start[0], one.end[0] + 1)} - documents
    )


def test_what_counts_as_code(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(
        '"""Two\nlines."""\n\n# a comment\nx = (1,\n     2)\n\ndef f():\n    """Says."""\n    return x\n'
    )
    assert code_lines(tmp_path / "one.py") == 4


@pytest.mark.parametrize("package", EXAMPLES, ids=lambda path: path.name)
def test_an_example_has_under_150_lines_of_code(package: Path) -> None:
    assert 0 < sum(code_lines(path) for path in (package / "src").rglob("*.py")) < 150


@pytest.mark.parametrize(("name", "package"), [("tip_adapter", "trireme-tip-adapter"), ("sus_x", "trireme-sus-x")])
def test_an_example_is_installed_from_outside(name: str, package: str) -> None:
    """`make test` installs them; by hand: pip install --no-deps -e examples/tip-adapter -e examples/sus-x."""
    plugin = METHODS.plugin(name)
    assert plugin is not None
    assert plugin.package == package
    assert METHODS.load(name).__module__.startswith(package.replace("-", "_"))
