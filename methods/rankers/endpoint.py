"""Asking a server many times at once: retries, back-off, time-outs, and a key that never leaves the request header."""

from __future__ import annotations

import asyncio
import email.utils
import os
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2 as httpx

from trireme.errors import DataError, TriremeError, UsageError
from trireme.methods.rankers.base import PromptError

T = TypeVar("T")

_LONGEST_WAIT = 60.0  # seconds between two tries, whatever Retry-After says
_CONNECT = 10.0  # seconds; a server that accepts no connection by then is busy or gone
_PROBE = 5.0  # seconds for the one question that finds out whether a server that was gone is back
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524, 529})
_ITS_OWN = frozenset({400, 413, 422})  # may be about one prompt (a content filter, too long) or about all of them
_ALIKE = 8  # so many of those without a single good answer: it is about all of them
_SHOWN = 200


class NoReplyError(TriremeError):
    """No usable answer after every retry; the message is the last reason."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try.

    Attributes:
        concurrency: requests in flight.
        retries: tries after the first one, for each request.
        timeout: seconds for one request, from its first byte out to the last byte in.
        total: seconds without any good answer after which the server counts as gone and nothing more is asked.
        backoff: seconds before the second try; it doubles with every further one, up to a minute, and is shortened by
            a random share of up to a half so that requests do not come back all at once.
    """

    concurrency: int = 16
    retries: int = 5
    timeout: float = 120.0
    total: float = 600.0
    backoff: float = 0.5


@dataclass
class Ask:
    """Posts to one endpoint within one call of `Endpoint.run`."""

    endpoint: Endpoint
    client: httpx.AsyncClient
    slots: asyncio.Semaphore

    async def post(self, path: str, body: Mapping[str, Any], read: Callable[[Any], T]) -> T:
        """Post JSON and read the JSON that answers; a reply that `read` cannot read is asked for again.

        Raises:
            NoReplyError: after the last retry. UsageError: the server refuses the request itself.
        """
        return await self.endpoint.attempt(lambda: self._once("POST", path, body), read)

    async def get(self, path: str, read: Callable[[Any], T]) -> T:
        """The same for a GET."""
        return await self.endpoint.attempt(lambda: self._once("GET", path, None), read)

    async def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> httpx.Response:
        async with self.slots, asyncio.timeout(self.endpoint.patience.timeout):
            return await self.client.request(method, path, json=body)


Job = Callable[[Ask], Awaitable[T]]
"""What is to be asked, given a way to ask."""


@dataclass
class Endpoint:
    """A server by its address, e.g. "http://127.0.0.1:8000/v1", and the NAME of the variable that holds its key."""

    base_url: str
    key_name: str
    patience: Patience
    _good: float = field(default=0.0, repr=False)  # when the last good answer came, on the monotonic clock
    _gone: bool = field(default=False, repr=False)
    _answered: set[str] = field(default_factory=set, repr=False)  # the kinds of jobs that succeeded

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError("base_url must look like http://127.0.0.1:8000/v1")
        if parts.username or parts.password or parts.query:
            raise UsageError("base_url must hold no key and no password; name a variable in api_key_env instead")
        self.host = parts.netloc
        self.root = self.base_url.rstrip("/").removesuffix("/v1")
        self.loopback = parts.hostname in ("localhost", "::1") or parts.hostname.startswith("127.")

    def run(self, jobs: Sequence[Job[T]], kind: str = "") -> list[T | TriremeError]:
        """Do every job, some at a time; its result, or why there is none, stands at its own position.

        A job fails alone by NoReplyError, by DataError (a picture that cannot be read), and by PromptError: its request
        is refused by 400, 413 or 422 where another job of this kind succeeded, in this call or an earlier one.

        Raises:
            UsageError: the server refuses a request itself (401, 403, 404 ...), or none of the kind was ever answered.
                What runs is given up.
        """
        return _complete(self._run(jobs, kind)) if jobs else []

    def get(self, path: str, read: Callable[[Any], T]) -> T:
        """One GET with the same retries. NoReplyError and UsageError as above."""
        found = self.run([partial(Ask.get, path=path, read=read)])[0]
        if isinstance(found, TriremeError):
            raise found
        return found

    async def _run(self, jobs: Sequence[Job[T]], kind: str) -> list[T | TriremeError]:
        results: list[Any] = [None] * len(jobs)
        refused: dict[int, RefusedError] = {}
        waiting = iter(enumerate(jobs))
        self._good = time.monotonic()
        async with self._client() as client:
            if self._gone:
                self._gone = not await self._answers(client)
            ask = Ask(self, client, asyncio.Semaphore(self.patience.concurrency))

            async def work() -> None:
                for position, job in waiting:
                    try:
                        results[position] = await job(ask)
                        self._answered.add(kind)
                    except (NoReplyError, DataError) as error:
                        results[position] = error
                    except RefusedError as error:
                        refused[position] = error
                        if error.status not in _ITS_OWN or (len(refused) >= _ALIKE and kind not in self._answered):
                            raise

            workers = [asyncio.create_task(work()) for _ in range(min(self.patience.concurrency, len(jobs)))]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        for position, error in refused.items():
            if kind not in self._answered:
                raise error
            results[position] = PromptError(str(error))
        return results

    def _client(self) -> httpx.AsyncClient:
        key = os.environ.get(self.key_name, "") if self.key_name else ""
        try:
            key.encode("ascii")
        except UnicodeEncodeError as error:
            raise UsageError(f"the key in {self.key_name} holds letters that no header can carry") from error
        limits = httpx.Limits(max_connections=self.patience.concurrency)
        return httpx.AsyncClient(
            base_url=self.base_url.rstrip("/") + "/",
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(self.patience.timeout, connect=min(_CONNECT, self.patience.timeout)),
            limits=limits,
            trust_env=not self.loopback,  # a proxy of the environment cannot reach this machine's own ports
        )

    async def _answers(self, client: httpx.AsyncClient) -> bool:
        try:
            async with asyncio.timeout(min(_PROBE, self.patience.timeout)):
                return (await client.get("models")).status_code not in _AGAIN
        except (httpx.HTTPError, TimeoutError):
            return False

    async def attempt(self, once: Callable[[], Awaitable[httpx.Response]], read: Callable[[Any], T]) -> T:
        """Try until an answer can be read. NoReplyError after the last try; UsageError where a retry cannot help."""
        reason = "was not asked"
        for attempt in range(self.patience.retries + 1):
            if self._gone:
                raise NoReplyError(f"{self.host} is gone: no good answer for {self.patience.total:g} s ({reason})")
            asked = 0.0
            try:
                reply = await once()
                if reply.status_code not in _AGAIN:
                    self._refuse(reply)
                    answer = read(reply.json())
                    self._good = time.monotonic()
                    return answer
                reason, asked = f"answers {reply.status_code}", _retry_after(reply)
            except (TimeoutError, httpx.TimeoutException):
                reason = f"gave no answer within {self.patience.timeout:g} s"
            except httpx.HTTPError as error:  # refused, reset, cut off, not HTTP
                reason = f"broke off ({type(error).__name__})"
            except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
                reason = f"gave a broken reply ({type(error).__name__})"
            if time.monotonic() - self._good > self.patience.total:
                self._gone = True
            elif attempt < self.patience.retries:
                await asyncio.sleep(self._wait(attempt, asked))
        raise NoReplyError(f"{self.host} {reason}")

    def _wait(self, attempt: int, asked: float) -> float:
        """Seconds before the next try: what the server asked for, or the back-off, whichever is longer."""
        own = self.patience.backoff * 2.0 ** min(attempt, 16)
        return min(max(asked, own * random.uniform(0.5, 1.0)), _LONGEST_WAIT, self.patience.total)

    def _refuse(self, reply: httpx.Response) -> None:
        """Raise for an answer that stays as it is however often one asks."""
        status = reply.status_code
        if status < 300:
            return
        if status in (401, 403):  # what the server says here may quote the key
            name = self.key_name or "api_key_env"
            raise UsageError(f"{self.host} refuses the key ({status}); put a valid one into the variable {name}")
        said = _message(reply)
        key = os.environ.get(self.key_name, "") if self.key_name else ""
        if key:
            said = said.replace(key, "***")
        said = said[:_SHOWN]  # only now, or a key at the border would be known by its beginning
        hint = "; check base_url and model" if status == 404 or status < 400 else ""
        raise RefusedError(f"{self.host} answers {status}{': ' + said if said else ''}{hint}", status)


class RefusedError(UsageError):
    """The server refuses the request itself; `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def _message(reply: httpx.Response) -> str:
    """What a server says of its refusal, in one line: its code where that is a word, and its message."""
    try:
        body = reply.json()
        error = body.get("error", body)
        text = error.get("message") or error.get("detail") if isinstance(error, dict) else error
        code = error.get("code") if isinstance(error, dict) else None
    except (ValueError, AttributeError):
        text = code = None
    parts = [code if isinstance(code, str) and not code.isdigit() else "", str(text or "")]
    return " ".join(": ".join(filter(None, parts)).split())


def _retry_after(reply: httpx.Response) -> float:
    """Seconds that a server asks to wait, given as a number or as a date; 0 where it does not say."""
    value = reply.headers.get("Retry-After", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def _complete(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, also where an event loop runs already (a notebook): there in a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
