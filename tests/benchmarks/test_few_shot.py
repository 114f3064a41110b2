"""Drawing support sets: every rule against a few independent lines that do what its source does."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trireme.benchmarks.base import RowPairs
from trireme.benchmarks.few_shot import RULES, FewShot, draw_warnings
from trireme.errors import DataError, UsageError
from trireme.types import DrawnPairs, ImageRef, Pair, PairSet


def listed(labels: Sequence[str], name: str = "listed") -> RowPairs:
    """A pair for each label, in that order; ids count within a class, so other classes do not change them."""
    seen: Counter[str] = Counter()
    rows = []
    for label in labels:
        rows.append(Pair(f"{label}/{seen[label]}", ImageRef(f"/{label}/{seen[label]}", "0" * 64), "x", label))
        seen[label] += 1
    return RowPairs(name, tuple(rows))


def ids(pairs: Sequence[Pair]) -> list[str]:
    return [pair.id for pair in pairs]


def by_label(pairs: Sequence[Pair]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        found[pair.label].append(pair.id)
    return dict(found)


LISTS = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=60).map(listed)
SHOTS = st.integers(1, 6)
SEEDS = st.integers(0, 2**40)
ANY_RULE = st.sampled_from(sorted(RULES))


def test_a_draw_is_a_pair_set_that_can_be_asked_for_replacements() -> None:
    drawn = FewShot(listed("aab"), 1)
    assert isinstance(drawn, PairSet)
    assert isinstance(drawn, DrawnPairs)
    assert not isinstance(listed("aab"), DrawnPairs)
    assert drawn.name == "listed@1"


@given(LISTS, SHOTS, SEEDS, ANY_RULE)
def test_counts_order_and_that_nothing_comes_twice(base: RowPairs, shots: int, seed: int, rule: str) -> None:
    drawn = FewShot(base, shots, rule, seed)
    found = ids(drawn.pairs())
    assert found == [one for one in ids(base.rows) if one in set(found)]  # each once, in the order of the list
    available, counts = Counter(p.label for p in base.rows), Counter(p.label for p in drawn.pairs())
    for label, there in available.items():
        assert counts[label] == min(shots, there)
    facts = drawn.facts(drawn.pairs())
    short = {label: counts[label] for label in available if counts[label] < shots}
    assert (facts["shots"], facts["rule"], facts["classes"]) == (shots, rule, len(available))
    assert (facts["short"], facts["short_classes"]) == (len(short), short)
    assert facts["seed"] == (None if rule == "first" or max(available.values()) <= shots else seed)


@given(LISTS, SHOTS, SEEDS)
def test_random_takes_the_smallest_hashes_of_a_class(base: RowPairs, shots: int, seed: int) -> None:
    """Reference: the definition, one pair at a time."""

    def place(pair: Pair) -> str:
        return hashlib.sha256(json.dumps([seed, pair.label, pair.id]).encode()).hexdigest()

    expected = {
        pair.id
        for pair in base.rows
        if sum(place(other) < place(pair) for other in base.rows if other.label == pair.label) < shots
    }
    assert set(ids(FewShot(base, shots, "random", seed).pairs())) == expected


@given(LISTS, st.integers(1, 5), SEEDS)
def test_random_draws_are_nested(base: RowPairs, shots: int, seed: int) -> None:
    fewer, more = (FewShot(base, n, "random", seed).pairs() for n in (shots, shots + 1))
    assert set(ids(fewer)) <= set(ids(more))


@given(LISTS, SHOTS, SEEDS, st.randoms(use_true_random=False))
def test_random_draws_of_a_class_know_nothing_else(
    base: RowPairs, shots: int, seed: int, generator: random.Random
) -> None:
    """Other classes, and the order of the list, do not matter."""
    rows = [*base.rows, *listed("zzz").rows]
    generator.shuffle(rows)
    mixed = by_label(FewShot(RowPairs("mixed", tuple(rows)), shots, "random", seed).pairs())
    alone = by_label(FewShot(base, shots, "random", seed).pairs())
    assert {label: set(mixed[label]) for label in alone} == {label: set(found) for label, found in alone.items()}


def test_random_draws_are_fair_and_differ_by_seed() -> None:
    """Of 3,000 seeds, each of 4 pictures is the drawn one in 750; a binomial is within 5 deviations (119) of that."""
    base = listed("aaaa")
    counts = Counter(FewShot(base, 1, "random", seed).pairs()[0].id for seed in range(3000))
    assert len(counts) == 4
    assert all(abs(count - 750) < 119 for count in counts.values())


@given(LISTS, SHOTS, SEEDS)
def test_first_is_the_head_of_each_class(base: RowPairs, shots: int, seed: int) -> None:
    expected = [one for label in {p.label for p in base.rows} for one in by_label(base.rows)[label][:shots]]
    assert set(ids(FewShot(base, shots, "first", seed).pairs())) == set(expected)


@given(LISTS, SHOTS, SEEDS)
def test_coop_draws_what_dassl_draws(base: RowPairs, shots: int, seed: int) -> None:
    """Reference: the calls of Dassl's `generate_fewshot_dataset` on the global generator that CoOp's train.py seeds."""
    tracker: dict[str, list[Pair]] = defaultdict(list)
    for item in base.rows:
        tracker[item.label].append(item)
    state = random.getstate()
    try:
        random.seed(seed)
        drawn: list[Pair] = []
        for items in tracker.values():
            drawn += random.sample(items, shots) if len(items) >= shots else items
    finally:
        random.setstate(state)
    assert set(ids(FewShot(base, shots, "coop", seed).pairs())) == set(ids(drawn))


@given(LISTS, SHOTS, SEEDS)
def test_elevater_draws_what_vision_datasets_draws(base: RowPairs, shots: int, seed: int) -> None:
    """Reference: `DatasetManifest.sample_few_shot_subset` for pictures with one label each."""
    images = list(base.rows)
    random.Random(seed).shuffle(images)
    counts: Counter[str] = Counter()
    sampled = []
    for image in images:
        if counts[image.label] < shots:
            sampled.append(image)
            counts[image.label] += 1
    assert set(ids(FewShot(base, shots, "elevater", seed).pairs())) == set(ids(sampled))


@given(LISTS, SHOTS, SEEDS, ANY_RULE, st.sets(st.integers(0, 59)))
def test_what_cannot_stay_is_replaced_by_the_next_of_its_class(
    base: RowPairs, shots: int, seed: int, rule: str, gone: set[int]
) -> None:
    out = {pair.id for position, pair in enumerate(base.rows) if position in gone}
    asked: list[str] = []

    def stay(pairs: Sequence[Pair]) -> list[bool]:
        asked.extend(ids(pairs))
        return [pair.id not in out for pair in pairs]

    drawn = FewShot(base, shots, rule, seed)
    before, after = by_label(drawn.pairs()), by_label(drawn.draw(stay))
    assert len(set(asked)) == len(asked)
    for label, all_ids in by_label(base.rows).items():
        staying = [one for one in all_ids if one not in out]
        found = after.get(label, [])
        assert set(found).isdisjoint(out)
        assert set(before[label]) - out <= set(found)  # nothing that was drawn and stays is given up
        assert len(found) == min(shots, len(staying))
    if rule in ("random", "first"):  # there: as if what is left out had never been in the list
        rest = RowPairs("rest", tuple(pair for pair in base.rows if pair.id not in out))
        assert ids(drawn.draw(stay)) == (ids(replace(drawn, base=rest).pairs()) if rest.rows else [])


def test_few_rounds_and_few_pairs_are_asked() -> None:
    """1,000 pictures of one class, of which the first 500 are left out: rounds double, so 9 of them reach 511."""
    base, rounds = listed("a" * 1000), []

    def stay(pairs: Sequence[Pair]) -> list[bool]:
        rounds.append(len(pairs))
        return [int(pair.id.split("/")[1]) >= 500 for pair in pairs]

    assert ids(FewShot(base, 1, "first").draw(stay)) == ["a/500"]
    assert rounds == [1, 2, 4, 8, 16, 32, 64, 128, 256]


def test_the_fingerprint_changes_with_what_can_change_the_draw_only() -> None:
    base = listed("aabb")
    one = FewShot(base, 1, "random", 0)
    same = FewShot(listed("aabb", name="of another name"), 1, "random", 0)
    others = [
        FewShot(listed("aabbb"), 1, "random", 0),
        FewShot(base, 2, "random", 0),
        FewShot(base, 1, "coop", 0),
        FewShot(base, 1, "random", 1),
    ]
    assert same.fingerprint == one.fingerprint
    assert len({one.fingerprint, base.fingerprint, *(other.fingerprint for other in others)}) == 6
    for unseeded in (FewShot(base, 1, "first", 0), FewShot(base, 2, "coop", 0)):  # all pairs are drawn, in their order
        other = replace(unseeded, seed=7)
        assert (other.fingerprint, other.pairs()) == (unseeded.fingerprint, unseeded.pairs())


def test_pairs_without_a_label_are_refused() -> None:
    base = RowPairs("crawl", (*listed("ab").rows, Pair("x", ImageRef("/x"), "a picture")))
    with pytest.raises(DataError, match=r"1 of 3 pairs of crawl have no label \(first: x\), and crawl@2 draws"):
        FewShot(base, 2).pairs()


def test_a_wrong_draw_is_refused_when_it_is_made() -> None:
    with pytest.raises(UsageError, match="listed@0 draws no picture"):
        FewShot(listed("a"), 0)
    with pytest.raises(UsageError, match="unknown rule of drawing 'cop'; did you mean 'coop'"):
        FewShot(listed("a"), 1, "cop")


def test_what_is_told_about_a_draw() -> None:
    """Nothing where all is as asked; a published rule that could not draw its own pictures says so."""

    def lines(rule: str, shots: int, near_duplicates: int) -> list[str]:
        drawn = FewShot(listed("aaab"), shots, rule)
        counts = {"near_duplicates": near_duplicates, "unreadable": 0}
        return draw_warnings("mine", {"counts": counts, "drawn": drawn.facts(drawn.pairs())})

    assert draw_warnings("mine", {"counts": {"near_duplicates": 3, "unreadable": 1}}) == []
    assert lines("random", 1, near_duplicates=2) == lines("coop", 1, near_duplicates=0) == []
    [short] = lines("random", 3, near_duplicates=2)
    assert "mine: 1 of 2 classes have fewer than 3 pictures that can be drawn (first: b with 1)" in short
    [replaced] = lines("coop", 1, near_duplicates=2)
    assert "mine: 2 pictures that draw=coop came upon are near-duplicates of test pictures" in replaced
