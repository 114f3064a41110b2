"""RAR from outside: runs, records and tables of a method that asks a ranker, and a ranker that dies or falls silent.

The ranker is `stand_in.py`, brought by an entry point; everything else is real.
"""

from __future__ import annotations

import ast
import csv
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

import trireme.plugins
from tests.end_to_end.conftest import Place
from tests.end_to_end.stand_in import NONSENSE, REFUSAL
from tests.trireme.test_registry import install_plugin
from trireme.files import home
from trireme.results import find_runs, load, pivot, read_predictions
from trireme.results.records import RunRecord
from trireme.results.statistics import score_rows

RAR = "rar-list(ranker=stand-in)"
TINY = ("benchmark=world/tiny", "method.rar-list.ranker=stand-in")
COLUMNS = "method,benchmark,subset,metric,score,ci_low,ci_high,n,encoder,memory,seeds,run"


@dataclass
class Ranker:
    """The installed stand-in, and the folder of files that it obeys."""

    folder: Path

    def asked(self) -> list[str]:
        """The pictures of all questions so far, in order."""
        path = self.folder / "asked.txt"
        return path.read_text().splitlines() if path.exists() else []

    def silent_for(self, *parts: str) -> None:
        (self.folder / "silent.txt").write_text("\n".join(parts))

    def dies(self, how: str = "", call: int = 0) -> None:
        """`kill` or `interrupt` at a call; nothing of the kind without arguments."""
        (self.folder / "dies.txt").write_text(f"{how} {call}" if how else "")

    def installed(self, patch: pytest.MonkeyPatch) -> Ranker:
        """Here, and for every process that is started."""
        entry = "[trireme.rankers]\nstand-in = stand_in_plugin:StandIn\n"
        source = Path(__file__).with_name("stand_in.py").read_text()
        install_plugin(self.folder / "plugins", "stand_in_plugin", entry, source)
        paths = [str(self.folder / "plugins"), *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.setenv("STAND_IN", str(self.folder))
        patch.syspath_prepend(str(self.folder / "plugins"))
        trireme.plugins.entries.cache_clear()
        return self


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """No other test shall see the stand-in among the rankers."""
    yield
    trireme.plugins.entries.cache_clear()


@pytest.fixture
def ranker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ranker:
    (tmp_path / "ranker").mkdir()
    return Ranker(tmp_path / "ranker").installed(monkeypatch)


def world_place(folder: Path) -> Place:
    """A place whose home shares all with the default one, pictures, weights and embeddings, but no replies."""
    place = Place(folder)
    place.home.mkdir(parents=True)
    for part in ("data", "packages", "models", "embeddings", "memories", "trained"):
        (home() / part).mkdir(exist_ok=True)
        (place.home / part).symlink_to(home() / part)
    return place


def record(place: Place, method: str = RAR, out: str = "out") -> RunRecord:
    [found] = [one for one in find_runs(place.folder / out, strict=True) if one.method == method]
    return found


def lasting(found: RunRecord) -> tuple[Mapping[str, Any], pa.Table]:
    """What two runs of one comparison share: the record without times, place and command, and all predictions."""
    passing = {"created", "seconds", "images_per_second", "peak_memory_mib", "command", "predictions", "git"}
    kept = {key: value for key, value in found.data.items() if key not in passing}
    return kept, read_predictions(found)


def rows(table: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table)))


@pytest.fixture(scope="module")
def finished(world: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Ranker]]:
    """rar and knn on the tiny world, whole."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "ranker").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        ranker = Ranker(folder / "ranker").installed(patch)
        place = world_place(folder)
        place.trireme("run", "method=rar-list,knn", *TINY)
        yield place, ranker


def test_hit_is_the_share_of_samples_whose_class_is_a_candidate(finished: tuple[Place, Ranker]) -> None:
    """By hand from the stored columns; the first class is a candidate, so no sample can be right and no hit."""
    found = record(finished[0])
    assert found.data["metrics"][-1] == "hit@5"
    table = read_predictions(found).to_pylist()
    hits = [row["label"] in row["candidates"] for row in table]
    assert [row["hit@5"] for row in table] == hits
    assert all(row["top1"] <= row["hit@5"] for row in table)
    scores = {(row["subset"], row["metric"]): row["score"] for row in found.scores}
    assert scores["all", "hit@5"] == pytest.approx(100 * sum(hits) / len(hits), abs=1e-4)
    rare = [hit for hit, row in zip(hits, table, strict=True) if row["group"] == "rare"]
    assert scores["rare", "hit@5"] == pytest.approx(100 * sum(rare) / len(rare), abs=1e-4)
    assert all(scores[subset, "top1"] <= scores[subset, "hit@5"] for subset in ("all", "common", "rare"))


def test_every_reply_is_counted_by_what_became_of_it(finished: tuple[Place, Ranker]) -> None:
    """Expected statuses by what the stand-in said: its own two texts, one name of five, or all five."""
    found = record(finished[0])
    said = read_predictions(found)["reply"].to_pylist()
    lists = [text for text in said if text.startswith("[")]
    expected = {
        "refused": said.count(REFUSAL),
        "unreadable": said.count(NONSENSE),
        "repaired": sum(len(ast.literal_eval(text)) == 1 for text in lists),
        "ok": sum(len(ast.literal_eval(text)) == 5 for text in lists),
    }
    assert sum(expected.values()) == len(said) == found.data["samples"]["done"]
    assert sum(count > 0 for count in expected.values()) >= 3, "else this test would show little"
    replies = found.data["replies"]
    assert replies["statuses"] == {status: count for status, count in expected.items() if count}
    assert (replies["prompt_tokens"], replies["completion_tokens"]) == (10 * len(said), 3 * len(said))
    assert record(finished[0], "knn").data["replies"] is None


def test_scores_can_be_made_again_from_the_stored_predictions(finished: tuple[Place, Ranker]) -> None:
    found = record(finished[0])
    data = found.data
    assert score_rows(read_predictions(found), data["benchmark"]["subsets"], data["metrics"]) == list(found.scores)


def test_the_tables_show_ceiling_and_replies(finished: tuple[Place, Ranker]) -> None:
    place, _ = finished
    found = record(place)
    scores = {(row["subset"], row["metric"]): row["score"] for row in found.scores}
    ceiling = " / ".join(f"{scores[subset, 'hit@5']:.1f}" for subset in ("all", "common", "rare"))
    printed = place.trireme("leaderboard", "out", "--format", "md").stdout
    header, _, *lines = [line for line in printed.splitlines() if line.startswith("|")]
    assert "| hit@5: all / common / rare |" in " ".join(header.split())
    [line] = [line for line in lines if RAR in line]
    assert ceiling in line
    assert f"{found.data['replies']['statuses']['ok']} ok" in line
    assert printed.splitlines()[0].endswith("ranker stand-in")


def test_csv_and_frames(finished: tuple[Place, Ranker]) -> None:
    place, _ = finished
    table = place.table()
    assert table.splitlines()[0] == COLUMNS
    assert {row["metric"] for row in rows(table) if row["method"] == RAR} == {"top1", "top5", "hit@5"}
    assert {row["metric"] for row in rows(table) if row["method"] == "knn"} == {"top1", "top5"}
    frame = load(place.folder / "out")
    mine, other = (frame[frame["method"] == name].iloc[0] for name in (RAR, "knn"))
    statuses = record(place).data["replies"]["statuses"]
    assert {s: mine[f"replies_{s}"] for s in statuses} == statuses
    assert (mine["replies_timeout"], mine["ranker"]) == (0, "stand-in")
    assert pd.isna(other["replies_ok"])
    assert pd.isna(other["ranker"])
    for by in ("subset", "benchmark"):
        printed = place.trireme("leaderboard", "out", "--by", by).stdout
        assert "top1 in %" in printed
        assert "hit@5" not in printed
    assert pivot(frame, "subset", metric="hit@5").index.tolist() == [RAR]


def test_compare_is_the_difference_of_the_table(finished: tuple[Place, Ranker]) -> None:
    place, _ = finished
    top1 = {
        (row["method"], row["subset"]): float(row["score"]) for row in rows(place.table()) if row["metric"] == "top1"
    }
    printed = place.trireme("compare", RAR, "knn").stdout.splitlines()
    for subset in ("all", "common", "rare"):
        [line] = [line for line in printed if f" {subset} " in line and " top1 " in line]
        assert f" {top1[RAR, subset] - top1['knn', subset]:+.1f} " in line


def test_running_again_asks_nothing(finished: tuple[Place, Ranker]) -> None:
    place, ranker = finished
    before = ranker.asked()
    assert "0 runs computed, 2 already there" in place.trireme("run", "method=rar-list,knn", *TINY).stderr
    place.trireme("run", "method=rar-list", *TINY, "out=other")  # computed anew, from the stored replies
    assert ranker.asked() == before
    assert len(before) == len(set(before)) == record(place).data["samples"]["done"]
    assert lasting(record(place, out="other")) == lasting(record(place))


@pytest.mark.parametrize("how", ["kill", "interrupt"])
def test_a_run_that_dies_goes_on_and_asks_nothing_twice(
    how: str, finished: tuple[Place, Ranker], tmp_path: Path, ranker: Ranker
) -> None:
    """Two batches of 16 are answered when it dies."""
    place = world_place(tmp_path / "place")
    arguments = ("run", "method=rar-list,knn", *TINY, "batch_size=16")
    ranker.dies(how, 3)
    if how == "kill":
        process = place.start(*arguments)
        process.communicate(timeout=600)
        assert process.returncode == -9
    else:
        assert "interrupted; run the same command again" in place.trireme(*arguments, code=130).stderr
    assert len(ranker.asked()) == 32
    assert not list((place.folder / "out").glob("runs/rar*"))
    ranker.dies()
    assert "going on after 32 of " in place.trireme(*arguments).stderr
    assert len(ranker.asked()) == len(set(ranker.asked())) == record(place).data["samples"]["done"]
    assert place.table() == finished[0].table()
    assert lasting(record(place)) == lasting(record(finished[0]))


@pytest.fixture
def drawn(model: Path, pictures: Path) -> tuple[str, ...]:
    """120 drawn pictures; of them, 1 is less than 1 %, 2 are more."""
    return (
        "run",
        "method=rar-list",
        "method.rar-list.ranker=stand-in",
        f"benchmark=folder:{pictures / 'test'}",
        f"memory=folder:{pictures / 'train'}",
        "encoder=open_clip",
        f"encoder.model=local-dir:{model}",
    )


def whole_record(place: Place, drawn: tuple[str, ...]) -> RunRecord:
    """The record of a run that nothing disturbs, in a home of its own."""
    whole = Place(place.folder / "whole")
    whole.folder.mkdir()
    whole.trireme(*drawn)
    return record(whole)


def test_one_sample_without_reply_is_marked_and_asked_again(
    place: Place, drawn: tuple[str, ...], ranker: Ranker
) -> None:
    """Still silent, interrupted, then answered: the record stays until a better one is whole, then it is that one."""
    ranker.silent_for("red square/007")
    done = place.trireme(*drawn)
    assert "warning: no reply for 1 samples" in done.stderr
    assert "1 timeout" in done.stdout
    marked = record(place)
    assert marked.data["replies"]["statuses"]["timeout"] == 1
    assert marked.data["samples"] == {"asked": 120, "done": 120, "failed": 0, "failures": []}
    [row] = [one for one in read_predictions(marked).to_pylist() if one["reply_status"] == "timeout"]
    assert row["sample_id"] == "red square/007.png"
    assert (row["status"], row["reply"]) == ("ok", "connection refused")
    assert row["ranked"][:5] == row["candidates"], "the order of retrieval"

    files = {path: path.read_bytes() for path in marked.folder.iterdir()}
    asked = len(ranker.asked())
    assert asked == 120
    still = place.trireme(*drawn)
    assert "1 samples got no reply before; asking for them again" in still.stderr
    assert "its record stays as it is" in still.stderr
    assert "0 runs computed, 1 already there, 0 failed" in still.stderr
    assert len(ranker.asked()) == asked + 1
    ranker.dies("interrupt", 1)
    place.trireme(*drawn, code=130)
    assert {path: path.read_bytes() for path in marked.folder.iterdir()} == files

    ranker.dies()
    ranker.silent_for()
    assert "1 runs computed, 0 already there" in place.trireme(*drawn).stderr
    assert len(ranker.asked()) == asked + 2
    assert "0 runs computed, 1 already there" in place.trireme(*drawn).stderr
    assert len(ranker.asked()) == asked + 2
    assert sorted(path.name for path in (place.folder / "out" / "runs").iterdir()) == [marked.folder.name]
    assert not list((place.folder / "out" / ".partial").iterdir())
    assert lasting(record(place)) == lasting(whole_record(place, drawn))


def test_more_than_one_percent_without_reply_fail_the_run(place: Place, drawn: tuple[str, ...], ranker: Ranker) -> None:
    ranker.silent_for("red square/007", "blue square/011")
    done = place.trireme(*drawn, code=1)
    [line] = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert "no reply for 2 of 120 samples, more than 1 % of all 120" in line
    assert "(first: blue square/011.png: connection refused)" in line, "samples go by their ids"
    assert "run again to ask only for the rest" in line
    assert not (place.folder / "out" / "runs").exists()
    assert len(ranker.asked()) == 120
    ranker.silent_for()
    assert "going on after 118 of 120 samples" in place.trireme(*drawn).stderr
    assert [Path(path).name for path in ranker.asked()[120:]] == ["011.png", "007.png"]
    assert lasting(record(place)) == lasting(whole_record(place, drawn))


def test_a_dead_server_is_not_asked_to_the_end(place: Place, drawn: tuple[str, ...], ranker: Ranker) -> None:
    """In batches of ten: after the first one it is certain that the run cannot be finished."""
    ranker.silent_for("png")
    done = place.trireme(*drawn, "batch_size=10", code=1)
    assert "no reply for 10 of 10 samples, more than 1 % of all 120" in done.stderr
    assert len(ranker.asked()) == 10


def test_without_any_stored_answer_a_failing_run_leaves_the_old_record(
    place: Place, drawn: tuple[str, ...], ranker: Ranker
) -> None:
    """The store of replies was lost and the server is dead: the record that lacks one reply is better than none."""
    ranker.silent_for("red square/007")
    place.trireme(*drawn)
    marked = lasting(record(place))
    (place.home / "replies.sqlite").unlink()
    ranker.silent_for("png")
    assert "no reply for 120 of 120" in place.trireme(*drawn, code=1).stderr
    assert lasting(record(place)) == marked
