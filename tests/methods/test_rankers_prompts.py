"""The wording of prompts against the papers' texts."""

from __future__ import annotations

import ast
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trireme.errors import UsageError
from trireme.methods.rankers.base import Example, Question
from trireme.methods.rankers.parse import read_list
from trireme.methods.rankers.prompts import WORDINGS, choice_prompt, continuation, letters_prompt, list_prompt
from trireme.types import ImageRef

FIVE = ("cat", "colt's foot", "family: man, woman", "dog", "{brace}")
FIVE_AS_PYTHON = "['cat', \"colt's foot\", 'family: man, woman', 'dog', '{brace}']"
PICTURE = ImageRef("query.png")


def text(wording: str, candidates: tuple[str, ...] = FIVE) -> str:
    prompt = list_prompt(Question(PICTURE, candidates), wording)
    assert prompt.images == (PICTURE,)
    assert prompt.texts[0] == ""  # the picture comes first
    assert prompt.answer == ""
    return prompt.texts[1]


def test_paper_wording_is_that_of_rars_appendix_b() -> None:
    assert text("paper") == (
        "Please play the role of a classification expert, and sort the provided categories from high to low according "
        "to the top 5 similarity with the input image. Here are the optional categories:" + FIVE_AS_PYTHON + "."
    )


def test_in_context_wording_is_rars_for_models_without_fine_tuning() -> None:
    assert text("in-context") == (
        "Please play the role of a classification expert, and sort the provided categories from high to low according "
        "to the top 5 similarity with the input image. Here are the optional categories:" + FIVE_AS_PYTHON + ". "
        "Your answer should follow the following format, like:['category A', 'category B', 'category C', 'category D', "
        "'category E']. Only choose five categories, and no further information."
    )


def test_code_wording_is_that_of_the_authors_script() -> None:
    # retrieve_and_rerank.py: "sort the provided {top_k} categories ... according to the top {top_k} similarity"
    assert text("code") == (
        "Please play the role of a classification expert, and sort the provided 5 categories from high to low "
        "according to the top 5 similarity with the input image. Here are the optional categories:"
        + FIVE_AS_PYTHON
        + "."
    )


def test_another_number_of_candidates_changes_every_five() -> None:
    assert "top 2 " in text("paper", ("a", "b"))
    assert text("in-context", ("a", "b")).endswith(
        "top 2 similarity with the input image. Here are the optional categories:['a', 'b']. Your answer should follow "
        "the following format, like:['category A', 'category B']. Only choose two categories, and no further "
        "information."
    )
    assert "Only choose one category," in text("in-context", ("a",))
    many = text("in-context", tuple(f"c{i}" for i in range(28)))
    assert many.endswith(
        "'category Z', 'category AA', 'category AB']. Only choose 28 categories, and no further information."
    )


def test_name_wording_shows_no_candidate() -> None:
    assert not any(name in text("name", ("colt's foot", "marsh marigold")) for name in ("colt", "marigold"))


def test_repeated_candidates_stay_repeated() -> None:
    """The paper's neighbours repeat classes; the authors' script passes them on as they are."""
    assert "['cat', 'cat', 'dog']" in text("code", ("cat", "cat", "dog"))


def test_unknown_wording_is_an_error_with_a_hint() -> None:
    with pytest.raises(UsageError, match="did you mean 'paper'"):
        list_prompt(Question(PICTURE, FIVE), "papr")
    with pytest.raises(UsageError, match="wording"):
        continuation("cat", "papr")


def test_examples_stand_before_the_question_as_picture_and_name() -> None:
    first, second = ImageRef("1.png"), ImageRef("2.png")
    question = Question(PICTURE, FIVE, (Example(first, "cat"), Example(second, "two\nlines")))
    for prompt in (list_prompt(question, "paper"), choice_prompt(question), letters_prompt(question)[0]):
        assert prompt.images == (first, second, PICTURE)
        assert prompt.texts[:3] == ("", "cat\n", "two lines\n")
        assert len(prompt.texts) == 4
    assert list_prompt(question, "paper").texts[3] == text("paper")


def test_letters_are_the_retrieval_order() -> None:
    prompt, letters = letters_prompt(Question(PICTURE, ("zebra", "ant,\nred")))
    assert letters == ("A", "B")
    assert "\nA. zebra\nB. ant, red\n" in prompt.texts[1]
    assert letters_prompt(Question(PICTURE, tuple(string.digits + string.ascii_lowercase[:16])))[1][-1] == "Z"
    with pytest.raises(UsageError, match="at most 26 candidates, not 27"):
        letters_prompt(Question(PICTURE, ("x",) * 27))


def test_choice_lists_the_names() -> None:
    asked = choice_prompt(Question(PICTURE, FIVE)).texts[1]
    assert asked == "Which of these does the picture show: cat; colt's foot; family: man, woman; dog; {brace}?"


@given(st.lists(st.text(), min_size=1, max_size=6))
def test_a_list_that_begins_by_the_continuation_begins_by_that_name(names: list[str]) -> None:
    for wording in WORDINGS:
        begun = continuation(names[0], wording)
        if wording == "name":
            assert begun == f"{names[0]}."
        else:
            assert ast.literal_eval(begun + "]") == names[:1]
            assert repr([*names, "another"]).startswith(begun)
            assert names[read_list(begun, names)[0][0]] == names[0]
