"""The leaderboard as `model-index` metadata of model cards on the Hugging Face Hub, by its own library.

The form is that of https://github.com/huggingface/hub-docs/blob/main/modelcard.md. A card is of one model, so there is
one document per method and encoder, and per configuration, version, encoder's weights or ranker where one method ran
with several; per memory only where two were on one benchmark. What a dataset is called there: `type` is the benchmark,
`config` the subset, `split` the role, `revision` the benchmark's fingerprint. A score stays a percentage and says so;
its interval, its n, its seeds and its memory are the metric's `args`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trireme.errors import TriremeError, UsageError

if TYPE_CHECKING:
    import pandas as pd
    from huggingface_hub import EvalResult

    from trireme.results.records import RunRecord

TASKS = {
    "zero_shot": "zero-shot-image-classification",
    "few_shot": "image-classification",
    "detection": "object-detection",
    "retrieval": "image-to-text",
}
"""Task of a benchmark -> the Hub's word for it (https://huggingface.co/tasks). It has none for a search from text to
pictures: both directions of retrieval are `image-to-text`, told apart by the subset."""
METRICS = {"top1": "accuracy", "ap": "mAP"}
"""Metric -> its name on the Hub; the others keep their own."""
_CELL = ["benchmark_fingerprint", "role", "subset", "metric"]
_APART = ("memory", "run")
"""What is part of a model's name only where it would else have two scores of one kind: the memory may be each
benchmark's own."""


def model_indexes(frame: pd.DataFrame, records: Sequence[RunRecord]) -> dict[str, str]:
    """Model name -> YAML metadata of its card, without the `---` around it; a score that is not defined is left out.

    Args:
        frame: from `trireme.results.leaderboard.standings`.
        records: the runs that are meant; rows of others are left out.

    Raises:
        UsageError: a row joins seeds of which only some are meant.
        TriremeError: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import ModelCardData
    except ImportError as error:
        raise TriremeError("model-index needs huggingface_hub; run: pip install huggingface_hub") from error
    tasks = {record.data["benchmark"]["fingerprint"]: record.data["benchmark"]["task"] for record in records}
    rows = _meant(frame, {record.run for record in records}).dropna(subset="score")
    return {
        name: ModelCardData(
            model_name=name,
            library_name="trireme-bench",
            eval_results=[_result(row, tasks[row["benchmark_fingerprint"]]) for row in model.to_dict("records")],
        ).to_yaml()
        for name, model in _models(rows)
    }


def _meant(frame: pd.DataFrame, runs: set[str]) -> pd.DataFrame:
    shares = [len(runs & set(joined.split("+"))) / (joined.count("+") + 1) for joined in frame["run"]]
    split = [seeds for seeds, share in zip(frame["seeds"], shares, strict=True) if 0 < share < 1]
    if split:
        raise UsageError(f"a model's scores are joined over its seeds ({split[0]}); leave seed and run out of --where")
    return frame[[share == 1 for share in shares]]


def _models(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(name, rows) of every model: no model has two settings of a method, or two scores of one kind."""
    from trireme.results.axes import told_apart

    shown, needed = told_apart(rows.fillna({"ranker": "no ranker", "memory": "no memory"}))
    for (method, encoder), alike in shown.groupby(["method", "encoder"], sort=True):
        axes = [axis for axis in needed if (alike[axis] != "").any()]
        for axis in _APART:
            if alike.duplicated([*_CELL, *axes]).any() and alike[axis].nunique() > 1:
                axes.append(axis)
        for values, model in alike.groupby(axes, sort=True) if axes else [((), alike)]:
            named = [str(value) for value in values if value]
            yield f"{method} ({', '.join([str(encoder), *named])})", model


def _result(row: Mapping[Any, Any], task: str) -> EvalResult:
    from huggingface_hub import EvalResult

    limits = {key: row[key] for key in ("ci_low", "ci_high") if row[key] == row[key]}  # NaN is no limit
    told = {"n": int(row["n"]), "seeds": row["seeds"], "memory": row["memory"], "run": row["run"]}
    return EvalResult(
        task_type=TASKS.get(task, task),
        dataset_type=row["benchmark"],
        dataset_name=f"{row['benchmark']}, {row['subset']}",
        dataset_config=row["subset"],
        dataset_split=row["role"],
        dataset_revision=row["benchmark_fingerprint"],
        metric_type=METRICS.get(row["metric"], row["metric"]),
        metric_name=row["metric"],
        metric_value=row["score"],
        metric_args={"unit": "percent", **limits, **told},
    )


def file_name(model: str) -> str:
    """A file's name for a model's: letters, digits and -_.; each run of other signs is one -."""
    words = "".join(sign if sign.isalnum() or sign in "-_." else " " for sign in model).split()
    return f"{'-'.join(words)}.yaml"
