"""`python -m tests.reference FOLDER`: the reference of every module, by pdoc, from docstrings and types."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("trireme", "retrieval", "methods", "benchmarks", "results")
_HARMLESS = r"Error parsing type annotation .*\.__init__\. Import of |.* has already been added\."
"""pdoc reads the annotations of an `__init__` that dataclasses and named tuples make in the module of a subclass, or in
none: the type is shown without a link. And it finds most modules twice, by their package and by their own name."""


def modules() -> Iterator[str]:
    """Import names of all modules. pdoc by itself finds neither the folders beside trireme/, which an editable install
    does not list below it, nor what lies in a package whose `__all__` does not name it."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[-1] != "__main__":
                yield ".".join(parts if folder == "trireme" else ("trireme", *parts)).removesuffix(".__init__")


def build(chosen: Sequence[str], folder: Path) -> list[str]:
    """Write the pages of some modules; what pdoc warns of, `_HARMLESS` lines apart."""
    import pdoc
    from pdoc import render

    render.configure(docformat="google", footer_text="Trireme")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pdoc.pdoc(*chosen, output_directory=folder)
    (folder / "index.html").write_text(_index(chosen), encoding="utf-8")
    told = (str(one.message) for one in caught if "pdoc" in Path(one.filename).parts)
    return [line for line in told if not re.match(_HARMLESS, line)]


def _index(chosen: Sequence[str]) -> str:
    """A front page with a link to every module; pdoc's own leads to `trireme` alone, which does not list the others."""
    links = "".join(f'<li><a href="{name.replace(".", "/")}.html">{name}</a></li>' for name in sorted(chosen))
    style = "body { font-family: sans-serif; max-width: 60em; margin: 2em auto } ul { columns: 2; list-style: none }"
    head = f"<meta charset='utf-8'><title>Trireme: reference</title><style>{style}</style>"
    body = f"<h1>Trireme: reference</h1><ul>{links}</ul>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{body}</body></html>\n"


if __name__ == "__main__":
    place = Path(sys.argv[1])
    faults = build(list(modules()), place)
    print("\n".join([*faults, f"wrote {place / 'index.html'}"]))
    sys.exit(1 if faults else 0)
