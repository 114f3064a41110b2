"""WebDataset shards as the `webdataset` and `img2dataset` writers lay them out, packed here by Python's tarfile."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from trireme.benchmarks.custom import open_benchmark, open_pairs, shards, tars
from trireme.errors import DataError, UsageError
from trireme.parts import Part, part_of, read_bytes
from trireme.types import Role

pytestmark = pytest.mark.usefixtures("own_home")


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, 200)).save(file, "PNG")
    return file.getvalue()


def member(name: str, content: bytes) -> tuple[tarfile.TarInfo, io.BytesIO]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info, io.BytesIO(content)


def pack(path: Path, files: Mapping[str, bytes | str], format: int = tarfile.USTAR_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in files.items():
            tar.addfile(*member(name, content.encode() if isinstance(content, str) else content))
    return path


def test_classes_by_name_in_two_shards(tmp_path: Path) -> None:
    pack(
        tmp_path / "00.tar",
        {"b.png": png(1), "b.cls": "owl\n", "b.txt": "an owl at night", "a.PNG": png(2), "a.cls": "fox"},
    )
    pack(
        tmp_path / "01.tar",
        {"./deep/c.png": png(3), "./deep/c.cls": "fox", "deep/c.npy": b"skipped", "._c.png": b"skipped"},
    )
    name = f"webdataset:{tmp_path}/{{00..01}}.tar"
    bench = open_benchmark(name)
    assert bench.class_names == ("fox", "owl")
    assert [(sample.id, sample.label) for sample in bench.samples()] == [("a", 0), ("b", 1), ("deep/c", 0)]
    for sample, shade in zip(bench.samples(), (2, 1, 3), strict=True):
        assert read_bytes(sample.image.path) == png(shade)
        assert sample.image.sha256 == hashlib.sha256(png(shade)).hexdigest()
    assert [(pair.id, pair.caption, pair.label) for pair in open_pairs(name).pairs()] == [
        ("a", "a photo of fox", "fox"),
        ("b", "an owl at night", "owl"),
        ("deep/c", "a photo of fox", "fox"),
    ]


def test_every_way_to_name_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (8, 9, 10):
        pack(tmp_path / "shards" / f"set-{number:03}.tar", {f"k{number}.png": png(number), f"k{number}.cls": "fox"})
    monkeypatch.chdir(tmp_path)
    places = ("shards", "shards/*.tar", "shards/set-{008..010}.tar", "{shards,shards}/set-0{08,09,10}.tar", "**/*.tar")
    found = {open_benchmark(f"webdataset:{place}").fingerprint() for place in (*places, f"{tmp_path}/shards/s*.tar")}
    assert len(found) == 1
    assert len(open_benchmark("webdataset:shards/set-010.tar").samples()) == 1
    with pytest.raises(DataError, match=r"there is no shard shards/set-011\.tar"):
        open_benchmark("webdataset:shards/set-{010..012}.tar")
    with pytest.raises(DataError, match=r"there is no shard x\*\.tar"):
        open_benchmark("webdataset:x*.tar")
    for pattern in ("set-{5..3}.tar", "set-{}.tar"):
        with pytest.raises(UsageError, match="is no range"):
            open_benchmark(f"webdataset:{pattern}")


def test_indices_and_splits_as_clip_benchmark_lays_sets_out(tmp_path: Path) -> None:
    """ROOT/classnames.txt and ROOT/<split>/<n>.tar; keys start again in every split. No `owl` is in the test split."""
    (tmp_path / "classnames.txt").write_text("red fox\nowl\ncrane\n")
    files = {"s0000000.webp": png(1), "s0000000.cls": "2", "s0000001.webp": png(2), "s0000001.cls": "0"}
    pack(tmp_path / "test" / "0.tar", files)
    pack(tmp_path / "train" / "0.tar", {**files, "s0000001.cls": "1"})
    bench = open_benchmark(f"webdataset:{tmp_path}")
    assert bench.class_names == ("red fox", "owl", "crane"), "in the order of the file"
    assert [(sample.id, sample.label) for sample in bench.samples()] == [("test/s0000000", 2), ("test/s0000001", 0)]
    pairs = open_pairs(f"webdataset:{tmp_path}").pairs()
    assert [(pair.id, pair.label) for pair in pairs] == [("memory/s0000000", "crane"), ("memory/s0000001", "owl")]
    assert open_benchmark(f"webdataset:{tmp_path}/test/0.tar").class_names == bench.class_names


def test_digits_are_places_even_where_classes_are_called_so(tmp_path: Path) -> None:
    """The places 0 to 4 of a list in the order of text, as `sorted` gives it; place 2 is the class "10", not "2"."""
    names = ["0", "1", "10", "11", "2"]
    (tmp_path / "classnames.txt").write_text("\n".join(names) + "\n")
    files: dict[str, bytes | str] = {f"k{index}.png": png(index) for index in range(5)}
    pack(tmp_path / "x.tar", files | {f"k{index}.cls": str(index) for index in range(5)})
    bench = open_benchmark(f"webdataset:{tmp_path}")
    assert [(one.id, one.label) for one in bench.samples()] == [(f"k{index}", index) for index in range(5)]
    assert [pair.label for pair in open_pairs(f"webdataset:{tmp_path}").pairs()] == names
    pack(tmp_path / "x.tar", {"a.png": png(1), "a.cls": "11"})
    with pytest.raises(DataError, match="class index 11; there are 5 class names, from 0 on"):
        open_benchmark(f"webdataset:{tmp_path}")


def test_a_line_of_class_names_ends_where_editors_end_it(tmp_path: Path) -> None:
    """A byte order mark, both line ends of text files, and characters that Python takes for line ends as well."""
    (tmp_path / "classnames.txt").write_bytes("\ufeffred\u2028fox\r\nbarn\x85owl\ncrane\x0cred\n".encode())
    name = f"webdataset:{pack(tmp_path / 'x.tar', {'a.png': png(1), 'a.cls': '1'})}"
    assert open_benchmark(name).class_names == ("red\u2028fox", "barn\x85owl", "crane\x0cred")
    assert [pair.label for pair in open_pairs(name).pairs()] == ["barn\x85owl"]


def test_splits_by_a_word_of_the_name(tmp_path: Path) -> None:
    for number, word in enumerate(("train", "val", "test")):
        pack(tmp_path / f"pets-{word}-000.tar", {f"{word}.png": png(number), f"{word}.cls": "fox"})
    bench = open_benchmark(f"webdataset:{tmp_path}")
    assert [sample.id for sample in bench.samples()] == ["test/test"]
    assert [sample.id for sample in bench.samples(Role.VALIDATION)] == ["validation/val"]
    assert [pair.id for pair in open_pairs(f"webdataset:{tmp_path}").pairs()] == ["memory/train"]
    pack(tmp_path / "pets-more.tar", {"x.png": png(9), "x.cls": "fox"})
    with pytest.raises(DataError, match="1 of 4 rows have no split"):
        open_benchmark(f"webdataset:{tmp_path}")


def test_a_crawl_has_captions_and_no_classes(tmp_path: Path) -> None:
    """img2dataset writes KEY.jpg, KEY.txt and KEY.json. As a memory it is good, as a benchmark it is not."""
    told = {"caption": "a crane", "url": "https://example.org", "sha256": None}
    pack(tmp_path / "x.tar", {"0.jpg": png(1), "0.txt": "a red fox", "1.jpg": png(2), "1.json": json.dumps(told)})
    name = f"webdataset:{tmp_path / 'x.tar'}"
    assert [(pair.caption, pair.label) for pair in open_pairs(name).pairs()] == [("a red fox", ""), ("a crane", "")]
    with pytest.raises(DataError, match="'0' has no class; a benchmark needs the class of every picture"):
        open_benchmark(name)
    pack(tmp_path / "y.tar", {"0.jpg": png(1)})
    with pytest.raises(DataError, match="'0' has neither a class nor a caption"):
        open_pairs(f"webdataset:{tmp_path / 'y.tar'}")


def test_a_crawl_beside_a_benchmark_adds_no_class(tmp_path: Path) -> None:
    """Its pictures have captions alone: the classes are those of the test pictures, and none without a name."""
    pack(tmp_path / "train-0.tar", {"a.png": png(1), "a.txt": "a red fox"})
    pack(tmp_path / "test-0.tar", {"b.png": png(2), "b.cls": "owl", "c.png": png(3), "c.cls": "fox"})
    name = f"webdataset:{tmp_path}"
    bench = open_benchmark(name)
    assert bench.class_ids == bench.class_names == ("fox", "owl")
    assert [(sample.id, sample.label) for sample in bench.samples()] == [("test/b", 1), ("test/c", 0)]
    assert [(pair.caption, pair.label) for pair in open_pairs(name).pairs()] == [("a red fox", "")]


def test_the_keys_of_json_members_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("fox\nowl\n")
    told = {"alt": "a wise owl", "species": 1}
    name = f"webdataset:{pack(tmp_path / 'x.tar', {'0.jpg': png(1), '0.json': json.dumps(told)})}"
    options = {"caption": "alt", "label": "species", "classes": str(tmp_path / "names.txt")}
    [pair] = open_pairs(name, **options).pairs()
    assert (pair.caption, pair.label) == ("a wise owl", "owl")
    with pytest.raises(UsageError, match="did you mean 'classes'"):
        open_benchmark(name, clases="names.txt")
    with pytest.raises(DataError, match=r"there is no file .*absent"):
        open_benchmark(name, classes="absent")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"a.png": b"1", "a.jpg": b"2", "a.cls": "fox"},
            "the sample 'a' has two pictures, a.png and a.jpg; every key",
        ),
        ({"a.cls": "fox", "b.png": b"1", "b.cls": "fox"}, "'a' has no picture"),
        ({"a.png": b"1", "a.PNG": b"2", "a.cls": "fox"}, "the sample 'a' has two pictures, a.png and a.PNG"),
        ({"a.png": b"1", "a.cls": "7"}, "class index 7, and nothing names it; put the names, one a line"),
        ({"a.png": b"1", "a.txt": b"\xff\xfe"}, r"'a\.txt' is not text in UTF-8"),
        ({"a.png": b"1", "a.json": "{"}, r"a \.json that is not JSON"),
        ({"a.png": b"1", "a.json": "[1]"}, r"a \.json that holds list"),
        ({"a.png": b"1", "a.json": '{"label": [1, 2]}'}, "has list as 'label' in its .json"),
        ({"a.png": b"1", "a.txt": "x", "a.TXT": "y", "a.cls": "fox"}, r"the sample 'a' has two \.txt members"),
        ({"a.png": b"1", "a.txt": b"x" * (2**20 + 1)}, r"'a\.txt' has 1048577 bytes; a text of over 1048576 is none"),
        ({"../a.png": b"1", "../a.cls": "fox"}, r"member '\.\./a\.png' leaves the shard's own folder"),
        ({"/etc/a.png": b"1", "/etc/a.cls": "fox"}, "leaves the shard's own folder"),
        ({}, "no pictures found"),
    ],
)
def test_wrong_samples_say_what_is_wrong(tmp_path: Path, files: Mapping[str, bytes | str], message: str) -> None:
    path = pack(tmp_path / "x.tar", files)
    with pytest.raises(DataError, match=message):
        open_benchmark(f"webdataset:{path}")


@pytest.mark.parametrize(
    ("names", "label", "message"),
    [
        ("fox\nowl\n", "2", "class index 2; there are 2 class names, from 0 on"),
        ("fox\nowl\n", "crane", "class 'crane', which is not among the 2 class names"),
        ("fox\nowl\nfox\n", "1", "the classes 0 and 2 are both called 'fox'"),
        ("fox\n\nowl\n", "1", "class 1 has no name"),
    ],
)
def test_wrong_class_names_say_what_is_wrong(tmp_path: Path, names: str, label: str, message: str) -> None:
    (tmp_path / "classnames.txt").write_text(names)
    path = pack(tmp_path / "x.tar", {"a.png": png(1), "a.cls": label})
    with pytest.raises(DataError, match=message):
        open_benchmark(f"webdataset:{path}")


def test_one_key_in_two_shards_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pack(tmp_path / f"{name}.tar", {"k.png": png(1), "k.cls": "fox"})
    with pytest.raises(DataError, match=r"b\.tar has the key 'k', as .*a\.tar has"):
        open_benchmark(f"webdataset:{tmp_path}")


def test_a_member_that_is_there_twice_is_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("a.png", "a.cls", "a.png"):
            tar.addfile(*member(name, b"fox"))
    with pytest.raises(DataError, match=r"member 'a\.png' is there twice"):
        open_benchmark(f"webdataset:{tmp_path}/x.tar")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_a_member_that_is_no_plain_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        info = tarfile.TarInfo("a.png")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(DataError, match=r"member 'a\.png' is no plain file"):
        open_benchmark(f"webdataset:{tmp_path}/x.tar")


def test_a_huge_member_is_refused_and_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "LARGEST", 600)
    pack(tmp_path / "x.tar", {"a.png": b"x" * 601, "a.cls": "fox"})
    with pytest.raises(DataError, match=r"member 'a\.png' has 601 bytes; nothing over 600"):
        open_benchmark(f"webdataset:{tmp_path}/x.tar")


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_shard_cut_anywhere_is_refused(tmp_path: Path, format: int) -> None:
    """Also between two members, where what is left is a tar with fewer pictures. The long name needs more headers."""
    long = "deep/" * 30 + "b"
    whole = pack(
        tmp_path / "whole.tar", {"a.png": png(1), "a.cls": "fox", f"{long}.png": png(2), f"{long}.cls": "owl"}, format
    )
    content = whole.read_bytes()
    names = [part.name for part, _ in tars.members(str(whole))]
    assert names == ["a.png", "a.cls", f"{long}.png", f"{long}.cls"]
    last = max(part.offset + part.size for part, _ in tars.members(str(whole)))
    for end in {*range(0, last, 256), *range(512, last, 512), last - 1}:
        (tmp_path / "cut.tar").write_bytes(content[:end])
        with pytest.raises(DataError, match=r"cut\.tar"):
            list(tars.members(str(tmp_path / "cut.tar")))


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.tar", {f"{name}.txt": "text" for name in "abc"})
    content = bytearray(path.read_bytes())
    content[1024:1030] = b"\xff" * 6  # the header of b.txt: each member takes two blocks
    path.write_bytes(content)
    with pytest.raises(DataError, match="is damaged at byte 1024"):
        list(tars.members(str(path)))


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_a_compressed_shard_is_named(tmp_path: Path, mode: str) -> None:
    with tarfile.open(tmp_path / "x.tar", mode) as tar:
        tar.addfile(*member("a.png", png(1)))
    with pytest.raises(DataError, match=r"x\.tar is no sound tar file .*a shard is an uncompressed \.tar"):
        open_benchmark(f"webdataset:{tmp_path}/x.tar")


def test_parts_are_where_tarfile_says(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.tar", {"a.png": png(1), "a.cls": "fox", "b.png": png(2), "b.cls": "fox"})
    [first, second] = open_benchmark(f"webdataset:{path}").samples()
    with tarfile.open(path) as tar:
        assert part_of(first.image.path) == Part(str(path), tar.getmember("a.png").offset_data, len(png(1)), "a.png")
        assert part_of(second.image.path) == Part(str(path), tar.getmember("b.png").offset_data, len(png(2)), "b.png")


def test_a_shard_is_read_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_SETTLED_NS", 0)
    name = f"webdataset:{pack(tmp_path / 'x.tar', {'a.png': png(1), 'a.cls': 'fox', 'b.png': png(2), 'b.cls': 'owl'})}"
    first = open_benchmark(name)
    read = shards.members

    def fail(path: str) -> None:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(shards, "members", fail)
    again = open_benchmark(name)
    assert again.samples() == first.samples()
    assert again.fingerprint() == first.fingerprint()
    monkeypatch.setattr(shards, "members", read)
    pack(tmp_path / "x.tar", {"a.png": png(3), "a.cls": "fox", "b.png": png(2), "b.cls": "owl"})
    assert open_benchmark(name).samples()[0].image.sha256 == hashlib.sha256(png(3)).hexdigest()


def test_a_shard_written_a_moment_ago_is_not_remembered(tmp_path: Path, own_home: Path) -> None:
    """Two writes within one tick of the clock leave the same time stamp."""
    open_benchmark(f"webdataset:{pack(tmp_path / 'x.tar', {'a.png': png(1), 'a.cls': 'fox'})}")
    assert not (own_home / "shards").exists()


@pytest.mark.parametrize("content", [b"", b"PAR1 but cut", None])
def test_a_damaged_index_is_made_anew(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    monkeypatch.setattr(shards, "_SETTLED_NS", 0)
    name = f"webdataset:{pack(tmp_path / 'x.tar', {'a.png': png(1), 'a.cls': 'fox'})}"
    first = open_benchmark(name)
    [index] = (own_home / "shards").iterdir()
    index.write_bytes(index.read_bytes()[:-40] if content is None else content)
    assert open_benchmark(name).samples() == first.samples()
    shutil.rmtree(own_home / "shards")
    (own_home / "shards").write_text("no folder")
    assert open_benchmark(name).samples() == first.samples()
