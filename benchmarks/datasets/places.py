"""Where published data sets lie: one root, and in it the folders that CoOp and torchvision users already have."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from trireme.benchmarks.datasets.spec import TRAIN, Layout, SetSpec
from trireme.errors import DataError
from trireme.files import home


@dataclass(frozen=True, slots=True)
class State:
    """What of a set is here: "present", "missing" or "wrong", and in one line why."""

    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """A layout that was found, and its folder."""

    layout: Layout
    folder: Path


def data_root() -> Path:
    """The folder of all published data sets: $TRIREME_DATA or `home()/data`."""
    chosen = os.environ.get("TRIREME_DATA")
    return Path(chosen).expanduser().resolve() if chosen else home() / "data"


def locate(spec: SetSpec, root: Path | None = None) -> Place:
    """The first layout of a set that is here with all the files it needs.

    Raises:
        DataError: there is none; the message says what is missing, where it should be, and how to bring it.
    """
    place, state = look(spec, root)
    if place is None:
        raise DataError(
            f"data set '{spec.name}' is {state.state}: {state.reason}; see: trireme data status {spec.name}"
        )
    return place


def look(spec: SetSpec, root: Path | None = None) -> tuple[Place | None, State]:
    """Look for key files only; no file is opened."""
    base = root if root is not None else data_root()
    nearest: tuple[int, str] | None = None
    for layout in spec.layouts:
        for name in layout.folders:
            folder = base / name
            if not folder.is_dir():
                continue
            lacking = [need for need in layout.needs if not (folder / need).exists()]
            if not lacking:
                return Place(layout, folder), State("present")
            more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            if len(lacking) < len(layout.needs) and (nearest is None or len(lacking) < nearest[0]):
                nearest = len(lacking), f"{folder} lacks {lacking[0]}{more}"
    if nearest is not None:
        return None, State("wrong", nearest[1])
    wanted = " or ".join(dict.fromkeys(layout.folders[0] for layout in spec.layouts))
    return None, State("missing", f"there is no {wanted} with its files in {base}")


def examine(spec: SetSpec) -> State:
    """Like `look`, and where the set is here, its annotation files are read and everything is counted."""
    place, state = look(spec)
    if place is None:
        return state
    module, _, attribute = spec.verify.partition(":")
    try:
        getattr(import_module(module), attribute)(spec)
    except DataError as error:
        return State("wrong", str(error))
    lacking = absent(place, TRAIN)
    without = f", without its training pictures: {lacking[0]} is missing" if lacking else ""
    return State("present", f"{place.folder}{without}")


def absent(place: Place, split: str) -> list[str]:
    """What a split needs beyond the layout's `needs` and is not there."""
    return [need for need in place.layout.train if not (place.folder / need).exists()] if split == TRAIN else []


def described(spec: SetSpec) -> list[str]:
    """What a set is and how to bring it, as lines to print."""
    base = data_root()
    found = [
        f"  {spec.title}",
        f"  page        {spec.page}",
        f"  licence     {spec.licence}",
        f"  bring       {spec.bring}",
    ]
    found += [f"  extract     {archive} in {base / below}" for archive, below in spec.archives.items()]
    for layout in spec.layouts:
        title = f" ({layout.title})" if layout.title else ""
        found.append(f"  layout      {' or '.join(str(base / folder) for folder in layout.folders)}{title} with")
        found += [f"                {need}" for need in layout.needs]
        found += [f"                {need} (for its training pictures)" for need in layout.train]
    counts = {**({"classes": spec.classes} if spec.classes.number else {}), **spec.counts}
    for what, count in counts.items():
        told = f"verified: {count.source}" if count.verified else "not verified; the set's own files are believed"
        found.append(f"  {what:11} {count.number or 'as many as its files list'} ({told})")
    return found
