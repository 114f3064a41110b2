"""Replies read back: cases made by hand, and what holds for any text."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trireme.methods.rankers.base import Status
from trireme.methods.rankers.parse import fold, read_choice, read_list

OK, REPAIRED, UNREADABLE, REFUSED = Status.OK, Status.REPAIRED, Status.UNREADABLE, Status.REFUSED

NAMES = ("cat", "dog", "colt's foot", "man, woman", "cat face")
"""Names with an apostrophe and with a comma, which the authors' parser loses, and one that begins by another."""

RETRIEVAL = (0, 1, 2, 3, 4)


def authors_parse(reply: str, known: Sequence[str]) -> list[str] | None:
    """What the two regexes of the authors' script make of a reply; None where it drops the answer.

    Source: Liuziyu77/RAR, Few_shot/retrieve_and_rerank.py.
    """
    bracket = re.search(r"\[(.*?)\]", reply)
    if bracket is None:
        return None  # there, the names of the picture before
    names = [item.strip("' ").strip() for item in re.findall(r"'[^']+'|[^,]+", bracket[1])]
    return names if all(name in known for name in names) else None


@pytest.mark.parametrize("names", [("dog", "colt's foot"), ("dog", "man, woman")])
def test_names_that_the_authors_regexes_lose_are_read(names: tuple[str, ...]) -> None:
    reply = repr(list(names))
    assert authors_parse("['dog', 'cat']", ("cat", "dog")) == ["dog", "cat"]
    assert authors_parse(reply, names) is None
    assert read_list(reply, names[::-1]) == ((1, 0), OK)


# Each names all of NAMES in the order dog, cat face, colt's foot, "man, woman", cat: by hand, as models write lists.
@pytest.mark.parametrize(
    "reply",
    [
        "['dog', 'cat face', \"colt's foot\", 'man, woman', 'cat']",
        "['dog', 'cat face', 'colt\\'s foot', 'man, woman', 'cat']",
        "['dog', 'cat face', 'colt's foot', 'man, woman', 'cat']",
        '["dog", "cat face", "colt\'s foot", "man, woman", "cat"]',
        "[‘dog’, ‘cat face’, ‘colt’s foot’, ‘man, woman’, ‘cat’]",
        "[“dog”, “cat face”, “colt’s foot”, “man, woman”, “cat”]",
        "[`dog`, `cat face`, `colt's foot`, `man, woman`, `cat`]",
        "[dog, cat face, colt's foot, man, woman, cat]",
        "[['dog'], ['cat face'], [\"colt's foot\"], ['man, woman'], ['cat']]",
        "[dog] > [cat face] > [colt's foot] > [man, woman] > [cat]",
        "['dog', 'cat face', \"colt's foot\", 'man, woman', 'cat'",
        "['dog', 'cat face', \"colt's foot\", 'man, woman', 'cat",
        "['DOG', 'Cat  Face ', \"Colt's Foot\", 'man,\\nwoman', 'cat.']",
        "['ｄｏｇ', 'cat_face', \"colt's\\u00a0foot\", 'man, woman', 'cat']",
        "['1. dog', '2. cat face', \"3. colt's foot\", '4. man, woman', '5. cat']",
        "[\n  'dog',\n  'cat face',\n  \"colt's foot\",\n  'man, woman',\n  'cat',\n]",
        "The ranking is: ['dog', 'cat face', \"colt's foot\", 'man, woman', 'cat']. I hope this helps!",
        "See [1]. ['dog', 'cat face', \"colt's foot\", 'man, woman', 'cat']",
        "```python\n['dog', 'cat face', \"colt's foot\", 'man, woman', 'cat']\n```",
        '{"ranking": ["dog", "cat face", "colt\'s foot", "man, woman", "cat"]}',
        "1. dog\n2. cat face\n3. colt's foot\n4. man, woman\n5. cat",
        "1) Dog.\n2) Cat face.\n3) Colt’s foot.\n4) Man, woman.\n5) Cat.",
        "Here it is:\n\n 1. **dog**\n 2. **cat face**\n 3. **colt's foot**\n 4. **man, woman**\n 5. **cat**\n\nBye!",
        "- dog\n- 'cat face'\n- colt's foot\n- man, woman\n- cat",
        "* dog\n* cat face\n* colt's foot\n* man, woman\n* cat",
        "A. dog\nB. cat face\nC. colt's foot\nD. man, woman\nE. cat",
        "1. dog 2. cat face 3. colt's foot 4. man, woman 5. cat",
        "1. dog, 2. cat face, 3. colt's foot, 4. man, woman, 5. cat",
        "dog\ncat face\ncolt's foot\nman, woman\ncat\n",
        "dog > cat face > colt's foot > man, woman > cat",
        "dog -> cat face -> colt's foot -> man, woman -> cat",
        "dog, cat face, colt's foot, man, woman, cat",
        "dog; cat face; colt's foot; man, woman; and cat.",
        "dog, cat face, colt's foot, man, woman and cat.",
        "The ranking is: dog, cat face, colt's foot, man, woman, and cat. I am sure.",
        "('dog', 'cat face', \"colt's foot\", 'man, woman', 'cat')",
    ],
)
def test_whole_lists_are_read_as_they_are(reply: str) -> None:
    assert read_list(reply, NAMES) == ((1, 4, 2, 3, 0), OK)


# By hand; what is not named follows in retrieval order.
@pytest.mark.parametrize(
    ("reply", "first"),
    [
        ("['dog']", [1]),
        ("dog", [1]),
        ("cat face", [4]),
        ("['horse', 'dog', 'horses, cats', 'cat']", [1, 0]),
        ("['polar cat', 'cat faces', 'dog']", [1]),
        ("[polar cat, cat faces, dog]", [1]),
        ("['dog', 'dog', 'cat face', 'dog', 'man, wo", [1, 4]),
        ("['dog', 'dog', 'dog', 'cat']", [1, 0]),
        ("[dog, and cat face (unsure), mouse, cat]", [1, 4, 0]),
        ("['man, woman, cat', 'dog']", [1]),
        ("1. dog\n2. pears, cat\n3. cat face", [1, 4]),
        ("1. **dog**: it has floppy ears, like a cat.\n2. cat face - round\n3. man, woman (95 %)", [1, 4, 3]),
        ("cat face: 0.7, dog: 0.2, mouse: 0.1", [4, 1]),
        ("[cat face] > [dog]", [4, 1]),
        ("dog and mouse, cat face", [4]),
        ('{"1": "dog", "2": "cat face"}', [1, 4]),
        ("“dog”、“cat face”", [1, 4]),
        ("The picture shows a dog, cat, however, is unlikely.", [1, 0]),
        ("It is most likely a cat face. I cannot see a dog.", [4, 1]),
        ("I'm sorry, I made a mistake. The right list is ['dog', 'cat'].", [1, 0]),
        ("from ['dog', 'cat'] I make ['cat', 'dog']", [1, 0]),  # as the authors: the first bracket
    ],
)
def test_what_is_missing_follows_in_retrieval_order(reply: str, first: list[int]) -> None:
    assert read_list(reply, NAMES) == ((*first, *(i for i in RETRIEVAL if i not in first)), REPAIRED)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        " \n",
        "[]",
        "['']",
        "['horse', 'polar cat', 'cat faces', 'dogs']",
        "['man, woman, cat', 'horse, cat']",
        "['category A', 'category B']",
        "concatenate the dogma",
        "a polar cat face paint",
        "这是一只猫。",
        "Das ist ein Hund, keine Katze.",
        "C'est un chien.",
        "\ud800 \x00",
    ],
)
def test_a_reply_that_names_no_candidate_is_unreadable(reply: str) -> None:
    """Also without brackets: nothing but this reply decides (the authors' script takes the answer before)."""
    assert read_list("['dog', 'cat']", NAMES)[0][0] == 1
    assert read_list(reply, NAMES) == (RETRIEVAL, UNREADABLE)


@pytest.mark.parametrize(
    "reply",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I cannot tell a dog from a cat.",
        "I am very sorry.",
        "Sorry, no.",
        "I apologize, there is no picture.",
        "As an AI, I do not see pictures.",
        "I am unable to rank these categories.",
        "We cannot rank a dog.",
        "[I'm not able to do this]",
    ],
)
def test_a_reply_that_declines_is_refused(reply: str) -> None:
    assert read_list(reply, NAMES) == (RETRIEVAL, REFUSED)


def test_a_repeated_name_brings_its_next_position() -> None:
    # the authors' neighbours may repeat a class
    names = ("cat", "dog", "cat", "Cat")
    assert read_list("['dog', 'cat', 'Cat', 'cat']", names) == ((1, 0, 3, 2), OK)
    assert read_list("['dog', 'cat']", names) == ((1, 0, 2, 3), REPAIRED)
    assert read_list("dog, cat, cat, cat", ("cat", "dog", "cat")) == ((1, 0, 2), REPAIRED)
    assert read_list("It is a cat. The cat sleeps. A dog is not there.", ("cat", "dog", "cat")) == ((0, 1, 2), REPAIRED)


def test_digits_and_names_that_look_like_lists_are_names() -> None:
    assert read_list("1. 3\n2. 1\n3. 2", ("1", "2", "3")) == ((2, 0, 1), OK)
    assert read_list("[3, 1, 2]", ("1", "2", "3")) == ((2, 0, 1), OK)
    names = ("['a', 'b']", "a", "b", "keycap: 1", "A button (blood type)", "foo [a]")
    assert read_list("1. foo [a]\n2. A button (blood type)\n3. b\n4. keycap: 1\n5. ['a', 'b']\n6. a", names) == (
        (5, 4, 2, 3, 0, 1),
        OK,
    )


def test_a_choice_is_one_name() -> None:
    # constrained decoding gives exact names; a leading space is what tokenizers leave
    assert read_choice("colt's foot", NAMES) == ((2, 0, 1, 3, 4), OK)
    assert read_choice(" cat face\n", NAMES) == ((4, 0, 1, 2, 3), OK)
    assert read_choice("['a', 'b']", ("a", "['a', 'b']")) == ((1, 0), OK)
    assert read_choice("cat", ("dog", "cat", "cat")) == ((1, 0, 2), OK)
    assert read_choice("Dog.", NAMES) == ((1, 0, 2, 3, 4), REPAIRED)
    assert read_choice("horse", NAMES) == (RETRIEVAL, UNREADABLE)
    assert read_choice("", ("cat",)) == ((0,), UNREADABLE)


BRACKETS = ["[", "[]", "['", "[' ] [\" ] ", "['a] [', 'a] [', ", "['cat',", "['cat', x", "("]
MARKS = ["'", "\"'", "\\", "*", "1. ", "1.\n", "- ", " \n", "\u0301\u0323", "\ufdfa"]
WORDS = ["cat ", "cat, ", "cat)", "'cat", "man, ", "i ", "i am so "]


@pytest.mark.parametrize("piece", [*BRACKETS, *MARKS, *WORDS])
def test_huge_replies_take_no_time(piece: str) -> None:
    """100 kB of what makes backtracking and rescanning expensive; combining marks, for which NFKC is quadratic."""
    reply = piece * (100_000 // len(piece))
    start = time.process_time()
    order, _ = read_list(reply, NAMES)
    assert time.process_time() - start < 1  # the slowest takes 0.5 s on one slow core
    assert sorted(order) == list(RETRIEVAL)


pieces = st.sampled_from(
    [*"[](){}'\"`’“,;:>-*.\\\n 1", "cat", "dog", "cat face", "colt's foot", "1. ", "\\u00", "sorry", "a"]
)
soup = st.one_of(st.text(max_size=60), st.lists(pieces, max_size=25).map("".join))
letters = st.one_of(st.characters(), st.sampled_from("abAB'\",[]()>.:-*_ 1ßİſé\u0301"))
names_of_any_kind = st.lists(st.one_of(soup, st.sampled_from(NAMES)), min_size=1, max_size=6)
distinct_names = st.lists(st.text(letters, max_size=8), min_size=1, max_size=6, unique=True)
line_names = st.lists(
    st.text(letters, max_size=8).filter(lambda name: fold(name) and len(name.splitlines()) == 1 and "\n" not in name),
    min_size=1,
    max_size=6,
    unique_by=fold,
)


@given(soup, names_of_any_kind)
def test_the_order_holds_every_position_once(reply: str, names: list[str]) -> None:
    for read in (read_list, read_choice):
        order, status = read(reply, names)
        assert sorted(order) == list(range(len(names)))
        if status in (UNREADABLE, REFUSED):
            assert order == tuple(range(len(names)))


@given(names_of_any_kind, soup)
def test_reading_what_was_read_changes_nothing(names: list[str], reply: str) -> None:
    ranked = [names[i] for i in read_list(reply, names)[0]]
    order, status = read_list(repr(ranked), names)
    assert [names[i] for i in order] == ranked
    assert status is OK


@given(distinct_names, st.data())
def test_python_and_json_lists_of_all_names_are_read_exactly(names: list[str], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(names))))
    ranked = [names[i] for i in order]
    for reply in (repr(ranked), f"The ranking is: {ranked!r}.", json.dumps(ranked), json.dumps(ranked, indent=1)):
        assert read_list(reply, names) == (tuple(order), OK)


@given(line_names, st.data(), st.sampled_from(["{}. ", "{}) ", "- ", "* "]))
def test_marked_lines_of_all_names_are_read_exactly(names: list[str], data: st.DataObject, mark: str) -> None:
    order = data.draw(st.permutations(range(len(names))))
    reply = "\n".join(mark.format(i + 1) + names[spot] for i, spot in enumerate(order))
    assert read_list(reply, names) == (tuple(order), OK)


plain_names = st.lists(
    st.from_regex(r"[abcdé]([abcdé' ,]{0,4}[abcdé])?", fullmatch=True), min_size=2, max_size=6, unique_by=fold
)


@given(plain_names, st.data())
def test_foreign_names_and_left_out_names_move_no_other(names: list[str], data: st.DataObject) -> None:
    kept = data.draw(st.permutations(range(len(names))))[: data.draw(st.integers(1, len(names) - 1))]
    expected = (*kept, *(i for i in range(len(names)) if i not in kept))
    listed = [names[i] for i in kept]
    for foreign in data.draw(st.lists(st.text("abcdé' ,x", min_size=1, max_size=9), max_size=3)):
        if fold(foreign).strip(" ,'") not in [*map(fold, names), ""]:
            listed.insert(data.draw(st.integers(0, len(listed))), foreign)
    lines = "\n".join(f"{i + 1}. {name}" for i, name in enumerate(listed))
    for reply in (repr(listed), lines, f"Sure: {listed!r}"):
        assert read_list(reply, names) == (expected, REPAIRED)


@given(st.lists(st.sampled_from(["cat", "dog", "cat face"]), min_size=1, max_size=7), st.data())
def test_repeated_names_are_each_listed_once(names: list[str], data: st.DataObject) -> None:
    listed = data.draw(st.permutations(names))
    left = {name: [i for i, other in enumerate(names) if other == name] for name in names}
    assert read_list(", ".join(listed), names) == (tuple(left[name].pop(0) for name in listed), OK)


def test_fold_unites_what_no_name_should_depend_on() -> None:
    # Unicode 15: full case folding of ß and ẞ is ss, NFKC of ｄ is d and of ﬁ is fi; é composed and decomposed
    assert fold("  Straße\u00a0_ﬁＮ\n") == fold("STRASSE fin") == "strasse fin"
    assert fold("Cafe\u0301 \u2018x\u2019 a\u2013b c\u200bd") == "café 'x' a-b cd"


@given(st.text(max_size=20))
def test_fold_is_idempotent(text: str) -> None:
    assert fold(fold(text)) == fold(text)
