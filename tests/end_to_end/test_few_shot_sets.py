"""CoOp's, RAF-DB's and ELEVATER's sets through the whole path: `trireme run` on official layouts, records, metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from tests.benchmarks.layouts_few_shot import ELEVATER, FEW_SHOT
from tests.benchmarks.test_datasets_runs import METHODS, place  # noqa: F401, the fixture
from tests.benchmarks.test_set_metrics import eleven_points
from tests.end_to_end.conftest import Place
from trireme.benchmarks.datasets.catalogue import PUBLISHED
from trireme.benchmarks.datasets.spec import TEST, TRAIN
from trireme.results import find_runs, read_predictions
from trireme.results.records import RunRecord

SETS = {**FEW_SHOT, **ELEVATER}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """One home for all, so that a prompt is encoded once."""
    return Place(tmp_path_factory.mktemp("sets"))


def run(where: Place, root: Path, name: str, *arguments: str) -> dict[str, RunRecord]:
    """{method: its record} of a comparison on a set written below `root`, with its training pictures as the memory."""
    made = SETS[name](root)
    out = f"out-{name.replace('/', '-')}"
    with PUBLISHED.replaced(made.spec(name)), pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIREME_DATA", str(root))
        where.trireme("run", f"benchmark={name}", "encoder=lite", f"out={out}", *arguments)
    return {record.method: record for record in find_runs(where.folder / out, strict=True)}


def scores(record: RunRecord) -> dict[str, Any]:
    return {row["metric"]: row["score"] for row in record.scores}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("name", SETS)
def test_zero_shot_and_knn(shared: Place, tmp_path: Path, name: str) -> None:
    records = run(shared, tmp_path / "data", name, "method=zero_shot,knn")
    assert set(records) == {"zero_shot", "knn"}
    made = SETS[name](tmp_path / "again")
    for record in records.values():
        assert record.data["samples"]["done"] == record.data["samples"]["asked"] == len(made.ids[TEST])
        assert record.data["metrics"] == list(PUBLISHED[name].metrics)
        assert set(scores(record)) == set(PUBLISHED[name].metrics)
        assert all(0 <= score <= 100 for score in scores(record).values())
        _check_main_metric(record, made.labels, len(made.names))
    assert records["knn"].data["memory"]["name"] == name


def _check_main_metric(record: RunRecord, labels: Any, classes: int) -> None:
    """The first metric of the record from its predictions: by hand, or by scikit-learn."""
    table = read_predictions(record).to_pylist()
    right = [labels[row["sample_id"]] for row in table]
    main = record.data["metrics"][0]
    if main == "map":
        soft = np.zeros((len(table), classes))
        for number, row in enumerate(table):
            soft[number, row["ranked"]] = 100 * np.array(row["scores"], dtype=np.float64)
        soft = log_softmax(soft, axis=1)  # ranks as softmax does, which is 0 for many scores of a re-ranker
        targets = np.array([[c in held for c in range(classes)] for held in right])
        expected = np.mean([eleven_points(soft[:, c], targets[:, c], True) for c in range(classes)])
    elif main == "roc_auc":
        of = [dict(zip(row["ranked"], row["scores"], strict=True)) for row in table]
        expected = roc_auc_score([held[0] for held in right], [one[1] - one[0] for one in of])
    elif main == "mean_per_class":
        expected = balanced_accuracy_score([held[0] for held in right], [row["ranked"][0] for row in table])
    else:
        expected = np.mean([row["ranked"][0] == held[0] for row, held in zip(table, right, strict=True)])
    assert scores(record)[main] == pytest.approx(100 * expected, abs=1e-4)


FIVE = ("method=zero_shot,knn,reco-start,short,rar-list", "method.rar-list.ranker=stand-in")


@pytest.mark.parametrize("name", ["coop/dtd", "rafdb", "elevater/voc2007", "elevater/hateful-memes"])
def test_all_methods_over_two_pictures_a_class(place: Place, name: str) -> None:  # noqa: F811
    """One label, no validation, several labels with an mAP, two classes with a ROC-AUC; support by RAR's "first"."""
    root = place.folder / "data"
    records = run(place, root, name, *FIVE, "memory=@2", "memory.draw=first", "seed=0")
    assert set(records) == set(METHODS)
    made = SETS[name](place.folder / "again")
    for method, record in records.items():
        _check_main_metric(record, made.labels, len(made.names))
        if method == "zero_shot":
            continue
        memory = record.data["memory"]
        assert (memory["name"], memory["drawn"]["rule"]) == (f"{name}@2(draw=first)", "first")
        assert memory["size"] == 2 * len(made.names)
    retrieved = {one for row in read_predictions(records["knn"])["retrieved"].to_pylist() for one in row}
    of_class: dict[str, list[str]] = {}
    for picture in made.ids[TRAIN]:
        for label in made.labels[picture]:
            held = f"{picture}#{made.names[label]}" if name == "elevater/voc2007" else picture
            of_class.setdefault(made.names[label], []).append(held)
    assert retrieved <= {picture for pictures in of_class.values() for picture in pictures[:2]}, "the first two"
