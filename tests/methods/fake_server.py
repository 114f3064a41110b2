"""A real HTTP server on loopback that behaves as a test says, and what the tests of the server engine share."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from trireme.methods.rankers.base import Prompt
from trireme.methods.rankers.server import ServerEngine

VARIABLE = "TRIREME_TEST_KEY"


@dataclass
class Reply:
    """What the server does: answer (`body` as JSON, or raw bytes), after `delay` seconds, or break off."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: int | None = None  # send so many bytes of the body and close; -1: close without a word


Behaviour = Callable[[str, dict[str, Any], int], Reply]


@dataclass
class Server:
    """A server with a behaviour: (path, body, how often this body was asked before) to a reply."""

    behave: Behaviour
    http: ThreadingHTTPServer
    seen: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    busy: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def asked(self, path: str = "chat/completions") -> int:
        return sum(1 for where, _ in self.seen if where.endswith(path))


class Handler(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        self.answer({})

    def do_POST(self) -> None:
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def answer(self, body: dict[str, Any]) -> None:
        own: Server = self.server.owner
        with own.lock:
            before = own.seen.count((self.path, body))
            own.seen.append((self.path, body))
            own.keys.append(self.headers.get("Authorization"))
            own.busy += 1
            own.most = max(own.most, own.busy)
        try:
            reply = own.behave(self.path, body, before)
            time.sleep(reply.delay)
        finally:
            with own.lock:
                own.busy -= 1
        if reply.cut == -1:
            self.close_connection = True
            return
        data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with suppress(OSError):  # who asked has given up
            self.wfile.write(data if reply.cut is None else data[: reply.cut])
        self.close_connection = reply.cut is not None

    def log_message(self, *_: Any) -> None:
        """Silent."""


Start = Callable[..., Server]


@contextmanager
def servers() -> Iterator[Start]:
    """`start(behaviour, port)`: a server that ends with the test."""
    running: list[Server] = []

    def make(behave: Behaviour, port: int = 0) -> Server:
        http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        http.daemon_threads = True
        own = Server(behave, http)
        http.owner = own  # type: ignore[attr-defined]
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        running.append(own)
        return own

    yield make
    for own in running:
        own.http.shutdown()
        own.http.server_close()


def engine(server: Server, **options: Any) -> ServerEngine:
    given = {"base_url": server.url, "model": "m", "backoff": 0.01, "timeout": 5.0, "retries": 3}
    return ServerEngine(ServerEngine.Config(api_key_env=VARIABLE, **(given | options)))


def text(body: dict[str, Any]) -> str:
    """The text of a request's user turn."""
    return "".join(part.get("text", "") for part in body["messages"][0]["content"])


def chat(content: Any, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return {"choices": [choice | more.pop("choice", {})], "usage": {"prompt_tokens": 7, "completion_tokens": 2}, **more}


def echo(path: str, body: dict[str, Any], before: int) -> Reply:
    if path.endswith("models"):
        return Reply({"data": [{"id": "m", "root": "/somewhere/m", "max_model_len": 99}]})
    return Reply(chat("re: " + text(body)))


def prompts(n: int) -> list[Prompt]:
    return [Prompt((), (f"question {i}",)) for i in range(n)]


def wanted(n: int) -> list[str]:
    return [f"re: question {i}" for i in range(n)]
