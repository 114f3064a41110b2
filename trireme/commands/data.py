"""`trireme data`: what of a data set is on this machine, and bringing the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trireme.errors import DataError, UsageError, unknown_name

SETS = ("world",)


def status(name: str = "") -> int:
    """Print one line per part of the world and per published set, or all about one set.

    Returns:
        1 where a part of the world is missing or wrong, or where the set asked for is.
    """
    if name not in ("", *SETS):
        return _published(name)
    from trireme.benchmarks.world.prepare import status as world_status

    rows = world_status()
    lines = [(row["set"], row["state"], f"run: {row['next']}" if row["next"] else "") for row in rows]
    if not name:
        lines += _all_published()
    width = max(len(line[0]) for line in lines)
    for part, state, hint in lines:
        print(f"{part:{width}}  {state:7}  {hint}".rstrip())
    return 0 if all(row["state"] == "present" for row in rows) else 1


def _all_published() -> list[tuple[str, str, str]]:
    from trireme.benchmarks.datasets.catalogue import PUBLISHED
    from trireme.benchmarks.datasets.places import look

    lines = []
    for spec in PUBLISHED.specs().values():
        _, state = look(spec)
        hint = f"{state.reason}; " if state.state == "wrong" else ""
        lines.append((spec.name, state.state, "" if state.state == "present" else f"{hint}{spec.bring} ({spec.page})"))
    return lines


def _published(name: str) -> int:
    """Everything about one set, its counts checked where it is here."""
    from trireme.benchmarks.datasets.catalogue import PUBLISHED
    from trireme.benchmarks.datasets.places import described, examine

    if name not in PUBLISHED.specs():
        raise unknown_name("data set", name, (*SETS, *PUBLISHED.specs()))
    spec = PUBLISHED[name]
    found = examine(spec)
    print(f"{spec.name}  {found.state}" + (f": {found.reason}" if found.reason else ""))
    for line in described(spec):
        print(line)
    return 0 if found.state == "present" else 1


def prepare(name: str, arguments: Sequence[str] = (), verify: bool = False) -> int:
    """Make a data set complete. Published sets are not downloaded, their archives are extracted.

    Args:
        arguments: for a published set "from=FILE,...": its official archives.
        verify: for the world, see `trireme.benchmarks.world.prepare.prepare`.

    Raises:
        DataError: a published set that is not here after that; the message says how to bring it.
        UsageError: an argument that the set does not take.
    """
    archives = _archives(name, arguments)
    if name in SETS:
        from trireme.benchmarks.world.prepare import prepare as prepare_world

        prepare_world(verify)
        return 0
    if archives:
        from trireme.benchmarks.datasets.archives import extract
        from trireme.benchmarks.datasets.catalogue import PUBLISHED
        from trireme.benchmarks.datasets.places import data_root

        known = PUBLISHED[name].archives
        for archive in archives:
            if archive.name not in known:
                raise unknown_name(f"archive of {name}", archive.name, known)
        for archive in archives:
            extract(archive, data_root() / known[archive.name])
    if _published(name):
        raise DataError(f"data set '{name}' is not complete, and Trireme downloads no published set; bring it as above")
    return 0


def _archives(name: str, arguments: Sequence[str]) -> list[Path]:
    found = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key != "from" or not equals or not value or name in SETS:
            raise UsageError(
                f"'{argument}' means nothing here; a published set takes from=FILE,... and the world nothing"
            )
        found += [Path(part).expanduser() for part in value.split(",") if part]
    return found
