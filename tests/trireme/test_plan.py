"""Which runs a request stands for, and what their hashes depend on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.end_to_end.conftest import draw
from trireme import compose
from trireme.errors import DataError, TriremeError, UsageError
from trireme.plan import Run, default_memory, effective, make_plan, training_sets
from trireme.request import parse
from trireme.types import Role
from trireme.workbench import Workbench


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIREME_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "test", 2, seed=1)
    draw(tmp_path / "other", 2, seed=4)
    draw(tmp_path / "train", 2, seed=2)
    return tmp_path


ENCODER = ("encoder=open_clip", "encoder.model=ViT-S-32-alt", "encoder.random=true")


def plan(*arguments: str) -> list[Run]:
    request = parse([*ENCODER, *arguments])
    runs, failures = make_plan(request, Workbench(request))
    assert not failures
    return runs


def one(*arguments: str) -> Run:
    [run] = plan(*arguments)
    return run


BASE = ("method=knn", "benchmark=folder:test", "memory=folder:train")


def test_every_combination_once(folder: Path) -> None:
    runs = plan("method=zero_shot,knn", "benchmark=folder:test,folder:other", "memory=folder:train", "seed=0,1")
    assert len(runs) == len({run.hash for run in runs}) == 2 * 2 * 2
    assert len({run.name for run in runs}) == 8


def test_a_method_without_memory_is_one_run_for_all_memories(folder: Path) -> None:
    runs = plan("method=zero_shot,knn", "benchmark=folder:test", "memory=folder:train,folder:other")
    assert [run.method.name for run in runs].count("zero_shot") == 1
    assert [run.method.name for run in runs].count("knn") == 2


@pytest.mark.parametrize(
    "changed",
    [
        ("seed=1",),
        ("method.knn.k=2",),
        ("encoder.seed=1",),
        ("dtype=bfloat16",),
        ("memory.threshold=0.5",),
        ("memory.index=hnsw",),
    ],
    ids=" ".join,
)
def test_what_can_change_a_score_changes_the_hash(changed: tuple[str, ...], folder: Path) -> None:
    assert one(*BASE, *changed).hash != one(*BASE).hash


@pytest.mark.parametrize(
    "changed", [("device=cpu",), ("batch_size=3",), ("workers=1",), ("out=x",), ("method.knn.k=1",)], ids=" ".join
)
def test_what_cannot_change_a_score_does_not(changed: tuple[str, ...], folder: Path) -> None:
    assert one(*BASE, *changed).hash == one(*BASE).hash


def test_a_drawn_memory_is_another_memory_for_every_seed(folder: Path) -> None:
    """One of them where the rule needs no seed: then seeds give one memory, though they stay runs of their own."""
    draw(folder / "three", 3, seed=3)
    drawn = ("method=knn", "benchmark=folder:test", "memory=folder:three@1,folder:three@2", "seed=0,1")
    request = parse([*ENCODER, *drawn])
    bench = Workbench(request)
    runs, _ = make_plan(request, bench)
    assert len({run.hash for run in runs}) == 4

    def prints(bench: Workbench, runs: list[Run]) -> set[str]:
        return {bench.memory_fingerprint(run.memory or "", run.encoder, run.benchmark, run.seed) for run in runs}

    assert len(prints(bench, runs)) == 4
    first = parse([*ENCODER, *drawn, "memory.draw=first"])
    unseeded = Workbench(first)
    runs, _ = make_plan(first, unseeded)
    assert len({run.hash for run in runs}) == 4
    assert len(prints(unseeded, runs)) == 2
    assert {run.memory: unseeded.memory_component(run.memory or "").label for run in runs} == {
        "folder:three@1": "folder:three@1(draw=first)",
        "folder:three@2": "folder:three@2(draw=first)",
    }


def test_a_method_without_memory_is_one_run_a_seed_for_all_draws(folder: Path) -> None:
    drawn = ("benchmark=folder:test", "memory=folder:train,folder:train@1,folder:train@2", "seed=0,1,2")
    assert len(plan("method=zero_shot", *drawn)) == 3
    assert one("method=zero_shot", *BASE[1:]).hash == one("method=zero_shot", "benchmark=folder:test").hash


def test_the_rule_of_drawing_changes_nothing_of_a_memory_that_is_not_drawn(folder: Path) -> None:
    whole, drawn = plan("method=knn", "benchmark=folder:test", "memory=folder:train,folder:train@1", "memory.draw=coop")
    assert whole.hash == one(*BASE).hash
    assert drawn.hash != one("method=knn", "benchmark=folder:test", "memory=folder:train@1").hash
    own = ("memory.draw=first", "memory=folder:train,@2")
    request = parse([*ENCODER, "method=knn", "benchmark=folder:test", *own])
    assert Workbench(request).memory_component("folder:train").label == "folder:train"  # the rule is for @2
    with pytest.raises(UsageError, match=r"memory\.draw=coop draws nothing here; name a memory as folder:train@4"):
        plan(*BASE, "memory.draw=coop")
    with pytest.raises(UsageError, match="unknown rule of drawing 'cop'; did you mean 'coop'"):
        plan("method=knn", "benchmark=folder:test", "memory=folder:train@1", "memory.draw=cop")


def test_options_that_a_method_marks_as_without_effect(folder: Path) -> None:
    """REACT's checkpoints cost time alone; passes of a batch with dropout, and others, change weights."""
    react = ("method=react-paper", *BASE[1:])
    plain = one(*react)
    for idle in ("checkpoint_every=7", "grad_checkpointing=true"):
        run = one(*react, f"method.react-paper.{idle}")
        assert (run.hash, run.method.label) == (plain.hash, "react-paper")
        assert idle.partition("=")[0] not in effective(run.method)
    for telling in ("accumulation=2", "evaluate_every=2", "precision=float32", "allow_empty=true"):
        assert one(*react, f"method.react-paper.{telling}").hash != plain.hash


@pytest.mark.parametrize("name", ["zero_shot", "knn", "reco"])
def test_hashes_of_other_methods_hold_every_option(name: str) -> None:
    """As before there was a mark, so that the names of their runs stay."""
    component, _ = compose.method(name, {})
    assert effective(component) == component.resolved()


@pytest.mark.parametrize("method", ["react-paper", "reco-start"])
def test_a_guard_for_a_subset_that_is_not_there_stops_the_plan(
    method: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is encoded. Pictures in folders have no subsets: a guard is void there, and no error."""
    (folder / "split").mkdir()
    (folder / "test").rename(folder / "split" / "test")
    (folder / "other").rename(folder / "split" / "val")
    choosing = {"react-paper": "patience=1", "reco-start": "grid={k: [1, 2]}"}[method]
    asked = (
        f"method={method}",
        "benchmark=folder:split",
        "memory=folder:train",
        f"method.{method}.{choosing}",
        f"method.{method}.may_lose={{comon: 1.0}}",
    )
    assert one(*asked).validation == "folder:split"
    opened = compose.benchmark
    subsets = {"all": None, "common": ("",)}
    monkeypatch.setattr(compose, "benchmark", lambda *asked: replace(opened(*asked), subsets=subsets))
    with pytest.raises(UsageError, match="subset of folder:split in may_lose 'comon'; did you mean 'common'"):
        plan(*asked)


def test_the_name_of_a_method_is_not_part_of_the_hash(folder: Path) -> None:
    method = folder / "configs" / "method"
    method.mkdir(parents=True)
    (method / "nearest.yaml").write_text("method: knn\nk: 1\n")
    assert one("method=nearest", *BASE[1:]).hash == one(*BASE).hash


def test_pictures_and_names_change_the_hash(folder: Path) -> None:
    before = one(*BASE).hash
    picture = folder / "test" / "red square" / "000.png"
    picture.write_bytes((folder / "other" / "red square" / "000.png").read_bytes())
    changed = one(*BASE).hash
    assert changed != before
    (folder / "test" / "red square").rename(folder / "test" / "scarlet square")
    assert one(*BASE).hash not in (before, changed)


def test_a_memory_is_needed_where_the_method_says_so(folder: Path) -> None:
    with pytest.raises(UsageError, match="method 'knn' needs a memory for folder:test; add memory=NAME"):
        plan("method=knn", "benchmark=folder:test")
    with pytest.raises(UsageError, match="needs a memory"):
        plan("method=knn", "benchmark=folder:test", "memory=none")


def test_one_reason_for_all_runs_is_said_once(folder: Path) -> None:
    with pytest.raises(TriremeError, match="missing"):
        plan("method=zero_shot,knn", "benchmark=folder:missing", "memory=folder:train")


def test_a_benchmark_that_cannot_be_opened_does_not_stop_the_others(folder: Path) -> None:
    request = parse([*ENCODER, "method=zero_shot", "benchmark=folder:missing,folder:test"])
    runs, failures = make_plan(request, Workbench(request))
    assert [run.benchmark for run in runs] == ["folder:test"]
    assert [failure.what for failure in failures] == ["zero_shot on folder:missing, open_clip"]


def test_pictures_of_the_benchmark_are_kept_out_of_the_memory(folder: Path) -> None:
    """The same folder as benchmark and as memory: every pair is a copy of a test picture, so none is left."""
    request = parse([*ENCODER, "method=knn", "benchmark=folder:test", "memory=folder:test"])
    bench = Workbench(request)
    [run], _ = make_plan(request, bench)
    assert run.memory is not None
    with pytest.raises(DataError, match="12 near-duplicates"):
        bench.memory(run.memory, run.encoder, run.benchmark)


def test_nothing_trains_on_a_picture_of_its_benchmark(folder: Path) -> None:
    """One picture of the test folder, under another name, is enough."""
    arguments = ("method=reco", *BASE[1:], "method.reco.train_on=[folder:other]")
    assert one(*arguments).training_sets == ("folder:other",)
    stolen = (folder / "test" / "red square" / "000.png").read_bytes()
    (folder / "other" / "red square" / "007.png").write_bytes(stolen)
    with pytest.raises(TriremeError, match=r"holds 1 pictures of 'folder:test' \(first: red square/007.png\)"):
        plan(*arguments)


def test_unknown_settings_of_a_part_are_told_before_anything_runs(folder: Path) -> None:
    with pytest.raises(UsageError, match="memory: unknown config key 'indx'; did you mean 'index'"):
        plan(*BASE, "memory.indx=hnsw")
    with pytest.raises(UsageError, match="encoder: unknown config key 'modl'; did you mean 'model'"):
        plan(*BASE, "encoder.modl=x")


def test_default_memories() -> None:
    assert default_memory("world/food") == "world"
    assert default_memory("world/tiny") == "world/tiny"
    assert default_memory("world/tiny-validation") == "world/tiny"
    assert default_memory("folder:x") is None


def test_pair_sets_named_anywhere_in_a_configuration() -> None:
    config = {
        "k": 3,
        "train_on": ["world/train-fresh", "nothing"],
        "inner": {"more": "world/train"},
        "name": "world/all",
    }
    assert training_sets(config) == ("world/train-fresh", "world/train")


def test_validation_of_a_split_folder(folder: Path) -> None:
    """Pictures of `val` are for the VALIDATION role, which `role=validation` scores."""
    (folder / "split").mkdir()
    (folder / "test").rename(folder / "split" / "test")
    (folder / "other").rename(folder / "split" / "val")
    test = one("method=zero_shot", "benchmark=folder:split")
    validation = one("method=zero_shot", "benchmark=folder:split", "role=validation")
    assert (test.role, validation.role) == (Role.TEST, Role.VALIDATION)
    assert test.hash != validation.hash


def test_validation_counts_only_for_a_method_that_selects(folder: Path) -> None:
    """knn chooses k on validation pictures where a grid is given, and looks at none of them otherwise."""
    (folder / "split").mkdir()
    (folder / "test").rename(folder / "split" / "test")
    (folder / "other").rename(folder / "split" / "val")
    plain = ("method=knn", "benchmark=folder:split", "memory=folder:train")
    choosing = (*plain, "method.knn.grid={k: [1, 3]}")
    assert one(*plain).validation is None
    assert one(*choosing).validation == "folder:split"


def test_nothing_is_chosen_on_test_pictures(folder: Path) -> None:
    draw(folder / "leak" / "test", 2, seed=1)
    draw(folder / "leak" / "val", 2, seed=3)
    asked = ("method=knn", "benchmark=folder:leak", "memory=folder:train")
    assert one(*asked, "method.knn.grid.k=[1,2]").validation == "folder:leak"
    copied = next((folder / "leak" / "test").rglob("*.png"))
    (folder / "leak" / "val" / copied.parent.name / "again.png").write_bytes(copied.read_bytes())
    with pytest.raises(TriremeError, match="1 validation pictures of 'folder:leak' are test pictures"):
        plan(*asked, "method.knn.grid.k=[1,2]")
    assert one(*asked).validation is None  # nothing is chosen


def test_boxes_of_one_picture_may_be_split_between_test_and_validation(folder: Path) -> None:
    """The same box may not, however much around it is shown, nor the whole picture of a test box."""
    picture = next((folder / "test").rglob("*.png"))
    asked = ("method=knn", "memory=folder:train", "method.knn.grid.k=[1,2]")
    header, test = "image,label,split,x,y,width,height\n", f"{picture},red,test,0,0,9,9\n"

    def named(*rows: str) -> str:
        table = folder / f"{len(list(folder.glob('*.csv')))}.csv"
        table.write_text(header + "".join(rows))
        return f"benchmark=csv:{table}"

    apart = named(test, f"{picture},red,val,9,9,9,9\n")
    assert one(*asked, apart).validation == apart.removeprefix("benchmark=")
    copy = folder / "copy.png"
    copy.write_bytes(picture.read_bytes())
    for row in (f"{copy},red,val,0,0,9,9\n", f"{copy},red,val,,,,\n"):
        with pytest.raises(TriremeError, match=r"1 validation pictures of .* are test pictures"):
            plan(*asked, named(test, row))
    with pytest.raises(TriremeError, match=r"1 validation pictures of .* are test pictures"):
        plan(*asked, named(f"{picture},red,test,,,,\n", f"{copy},red,val,0,0,9,9\n"))
