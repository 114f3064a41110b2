"""What the server engine sends and reads, mode by mode, against a real HTTP server on loopback."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trireme.errors import UsageError
from trireme.methods.rankers.base import Engine, Prompt
from trireme.methods.rankers.server import ServerEngine
from trireme.types import ImageRef

from .fake_server import Behaviour, Reply, Start, chat, echo, engine, prompts, servers, text


@pytest.fixture
def start() -> Iterator[Start]:
    """`start(behaviour, port)`: a server that ends with the test."""
    with servers() as make:
        yield make


def test_pictures_and_texts_are_sent_in_their_order(start: Start, tmp_path: Path) -> None:
    """Pixels as they are; a blank one is white; the answer so far is a message to be continued."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    server = start(echo)
    prompt = Prompt((ImageRef(str(tmp_path / "a.png")), None), ("one", "", "two"), answer="It is")
    assert engine(server).generate([prompt], 9)[0].text == "re: onetwo"
    body = server.seen[0][1]
    parts = body["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["text", "image_url", "image_url", "text"]
    shown = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].split(",")[1]))))
        for part in parts[1:3]
    ]
    np.testing.assert_array_equal(shown[0], pixels)
    assert (shown[1] == 255).all()
    assert body["messages"][1] == {"role": "assistant", "content": "It is"}
    assert (body["add_generation_prompt"], body["continue_final_message"]) == (False, True)
    (tmp_path / "b.png").write_bytes(b"no picture")
    broken = Prompt((ImageRef(str(tmp_path / "b.png")),), ("", "what?"))
    found = engine(server, image_size=60).generate([broken, prompt], 9)
    assert "b.png" in found[0].failed
    assert found[1].text


def test_choose_sends_the_choices(start: Start) -> None:
    names = ["colt's foot", "a, b", "colt's foot"]
    server = start(lambda *_: Reply(chat("a, b")))
    assert engine(server).choose(prompts(2), [names] * 2)[1].text == "a, b"
    assert server.seen[0][1]["structured_outputs"] == {"choice": ["colt's foot", "a, b"]}
    server = start(lambda *_: Reply(chat("I think it is a bird")))
    with pytest.raises(UsageError, match=r"ignores structured_outputs\. mode=list works"):
        engine(server).choose(prompts(1), [names])


def scoring(path: str, body: dict[str, Any], before: int) -> Reply:
    """A server whose tokens are letters, each with log-probability -1/10 of its place in the alphabet."""
    whole = "?" + text(body) + "".join(turn["content"] for turn in body["messages"][1:])
    ids = [ord(letter) for letter in whole]
    rows: list[Any] = [{str(i): {"logprob": -(i % 32) / 10, "rank": 1}} for i in ids]
    rows[0] = None
    return Reply(chat("x", prompt_token_ids=ids, **({"prompt_logprobs": rows} if "prompt_logprobs" in body else {})))


def test_score_adds_up_the_tokens_of_the_continuation(start: Start) -> None:
    server = start(scoring)
    found = engine(server).score([Prompt((), ("q",)), Prompt((), ("r",), "b")], [["a", "ba", "a"], ["c"]])
    assert found[0].sums == pytest.approx((-0.1, -0.3, -0.1))
    assert found[0].tokens == (1, 2, 1)
    assert found[1].sums == pytest.approx((-0.3,))
    assert server.asked() == 2 + 3, "equal continuations are asked once"


def test_score_where_the_server_cannot(start: Start) -> None:
    """Three kinds of servers without it: one that refuses, one that ignores, one whose tokens grow together."""
    server = start(lambda *_: Reply({"error": {"message": "unknown field"}}, 400))
    with pytest.raises(UsageError, match=r"cannot do mode=score.*unknown field.*mode=list works"):
        engine(server).score(prompts(1), [["a"]])
    server = start(lambda *_: Reply(chat("x")))
    with pytest.raises(UsageError, match="return_token_ids"):
        engine(server).score(prompts(1), [["a"]])
    server = start(lambda *_: Reply(chat("x", prompt_token_ids=[1, 2])))
    with pytest.raises(UsageError, match="prompt_logprobs"):
        engine(server).score(prompts(1), [["a"]])

    def grown(path: str, body: dict[str, Any], before: int) -> Reply:
        reply = scoring(path, body, before)
        if len(body["messages"]) > 1:
            reply.body["prompt_token_ids"][1] = 0
            reply.body["prompt_logprobs"][1] = {"0": {"logprob": -1.0}}
        return reply

    found = engine(start(grown)).score(prompts(1), [["a", "b"]])
    assert "grow together" in found[0].failed
    assert found[0].tokens == (0, 0)


def lettered(path: str, body: dict[str, Any], before: int) -> Reply:
    """vLLM: it tells tokens, and log-probabilities of given tokens."""
    if path.endswith("tokenize"):
        return Reply({"tokens": [ord(letter) for letter in body["prompt"]]})
    given = body.get("logprob_token_ids", ())
    shown = [{"token": f"token_id:{i}", "logprob": -i / 10} for i in given]
    token = {"token": "token_id:0", "logprob": -0.5, "top_logprobs": shown}
    return Reply(chat("x", choice={"logprobs": {"content": [token]}}))


def test_next_token_by_the_tokens_of_the_server(start: Start) -> None:
    server = start(lettered)
    asked = engine(server)
    found = asked.next_token(prompts(3), [["A", "B"]] * 3)
    assert [one.sums for one in found] == [(-6.5, -6.6)] * 3
    assert found[0].tokens == (1, 1)
    assert server.asked("/tokenize") == 2, "each option once, not once a prompt"
    assert server.seen[0][0] == "/tokenize", "beside /v1"
    with pytest.raises(UsageError, match="'AB' is 2 tokens"):
        asked.next_token(prompts(1), [["AB"]])


def test_next_token_of_any_server(start: Start) -> None:
    """Without /tokenize the likeliest twenty are seen; what is none of them gets the smallest of theirs."""

    def behave(path: str, body: dict[str, Any], before: int) -> Reply:
        if path.endswith("tokenize"):
            return Reply({}, 404)
        assert body["top_logprobs"] == 20
        top = [{"token": "B", "logprob": -0.25}, {"token": "the", "logprob": -3.0}]
        return Reply(chat("B", choice={"logprobs": {"content": [{**top[0], "top_logprobs": top}]}}))

    asked = engine(start(behave))
    assert asked.next_token(prompts(1), [["A", "B"]])[0].sums == (-3.0, -0.25)
    with pytest.raises(UsageError, match="mode=letters"):
        engine(start(lambda path, *_: Reply({}, 404) if "tok" in path else Reply(chat("x")))).next_token(
            prompts(1), [["A"]]
        )


def test_name_model_and_fingerprint(start: Start) -> None:
    cards = [{"id": "org/big", "root": "/home/a/big"}, {"id": "small", "parent": "org/big"}]
    server = start(lambda *_: Reply({"data": cards}))
    moved = start(lambda *_: Reply({"data": [{"id": "org/big", "root": "/home/b/big"}]}))
    first = engine(server, model="")
    assert isinstance(first, Engine)
    assert first.name == "big, server"
    assert first.told == "none"
    assert first.fingerprint == engine(moved, model="org/big", retries=9, concurrency=2, timeout=1.0).fingerprint
    others = [
        engine(server, model="small"),
        engine(server, model="", revision="abc"),
        engine(server, model="", image_size=64),
        engine(server, model="", seed=1),
        engine(server, model="", special_tokens=True),
    ]
    assert len({one.fingerprint for one in [first, *others]}) == 6
    with pytest.raises(UsageError, match="did you mean 'small'"):
        _ = engine(server, model="smal").fingerprint


def checkpoint(folder: Path, weights: bytes, needs: str = "config.json", record: dict[str, Any] | None = None) -> Path:
    """A folder with the files that count; nothing reads them but their hashes."""
    folder.mkdir(parents=True)
    (folder / needs).write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    if record:
        (folder / "ranker.json").write_text(json.dumps(record))
    return folder


def listing(*cards: dict[str, Any]) -> Behaviour:
    return lambda *_: Reply({"data": list(cards)})


def test_a_model_served_from_this_machine_is_known_by_its_files(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As vLLM lists it: `root` is the folder. Equal files make equal models, wherever they lie; equal names do not."""
    one, two = (checkpoint(tmp_path / name / "model", name.encode()) for name in ("a", "b"))
    moved = checkpoint(tmp_path / "c" / "model", b"a")
    found = [engine(start(listing({"id": "m", "root": str(folder)}))).fingerprint for folder in (one, two, moved)]
    assert found[0] == found[2] != found[1]
    assert capsys.readouterr().err == ""


def test_a_served_adapter_is_known_by_its_files_and_those_of_its_base(start: Start, tmp_path: Path) -> None:
    """vLLM: `root` is the adapter's folder, `parent` the name of the base, whose card has its folder."""
    told, trained = ({"told": t, "pictures": {"count": n}} for n, t in ((1, "captions"), (2, "labels")))
    bases = [checkpoint(tmp_path / f"base{i}", bytes([i])) for i in range(2)]
    tuned = [checkpoint(tmp_path / f"t{i}" / "tuned", bytes([i]), "adapter_config.json", trained) for i in range(2)]
    (bases[1] / "ranker.json").write_text(json.dumps(told))

    def asked(adapter: Path, base: Path, by_path: bool = False) -> ServerEngine:
        """`by_path`: without a name of its own the base's id is its folder."""
        cards = [{"id": str(base) if by_path else "base", "root": str(base), "parent": None}]
        server = start(listing(*cards, {"id": "tuned", "root": str(adapter), "parent": cards[0]["id"]}))
        return engine(server, model="tuned")

    engines = [asked(tuned[0], bases[0]), asked(tuned[1], bases[0]), asked(tuned[0], bases[1])]
    assert len({one.fingerprint for one in engines}) == 3
    assert (engines[0].told, engines[0].pictures) == ("labels", ({"count": 2}, {}))
    assert (engines[2].told, engines[2].pictures) == ("labels", ({"count": 2}, {"count": 1}))
    assert asked(tuned[0], bases[1], by_path=True).pictures == engines[2].pictures
    alone = engine(start(listing({"id": "base", "root": str(bases[1])})), model="base", told="labels")
    assert alone.told == "labels", "what the config says, where that is more"


def test_a_model_of_unknown_version_is_noted_once(
    start: Start, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Its folder is not here, or is relative to another process; with a revision there is nothing to note."""
    checkpoint(tmp_path / "m", b"a")
    for root in ("/nowhere/m", "org/m", "m", str(tmp_path / "adapter-only")):
        server = start(listing({"id": "m", "root": root}))
        for _ in range(2):
            assert engine(server).fingerprint
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("note: ")
        assert "ranker.revision=" in line
        assert engine(server, revision="abc").fingerprint
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "localhost:8000"}, "must look like"),
        ({"base_url": "http://me:secret@host/v1"}, "no key and no password"),
        ({"base_url": "http://host/v1?api_key=secret"}, "no key and no password"),
        ({"told": "everything"}, "told=everything"),
        ({"concurrency": 0}, "above 0"),
        ({"timeout": 0.0}, "above 0"),
    ],
)
def test_options_are_checked_early(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        ServerEngine(ServerEngine.Config(**options))
    assert "secret" not in str(caught.value)
