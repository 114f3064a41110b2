"""Image-text retrieval in the world: `world/retrieval` over all classes, `world/tiny-retrieval` over thirty.

The queries are the test (or validation) art and the captions that the memory would give it: the drawn thing's name and
a few keywords. A candidate is a hit where it is of the same class, whoever drew it: captions of one class tell the same
thing in other words, or in the same (the two test artists have equal captions in 424 of 1,167 classes), so a hit on the
own pair alone would be a coin toss.
"""

from __future__ import annotations

from trireme.benchmarks.base import RowBenchmark
from trireme.benchmarks.image_text.benchmark import Captioned, ImageTextBenchmark, samples_of, subsets_of
from trireme.benchmarks.world import sets
from trireme.errors import unknown_name
from trireme.types import Role

VERSION = "1"
_BASES = {
    "world/retrieval": "world/all",
    "world/retrieval-validation": "world/validation",
    "world/tiny-retrieval": "world/tiny",
    "world/tiny-retrieval-validation": "world/tiny-validation",
}
BENCHMARKS = tuple(_BASES)


def open_benchmark(name: str) -> ImageTextBenchmark:
    """The pictures of `world/all` (`world/validation`, `world/tiny` ...) and their captions.

    Subsets are the two directions and the base benchmark's own, such as `rare`, with both directions together.

    Raises:
        DataError: the world is not prepared.
        UsageError: no such benchmark.
    """
    if name not in _BASES:
        raise unknown_name("benchmark", name, BENCHMARKS)
    base = sets.open_benchmark(_BASES[name])
    assert isinstance(base, RowBenchmark)
    role = Role.VALIDATION if name.endswith("validation") else Role.TEST
    told = {f"{row.family}/{row.hexcode}": row.caption for row in sets.pictures()}
    rows = [
        Captioned(one.id, one.image, one.label, {one.id: told[one.id]}, base.class_groups[one.label])
        for one in base.samples(role)
    ]
    return ImageTextBenchmark(
        name=name,
        version=f"{base.version}-{VERSION}",
        class_ids=base.class_ids,
        class_names=base.class_names,
        class_groups=base.class_groups,
        subsets=subsets_of(
            sorted(set(base.class_groups)), {subset: of for subset, of in base.subsets.items() if of is not None}
        ),
        templates=("{}",),
        rows={role: samples_of(rows)},
        validation=name if role is Role.VALIDATION else f"{name}-validation",
    )
