"""The four modes on written answers, and replies that are asked once."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Never

import pytest

from trireme.errors import DataError, UsageError
from trireme.methods.rankers import prompts
from trireme.methods.rankers.base import Example, Generated, Mode, Prompt, PromptError, Question, Status
from trireme.methods.rankers.rank import Asking, rank
from trireme.methods.rankers.replies import CachedRanker, Replies, _picture_keys, question_keys
from trireme.types import ImageRef, Region

from .scripted import ScriptedEngine

NAMES = ("red fox", "fox", "wolf")


def ref(number: int) -> ImageRef:
    return ImageRef(f"/nowhere/{number}.png", f"{number:064x}")


def question(number: int = 0, names: tuple[str, ...] = NAMES) -> Question:
    return Question(ref(number), names)


def test_a_list_is_read_into_an_order() -> None:
    answer = rank(ScriptedEngine(lambda p: "['wolf', 'red fox', 'fox']"), [question()], Asking())[0]
    assert (answer.order, answer.status, answer.scores) == ((2, 0, 1), Status.OK, None)
    assert (answer.prompt_tokens, answer.completion_tokens) == (10, 3)


def test_no_reply_is_a_timeout_in_retrieval_order_and_takes_nobody_elses_answer() -> None:
    # the authors' script gives a picture whose reply has no bracket the answer of the picture before it
    def reply(prompt: Prompt) -> str:
        if prompt.images[0] == ref(1):
            raise RuntimeError("the server hung up")
        return "['wolf', 'fox', 'red fox']" if prompt.images[0] == ref(0) else "no idea"

    answers = rank(ScriptedEngine(reply), [question(i) for i in range(3)], Asking())
    assert [a.status for a in answers] == [Status.OK, Status.TIMEOUT, Status.UNREADABLE]
    assert [a.order for a in answers] == [(2, 1, 0), (0, 1, 2), (0, 1, 2)]
    assert answers[1].reply == "the server hung up"


def test_a_choice_comes_first_and_the_rest_stays_in_retrieval_order() -> None:
    answer = rank(ScriptedEngine(lambda p: "wolf"), [question()], Asking(Mode.CHOICE))[0]
    assert (answer.order, answer.status) == ((2, 0, 1), Status.OK)


def test_scores_order_candidates_and_ties_keep_retrieval_order() -> None:
    values = {"['red fox',": -4.0, "['fox',": -2.0, "['wolf',": -4.0}
    answer = rank(ScriptedEngine(value=lambda p, text: values[text]), [question()], Asking(Mode.SCORE))[0]
    assert (answer.order, answer.scores) == ((1, 0, 2), (-4.0, -2.0, -4.0))


def test_length_normalised_scores_are_means_over_tokens() -> None:
    values = {"['red fox',": -4.0, "['fox',": -3.0, "['wolf',": -5.0}  # 2, 1 and 1 tokens for the scripted engine
    asking = Asking(Mode.SCORE, normalise=True)
    answer = rank(ScriptedEngine(value=lambda p, text: values[text]), [question()], asking)[0]
    assert (answer.order, answer.scores) == ((0, 1, 2), (-2.0, -3.0, -5.0))


@pytest.mark.parametrize("mode", [Mode.SCORE, Mode.LETTERS])
def test_calibration_subtracts_what_a_blank_picture_gets(mode: Mode) -> None:
    shown, blank = iter((-5.0, -6.0, -7.0)), iter((-1.0, -4.0, -3.0))
    engine = ScriptedEngine(value=lambda p, text: next(blank if p.images == (None,) else shown))
    answer = rank(engine, [question()], Asking(mode, calibrate=True))[0]
    assert answer.scores == (-4.0, -2.0, -4.0)
    assert answer.order == (1, 0, 2)


def test_a_blank_prompt_is_asked_once_for_all_questions_that_share_it() -> None:
    engine = ScriptedEngine(value=lambda p, text: -float(len(text)))
    asking = Asking(Mode.SCORE, wording="name", calibrate=True)
    answers = rank(engine, [question(0), question(1, ("wolf", "dog"))], asking)
    assert [p.images for p in engine.prompts].count((None,)) == 1  # "name" shows no candidates: one prompt for both
    assert [a.scores for a in answers] == [(0.0, 0.0, 0.0), (0.0, 0.0)]


def test_letters_are_those_of_the_candidates() -> None:
    values = {"A": -3.0, "B": -1.0, "C": -2.0}
    answer = rank(ScriptedEngine(value=lambda p, text: values[text]), [question()], Asking(Mode.LETTERS))[0]
    assert answer.order == (1, 2, 0)


def test_a_failed_score_is_a_timeout() -> None:
    def value(prompt: Prompt, text: str) -> float:
        raise RuntimeError("503")

    answer = rank(ScriptedEngine(value=value), [question()], Asking(Mode.SCORE))[0]
    assert (answer.order, answer.status, answer.scores) == ((0, 1, 2), Status.TIMEOUT, None)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("the prompt has 9000 tokens, more than context=4096", Status.UNREADABLE),
        ("host answers 413: too large", Status.UNREADABLE),
        ("host answers 400: content_filter: The response was filtered", Status.REFUSED),
        ("host answers 400: Your request was rejected as a result of our safety system.", Status.REFUSED),
        ("host answers 400: it triggered Azure OpenAI's content management policy", Status.REFUSED),
    ],
)
def test_a_question_that_can_never_be_answered_is_no_timeout(
    mode: Mode, reason: str, status: Status, tmp_path: Path
) -> None:
    """Errors as services word them. It is stored: nothing is gained by asking again."""

    def never(prompt: Prompt, *_: str) -> Never:
        raise PromptError(reason)

    engine, store = ScriptedEngine(never, never), Replies(tmp_path / "r.sqlite")
    answer = CachedRanker(engine, store).rank([question()], Asking(mode))[0]
    assert (answer.order, answer.status, answer.reply, answer.scores) == ((0, 1, 2), status, reason, None)
    assert CachedRanker(engine, store).rank([question()], Asking(mode)) == [answer]
    assert len(engine.prompts) == 1


def test_a_blank_prompt_that_is_refused_counts_like_the_question(tmp_path: Path) -> None:
    def value(prompt: Prompt, text: str) -> float:
        if prompt.images == (None,):
            raise PromptError("too long")
        return -1.0

    answer = rank(ScriptedEngine(value=value), [question()], Asking(Mode.SCORE, calibrate=True))[0]
    assert (answer.order, answer.status, answer.reply) == ((0, 1, 2), Status.UNREADABLE, "too long")


@pytest.mark.parametrize(
    "asked",
    [
        lambda: Asking(Mode.LIST, calibrate=True),
        lambda: Asking(Mode.LETTERS, normalise=True),
        lambda: Asking(wording="papr"),
        lambda: Asking(max_tokens=0),
    ],
)
def test_options_without_meaning_are_refused(asked: object) -> None:
    with pytest.raises(UsageError):
        asked()  # type: ignore[operator]


def test_a_question_without_candidates_is_not_asked() -> None:
    # an approximate index may find nothing among few allowed rows
    engine = ScriptedEngine(lambda p: "['wolf', 'red fox', 'fox']")
    none, some = rank(engine, [Question(ref(0), ()), question(1)], Asking())
    assert (none.order, some.order) == ((), (2, 0, 1))
    assert len(engine.prompts) == 1


def test_nan_is_an_error_and_an_impossible_token_is_very_unlikely() -> None:
    with pytest.raises(DataError, match="NaN"):
        rank(ScriptedEngine(value=lambda p, text: float("nan")), [question()], Asking(Mode.SCORE))
    values = {"['red fox',": float("-inf"), "['fox',": -3.0, "['wolf',": -5.0}
    answer = rank(ScriptedEngine(value=lambda p, text: values[text]), [question()], Asking(Mode.SCORE))[0]
    assert answer.order == (1, 2, 0)
    assert answer.scores == (-1e4, -3.0, -5.0)


def test_half_a_surrogate_pair_in_a_reply_is_stored(tmp_path: Path) -> None:
    engine = ScriptedEngine(lambda p: "\ud83d ['wolf', 'red fox', 'fox']")
    store = Replies(tmp_path / "r.sqlite")
    answer = CachedRanker(engine, store).rank([question()], Asking())[0]
    assert answer.order == (2, 0, 1)
    assert CachedRanker(engine, store).rank([question()], Asking()) == [answer]


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    engine = ScriptedEngine(lambda p: "['wolf', 'red fox', 'fox']")
    questions = [question(i) for i in range(5)]
    first = CachedRanker(engine, Replies(tmp_path / "r.sqlite"), batch=2)
    answers = first.rank(questions, Asking())
    again = CachedRanker(engine, Replies(tmp_path / "r.sqlite"))
    assert again.rank(questions[::-1], Asking()) == answers[::-1]
    assert (first.asked, again.asked, len(engine.prompts)) == (5, 0, 5)


@pytest.mark.parametrize(("batch", "calls"), [(None, [64, 64, 22]), (8, [64, 64, 22]), (100, [100, 50]), (256, [150])])
def test_an_engine_says_how_many_questions_it_takes(batch: int | None, calls: list[int], tmp_path: Path) -> None:
    """150 questions; 64 at least make a transaction, also for an engine that does not say."""
    seen: list[int] = []

    class Counting(ScriptedEngine):
        def generate(self, prompts: Sequence[Prompt], max_tokens: int) -> list[Generated]:
            seen.append(len(prompts))
            return super().generate(prompts, max_tokens)

    engine = Counting(lambda p: "['wolf']")
    if batch is not None:
        engine.batch = batch  # type: ignore[attr-defined]
    CachedRanker(engine, Replies(tmp_path / "r.sqlite")).rank([question(i) for i in range(150)], Asking())
    assert seen == calls


@pytest.mark.parametrize(
    "row",
    [
        "{",
        "[]",
        "null",
        '{"order": [0, 1, 2]}',
        '{"order": [0, 0, 2], "reply": "", "status": "ok", "scores": null}',
        '{"order": [2, 1, 0], "reply": "", "status": "unheard-of", "scores": null}',
        '{"order": 3, "reply": "", "status": "ok", "scores": null}',
    ],
)
def test_a_stored_row_that_cannot_be_read_is_asked_again(row: str, tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    engine = ScriptedEngine(lambda p: "['wolf', 'red fox', 'fox']")
    answers = CachedRanker(engine, Replies(path)).rank([question(0), question(1)], Asking())
    with sqlite3.connect(path) as table:
        key = question_keys(engine, [question(1)], Asking())[0]
        assert table.execute("UPDATE replies SET reply = ? WHERE key = ?", (row, key)).rowcount == 1
    again = CachedRanker(engine, Replies(path))
    assert again.rank([question(0), question(1)], Asking()) == answers
    assert again.asked == 1
    assert CachedRanker(engine, Replies(path)).rank([question(1)], Asking()) == answers[1:]
    assert len(engine.prompts) == 3


def test_equal_questions_of_one_call_are_asked_once(tmp_path: Path) -> None:
    engine = ScriptedEngine(lambda p: "['wolf', 'red fox', 'fox']")
    answers = CachedRanker(engine, Replies(tmp_path / "r.sqlite")).rank([question(), question()], Asking())
    assert len(engine.prompts) == 1
    assert answers[0] == answers[1]


def test_a_killed_run_keeps_every_batch_that_was_answered(tmp_path: Path) -> None:
    def reply(prompt: Prompt) -> str:
        if prompt.images[0] == ref(3):
            raise KeyboardInterrupt
        return "['wolf', 'red fox', 'fox']"

    questions, path = [question(i) for i in range(5)], tmp_path / "r.sqlite"
    with pytest.raises(KeyboardInterrupt):
        CachedRanker(ScriptedEngine(reply), Replies(path), batch=2).rank(questions, Asking())
    rest = ScriptedEngine(lambda p: "['fox', 'red fox', 'wolf']")
    answers = CachedRanker(rest, Replies(path), batch=2).rank(questions, Asking())
    assert [prompt.images[0] for prompt in rest.prompts] == [ref(2), ref(3), ref(4)]
    assert [a.order[0] for a in answers] == [2, 2, 1, 1, 1]


def test_a_question_without_reply_is_asked_again(tmp_path: Path) -> None:
    def silent(prompt: Prompt) -> str:
        raise RuntimeError("connection refused")

    path = tmp_path / "r.sqlite"
    assert CachedRanker(ScriptedEngine(silent), Replies(path)).rank([question()], Asking())[0].status is Status.TIMEOUT
    answer = CachedRanker(ScriptedEngine(lambda p: "['wolf']"), Replies(path)).rank([question()], Asking())[0]
    assert answer.status is Status.REPAIRED


def test_everything_that_can_change_a_reply_changes_its_key() -> None:
    engine = ScriptedEngine()
    base = question_keys(engine, [question()], Asking())[0]
    other = [
        question_keys(engine, [question(1)], Asking())[0],
        question_keys(engine, [question(0, NAMES[::-1])], Asking())[0],
        question_keys(engine, [question()], Asking(Mode.SCORE))[0],
        question_keys(engine, [question()], Asking(wording="code"))[0],
        question_keys(engine, [question()], Asking(max_tokens=9))[0],
        question_keys(ScriptedEngine(name="another model"), [question()], Asking())[0],
    ]
    assert len({base, *other}) == 1 + len(other)
    for mode, template in ((Mode.CHOICE, "CHOICE"), (Mode.LETTERS, "LETTERS")):  # another prompt by another Trireme
        before = question_keys(engine, [question()], Asking(mode))[0]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(prompts, template, getattr(prompts, template) + " Please.")
            assert question_keys(engine, [question()], Asking(mode))[0] != before
    # where a picture lies does not matter, its bytes do
    assert question_keys(engine, [Question(ImageRef("/elsewhere.png", ref(0).sha256), NAMES)], Asking())[0] == base


def test_another_region_is_another_reply_key() -> None:
    box = Region((1, 2, 30, 40))
    shown = [box, Region((1, 2, 30, 41)), replace(box, crop=1.5), replace(box, square=False), replace(box, blur=0.1)]
    refs = [ref(0), *(replace(ref(0), region=region) for region in shown)]
    questions = [Question(one, NAMES) for one in refs]
    questions += [Question(ref(1), NAMES, (Example(one, "fox"),)) for one in refs]
    assert len(set(question_keys(ScriptedEngine(), questions, Asking()))) == 2 * len(refs)
    assert _picture_keys(refs[:1]) == [refs[0].sha256], "a whole picture is asked by its bytes, as before regions"
    same = replace(ref(0), path="/elsewhere.png", region=Region((1.0, 2.0, 30.0, 40.0)))
    assert _picture_keys([same]) == _picture_keys(refs[1:2])


def test_a_damaged_file_of_replies_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(DataError, match="damaged"):
        CachedRanker(ScriptedEngine(), Replies(path)).rank([question()], Asking())
    assert path.read_bytes().startswith(b"not a database")


def test_a_locked_or_unusable_file_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    path.mkdir()
    with pytest.raises(DataError, match="cannot use the stored replies"):
        Replies(path).find([b"x"])


def test_two_processes_may_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    engine = ScriptedEngine(lambda p: "['wolf', 'red fox', 'fox']")
    one, two = (CachedRanker(engine, Replies(path), batch=1) for _ in range(2))
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE IF NOT EXISTS elsewhere (x)")
    one.rank([question(0)], Asking())
    two.rank([question(0), question(1)], Asking())
    assert two.asked == 1
