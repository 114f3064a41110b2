"""Names, where they live, and what other distributions may add."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from trireme.errors import TriremeError, UsageError
from trireme.registry import BENCHMARKS, ENCODERS, METHODS, PAIR_SETS, REGISTRIES, Registry


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_every_builtin_name_can_be_imported(registry: Registry) -> None:
    for name in registry.builtin:
        assert callable(registry.load(name)), name


@pytest.mark.parametrize(
    ("registry", "typed", "near"),
    [
        (METHODS, "zeroshot", "zero_shot"),
        (METHODS, "recco", "reco"),
        (BENCHMARKS, "world/foods", "world/food"),
        (PAIR_SETS, "world/memories", "world/memory"),
        (ENCODERS, "openclip", "open_clip"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(registry: Registry, typed: str, near: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"'{typed}'; did you mean '{near}'?")) as caught:
        registry.target(typed)
    assert caught.value.exit_code == 2
    assert typed not in registry


def test_prefixes_open_any_path_but_not_nothing() -> None:
    assert BENCHMARKS.target("folder:/some/where") == "trireme.benchmarks.custom:open_benchmark"
    assert PAIR_SETS.target("csv:rows.csv") == "trireme.benchmarks.custom:open_pairs"
    assert "folder:" not in BENCHMARKS


def test_a_target_that_is_gone_is_one_line() -> None:
    lost = Registry("method", "trireme.none", {"lost": "trireme.methods.no_such_module:Thing"})
    with pytest.raises(TriremeError, match="method 'lost' cannot be imported from trireme"):
        lost.load("lost")
    wrong = Registry("method", "trireme.none", {"wrong": "trireme.types:NoSuchThing"})
    with pytest.raises(TriremeError, match="NoSuchThing"):
        wrong.load("wrong")


def install_plugin(folder: Path, name: str, entry_points: str, module: str = "") -> None:
    """What pip leaves of a distribution: its metadata, and its module beside it."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(textwrap.dedent(entry_points))
    (folder / f"{name}.py").write_text(module)


def trireme(arguments: list[str], plugins: Path) -> subprocess.CompletedProcess[str]:
    script = (
        f"import sys; sys.path.insert(0, {str(plugins)!r}); from trireme.cli import main; sys.exit(main({arguments!r}))"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=plugins)


def test_entry_points_add_names_without_being_imported(tmp_path: Path) -> None:
    entries = "[trireme.methods]\noracle = plugin:Oracle\n[trireme.benchmarks]\nbirds = plugin:birds\n"
    install_plugin(tmp_path, "plugin", entries, "raise SystemExit('imported')")
    done = trireme(["ls"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "oracle" in done.stdout
    assert "birds" in done.stdout


def test_a_name_that_two_parties_claim_is_an_error(tmp_path: Path) -> None:
    install_plugin(tmp_path, "thief", "[trireme.methods]\nknn = thief:Knn\n")
    done = trireme(["ls", "methods"], tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: method 'knn' is registered by trireme itself and by thief; rename or uninstall one\n"


def test_two_plugins_with_one_name(tmp_path: Path) -> None:
    install_plugin(tmp_path, "first", "[trireme.methods]\noracle = first:Oracle\n")
    install_plugin(tmp_path, "second", "[trireme.methods]\noracle = second:Oracle\n")
    done = trireme(["ls", "methods"], tmp_path)
    assert done.returncode == 2
    assert "'oracle' is registered by first and by second" in done.stderr
