"""Which architecture, weights and preprocessing an open_clip configuration means, decided without loading a model.

open_clip itself only warns about QuickGELU and takes OpenAI's mean and std for any local file. Both give a silent
wrong number, so here both are errors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import open_clip
from open_clip.transform import PreprocessCfg

from trireme.errors import DataError, TriremeError, UsageError, unknown_name
from trireme.retrieval.encoders.base import EncoderConfig, file_sha256
from trireme.retrieval.encoders.customised import is_customised
from trireme.retrieval.encoders.official import backbone_of, preprocessing_of

_HUB, _LOCAL = "hf-hub:", "local-dir:"
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
_QUICKGELU = "-quickgelu"


@dataclass
class OpenClipConfig(EncoderConfig):
    """How an open_clip encoder is made.

    Attributes:
        model: a name that `open_clip.list_models()` knows, `hf-hub:ORG/REPO`, or `local-dir:FOLDER` (a folder with
            `open_clip_config.json` and one weights file).
        pretrained: a tag of that model or a local .safetensors / .pt file; empty for `hf-hub:` and `local-dir:`.
        origin: for a local file, the tag that it is a copy of or was fine-tuned from; its preprocessing and
            activation are then checked as for the tag itself.
        random: leave the weights at their random start (tests and ablations); `seed` fixes them.
        force_quick_gelu: as in open_clip.
        image_mean, image_std, image_interpolation, image_resize_mode: preprocessing of a local file that no tag
            describes; refused where a tag says something else.
        react: a customised encoder made from this one (customised.py), or a released checkpoint of REACT, which is a
            full model and takes the place of `pretrained` (official.py); empty is none.
        react_base: for a released checkpoint whose file name does not say it, the CLIP it was tuned from: openai,
            laion400m or laion2b.
    """

    model: str = "ViT-B-32"
    pretrained: str = ""
    origin: str = ""
    random: bool = False
    seed: int = 0
    force_quick_gelu: bool = False
    image_mean: tuple[float, float, float] | None = None
    image_std: tuple[float, float, float] | None = None
    image_interpolation: str | None = None
    image_resize_mode: str | None = None
    react: str = ""
    react_base: str = ""


@dataclass(frozen=True)
class Source:
    """The resolved encoder.

    Attributes:
        label: shown after "open_clip:" in tables.
        architecture: open_clip's model configuration, QuickGELU included.
        checkpoint: the weights file that open_clip loads, None for random weights and for `official`.
        weights: its SHA-256, "random:SEED", or "react:" and the SHA-256 of `official`.
        preprocess: the fields of open_clip's `PreprocessCfg`.
        official: a released checkpoint of REACT, which holds all weights.
    """

    label: str
    architecture: Mapping[str, Any]
    checkpoint: Path | None
    weights: str
    preprocess: Mapping[str, Any]
    official: Path | None = None


def resolve(config: OpenClipConfig) -> Source:
    """Find configuration and weights, downloading a tag's file where it is not there yet.

    Raises:
        UsageError: unknown model or tag, contradictory or missing choices (QuickGELU, mean and std, random).
        TriremeError: the hub cannot be reached.
        DataError: a local file or folder is missing or damaged.
    """
    react = Path(config.react).expanduser()
    if config.react and not is_customised(react):
        return _from_official(config, react)
    if config.react_base:
        raise UsageError("react_base is for react=FILE with a released checkpoint of REACT; drop it")
    in_folder = config.model.startswith((_HUB, _LOCAL))
    architecture, checkpoint, declared, label = _from_folder(config) if in_folder else _from_name(config)
    if config.random:
        checkpoint = None
    if config.force_quick_gelu:
        architecture["quick_gelu"] = True
    weights = f"random:{config.seed}" if checkpoint is None else file_sha256(checkpoint)
    return Source(label, architecture, checkpoint, weights, _preprocess(config, architecture, declared))


def _preprocess(
    config: OpenClipConfig, architecture: Mapping[str, Any], declared: Mapping[str, Any]
) -> Mapping[str, Any]:
    size = architecture["vision_cfg"].get("image_size", 224)
    return asdict(PreprocessCfg()) | {"size": size} | _preprocessing(config, declared)


def _from_official(config: OpenClipConfig, file: Path) -> Source:
    """A released checkpoint of REACT: weights for all of a named architecture, whose activation it needs."""
    model = config.model.replace("/", "-")
    if model.startswith("react_"):  # the official code's names of gated models
        raise UsageError(f"{file.name} says itself where it is gated; use model={model.removeprefix('react_')}")
    if model not in open_clip.list_models():
        raise unknown_name("open_clip model", config.model, open_clip.list_models())
    for name in ("pretrained", "origin", "random"):
        if getattr(config, name):
            raise UsageError(f"react={file.name} brings all weights; drop {name}={getattr(config, name)}")
    architecture = dict(open_clip.get_model_config(model))
    backbone = backbone_of(file, config.react_base)
    quick, base = backbone == "openai", model.removesuffix(_QUICKGELU)
    if architecture.get("quick_gelu", False) and not quick:
        raise UsageError(f"{file.name} ({backbone}) was not trained with QuickGELU; use model={base}")
    # LAION-400M's B/32 was trained with QuickGELU by open_clip's table, yet the official factory evaluates what was
    # tuned from it with GELU. Who reads the table otherwise can say so with force_quick_gelu.
    if backbone != "laion400m":
        _check_quick_gelu(config, model, architecture, {"quick_gelu": quick}, f"{file.name} ({backbone})")
    if config.force_quick_gelu:
        architecture["quick_gelu"] = True
    preprocess = _preprocess(config, architecture, preprocessing_of(base, backbone))
    return Source(model, architecture, None, f"react:{file_sha256(file)}", preprocess, file)


def _from_name(config: OpenClipConfig) -> tuple[dict[str, Any], Path | None, Mapping[str, Any], str]:
    model = config.model.replace("/", "-")
    if model not in open_clip.list_models():
        raise unknown_name("open_clip model", config.model, open_clip.list_models())
    architecture = dict(open_clip.get_model_config(model))
    tags = open_clip.list_pretrained_tags_by_model(model)
    if config.random:
        if config.pretrained:
            raise UsageError(f"random=true and pretrained={config.pretrained} contradict each other; drop one")
        return architecture, None, {}, f"{model}:random{config.seed}"
    if not config.pretrained:
        shown = f" ({', '.join(tags[:6])}{', ...' if len(tags) > 6 else ''})" if tags else ""
        raise UsageError(f"open_clip:{model} needs weights: pretrained=TAG{shown} or a local file, or random=true")
    tag = open_clip.get_pretrained_cfg(model, config.pretrained)
    if tag:
        _check_quick_gelu(config, model, architecture, tag, config.pretrained)
        return architecture, _download(tag, config), _preprocess_of(tag), f"{model}:{config.pretrained}"
    file = Path(config.pretrained).expanduser()
    if not file.is_file():
        base = model.removesuffix(_QUICKGELU)
        if open_clip.get_pretrained_cfg(base, config.pretrained):
            raise UsageError(f"pretrained={config.pretrained} was not trained with QuickGELU; use model={base}")
        if file.suffix in _WEIGHT_SUFFIXES or len(file.parts) > 1:
            raise DataError(f"weights file {file} does not exist")
        raise unknown_name(f"pretrained tag of {model} (and no such file)", config.pretrained, tags)
    return architecture, file, _describe_file(config, model, architecture), f"{model}:{file.stem}"


def _describe_file(config: OpenClipConfig, model: str, architecture: Mapping[str, Any]) -> Mapping[str, Any]:
    """Preprocessing of a local file: its origin's, else what all tags of the model agree on."""
    base = model.removesuffix(_QUICKGELU)
    tags = open_clip.list_pretrained_tags_by_model(base) or open_clip.list_pretrained_tags_by_model(model)
    if config.origin:
        tag = open_clip.get_pretrained_cfg(base, config.origin) or open_clip.get_pretrained_cfg(model, config.origin)
        if not tag:
            raise unknown_name(f"origin (a pretrained tag of {base})", config.origin, tags)
        _check_quick_gelu(config, model, architecture, tag, f"a file with origin={config.origin}")
        return _preprocess_of(tag)
    known = [
        _preprocess_of(open_clip.get_pretrained_cfg(base, tag) or open_clip.get_pretrained_cfg(model, tag))
        for tag in tags
    ]
    if all(entry == known[0] for entry in known):
        return known[0] if known else {}
    if config.image_mean and config.image_std and config.image_resize_mode:
        return {}
    raise UsageError(
        f"weights of {base} exist with different preprocessing, and {Path(config.pretrained).name} does not say which; "
        f"add origin=TAG (one of {', '.join(tags[:6])} ...) or image_mean, image_std and image_resize_mode"
    )


def _check_quick_gelu(
    config: OpenClipConfig, model: str, architecture: Mapping[str, Any], tag: Mapping[str, Any], what: str
) -> None:
    """A few architectures (roberta-*) are QuickGELU by themselves and their tags do not repeat it: those pass."""
    trained = bool(tag.get("quick_gelu", False))
    built_in = bool(architecture.get("quick_gelu", False))
    if trained and not (built_in or config.force_quick_gelu):
        quick = f"{model}{_QUICKGELU}"
        names = (
            f"model={quick} or force_quick_gelu=true" if quick in open_clip.list_models() else "force_quick_gelu=true"
        )
        raise UsageError(f"{what} was trained with QuickGELU, {model} computes GELU: wrong embeddings; use {names}")
    if config.force_quick_gelu and not built_in and not trained:
        raise UsageError(f"{what} was not trained with QuickGELU; drop force_quick_gelu")


def _preprocessing(config: OpenClipConfig, declared: Mapping[str, Any]) -> dict[str, Any]:
    """The declared preprocessing; an override may repeat it or fill a gap, never contradict it."""
    chosen = dict(declared)
    overrides = {
        "mean": tuple(config.image_mean) if config.image_mean else None,
        "std": tuple(config.image_std) if config.image_std else None,
        "interpolation": config.image_interpolation,
        "resize_mode": config.image_resize_mode,
    }
    for key, value in overrides.items():
        if value is None:
            continue
        if key in declared and declared[key] != value:
            raise UsageError(
                f"image_{key}={value} contradicts the weights, which were trained with {declared[key]}; drop it"
            )
        chosen[key] = value
    return chosen


def _preprocess_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    fields = {key: entry[key] for key in asdict(PreprocessCfg()) if key in entry}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}


def _download(tag: Mapping[str, Any], config: OpenClipConfig) -> Path:
    try:
        return Path(open_clip.download_pretrained(dict(tag)))
    except Exception as error:
        raise _unreachable(f"weights '{config.pretrained}' of open_clip:{config.model}", error) from error


def _unreachable(what: str, error: Exception) -> TriremeError:
    detail = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
    return TriremeError(
        f"cannot download {what} ({detail}); check the network, or give a local file with pretrained=/path/to/weights"
    )


def _from_folder(config: OpenClipConfig) -> tuple[dict[str, Any], Path | None, Mapping[str, Any], str]:
    """`hf-hub:` and `local-dir:` models bring their own configuration, which says how to preprocess."""
    if config.pretrained:
        raise UsageError(f"model={config.model} brings its own weights; drop pretrained={config.pretrained}")
    if config.model.startswith(_HUB):
        repository = label = config.model.removeprefix(_HUB)
        try:
            description = Path(
                open_clip.factory.download_pretrained_from_hf(repository, filename="open_clip_config.json")
            )
            checkpoint = Path(open_clip.factory.download_pretrained_from_hf(repository))
        except Exception as error:
            raise _unreachable(f"the open_clip model {repository}", error) from error
    else:
        folder = Path(config.model.removeprefix(_LOCAL)).expanduser()
        label, description = folder.name, folder / "open_clip_config.json"
        if not description.is_file():
            raise DataError(f"{description} does not exist; local-dir: needs it beside the weights")
        files = sorted(path for path in folder.iterdir() if path.suffix in _WEIGHT_SUFFIXES)
        if len(files) != 1:
            raise DataError(f"{folder} holds {len(files)} weights files; keep exactly one")
        checkpoint = files[0]
    try:
        content = json.loads(description.read_text(encoding="utf-8"))
        return dict(content["model_cfg"]), checkpoint, _preprocess_of(content.get("preprocess_cfg", {})), label
    except (ValueError, KeyError) as error:
        raise DataError(f"{description} is not an open_clip configuration ({error!r})") from error
