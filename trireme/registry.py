"""Names of methods, benchmarks, pair sets, encoders and rankers, and where each lives.

A registry holds "module:attribute" strings, so listing it imports nothing heavy. Other distributions add names by entry
points (`trireme.plugins`); a name that two parties claim is an error, never a silent replacement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from trireme.errors import BrokenRuleError, TriremeError, UsageError, unknown_name
from trireme.plugins import Plugin, code_of, entries, fault, plugin_of

if TYPE_CHECKING:
    from trireme.types import Benchmark, PairSet

_WORLD = "trireme.benchmarks.world"
_CUSTOM = "trireme.benchmarks.custom"
_OWN = ("folder:", "csv:", "parquet:", "webdataset:", "hf:")
_OWN_BOXES = ("coco:", "lvis:")
_GROUPS = ("activities", "animals", "faces", "food", "objects", "people", "symbols", "travel")
_WORLD_BENCHMARKS = ("all", *_GROUPS, "validation", "tiny", "tiny-validation")
_DATASETS = "trireme.benchmarks.datasets"
_COOP = (
    "aircraft",
    "caltech101",
    "cars",
    "dtd",
    "eurosat",
    "flowers102",
    "food101",
    "imagenet",
    "pets",
    "sun397",
    "ucf101",
)
_ELEVATER = (
    "aircraft",
    "caltech101",
    "cars",
    "cifar10",
    "cifar100",
    "country211",
    "dtd",
    "eurosat",
    "fer2013",
    "flowers102",
    "food101",
    "gtsrb",
    "hateful-memes",
    "kitti-distance",
    "mnist",
    "patch-camelyon",
    "pets",
    "rendered-sst2",
    "resisc45",
    "voc2007",
)
_FINE_GRAINED = ("aircraft", "cars", "cub", "dogs", "flowers102", "food101", "imagenet", "pets", "places365")
_PUBLISHED = (*_FINE_GRAINED, *(f"coop/{name}" for name in _COOP), "rafdb")
_OVEN = ("oven/entity", "oven/query")
_DISCOVERY = tuple(f"discovery/{name}" for name in ("cars", "cub", "dogs", "flowers102", "pets", "world"))
_DETECTION = "trireme.benchmarks.detection"
_DETECTION_SETS = ("coco", "lvis", "v3det")
_WORLD_DETECTION = ("detection", "detection-proposals", "detection-validation")
_IMAGE_TEXT = "trireme.benchmarks.image_text"
_IMAGE_TEXT_SETS = ("coco-captions", "flickr30k")
_IMAGE_TEXT_FOLDS = ("coco-captions-1k",)
_WORLD_RETRIEVAL = ("retrieval", "retrieval-validation", "tiny-retrieval", "tiny-retrieval-validation")
_MOCKS = "trireme.conformance.mocks"
_MOCK_BENCHMARKS = ("zero-shot", "few-shot", "detection", "retrieval", "validation", "retrieval-validation")
_MOCK_PAIRS = ("zero-shot", "few-shot", "detection", "retrieval", "train")
_WORLD_PAIRS = ("memory", "train", "train-common", "train-fresh", "tiny-memory", "tiny-train")


@dataclass(frozen=True)
class Registry:
    """The names of one kind of component.

    Attributes:
        kind: what an entry is, singular, as error messages say it.
        group: entry-point group where other distributions add names.
        builtin: name -> "module:attribute".
        prefixes: "folder:" and the like -> target that opens any name which starts so.
    """

    kind: str
    group: str
    builtin: Mapping[str, str]
    prefixes: Mapping[str, str] = field(default_factory=dict)

    def targets(self) -> dict[str, str]:
        """Every name with its target, built-in ones first.

        Raises:
            UsageError: two parties claim one name.
        """
        found = dict(self.builtin)
        owners = dict.fromkeys(found, "trireme itself")
        for entry in entries(self.group):
            owner = plugin_of(entry).package
            if entry.name in found or any(entry.name.startswith(prefix) for prefix in self.prefixes):
                first = owners.get(entry.name, "trireme itself")
                raise UsageError(
                    f"{self.kind} '{entry.name}' is registered by {first} and by {owner}; rename or uninstall one"
                )
            found[entry.name], owners[entry.name] = entry.value, owner
        return found

    def names(self) -> list[str]:
        """Every registered name, sorted; nothing is imported."""
        return sorted(self.targets())

    def __contains__(self, name: str) -> bool:
        return self._prefix(name) is not None or name in self.targets()

    def _prefix(self, name: str) -> str | None:
        return next((p for p in self.prefixes if name.startswith(p) and len(name) > len(p)), None)

    def target(self, name: str) -> str:
        """The "module:attribute" behind a name.

        Raises:
            UsageError: nobody registered it; the message names the nearest one.
        """
        prefix = self._prefix(name)
        if prefix is not None:
            return self.prefixes[prefix]
        targets = self.targets()
        if name not in targets:
            raise unknown_name(self.kind, name, [*targets, *(f"{p}PATH" for p in self.prefixes)])
        return targets[name]

    def plugin(self, name: str) -> Plugin | None:
        """The distribution that brings a name; None for what is Trireme's own, and for a name that nobody registered.

        Nothing is imported.
        """
        if self._prefix(name) is not None:
            return None
        return next((plugin_of(entry) for entry in entries(self.group) if entry.name == name), None)

    def code(self, name: str) -> str:
        """Hash of the code of a plugin that is installed editable, "" for any other name; nothing is imported."""
        if self._prefix(name) is not None:
            return ""
        return next((code_of(entry) for entry in entries(self.group) if entry.name == name), "")

    def fault(self, name: str) -> BrokenRuleError | None:
        """Why what a plugin registered under this name cannot be used, as far as that shows without importing it."""
        entry = next((one for one in entries(self.group) if one.name == name), None)
        found = None if entry is None or self._prefix(name) is not None else fault(entry)
        return None if entry is None or found is None else self._broken(name, plugin_of(entry), *found)

    def _broken(self, name: str, plugin: Plugin, rule: str, what: str) -> BrokenRuleError:
        return BrokenRuleError.by(f"{self.kind} '{name}' of {plugin}", rule, what)

    def load(self, name: str) -> Any:
        """Import the object behind a name.

        Raises:
            UsageError: unknown name.
            TriremeError: its module or attribute cannot be imported.
            BrokenRuleError: a plugin wants another version of Trireme, or raises whatever it may when it is imported.
        """
        target, plugin = self.target(name), self.plugin(name)
        if known := self.fault(name):
            raise known
        if plugin is None:
            try:
                return imported(target)
            except (ImportError, AttributeError) as error:
                raise TriremeError(f"{self.kind} '{name}' cannot be imported from {target}: {error}") from error
        try:
            return imported(target)
        except (Exception, SystemExit) as error:
            what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")
            advice = f"repair it, or `pip uninstall {plugin.package}`"
            raise self._broken(name, plugin, "import", f"{target} raises {what}; {advice}") from error


def imported(target: str) -> Any:
    """The object behind "module:attribute"."""
    module, _, attribute = target.partition(":")
    found: Any = import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


METHODS = Registry(
    "method",
    "trireme.methods",
    {
        "zero_shot": "trireme.methods.zero_shot.method:ZeroShot",
        "knn": "trireme.methods.knn.method:Knn",
        "reco": "trireme.methods.reco.method:Reco",
        "react": "trireme.methods.react.method:React",
        "rar": "trireme.methods.rar.method:Rar",
        "cascade": "trireme.methods.cascade.method:Cascade",
    },
)

BENCHMARKS = Registry(
    "benchmark",
    "trireme.benchmarks",
    {
        **{f"world/{name}": f"{_WORLD}:open_benchmark" for name in _WORLD_BENCHMARKS},
        **dict.fromkeys(_PUBLISHED, f"{_DATASETS}:open_benchmark"),
        **{f"elevater/{name}": f"{_DATASETS}.elevater:open_benchmark" for name in _ELEVATER},
        **dict.fromkeys(_OVEN, f"{_DATASETS}.oven:open_benchmark"),
        **dict.fromkeys(_DISCOVERY, "trireme.benchmarks.discovery:open_benchmark"),
        **dict.fromkeys(_DETECTION_SETS, f"{_DETECTION}.sets:open_benchmark"),
        **{f"world/{name}": f"{_DETECTION}.world:open_benchmark" for name in _WORLD_DETECTION},
        **dict.fromkeys((*_IMAGE_TEXT_SETS, *_IMAGE_TEXT_FOLDS), f"{_IMAGE_TEXT}.sets:open_benchmark"),
        **{f"world/{name}": f"{_IMAGE_TEXT}.world:open_benchmark" for name in _WORLD_RETRIEVAL},
        **{f"mock/{name}": f"{_MOCKS}:open_benchmark" for name in _MOCK_BENCHMARKS},
    },
    {
        **dict.fromkeys(_OWN, f"{_CUSTOM}:open_benchmark"),
        **dict.fromkeys(_OWN_BOXES, f"{_CUSTOM}.annotated:open_benchmark"),
    },
)

PAIR_SETS = Registry(
    "pair set",
    "trireme.pairs",
    {
        **{f"world/{name}": f"{_WORLD}:open_pairs" for name in _WORLD_PAIRS},
        **dict.fromkeys(_PUBLISHED, f"{_DATASETS}:open_pairs"),
        **{f"elevater/{name}": f"{_DATASETS}.elevater:open_pairs" for name in _ELEVATER},
        **dict.fromkeys(_OVEN, f"{_DATASETS}:open_pairs"),
        **dict.fromkeys(_DISCOVERY, "trireme.benchmarks.discovery:open_pairs"),
        **dict.fromkeys(_IMAGE_TEXT_SETS, f"{_IMAGE_TEXT}.sets:open_pairs"),
        **{f"mock/{name}": f"{_MOCKS}:open_pairs" for name in _MOCK_PAIRS},
    },
    {
        **dict.fromkeys(_OWN, f"{_CUSTOM}:open_pairs"),
        **dict.fromkeys(_OWN_BOXES, f"{_CUSTOM}.annotated:open_pairs"),
    },
)

ENCODERS = Registry(
    "encoder",
    "trireme.encoders",
    {
        "lite": "trireme.retrieval.encoders.lite:LiteEncoder",
        "open_clip": "trireme.retrieval.encoders.openclip:OpenClipEncoder",
        "transformers": "trireme.retrieval.encoders.hf:TransformersEncoder",
        "mock": "trireme.conformance.mock_encoder:MockEncoder",
    },
)

RANKERS = Registry(
    "ranker",
    "trireme.rankers",
    {
        "local": "trireme.methods.rankers.local:LocalEngine",
        "transformers": "trireme.methods.rankers.hf:TransformersEngine",
        "vllm": "trireme.methods.rankers.vllm:VllmEngine",
        "vllm-server": "trireme.methods.rankers.server:ServerEngine",
        "mock": "trireme.conformance.mock_ranker:MockRanker",
    },
)

REGISTRIES = (METHODS, BENCHMARKS, PAIR_SETS, ENCODERS, RANKERS)


def open_benchmark(name: str, **options: Any) -> Benchmark:
    """Open a benchmark by its registered name or by `folder:PATH`, `csv:PATH` and the like."""
    benchmark: Benchmark = BENCHMARKS.load(name)(name, **options)
    return benchmark


def open_pairs(name: str, **options: Any) -> PairSet:
    """Open a pair set by its registered name or by `folder:PATH`, `csv:PATH` and the like."""
    pairs: PairSet = PAIR_SETS.load(name)(name, **options)
    return pairs
