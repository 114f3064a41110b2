"""A ranker without a model: it compares the picture with each name by the mock encoder, and says so in words."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from trireme.conformance.mock_encoder import MockEncoder
from trireme.errors import DataError
from trireme.files import fingerprint
from trireme.methods.rankers.base import Generated, Prompt, Scored
from trireme.retrieval.encoders.base import load_image
from trireme.retrieval.pictures import region_of
from trireme.types import ImageRef

_LIST = re.compile(r"categories:(\[.*?\])\.", re.DOTALL)
_LETTER = re.compile(r"^([A-Z])\. (.*)$", re.MULTILINE)


@dataclass
class MockRankerConfig:
    """Options of the mock ranker.

    Attributes:
        sharpness: factor on cosines before they are made into probabilities.
    """

    sharpness: float = 10.0


class MockRanker:
    """An `Engine` for checks. It sees the picture: what it puts first is most often right."""

    Config: ClassVar[type[MockRankerConfig]] = MockRankerConfig
    version: ClassVar[int] = 1
    name = "mock"
    told = "none"
    pictures: Sequence[Mapping[str, Any]] = ()

    def __init__(self, config: MockRankerConfig | None = None) -> None:
        self.config = config or MockRankerConfig()
        self._encoder = MockEncoder()
        self.fingerprint = fingerprint(["mock ranker", self.version, self.config.sharpness, self._encoder.fingerprint])

    def generate(self, prompts: Sequence[Prompt], max_tokens: int) -> list[Generated]:
        """The candidates of a list prompt, best first; to a prompt without them it knows no answer."""
        return [self._written(prompt) for prompt in prompts]

    def _written(self, prompt: Prompt) -> Generated:
        found = _LIST.search(prompt.texts[-1])
        if found is None:
            return Generated("I do not know.", len(prompt.texts[-1].split()), 4)
        names: list[str] = ast.literal_eval(found[1])
        values = self._values(prompt, names)
        if isinstance(values, str):
            return Generated("", failed=values, permanent=True)
        order = sorted(range(len(names)), key=lambda place: -values[place])
        return Generated(repr([names[place] for place in order]), len(prompt.texts[-1].split()), len(names))

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[Sequence[str]]) -> list[Generated]:
        """The choice nearest to the picture."""
        found = []
        for prompt, names in zip(prompts, choices, strict=True):
            values = self._values(prompt, names)
            failed = isinstance(values, str)
            found.append(
                Generated("", failed=values, permanent=True) if failed else Generated(names[_best(values)], 1, 1)
            )
        return found

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[Scored]:
        """Logarithms of probabilities over the continuations."""
        return [self._scored(prompt, texts, texts) for prompt, texts in zip(prompts, continuations, strict=True)]

    def next_token(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[Scored]:
        """The same over the names that the prompt gives the letters."""
        found = []
        for prompt, letters in zip(prompts, options, strict=True):
            named = dict(_LETTER.findall(prompt.texts[-1]))
            found.append(self._scored(prompt, letters, [named.get(letter, "") for letter in letters]))
        return found

    def _scored(self, prompt: Prompt, options: Sequence[str], names: Sequence[str]) -> Scored:
        values = self._values(prompt, names)
        if isinstance(values, str):
            return Scored((), (), failed=values, permanent=True)
        total = float(np.log(np.sum(np.exp(values))))
        return Scored(
            tuple(float(value) - total for value in values), tuple(len(o.split()) or 1 for o in options), 1, 1
        )

    def _values(self, prompt: Prompt, names: Sequence[str]) -> Any:
        """(c,) sharpened cosines of the picture asked about, 0 of a blank one; or why it cannot be read."""
        image = prompt.images[-1]
        if image is None or not names:
            return np.zeros(len(names))
        try:
            picture = self._seen(image)
        except DataError as error:
            return str(error)
        cleaned = [re.sub(r"[\[\]'\",.]", " ", name) for name in names]
        return self.config.sharpness * (self._encoder.encode_texts(cleaned).astype(np.float64) @ picture)

    def _seen(self, ref: ImageRef) -> Any:
        picture = load_image(ref.path)
        shown = picture if ref.region is None else region_of(picture, ref.region)
        return self._encoder.encode_pixels(self._encoder.preprocess(shown)[None])[0].astype(np.float64)


def _best(values: Any) -> int:
    return int(np.argmax(values))
