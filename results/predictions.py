"""The predictions of a run on disk: one Parquet file, checked against its record when written and when read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trireme.errors import DataError
from trireme.files import sha256_file
from trireme.results import schema
from trireme.results.migrations import migrate_predictions

_VERSION = b"trireme.schema"
"""Key of the file's metadata; a file without it is of version 1."""


def read_table(path: Path, record: Mapping[str, Any], columns: Iterable[str] | None = None) -> Any:
    """A predictions file as a `pyarrow.Table` in the current version's columns.

    Args:
        path: the file.
        record: the run's record, which tells checksum and number of rows.
        columns: only these; all where none is named.

    Raises:
        DataError: the file is missing, was changed since it was written, or lacks a column or rows.
    """
    import pyarrow.parquet as pq

    if not path.is_file():
        raise DataError(f"{path} is missing; delete the run's folder and run again")
    if sha256_file(path) != record["predictions"]["sha256"]:
        raise DataError(f"{path} is not the file that run.json describes (checksum); delete the folder and run again")
    names = None if columns is None else list(columns)
    needed = None if names is None else list(dict.fromkeys([*names, *_SAMPLES]))
    with pq.ParquetFile(path) as file:
        version = _version(file.schema_arrow.metadata, path)
        many = file.metadata.num_rows > 100_000
        if version == schema.SCHEMA:
            _need(needed, file.schema_arrow.names, path)
            table = file.read(columns=needed, use_threads=many)
        else:
            try:
                table = migrate_predictions(file.read(use_threads=many), version, record)
            except DataError as error:
                raise type(error)(f"{path}: {error}") from error
            _need(needed, table.column_names, path)
    asked = record["samples"]["asked"]
    if table.num_rows != asked:
        raise DataError(f"{path} has {table.num_rows} rows, but {asked} samples were asked; delete the folder")
    _check_samples(table, record, path)
    return table if names is None else table.select(names)


def stored_rows(path: Path) -> int:
    """How many rows a predictions file has, from its footer alone.

    Raises:
        DataError: it is no Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}); delete the run's folder and run again") from error


_SAMPLES = ("sample_id", "status")


def _check_samples(table: Any, record: Mapping[str, Any], path: Path) -> None:
    """Every sample once, and those that failed are the ones that the record names."""
    import pyarrow.compute as pc

    if pc.count_distinct(table["sample_id"]).as_py() != table.num_rows:
        raise DataError(f"{path} names a sample twice; delete the folder and run again")
    failed = table["sample_id"].filter(pc.equal(table["status"].cast("string"), "failed")).to_pylist()
    named = {failure["id"] for failure in record["samples"]["failures"]}
    if set(failed) != named:
        raise DataError(
            f"{path} has {len(failed)} failed samples that are not the {len(named)} of run.json; delete the folder"
        )


def _version(metadata: Mapping[bytes, bytes] | None, path: Path) -> int:
    stated = (metadata or {}).get(_VERSION, b"1")
    if not stated.isdigit():
        raise DataError(f"{path}: its metadata state schema {stated!r}, which is no version; delete the run's folder")
    return int(stated)


def _need(names: Sequence[str] | None, there: Sequence[str], path: Path) -> None:
    missing = sorted(set(names or ()) - set(there))
    if missing:
        raise DataError(f"{path} has no column '{missing[0]}'; it has {', '.join(there)}")


_ROWS = 16_384
"""Of a row group: one is held twice while it is written."""


def write_table(table: Any, path: Path) -> None:
    """Write a standard table, with the schema's version in the file's metadata."""
    import pyarrow.parquet as pq

    version = {_VERSION: str(schema.SCHEMA).encode()}
    described = table.replace_schema_metadata({**(table.schema.metadata or {}), **version})
    pq.write_table(described, path, compression="zstd", row_group_size=_ROWS)


def column_types(metrics: Sequence[str]) -> dict[str, Any]:
    """Column -> Arrow type of a predictions file with these metrics' columns; see `schema.COLUMNS`."""
    import pyarrow as pa

    text = pa.dictionary(pa.int32(), pa.string())
    types: dict[str, Any] = {"sample_id": pa.string(), "label": pa.int32(), "group": text, "status": text}
    types |= {"ranked": pa.list_(pa.int32()), "scores": pa.list_(pa.float32())}
    return types | {metric: pa.float32() for metric in metrics}


def standard_table(table: Any, record: Mapping[str, Any], metrics: Sequence[str]) -> Any:
    """The table in the documented column types, after its rows are checked against the record.

    Args:
        table: a `pyarrow.Table` with one row per sample asked.
        record: the run's record.
        metrics: those of its metrics that are a column.

    Raises:
        DataError: a column is missing or of another type, or rows and record disagree.
    """
    import pyarrow as pa

    where = f"cannot store run '{record['name']}': predictions"
    for column, kind in column_types(metrics).items():
        if column not in table.column_names:
            raise DataError(f"{where} have no column '{column}'")
        try:
            cast = table[column].cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(f"{where}: column '{column}' is not {kind} ({error})") from error
        table = table.set_column(table.column_names.index(column), column, cast)
    _check_rows(table, record, metrics, where)
    return table.combine_chunks()


def _check_rows(table: Any, record: Mapping[str, Any], metrics: Sequence[str], where: str) -> None:
    import pyarrow.compute as pc

    samples = record["samples"]
    if table.num_rows != samples["asked"]:
        raise DataError(f"{where} have {table.num_rows} rows, but {samples['asked']} samples were asked")
    ids = table["sample_id"].to_pylist()
    if len(set(ids)) != len(ids):
        raise DataError(f"{where} name a sample twice")
    status = table["status"].to_pylist()
    unknown = set(status) - {"ok", "failed"}
    if unknown:
        raise DataError(f"{where}: status {sorted(map(str, unknown))[0]!r} is neither 'ok' nor 'failed'")
    failed = {sample for sample, state in zip(ids, status, strict=True) if state == "failed"}
    if failed != {failure["id"] for failure in samples["failures"]}:
        raise DataError(f"{where}: the failed rows are not the ones of 'samples.failures'")
    known = pc.and_(pc.equal(table["status"].cast("string"), "ok"), pc.greater_equal(table["label"], 0))
    done = table.filter(known)  # a withheld label has no value to check
    for metric in metrics:
        values = done[metric].to_numpy()
        if done[metric].null_count or not bool(((values >= 0) & (values <= 1)).all()):
            raise DataError(f"{where}: column '{metric}' has a value outside [0, 1] in a row that did not fail")
