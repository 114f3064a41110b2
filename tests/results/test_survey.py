"""What a results folder with damaged, doubled and disputed records yields: each is named, none is in a mean."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from trireme.errors import DataError
from trireme.results.records import find_runs, read_run, survey

from .synthetic import store

LABELS = [0, 1, 2, 3]


def edit(folder: Path, change: Any) -> None:
    """Rewrite run.json by hand, as somebody might; Python's json writes NaN as it is."""
    content = json.loads((folder / "run.json").read_text())
    change(content)
    (folder / "run.json").write_text(json.dumps(content))


def test_a_whole_folder_leaves_nothing_out(tmp_path: Path) -> None:
    folder = store(tmp_path, [1, 0, 1, 0], LABELS)
    found = survey(tmp_path)
    assert ([run.folder for run in found.runs], found.left_out) == ([folder], [])


def cut_in_the_middle(folder: Path) -> None:
    text = (folder / "run.json").read_bytes()
    (folder / "run.json").write_bytes(text[: len(text) // 2])


def rows(number: int) -> Any:
    return lambda folder: edit(folder, lambda content: content["predictions"].update(rows=number))


BAD = {
    "cut": (cut_in_the_middle, "run.json cannot be read"),
    "NaN score": (lambda f: edit(f, lambda c: c["scores"][0].update(score=float("nan"))), r"scores\[0\].score' is nan"),
    "NaN limit": (
        lambda f: edit(f, lambda c: c["scores"][0].update(ci_low=float("nan"))),
        r"scores\[0\].ci_low' is nan",
    ),
    "missing rows": (rows(3), "has 3 rows, but 4 samples were asked"),
    "extra rows": (rows(5), "has 5 rows, but 4 samples were asked"),
    "unknown schema": (lambda f: edit(f, lambda c: c.update(schema=99)), "schema 99"),
}


@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_record_is_left_out_and_named(
    spoil: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = store(tmp_path, [1, 0, 1, 0], LABELS, name="bad", run="1")
    good = store(tmp_path, [1, 0, 1, 1], LABELS, name="good", run="2")
    spoil(bad)
    with pytest.raises(DataError, match=message):
        read_run(bad)
    found = survey(tmp_path)
    assert [run.folder for run in found.runs] == [good]
    (one,) = found.left_out
    assert one.folder == bad
    assert one.reason.startswith(str(bad))
    assert "\n" not in one.reason
    assert find_runs(tmp_path) == found.runs
    assert f"left out: {one.reason}\n" in capsys.readouterr().err
    with pytest.raises(DataError, match=message):
        find_runs(tmp_path, strict=True)


def test_copies_count_once(tmp_path: Path) -> None:
    """Copied folders change neither the runs nor their number, whatever they are called."""
    folder = store(tmp_path, [1, 0, 1, 0], LABELS, name="b")
    for name in ("a", "c"):
        shutil.copytree(folder, folder.with_name(name))
    found = survey(tmp_path)
    assert ([run.folder.name for run in found.runs], found.left_out) == (["a"], [])


DIFFERENCES = {
    "scores": lambda content: content["scores"][0].update(score=51.0),
    "samples": lambda content: content["samples"].update(
        done=3, failed=1, failures=[{"id": "s3", "reason": "cannot be read"}]
    ),
    "run": lambda content: content.update(run="another"),
    "predictions": lambda content: content["predictions"].update(sha256="0" * 64),
}


@pytest.mark.parametrize(("what", "change"), DIFFERENCES.items(), ids=DIFFERENCES.keys())
def test_one_name_with_two_contents_is_left_out_whole(what: str, change: Any, tmp_path: Path) -> None:
    """Neither the copy that was changed nor the two that agree are used: which is right cannot be seen."""
    folder = store(tmp_path, [1, 0, 1, 0], LABELS, name="a", run="1")
    other = store(tmp_path, [1, 1, 1, 1], LABELS, name="z", run="2")
    for name in ("b", "c"):
        shutil.copytree(folder, folder.with_name(name))
    edit(folder.with_name("c"), change)
    found = survey(tmp_path)
    assert [run.folder for run in found.runs] == [other]
    assert [one.folder.name for one in found.left_out] == ["a", "b", "c"]
    for one in found.left_out:
        assert f"but their {what} differ; delete the wrong one" in one.reason
        assert "/c are both" in one.reason
    with pytest.raises(DataError, match=f"their {what} differ"):
        find_runs(tmp_path, strict=True)


def test_a_record_made_again_elsewhere_is_a_copy(tmp_path: Path) -> None:
    """The same run on another day and machine: other times and versions, the same results."""
    folder = store(tmp_path, [1, 0, 1, 0], LABELS, name="a")
    shutil.copytree(folder, folder.with_name("b"))
    edit(folder.with_name("b"), lambda content: content.update(created="2025-01-01T00:00:00+00:00", seconds={}))
    assert len(survey(tmp_path).runs) == 1
