"""YAML configs, found by name: the package's own folder, those of plugins, $TRIREME_CONFIGS, `configs/` where we are.

Kinds: benchmark, encoder, memory, method, ranker, suite. A file `configs/method/reco/mean.yaml` is the method
`reco/mean`. A benchmark, a method, an encoder or a ranker that is registered but has no file is found too, with its
default configuration. Nothing heavy is imported here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from trireme.errors import UsageError, unknown_name
from trireme.plugins import config_folders
from trireme.registry import BENCHMARKS, ENCODERS, METHODS, PAIR_SETS, RANKERS

KINDS = ("benchmark", "encoder", "memory", "method", "ranker", "suite")
FOREIGN = "faiss:"
"""Prefix of a memory that is a FAISS index written elsewhere, with its list of labels."""
BUILT = "built:"
"""Prefix of a memory that `trireme memory build` made, here or on another machine."""
_PLACES = {
    FOREIGN: "a FAISS index written elsewhere; memory.labels=FILE names its rows",
    BUILT: "the folder of a memory built before",
}
_DRAWN = re.compile(r"(.+)@([0-9]{1,9})")
"""`NAME@N`: N pictures a class of the memory NAME, drawn with the run's seed."""

_REGISTRIES = {"benchmark": BENCHMARKS, "method": METHODS, "encoder": ENCODERS, "ranker": RANKERS}


@dataclass(frozen=True, slots=True)
class Named:
    """A named config before its schema is known.

    Attributes:
        target: registry name of what it configures, the pair set (memories), "" (suites).
        fields: its own settings, less `description` and the target.
        path: the file, None where a registered name or a pair set stands for itself.
        shots: of a memory `NAME@N`, how many pairs a class are drawn; 0 for all pairs.
    """

    kind: str
    name: str
    target: str
    description: str
    fields: Mapping[str, Any]
    path: Path | None
    shots: int = 0


def builtin_folder() -> Path:
    """The package's own configs."""
    import trireme.configs

    return Path(trireme.configs.__path__[0]).resolve()


def user_folders() -> list[Path]:
    """Folders whose files add names: $TRIREME_CONFIGS (several by the system's path separator), then ./configs.

    A `configs` folder that is a Python package is a checkout of Trireme, not a user's folder; it is left out.
    """
    chosen = [Path(part).expanduser() for part in os.environ.get("TRIREME_CONFIGS", "").split(os.pathsep) if part]
    for folder in chosen:
        if not folder.is_dir():
            raise UsageError(f"$TRIREME_CONFIGS names {folder}, which is not a folder")
    working = Path("configs")
    if working.is_dir() and not (working / "__init__.py").exists():
        chosen.append(working)
    return list(dict.fromkeys(folder.resolve() for folder in chosen))


def config_files(kind: str) -> dict[str, Path]:
    """Name -> file, for every config of a kind.

    Raises:
        UsageError: two files give one name.
    """
    found: dict[str, Path] = {}
    for folder in (builtin_folder(), *config_folders(), *user_folders()):
        root = folder / kind
        for path in sorted(root.rglob("*.yaml")):
            name = path.relative_to(root).with_suffix("").as_posix()
            if name in found:
                raise UsageError(f"{kind} config '{name}' exists twice, {found[name]} and {path}; rename one")
            found[name] = path
    return found


def names(kind: str) -> list[str]:
    """Every name that `trireme run` takes for a kind, sorted."""
    registered = _REGISTRIES[kind].names() if kind in _REGISTRIES else []
    return sorted({*config_files(kind), *registered})


@cache
def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if value is None:
        value = {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise UsageError(f"{path} must hold `key: value` lines")
    return value


def find(kind: str, name: str) -> Named:
    """Look a name up.

    Raises:
        UsageError: unknown, with the nearest name; or a file that lacks what its kind needs.
    """
    files = config_files(kind)
    if name in files:
        return _from_file(kind, name, files[name])
    if kind == "memory" and (drawn := _DRAWN.fullmatch(name)) and not _is_there(name):
        return _drawn(name, drawn[1], int(drawn[2]))
    if kind in _REGISTRIES and name in _REGISTRIES[kind]:
        own = _REGISTRIES[kind].plugin(name) is None
        told = "default configuration" if kind != "benchmark" else "" if own else "by another distribution"
        return Named(kind, name, name, told, {}, None)
    if kind == "memory" and name in PAIR_SETS:
        return Named(kind, name, name, "the pair set of this name", {}, None)
    if kind == "memory" and name.startswith(tuple(_PLACES)) and not name.endswith(":"):
        return Named(kind, name, "", _PLACES[name[: name.index(":") + 1]], {}, None)
    raise unknown_name(kind, name, _known(kind))


def _known(kind: str) -> set[str]:
    known = set(names(kind))
    if kind == "benchmark":
        known |= {f"{prefix}PATH" for prefix in BENCHMARKS.prefixes}
    if kind == "memory":
        known |= {*PAIR_SETS.names(), *(f"{prefix}PATH" for prefix in (*PAIR_SETS.prefixes, *_PLACES))}
    return known


def _is_there(name: str) -> bool:
    """Whether a pair set or a path has exactly this name, so that an `@` in it means nothing."""
    if name in PAIR_SETS.targets():
        return True
    _, colon, path = name.partition(":")
    try:
        return bool(colon) and Path(path).expanduser().exists()
    except (OSError, RuntimeError):  # too long for a path; no such user
        return False


def _drawn(name: str, base: str, shots: int) -> Named:
    """The memory `base@shots`."""
    if shots < 1:
        raise UsageError(f"memory '{name}' draws no picture; N of NAME@N is from 1")
    if base.startswith(tuple(_PLACES)):
        raise UsageError(
            f"memory '{name}': {base.partition(':')[0]}: memories are used as they are, nothing is drawn from them; "
            "name the pair set that it was built from, such as memory=world@4"
        )
    try:
        found = find("memory", base)
    except UsageError:
        if base in config_files("memory") or base in PAIR_SETS:
            raise  # its file is wrong, not its name
        raise unknown_name("memory", name, {f"{known}@{shots}" for known in _known("memory")}) from None
    if found.shots:
        raise UsageError(f"memory '{name}' draws twice; write one @N")
    return replace(found, name=name, description=f"{shots} pictures a class of {base}", shots=shots)


def _from_file(kind: str, name: str, path: Path) -> Named:
    fields = dict(_read(path))
    description = str(fields.pop("description", ""))
    if kind == "suite":
        return Named(kind, name, "", description, fields, path)
    key = "pairs" if kind == "memory" else kind
    target = fields.pop(key, None)
    if not isinstance(target, str):
        raise UsageError(f"{path} needs a line `{key}: NAME`")
    registry = PAIR_SETS if kind == "memory" else _REGISTRIES[kind]
    try:
        registry.target(target)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return Named(kind, name, target, description, fields, path)
