"""How options reach a benchmark and a pair set: `benchmark.KEY=VALUE`, configs/benchmark, `memory.pairs_options`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from trireme import compose, config
from trireme.commands.names import ls, show
from trireme.errors import TriremeError, UsageError
from trireme.request import parse, parse_parts
from trireme.types import Role
from trireme.workbench import Workbench

pytestmark = pytest.mark.usefixtures("own_home")

HEADER = "file,species,family,text,split\n"
ROWS = (
    ("a", "fox", "dog", "test"),
    ("b", "owl", "bird", "test"),
    ("c", "fox", "dog", "val"),
    ("d", "owl", "bird", "train"),
)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a table whose columns have their own names, and a config of it; the table."""
    lines = [HEADER]
    for shade, (name, species, family, split) in enumerate(ROWS):
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(tmp_path / f"{name}.png")
        lines.append(f"{name}.png,{species},{family},a {species} at dusk,{split}\n")
    (tmp_path / "pets.csv").write_text("".join(lines))
    (tmp_path / "configs" / "benchmark").mkdir(parents=True)
    (tmp_path / "configs" / "benchmark" / "pets.yaml").write_text(
        "benchmark: csv:pets.csv\ndescription: animals at dusk\nimage: file\nlabel: species\n"
        "templates: ['a sketch of {}']\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIREME_CONFIGS", raising=False)
    return tmp_path / "pets.csv"


def opened(*arguments: str) -> Workbench:
    return Workbench(parse(["method=knn", *arguments]))


def test_options_of_the_command_line(data: Path) -> None:
    bench = opened("benchmark=csv:pets.csv", "benchmark.image=file", "benchmark.csv:pets.csv.label=family")
    found = bench.benchmark("csv:pets.csv")
    assert found.class_names == ("bird", "dog")
    assert found.name == "csv:pets.csv(image=file, label=family)"
    assert found.validation == "csv:pets.csv", "opened again by the same name, and so with the same options"
    assert bench.benchmark("csv:pets.csv").samples(Role.VALIDATION)[0].id == "c.png"
    assert bench.validation_fingerprint("csv:pets.csv") == found.fingerprint(Role.VALIDATION)


def test_a_list_is_a_list(data: Path) -> None:
    bench = opened("benchmark=pets", 'benchmark.templates=["a {} at dusk", "one {}"]')
    assert bench.benchmark("pets").templates == ("a {} at dusk", "one {}")


def test_a_config_names_a_benchmark_and_its_options(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = opened("benchmark=pets")
    found = bench.benchmark("pets")
    assert (found.name, found.validation) == ("pets", "pets")
    assert (found.class_names, found.templates) == (("fox", "owl"), ("a sketch of {}",))
    assert bench.benchmark("pets").samples(Role.VALIDATION)[0].id == "c.png"
    other = opened("benchmark=pets", "benchmark.pets.label=family").benchmark("pets")
    assert (other.name, other.class_names) == ("pets(label=family)", ("bird", "dog"))
    assert other.fingerprint() != found.fingerprint()
    ls("benchmarks")
    assert "animals at dusk" in capsys.readouterr().out
    show("pets")
    assert "benchmark: csv:pets.csv" in capsys.readouterr().out


def test_only_content_counts_and_not_how_it_is_named(data: Path) -> None:
    options = ["benchmark.image=file", "benchmark.label=species", "benchmark.templates=['a sketch of {}']"]
    by_options = opened("benchmark=csv:pets.csv", *options).benchmark("csv:pets.csv")
    assert by_options.fingerprint() == opened("benchmark=pets").benchmark("pets").fingerprint()


def test_a_memory_has_options_for_its_pair_set(data: Path) -> None:
    typed = {"image": "file", "label": "species", "caption": "text"}
    arguments = [f"memory.pairs_options.{key}={value}" for key, value in typed.items()]
    bench = opened("benchmark=pets", "memory=csv:pets.csv", *arguments)
    [pair] = bench.memory_pairs("csv:pets.csv", 0).pairs()
    assert (pair.id, pair.label, pair.caption) == ("d.png", "owl", "a owl at dusk")
    folder = data.parent / "configs" / "memory"
    folder.mkdir()
    (folder / "mine.yaml").write_text(
        "pairs: csv:pets.csv\npairs_options: {image: file, label: species, caption: text}\nthreshold: 0.95\n"
    )
    assert opened("benchmark=pets", "memory=mine").memory_pairs("mine", 0).pairs() == (pair,)
    assert Workbench(parse_parts(["memory=mine@1"])).memory_pairs("mine@1", 0).base.pairs() == (pair,)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["benchmark=csv:pets.csv", "benchmark.lable=x"], "unknown option of csv: 'lable'; did you mean 'label'"),
        (["benchmark=pets", "benchmark.lable=x"], "unknown option of csv: 'lable'; did you mean 'label'"),
        (["benchmark=pets", "benchmark.name=x"], "unknown option of csv:pets.csv 'name'"),
        (["benchmark=pets", "benchmark.templates=sketch"], "templates must be a list of texts"),
        (["benchmark=petss"], "unknown benchmark 'petss'; did you mean 'pets'"),
        (["benchmark=folder"], "unknown benchmark 'folder'"),
    ],
)
def test_a_wrong_option_is_one_line(data: Path, arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        opened(*arguments).benchmark(arguments[0].removeprefix("benchmark="))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_option_of_a_pair_set_is_one_line(data: Path) -> None:
    bench = opened("benchmark=pets", "memory=csv:pets.csv", "memory.pairs_options.lable=x")
    with pytest.raises(UsageError, match="unknown option of csv: 'lable'; did you mean 'label'"):
        bench.memory_pairs("csv:pets.csv", 0)


def test_the_world_takes_no_options(data: Path) -> None:
    with pytest.raises(UsageError, match="world/food"):
        opened("benchmark=world/food", "benchmark.label=x").benchmark("world/food")


def test_a_command_without_a_benchmark_takes_no_options_for_one(data: Path) -> None:
    for key in ("benchmark.label", "method.knn.k", "method.k"):
        with pytest.raises(UsageError, match=f"{key}= has no meaning here"):
            parse_parts([f"{key}=1"])


def test_a_broken_config_is_named(data: Path) -> None:
    path = data.parent / "configs" / "benchmark" / "odd.yaml"
    for text, said in (
        ("label: species\n", "needs a line `benchmark: NAME`"),
        ("benchmark: csv\n", "unknown benchmark 'csv'"),
    ):
        path.write_text(text)
        config._read.cache_clear()
        with pytest.raises(UsageError, match=said) as caught:
            parse(["method=knn", "benchmark=odd"])
        assert str(path) in str(caught.value)


def test_openers_of_other_distributions(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One with options of its own by name, and one that gives something which cannot be called otherwise."""

    class Fixed:
        name, validation = "theirs", None

    def theirs(name: str, *, size: int = 1) -> Any:
        return Fixed()

    monkeypatch.setattr(type(compose.BENCHMARKS), "load", lambda self, name: theirs)
    assert compose.benchmark("world/food", {}).name == "theirs"
    with pytest.raises(UsageError, match="unknown option of world/food 'sise'; did you mean 'size'"):
        compose.benchmark("world/food", {"sise": "3"})
    with pytest.raises(TriremeError, match="takes no options here"):
        compose.benchmark("world/food", {"size": "3"})
