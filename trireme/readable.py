"""The samples whose pictures can be read: the others are named, counted, and few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trireme.errors import DataError
from trireme.progress import say
from trireme.retrieval.store import EmbeddingStore
from trireme.types import Role, Sample

MOST_FAILED = 0.01
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Readable:
    """The samples of one role after every picture went through the encoder.

    Attributes:
        samples: readable ones, by id.
        failures: {sample id: reason} of the others.
    """

    asked: Sequence[Sample]
    samples: Sequence[Sample]
    failures: Mapping[str, str]


def encode_all(benchmark: str, role: Role, asked: Sequence[Sample], store: EmbeddingStore) -> Readable:
    """Encode the pictures of a role.

    Raises:
        DataError: no sample, or more than 1 % cannot be read.
    """
    if not asked:
        raise DataError(f"benchmark '{benchmark}' has no {role} samples")
    failed = store.prepare([sample.image for sample in asked])
    failures = {asked[position].id: reason for position, reason in sorted(failed.items())}
    for sample, reason in list(failures.items())[:_SHOWN]:
        say(f"warning: {benchmark}: sample {sample}: {reason}")
    if len(failures) > _SHOWN:
        say(f"warning: {benchmark}: {len(failures) - _SHOWN} more pictures cannot be read")
    if len(failures) > MOST_FAILED * len(asked):
        first, reason = next(iter(failures.items()))
        raise DataError(
            f"{len(failures)} of {len(asked)} {role} pictures of '{benchmark}' cannot be read, more than 1 %; "
            f"repair or remove them and run again (first: {first}: {reason})"
        )
    return Readable(asked, [sample for sample in asked if sample.id not in failures], failures)
