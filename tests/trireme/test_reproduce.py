"""What `trireme reproduce` takes, lists and refuses; nothing is computed here."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trireme import compose
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.cli import main
from trireme.commands.paper_needs import Here, arguments
from trireme.commands.paper_runs import joined
from trireme.errors import UsageError
from trireme.plan import default_memory
from trireme.request import is_own_draw, parse
from trireme.results.paper import Cell, papers, read_paper

CELLS = [cell for path in papers().values() for table in read_paper(path).tables for cell in table.cells]
RUN = [cell for cell in CELLS if cell.run]


def settings_of(cell: Cell) -> str:
    return " ".join(sorted(arguments(cell.run)))


@pytest.mark.parametrize("cell", {settings_of(cell): cell for cell in RUN}.values(), ids=settings_of)
def test_every_cell_is_a_run_that_trireme_takes(cell: Cell) -> None:
    """Names, keys and values of methods and encoders exist, a memory can be drawn, the metric is one of the set."""
    request = parse(arguments(Here({}).settings(cell)))
    assert (len(request.methods), len(request.benchmarks), len(request.encoders)) == (1, 1, 1)
    [method], [benchmark], [encoder] = request.methods, request.benchmarks, request.encoders
    component, cls = compose.method(method, request.overrides.get(("method", method), {}))
    compose.encoder(encoder, request.overrides.get(("encoder", encoder), {}), None, None)
    if cls(component.config).needs_memory:
        assert default_memory(benchmark) is not None
        assert all(is_own_draw(name) or name.startswith("world") for name in request.memories)
    if benchmark in PUBLISHED.specs() and not benchmark.startswith(("lvis", "v3det")):
        assert cell.metric in PUBLISHED[benchmark].metrics
    assert cls(component.config).version > 0


def test_every_encoder_belongs_to_its_weights(tmp_path: Path) -> None:
    """Model, activation and preprocessing of each tag and of each released checkpoint, decided without its weights."""
    from trireme.retrieval.encoders.official import RELEASED
    from trireme.retrieval.encoders.openclip_source import OpenClipConfig, resolve

    keys = ("encoder.model", "encoder.pretrained", "encoder.react")
    asked = {tuple(cell.run.get(key, "") for key in keys) for cell in RUN if cell.run["encoder"] == "open_clip"}
    for model, tag, react in sorted(asked):
        file = tmp_path / (Path(react).name if react else "weights.pt")
        file.write_bytes(b"never opened as weights here")
        weights = {"react": str(file)} if react else {"pretrained": str(file), "origin": tag}
        source = resolve(OpenClipConfig(model=model, **weights))
        assert source.architecture.get("quick_gelu", False) == model.endswith("-quickgelu")
    released = {Path(react).stem for _, _, react in asked if react}
    assert released == set(RELEASED), "every released checkpoint has its cell"


def test_no_call_makes_more_than_the_cells_and_all_are_made() -> None:
    """The calls of each table, taken apart again, are the settings of its cells, each once."""
    for path in papers().values():
        for table in read_paper(path).tables:
            wanted = [cell.run for cell in table.cells if cell.run]
            calls = joined(wanted)
            made = [
                {**call, "benchmark": benchmark, "method": method}
                for call in calls
                for benchmark, method in itertools.product(call["benchmark"].split(","), call["method"].split(","))
            ]
            assert len(calls) <= len(made)
            distinct = {json.dumps(one, sort_keys=True) for one in map(dict, wanted)}
            assert sorted(json.dumps(one, sort_keys=True) for one in made) == sorted(distinct)
    few_shot = [cell.run for cell in read_paper(papers()["rar"]).table("table2").cells if cell.run]
    assert len(joined(few_shot)) == 4, "eleven sets each of: 1-NN and RAR over 4 and 8 shots"


@pytest.fixture
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIREME_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("nothing_here", "own_home")
def test_the_list_has_every_hard_table_and_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--list", "--format", "csv"]) == 0
    rows = {row["table"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    hard = {table.name for path in papers().values() for table in read_paper(path).tables if table.tier == "hard"}
    assert list(rows)[: len(hard)] == sorted(hard)
    assert set(rows) == {table.name for path in papers().values() for table in read_paper(path).tables}
    assert {row["here"] for row in rows.values()} == {"0"}
    assert all(row["needs"] for row in rows.values())
    assert "44: data sets coop/imagenet, coop/caltech101, rafdb, " in rows["rar/table2"]["needs"]
    assert "22: llava-v1.5-7b-fgvc-lora in " in rows["rar/table2"]["needs"]
    assert "5: its memory (1 B pairs of WebLI) is private and its code was not released" in rows["reco/table1"]["needs"]
    assert "run: trireme data prepare world" in rows["world/methods"]["needs"]


@pytest.mark.usefixtures("nothing_here")
def test_the_list_counts_what_is_here(world: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "world", "--list", "--format", "json"]) == 0
    rows = {row["table"]: row for row in json.loads(capsys.readouterr().out)}
    assert {(row["here"], row["needs"]) for row in rows.values()} == {(row["cells"], "") for row in rows.values()}
    assert main(["reproduce", "--list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("rar/table2", "react/imagenet", "reco/table1", "world/methods"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a table, such as `trireme reproduce rar/table2`"),
        (["raar"], "unknown paper 'raar'; did you mean 'rar'?"),
        (["rar/tabel2"], "unknown table 'rar/tabel2'; did you mean 'rar/table2'?"),
        (["raar/table2"], "unknown paper 'raar'; did you mean 'rar'?"),
        (["rar/table2", "method=knn"], "method= would change what the table says"),
        (["rar/table2", "encoder.model=ViT-B-32"], "encoder.model= would change what the table says"),
        (["rar/table2", "device"], "'device' is not KEY=VALUE"),
        (["rar/table2", "--where", "colum=DTD"], "unknown filter 'colum'; did you mean 'column'?"),
        (["rar/table2", "--where", "column=DTDs"], "no cell of rar/table2 fits --where column=DTDs"),
        (["rar/table2", "--format", "cvs"], "unknown format 'cvs'; did you mean 'csv'?"),
        (["react/imagenet", "encoder.pretrained=b32.pt"], "is a file of one encoder, but the cells have ViT-"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("nothing_here")
def test_a_wrong_request_is_one_line_and_exit_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", *words]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert len(shown.err.splitlines()) == 1
    assert not shown.out


@pytest.mark.usefixtures("nothing_here")
def test_collecting_from_nowhere_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "world/methods", "--collect", "--out", "nowhere"]) == 1
    assert "no results at nowhere" in capsys.readouterr().err


@pytest.mark.usefixtures("nothing_here")
def test_tables_of_another_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "reco/table1", "--tables", str(papers()["rar"])]) == 2
    assert "holds the tables of 'rar', not of 'reco'" in capsys.readouterr().err


def test_a_file_of_weights_may_stand_for_the_tag(tmp_path: Path) -> None:
    """For the cells that have the tag, and for no other: not for a checkpoint of REACT, not for a ranker's model."""
    here = Here({"encoder.pretrained": "/weights/b32.pt", "encoder.origin": "openai", "ranker.dtype": "float16"})
    imagenet = read_paper(papers()["react"]).table("imagenet").cells
    base, tuned = here.settings(imagenet[0]), here.settings(imagenet[1])
    assert (base["encoder.pretrained"], base["encoder.origin"]) == ("/weights/b32.pt", "openai")
    assert not {"encoder.pretrained", "encoder.origin", "ranker.dtype"} & tuned.keys()
    asking = next(cell for cell in CELLS if "ranker.model" in cell.run)
    assert here.settings(asking)["ranker.dtype"] == "float16"
    with pytest.raises(UsageError, match="choose some by --where"):
        here.one_encoder(imagenet)


def test_names_are_listed_and_shown_without_heavy_imports(tmp_path: Path) -> None:
    script = (
        "import sys; from trireme.cli import main; main(['ls', 'paper']); main(['show', 'rar/table10']); "
        "print(*(m for m in ('torch', 'numpy', 'pandas', 'pyarrow', 'scipy') if m in sys.modules), file=sys.stderr)"
    )
    environment = {**os.environ, "TRIREME_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.stderr.strip() == ""
    listed = done.stdout
    assert all(f"{path.stem}/" in listed for path in papers().values())
    assert "slip: gain of Qwen-VL, SUN397: printed 5, recomputed 15" in listed
    assert "97.5" in listed
