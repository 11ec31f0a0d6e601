"""Parquet: the three forms of an image, groups from names, and columns or paths that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evergraft.errors import DataError
from evergraft_trainer.data import formats
from evergraft_trainer.data.formats import parquet
from evergraft_trainer.data.formats.parquet import group_of
from evergraft_trainer.data.listing import Listing
from evergraft_trainer.data.source import open_source


def _read(root: Path, columns: dict[str, Any], name: str = "d.parquet") -> Listing:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return parquet.read(open_source(str(root / name.split("/", maxsplit=1)[0])))


def test_bytes_and_integer_labels(tmp_path: Path) -> None:
    images = [bytes([number % 256]) * (number + 1) for number in range(600)]
    listing = _read(tmp_path, {"image": images, "label": list(range(600)), "other": ["x"] * 600})
    assert [listing.fetch(number) for number in (599, 0, 300)] == [images[599], images[0], images[300]]
    assert listing.labels[:3] == ("0", "1", "2")
    assert listing.keys[1] == "d.parquet#00000001"
    assert set(listing.owners) == {"d.parquet"}


def test_structs_and_text_labels(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/b.png").write_bytes(b"B")
    images = [{"bytes": b"A", "path": "ignored/../name"}, {"bytes": None, "path": "pictures/b.png"}, None]
    listing = _read(tmp_path, {"image": images, "label": pa.array(["x", "y", "x"]).dictionary_encode()})
    assert [listing.fetch(number) for number in range(3)] == [b"A", b"B", b""]
    assert listing.owners == ("d.parquet", "pictures/b.png", "d.parquet")
    assert listing.labels == ("x", "y", "x")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "set/part").mkdir(parents=True)
    (tmp_path / "set/part/a.png").write_bytes(b"A")
    listing = _read(tmp_path, {"image": ["a.png"], "label": [1]}, name="set/part/d.parquet")
    assert listing.owners == ("part/a.png",)
    assert listing.fetch(0) == b"A"


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("d.parquet", "d"), ("train.parquet", "train"), ("train-00000-of-00004.parquet", "train"),
        ("test-0.parquet", "test"),
        ("data/train-00001-of-00002.parquet", "train"), ("test/x.parquet", "test"), ("a-b.parquet", "a-b"),
    ],
)  # fmt: skip
def test_groups_come_from_names(name: str, group: str) -> None:
    assert group_of(name) == group


def test_a_folder_of_files_is_found(tmp_path: Path) -> None:
    _read(tmp_path / "set", {"image": [b"1"], "label": [1]}, name="train.parquet")
    _read(tmp_path / "set", {"image": [b"2"], "label": [2]}, name="test.parquet")
    _read(tmp_path / "set", {"image": [b"3"], "label": [3]}, name="_temporary.parquet")
    source = open_source(str(tmp_path / "set"))
    assert formats.choose("Auto", source).name == "Parquet"
    listing = parquet.read(source)
    assert listing.groups == ("test", "train")
    assert [listing.fetch(number) for number in range(2)] == [b"2", b"1"]
    with pytest.raises(DataError, match="not one of Auto, ImageFolder, Npz, Parquet"):
        formats.choose("Csv", source)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"img": [b"1"], "label": [1]}, r"d\.parquet: needs one column 'image'; it has img, label"),
        ({"image": [b"1"], "label": [1.5]}, "column 'label' is double; needed is text or an integer"),
        ({"image": [1], "label": [1]}, "column 'image' is int64; needed is bytes"),
        ({"image": [{"path": "x"}], "label": [1]}, "column 'image' is struct"),
        ({"image": [b"1", b"2"], "label": [1, None]}, r"d\.parquet: row 1: label '' is not"),
        ({"image": ["/etc/passwd"], "label": [1]}, r"row 0: '/etc/passwd' leaves the dataset's folder"),
        ({"image": ["../x.png"], "label": [1]}, "leaves the dataset's folder"),
        ({"image": ["a/../../x.png"], "label": [1]}, "leaves the dataset's folder"),
        ({"image": ["file:///etc/passwd"], "label": [1]}, "leaves the dataset's folder"),
        ({"image": [{"bytes": None, "path": "../x"}], "label": [1]}, "leaves the dataset's folder"),
        ({"image": ["gone.png"], "label": [1]}, r"gone\.png: no such file in the dataset"),
    ],
)
def test_refusals(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        _read(tmp_path, columns)


def test_a_split_that_is_a_link_does_not_go_missing(tmp_path: Path) -> None:
    for name in ("data/train/0.parquet", "elsewhere/0.parquet"):
        (tmp_path / name).parent.mkdir(parents=True)
        pq.write_table(pa.table({"image": [b"A"], "label": [1]}), tmp_path / name)
    (tmp_path / "data/_cache").symlink_to(tmp_path)
    source = open_source(str(tmp_path / "data"))
    assert formats.choose("Auto", source).read(source).groups == ("train",)
    (tmp_path / "data/test").symlink_to(tmp_path / "elsewhere")
    source = open_source(str(tmp_path / "data"))
    with pytest.raises(DataError, match="data/test: a link to a folder; move the folder there instead"):
        formats.choose("Auto", source).read(source)


def test_a_path_through_a_link_that_leaves_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"s")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.png").symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match=r"a\.png: a link that leaves"):
        _read(tmp_path, {"image": ["a.png"], "label": [1]}, name="set/d.parquet")


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + bytes(50) + b"PAR1"])
def test_refuses_what_is_no_parquet(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "d.parquet").write_bytes(data)
    with pytest.raises(DataError, match=r"d\.parquet: no readable Parquet file"):
        parquet.read(open_source(str(tmp_path / "d.parquet")))
