"""What a cell of a paper's table needs to be computed, and whether it is on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from trireme.errors import UsageError
from trireme.results.paper import Cell, Table

_DATA = "{data}/"
_PLACES = ("device", "workers", "batch_size", "encoder.pretrained", "encoder.origin", "ranker.*")
"""Keys that say where and how, not what, so they may be given to any table."""
_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""What open_clip looks for in a repository of the hub."""
_FILES = ("encoder.react", "encoder.pretrained", "ranker.adapter", "ranker.model")


class Need(NamedTuple):
    """What a cell lacks. `blocks`: without it a run is not even tried; weights on a hub are."""

    text: str
    blocks: bool = True


class Here:
    """What this machine has for the cells of tables; every data set is looked for once.

    Args:
        changes: {key: value} of the command line: device=, workers=, batch_size=, where weights lie.

    Raises:
        UsageError: a key that would change what is computed.
    """

    def __init__(self, changes: Mapping[str, str]) -> None:
        for key in changes:
            if key not in _PLACES and not key.startswith("ranker."):
                raise UsageError(f"{key}= would change what the table says is computed; it takes {', '.join(_PLACES)}")
        self.changes = changes
        self._known: dict[tuple[str, ...], str] = {}

    def settings(self, cell: Cell) -> dict[str, str]:
        """{key: value} of `trireme run` for a cell that can be run; files below the data root have their paths."""
        from trireme.benchmarks.datasets.places import data_root

        found = dict(cell.run)
        for key, value in self.changes.items():
            kind = "encoder.pretrained" if key == "encoder.origin" else key
            asks = any(one.startswith("ranker.") for one in cell.run)
            if asks if kind.startswith("ranker.") else kind in cell.run or "." not in kind:
                found[key] = value
        root = data_root()
        return {k: str(root / v.removeprefix(_DATA)) if v.startswith(_DATA) else v for k, v in found.items()}

    def lacking(self, table: Table, cells: Iterable[Cell]) -> dict[Cell, list[Need]]:
        """{cell: what is not here}; empty where all is there. A mean can be computed where all of its cells can."""
        alone = {(cell.row, cell.column): cell for cell in table.cells}
        found = {}
        for cell in cells:
            parts = [self._lacking(alone[cell.row, one]) for one in cell.mean_of if (cell.row, one) in alone]
            waiting = [needs for needs in parts if needs]
            blocks = any(need.blocks for needs in waiting for need in needs)
            of = f"{len(waiting)} of the {len(parts)} cells that it is the mean of cannot be computed"
            found[cell] = self._lacking(cell) if not cell.mean_of else [Need(of, blocks)] if waiting else []
        return found

    def _lacking(self, cell: Cell) -> list[Need]:
        if cell.never:
            return [Need(cell.never)]
        given = self.settings(cell)
        training = "training" if _needs_training_pictures(given) else ""
        data = self._once(_data_lacking, given["benchmark"], training)
        paths = [Path(given[key]).expanduser() for key in _FILES if key in given]
        needs = [Need(data)] if data else []
        needs += [
            Need(f"{path.name} is not in {path.parent}") for path in paths if path.is_absolute() and not path.exists()
        ]
        if not needs:  # looking for weights imports their library
            weights = self._once(_weights_lacking, given.get("encoder.model", ""), given.get("encoder.pretrained", ""))
            ranker = self._once(_ranker_lacking, given.get("ranker.model", ""))
            needs = [Need(text, blocks=False) for text in (weights, ranker) if text]
        return needs

    def _once(self, look: Callable[..., str], *asked: str) -> str:
        key = (look.__name__, *asked)
        if key not in self._known:
            self._known[key] = look(*asked)
        return self._known[key]

    def one_encoder(self, cells: Iterable[Cell]) -> None:
        """Refuse a file of weights for cells of several encoders.

        Raises:
            UsageError: naming two of them.
        """
        if "encoder.pretrained" not in self.changes:
            return
        asked = [cell.run for cell in cells if "encoder.pretrained" in cell.run]
        models = sorted({f"{run.get('encoder.model', '')}:{run['encoder.pretrained']}" for run in asked})
        if len(models) > 1:
            raise UsageError(
                f"encoder.pretrained= is a file of one encoder, but the cells have {', '.join(models[:2])}; "
                "choose some by --where"
            )


def arguments(given: Mapping[str, str]) -> list[str]:
    """Settings as the arguments of `trireme run`."""
    return [f"{key}={value}" for key, value in given.items()]


def _needs_training_pictures(given: Mapping[str, str]) -> bool:
    """Whether the memory is of the set's own training pictures."""
    own = given.get("memory", "@").startswith("@")
    return own and given["method"] != "zero_shot" and "i2t" not in given.values()


def _weights_lacking(model: str, tag: str) -> str:
    """Whether open_clip would have to download weights that are named by a tag; "" where they are here."""
    if not tag or Path(tag).expanduser().is_absolute():
        return ""
    import open_clip
    from huggingface_hub import try_to_load_from_cache

    entry = open_clip.get_pretrained_cfg(model, tag) or {}
    repository, _, named = str(entry.get("hf_hub", "")).rpartition("/")
    names = (named,) if named else _HUB_FILES
    if repository and any(isinstance(try_to_load_from_cache(repository, name), str) for name in names):
        return ""
    return f"weights {model}:{tag} are not on this machine; the run fetches them"


def _ranker_lacking(model: str) -> str:
    """Whether a multimodal model would have to be downloaded; "" where it is here."""
    if not model or Path(model).expanduser().is_absolute():
        return ""
    from huggingface_hub import try_to_load_from_cache

    if isinstance(try_to_load_from_cache(model, "config.json"), str):
        return ""
    return f"model {model} is not on this machine; the run fetches it"


def _data_lacking(benchmark: str, training: str) -> str:
    """Why the data set of a benchmark cannot be opened here; "" where its files are there."""
    from trireme.benchmarks.datasets.catalogue import PUBLISHED
    from trireme.benchmarks.datasets.places import absent, look
    from trireme.benchmarks.datasets.spec import TRAIN

    if benchmark.startswith("world/"):
        return _world_lacking()
    if benchmark not in PUBLISHED.specs():
        return ""  # your own pictures: opening them says what is wrong
    place, state = look(PUBLISHED[benchmark])
    if place is None:
        return f"data set {benchmark} is {state.state}; see: trireme data status {benchmark}"
    gone = absent(place, TRAIN) if training else []
    return f"data set {benchmark} lacks its training pictures: {gone[0]}" if gone else ""


def _world_lacking() -> str:
    from trireme.benchmarks.world.prepare import COMMAND, status

    missing = [row["set"] for row in status() if row["state"] != "present"]
    return f"{missing[0]} is not here; run: {COMMAND}" if missing else ""
