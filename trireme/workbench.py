"""What the runs of a comparison share: each benchmark, encoder, store, pair set and memory is opened once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast

from trireme import compose, config
from trireme.benchmarks.few_shot import FewShot, draw_warnings
from trireme.errors import DataError, UsageError
from trireme.files import fingerprint, home
from trireme.memory_config import MemoryConfig
from trireme.methods.rankers.base import Closable, Engine
from trireme.methods.rankers.delegate import InTurn, Turns
from trireme.progress import say
from trireme.readable import Readable, encode_all
from trireme.request import Request, draws
from trireme.retrieval.encoders.base import Encoder, resolve_device
from trireme.retrieval.encoders.customised import customised_record, is_customised
from trireme.retrieval.foreign import ForeignIndex
from trireme.retrieval.index import IndexConfig
from trireme.retrieval.memory import Memory
from trireme.retrieval.memory_build import memory_key
from trireme.retrieval.overlap import NEARLY_EQUAL, among, near_equal, same_pictures
from trireme.retrieval.pictures import file_key, shown
from trireme.retrieval.store import EmbeddingStore
from trireme.types import Benchmark, ImageRef, PairSet, Role, Sample

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EncoderPart:
    """An encoder with its cache."""

    component: compose.Component
    encoder: Encoder
    store: EmbeddingStore


Customiser = Callable[["Workbench", str, str, Mapping[str, Any]], Path]


class Workbench:
    """Opens parts by name, each once, with the settings of one request.

    Args:
        customise: gives the file of an encoder that a method customises: (workbench, name of the encoder config, name
            of its base, `customise:` of the config) -> path.
    """

    def __init__(self, request: Request, customise: Customiser | None = None) -> None:
        self.request, self._customise = request, customise
        self.device = str(resolve_device(request.device or "auto"))
        self._opened: dict[Hashable, Any] = {}
        self._turns = Turns()
        self._forwards = 0

    def close(self) -> None:
        """Let the models of rankers go; one that is asked again loads again."""
        self._turns.close()

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gave the first time."""
        if key not in self._opened:
            self._opened[key] = make()
        found: T = self._opened[key]
        return found

    @property
    def forwards(self) -> int:
        """Pictures and texts that went through a model so far."""
        return self._forwards + sum(
            part.store.forwards for part in self._opened.values() if isinstance(part, EncoderPart)
        )

    def benchmark(self, name: str) -> Benchmark:
        options = self.request.overrides.get(("benchmark", name), {})
        return self.once(("benchmark", name), lambda: compose.benchmark(name, options))

    def pair_set(self, name: str, options: Mapping[str, Any] = MappingProxyType({})) -> PairSet:
        return self.once(("pairs", name, repr(sorted(options.items()))), lambda: compose.pairs(name, options))

    def pair_set_facts(self, name: str) -> dict[str, Any]:
        """What a record says about a pair set: how many pairs come from which source, and its fingerprint."""

        def describe() -> dict[str, Any]:
            pairs = self.pair_set(name)
            sources = Counter(pair.source for pair in pairs.pairs())
            labels = {pair.label for pair in pairs.pairs()} - {""}
            counts = {"pairs": sources.total(), "labels": len(labels), "sources": dict(sorted(sources.items()))}
            return {"name": name, "fingerprint": pairs.fingerprint, **counts}

        return self.once(("pair facts", name), describe)

    def check_training(self, name: str, benchmark: str) -> None:
        """Refuse a training set that holds a picture of the benchmark or of its validation, by its bytes.

        Raises:
            DataError: naming the first one.
        """

        def check() -> None:
            held_out = {file_key(ref) for ref in self._kept_apart(benchmark)}
            shared = [pair.id for pair in self.pair_set(name).pairs() if file_key(pair.image) in held_out]
            if shared:
                raise DataError(
                    f"the training set '{name}' holds {len(shared)} pictures of '{benchmark}' (first: {shared[0]}); "
                    "nothing may be trained on test or validation pictures: take them out, or train on another set"
                )

        self.once(("training checked", name, benchmark), check)

    def encoder(self, name: str) -> EncoderPart:
        def build() -> EncoderPart:
            request = self.request
            overrides = request.overrides.get(("encoder", name), {})
            component, cls = compose.encoder(name, overrides, request.device, request.dtype)
            encoder = cls(self._configured(name, component))
            return EncoderPart(component, encoder, EmbeddingStore(encoder, workers=request.workers))

        return self.once(("encoder", name), build)

    def forget_encoder(self, name: str) -> None:
        """Open it anew the next time, because somebody changed it."""
        part = self._opened.pop(("encoder", name))
        self._forwards += part.store.forwards

    def _configured(self, name: str, component: compose.Component) -> Any:
        """The encoder's configuration, with the file of its customisation where its config declares one."""
        given = component.customise
        if not given:
            return component.config
        if self._customise is None:
            raise UsageError(f"encoder {name} is customised by a method, which this command does not run")
        return replace(component.config, react=str(self._customise(self, name, component.target, given)))

    def check_customised(self, name: str, benchmark: str) -> None:
        """Refuse a customised encoder that was trained on a picture of the benchmark or of its validation.

        Raises:
            DataError: naming the first one.
        """

        def check() -> None:
            file = getattr(getattr(self.encoder(name).encoder, "config", None), "react", "")
            path = Path(file).expanduser()
            if not file or not is_customised(path):
                return
            shared = among(customised_record(path).get("pictures", {}), self._kept_apart(benchmark))
            if shared:
                raise DataError(
                    f"{self.encoder(name).encoder.name} was customised on {len(shared)} pictures of '{benchmark}' "
                    f"(first: {shared[0].path}); customise it on a memory without them"
                )

        self.once(("customised checked", name, benchmark), check)

    def ranker(self, name: str) -> Engine:
        """The ranker of this name; nothing is loaded until it is asked, and then the one asked before lets go."""

        def build() -> Engine:
            overrides = {**self.request.overrides.get(("ranker", ""), {})}
            component, cls = compose.ranker(name, overrides, self.request.device)
            engine: Engine = cls(component.config)
            return cast(Engine, InTurn(engine, self._turns)) if isinstance(engine, Closable) else engine

        return self.once(("ranker", name), build)

    def check_ranker(self, name: str, benchmark: str) -> None:
        """Refuse a ranker that was trained on a picture of the benchmark or of its validation.

        Raises:
            DataError: naming the first one.
        """

        def check() -> None:
            engine = self.ranker(name)
            for told in getattr(engine, "pictures", ()):
                shared = among(told, self._kept_apart(benchmark))
                if shared:
                    raise DataError(
                        f"ranker {engine.name} was trained on {len(shared)} pictures of '{benchmark}' or of its "
                        f"validation (first: {shared[0].path}); train it without them, or ask another one"
                    )

        self.once(("ranker checked", name, benchmark), check)

    def samples(self, benchmark: str, role: Role) -> Sequence[Sample]:
        """The samples of a role by id, so that their order in the benchmark never matters."""

        def sort() -> list[Sample]:
            found = sorted(self.benchmark(benchmark).samples(role), key=lambda sample: sample.id)
            for before, after in pairwise(found):
                if before.id == after.id:
                    raise DataError(f"benchmark '{benchmark}' has two samples with the id '{after.id}'")
            return found

        return self.once(("samples", benchmark, role), sort)

    def readable(self, benchmark: str, role: Role, encoder: str) -> Readable:
        """Encode the pictures of a role; name and count the unreadable ones.

        Raises:
            DataError: no sample, or more than 1 % cannot be read.
        """

        def prepare() -> Readable:
            return encode_all(benchmark, role, self.samples(benchmark, role), self.encoder(encoder).store)

        return self.once(("readable", benchmark, role, encoder), prepare)

    def validation_fingerprint(self, benchmark: str) -> str | None:
        """Fingerprint of the pictures that a method may select on for this benchmark."""
        name = self.benchmark(benchmark).validation
        return None if name is None else self.benchmark(name).fingerprint(Role.VALIDATION)

    def memory_component(self, name: str) -> compose.Component:
        """The memory's settings."""
        overrides = self.request.overrides.get(("memory", name), self.request.overrides.get(("memory", ""), {}))

        def resolve() -> compose.Component:
            found = compose.resolve(config.find("memory", name), MemoryConfig, overrides)
            if found.shots or "draw" not in overrides:
                return found
            if not any(draws(other) for other in self.request.memories):
                raise UsageError(f"memory.draw={overrides['draw']} draws nothing here; name a memory as {name}@4")
            rest = {key: value for key, value in overrides.items() if key != "draw"}  # it means the others
            return compose.resolve(config.find("memory", name), MemoryConfig, rest)

        return self.once(("memory config", name), resolve)

    def memory_pairs(self, name: str, seed: int) -> PairSet:
        """What the memory is built from: a whole pair set, or what `NAME@N` draws from it with this seed."""
        component = self.memory_component(name)
        pairs = self.pair_set(component.target, component.config.pairs_options)
        if not component.shots:
            return pairs
        return self.once(("drawn", name, seed), lambda: FewShot(pairs, component.shots, component.config.draw, seed))

    def memory_fingerprint(self, name: str, encoder: str, benchmark: str | None, seed: int = 0) -> str:
        """The fingerprint that the memory has or would have; nothing is encoded for it."""
        if name.startswith((config.FOREIGN, config.BUILT)):
            return self._given_memory(name, encoder, benchmark).fingerprint
        component, pairs = self.memory_component(name), self.memory_pairs(name, seed)

        def compute() -> str:
            store, against = self.encoder(encoder).store, self.kept_out(name, benchmark)
            key = memory_key(pairs, store, against, component.config.threshold)
            index: IndexConfig = component.config.index
            return key if index.kind == "flat" else fingerprint([key, index.facts()])

        scope = self._scope(name, benchmark)
        return self.once(("memory fingerprint", name, encoder, scope, pairs.fingerprint), compute)

    def memory(self, name: str, encoder: str, benchmark: str | None, seed: int = 0) -> Memory:
        """Build the memory, or open it where it exists.

        Args:
            benchmark: what it will be asked about: pictures of this benchmark are kept out of it, or looked for in it
                where it is given as it is.
            seed: of what `NAME@N` draws.

        Raises:
            DataError: a memory built before holds a picture of the benchmark, by its bytes; or the memory is damaged.
            MemoryMismatchError: it was built by another encoder.
        """
        component = self.memory_component(name)
        if name.startswith((config.FOREIGN, config.BUILT)):
            given = self._given_memory(name, encoder, benchmark)
            if benchmark is not None:
                self.near_equal(name, encoder, benchmark)
            return given
        pairs, scope = self.memory_pairs(name, seed), self._scope(name, benchmark)

        def build() -> Memory:
            return Memory.build(
                pairs,
                self.encoder(encoder).store,
                index=component.config.index,
                near_duplicates_of=self.kept_out(name, benchmark),
                threshold=component.config.threshold,
            )

        memory = self.once(("memory", name, encoder, scope, pairs.fingerprint), build)
        self.once(("draw told", name, scope), lambda: _say_all(draw_warnings(name, memory.manifest)))
        return memory

    def _given_memory(self, name: str, encoder: str, benchmark: str | None) -> Memory:
        """A memory that is not ours to build, after a look for the benchmark's pictures; FAISS files hold no hashes."""
        memory = self.once(("memory", name, encoder), lambda: self._open_memory(name, encoder))

        def check(of: str) -> None:
            shared = same_pictures(memory, self._kept_apart(of))
            if shared:
                pairs = memory.manifest["pairs"]["name"]
                raise DataError(
                    f"memory {name} holds {len(shared)} pictures of '{of}' or of its validation (first: {shared[0]}); "
                    f"use memory={pairs}, which is built without them, or build that folder again with "
                    f"memory.deduplicate_against=[{of}]"
                )

        if benchmark is not None and name.startswith(config.BUILT):
            self.once(("memory checked", name, encoder, benchmark), lambda: check(benchmark))
        return memory

    def near_equal(self, name: str, encoder: str, benchmark: str) -> dict[str, Any] | None:
        """For a memory given as it is: how many test and validation pictures have a picture like themselves in it.

        Returns:
            {"cosine": from which embeddings count as equal, "compared", "found"}; None for a memory built here.
        """
        if not name.startswith((config.FOREIGN, config.BUILT)):
            return None

        def look() -> dict[str, Any]:
            memory = self._given_memory(name, encoder, benchmark)
            if not memory.exact and isinstance(memory, Memory):  # a graph could miss the picture itself
                memory = Memory.open(memory.folder)
            found = near_equal(memory, self.encoder(encoder).store, self._kept_apart(benchmark))
            if found.paths:
                say(
                    f"warning: for {len(found.paths)} of {found.compared} test and validation pictures of "
                    f"'{benchmark}', memory {name} holds a picture of almost the same embedding (cosine of "
                    f"{NEARLY_EQUAL} or more; first: {found.paths[0]}); scores may be too high"
                )
            return {"cosine": NEARLY_EQUAL, "compared": found.compared, "found": len(found.paths)}

        return self.once(("near equal", name, encoder, benchmark), look)

    def _open_memory(self, name: str, encoder: str) -> Memory:
        """An index file with labels, or a folder built before."""
        chosen: MemoryConfig = self.memory_component(name).config
        prefix, _, place = name.partition(":")
        path = Path(place).expanduser()
        if f"{prefix}:" == config.BUILT:
            return Memory.open(path, chosen.index)
        if not chosen.labels:
            raise UsageError(f"memory {name} is a FAISS index; add memory.labels=FILE with a label for every row")
        part = self.encoder(encoder)
        found = ForeignIndex(path, Path(chosen.labels).expanduser(), part.encoder, chosen.label_column)
        return cast(Memory, found)  # it has the image side of a memory, and says so where more is asked of it

    def _scope(self, name: str, benchmark: str | None) -> tuple[str, ...]:
        """The benchmarks whose pictures are kept out of a memory used for `benchmark`.

        A benchmark adds itself only where the memory's own list does not cover its pictures already, so that the parts
        of one benchmark share one memory.
        """
        listed = tuple(self.memory_component(name).config.deduplicate_against)
        if benchmark is None or benchmark in listed:
            return listed

        def widen() -> tuple[str, ...]:
            covered = {file_key(ref) for other in listed for ref in self._pictures(other)}
            asked = [other for other in self._with_validation(benchmark) if other not in listed]
            return (*listed, *(o for o in asked if any(file_key(ref) not in covered for ref in self._pictures(o))))

        return self.once(("scope", name, benchmark), widen)

    def _with_validation(self, benchmark: str) -> tuple[str, ...]:
        own = self.benchmark(benchmark).validation
        return (benchmark,) if own is None else tuple(dict.fromkeys((benchmark, own)))

    def _kept_apart(self, benchmark: str) -> list[ImageRef]:
        """The pictures and regions of a benchmark and of its validation, each once."""
        pictures = (ref for other in self._with_validation(benchmark) for ref in self._pictures(other))
        refs = {shown(ref): ref for ref in pictures}
        return [refs[key] for key in sorted(refs)]

    def kept_out(self, name: str, benchmark: str | None) -> list[ImageRef]:
        """Whole pictures that no pair of the memory may nearly equal, each once, in a stable order."""
        refs = {file_key(ref): ref.whole() for other in self._scope(name, benchmark) for ref in self._pictures(other)}
        return [refs[key] for key in sorted(refs)]

    def _pictures(self, benchmark: str) -> Sequence[ImageRef]:
        def gather() -> list[ImageRef]:
            refs: list[ImageRef] = []
            for role in Role:
                with suppress(UsageError):  # it has no samples of this role
                    refs += [sample.image for sample in self.samples(benchmark, role)]
            return refs

        return self.once(("pictures", benchmark), gather)

    @property
    def artifacts(self) -> Path:
        return home() / "trained"


def _say_all(lines: Sequence[str]) -> None:
    for line in lines:
        say(line)
