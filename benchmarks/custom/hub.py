"""`hf:PATH` and `hf:ID@REVISION`: data sets of the Hugging Face library `datasets`, whose pictures stay in Arrow files.

PATH is a folder of `save_to_disk`, or one of Parquet files, Arrow files or pictures that `load_dataset` reads. ID is a
set of the hub, brought here by the library on first use; a revision is a must, so that the name means one content.

The picture is the `Image` column, its class the `ClassLabel` column, or what the options `image` and `label` name.
`caption` and `id` name columns too; columns of these names are used where there are any. Every named split is used as
`SPLITS` says, or one of them, `split=NAME`, as the whole set. `config` chooses among the configurations of a set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trireme.benchmarks.custom.arrow import Cell, cells
from trireme.benchmarks.custom.rows import SPLITS, Data, Row, absolute, listed, unique_classes
from trireme.errors import DataError, UsageError, unknown_name

OPTIONS = ("image", "label", "caption", "id", "split", "config")
_INSTALL = "pip install 'trireme-bench[hub]'"
_BUILDERS = ("arrow", "imagefolder", "parquet")
_SAVED = ("dataset_dict.json", "state.json")


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns that are read, "" where there is none, and the names behind the label's numbers."""

    image: str
    label: str
    caption: str
    id: str
    classes: tuple[str, ...] = ()


def read(place: str, options: Mapping[str, Any]) -> Data:
    """The rows of all splits, or of the one that is asked for.

    Raises:
        UsageError: `datasets` is not installed, a hub set without a revision, an unknown split.
        DataError: the set cannot be opened, lacks a column, or holds pictures in another way than Arrow files do.
    """
    splits = _opened(place, options)
    wanted = options.get("split")
    if wanted is not None and str(wanted) not in splits:
        raise unknown_name(f"split of hf:{place}", str(wanted), [name for name in splits if name] or ["none"])
    chosen = splits if wanted is None else {str(wanted): splits[str(wanted)]}
    columns = _columns(place, next(iter(chosen.values())).features, options)
    rows: list[Row] = []
    for name, part in chosen.items():
        if _columns(place, part.features, options) != columns:
            raise DataError(f"hf:{place}: its splits have different columns or classes; choose one with split=NAME")
        use = "" if wanted is not None or not name else _use(place, name, splits)
        rows += _rows(f"hf:{place}" + (f", split {name}" if name else ""), name, use, part, columns)
    return Data(f"hf:{place}", rows, columns.classes)


def _use(place: str, name: str, splits: Mapping[str, Any]) -> str:
    if name.lower() not in SPLITS:
        raise DataError(
            f"hf:{place} has the splits {listed(splits)}, and nothing tells what '{name}' is for; choose one of them "
            f"with split=NAME (names that are known: {', '.join(SPLITS)})"
        )
    return SPLITS[name.lower()]


def _opened(place: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """{split: datasets.Dataset}, "" for a set that is not split."""
    try:
        import datasets
    except ImportError as error:
        raise UsageError(f"hf: needs the package `datasets`: {_INSTALL}") from error
    folder = Path(place).expanduser()
    try:
        if folder.is_dir() and any((folder / name).is_file() for name in _SAVED):
            found = datasets.load_from_disk(str(absolute(place)), keep_in_memory=False)
        elif folder.is_dir():
            found = _built(datasets, str(absolute(place)), None, options.get("config"))
        else:
            name, _, revision = place.partition("@")
            if not revision:
                raise UsageError(
                    f"there is no folder {place}; a set of the hub needs a revision, a commit or a tag: "
                    f"hf:{place}@REVISION"
                )
            found = _built(datasets, name, revision, options.get("config"))
    except (UsageError, DataError):
        raise
    except Exception as error:  # whatever the library, its file systems and its HTTP client raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(f"hf:{place} cannot be opened: {reason}") from error
    return dict(found) if isinstance(found, datasets.DatasetDict) else {"": found}


def _built(datasets: Any, name: str, revision: str | None, config: Any) -> Any:
    """By the library's own builders for picture sets alone: others may unpickle what they read."""
    builder = datasets.load_dataset_builder(name, None if config is None else str(config), revision=revision)
    kind = type(builder).__module__.rpartition(".")[2]
    if kind not in _BUILDERS:
        raise DataError(
            f"hf:{name} is made of {kind} files; read are {', '.join(_BUILDERS)} (and tar shards as webdataset:)"
        )
    builder.download_and_prepare()
    return builder.as_dataset(in_memory=False)


def _columns(place: str, features: Mapping[str, Any], options: Mapping[str, Any]) -> _Columns:
    for option in ("image", "label", "caption", "id"):
        column = options.get(option)
        if column is not None and str(column) not in features:
            raise unknown_name(f"column of hf:{place}", str(column), features)
    image = _the_column(place, features, "image", "Image", options)
    label = _the_column(place, features, "label", "ClassLabel", options)
    if not image:
        raise DataError(f"hf:{place} has no column of pictures (a feature `Image`); it has: {listed(features)}")
    if type(features[image]).__name__ != "Image":
        raise DataError(f"hf:{place}: its column '{image}' is no feature `Image`; cast it: cast_column(.., Image())")
    named = {one: str(options.get(one, one if one in features else "")) for one in ("caption", "id")}
    return _Columns(image, label, named["caption"], named["id"], _classes(place, label, features))


def _the_column(place: str, features: Mapping[str, Any], option: str, kind: str, options: Mapping[str, Any]) -> str:
    """The column that the option names; else the one of this kind; else the one called like the option."""
    if option in options:
        return str(options[option])
    found = [name for name, feature in features.items() if type(feature).__name__ == kind]
    if len(found) > 1 and option not in found:
        raise UsageError(f"hf:{place} has the {kind} columns {listed(found)}; say which: {option}=NAME")
    if option in found or not found:
        return option if option in features else ""
    return found[0]


def _classes(place: str, label: str, features: Mapping[str, Any]) -> tuple[str, ...]:
    if not label:
        return ()
    feature = features[label]
    if type(feature).__name__ == "ClassLabel":
        return unique_classes([str(name) for name in feature.names], f"hf:{place}, column '{label}'")
    if getattr(feature, "dtype", "") not in ("string", "large_string"):
        raise DataError(
            f"hf:{place}: its column '{label}' holds {getattr(feature, 'dtype', type(feature).__name__)}, and nothing "
            "names the classes; expected a feature `ClassLabel`, or names as text"
        )
    return ()


def _rows(where: str, split: str, use: str, part: Any, columns: _Columns) -> Iterator[Row]:
    files = [str(file["filename"]) for file in part.cache_files]
    wanted = [name for name in (columns.label, columns.caption, columns.id) if name]
    number = 0
    for file in files:
        for cell, values in cells(file, columns.image, wanted):
            told = dict(zip(wanted, values, strict=True))
            name = _text(told.get(columns.id)) or (f"{split}/{number:08}" if split else f"{number:08}")
            row = f"{where}: row {number}"
            label = _label(row, told[columns.label], columns.classes) if columns.label else ""
            yield Row(name, _path(row, cell), label, _text(told.get(columns.caption)), use)
            number += 1
    if number != len(part):
        raise DataError(f"{where} shows {len(part)} rows of the {number} in its files; save it with save_to_disk first")


def _path(row: str, cell: Cell) -> str:
    if cell.part is not None:
        return cell.part.path
    if not cell.path:
        raise DataError(f"{row} has no picture")
    if not Path(cell.path).is_absolute():
        raise DataError(f"{row} has its picture at '{cell.path}', which is no file here; save it with save_to_disk")
    return cell.path


def _label(row: str, value: Any, classes: Sequence[str]) -> str:
    if not classes:
        return _text(value)
    if value is None or value < 0:  # the hub's sign for a label that is withheld
        return ""
    if value >= len(classes):
        raise DataError(f"{row} has the class {value}; there are {len(classes)} class names, from 0 on")
    return classes[int(value)]


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()
