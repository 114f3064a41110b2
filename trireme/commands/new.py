"""`trireme new`: a plugin that works, from the templates of `trireme.scaffold`."""

from __future__ import annotations

import keyword
import re
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from trireme import __version__, config
from trireme.errors import UsageError, unknown_name
from trireme.files import atomic_folder

KINDS = ("method", "benchmark", "encoder", "ranker")
_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
_LONGEST = 40


def new(kind: str, name: str, into: str) -> int:
    """Write the package NAME below a folder and say what comes next.

    Raises:
        UsageError: an unknown kind, a name that cannot be one or is taken, a folder that is there.
    """
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    module = module_of(name)
    if name in config.names(kind):
        raise UsageError(f"there is a {kind} '{name}' already (`trireme show {name}`); choose another name")
    if find_spec(module) is not None:
        raise UsageError(f"a Python module '{module}' is installed already; choose another name, or uninstall it")
    parent, folder = Path(into).expanduser(), Path(into).expanduser() / name
    if not parent.is_dir():
        raise UsageError(f"there is no folder {parent}; make it first")
    if folder.exists():
        raise UsageError(f"{folder} is there already; choose another name, or another place with --into")
    with atomic_folder(folder) as part:
        for path, text in rendered(kind, name).items():
            target = part / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    print(
        f"{folder} is written. Next:\n"
        f"  pip install -e {folder}\n"
        f"  trireme check {kind} {name}\n"
        f"  {_RUN[kind].format(name=name)}"
    )
    return 0


_RUN = {
    "method": "trireme run method={name} suite=world/smoke",
    "benchmark": "trireme run method=zero_shot benchmark={name}",
    "encoder": "trireme run method=zero_shot benchmark=world/tiny encoder={name}",
    "ranker": "trireme run method=rar-lite benchmark=world/tiny method.rar-lite.ranker={name}",
}


def module_of(name: str) -> str:
    """The module of a plugin: `trireme_` and its name.

    Raises:
        UsageError: the name cannot be part of one.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise UsageError(
            f"'{name}' cannot be a name: up to {_LONGEST} small letters and digits that begin with a letter, in parts "
            "joined by - or _, such as nearest-mean"
        )
    if keyword.iskeyword(name) or name in sys.stdlib_module_names:
        raise UsageError(f"'{name}' is a word of Python; choose another name")
    return f"trireme_{name.replace('-', '_')}"


def rendered(kind: str, name: str) -> dict[str, str]:
    """{path below the package's folder: text} of the templates with everything filled in."""
    module = module_of(name)
    filled = {
        "name": name,
        "module": module,
        "package": module.replace("_", "-"),
        "class": (made := "".join(part.capitalize() for part in re.split(r"[-_]", name))),
        "object": "open_benchmark" if kind == "benchmark" else made,
        "kind": kind,
        "KIND": kind.upper(),
        "group": f"trireme.{kind}s",
        "trireme": ".".join(__version__.split(".")[:2]),
        "run": _RUN[kind].format(name=name),
    }
    found = {}
    for folder in ("common", kind):
        for template in sorted(files("trireme.scaffold").joinpath(folder).iterdir(), key=lambda one: one.name):
            path = template.name.removesuffix(".txt").replace("+", "/").replace("MODULE", module)
            text = template.read_text(encoding="utf-8")
            for key, value in filled.items():
                text = text.replace(f"{{{{{key}}}}}", value)
            found[path] = text
    return found
