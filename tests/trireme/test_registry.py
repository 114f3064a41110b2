"""Names, where they live, and what other distributions may add."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugins import install_plugin, trireme
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


def test_ls_and_show_say_where_a_name_comes_from(tmp_path: Path) -> None:
    entries = "[trireme.methods]\noracle = plugin:Oracle\n[trireme.rankers]\njudge = plugin:Judge\n"
    install_plugin(tmp_path, "plugin", entries, "raise SystemExit('imported')", version="2.5")
    listed = trireme(["ls", "methods"], tmp_path)
    [line] = [line for line in listed.stdout.splitlines() if line.startswith("oracle ")]
    assert line.endswith("default configuration [plugin 2.5]")
    [own] = [line for line in listed.stdout.splitlines() if line.startswith("knn ")]
    assert "[" not in own
    shown = trireme(["show", "judge"], tmp_path)
    assert "# ranker judge: opened by plugin:Judge, registered by plugin 2.5" in shown.stdout
    assert shown.returncode == listed.returncode == 0


@pytest.mark.parametrize(
    ("target", "requires", "said"),
    [
        ("no_such_module:Thing", "", "breaks the rule 'import': there is no module 'no_such_module'"),
        ("plugin Thing", "", "breaks the rule 'import': its entry point is 'plugin Thing', write module:attribute"),
        ("plugin:Thing", "trireme-bench>=99", "breaks the rule 'requires': it wants trireme-bench>=99 and this is"),
    ],
)
def test_a_broken_plugin_is_named_and_left_out(target: str, requires: str, said: str, tmp_path: Path) -> None:
    """Without importing it, as far as that shows there."""
    install_plugin(tmp_path, "plugin", f"[trireme.methods]\nbad = {target}\n", requires=requires)
    listed = trireme(["ls", "methods"], tmp_path)
    assert listed.returncode == 0
    assert f"warning: left out: method 'bad' of plugin 1.0 {said}" in listed.stderr
    assert "bad" not in [line.split()[0] for line in listed.stdout.splitlines()]
    assert "zero_shot" in listed.stdout


@pytest.mark.parametrize("requires", ["trireme-bench>=0.1", "Trireme_Bench", "trireme-bench>99; python_version < '3'"])
def test_a_requirement_that_is_met(requires: str, tmp_path: Path) -> None:
    install_plugin(tmp_path, "plugin", "[trireme.methods]\noracle = plugin:Oracle\n", requires=requires)
    listed = trireme(["ls", "methods"], tmp_path)
    assert "oracle" in listed.stdout
    assert listed.stderr == ""


def test_a_plugin_brings_configs(tmp_path: Path) -> None:
    entries = "[trireme.methods]\noracle = plugin:Oracle\n[trireme.configs]\nplugin = lines.configs\n"
    install_plugin(tmp_path, "plugin", entries)
    (tmp_path / "lines" / "configs" / "method").mkdir(parents=True)
    text = "method: oracle\ndescription: twice as wise\nk: 2\n"
    (tmp_path / "lines" / "configs" / "method" / "oracle-2.yaml").write_text(text)
    listed = trireme(["ls", "methods"], tmp_path)
    assert re.search(r"^oracle-2 +twice as wise \[plugin 1.0\]$", listed.stdout, re.MULTILINE), listed.stderr
    (tmp_path / "lines" / "configs" / "method" / "oracle-2.yaml").unlink()
    (tmp_path / "lines" / "configs" / "method").rmdir()
    (tmp_path / "lines" / "configs").rmdir()
    gone = trireme(["ls", "methods"], tmp_path)
    assert gone.returncode == 0
    assert gone.stderr == (
        "warning: left out: configs 'plugin' of plugin 1.0: there is no folder lines.configs; install it again\n"
    )
    assert "zero_shot" in gone.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [("method: [knn\n", "is not valid YAML"), ("method: knnn\n", "unknown method 'knnn'"), ("k: 2\n", "needs a line")],
)
def test_a_plugins_broken_config_stops_nothing(text: str, said: str, tmp_path: Path) -> None:
    """`ls` leaves it out and `run` goes on with the others; both name its plugin."""
    install_plugin(tmp_path, "plugin", "[trireme.configs]\nplugin = lines.configs\n")
    folder = tmp_path / "lines" / "configs" / "method"
    folder.mkdir(parents=True)
    (folder / "odd.yaml").write_text(text)
    (folder / "even.yaml").write_text("method: knn\nk: 3\ndescription: three\n")
    listed = trireme(["ls", "methods"], tmp_path)
    assert listed.returncode == 0
    assert re.search(r"^even +three \[plugin 1.0\]$", listed.stdout, re.MULTILINE)
    [line] = listed.stderr.splitlines()
    assert line.startswith("warning: left out: method config 'odd' of plugin 1.0: ")
    assert said in line
    asked = ["run", "method=odd,even", "benchmark=mock/few-shot", "encoder=mock", f"out={tmp_path / 'out'}"]
    done = trireme(asked, tmp_path, TRIREME_HOME=str(tmp_path / "home"))
    assert "1 runs computed, 0 already there, 1 failed" in done.stderr
    assert re.search(f"failed: odd of plugin 1.0: .*{said}", done.stderr)
    [record] = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("runs/*/run.json")]
    assert record["configs"] == [{"kind": "method", "name": "even", "package": "plugin", "version": "1.0"}]
    assert record["plugins"] == [], "the values are in the hash, whoever wrote them"


@pytest.mark.parametrize("editable", [True, False])
def test_code_that_is_edited_in_place_is_another_code(editable: bool, tmp_path: Path) -> None:
    """An editable install keeps its version; any other is what its version says."""
    install_plugin(tmp_path, "plugin", "[trireme.methods]\noracle = wise.code:Oracle\n")
    told = {"dir_info": {"editable": editable}, "url": tmp_path.as_uri()}
    (tmp_path / "plugin-1.0.dist-info" / "direct_url.json").write_text(json.dumps(told))
    (tmp_path / "wise").mkdir()
    (tmp_path / "wise" / "__init__.py").touch()
    asking = "from trireme.registry import METHODS; print(METHODS.code('oracle'), METHODS.code('knn'))"
    said = []
    for line in ("Oracle = 1", "Oracle = 2", "Oracle = 2"):
        (tmp_path / "wise" / "code.py").write_text(line)
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", asking], capture_output=True, text=True, env=environment)
        said.append(done.stdout.split())
    first, second, third = said
    assert second == third
    assert (first != second) == editable
    assert len(first) == editable, "nothing for knn, nor for what is not editable"
