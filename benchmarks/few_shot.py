"""Few-shot support sets: so many labelled pictures a class, drawn from a pair set by a stated rule.

A rule puts the pairs of each class in an order, and the first N that can be kept are drawn: what is left out of a
memory (a near-duplicate of a test picture, an unreadable file) is replaced by the next of its class.

random    ours: by a hash of seed, class and pair id. Independent of other classes and of the order of the list, and
          nested: the pictures of N = 1 are among those of N = 2.
first     the first N of a class in the order of the list, whatever the seed, as RAR does (Liuziyu77/RAR,
          Few_shot/build_memory.ipynb).
coop      what `DatasetBase.generate_fewshot_dataset` of KaiyangZhou/Dassl.pytorch draws after `set_random_seed(seed)`,
          as KaiyangZhou/CoOp calls it: one `random.sample` a class, classes in the order of their first picture. A
          class with fewer than N pictures gives all of them and uses no random number (repeat=False, Dassl's default
          since e3a15da of 2021-10-09). CoOp's seeds are 1, 2, 3: its `--seed 0` seeds nothing.
elevater  the pictures of `DatasetManifest.sample_few_shot_subset(N, seed)` of vision-datasets, which
          Computer-Vision-in-the-Wild/Elevater_Toolkit_IC calls (N = 5, 20, 50, seeds 0, 1, 2): the whole list shuffled
          by `random.Random(seed)`, then the first N of a class. For sets with one label a picture.

A class is a pair's label, or what the set's own `draw_by` ({pair id: class}) says: pictures to discover classes from
are so many of each class, and labelled with guesses.

The last three depend on the order of the list, so they give the published pictures only on the published list.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from trireme.errors import DataError, UsageError, unknown_name
from trireme.files import fingerprint
from trireme.types import Pair, PairSet

_VERSION = 1
"""Raise it when the same arguments draw other pairs."""

_NAMED = 20  # classes with too few pictures are all counted, and this many named

Orders = Mapping[str, Sequence[int]]
"""{class: positions of its pairs in the list, those to draw first in front}."""


def _first(groups: Orders, pairs: Sequence[Pair], shots: int, seed: int) -> Orders:
    return groups


def _random(groups: Orders, pairs: Sequence[Pair], shots: int, seed: int) -> Orders:
    def place(position: int) -> bytes:
        pair = pairs[position]
        return hashlib.sha256(json.dumps([seed, pair.label, pair.id]).encode()).digest()

    return {label: sorted(positions, key=place) for label, positions in groups.items()}


def _coop(groups: Orders, pairs: Sequence[Pair], shots: int, seed: int) -> Orders:
    generator = random.Random(seed)
    orders: dict[str, Sequence[int]] = {}
    for label, positions in groups.items():
        drawn = generator.sample(positions, shots) if len(positions) >= shots else []
        left = set(positions).difference(drawn)
        orders[label] = [*drawn, *(position for position in positions if position in left)]
    return orders


def _elevater(groups: Orders, pairs: Sequence[Pair], shots: int, seed: int) -> Orders:
    shuffled = list(range(len(pairs)))
    random.Random(seed).shuffle(shuffled)
    return _by_label(pairs, shuffled)


RULES: Mapping[str, Callable[[Orders, Sequence[Pair], int, int], Orders]] = {
    "random": _random,
    "first": _first,
    "coop": _coop,
    "elevater": _elevater,
}
_UNSEEDED = ("first",)


def _by_label(pairs: Sequence[Pair], positions: Sequence[int]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for position in positions:
        groups.setdefault(pairs[position].label, []).append(position)
    return groups


@dataclass(frozen=True)
class FewShot:
    """N pairs a class of another pair set, in the order of that set.

    Attributes:
        base: the set that is drawn from; every pair has a label.
        shots: N, from 1.
        rule: a name of `RULES`.
        seed: of the draw; "first" does without, and so does a draw of all there are.

    Raises:
        UsageError: N below 1, or an unknown rule.
    """

    base: PairSet
    shots: int
    rule: str = "random"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.shots < 1:
            raise UsageError(f"{self.name} draws no picture; the number of pictures a class is from 1")
        if self.rule not in RULES:
            raise unknown_name("rule of drawing", self.rule, RULES)

    @property
    def name(self) -> str:
        return f"{self.base.name}@{self.shots}"

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the base's fingerprint, the rule and N, and of the seed where it can change what is drawn."""
        return fingerprint([_VERSION, self.base.fingerprint, self.rule, self.shots, self._effective_seed])

    @cached_property
    def _effective_seed(self) -> int | None:
        """None where the rule uses no seed, and where no class has more than N pairs: there all are drawn."""
        largest = max(Counter(pair.label for pair in self._classed).values(), default=0)
        return None if self.rule in _UNSEEDED or largest <= self.shots else self.seed

    @cached_property
    def _classed(self) -> Sequence[Pair]:
        """The pairs of the base, each labelled with the class by which it is drawn."""
        classes: Mapping[str, str] | None = getattr(self.base, "draw_by", None)
        pairs = self.base.pairs()
        return pairs if classes is None else [replace(pair, label=classes[pair.id]) for pair in pairs]

    def pairs(self) -> Sequence[Pair]:
        """What is drawn where every pair can be kept."""
        return self.draw(lambda pairs: [True] * len(pairs))

    def draw(self, stay: Callable[[Sequence[Pair]], Sequence[bool]]) -> list[Pair]:
        """The first N of each class that stay.

        Args:
            stay: tells of pairs which of them can be kept; asked once about a pair, and about few that are not needed.

        Raises:
            DataError: a pair has no label.
        """
        pairs, classed = self.base.pairs(), self._classed
        orders = RULES[self.rule](self._groups(classed), classed, self.shots, self.seed)
        taken: dict[str, list[int]] = {label: [] for label in orders}
        seen = dict.fromkeys(orders, 0)
        ahead = 1  # twice as many in each round, so that a class of near-duplicates alone takes few rounds
        while True:
            asked: list[int] = []
            for label, order in orders.items():
                count = ahead * (self.shots - len(taken[label]))
                asked += order[seen[label] : seen[label] + count]
                seen[label] += count
            if not asked:
                return [pairs[position] for position in sorted(p for rows in taken.values() for p in rows)]
            for position, stays in zip(asked, stay([pairs[position] for position in asked]), strict=True):
                rows = taken[classed[position].label]
                if stays and len(rows) < self.shots:
                    rows.append(position)
            ahead *= 2

    def facts(self, drawn: Sequence[Pair]) -> dict[str, Any]:
        """What a record says about a draw.

        Returns:
            {"shots": N, "rule", "seed": null where it has no effect, "classes": of the base, "short": how many of them
            have fewer than N pairs drawn, "short_classes": {class: pairs drawn} of the first of those}.
        """
        class_of = {pair.id: pair.label for pair in self._classed}
        counts = Counter(class_of[pair.id] for pair in drawn)
        labels = list(dict.fromkeys(class_of.values()))
        short = {label: counts[label] for label in labels if counts[label] < self.shots}
        return {
            "shots": self.shots,
            "rule": self.rule,
            "seed": self._effective_seed,
            "classes": len(labels),
            "short": len(short),
            "short_classes": dict(list(short.items())[:_NAMED]),
        }

    def _groups(self, pairs: Sequence[Pair]) -> Orders:
        """Positions by class, classes in the order of their first pair."""
        unknown = [pair.id for pair in pairs if not pair.label]
        if unknown:
            raise DataError(
                f"{len(unknown)} of {len(pairs)} pairs of {self.base.name} have no label (first: {unknown[0]}), and "
                f"{self.name} draws by class; label them, or use all pairs: leave @{self.shots} out"
            )
        return _by_label(pairs, range(len(pairs)))


def draw_warnings(name: str, manifest: Mapping[str, Any]) -> list[str]:
    """What to tell about the draw of a memory `name`, from its manifest: too few pictures, replaced pictures."""
    drawn = manifest.get("drawn")
    if not drawn:
        return []
    lines = []
    if drawn["short"]:
        label, pairs = next(iter(drawn["short_classes"].items()))
        lines.append(
            f"warning: memory {name}: {drawn['short']} of {drawn['classes']} classes have fewer than {drawn['shots']} "
            f"pictures that can be drawn (first: {label} with {pairs})"
        )
    gone = manifest["counts"]["near_duplicates"] + manifest["counts"]["unreadable"]
    if gone and drawn["rule"] != "random":
        lines.append(
            f"warning: memory {name}: {gone} pictures that draw={drawn['rule']} came upon are near-duplicates of test "
            "pictures or unreadable, and the next of their class were taken; memory.threshold=1 keeps all but copies"
        )
    return lines
