"""What the public names of the packages say about themselves: the reference (`make docs`) is made of it.

The rule: every module, every public class and every public function at the top of a module has a docstring, and so has
every public method but those that a contract of `trireme.types`, `methods/base.py` and the like already describes
(`fit`, `predict`, `score` ...), those of two statements or fewer, and those of private classes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_house import ROOT, sources

PACKAGES = ("retrieval", "methods", "benchmarks", "results", "trireme")
_CONTRACTS = (
    "trireme/types.py",
    "methods/base.py",
    "methods/rankers/base.py",
    "retrieval/encoders/base.py",
    "retrieval/index.py",
    "retrieval/memory.py",
    "methods/react/towers.py",
    "benchmarks/set_metrics.py",
    "methods/reco/fusion.py",
)
_MODULE_METHODS = {"forward"}
"""What torch calls; the class says what it computes."""
_SHORT = 2
"""Statements of a method that its name and types tell about."""


def described_by_contracts() -> frozenset[str]:
    """Names of the methods that a protocol or a base class describes once for all that have them."""
    trees = [ast.parse((ROOT / path).read_text(encoding="utf-8")) for path in _CONTRACTS]
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    return frozenset(
        part.name
        for one in classes
        for part in one.body
        if isinstance(part, ast.FunctionDef) and (ast.get_docstring(part) or ast.get_docstring(one))
    )


def public(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """(name, node) of the module and of its public classes, functions and methods."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield path.relative_to(ROOT).as_posix(), tree
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield node.name, node
        parts = node.body if isinstance(node, ast.ClassDef) else []
        for part in parts:
            if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                yield f"{node.name}.{part.name}", part


def obvious(name: str, node: ast.AST, contracts: frozenset[str]) -> bool:
    """Whether a method needs no words of its own."""
    if not isinstance(node, ast.FunctionDef) or "." not in name:
        return False
    return node.name in contracts or node.name in _MODULE_METHODS or len(node.body) <= _SHORT


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_say_what_they_are(package: str) -> None:
    contracts = described_by_contracts()
    silent, counted = [], 0
    for path in sources():
        if path.relative_to(ROOT).parts[0] != package or path.stem == "__main__":
            continue
        for name, node in public(path):
            counted += 1
            if not ast.get_docstring(node) and not obvious(name, node, contracts):  # type: ignore[arg-type]
                silent.append(f"{path.relative_to(ROOT)}: {name}")
    assert counted > 50
    assert not silent, f"{len(silent)} of {counted} public names of {package} have no docstring:\n" + "\n".join(silent)
