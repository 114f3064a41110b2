"""A Python environment of its own that sees what is installed here, this checkout included, and keeps what is added."""

from __future__ import annotations

import sysconfig
import venv
from pathlib import Path

PIP = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_DEPS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
"""pip takes nothing from an index; build tools are borrowed too (0 is how its environment says "no isolation")."""


def borrowing(folder: Path) -> Path:
    """Make it; its Python. `pip` and `trireme` lie beside it."""
    folder = folder.resolve()
    venv.create(folder, with_pip=False)
    programs = folder / "bin"
    [packages] = (folder / "lib").glob("python*/site-packages")
    places = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    lines = [f"import site; site.addsitedir({place!r})" for place in places]
    (packages / "borrowed.pth").write_text("\n".join(lines) + "\n")
    for name in ("pip", "trireme"):
        (programs / name).write_text(f'#!/bin/sh\nexec "{programs / "python"}" -m {name} "$@"\n')
        (programs / name).chmod(0o755)
    return programs / "python"
