"""The command line from outside: exit codes, one-line errors, nothing heavy imported for a list or a help text."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "faiss", "transformers", "open_clip", "timm", "pandas", "pyarrow", "scipy", "numpy")


def trireme(
    *arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trireme", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **(env or {})})


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["--version"],
        ["run", "--help"],
        ["leaderboard", "--help"],
        ["memory", "search", "--help"],
        ["ls"],
        ["ls", "methods"],
        ["show", "world"],
        ["show", "zero_shot"],
        ["rnu"],
        ["ls", "method"],
        ["show", "wrld"],
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported(arguments: list[str], tmp_path: Path) -> None:
    """Half a second is the promise; what can be asserted on any machine is that no heavy module is loaded for it."""
    script = (
        f"import sys; from trireme.cli import main; code = main({arguments!r}); "
        f"print('HEAVY', *(m for m in {HEAVY!r} if m in sys.modules), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr.splitlines()[-1] == "HEAVY", done.stderr
    assert done.returncode in (0, 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu"], "unknown command 'rnu'; did you mean 'run'?"),
        (["data", "prepair"], "unknown data command 'prepair'; did you mean 'prepare'?"),
        (["data", "prepare", "wrld"], "unknown data set 'wrld'; did you mean 'world'?"),
        (["memory", "serach"], "unknown memory command 'serach'; did you mean 'search'?"),
        (["train", "light"], "unknown train command 'light'; did you mean 'lite'?"),
        (["ls", "method"], "unknown kind 'method'; did you mean 'methods'?"),
        (["show", "zeroshot"], "unknown name 'zeroshot'; did you mean 'zero_shot'?"),
        (["run"], "nothing to run"),
        (["run", "method=knnn", "benchmark=world/all"], "unknown method 'knnn'; did you mean 'knn'?"),
        (["run", "method=knn", "benchmark=world/foot"], "unknown benchmark 'world/foot'; did you mean 'world/food'?"),
        (["run", "method=knn", "benchmark=world/all", "encoder=lit"], "unknown encoder 'lit'; did you mean 'lite'?"),
        (["run", "method=knn", "benchmark=world/all", "method.knn.kk=1"], "unknown config key 'kk'; did you mean 'k'?"),
        (["leaderboard", "--fromat", "md"], "--fromat"),
        (["memory", "search", "x", "--side", "picture"], "unknown side 'picture'"),
        (["memory", "search", "x", "--k", "0"], "--k"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_request_is_one_line_and_exit_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = trireme(*arguments, cwd=tmp_path, env={"TRIREME_HOME": str(tmp_path / "home")})
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_unprepared_world_says_which_command_prepares_it(tmp_path: Path) -> None:
    done = trireme("run", "suite=world", cwd=tmp_path, env={"TRIREME_HOME": str(tmp_path / "home")})
    assert done.returncode == 1
    assert "trireme data prepare world" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out" / "runs").exists()


def test_a_leaderboard_of_nothing(tmp_path: Path) -> None:
    done = trireme("leaderboard", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no results at out")


def test_every_command_has_help_with_examples() -> None:
    from trireme.cli import _commands

    for command, inner in _commands().items():
        for words in [[command, sub] for sub in inner] or [[command]]:
            done = trireme(*words, "--help")
            assert done.returncode == 0, words
            assert "Examples:" in done.stdout, words
            assert f"trireme {' '.join(words)}" in done.stdout.partition("Examples:")[2], words


def test_a_bug_is_one_line_that_says_where_the_traceback_is(tmp_path: Path) -> None:
    """A plugin that raises at import is the nearest thing to a bug that can be had from outside."""
    script = (
        "import sys, trireme.commands.names as names\n"
        "def broken(kind): raise RuntimeError('first\\nsecond')\n"
        "names.ls = broken\n"
        "from trireme.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    home = tmp_path / "home"
    command = [sys.executable, "-c", script, "ls"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TRIREME_HOME": str(home)})
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    [path] = (home / "errors").iterdir()
    assert f"error: RuntimeError: first second (this is a bug; where it happened is in {path})" in done.stderr
    assert "Traceback" in path.read_text()
    debug = subprocess.run([*command, "--debug"], capture_output=True, text=True)
    assert "Traceback" in debug.stderr


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m trireme ls | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == ""
