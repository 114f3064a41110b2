"""The default world: emoji drawn by nine artists, one class per emoji. No torch here."""

from trireme.benchmarks.world.prepare import prepare as prepare_world
from trireme.benchmarks.world.prepare import status
from trireme.benchmarks.world.sets import open_benchmark, open_pairs

__all__ = ["open_benchmark", "open_pairs", "prepare_world", "status"]
