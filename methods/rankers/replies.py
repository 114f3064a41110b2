"""Replies on disk: what a model was asked once is never asked again, whatever run or process asks.

One SQLite file; a batch of replies is one transaction, so a killed run has every batch that was answered, whole. The
key of a reply hashes everything that can change it: engine, model, weights, mode, every word of the prompt, the bytes
of every picture, its region, the candidates in their order. A question without a reply (TIMEOUT) is never stored.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from trireme.errors import DataError
from trireme.files import disk_errors, home
from trireme.hashes import file_hashes
from trireme.methods.rankers.base import Answer, Engine, Question, Status
from trireme.methods.rankers.rank import Asking, asked_texts, rank
from trireme.progress import progress
from trireme.retrieval.pictures import content_key
from trireme.types import ImageRef

FORMAT = 1
BATCH = 64
"""Questions per transaction at least: how many answers a killed process can lose."""
_SCHEMA = "CREATE TABLE IF NOT EXISTS replies (key BLOB PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID"


class Replies:
    """A store of answers by key. Safe for several processes at once.

    Args:
        path: the file; `home()/replies.sqlite` by default. A damaged one is an error that names it: replies can be
            worth days of GPU time, so it is never thrown away silently.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path if path is not None else home() / "replies.sqlite"

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Answer]:
        """The stored answers among those asked for; a row that cannot be read is none."""
        found: dict[bytes, Answer] = {}
        with self._table() as table:
            for key in keys:
                row = table.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
                answer = _read(row[0]) if row else None
                if answer is not None:
                    found[key] = answer
        return found

    def add(self, answers: dict[bytes, Answer]) -> None:
        """Store answers, all or none of them."""
        rows = [(key, _write(answer)) for key, answer in answers.items() if answer.status is not Status.TIMEOUT]
        with self._table() as table:
            table.executemany("INSERT OR REPLACE INTO replies VALUES (?, ?)", rows)

    @contextmanager
    def _table(self) -> Iterator[sqlite3.Connection]:
        with disk_errors(str(self.path)):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with closing(sqlite3.connect(self.path, timeout=60)) as connection, connection:
                    connection.execute(_SCHEMA)
                    yield connection
            except sqlite3.OperationalError as error:
                raise DataError(
                    f"cannot use the stored replies in {self.path} ({error}); make room, or set $TRIREME_HOME elsewhere"
                ) from error
            except sqlite3.DatabaseError as error:
                raise DataError(
                    f"the stored replies in {self.path} are damaged ({error}); move the file away to ask again"
                ) from error


class CachedRanker:
    """Ranks through an engine, asking only what is not stored.

    Args:
        batch: questions per transaction; 0: as many as the engine's `batch`, 64 at least.

    Attributes:
        asked: questions that went to the model through this object.
    """

    def __init__(self, engine: Engine, replies: Replies, batch: int = 0) -> None:
        self.engine, self._replies = engine, replies
        self._batch = batch or max(BATCH, int(getattr(engine, "batch", 0)))
        self.asked = 0

    def rank(self, questions: Sequence[Question], asking: Asking) -> list[Answer]:
        """One answer a question, in their order; see `rank.rank`."""
        keys = question_keys(self.engine, questions, asking)
        found = self._replies.find(list(dict.fromkeys(keys)))
        missing = {key: question for key, question in zip(keys, questions, strict=True) if key not in found}
        if missing:
            with progress(f"ask {self.engine.name} ({asking.mode})", len(missing), "questions") as bar:
                for part in _parts(list(missing.items()), self._batch):
                    answers = rank(self.engine, [question for _, question in part], asking)
                    new = {key: answer for (key, _), answer in zip(part, answers, strict=True)}
                    self._replies.add(new)
                    found |= new
                    self.asked += len(part)
                    bar.advance(len(part))
        return [found[key] for key in keys]


def question_keys(engine: Engine, questions: Sequence[Question], asking: Asking) -> list[bytes]:
    """The key of each question, 32 bytes.

    Raises:
        DataError: a picture cannot be read.
    """
    refs = {ref: None for question in questions for ref in _refs(question)}
    picture = dict(zip(refs, _picture_keys(list(refs)), strict=True))
    how = {"format": FORMAT, "engine": engine.fingerprint, "version": engine.version, "asking": asking.effective()}
    start = json.dumps(how, sort_keys=True)

    def key(question: Question) -> bytes:
        shown = [picture[example.image] for example in question.examples]
        texts = asked_texts(question, asking) if question.candidates else []
        what = [start, picture[question.image], question.candidates, shown, texts]
        return sha256(json.dumps(what, ensure_ascii=False).encode("utf-8", "surrogatepass")).digest()

    return [key(question) for question in questions]


def _refs(question: Question) -> Iterator[ImageRef]:
    yield question.image
    for example in question.examples:
        yield example.image


def _picture_keys(refs: Sequence[ImageRef]) -> list[str]:
    unknown = [ref for ref in refs if not ref.sha256]
    hashed = dict(zip(unknown, file_hashes([ref.path for ref in unknown]), strict=True))
    keys = []
    for ref in refs:
        digest = ref.sha256 or hashed[ref]
        if isinstance(digest, OSError):
            raise DataError(f"cannot read {ref.path}: {digest.strerror or digest}")
        keys.append(content_key(digest, ref.region))
    return keys


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _write(answer: Answer) -> str:
    return json.dumps({**asdict(answer), "status": str(answer.status)}, ensure_ascii=False)


def _read(text: str) -> Answer | None:
    """The answer of a row; None for one that another program or a damaged disk wrote."""
    try:
        held = json.loads(text)
        scores = None if held["scores"] is None else tuple(held["scores"])
        answer = Answer(**{**held, "order": tuple(held["order"]), "scores": scores, "status": Status(held["status"])})
        return answer if sorted(answer.order) == list(range(len(answer.order))) else None
    except (ValueError, KeyError, TypeError):
        return None
