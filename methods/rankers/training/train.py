"""From labelled pictures to a trained ranker: lessons, training, and the files that engines load."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trireme.errors import DataError, UsageError, unknown_name
from trireme.files import atomic_folder, fingerprint, write_json
from trireme.methods.rankers import chat
from trireme.methods.rankers.checkpoint import RECORD
from trireme.methods.rankers.lite import base, shipped
from trireme.methods.rankers.lite.align import LAST, AlignConfig, align
from trireme.methods.rankers.training.data import Lesson, naming_lessons, ranking_lessons
from trireme.methods.rankers.training.finetune import FinetuneConfig, Finetuning
from trireme.progress import say
from trireme.retrieval.encoders.base import resolve_device
from trireme.retrieval.encoders.lite import trunk
from trireme.retrieval.encoders.lite.views import read_pixels, token_views
from trireme.retrieval.overlap import trained_on
from trireme.types import WITHOUT_EFFECT, ImageRef, Ints

LESSONS = ("names", "ranking", "both")
_TOWER = "model.vision_tower.timm_model."
_PROJECTOR = "model.multi_modal_projector."


@dataclass
class TrainRankerConfig(FinetuneConfig):
    """How a ranker is trained; the options of the fine-tuning, and

    Attributes:
        model: "lite" (the base of the lite rankers; its picture tokens are aligned first), a checkpoint folder, or a
            hub id.
        revision: of a hub id.
        pairs: pair sets whose labelled pictures are learned from.
        benchmark: names the classes; its own test and validation pictures are never among the pairs.
        lessons: "ranking" (the paper's windows), "names" (the wording `name`, without candidates), or "both".
        neighbours, window: of the ranking lessons: 20 and 5 in the paper.
        shuffle: a random order of the candidates of every question, instead of the retrieval order.
        wording: of the ranking lessons.
        align: of the lite base's picture tokens.
        views: augmented views of each picture that the alignment sees.
        device: "auto" (CUDA where there is one), "cpu", "cuda:1" ...
    """

    model: str = "lite"
    revision: str = ""
    pairs: list[str] = field(default_factory=lambda: ["world/train-common"])
    benchmark: str = "world/all"
    lessons: str = "ranking"
    neighbours: int = 20
    window: int = 5
    shuffle: bool = False
    wording: str = "paper"
    align: AlignConfig = field(default_factory=AlignConfig)
    views: int = 4
    seed: int = 0
    device: str = field(default="auto", metadata=WITHOUT_EFFECT)


@dataclass(frozen=True, slots=True)
class Material:
    """What lessons are made of.

    Attributes:
        refs, labels: n pictures and their class indices.
        neighbours: (n, k) class indices of each picture's nearest memory pictures, itself excluded; -1 where none.
        names: of the classes.
        sources: of the record: pair sets, memory and encoder, with their fingerprints.
    """

    refs: Sequence[ImageRef]
    labels: Sequence[int]
    neighbours: Ints
    names: Sequence[str]
    sources: dict[str, Any]


def train_ranker(config: TrainRankerConfig, material: Material, out: Path, name: str, merged: Path | None) -> Path:
    """Train, and write the ranker into `out`; a killed training goes on from its last checkpoint.

    Args:
        name: of the files of a lite ranker.
        merged: also gets the whole model with the LoRA in its weights.

    Returns:
        What `ranker.model=` or `ranker.adapter=` takes: for a lite ranker a whole checkpoint folder, else the adapter.

    Raises:
        UsageError: options that cannot work. DataError: an unreadable picture, or a diverged training.
    """
    lessons = lessons_of(config, material)
    if merged is not None and merged.exists():
        raise UsageError(f"{merged} exists already; remove it or name another folder for --merged")
    started = time.monotonic()
    model, processor = _start(config)
    record: dict[str, Any] = {
        "command": f"trireme train ranker {name}",
        "config": asdict(config),
        "told": "labels",
        "training": material.sources,
        "pictures": trained_on(material.refs),
    }
    folder = out / f".{fingerprint([asdict(config), material.sources])}.partial"
    if config.model == "lite":
        record["alignment"] = _aligned(config, material, model, processor, folder)
    tuning = Finetuning(model, processor, config, lessons, folder, config.seed)
    record["finetuning"] = tuning.run()
    record["seconds"] = round(time.monotonic() - started, 1)
    record["versions"] = {"python": platform.python_version(), "torch": torch.__version__}
    made = _write_lite(tuning, out, name, record) if config.model == "lite" else _write_adapter(tuning, out, record)
    if merged is not None:
        _write_merged(tuning, processor, merged, record)
    shutil.rmtree(folder, ignore_errors=True)
    return made


def lessons_of(config: TrainRankerConfig, material: Material) -> list[Lesson]:
    """The lessons that a configuration asks for.

    Raises:
        UsageError: an unknown kind. DataError: there is none.
    """
    if config.lessons not in LESSONS:
        raise unknown_name("lessons", config.lessons, LESSONS)
    if config.window < 2 or config.neighbours < config.window:
        raise UsageError("ranking lessons need a window of at least 2, and as many neighbours or more")
    made: list[Lesson] = []
    if config.lessons != "names":
        made += ranking_lessons(
            material.refs,
            material.labels,
            material.neighbours,
            material.names,
            config.window,
            config.wording,
            config.seed if config.shuffle else None,
        )
    if config.lessons != "ranking":
        made += naming_lessons(material.refs, material.labels, material.names)
    if not made:
        raise DataError(
            "no window of neighbours holds its picture's own class; give more neighbours, or another memory"
        )
    return made


def _start(config: TrainRankerConfig) -> tuple[Any, Any]:
    """The model in float32 and its processor. Raises UsageError and DataError."""
    from transformers import AutoModelForImageTextToText
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    place = str(base.base_folder()) if config.model == "lite" else str(Path(config.model).expanduser())
    processor = chat.load_processor(place, config.revision)
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            place, revision=config.revision or None, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"cannot load {config.model}: {chat.first_line(error)}") from error
    return model.to(resolve_device(config.device)), processor


def _aligned(config: TrainRankerConfig, material: Material, model: Any, processor: Any, folder: Path) -> dict[str, Any]:
    """Align the picture tokens of a lite base, or take what a killed training aligned."""
    path = folder / "aligned.safetensors"
    if not path.is_file():
        pixels = read_pixels(list(material.refs))
        views = token_views(trunk.load_trunk(), pixels, config.views, config.seed)[..., trunk.STAGE_4 :].clone()
        labels = torch.tensor(list(material.labels))
        found = align(model, processor.tokenizer, views, labels, material.names, config.align, config.seed)
        shipped.write_parts(path, found, _parts(model.state_dict()))
    # always read back, so that a training goes on from the same (half precision) parts whether it was killed or not
    about, tensors = shipped.read_parts(path)
    model.load_state_dict({_place(name): value.float() for name, value in tensors.items()}, strict=False)
    return dict(about["lora"])


def _place(name: str) -> str:
    """The model's name of a tensor of the shipped parts."""
    tower = f"{_TOWER}{name.removeprefix(shipped.TOWER)}"
    return tower if name.startswith(shipped.TOWER) else f"{_PROJECTOR}{name.removeprefix(shipped.PROJECTOR)}"


def _parts(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Projector and last stage of the vision tower out of a model's state."""
    found = {}
    for name, value in state.items():
        if name.startswith(_PROJECTOR):
            found[f"{shipped.PROJECTOR}{name.removeprefix(_PROJECTOR)}"] = value
        elif name.startswith(tuple(f"{_TOWER}{part}" for part in LAST)) and value.is_floating_point():
            found[f"{shipped.TOWER}{name.removeprefix(_TOWER)}"] = value
    return found


def _plain_state(tuning: Finetuning) -> dict[str, Tensor]:
    """The state of the adapted model under the names of the model itself; LoRA tensors keep `lora_` in theirs."""
    state: dict[str, Tensor] = tuning.adapted.state_dict()
    return {name.removeprefix("base_model.model.").replace(".base_layer.", "."): v for name, v in state.items()}


def _lora(tuning: Finetuning) -> dict[str, Tensor]:
    """The LoRA's tensors as peft writes them, without the adapter's name in them."""
    return {
        name.replace(".default.", "."): value.detach().float()
        for name, value in tuning.adapted.state_dict().items()
        if "lora_" in name
    }


def _write_lite(tuning: Finetuning, out: Path, name: str, record: dict[str, Any]) -> Path:
    """`<name>.safetensors` and `<name>.json`, as they ship with Trireme, and the checkpoint made of them."""
    prefix = "base_model.model.model.language_model."
    lora = {f"{shipped.LORA}{key.removeprefix(prefix)}": value for key, value in _lora(tuning).items()}
    found = tuning.adapted.peft_config["default"]
    shape = {"r": found.r, "lora_alpha": found.lora_alpha, "target_modules": _linear(lora), "layers": tuning.layers}
    parts = out / f"{name}.safetensors"
    (out / f"{name}.json").unlink(missing_ok=True)
    shipped.write_parts(parts, shape, {**_parts(_plain_state(tuning)), **lora})
    write_json(out / f"{name}.json", record)
    checkpoint = out / name
    _make_way(checkpoint)
    shipped.put_together(base.base_folder(), parts, checkpoint, {RECORD: record})
    say(f"wrote {parts} ({parts.stat().st_size / 1e6:.1f} MB) and the checkpoint {checkpoint}")
    return checkpoint


def _make_way(folder: Path) -> None:
    """Remove what an earlier training left in `folder`. UsageError where something else lies there."""
    if folder.exists() and not (folder / RECORD).is_file():
        raise UsageError(f"{folder} exists and is no trained ranker; remove it or choose another --out")
    shutil.rmtree(folder, ignore_errors=True)


def _linear(lora: dict[str, Tensor]) -> list[str]:
    return sorted({name.split(".lora_")[0].rsplit(".", 1)[-1] for name in lora})


def _write_adapter(tuning: Finetuning, out: Path, record: dict[str, Any]) -> Path:
    """The LoRA in peft's format. Parts that trained whole cannot travel in it: they need `merged`."""
    if tuning.trainable and any("lora_" not in name for name in tuning.trainable):
        say("note: parts= trained more than the LoRA; only --merged holds all of it")
    folder = out / shipped.ADAPTER
    _make_way(folder)
    with atomic_folder(folder) as part:
        tuning.adapted.save_pretrained(part)
        write_json(part / RECORD, record)
    say(f"wrote the adapter {folder}")
    return folder


def _write_merged(tuning: Finetuning, processor: Any, folder: Path, record: dict[str, Any]) -> None:
    with atomic_folder(folder) as part:
        tuning.adapted.merge_and_unload().to(torch.bfloat16).save_pretrained(part)
        processor.save_pretrained(part)
        write_json(part / RECORD, record)
    say(f"wrote the merged checkpoint {folder}")
