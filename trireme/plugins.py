"""What other distributions add to Trireme by entry points: found, and judged as far as possible, without importing it.

[project.entry-points."trireme.methods"]      a method class; likewise benchmarks, pairs, encoders, rankers
mine = "mine.method:Mine"

[project.entry-points."trireme.configs"]      a folder of the package with method/, suite/ ... and YAML files in them
mine = "mine.configs"
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from trireme import __version__
from trireme.files import fingerprint, sha256_file
from trireme.progress import say

CONFIGS = "trireme.configs"
"""Entry-point group of folders with YAML configs."""
_SELF = "trireme-bench"


@dataclass(frozen=True, slots=True)
class Plugin:
    """A distribution that registers something: its name and version, as pip knows them."""

    package: str
    version: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


@cache
def entries(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group, sorted."""
    return tuple(sorted(entry_points(group=group), key=lambda entry: (entry.name, entry.value)))


def plugin_of(entry: EntryPoint) -> Plugin:
    """Who registered it."""
    if entry.dist is None:
        return Plugin(entry.value, "of unknown version")
    return Plugin(entry.dist.name, entry.dist.version)


@cache
def code_of(entry: EntryPoint) -> str:
    """Hash of the Python files behind an editable install, which change while its version stays; "" for any other."""
    told = entry.dist.read_text("direct_url.json") if entry.dist is not None else None
    if not told or not json.loads(told).get("dir_info", {}).get("editable"):
        return ""
    top = entry.module.partition(".")[0]
    files = {path.relative_to(place).as_posix(): path for place in _places(top) for path in Path(place).rglob("*.py")}
    spec = find_spec(top)
    if not files and spec is not None and spec.origin:  # one module, no package
        files = {top: Path(spec.origin)}
    return fingerprint({name: sha256_file(path) for name, path in files.items()})


def fault(entry: EntryPoint) -> tuple[str, str] | None:
    """The rule that it breaks, "import" or "requires", and how; None where nothing is wrong."""
    if entry.pattern.match(entry.value) is None:
        return "import", f"its entry point is '{entry.value}', write module:attribute"
    if wanted := _too_new(entry):
        package = plugin_of(entry).package
        advice = f"upgrade Trireme, or install a version of {package} for this one"
        return "requires", f"it wants {wanted} and this is {__version__}; {advice}"
    try:
        absent = find_spec(entry.module.partition(".")[0]) is None
    except (ImportError, ValueError):
        absent = True
    return ("import", f"there is no module '{entry.module}'; install it again") if absent else None


def _too_new(entry: EntryPoint) -> str:
    """The requirement of its distribution that this version of Trireme does not meet, "" where it meets them all."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    for text in (entry.dist.requires if entry.dist is not None else None) or ():
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            continue
        if canonicalize_name(wanted.name) != _SELF or (wanted.marker is not None and not wanted.marker.evaluate()):
            continue
        if not wanted.specifier.contains(__version__, prereleases=True):
            return f"{wanted.name}{wanted.specifier}"
    return ""


@cache
def config_folders() -> Mapping[Path, Plugin]:
    """The folders of YAML configs that plugins bring. One that is not there is named and left out."""
    found: dict[Path, Plugin] = {}
    for entry in entries(CONFIGS):
        top, _, inner = entry.value.partition(".")
        folders = [place for place in (Path(one, *inner.split(".")) for one in _places(top)) if place.is_dir()]
        if folders:
            found[folders[0].resolve()] = plugin_of(entry)
        else:
            which = f"configs '{entry.name}' of {plugin_of(entry)}"
            say(f"warning: left out: {which}: there is no folder {entry.value}; install it again")
    return found


def config_owner(path: Path | None) -> Plugin | None:
    """The distribution that brings a YAML config; None for one of Trireme's own, or of the user."""
    if path is None:
        return None
    return next((plugin for folder, plugin in config_folders().items() if path.is_relative_to(folder)), None)


def _places(package: str) -> Sequence[str]:
    """The folders of a top-level package, without importing it; none where there is no such package."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return ()
    return () if spec is None else list(spec.submodule_search_locations or ())
