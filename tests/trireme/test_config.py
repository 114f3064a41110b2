"""Where YAML configs are found, and the grammar of `trireme run`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trireme import compose, config
from trireme.errors import UsageError
from trireme.plan import effective
from trireme.registry import BENCHMARKS, ENCODERS, METHODS, PAIR_SETS
from trireme.request import parse, parse_parts
from trireme.retrieval.index import IndexConfig
from trireme.types import WITHOUT_EFFECT, Role, without_effect


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's working folder, with an empty `configs` inside; returns the latter."""
    folder = tmp_path / "configs"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIREME_CONFIGS", raising=False)
    return folder


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


class TestFiles:
    @pytest.mark.parametrize("kind", ["encoder", "memory", "method"])
    def test_every_builtin_file_names_something_registered(self, kind: str, user: Path) -> None:
        registry = {"encoder": ENCODERS, "memory": PAIR_SETS, "method": METHODS}[kind]
        for name in config.config_files(kind):
            found = config.find(kind, name)
            assert found.target in registry
            assert found.description, f"{kind} {name} has no description"

    @pytest.mark.parametrize("kind", ["encoder", "method"])
    def test_every_builtin_file_fits_its_schema(self, kind: str, user: Path) -> None:
        for name in config.names(kind):
            component, _ = compose.method(name, {}) if kind == "method" else compose.encoder(name, {}, None, None)
            assert component.label == name

    def test_every_suite_names_known_things(self, user: Path) -> None:
        for name in config.config_files("suite"):
            request = parse([f"suite={name}"])
            assert all(benchmark in BENCHMARKS for benchmark in request.benchmarks)
            assert request.methods

    def test_files_of_the_working_folder_and_of_the_variable_add_names(
        self, user: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(user, "method/mine/k5", "method: knn\ndescription: five\nk: 5\n")
        other = tmp_path / "elsewhere"
        write(other, "method/theirs", "method: knn\n")
        monkeypatch.setenv("TRIREME_CONFIGS", str(other))
        assert {"mine/k5", "theirs", "knn"} <= set(config.names("method"))
        assert config.find("method", "mine/k5").fields == {"k": 5}

    def test_a_clash_is_an_error(self, user: Path) -> None:
        write(user, "memory/world", "pairs: world/memory\n")
        with pytest.raises(UsageError, match="memory config 'world' exists twice"):
            config.names("memory")

    def test_a_checkout_is_no_user_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From the root of a clone, `./configs` is the package's own folder (or another copy of it)."""
        monkeypatch.chdir(Path(__file__).resolve().parents[2])
        assert config.user_folders() == []

    def test_a_variable_that_names_no_folder(self, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRIREME_CONFIGS", "/no/such/folder")
        with pytest.raises(UsageError, match=r"\$TRIREME_CONFIGS names /no/such/folder"):
            config.names("method")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("method: knn\nk: [1,\n", "is not valid YAML"),
            ("- knn\n", "must hold `key: value` lines"),
            ("k: 5\n", "needs a line `method: NAME`"),
            ("method: knnn\n", "unknown method 'knnn'; did you mean 'knn'"),
        ],
    )
    def test_a_broken_file_is_named(self, user: Path, text: str, said: str) -> None:
        path = write(user, "method/broken", text)
        with pytest.raises(UsageError, match=said) as caught:
            config.find("method", "broken")
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_unknown_names(self, user: Path) -> None:
        for kind, typed, near in (("method", "knnn", "knn"), ("encoder", "lit", "lite"), ("memory", "wrld", "world")):
            with pytest.raises(UsageError, match=f"unknown {kind} '{typed}'; did you mean '{near}'"):
                config.find(kind, typed)

    def test_drawn_memories(self, user: Path) -> None:
        """NAME@N of a registered pair set, of a config and of a user's data; the settings are those of NAME."""
        write(user, "memory/mine", "pairs: world/train\nthreshold: 0.8\n")
        for name, target, shots, fields in (
            ("world/train@16", "world/train", 16, {}),
            ("mine@1", "world/train", 1, {"threshold": 0.8}),
            ("folder:photos@2", "folder:photos", 2, {}),
            ("csv:a@b.csv@3", "csv:a@b.csv", 3, {}),
            ("world/train", "world/train", 0, {}),
            ("csv:a@b.csv", "csv:a@b.csv", 0, {}),
            ("csv:me@x", "csv:me@x", 0, {}),
        ):
            found = config.find("memory", name)
            assert (found.name, found.target, found.shots, found.fields) == (name, target, shots, fields)

    def test_a_name_with_an_at_that_is_there_draws_nothing(self, user: Path) -> None:
        write(user, "memory/mine@4", "pairs: world/train\n")
        (user.parent / "photos@2").mkdir()
        for name, target in (
            ("mine@4", "world/train"),
            (f"folder:{user.parent}/photos@2", ""),
            ("folder:photos@2", ""),
        ):
            found = config.find("memory", name)
            assert (found.target, found.shots) == (target or name, 0)
        again = config.find("memory", "folder:photos@2@3")
        assert (again.target, again.shots) == ("folder:photos@2", 3)
        (user.parent / "built@4").mkdir()
        assert config.find("memory", "built:built@4").shots == 0

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("wrld@4", "unknown memory 'wrld@4'; did you mean 'world@4'"),
            ("world@", "unknown memory 'world@'; did you mean 'world'"),
            ("world@four", "unknown memory 'world@four'; did you mean 'world'"),
            ("world@-1", "unknown memory 'world@-1'; did you mean 'world'"),
            ("world@0", "memory 'world@0' draws no picture; N of NAME@N is from 1"),
            ("world@4@2", "memory 'world@4@2' draws twice"),
            (
                "built:there@4",
                "memory 'built:there@4': built: memories are used as they are, nothing is drawn from them",
            ),
            ("faiss:a.index@4", "memory 'faiss:a.index@4': faiss: memories are used as they are"),
        ],
    )
    def test_a_wrong_draw_is_one_line(self, name: str, said: str, user: Path) -> None:
        with pytest.raises(UsageError) as caught:
            config.find("memory", name)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


class TestGrammar:
    @pytest.fixture(autouse=True)
    def in_an_empty_folder(self, user: Path) -> None:
        write(user, "method/reco-16", "method: reco\nk: 16\n")
        write(user, "method/reco-16.b", "method: reco\n")

    def test_names_seeds_and_an_override(self) -> None:
        """The example of the README's everyday use, with an encoder and an override."""
        request = parse(["method=reco,knn", "benchmark=world/food", "encoder=lite", "method.reco.k=16", "seed=0,1,2"])
        assert request.methods == ("reco", "knn")
        assert request.benchmarks == ("world/food",)
        assert request.seeds == (0, 1, 2)
        assert request.overrides == {("method", "reco"): {"k": "16"}}
        assert request.role is Role.TEST
        assert request.memories == ()

    def test_overrides_reach_the_longest_selected_name(self) -> None:
        request = parse(
            ["method=reco,reco-16,reco-16.b", "benchmark=world/all", "method.reco-16.k=4", "method.reco-16.b.k=5"]
        )
        assert request.overrides == {("method", "reco-16"): {"k": "4"}, ("method", "reco-16.b"): {"k": "5"}}

    def test_parts_take_overrides(self) -> None:
        request = parse(
            ["method=knn", "benchmark=world/all", "encoder=open_clip", "encoder.model=ViT-B-16", "memory.index=hnsw"]
        )
        assert request.overrides == {("encoder", "open_clip"): {"model": "ViT-B-16"}, ("memory", ""): {"index": "hnsw"}}

    def test_a_suite_is_a_default_for_every_list(self, user: Path) -> None:
        write(
            user, "suite/mine", "benchmarks: [world/food, world/faces]\nmethods: [knn]\nseeds: [3]\nmemories: [world]\n"
        )
        request = parse(["suite=mine"])
        assert (request.methods, request.seeds, request.memories) == (("knn",), (3,), ("world",))
        narrowed = parse(["suite=mine", "benchmark=world/food", "seed=1"])
        assert (narrowed.benchmarks, narrowed.seeds) == (("world/food",), (1,))

    def test_your_own_pictures(self) -> None:
        request = parse(["method=knn", "benchmark=folder:photos/test", "memory=folder:photos/train"])
        assert request.benchmarks == ("folder:photos/test",)
        assert request.memories == ("folder:photos/train",)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([], "nothing to run: give suite=NAME, or method=NAME benchmark=NAME; try `trireme run suite=world`"),
            (["method=knn"], "give benchmark=NAME"),
            (["benchmark=world/all"], "give method=NAME"),
            (["knn"], "'knn' is not key=value; did you mean method=knn?"),
            (["world/food"], "did you mean benchmark=world/food?"),
            (["metod=knn"], "unknown config key 'metod'; did you mean 'method'"),
            (["bench.k=1"], "unknown config key 'bench.k'"),
            (["method=knnn", "benchmark=world/all"], "unknown method 'knnn'; did you mean 'knn'"),
            (["method=knn", "benchmark=world/al"], "unknown benchmark 'world/al'; did you mean 'world/all'"),
            (["method=knn", "benchmark=world/all", "encoder=light"], "unknown encoder 'light'; did you mean 'lite'"),
            (["method=knn", "benchmark=world/all", "memory=worlds"], "unknown memory 'worlds'; did you mean 'world'"),
            (["method=knn", "benchmark=world/all", "seed=a"], "seed=a: expected whole numbers"),
            (["method=knn", "benchmark=world/all", "seed=-1"], "seed=-1: expected whole numbers"),
            (["method=knn", "benchmark=world/all", "role=training"], "role=training: expected test or validation"),
            (["method=knn", "benchmark=world/all", "batch_size=0"], "batch_size=0: expected a whole number from 1"),
            (["method=knn", "benchmark=world/all", "method=reco"], "method is given twice; write method=knn,reco"),
            (["method=knn", "benchmark=world/all", "out="], "out= has no value"),
            (["method=knn", "benchmark=world/all", "method.reco.k=1"], "'reco' is not in this run; add it to method="),
            (["method=knn", "benchmark=world/all", "method.k=1"], "write method.knn.k=VALUE"),
            (["method=knn", "benchmark=world/all", "method.kn.k=1"], "unknown method 'kn'; did you mean 'knn'"),
            (["suite=wrld"], "unknown suite 'wrld'; did you mean 'world'"),
        ],
    )
    def test_a_wrong_request_is_one_line(self, arguments: list[str], said: str) -> None:
        with pytest.raises(UsageError) as caught:
            parse(arguments)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2

    def test_a_suite_with_a_wrong_key(self, user: Path) -> None:
        write(user, "suite/odd", "benchmark: [world/all]\nmethods: [knn]\n")
        with pytest.raises(UsageError, match="unknown config key 'benchmark'; did you mean 'benchmarks'"):
            parse(["suite=odd"])

    def test_parts_alone(self) -> None:
        request = parse_parts(["memory=world", "memory.threshold=0.5"])
        assert request.encoders == ("lite",)
        assert request.overrides == {("memory", "world"): {"threshold": "0.5"}}
        with pytest.raises(UsageError, match="seed= has no meaning here"):
            parse_parts(["memory=world", "seed=1"])
        assert parse_parts(["memory=world@4", "seed=1"]).seeds == (1,)
        assert parse_parts(["memory=world@4"]).seeds == (0,)

    @given(st.lists(st.text(alphabet="abk=./,[]{}:\x00 é1-", max_size=12), max_size=4))
    def test_nonsense_is_a_usage_error_or_a_request(self, arguments: list[str]) -> None:
        with pytest.raises(UsageError, match=r"\A.+\Z"):  # none of these can name a method and a benchmark
            parse(arguments)


@dataclass
class Schema:
    k: int = 10
    lr: float = 1e-3
    name: str | None = None
    mode: Literal["uni", "cross"] = "uni"
    grid: dict[str, list[float]] = field(default_factory=dict)
    index: IndexConfig = field(default_factory=IndexConfig)
    threads: int = field(default=0, metadata=WITHOUT_EFFECT)


def resolve(fields: dict[str, Any], overrides: dict[str, Any]) -> compose.Component:
    return compose.resolve(config.Named("method", "reco", "reco", "", fields, Path("reco.yaml")), Schema, overrides)


class TestSchema:
    def test_defaults_file_and_overrides_in_that_order(self) -> None:
        found = resolve(
            {"k": 5, "lr": 0.1}, {"lr": "1e-4", "index.kind": "hnsw", "grid": "{k: [1, 2]}", "grid.t": "[0.5]"}
        )
        assert isinstance(found.config, Schema)
        assert (found.config.k, found.config.lr) == (5, 1e-4)
        assert found.config.index == IndexConfig(kind="hnsw")
        assert found.resolved()["grid"] == {"k": [1.0, 2.0], "t": [0.5]}

    def test_a_bare_word_is_the_kind_of_a_nested_config(self) -> None:
        assert resolve({}, {"index": "hnsw"}).config.index.kind == "hnsw"
        assert resolve({"index": "hnsw"}, {"index.ef_search": "32"}).config.index == IndexConfig("hnsw", ef_search=32)

    def test_the_label_shows_what_the_command_line_changed(self) -> None:
        assert resolve({}, {}).label == "reco"
        assert resolve({"k": 16}, {}).label == "reco", "a file's own settings are what its name stands for"
        assert resolve({}, {"k": "16"}).label == "reco(k=16)"
        assert resolve({}, {"k": "10"}).label == "reco", "nothing differs from what the name stands for"
        assert resolve({}, {"mode": "cross", "k": "4"}).label == "reco(k=4, mode=cross)"

    def test_fields_without_effect_are_options_and_no_more(self) -> None:
        found = resolve({}, {"threads": "8", "k": "16"})
        assert (found.config.threads, found.label) == (8, "reco(k=16)")
        assert without_effect(Schema) == {"threads"}
        assert "threads" not in effective(found)
        assert effective(found) == effective(resolve({"k": 16, "threads": 2}, {}))

    def test_the_device_is_without_effect_for_every_encoder(self) -> None:
        for name in ("lite", "open_clip", "transformers"):
            component, _ = compose.encoder(name, {"device": "cpu"}, None, None)
            assert (component.config.device, component.label) == ("cpu", name)
            assert without_effect(component.schema) == {"device"}

    @pytest.mark.parametrize(
        ("fields", "overrides", "said"),
        [
            ({}, {"kk": "1"}, "method.reco: unknown config key 'kk'; did you mean 'k'"),
            ({}, {"index.ef": "1"}, "method.reco: unknown config key 'index.ef'; did you mean 'index"),
            ({}, {"k": "many"}, "method.reco: k=many: Value 'many' of type 'str' could not be converted to Integer"),
            ({}, {"k": "1.5"}, "method.reco: k=1.5"),
            ({}, {"mode": "both"}, "expected one of ['uni', 'cross']"),
            ({}, {"index": "hnws"}, "unknown index 'hnws'; did you mean 'hnsw'"),
            ({}, {"k": "[1"}, "'[1' cannot be read as a value"),
            ({}, {"k": "..."}, "'...' cannot be read as a value"),
            ({}, {"k": "${x}"}, "'${x}' cannot be read as a value"),
            ({"kk": 1}, {}, "reco.yaml: unknown config key 'kk'; did you mean 'k'"),
            ({"k": "many"}, {}, "reco.yaml: k=many"),
            ({"index": {"ef": 1}}, {}, "reco.yaml: unknown config key 'index.ef'"),
        ],
    )
    def test_what_does_not_fit_is_one_line(self, fields: dict[str, Any], overrides: dict[str, Any], said: str) -> None:
        with pytest.raises(UsageError) as caught:
            resolve(fields, overrides)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)

    @given(st.integers(min_value=-(2**31), max_value=2**31), st.floats(allow_nan=False, allow_infinity=False))
    def test_numbers_survive_the_command_line(self, k: int, lr: float) -> None:
        found = resolve({}, {"k": str(k), "lr": repr(lr)})
        assert (found.config.k, found.config.lr) == (k, lr)
