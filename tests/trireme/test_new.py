"""`trireme new` writes packages that keep the rules, and refuses names that cannot be."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path
from typing import Any

import pytest

from trireme.commands.new import KINDS, new, rendered
from trireme.conformance import CHECKS, METHOD_RULES, Outcome, Report
from trireme.errors import UsageError


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_keeps_the_rules(
    kind: str, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As generated; `resume`, which starts processes, is left to the test of the page that documents it."""
    name = f"new-{kind}"
    assert new(kind, name, str(tmp_path)) == 0
    assert f"pip install -e {tmp_path / name}\n  trireme check {kind} {name}\n" in capsys.readouterr().out
    project = tomllib.loads((tmp_path / name / "pyproject.toml").read_text())
    [(entry, target)] = project["project"]["entry-points"][f"trireme.{kind}s"].items()
    module, _, attribute = target.partition(":")
    assert entry == name
    assert project["tool"]["setuptools"]["packages"] == [module]
    assert not [path for path in (tmp_path / name).rglob("*") if path.is_file() and "{{" in path.read_text()]
    monkeypatch.syspath_prepend(str(tmp_path / name))
    made = getattr(importlib.import_module(module), attribute)
    rules = [rule for rule in METHOD_RULES if rule != "resume"] if kind == "method" else None
    report = CHECKS[kind](made, rules=rules)
    assert report.passed, report
    written: dict[str, Any] = {}
    exec(compile((tmp_path / name / "tests" / "test_conforms.py").read_text(), "test_conforms.py", "exec"), written)
    written["test_all"](report)
    with pytest.raises(AssertionError, match="FAIL  lost  import  not there"):  # a rule of no list
        written["test_all"](Report(kind, "lost", "nowhere 1.0", (Outcome("import", "FAIL", "not there"),)))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Mine", "cannot be a name"),
        ("9lives", "cannot be a name"),
        ("a b", "cannot be a name"),
        ("../up", "cannot be a name"),
        ("a--b", "cannot be a name"),
        ("x" * 41, "cannot be a name: up to 40"),
        ("class", "is a word of Python"),
        ("json", "is a word of Python"),
        ("knn", "there is a method 'knn' already"),
        ("rar-lite", "there is a method 'rar-lite' already"),
    ],
)
def test_a_name_that_cannot_be_is_refused(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        new("method", name, str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="is there already"):
        new("method", "mine", str(tmp_path))
    with pytest.raises(UsageError, match="there is no folder"):
        new("method", "mine", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="unknown kind 'metod'; did you mean 'method'"):
        new("metod", "mine", str(tmp_path))
    (tmp_path / "trireme_taken").mkdir()
    (tmp_path / "trireme_taken" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match="a Python module 'trireme_taken' is installed already"):
        new("method", "taken", str(tmp_path))


def test_names_are_made_into_what_each_place_takes() -> None:
    text = rendered("method", "tip_adapter-2")["pyproject.toml"]
    assert 'name = "trireme-tip-adapter-2"' in text
    assert 'tip_adapter-2 = "trireme_tip_adapter_2:TipAdapter2"' in text
