"""Metadata of model cards, read back by huggingface_hub: scores, intervals and seeds are those of the leaderboard."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from trireme.cli import main
from trireme.results.export.model_index import file_name
from trireme.results.leaderboard import leaderboard

from .synthetic import store

FROZEN = Path(__file__).parent / "frozen" / "v1"
LABELS = [0, 1, 2, 3]


def cards(out: Path, folder: Path, *arguments: str) -> dict[str, ModelCard]:
    assert main(["export", "model-index", str(out), "--save", str(folder), *arguments]) == 0
    return {path.stem: ModelCard(path.read_text(encoding="utf-8")) for path in folder.iterdir()}


def test_every_score_of_real_records_is_in_one_card(tmp_path: Path) -> None:
    """Classification, joined seeds, a ranker and detection; the leaderboard has one row a score."""
    table = leaderboard(FROZEN).fillna({"memory": "no memory"}).dropna(subset="score")
    expected = {
        (row.benchmark, row.subset, row.metric, row.run): (row.score, row.n, row.seeds, row.memory, row.encoder)
        for row in table.itertuples()
    }
    found = {}
    for card in cards(FROZEN, tmp_path / "cards").values():
        assert card.data.library_name == "trireme-bench"
        for one in card.data.eval_results:
            args = one.metric_args
            assert (args["unit"], one.dataset_split) == ("percent", "test")
            told = (one.metric_value, args["n"], args["seeds"], args["memory"], "lite")
            assert found.setdefault((one.dataset_type, one.dataset_config, one.metric_name, args["run"]), told) == told
    assert found == expected


def test_a_card_says_task_dataset_and_metric_in_the_hubs_words(tmp_path: Path) -> None:
    """25 % less than all of four: 75.0, from the record's own predictions."""
    store(tmp_path / "out", [1, 1, 1, 0], LABELS, method__name="reco")
    (card,) = cards(tmp_path / "out", tmp_path / "cards").values()
    assert card.data.model_name == "reco (lite)"
    one = next(r for r in card.data.eval_results if (r.metric_name, r.dataset_config) == ("top1", "all"))
    assert (one.task_type, one.metric_type) == ("zero-shot-image-classification", "accuracy")
    assert (one.dataset_type, one.dataset_name, one.dataset_revision) == ("world/all", "world/all, all", "b" * 16)
    assert one.metric_value == 75.0
    assert one.metric_args["ci_low"] <= 75.0 <= one.metric_args["ci_high"]


def test_settings_of_one_method_are_models_of_their_own(tmp_path: Path) -> None:
    """Two memories on one benchmark, and a second benchmark: no card has two scores of one kind."""
    store(tmp_path / "out", [1, 1, 1, 0], LABELS)
    store(tmp_path / "out", [1, 0, 1, 0], LABELS, memory__name="mine", memory__fingerprint="1" * 16)
    store(tmp_path / "out", [1, 0, 0, 0], LABELS, method__name="reco")
    store(
        tmp_path / "out",
        [0, 0, 0, 0],
        LABELS,
        method__name="reco",
        benchmark__name="cub",
        benchmark__fingerprint="c" * 16,
        memory__name="mine",
    )
    found = cards(tmp_path / "out", tmp_path / "cards")
    assert set(found) == {"knn-lite-mine", "knn-lite-world-memory", "reco-lite"}
    assert {one.dataset_type for one in found["reco-lite"].data.eval_results} == {"world/all", "cub"}
    top1 = {
        name: [one.metric_value for one in card.data.eval_results if (one.metric_name, one.dataset_config) == key]
        for key in [("top1", "all")]
        for name, card in found.items()
    }
    assert top1 == {"knn-lite-mine": [50.0], "knn-lite-world-memory": [75.0], "reco-lite": [0.0, 25.0]}


def test_configurations_on_different_benchmarks_share_no_card(tmp_path: Path) -> None:
    """No score repeats, and yet k = 1 and k = 50 are two models."""
    store(tmp_path / "out", [1, 1, 1, 0], LABELS)
    told = {"benchmark__name": "cub", "benchmark__fingerprint": "c" * 16}
    store(tmp_path / "out", [1, 0, 1, 0], LABELS, method__config={"k": 50}, **told)
    found = cards(tmp_path / "out", tmp_path / "cards")
    assert len(found) == 2
    assert [{one.dataset_type for one in card.data.eval_results} for card in found.values()] in (
        [{"cub"}, {"world/all"}],
        [{"world/all"}, {"cub"}],
    )


def test_printing_and_choosing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for method in ("knn", "reco", "rar"):
        store(tmp_path, [1, 0, 1, 0], LABELS, method__name=method)
    assert main(["export", "model-index", str(tmp_path), "--where", "method=knn,rar"]) == 0
    documents = capsys.readouterr().out.split("---\n")[1:]
    names = [ModelCard(f"---\n{text.rstrip()}\n---\n").data.model_name for text in documents]
    assert names == ["knn (lite)", "rar (lite)"]


def test_half_of_the_seeds_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        store(tmp_path, [1, 0, 1, seed], LABELS, seed=seed)
    assert main(["export", "model-index", str(tmp_path), "--where", "seed=0"]) == 2
    assert "joined over its seeds (0,1); leave seed and run out of --where" in capsys.readouterr().err


def test_file_names() -> None:
    assert file_name("knn (lite, folder:my pictures/x)") == "knn-lite-folder-my-pictures-x.yaml"
