"""CSV and Parquet files whose rows or columns cannot be right, and some that only look wrong."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.benchmarks.test_custom import picture
from trireme.benchmarks.custom import open_benchmark
from trireme.errors import DataError

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,lable\na.png,fox\n", "no column 'label'; did you mean 'lable'"),
        ("x,y\na.png,fox\n", "no column 'image'; it has: x, y"),
        ("", "no column 'image'; it has: no header"),
        ("image,label\n", "no pictures found"),
        ("image,label\na.png,fox\nb.png,\n", "row 2 has no label"),
        ("image,label\na.png,fox\na.png,owl\n", "two rows have the id 'a.png'"),
        ("image,caption,label\nb.png,b,owl\na.png,sly, red,fox\n", "row 2, which ends at line 3, has 4 cells, the h"),
        (
            'image,label,caption\na.png,fox,"two\nlines"\nb.png,owl\n',
            "row 2, which ends at line 4, is too short: .* 'caption'",
        ),
        ("image,label,label\na.png,fox,owl\n", "has two columns 'label', and nothing says which is meant"),
        ("image,label,id\na.png,fox,1\nb.png,owl,1\n", "two rows have the id '1'"),
        ("image,label,split\na.png,fox,tets\n", "row 1 is in the split 'tets'"),
        ("image,label,split\na.png,fox,test\nb.png,fox,\n", "1 of 2 rows have no split"),
        ('image,label\na.png,"fox\n', "not a CSV file"),
        ("image,label,width,height\na.png,fox,8,8\n", "has 'width', 'height' but not 'x', 'y'; a box needs all four"),
        ("image,label,x,y,width,height\na.png,fox,1,,4,\n", "row 1 has a box without 'y', 'height'"),
        ("image,label,x,y,width,height\na.png,fox,1,2,wide,4\n", "row 1 has 'wide' as width"),
        ("image,label,x,y,width,height\na.png,fox,1,2,nan,4\n", r"row 1: its box \(1, 2, nan, 4\) is not made of num"),
        ("image,label,x,y,width,height\na.png,fox,1,2,0,4\n", r"row 1: its box \(1, 2, 0, 4\) has no area"),
        ("image,label,x,y,width,height\n" + 2 * "a.png,fox,1,2,3,4\n", r"two rows have the id 'a\.png#xywh=1,2,3,4'"),
    ],
)
def test_wrong_tables_say_what_is_wrong(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        open_benchmark(f"csv:{tmp_path / 'x.csv'}")


def test_columns_without_a_name_are_no_fault(tmp_path: Path) -> None:
    """Spreadsheets write cells that once held something as empty columns."""
    picture(tmp_path / "a.png")
    (tmp_path / "x.csv").write_text("image,label,,\na.png,fox,,\n")
    assert open_benchmark(f"csv:{tmp_path / 'x.csv'}").class_names == ("fox",)


def test_a_doubled_column_of_parquet_is_named(tmp_path: Path) -> None:
    columns = [pa.array([text]) for text in ("a.png", "fox", "owl")]
    pq.write_table(pa.Table.from_arrays(columns, names=["image", "label", "label"]), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="has two columns 'label'"):
        open_benchmark(f"parquet:{tmp_path / 'x.parquet'}")
