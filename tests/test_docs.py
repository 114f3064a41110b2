"""The documentation does what it says: blocks run, commands that are only shown would be taken, links lead somewhere.

`tests/docs.py` reads pages, `tests/commands.py` judges commands; here both meet every page.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer
import typer.main

from tests.commands import fault, made_by, words_of
from tests.docs import PAGES, ROOT, blocks, run_page, shown
from trireme.cli import app
from trireme.files import home

DOCS = ROOT / "docs"
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_MAKE = re.compile(r"(?:^ {4,}|`)make ([a-z-]+)(?=`|\s{2,}|$)", re.MULTILINE)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def run_elsewhere() -> frozenset[str]:
    """Pages whose blocks need what another test makes: those that a test file names which calls `run_page`."""
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    texts = [text for path in files if "run_page(" in (text := path.read_text(encoding="utf-8"))]
    return frozenset(name for text in texts for name in re.findall(r'"docs" / "([\w-]+\.md)"', text))


def runnable(page: Path) -> bool:
    return any(block.language in ("bash", "python") for block in blocks(page))


class TestCommands:
    @pytest.mark.parametrize("page", PAGES, ids=name_of)
    def test_every_command_that_is_only_shown_would_be_taken(self, page: Path) -> None:
        made = made_by(page.read_text(encoding="utf-8").splitlines())
        refused = [f"{one}\n    {told}" for one in shown(page) if (told := fault(one.text, one.spoken, made))]
        assert not refused, f"{name_of(page)}:\n" + "\n".join(refused)

    def test_the_examples_of_help_would_be_taken(self) -> None:
        lines = help_examples()
        refused = {line: told for line in lines if (told := fault(line, made=made_by(lines)))}
        assert not refused

    @pytest.mark.parametrize("page", PAGES, ids=name_of)
    def test_every_make_target_exists(self, page: Path) -> None:
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert set(_MAKE.findall(page.read_text(encoding="utf-8"))) <= targets

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("trireme rnu suite=world", "did you mean 'run'"),
            ("trireme run suite=wrld", "did you mean 'world'"),
            ("trireme run method=reco benchmark=world/all method.reco.kk=3", "unknown config key 'kk'"),
            ("trireme run method=reco benchmark=world/all method.reco.k=many", "k=many"),
            ("trireme run method=knn benchmark=folder:photos", "knn on folder:photos needs memory="),
            ("trireme run method=knn benchmark=world/all memory.index=hsnw", "unknown index 'hsnw'"),
            ("trireme run method=zero_shot benchmark=csv:c.csv benchmark.lable=x", "lable"),
            ("trireme run method=zero_shot benchmark=world/all encoder.modle=x", "unknown config key 'modle'"),
            ("trireme run method=rar benchmark=world/all ranker.modle=x", "unknown config key 'modle'"),
            ("trireme leaderboard --frmat csv", "No such option: --frmat"),
            ("trireme leaderboard --format word", "word"),
            ("trireme compare reco", "second"),
            ("trireme compare reco knnn", "did you mean 'knn"),
            ("trireme data status pet", "did you mean 'pets'"),
            ("trireme memory build world encoder=light", "did you mean 'lite"),
            ("trireme train ranker lite --out out/x stepps=3", "did you mean 'steps'"),
            ("torchrun --nproc_per_node 8 -m trireme train react method=knn", "customises no encoder"),
            ("trireme reproduce rar/table22", "rar/table2"),
            ("trireme check method knn kk=3", "unknown config key 'kk'"),
            ("trireme new methd mine", "did you mean 'method'"),
            ("trireme ls method", "did you mean 'methods'"),
        ],
    )
    def test_a_wrong_command_is_found(self, line: str, said: str) -> None:
        """Each line has one mistake, made here."""
        assert said in fault(line)

    def test_what_is_left_open_is_no_fault(self) -> None:
        assert not fault("trireme run method=zero_shot benchmark=csv:absent.csv encoder=open_clip encoder.model=...")
        assert not fault(".venv/bin/trireme data status NAME   # any of them")
        assert not fault("trireme compare", spoken=True)
        assert fault("trireme compare")
        assert words_of("bin/torchrun --nproc 2 -m trireme train react ... # eight") == ["train", "react"]


class TestBlocks:
    @pytest.mark.parametrize(
        "page", [page for page in PAGES if runnable(page) and page.name not in run_elsewhere()], ids=name_of
    )
    def test_every_block_runs(self, page: Path, tmp_path: Path, world: None) -> None:
        """In the home where pictures and weights are, and a folder of its own."""
        run_page(page, tmp_path, home())

    def test_pages_that_other_tests_run_have_blocks(self) -> None:
        assert "your-data.md" in run_elsewhere()
        assert all(runnable(DOCS / page) for page in run_elsewhere())


class TestPages:
    @pytest.mark.parametrize("page", PAGES, ids=name_of)
    def test_every_link_within_the_repository_leads_somewhere(self, page: Path) -> None:
        text = page.read_text(encoding="utf-8")
        inside = [link for link in _LINK.findall(text) if not link.startswith(("http://", "https://", "mailto:"))]
        lost = [link for link in inside if not _leads(page, link)]
        assert not lost, f"{name_of(page)}: {lost}"

    def test_the_index_names_every_page(self) -> None:
        linked = set(_LINK.findall((DOCS / "README.md").read_text(encoding="utf-8")))
        assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= linked


class TestArchitecture:
    """Someone who has never seen the code finds where to change things from that page alone."""

    def test_every_place_that_the_page_names_is_there(self) -> None:
        rows = list(places())
        assert len(rows) >= 15
        lost = [f"{file}: {name}" for file, name in rows if name not in defined(file)]
        assert not lost

    def test_every_path_that_the_page_names_exists(self) -> None:
        """Anything in code type that looks like a file or a folder of the repository."""
        text = (DOCS / "architecture.md").read_text(encoding="utf-8")
        named = set(re.findall(r"`((?:trireme|retrieval|methods|benchmarks|results|configs|tests)/[\w./-]*)`", text))
        assert len(named) > 20
        assert not [path for path in named if not (ROOT / path).exists()]

    def test_a_place_that_does_not_exist_is_found(self) -> None:
        assert "Fusion" in defined("methods/reco/fusion.py")
        assert "Fusion.lift" in defined("methods/reco/fusion.py")
        assert "Fusoin" not in defined("methods/reco/fusion.py")


def places() -> Iterator[tuple[str, str]]:
    """(file, name) of every row of the table of things to change: | what | file | name, name |."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("## I want to change")[2].partition("\n## ")[0]
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and (file := re.search(r"`([\w./-]+\.py)`", cells[1])):
            yield from ((file[1], name) for name in re.findall(r"`([\w.]+)", cells[2]))


@cache
def defined(file: str) -> frozenset[str]:
    """Functions, classes, their methods and fields, and constants of a file, as `Class.method`."""
    path = ROOT / file
    if not path.is_file():
        return frozenset()

    def names(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from names(node.body, f"{prefix}{node.name}.")
            targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
            for target in targets:
                yield from (prefix + one.id for one in ast.walk(target) if isinstance(one, ast.Name))

    return frozenset(names(ast.parse(path.read_text(encoding="utf-8")).body))


def help_examples() -> list[str]:
    """The command lines under `Examples:` of every command's --help."""
    waiting, found = [typer.main.get_command(app)], []
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        found += [line.strip() for line in (command.epilog or "").splitlines() if "trireme " in line]
    assert len(found) > 20
    return found


def _leads(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    if not target.exists():
        return False
    return not anchor or anchor in {_anchor(title) for title in re.findall(r"^#+ (.+)$", target.read_text(), re.M)}


def _anchor(title: str) -> str:
    """A heading as GitHub links to it."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")
