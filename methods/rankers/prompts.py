"""What a ranker is asked, word by word. In every prompt the picture comes first, as LLaVA was trained."""

from __future__ import annotations

from types import MappingProxyType

from trireme.errors import UsageError, unknown_name
from trireme.methods.rankers.base import Prompt, Question

_ROLE = "Please play the role of a classification expert, and sort the provided "
_SORT = " from high to low according to the top {n} similarity with the input image. "
_OPTIONS = "Here are the optional categories:{names}."
_FORMAT = (
    " Your answer should follow the following format, like:{shape}. Only choose {count}, and no further information."
)

WORDINGS = MappingProxyType(
    {
        "paper": _ROLE + "categories" + _SORT + _OPTIONS,
        "in-context": _ROLE + "categories" + _SORT + _OPTIONS + _FORMAT,
        "code": _ROLE + "{n} categories" + _SORT + _OPTIONS,
        "name": "Name what the picture shows.",
    }
)
"""The texts of `list_prompt`.

paper: RAR, appendix B, its "top-k" filled in as "top N". in-context: RAR's prompt for models that were not fine-tuned.
It is written for five categories; with another number of candidates its "five categories" and the five of its example
become as many. code: the authors' script, which also says how many categories there are. name: ours; it lists no
candidates, so that each can be scored as a free answer.
Names are written as Python writes a list of strings, as the authors' script does.
"""

NAMELESS = "name"
"""The wording that lists no candidates."""

CHOICE = "Which of these does the picture show: {names}?"
"""Short, and without a word on the answer's form: nothing but one of the names can be decoded."""

LETTERS = "Which of these categories does the picture show?\n{lines}\nAnswer with one letter."

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def list_prompt(question: Question, wording: str) -> Prompt:
    """The prompt of a ranked list, in one of `WORDINGS`; N is the number of candidates, repeated names included."""
    if wording not in WORDINGS:
        raise unknown_name("wording", wording, WORDINGS)
    n = len(question.candidates)
    shape = [f"category {_label(i)}" for i in range(n)]
    count = f"{_NUMBERS[n] if n < len(_NUMBERS) else n} {'category' if n == 1 else 'categories'}"
    return _prompt(question, WORDINGS[wording].format(n=n, names=list(question.candidates), shape=shape, count=count))


def choice_prompt(question: Question) -> Prompt:
    """The prompt of an answer that is one of the candidate names."""
    names = "; ".join(map(_one_line, question.candidates))  # a name may hold a comma
    return _prompt(question, CHOICE.format(names=names))


def letters_prompt(question: Question) -> tuple[Prompt, tuple[str, ...]]:
    """The prompt of an answer in one letter, and the letters: A is the first candidate in retrieval order.

    Raises:
        UsageError: there are more candidates than letters.
    """
    n = len(question.candidates)
    if n > len(_ALPHABET):
        raise UsageError(f"the mode 'letters' takes at most {len(_ALPHABET)} candidates, not {n}; ask for fewer")
    letters = tuple(_ALPHABET[:n])
    lines = (f"{letter}. {_one_line(name)}" for letter, name in zip(letters, question.candidates, strict=True))
    return _prompt(question, LETTERS.format(lines="\n".join(lines))), letters


def continuation(name: str, wording: str) -> str:
    """The beginning of an answer to `list_prompt` by which the candidate is the first of the list.

    Its log-probability is the score of the candidate. Where candidates are listed it is the bracket, the name as Python
    quotes it ("colt's foot" gets double quotes, as in the prompt) and the comma, which tokenisers join to the quote;
    otherwise the name as a sentence. What ends the name is scored too, so that "cat" is not favoured over "cat face".
    """
    if wording not in WORDINGS:
        raise unknown_name("wording", wording, WORDINGS)
    return f"{name}." if wording == NAMELESS else f"[{name!r},"


def _prompt(question: Question, text: str) -> Prompt:
    """The examples, each as its picture and its name, then the picture and the text."""
    images = (*(example.image for example in question.examples), question.image)
    names = (f"{_one_line(example.name)}\n" for example in question.examples)
    return Prompt(images, ("", *names, text))


def _one_line(name: str) -> str:
    return " ".join(name.split())


def _label(i: int) -> str:
    """A, B, ... Z, AA, AB, ... as columns of a spreadsheet are named."""
    return (_label(i // 26 - 1) if i >= 26 else "") + _ALPHABET[i % 26]
