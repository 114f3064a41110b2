"""All published data sets by name. Modules that add sets stand in `MODULES`; listing them reads no file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from trireme.benchmarks.datasets.spec import SetSpec
from trireme.errors import DataError, unknown_name

MODULES = (
    "trireme.benchmarks.datasets.fine_grained",
    "trireme.benchmarks.datasets.coop",
    "trireme.benchmarks.datasets.rafdb",
    "trireme.benchmarks.datasets.elevater",
    "trireme.benchmarks.datasets.oven",
    "trireme.benchmarks.detection.sets",
    "trireme.benchmarks.image_text.sets",
)
"""Each has `SPECS`, a tuple of `SetSpec`, and imports nothing heavy."""


class Catalogue:
    """Specs by name."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self._modules = modules
        self._specs: dict[str, SetSpec] = {}

    def specs(self) -> dict[str, SetSpec]:
        """Every spec, sorted by name.

        Raises:
            DataError: two modules describe one name.
        """
        if not self._specs:
            found: dict[str, SetSpec] = {}
            for module in self._modules:
                for spec in import_module(module).SPECS:
                    if spec.name in found:
                        raise DataError(f"data set '{spec.name}' is described twice, the second time in {module}")
                    found[spec.name] = spec
            self._specs = dict(sorted(found.items()))
        return self._specs

    def __getitem__(self, name: str) -> SetSpec:
        specs = self.specs()
        if name not in specs:
            raise unknown_name("data set", name, specs)
        return specs[name]

    @contextmanager
    def replaced(self, *specs: SetSpec) -> Iterator[None]:
        """Let other specs of known names stand for a while: a part of a set with the counts that it has."""
        before = self.specs()
        self._specs = {**before, **{self[spec.name].name: spec for spec in specs}}
        try:
            yield
        finally:
            self._specs = before


PUBLISHED = Catalogue(MODULES)
