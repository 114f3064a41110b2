"""A server that misbehaves on purpose: nothing is lost, nothing is invented, and the key stays where it belongs."""

from __future__ import annotations

import asyncio
import email.utils
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from trireme.errors import UsageError
from trireme.methods.rankers.endpoint import Endpoint, Patience, _retry_after

from .fake_server import VARIABLE, Behaviour, Reply, Start, chat, echo, engine, prompts, servers, text, wanted


@pytest.fixture
def start() -> Iterator[Start]:
    """`start(behaviour, port)`: a server that ends with the test."""
    with servers() as make:
        yield make


KEY = "sk-very-secret-0123456789"


def test_answers_stand_at_their_prompts_and_come_many_at_a_time(start: Start) -> None:
    """Later questions are answered sooner; never more requests in flight than asked for."""

    def slow_first(path: str, body: dict[str, Any], before: int) -> Reply:
        reply = echo(path, body, before)
        reply.delay = 0.02 * (20 - int(text(body).split()[-1])) / 20
        return reply

    server = start(slow_first)
    asked = engine(server, concurrency=5)
    found = asked.generate(prompts(20), 9)
    assert [one.text for one in found] == wanted(20)
    assert (found[0].prompt_tokens, found[0].completion_tokens) == (7, 2)
    assert 1 < server.most <= 5
    body = server.seen[0][1]
    assert (body["temperature"], body["max_tokens"], body["seed"], body["model"]) == (0, 9, 0, "m")
    assert asked.generate([], 1) == []


BROKEN = {
    "500": Reply({"error": {"message": "out of memory"}}, 500),
    "502": Reply(b"<html>bad gateway</html>", 502),
    "503": Reply({}, 503),
    "429": Reply({}, 429, {"Retry-After": "0.05"}),
    "closed": Reply(cut=-1),
    "cut off": Reply(chat("a long answer that never arrives"), cut=25),
    "no JSON": Reply(b'{"choices": [{"message": '),
    "empty": Reply(b""),
    "no choices": Reply({"choices": []}),
    "other JSON": Reply([1, 2, 3]),
    "no text": Reply(chat({"a": 1})),
    "null": Reply(None),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_may_pass_is_tried_again(start: Start, kind: str) -> None:
    """Every question fails twice in this way, and then is answered."""
    server = start(lambda path, body, before: BROKEN[kind] if before < 2 else echo(path, body, before))
    found = engine(server).generate(prompts(6), 9)
    assert [one.text for one in found] == wanted(6)
    assert not any(one.failed for one in found)
    assert server.asked() == 18


@pytest.mark.parametrize("kind", BROKEN)
def test_after_the_last_try_one_question_is_marked_and_the_others_are_answered(start: Start, kind: str) -> None:
    def behave(path: str, body: dict[str, Any], before: int) -> Reply:
        return BROKEN[kind] if text(body) == "question 3" else echo(path, body, before)

    server = start(behave)
    found = engine(server, concurrency=2).generate(prompts(6), 9)
    assert [one.text for one in found] == ["" if i == 3 else line for i, line in enumerate(wanted(6))]
    assert [bool(one.failed) for one in found] == [i == 3 for i in range(6)]
    assert server.asked() == 5 + 4


def test_a_server_that_hangs(start: Start) -> None:
    """Each try ends with the time-out, also where bytes arrive now and then."""

    def behave(path: str, body: dict[str, Any], before: int) -> Reply:
        reply = echo(path, body, before)
        reply.delay = 3.0 if text(body) == "question 1" else 0.0
        return reply

    server = start(behave)
    since = time.monotonic()
    found = engine(server, timeout=0.2, retries=1).generate(prompts(3), 9)
    assert time.monotonic() - since < 2
    assert [bool(one.failed) for one in found] == [False, True, False]
    assert "no answer within 0.2 s" in found[1].failed


def test_a_server_that_dies_and_comes_back(start: Start) -> None:
    """What it did not answer is marked, and soon, not after every retry of every question; a later call asks again."""
    server = start(echo)
    port = server.http.server_address[1]

    def dying(path: str, body: dict[str, Any], before: int) -> Reply:
        if server.asked() > 8:
            threading.Thread(target=server.http.server_close).start()
            threading.Thread(target=server.http.shutdown).start()
            return Reply(cut=-1)
        return echo(path, body, before)

    server.behave = dying
    asked = engine(server, concurrency=2, patience=0.5, retries=50)
    since = time.monotonic()
    found = asked.generate(prompts(200), 9)
    assert time.monotonic() - since < 10
    answered = [i for i, one in enumerate(found) if not one.failed]
    assert 0 < len(answered) < 200
    assert all(found[i].text == wanted(200)[i] for i in answered)
    since = time.monotonic()
    assert all(one.failed for one in asked.generate(prompts(50), 9))
    assert time.monotonic() - since < 2, "a server that is gone is asked once, not fifty times"
    start(echo, port)
    assert [one.text for one in asked.generate(prompts(5), 9)] == wanted(5)


def test_nobody_listens(start: Start) -> None:
    server = start(echo)
    server.http.shutdown()
    server.http.server_close()
    found = engine(server, retries=1).generate(prompts(3), 9)
    assert all("broke off (ConnectError)" in one.failed for one in found)
    found = engine(server, retries=1, model="").generate(prompts(3), 9)
    assert all(one.failed for one in found)
    scored = engine(server, retries=1).score(prompts(2), [["a", "b"], ["a", "b", "c"]])
    assert [len(one.tokens) for one in scored] == [2, 3]
    assert all(one.failed and not one.sums for one in scored)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_refusals_are_said_at_once_and_without_the_key(
    start: Start, status: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server quotes the key, as some do. It is in the header of every request and nowhere else."""
    monkeypatch.setenv(VARIABLE, KEY)
    caplog.set_level(logging.DEBUG)
    server = start(lambda *_: Reply({"error": {"message": f"no model for {KEY}"}}, status))
    asked = engine(server, concurrency=1)
    with pytest.raises(UsageError) as caught:
        asked.generate(prompts(5), 9)
    asked_for = 5 if status in (400, 422) else 1  # those may be about one prompt: the others are tried
    assert server.asked() == asked_for
    assert server.keys == [f"Bearer {KEY}"] * asked_for
    error: BaseException | None = caught.value
    shown = caplog.text + repr(asked) + repr(asked.config) + repr(vars(asked)) + repr(asked._endpoint)
    while error is not None:
        shown += str(error) + repr(error)
        error = error.__cause__ or error.__context__
    assert KEY not in shown
    assert str(status) in str(caught.value)
    if status in (401, 403):
        assert VARIABLE in str(caught.value)


def _filtered(*numbers: int, status: int = 400, delay: float = 0.0) -> Behaviour:
    """A server that refuses these prompts at once, as Azure's content filter does; other answers take `delay` s."""
    error = {"error": {"code": "content_filter", "message": "The response was filtered"}}

    def behave(path: str, body: dict[str, Any], before: int) -> Reply:
        if text(body) in {f"question {n}" for n in numbers}:
            return Reply(error, status)
        reply = echo(path, body, before)
        reply.delay = delay
        return reply

    return behave


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("concurrency", [1, 16])
def test_a_refused_prompt_fails_alone_and_for_good(start: Start, status: int, concurrency: int) -> None:
    """Also where the refusal comes before any good answer: the first prompt, and long before the others."""
    server = start(_filtered(0, 3, status=status, delay=0.05))
    found = engine(server, concurrency=concurrency).generate(prompts(6), 9)
    assert [one.text for one in found] == ["" if i in (0, 3) else line for i, line in enumerate(wanted(6))]
    assert [one.permanent for one in found] == [i in (0, 3) for i in range(6)]
    assert f"answers {status}: content_filter: The response was filtered" in found[3].failed
    assert server.asked() == 6, "nothing is gained by asking again"


def test_a_refused_prompt_alone_is_told_by_what_was_answered_before(start: Start) -> None:
    asked = engine(start(_filtered(0)))
    with pytest.raises(UsageError, match="answers 400"):
        asked.generate(prompts(1), 9)
    asked.generate(prompts(2)[1:], 9)
    assert asked.generate(prompts(1), 9)[0].permanent
    with pytest.raises(UsageError, match="400"):  # of another kind, nothing was answered yet
        asked.choose(prompts(1), [["a"]])


def test_a_request_that_is_wrong_is_not_sent_for_every_prompt(start: Start) -> None:
    server = start(lambda *_: Reply({"error": {"message": "no pictures here"}}, 400))
    with pytest.raises(UsageError, match="no pictures here"):
        engine(server, concurrency=1).generate(prompts(100), 9)
    assert server.asked() == 8  # _ALIKE


def test_a_key_at_the_end_of_a_long_refusal_is_not_cut_but_hidden(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 letters of the server's words are shown; the key begins at the 191st."""
    monkeypatch.setenv(VARIABLE, KEY)
    server = start(lambda *_: Reply({"error": {"message": "x" * 190 + KEY}}, 400))
    with pytest.raises(UsageError) as caught:
        engine(server).generate(prompts(1), 9)
    assert KEY[:8] not in str(caught.value)


def test_the_key_is_in_no_failure_and_no_fingerprint(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = start(lambda path, body, n: echo(path, body, n) if path.endswith("models") else Reply(KEY.encode(), 500))
    without = engine(server).fingerprint
    assert server.keys == [None], "no variable, no header"
    monkeypatch.setenv(VARIABLE, KEY)
    asked = engine(server, retries=1)
    assert asked.fingerprint == without
    assert KEY not in asked.generate(prompts(1), 9)[0].failed + caplog.text
    monkeypatch.setenv(VARIABLE, "schlüssel")
    with pytest.raises(UsageError, match="no header can carry"):
        asked.generate(prompts(1), 9)


def test_redirects_are_not_followed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another host would get the key."""
    monkeypatch.setenv(VARIABLE, KEY)
    other = start(echo)
    server = start(lambda *_: Reply({}, 307, {"Location": other.url + "/chat/completions"}))
    with pytest.raises(UsageError, match="307"):
        engine(server).generate(prompts(1), 9)
    assert other.seen == []


def test_retry_after_is_heard(start: Start) -> None:
    server = start(lambda path, body, n: Reply({}, 429, {"Retry-After": "0.4"}) if n == 0 else echo(path, body, n))
    since = time.monotonic()
    assert engine(server).generate(prompts(1), 9)[0].text
    assert 0.4 <= time.monotonic() - since < 2

    class Answer:
        def __init__(self, value: str) -> None:
            self.headers = {"Retry-After": value}

    later = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert 25 < _retry_after(Answer(later)) <= 30  # type: ignore[arg-type]
    assert _retry_after(Answer("soon")) == 0.0  # type: ignore[arg-type]
    assert Endpoint("http://a/v1", "", Patience())._wait(0, 9999.0) == 60.0
    assert Endpoint("http://a/v1", "", Patience())._wait(99, 0.0) <= 60.0


def test_within_a_running_event_loop(start: Start) -> None:
    """As in a notebook."""
    asked = engine(start(echo))

    async def cell() -> list[str]:
        return [one.text for one in asked.generate(prompts(3), 9)]

    assert asyncio.run(cell()) == wanted(3)
