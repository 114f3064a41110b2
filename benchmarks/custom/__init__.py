"""Your own pictures as a benchmark or as a memory.

`folder:PATH` holds PATH/<class>/<pictures>, or PATH/<split>/<class>/<pictures> where every top folder is named like a
split. `csv:PATH` and `parquet:PATH` have the columns `image` and `label`, and may have `caption`, `id` and `split`;
relative picture paths start at the file's own folder. A class is its label: id and name are the same. `webdataset:`,
`hf:` (module `hub`), `coco:` and `lvis:` (`annotated`) are told in their modules; docs/your-data.md shows each form at
work.

A table may also have `x`, `y`, `width` and `height`. A row that fills them in is that box of its picture, in pixels
from the upper left corner, shown in a square of its longer side; one that leaves all four empty is the whole picture.

Rows are taken in the order of their ids, and a row without an id is called by its picture's path from the data's own
folder, and by its box: the same data in another order or another place is the same data.
"""

from trireme.benchmarks.custom.opening import open_benchmark, open_pairs

__all__ = ["open_benchmark", "open_pairs"]
