"""Other distributions, as pip leaves them: metadata and a module in one folder that is put on the path."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path


def install_plugin(
    folder: Path, name: str, entry_points: str, module: str = "", version: str = "1.0", requires: str = ""
) -> None:
    """A distribution `name` with a module of this name."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    wanted = f"Requires-Dist: {requires}\n" if requires else ""
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{wanted}")
    (info / "entry_points.txt").write_text(textwrap.dedent(entry_points))
    (folder / f"{name}.py").write_text(textwrap.dedent(module))


def trireme(arguments: list[str], plugins: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """`trireme` in a process that sees the plugins of a folder, and works there."""
    path = os.pathsep.join(filter(None, (str(plugins), os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    command = [sys.executable, "-m", "trireme", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=plugins, env=environment)
