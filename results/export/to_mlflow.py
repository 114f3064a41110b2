"""Runs in MLflow, by its client: one run a record, found again by the tag `trireme.name`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from trireme.errors import TriremeError
from trireme.results.export.content import Outcome, digest, flat, measures, settings
from trireme.results.records import RUN_FILE, RunRecord

_INSTALL = "pip install 'trireme-bench[mlflow]'"
_NAME, _RECORD = "trireme.name", "trireme.record"
_PARAMS, _METRICS = 100, 1000
"""Most of each that one request may hold (mlflow.utils.validation, MLflow 3.17)."""
_LONGEST = 6000
"""Most characters of a parameter (same place)."""


def export_mlflow(
    records: Iterable[RunRecord], experiment: str, uri: str | None, predictions: bool
) -> Iterator[tuple[RunRecord, Outcome]]:
    """Give records to MLflow one by one; yields each with what became of it.

    Args:
        experiment: its name; made where it is missing.
        uri: of the tracking store, as MLflow writes it ("sqlite:///mlflow.db", "http://..."); None: MLflow's own
            choice, which MLFLOW_TRACKING_URI sets.
        predictions: keep predictions.parquet beside run.json as an artifact.

    Raises:
        TriremeError: MLflow is not installed, or refuses.
    """
    with _told():
        client = _client(uri)
        found = client.get_experiment_by_name(experiment)
        home = found.experiment_id if found else client.create_experiment(experiment)
    for record in records:
        with _told():
            outcome = _export(client, home, record, predictions)
        yield record, outcome


def _client(uri: str | None) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise TriremeError(f"exporting to MLflow needs mlflow; run: {_INSTALL}") from error
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri)


@contextmanager
def _told() -> Iterator[None]:
    """MLflow's refusals as one line."""
    try:
        yield
    except TriremeError:
        raise
    except Exception as error:
        if not type(error).__module__.startswith(("mlflow", "sqlalchemy")):
            raise
        reason = " ".join(str(error).split())[:400]
        raise TriremeError(f"MLflow refused: {reason}; check --tracking-uri and --experiment") from error


def _export(client: Any, home: str, record: RunRecord, predictions: bool) -> Outcome:
    stamp = f"{digest(record)}{'+predictions' if predictions else ''}"
    earlier = client.search_runs([home], f"tags.`{_NAME}` = '{record.name}'")
    if [run.data.tags.get(_RECORD) for run in earlier] == [stamp]:
        return Outcome.THERE
    for run in earlier:  # changed since, or its export was interrupted: parameters of a run cannot be changed
        client.delete_run(run.info.run_id)
    _create(client, home, record, predictions, stamp)
    return Outcome.UPDATED if earlier else Outcome.EXPORTED


def _create(client: Any, home: str, record: RunRecord, predictions: bool, stamp: str) -> None:
    from mlflow.entities import Metric, Param

    end = int(datetime.fromisoformat(record.data["created"]).timestamp() * 1000)
    start = end - int(1000 * sum(s for s in record.data["seconds"].values() if isinstance(s, int | float)))
    tags = {_NAME: record.name, "trireme.run": record.run}
    commit = (record.data["git"] or {}).get("commit")
    tags |= {"mlflow.source.git.commit": commit} if commit else {}
    run = client.create_run(home, start_time=start, tags=tags, run_name=record.name).info.run_id
    params = [Param(_safe(name), value[:_LONGEST]) for name, value in flat(settings(record))]
    metrics = [Metric(_safe(name), value, end, 0) for name, value in measures(record).items()]
    for first in range(0, len(params), _PARAMS):
        client.log_batch(run, params=params[first : first + _PARAMS])
    for first in range(0, len(metrics), _METRICS):
        client.log_batch(run, metrics=metrics[first : first + _METRICS])
    client.log_artifact(run, str(record.folder / RUN_FILE))
    if predictions:
        client.log_artifact(run, str(record.folder / record.data["predictions"]["file"]))
    client.set_terminated(run, end_time=end)
    client.set_tag(run, _RECORD, stamp)  # the last word: without it the export was cut short


def _safe(name: str) -> str:
    """A name that MLflow takes: letters, digits and _-. /; "hit@5" is "hit_at_5", any other sign its code point."""
    text = name.replace("@", "_at_")
    return "".join(sign if sign.isalnum() or sign in "_-. /" else f"_{ord(sign):x}_" for sign in text)
