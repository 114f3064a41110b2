"""From what older versions of Trireme wrote to what this one reads: one step a version, in memory, files untouched.

To change the schema: raise `SCHEMA` in `trireme.results.schema` from N to N + 1, add `STEPS[N]` here and freeze example
records (tests/results/frozen/README.md). A record goes through all the steps from its version to the current one, so
that no step is ever written anew. Steps are pure: they give a new value and leave the one that they get as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trireme.errors import DataError
from trireme.results import schema


class NewerSchemaError(DataError):
    """A record of a later version than this one reads: it is whole, and no later run of this version may replace it."""


@dataclass(frozen=True, slots=True)
class Step:
    """From version N to N + 1.

    Attributes:
        record: takes the content of a run.json of version N, gives that of version N + 1; `schema` is set for it.
        predictions: takes a `pyarrow.Table` of version N and the record as version N + 1 has it, gives the table of
            version N + 1 with the same rows; None where no column changes.
    """

    record: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    predictions: Callable[[Any, Mapping[str, Any]], Any] | None = None


STEPS: dict[int, Step] = {}
"""Version -> the step that leads from it to the next one."""


def migrate(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The content of a run.json in the current version; the same object where it is current already.

    Raises:
        DataError: `schema` is no version that ever was, or a step cannot read the record (damaged: names the key).
        NewerSchemaError: a later version of Trireme wrote it.
    """
    version = _known(record.get("schema"), record.get("versions"))
    while version < schema.SCHEMA:
        try:
            record = {**STEPS[version].record(record), "schema": version + 1}
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise DataError(f"schema {version} has no record like this ({type(error).__name__}: {error})") from error
        version += 1
    return record


def migrate_predictions(table: Any, version: int, record: Mapping[str, Any]) -> Any:
    """A predictions table in the current version's columns.

    Args:
        table: `pyarrow.Table` of all columns of the file.
        version: the one that the file was written in.
        record: the run's record, migrated.

    Raises:
        NewerSchemaError: a later version of Trireme wrote the file.
    """
    version = _known(version, record.get("versions"))
    while version < schema.SCHEMA:
        step = STEPS[version].predictions
        table = table if step is None else step(table, record)
        version += 1
    return table


def _known(version: Any, versions: Any) -> int:
    """The version, where it is the current one or one that steps lead from."""
    if type(version) is int and 1 <= version <= schema.SCHEMA:
        return version
    if type(version) is int and version > schema.SCHEMA:
        wrote = versions.get("trireme") if isinstance(versions, Mapping) else None
        by = f" (trireme-bench {wrote} wrote it)" if wrote else ""
        raise NewerSchemaError(
            f"schema {version} is newer than this version of Trireme reads ({schema.SCHEMA}){by}; "
            "update with `pip install -U trireme-bench`"
        )
    raise DataError(f"schema {version!r} is no version of run records; this one reads 1 to {schema.SCHEMA}")
