"""`trireme data`: what of a data set is on this machine, and bringing the rest."""

from __future__ import annotations

from trireme.errors import unknown_name

SETS = ("world",)


def status() -> int:
    """Print one line per part; 1 where something is missing or wrong."""
    from trireme.benchmarks.world.prepare import status as world_status

    rows = world_status()
    width = max(len(row["set"]) for row in rows)
    for row in rows:
        hint = f"  run: {row['next']}" if row["next"] else ""
        print(f"{row['set']:{width}}  {row['state']}{hint}")
    return 0 if all(row["state"] == "present" for row in rows) else 1


def prepare(name: str, verify: bool = False) -> int:
    """Make a data set complete."""
    if name not in SETS:
        raise unknown_name("data set", name, SETS)
    from trireme.benchmarks.world.prepare import prepare as prepare_world

    prepare_world(verify)
    return 0
