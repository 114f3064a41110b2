"""RAF-DB, the seven basic emotions, in the layout of its own archive `basic`.

`EmoLabel/list_patition_label.txt` has lines "train_00001.jpg 5"; the aligned face of that line is
`Image/aligned/train_00001_aligned.jpg`. Labels are 1 surprise, 2 fear, 3 disgust, 4 happiness, 5 sadness, 6 anger,
7 neutral (S. Li, W. Deng and J. Du, CVPR 2017; so read by public loaders, for one msy1412/AU-ViT data/RAFDB_100.py).
RAR says which set it used, but released neither its split nor its prompt: the official partition stands for it.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from trireme.benchmarks.datasets.spec import TEST, TRAIN, Count, Layout, Listed, Listing, SetSpec
from trireme.benchmarks.datasets.texts import number, table
from trireme.errors import DataError

LIST = "EmoLabel/list_patition_label.txt"
EMOTIONS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
_PREFIX = {TRAIN: "train_", TEST: "test_"}


def read(folder: Path, split: str) -> Listing:
    """The pictures whose names begin with the split's, in the order of the list.

    Raises:
        DataError: a line is no such line; names it.
    """
    path = folder / LIST
    rows = []
    for name, label in table(path, 2):
        if not name.startswith(tuple(_PREFIX.values())):
            raise DataError(f"{path}: '{name[:60]}' begins with neither train_ nor test_; extract EmoLabel again")
        emotion = number(path, label)
        if not 1 <= emotion <= len(EMOTIONS):
            raise DataError(f"{path}: '{name}' has the label {emotion}; basic emotions are 1 to {len(EMOTIONS)}")
        if name.startswith(_PREFIX[split]):
            stem, dot, suffix = name.rpartition(".")
            rows.append(Listed(f"Image/aligned/{stem}_aligned{dot}{suffix}", emotion - 1, name))
    return Listing(EMOTIONS, EMOTIONS, tuple(rows))


SPECS: tuple[SetSpec, ...] = (
    SetSpec(
        name="rafdb",
        title="RAF-DB, seven basic emotions, aligned faces, official partition",
        version="1",
        layouts=(
            Layout(
                ("rafdb", "RAF-DB/basic", "raf-basic", "basic"),
                ("Image/aligned", LIST),
                "trireme.benchmarks.datasets.rafdb:read",
                "its own archive",
            ),
        ),
        classes=Count(7, True, "its publication"),
        counts=MappingProxyType({TRAIN: Count(12271), TEST: Count(3068)}),
        templates="rafdb:rafdb",
        bring="EmoLabel/ and Image/aligned/ of the archive 'basic', which its authors send on request",
        page="http://www.whdeng.cn/RAF/model1.html",
        licence="faces, for non-commercial research by agreement with the authors",
    ),
)
