"""A choice is made where what was written begins only one of the texts: the rest of it needs no decoding."""

from __future__ import annotations

from collections.abc import Sequence


def decisive(choices: Sequence[str]) -> list[str]:
    """Beginnings of the choices at which decoding may stop: whoever spells one of them has chosen.

    The shortest beginning of each choice that occurs nowhere in another one, since a decoder looks for it everywhere in
    what it wrote. A choice that is a part of another one ("cat" of "cat face") has none; it is spelled to its end.
    """
    found = []
    for choice in choices:
        others = [other for other in choices if other != choice]
        begins = (choice[:end] for end in range(1, len(choice) + 1))
        found += [next((text for text in begins if not any(text in other for other in others)), "")]
    return [text for text in dict.fromkeys(found) if text]


def completed(text: str, choices: Sequence[str]) -> str:
    """The choice that `text` is the beginning of; `text` itself where that is none or several of them."""
    if text in choices:
        return text
    fitting = {choice for choice in choices if choice.startswith(text)}
    return fitting.pop() if len(fitting) == 1 else text
