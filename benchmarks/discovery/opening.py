"""`discovery/NAME` from a published set or from the world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trireme.benchmarks import datasets, world
from trireme.benchmarks.base import RowBenchmark
from trireme.benchmarks.discovery.benchmark import CACC, DiscoveryBenchmark, DiscoveryPairs
from trireme.benchmarks.discovery.sentences import MINILM, Sentences
from trireme.benchmarks.discovery.vocabulary import distinct, read_guesses, read_names, tidy
from trireme.benchmarks.world.emoji import GROUPS
from trireme.errors import DataError, UsageError, unknown_name
from trireme.types import Benchmark, Pair, PairSet, Role, Sample

PREFIX = "discovery/"
WORLD = "discovery/world"
_GROUP = "animals"


def open_benchmark(name: str, names: str = "", sentences: str = MINILM, group: str = _GROUP) -> Benchmark:
    """The test pictures of a set, to be named out of a vocabulary.

    Args:
        names: the file of the vocabulary (`vocabulary.read_names`). The world has one of its own: what the captions of
            its memory call their pictures, those of all groups.
        sentences: what sACC compares names by: "minilm", or the folder of a sentence-transformers checkpoint.
        group: of the world, which Unicode group.

    Raises:
        DataError: the set or a file is not here, or damaged. UsageError: no vocabulary, or an unknown group.
    """
    based = _base(name, group)
    if names:
        vocabulary = read_names(Path(names).expanduser())
    elif name == WORLD:
        vocabulary = distinct(_said(pair) for pair in world.open_pairs("world/memory").pairs())
    else:
        raise UsageError(
            f"'{name}' needs the names that may be answered: add benchmark.names=FILE, a name a line or the JSON list "
            "of guesses that FineR publishes"
        )
    rows = based.samples()
    encoder = Sentences(sentences)
    return DiscoveryBenchmark(
        name=name,
        version=f"1 of {based.version}",
        class_ids=vocabulary,
        class_names=vocabulary,
        class_groups=("",) * len(vocabulary),
        subsets={"all": None},
        templates=based.templates,
        rows={Role.TEST: tuple(Sample(one.id, one.image) for one in rows)},
        metrics=(CACC, f"sacc({encoder.name})"),
        truths={one.id: one.label for one in rows},
        true_names=based.class_names,
        sentences=encoder,
    )


def open_pairs(name: str, guesses: str = "", top: int = 1, group: str = _GROUP) -> PairSet:
    """The training pictures of a set, labelled with guessed names; pictures without a guess are left out.

    Args:
        guesses: the file of guesses (`vocabulary.read_guesses`), by the ids of the set's training pictures. In the
            world a picture's guess is what its caption calls it.
        top: how many of a picture's names are taken, each as a pair of its own.
        group: of the world, which Unicode group.

    Raises:
        DataError: the set or the file is not here, or damaged; a guess for a picture that is none of the set's.
        UsageError: no guesses, an unknown group, or `top` below 1.
    """
    if top < 1:
        raise UsageError(f"top={top}: at least one name of each picture is taken")
    if name == WORLD:
        known = dict(zip(_base(name, group).class_ids, _base(name, group).class_names, strict=True))
        pairs = [pair for pair in world.open_pairs("world/memory").pairs() if pair.label in known]
        found: Mapping[str, Sequence[str]] = {pair.id: (_said(pair),) for pair in pairs}
        captions = {pair.id: pair.caption for pair in pairs}
    else:
        pairs, captions = list(datasets.open_pairs(name.removeprefix(PREFIX)).pairs()), {}
    if guesses:
        found = read_guesses(Path(guesses).expanduser())
        captions = {}
    elif name != WORLD:
        raise UsageError(
            f"'{name}' needs a name guessed for each picture of the memory: add memory.pairs_options.guesses=FILE"
        )
    lost = next(iter(sorted(found.keys() - {pair.id for pair in pairs})), None)
    if lost is not None:
        example = f", such as '{pairs[0].id}'" if pairs else ""
        raise DataError(f"{guesses}: '{lost}' is no training picture of {name.removeprefix(PREFIX)}{example}")
    rows, classes = [], {}
    for pair in pairs:
        for place, guess in enumerate(found.get(pair.id, ())[:top]):
            key = pair.id if top == 1 else f"{pair.id}#{place}"
            rows.append(replace(pair, id=key, label=guess, caption=captions.get(pair.id, guess), source=name))
            classes[key] = pair.label
    if not rows:
        raise DataError(f"{name}: no picture has a guessed name")
    return DiscoveryPairs(name, tuple(rows), classes)


def _base(name: str, group: str) -> RowBenchmark:
    """The benchmark with the true classes."""
    if name == WORLD and group not in GROUPS.values():
        raise unknown_name("group of the world", group, GROUPS.values())
    if name != WORLD and group != _GROUP:
        raise UsageError(f"'{name}' has no groups; remove group={group}")
    opened = (
        world.open_benchmark(f"world/{group}") if name == WORLD else datasets.open_benchmark(name.removeprefix(PREFIX))
    )
    assert isinstance(opened, RowBenchmark)
    return opened


def _said(pair: Pair) -> str:
    """What a caption of the world calls its picture: "fox: animal, face" says "fox"."""
    return tidy(pair.caption.partition(":")[0])
