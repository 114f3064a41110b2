"""Detection as a benchmark: a sample is a box, its picture is a region, and what is scored is the whole set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from trireme.benchmarks.base import RowBenchmark
from trireme.benchmarks.detection.annotations import CROWD, CROWDS, IGNORED, Annotations
from trireme.benchmarks.detection.precision import PrecisionEvaluator, metric_names
from trireme.benchmarks.detection.proposals import read_proposals
from trireme.benchmarks.detection.results import Boxes, Detections, Scoring, detections, write_json_results
from trireme.benchmarks.metrics import metric_code, score
from trireme.errors import DataError, UsageError, unknown_name
from trireme.files import fingerprint
from trireme.hashes import file_hashes, file_sha256
from trireme.progress import say
from trireme.types import RANKED, Evaluator, Floats, ImageRef, Ints, Region, Role, Sample, Task

GROUND_TRUTH = "ground-truth"
_LISTED = 100  # at scale 100 and a probability above 0.001, the classes within 0.07 of the best cosine count
METHOD = "2"
"""Raise it when the same boxes and predictions give another average precision."""


@dataclass(frozen=True)
class DetectionOptions(Scoring):
    """What can be chosen of a detection benchmark.

    Attributes:
        boxes: "ground-truth", the boxes of the annotation file, or a file of proposals in COCO's results format
            ([{"image_id", "bbox", "score"}]); their score is the objectness, and their classes, if any, are not read.
        crop: factor on the sides of what a model is shown, about the centre of the box. RAR does not publish its
            factor; its Fig. 11 spans 1 to 3. 1.5 is what the AlphaCLIP code of one of its authors has.
        square: show a square of the box's longer side, as that code does, instead of the box's own shape.
        blur: standard deviation of the blur outside of the box, as a share of the box's longer side; RAR blurs, and
            does not publish how much. 0 blurs nothing.
    """

    boxes: str = GROUND_TRUTH
    crop: float = 1.5
    square: bool = True
    blur: float = 0.0

    def __post_init__(self) -> None:
        Scoring.__post_init__(self)
        fault = Region((0, 0, 1, 1), self.crop, self.square, self.blur).fault
        if fault:
            raise UsageError(f"a detection benchmark cannot show its boxes so: {fault}")

    @property
    def proposals(self) -> Path | None:
        """The file of proposals; None for the boxes of the annotation file."""
        return None if self.boxes == GROUND_TRUTH else Path(self.boxes).expanduser().resolve()


def read_options(name: str, given: Mapping[str, Any], **defaults: Any) -> DetectionOptions:
    """Options by name, each of the type it has.

    Raises:
        UsageError: an unknown option, or a value that it cannot have; names the benchmark and the option.
    """
    known = {one.name: type(one.default) for one in fields(DetectionOptions)}
    values = dict(defaults)
    for key, value in given.items():
        if key not in known:
            raise unknown_name(f"option of {name}", key, known)
        fine = isinstance(value, int | float if known[key] is float else known[key])
        if not fine or (isinstance(value, bool) and known[key] is not bool):
            raise UsageError(f"'{name}': {key}={value!r} is no {known[key].__name__}")
        values[key] = float(value) if known[key] is float else value
    return DetectionOptions(**values)


@dataclass(frozen=True)
class DetectionBenchmark(RowBenchmark):
    """See `trireme.types.SetBenchmark`. It has samples of one role, `role`.

    Attributes:
        annotations: what is there.
        asked: the boxes of the samples, in their order.
        options: how boxes are shown and scored.
        most: detections of one class in one picture that count.
        digests: SHA-256 of the files that say what is there and what is asked.
    """

    annotations: Annotations = field(kw_only=True)
    asked: Boxes = field(kw_only=True)
    options: DetectionOptions = DetectionOptions()
    most: int = 300
    role: Role = Role.TEST
    digests: tuple[str, ...] = ()

    @property
    def keep(self) -> int:
        """How many classes a prediction should list: with many labels a box, more than top5 looks at."""
        return RANKED if self.options.labels == "one" else _LISTED

    @property
    def set_metrics(self) -> tuple[str, ...]:
        return metric_names(self.annotations.federated)

    def metric_codes(self) -> list[list[str]]:
        """[name, hash of its source] of every metric; of average precisions what they are made by."""
        flags = [[what, n] for what, n in self.annotations.notes.items() if what in (CROWD, IGNORED) and n]
        made = fingerprint([METHOD, self.most, *flags])
        return [[name, made] if name in self.set_metrics else [name, metric_code(name)] for name in self.metrics]

    def fingerprint(self, role: Role = Role.TEST) -> str:
        """That of the rows (their pictures with regions), with annotations, proposals and how boxes are scored."""
        plain = super().fingerprint(role)
        shown = {key: value for key, value in asdict(self.options).items() if key != "boxes"}  # a path; see digests
        return fingerprint([plain, self.digests, shown])

    def score(self, ranked: Ints, labels: Ints) -> Mapping[str, Floats]:
        """Per-sample values of the metrics that are no average precision."""
        return score(self._means, ranked, labels)

    @property
    def _means(self) -> tuple[str, ...]:
        return tuple(name for name in self.metrics if name not in self.set_metrics)

    def evaluator(self, predictions: Any, role: Role = Role.TEST) -> Evaluator:
        """The average precisions of a table of predictions.

        Raises:
            DataError: the table is not about this benchmark's boxes.
            TriremeError: faster-coco-eval is not installed.
        """
        found = self.detections(predictions, role)
        return PrecisionEvaluator(self.annotations, found, self.most, self.class_groups, self.subsets)

    def detections(self, predictions: Any, role: Role = Role.TEST) -> Detections:
        """What a table of predictions says is where."""
        self.samples(role)  # it has none of the other role, and says so
        return detections(predictions, self.asked, self.options, len(self.class_ids))


def write_results(benchmark: DetectionBenchmark, predictions: Any, path: Path) -> int:
    """Write predictions in the results format of COCO and LVIS, so that anyone can score them; how many there are.

    Args:
        predictions: a run's `predictions.parquet`, as `trireme.results.records.read_predictions` gives it.

    Raises:
        DataError: the table is not about this benchmark's boxes.
    """
    return write_json_results(benchmark.detections(predictions, benchmark.role), benchmark.annotations, path)


def make_benchmark(
    annotations: Annotations,
    folder: Path,
    options: DetectionOptions,
    hashes: Mapping[str, str] | None = None,
    **rest: Any,
) -> DetectionBenchmark:
    """A benchmark over the boxes that the options ask about.

    Args:
        folder: of the pictures. One that is not there is no error here: a run counts it.
        hashes: {file: SHA-256} where a manifest knows them; the files are read for them where it is None.
        rest: fields of `DetectionBenchmark`.

    Raises:
        DataError: the proposals are not for these pictures, or there is nothing to find.
    """
    asked, labels = _asked(annotations, options.proposals)
    if not (annotations.known & ~annotations.ignored).any():
        raise DataError(
            f"annotation file {annotations.path} has nothing to find: its boxes are crowds, ignored or of `area` 0"
        )
    _tell(annotations.path, {_FLAT: int((~annotations.known).sum()), _NOUGHT: int((annotations.ids == 0).sum())})
    files = [one.file for one in annotations.pictures]
    digests = [hashes.get(file) for file in files] if hashes is not None else _hashes(folder, files)
    samples = tuple(
        Sample(
            name,
            ImageRef(
                f"{folder}/{files[image]}",
                digests[image],
                Region((box[0], box[1], box[2], box[3]), options.crop, options.square, options.blur),
            ),
            label,
        )
        for name, image, box, label in zip(
            asked.ids, asked.image.tolist(), asked.boxes.tolist(), labels.tolist(), strict=True
        )
    )
    told = (annotations.path,) if options.proposals is None else (annotations.path, options.proposals)
    metrics = (*metric_names(annotations.federated), *(() if options.proposals is not None else ("top1",)))
    role = rest.get("role", Role.TEST)
    return DetectionBenchmark(
        task=Task.DETECTION,
        rows={role: samples},
        metrics=metrics,
        annotations=annotations,
        asked=asked,
        options=options,
        digests=tuple(file_sha256(path) for path in told),
        **rest,
    )


def _asked(annotations: Annotations, proposals: Path | None) -> tuple[Boxes, Ints]:
    """The boxes that are asked about, and the class of each; -1 for proposals."""
    ids = [one.id for one in annotations.pictures]
    if proposals is not None:
        read = read_proposals(proposals, annotations)
        _tell(proposals, read.notes)
        names = [f"{ids[i]}/p{rank}" for i, rank in zip(read.image.tolist(), read.rank.tolist(), strict=True)]
        return Boxes(names, read.image, read.boxes, read.objectness), np.full(len(names), -1, dtype=np.int64)
    _tell(annotations.path, annotations.notes)
    rows = np.flatnonzero(~annotations.ignored & ~annotations.empty)
    if not len(rows):
        raise DataError(f"annotation file {annotations.path} has no box that can be shown")
    image = annotations.image[rows]
    names = [f"{ids[i]}/{number}" for i, number in zip(image.tolist(), annotations.ids[rows].tolist(), strict=True)]
    return Boxes(names, image, annotations.boxes[rows], np.ones(len(rows))), annotations.label[rows]


_FLAT = "boxes of `area` 0"
_NOUGHT = "annotation with the id 0"
_TOLD = {
    "boxes without area": "cannot be shown, so nothing is asked about them",
    _FLAT: "are not among those to find, as LVIS's evaluator has it",
    _NOUGHT: "can be found here; pycocotools and lvis take its match for none, so their AP can be lower",
    "boxes over an edge": "are shown and scored as they are",
    CROWDS: "are not asked about",
    CROWD: "are asked about and should be found, as LVIS's evaluator has it",
    IGNORED: "are not asked about and count neither for nor against, as LVIS's evaluator has it",
}


def _tell(path: Path, notes: Mapping[str, int]) -> None:
    for what, count in notes.items():
        if count:
            say(f"note: {path.name}: {count} {what} {_TOLD[what]}")


def _hashes(folder: Path, files: Sequence[str]) -> list[str | None]:
    """SHA-256 of every picture; None of one that cannot be read, which is told."""
    found = file_hashes([f"{folder}/{file}" for file in files], workers=2)
    lost = [file for file, one in zip(files, found, strict=True) if not isinstance(one, str)]
    if lost:
        say(f"warning: {len(lost)} of {len(files)} listed pictures are not in {folder} (first: {lost[0]})")
    return [one if isinstance(one, str) else None for one in found]
