"""`trireme memory`: build, inspect and search the memory that methods retrieve from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trireme.errors import DataError, UsageError, unknown_name
from trireme.request import Request, parse_parts

if TYPE_CHECKING:
    from trireme.retrieval.memory import Memory, Side
    from trireme.workbench import Workbench

SIDES = ("image", "text")
_MOST_LISTED = 20


def build(name: str, arguments: Sequence[str]) -> int:
    """Build the memory and print where it is."""
    memory, _, _ = _open(name, arguments)
    print(f"{memory.fingerprint}  {len(memory)} pairs  {memory.folder}")
    return 0


def inspect(name: str, arguments: Sequence[str]) -> int:
    """Print the manifest, the counts by source, and how many labels there are."""
    memory, _, _ = _open(name, arguments)
    print(json.dumps(dict(memory.manifest), indent=2, ensure_ascii=False, default=str))
    labels = {str(label) for label in memory.labels} - {""}
    print(f"{len(memory)} pairs, {len(labels)} labels")
    for source, count in Counter(map(str, memory.sources)).most_common(_MOST_LISTED):
        print(f"  {source or '(no source)'}: {count}")
    return 0


def search(query: str, arguments: Sequence[str], side: str, k: int) -> int:
    """Print the k nearest pairs: score, id, caption."""
    if side not in SIDES:
        raise unknown_name("side", side, SIDES)
    from trireme.types import ImageRef

    named = [argument for argument in arguments if argument.startswith("memory=")]
    name = named[-1].partition("=")[2] if named else "world"
    memory, bench, request = _open(name, [argument for argument in arguments if argument not in named])
    store = bench.encoder(request.encoders[0]).store
    path = Path(query).expanduser()
    if path.suffix and not path.is_file() and ("/" in query or path.suffix.lower() in _PICTURES):
        raise DataError(f"no picture at {path}")
    vectors = store.images([ImageRef(str(path.resolve()))]) if path.is_file() else store.texts([query])
    chosen: Side = "image" if side == "image" else "text"
    hits = memory.search(vectors, chosen, min(k, len(memory)), encoder=store.encoder.fingerprint)
    rows = hits.rows[0][hits.rows[0] >= 0]
    for row, score, caption in zip(rows, hits.scores[0], memory.captions(rows), strict=False):
        print(f"{score:.4f}  {memory.ids[row]}  {caption}")
    return 0


_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def _open(name: str, arguments: Sequence[str]) -> tuple[Memory, Workbench, Request]:
    if (Path(name).expanduser() / "manifest.json").is_file():
        name = f"built:{name}"
    request = parse_parts([*arguments, f"memory={name}"])
    if len(request.encoders) != 1 or len(request.memories) != 1:
        raise UsageError("give one memory and one encoder")
    if len(request.seeds) != 1:
        raise UsageError("give one seed")
    from trireme.customised import customised_file
    from trireme.workbench import Workbench

    bench = Workbench(request, customised_file)
    return bench.memory(request.memories[0], request.encoders[0], None, request.seeds[0]), bench, request
