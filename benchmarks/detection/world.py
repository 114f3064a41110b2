"""The benchmarks of world detection: `world/detection`, `world/detection-proposals`, `world/detection-validation`."""

from __future__ import annotations

from typing import Any

from trireme.benchmarks.detection.annotations import read_annotations
from trireme.benchmarks.detection.benchmark import DetectionBenchmark, make_benchmark, read_options
from trireme.benchmarks.detection.world_scenes import VERSION, folder, made
from trireme.benchmarks.templates import templates
from trireme.benchmarks.world import prepare
from trireme.benchmarks.world.sets import SUBSETS, VALIDATION_SUBSETS, pictures
from trireme.errors import UsageError, unknown_name
from trireme.types import Role

_TEST, _PROPOSALS, _VALIDATION = "world/detection", "world/detection-proposals", "world/detection-validation"
BENCHMARKS = (_TEST, _PROPOSALS, _VALIDATION)
_MOST = 300  # as LVIS
_CHOSEN = {"crop": 1.1, "blur": 0.05, "scale": 20.0}
"""How boxes are shown and scored unless told otherwise, chosen on validation (docs/detection.md); `lite` has learned a
logit scale of 19.8."""


def open_benchmark(name: str, **options: Any) -> DetectionBenchmark:
    """Scenes of the world's art, with all of its classes as candidates; drawn on first use.

    Rare, common and frequent (`ap_r`, `ap_c`, `ap_f`) are classes of at most two, of three and of four pictures in the
    memory; the subsets are those of `world/all`, by what training sets hold.

    Args:
        options: fields of `trireme.benchmarks.detection.benchmark.DetectionOptions`. `boxes` can be a file of proposals
            for these scenes; `world/detection-proposals` has its own.

    Raises:
        DataError: the world is not prepared.
        UsageError: no such benchmark, or option.
    """
    if name not in BENCHMARKS:
        raise unknown_name("benchmark", name, BENCHMARKS)
    if name == _PROPOSALS and "boxes" in options:
        raise UsageError(f"'{name}' has its own boxes; give boxes=FILE to {_TEST}")
    role = Role.VALIDATION if name == _VALIDATION else Role.TEST
    files = made()
    own = {"boxes": str(folder() / f"{role.value}-proposals.json")} if name == _PROPOSALS else {}
    chosen = read_options(name, options, **(_CHOSEN | own))
    classes = {row.hexcode: row for row in pictures()}
    return make_benchmark(
        read_annotations(folder() / f"{role.value}.json", federated=True),
        folder(),
        chosen,
        files,
        name=name,
        version=f"{prepare.VERSION}-{VERSION}",
        class_ids=tuple(classes),
        class_names=tuple(row.name for row in classes.values()),
        class_groups=tuple(row.split for row in classes.values()),
        subsets=VALIDATION_SUBSETS if role is Role.VALIDATION else SUBSETS,
        templates=templates("world"),
        validation=_VALIDATION,
        most=_MOST,
        role=role,
    )
