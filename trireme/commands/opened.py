"""What the ids of a finished run stand for: class names and pictures, found again through benchmarks and memories.

Nothing here loads a model, and nothing is built: a benchmark whose samples have changed and a memory that is gone are
told of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from trireme.errors import TriremeError
from trireme.files import home
from trireme.types import Benchmark, ImageRef, Region, Role

if TYPE_CHECKING:
    from trireme.results.records import RunRecord
    from trireme.results.shown import Shown

_MANIFEST, _PAIRS = "manifest.json", "pairs.parquet"


class Held(NamedTuple):
    """A pair of a memory; the label is a class id, "" where there is none."""

    image: ImageRef
    caption: str
    label: str


class Opened:
    """Opens each benchmark and each memory of a set of records once."""

    def __init__(self) -> None:
        self._benchmarks: dict[str, Shown] = {}
        self._memories: dict[str, Mapping[str, Held]] = {}

    def benchmark(self, record: RunRecord) -> Shown:
        """Class names, pictures and asking captions; without them, and with the reason, where it is not what it was."""
        told = record.data["benchmark"]
        key = f"{told['fingerprint']} {told['role']}"
        if key not in self._benchmarks:
            self._benchmarks[key] = _shown(record)
        return self._benchmarks[key]

    def memory(self, record: RunRecord) -> Mapping[str, Held]:
        """Pair id -> the pair; empty where no memory of these pairs is on this machine."""
        memory = record.data["memory"] or {}
        pairs = str((memory.get("manifest") or {}).get("pairs", {}).get("fingerprint", ""))
        if not pairs:
            return {}
        if pairs not in self._memories:
            self._memories[pairs] = _pairs(pairs, str(memory["name"]))
        return self._memories[pairs]


def _shown(record: RunRecord) -> Shown:
    from trireme import compose
    from trireme.results.shown import Shown

    told = record.data["benchmark"]
    opened = told.get("opened") or {"name": told["name"], "options": {}}
    try:
        benchmark = compose.benchmark(opened["name"], opened["options"])
        role = Role(told["role"])
        samples = benchmark.samples(role)
        same = benchmark.fingerprint(role) == told["fingerprint"]
        if not same and not _same_samples(record, {sample.id: sample.label for sample in samples}, benchmark):
            return Shown(problem=f"{told['name']} is not what it was when these runs were made")
    except (TriremeError, OSError) as error:
        return Shown(problem=f"{told['name']} cannot be opened ({error})")
    pictures = {sample.id: sample.image for sample in samples}
    texts = {sample.id: sample.text for sample in samples if sample.text}
    return Shown(benchmark.class_names, benchmark.class_ids, pictures, texts)


def _same_samples(record: RunRecord, labels: Mapping[str, int], benchmark: Benchmark) -> bool:
    """Whether a benchmark of another fingerprint (its metric was changed, say) still asks the same of the same ids."""
    from trireme.results.records import read_predictions

    if len(benchmark.class_names) != record.data["benchmark"]["classes"]:
        return False
    table = read_predictions(record, ["sample_id", "label"])
    asked = dict(zip(table["sample_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    return asked == dict(labels)


def _pairs(fingerprint: str, name: str) -> dict[str, Held]:
    """Of the first memory of these pairs, the fullest one: they differ by encoder and by what was kept out."""
    folders = [path.parent for path in sorted((home() / "memories").glob(f"*/{_MANIFEST}"))]
    if name.startswith("built:"):
        folders.insert(0, Path(name.removeprefix("built:")).expanduser())
    found = [(kept, folder) for folder in folders if (kept := _kept(folder, fingerprint))]
    return _read(max(found, key=lambda one: one[0])[1]) if found else {}


def _kept(folder: Path, fingerprint: str) -> int:
    """How many of these pairs the memory holds; 0 where it is of others, or damaged."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return int(manifest["counts"]["kept"]) if manifest["pairs"]["fingerprint"] == fingerprint else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _read(folder: Path) -> dict[str, Held]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(folder / _PAIRS)
    except (OSError, pa.ArrowInvalid):
        return {}
    columns = {name: table[name].to_pylist() for name in table.column_names}
    regions = columns.get("region") or [""] * table.num_rows
    return {
        pair: Held(ImageRef(path, digest or None, Region.parse(text) if text else None), caption or "", label or "")
        for pair, path, digest, text, caption, label in zip(
            columns["id"],
            columns["path"],
            columns["sha256"],
            regions,
            columns["caption"],
            columns["label"],
            strict=True,
        )
    }
