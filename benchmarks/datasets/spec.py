"""What Trireme knows of a published data set: where it lies, how its files are read, how many there should be.

A spec is data. It never holds class names or prompts; those are files beside it (`templates.json`, `class_names.json`)
or come from a library that has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from trireme.types import Role

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLIT_OF: Mapping[Role, str] = MappingProxyType({Role.TEST: TEST, Role.VALIDATION: VALIDATION})
VERIFY = "trireme.benchmarks.datasets.opening:verify"


@dataclass(frozen=True, slots=True)
class Count:
    """How many there should be.

    Attributes:
        number: 0 where nobody has told it; then the annotation files are believed without a word.
        verified: another number is an error. Where False the annotation files themselves are believed, and a
            difference is only told.
        source: where the number was read.
    """

    number: int
    verified: bool = False
    source: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """One way in which people have the files of a set.

    Attributes:
        folders: where it may lie below the data root; the first is where we would put it.
        needs: files and folders below it without which the benchmark cannot be read.
        train: those that its training pictures need too. A set without them is here, as a benchmark.
        read: "module:function" that is called as (folder, split) and gives a `Listing`.
        title: who lays it out so, for the command line.
    """

    folders: tuple[str, ...]
    needs: tuple[str, ...]
    read: str = ""
    title: str = ""
    train: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SetSpec:
    """A published data set.

    Attributes:
        name: of the benchmark and of the pair set of its training pictures.
        version: raise it when the same files give other samples, classes, names or prompts.
        layouts: accepted layouts, the recommended one first.
        classes: how many classes; 0 for a set of pictures and captions, which has none.
        counts: pictures per split; the splits that it has are the keys ("train", "validation", "test").
        metrics: the main one first.
        templates: name of a list in `templates.json`, "FILE:SET" for one in `FILE.json`, or "open_clip:imagenet".
        several_labels: whether a picture may have several; its row then has -1 (`elevater_files.LabelledListing`).
        same_names: whether two classes may be called the same, as in CLIP's names of ImageNet; never their ids.
        bring: how to get the files, in one line: an official page, or a hub id with a revision.
        archives: {official archive: folder below the data root that it is extracted in}.
        page, licence: its home, and what its pictures may be used for.
        verify: "module:function" called with the spec; opens everything and raises what is wrong.
    """

    name: str
    title: str
    version: str
    layouts: tuple[Layout, ...]
    classes: Count
    counts: Mapping[str, Count]
    bring: str
    page: str
    licence: str
    templates: str = ""
    metrics: tuple[str, ...] = ("top1", "top5")
    several_labels: bool = False
    same_names: bool = False
    archives: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    verify: str = VERIFY


@dataclass(frozen=True, slots=True)
class Listed:
    """A picture as an annotation file lists it.

    Attributes:
        path: from the listing's folder, with "/".
        label: index of its class. No set here withholds labels, so a -1 is a file that counts otherwise than we think.
        id: the path where it is "".
        caption: "" gives the set's first prompt with the class name.
    """

    path: str
    label: int
    id: str = ""
    caption: str = ""

    @property
    def key(self) -> str:
        return self.id or self.path


@dataclass(frozen=True, slots=True)
class Listing:
    """One split as its files list it, before anything is checked. Rows come in the published order."""

    class_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    rows: tuple[Listed, ...]

    def labels(self) -> Iterator[int]:
        return (row.label for row in self.rows)
