"""A ranker behind any OpenAI-compatible address: `vllm serve` on this machine or another one, or a service.

`generate` needs chat completions with pictures and nothing else. `choose`, `score` and `next_token` use vLLM's
extensions of them; an endpoint without those is told from its first answer, and the error names what still works.
"""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import PurePath
from typing import Any, ClassVar, TypeVar

from PIL.Image import Image

from trireme.errors import TriremeError, UsageError
from trireme.files import fingerprint
from trireme.methods.rankers.base import Generated, Prompt, Scored
from trireme.methods.rankers.chat import pictures
from trireme.methods.rankers.checkpoint import TOLD, most_told, note_unversioned
from trireme.methods.rankers.endpoint import Ask, Endpoint, Job, NoReplyError, Patience, RefusedError
from trireme.methods.rankers.served import Served

T = TypeVar("T")

_TOP = 20  # the most that OpenAI's protocol shows of a token's alternatives
_LONGEST_CHOICE = 256  # tokens


@dataclass(frozen=True, slots=True)
class _Turn:
    """A user's turn as it is sent, and the beginning of the answer to it."""

    content: list[dict[str, Any]]
    answer: str


class ServerEngine:
    """Asks a server. Answers come back in the order of their prompts; one without an answer says why in `failed`.

    The string that the model sees is made by the server: its chat template over the same texts and pictures. Where
    `Prompt.answer` is not empty, the server continues that message (`continue_final_message`), which in a template
    that writes something before an answer (LLaVA-1.5: a space) differs by that from the local engines.

    A prompt that the server refuses (400, 413, 422: a content filter, too long) fails alone and for good where another
    one of its kind was answered.

    Raises (from every method):
        UsageError: the server refuses every request (401, 403, 404 ..., or 400 before any good answer), or cannot do
            what a mode needs.
    """

    @dataclass
    class Config:
        """Which server, and how long to try.

        Attributes:
            base_url: the address up to and with "/v1".
            model: the name that the server knows it by (of an adapter: the adapter's); "": the first that it lists.
            revision: what you know of the model's version; the server does not tell, so it only enters the fingerprint.
            api_key_env: NAME of the environment variable that holds the key; "": none is sent.
            told: what the model was told in training for ranking: "none", "captions" or "labels".
            image_size: the longer side to which pictures are brought before they are sent; 0: as they are.
            seed: sent with every request; decoding is greedy.
            special_tokens: vLLM adds the tokeniser's special tokens to its template's text (LLaVA-1.5 wants that).
            concurrency: requests in flight.
            retries: further tries of a request that failed in a way that may pass.
            timeout: seconds for one request.
            patience: seconds without any good answer after which the server counts as gone.
            backoff: seconds before the second try; doubles with every further one.
        """

        base_url: str = "http://127.0.0.1:8000/v1"
        model: str = ""
        revision: str = ""
        api_key_env: str = "OPENAI_API_KEY"
        told: str = "none"
        image_size: int = 0
        seed: int = 0
        special_tokens: bool = False
        concurrency: int = 16
        retries: int = 5
        timeout: float = 120.0
        patience: float = 600.0
        backoff: float = 0.5

    version: ClassVar[int] = 1

    def __init__(self, config: Config) -> None:
        if config.told not in TOLD:
            raise UsageError(f"told={config.told} is none of {', '.join(TOLD)}")
        if config.concurrency < 1 or config.retries < 0 or min(config.timeout, config.patience) <= 0:
            raise UsageError("concurrency, timeout and patience must be above 0, retries 0 or more")
        self.config = config
        patience = Patience(config.concurrency, config.retries, config.timeout, config.patience, config.backoff)
        self._endpoint = Endpoint(config.base_url, config.api_key_env, patience)
        self._served = Served(self._endpoint, config.model)
        self._ids: dict[str, int] = {}  # the tokens of options, where the server tells them
        self._tokenises = True

    @property
    def name(self) -> str:
        return f"{PurePath(self._served.card['id']).name}, server"

    @property
    def batch(self) -> int:
        """How many questions keep the server busy."""
        return 4 * self.config.concurrency

    @property
    def told(self) -> str:
        """What the config says, or more where the record of a training lies beside the model's files."""
        return most_told([self.config.told, *(str(record["told"]) for record in self._served.records)])

    @property
    def pictures(self) -> Sequence[Mapping[str, Any]]:
        """What the records beside the model's files say; of a model elsewhere nothing is known."""
        return tuple(record["pictures"] for record in self._served.records)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the model as the server names it, of its files where they are on this machine, and of what is sent;
        not of the address. Asks the server once."""
        config, card = self.config, self._served.card
        parts = {
            "engine": "server",
            "version": self.version,
            "model": card["id"],
            "root": PurePath(str(card.get("root") or "")).name,  # where its files lie is no part of an answer
            "parent": card.get("parent"),
            "context": card.get("max_model_len"),
            "revision": config.revision,
            "image_size": config.image_size,
            "seed": config.seed,
            "special_tokens": config.special_tokens,
        }
        if self._served.identities:
            parts["files"] = self._served.identities
        elif not config.revision:
            note_unversioned(f"{card['id']} on {self._endpoint.host}")
        return fingerprint(parts)

    def generate(self, prompts: Sequence[Prompt], max_tokens: int) -> list[Generated]:
        """Decode greedily, at most `max_tokens` tokens."""
        extra = {"max_tokens": max_tokens}
        jobs = [partial(self._generate, prompt=prompt, extra=extra, allowed=None) for prompt in prompts]
        return self._generated(jobs, "list")

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[Sequence[str]]) -> list[Generated]:
        """Decode under vLLM's `structured_outputs: {"choice": [...]}`. UsageError where an endpoint ignores it."""
        jobs = []
        for prompt, names in zip(prompts, choices, strict=True):
            among = list(dict.fromkeys(names))
            extra = {"max_tokens": _LONGEST_CHOICE, "structured_outputs": {"choice": among}}
            jobs.append(partial(self._generate, prompt=prompt, extra=extra, allowed=frozenset(among)))
        return self._generated(jobs, "choice")

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[Scored]:
        """Log-probability of each continuation, from vLLM's `prompt_logprobs` of a message that is not finished.

        One request for the prompt alone tells where a continuation begins, one for each continuation brings its
        log-probabilities: the tokens are those of the whole text, not of the continuation apart. vLLM computes
        the prompt anew for each, since with `prompt_logprobs` it reads no prefix cache; pictures are processed once.
        """
        jobs = [
            partial(self._score, prompt=prompt, continuations=tuple(texts))
            for prompt, texts in zip(prompts, continuations, strict=True)
        ]
        return self._scored(jobs, [len(texts) for texts in continuations], "score")

    def next_token(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[Scored]:
        """Log-probability of each option as the very next token.

        A vLLM server says which token an option is, and gives the log-probability of exactly that one. Of another
        server only the 20 likeliest tokens are known: an option that is none of them gets the smallest of theirs, which
        is an upper bound.
        """
        self._tokenise(option for row in options for option in row)
        jobs = [
            partial(self._next_token, prompt=prompt, options=tuple(row))
            for prompt, row in zip(prompts, options, strict=True)
        ]
        return self._scored(jobs, [len(row) for row in options], "letters")

    async def _generate(
        self, ask: Ask, prompt: Prompt, extra: Mapping[str, Any], allowed: frozenset[str] | None
    ) -> Generated:
        (text, ended), cost = await self._post(ask, await self._turn(prompt), extra, _text)
        if allowed is not None and text not in allowed and ended:
            raise _cannot("choice", "it ignores structured_outputs")
        return Generated(text, *cost)

    async def _score(self, ask: Ask, prompt: Prompt, continuations: tuple[str, ...]) -> Scored:
        extra: dict[str, Any] = {"max_tokens": 1, "return_token_ids": True}
        turn = await self._turn(prompt)
        before, cost = await self._post(ask, turn, extra, _prompt_ids)
        extra["prompt_logprobs"] = 0
        sums: dict[str, tuple[float, int]] = {}
        for text in dict.fromkeys(continuations):
            longer = replace(turn, answer=turn.answer + text)
            (ids, values), spent = await self._post(ask, longer, extra, _prompt_logprobs)
            if len(ids) <= len(before) or ids[: len(before)] != before:
                raise NoReplyError(f"on this server the tokens of {text!r} grow together with those before it")
            sums[text] = (float(sum(values[len(before) :])), len(ids) - len(before))
            cost = (cost[0] + spent[0], cost[1] + spent[1])
        found = [sums[text] for text in continuations]
        return Scored(tuple(value for value, _ in found), tuple(count for _, count in found), *cost)

    async def _next_token(self, ask: Ask, prompt: Prompt, options: tuple[str, ...]) -> Scored:
        extra: dict[str, Any] = {"max_tokens": 1, "logprobs": True}
        if self._tokenises:
            if missing := [option for option in options if option not in self._ids]:
                raise NoReplyError(f"the server did not say which token {missing[0]!r} is")
            ids = [self._ids[option] for option in options]
            extra |= {"logprob_token_ids": ids, "return_tokens_as_token_ids": True}
            wanted = [f"token_id:{i}" for i in ids]
        else:
            extra |= {"top_logprobs": _TOP}
            wanted = list(options)
        shown, cost = await self._post(ask, await self._turn(prompt), extra, _alternatives)
        if self._tokenises and not set(wanted) <= shown.keys():
            raise _cannot("letters", "it gives no log-probabilities of given tokens (logprob_token_ids)")
        bound = min(shown.values())
        return Scored(tuple(shown.get(name, bound) for name in wanted), (1,) * len(wanted), *cost)

    async def _turn(self, prompt: Prompt) -> _Turn:
        """Pictures are read and packed in a thread, so that others are sent meanwhile."""
        return _Turn(await asyncio.to_thread(_content, prompt, self.config.image_size), prompt.answer)

    async def _post(self, ask: Ask, turn: _Turn, extra: Mapping[str, Any], read: Callable[[Any], T]) -> T:
        turns: list[dict[str, Any]] = [{"role": "user", "content": turn.content}]
        body: dict[str, Any] = {"model": self._model, "messages": turns}
        body |= {"temperature": 0, "seed": self.config.seed}
        if turn.answer:
            turns.append({"role": "assistant", "content": turn.answer})
            body |= {"add_generation_prompt": False, "continue_final_message": True}
        if self.config.special_tokens:
            body["add_special_tokens"] = True
        return await ask.post("chat/completions", body | dict(extra), read)

    def _tokenise(self, options: Iterable[str]) -> None:
        """Ask the server which token each option is. UsageError where one is none or several."""
        new = [option for option in dict.fromkeys(options) if option not in self._ids]
        if not self._tokenises or not new:
            return
        address = self._endpoint.root + "/tokenize"  # vLLM's, beside /v1
        jobs = [
            partial(
                Ask.post,
                path=address,
                body={"model": self._model, "prompt": option, "add_special_tokens": False},
                read=_token_ids,
            )
            for option in new
        ]
        try:
            found = self._answers(jobs, "tokenize")
        except RefusedError as error:
            if error.status not in (404, 405, 501):
                raise
            self._tokenises = False
            return
        for option, ids in zip(new, found, strict=True):
            if isinstance(ids, TriremeError):
                continue
            if len(ids) != 1:
                raise UsageError(f"the option {option!r} is {len(ids)} tokens of this model, not one; use mode=score")
            self._ids[option] = ids[0]

    @cached_property
    def _model(self) -> str:
        """The model as requests name it."""
        return self.config.model or str(self._served.card["id"])

    def _answers(self, jobs: Sequence[Job[T]], kind: str) -> list[T | TriremeError]:
        try:
            _ = self._model  # before the requests, which need it
        except NoReplyError as error:
            return [error for _ in jobs]
        return self._endpoint.run(jobs, kind)

    def _generated(self, jobs: Sequence[Job[Generated]], mode: str) -> list[Generated]:
        return [Generated.without(a) if isinstance(a, TriremeError) else a for a in self._answers(jobs, mode)]

    def _scored(self, jobs: Sequence[Job[Scored]], counts: Sequence[int], mode: str) -> list[Scored]:
        try:
            answers = self._answers(jobs, mode)
        except RefusedError as error:
            raise _cannot(mode, str(error)) from error
        return [
            Scored.without(answer, (0,) * count) if isinstance(answer, TriremeError) else answer
            for count, answer in zip(counts, answers, strict=True)
        ]


def _content(prompt: Prompt, image_size: int) -> list[dict[str, Any]]:
    """The parts of a user's turn, pictures as data URLs. DataError where a picture cannot be read."""
    shown = [
        {"type": "image_url", "image_url": {"url": _data_url(picture)}} for picture in pictures(prompt, image_size)
    ]
    parts: list[dict[str, Any]] = []
    for position, text in enumerate(prompt.texts):
        parts += [{"type": "text", "text": text}] if text else []
        parts += shown[position : position + 1]
    return parts


def _data_url(picture: Image) -> str:
    packed = io.BytesIO()
    picture.save(packed, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(packed.getvalue()).decode()


def _cannot(mode: str, why: str) -> UsageError:
    """The error for an endpoint that lacks what a mode needs."""
    needs = {"choice": "structured_outputs", "score": "prompt_logprobs", "letters": "logprobs"}
    others = ", ".join(f"{name} (with {what})" for name, what in needs.items() if name != mode)
    return UsageError(f"this endpoint cannot do mode={mode}: {why}. mode=list works with every endpoint; {others}")


def _usage(reply: Any) -> tuple[int, int]:
    """Tokens of the prompt and of the answer; 0 where the server does not count."""
    usage = reply.get("usage") or {}
    return int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)


def _text(reply: Any) -> tuple[tuple[str, bool], tuple[int, int]]:
    """What was written, and whether it came to its end."""
    choice = reply["choices"][0]
    text = choice["message"]["content"]
    if text is not None and not isinstance(text, str):
        raise TypeError("content is no text")
    return (text or "", choice.get("finish_reason") != "length"), _usage(reply)


def _prompt_ids(reply: Any) -> tuple[list[int], tuple[int, int]]:
    reply["choices"][0]
    ids = reply.get("prompt_token_ids")
    if ids is None:
        raise _cannot("score", "it tells no tokens of a prompt (return_token_ids)")
    return [int(i) for i in ids], _usage(reply)


def _prompt_logprobs(reply: Any) -> tuple[tuple[list[int], list[float]], tuple[int, int]]:
    """The tokens of a prompt and their log-probabilities; that of the first one is 0."""
    ids, cost = _prompt_ids(reply)
    rows = reply.get("prompt_logprobs")
    if rows is None:
        raise _cannot("score", "it gives no log-probabilities of a prompt (prompt_logprobs)")
    values = [0.0 if row is None else float(row[str(i)]["logprob"]) for i, row in zip(ids, rows, strict=True)]
    return (ids, values), cost


def _alternatives(reply: Any) -> tuple[dict[str, float], tuple[int, int]]:
    """Log-probabilities of the first token and of the alternatives that are shown, by their text."""
    logprobs = reply["choices"][0].get("logprobs")
    if not logprobs or not logprobs.get("content"):
        raise _cannot("letters", "it gives no log-probabilities (logprobs)")
    token = logprobs["content"][0]
    return {str(one["token"]): float(one["logprob"]) for one in [*token.get("top_logprobs", ()), token]}, _usage(reply)


def _token_ids(reply: Any) -> list[int]:
    return [int(i) for i in reply["tokens"]]
