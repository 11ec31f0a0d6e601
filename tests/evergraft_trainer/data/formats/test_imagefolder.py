"""ImageFolder: both layouts, what is passed over, and links and names that must not be followed."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from evergraft.errors import DataError
from evergraft_trainer.data import formats
from evergraft_trainer.data.formats import imagefolder
from evergraft_trainer.data.source import open_source


def _write(root: Path, *names: str) -> str:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return str(root)


def test_class_folders(tmp_path: Path) -> None:
    source = open_source(
        _write(tmp_path, "dog/b.png", "cat/a.png", "README.md", ".git/x", "cat/.hidden", "cat/Thumbs.db")
    )
    assert formats.choose("Auto", source).name == "ImageFolder"
    listing = imagefolder.read(source)
    assert listing.keys == listing.owners == ("cat/a.png", "dog/b.png")
    assert listing.labels == ("cat", "dog")
    assert listing.groups == ("", "")
    assert listing.fetch(1) == b"dog/b.png"


def test_split_folders(tmp_path: Path) -> None:
    listing = imagefolder.read(open_source(_write(tmp_path, "train/cat/a.png", "test/dog/b.png")))
    assert listing.groups == ("test", "train")
    assert listing.labels == ("dog", "cat")


def test_memory_files_read_the_same() -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe({"/folder-test/cat/a.png": b"1", "/folder-test/dog/b.png": b"2"})
    listing = imagefolder.read(open_source("memory://folder-test"))
    assert listing.keys == ("cat/a.png", "dog/b.png")
    assert listing.fetch(0) == b"1"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.txt"], "no images; expected <class>/<image>"),
        (["cat/a.png", "train/dog/b.png"], r"train/dog/b\.png: lies deeper or shallower than cat/a\.png"),
        (["a/b/c/d.png"], r"a/b/c/d\.png: too deep"),
        (["cat/a\n.png"], "no printable UTF-8 name; rename the file"),
        (["c\t/a.png"], "no printable UTF-8 name"),
        (["cat/a\\b.png"], "leaves the dataset's folder"),
        ([f"{'x' * 201}/a.png"], "not 1…200 printable characters"),
    ],
)
def test_refusals(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        imagefolder.read(open_source(_write(tmp_path, *names)))


def test_a_name_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "cat") + b"/\xff.png")).write_bytes(b"x")
    with pytest.raises(DataError, match="rename the file"):
        imagefolder.read(open_source(str(tmp_path)))


def test_links_are_followed_only_inside_the_root(tmp_path: Path) -> None:
    url = _write(tmp_path / "data", "cat/a.png")
    (tmp_path / "data/cat/b.png").symlink_to(tmp_path / "data/cat/a.png")
    assert imagefolder.read(open_source(url)).fetch(1) == b"cat/a.png"
    (tmp_path / "secret").write_bytes(b"s")
    (tmp_path / "data/cat/c.png").symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match=r"cat/c\.png: a link that leaves the dataset's folder; copy the file"):
        imagefolder.read(open_source(url))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("..", "link to a folder"), ("data/cat", "link to a folder"), ("data/no", "to nothing"),
        ("no", "leaves the dataset's folder"), ("data/cat/link", "to nothing"),
    ],
)  # fmt: skip
def test_links_to_folders_and_to_nothing_are_refused(tmp_path: Path, target: str, message: str) -> None:
    url = _write(tmp_path / "data", "cat/a.png")
    (tmp_path / "data/cat/link").symlink_to(tmp_path / target)
    with pytest.raises(DataError, match=f"cat/link: .*{message}"):
        imagefolder.read(open_source(url))


@pytest.mark.parametrize("names", [["a/1.png", "b/2.png"], ["train/a/1.png", "train/b/2.png"], []])
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("elsewhere", "a link to a folder; move the folder there instead"),
        ("data/.kept", "a link to a folder; move the folder there instead"),
        ("gone", "a link that leaves the dataset's folder"),
        ("data/gone", "a link to nothing"),
    ],
)
def test_a_class_or_split_that_is_a_link_does_not_go_missing(
    tmp_path: Path, names: list[str], target: str, message: str
) -> None:
    url = _write(tmp_path / "data", *names, ".kept/x.png")
    _write(tmp_path / "elsewhere", "c.png")
    (tmp_path / "data/test").symlink_to(tmp_path / target)
    source = open_source(url)
    with pytest.raises(DataError, match=f"data/test: .*{message}"):
        formats.choose("Auto", source).read(source)


def test_a_class_that_is_a_link_below_its_split_is_named(tmp_path: Path) -> None:
    url = _write(tmp_path / "data", "train/a/1.png", "train/b/2.png")
    (tmp_path / "data/train/c").symlink_to(tmp_path / "data/train/b")
    with pytest.raises(DataError, match="train/c: a link to a folder; move the folder there instead"):
        imagefolder.read(open_source(url))


def test_links_that_are_passed_over(tmp_path: Path) -> None:
    url = _write(tmp_path / "data", "cat/a.png", "NOTES")
    (tmp_path / "data/README").symlink_to("NOTES")
    (tmp_path / "data/.cache").symlink_to(tmp_path)
    assert imagefolder.read(open_source(url)).keys == ("cat/a.png",)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    url = _write(tmp_path, "cat/a.png")
    os.mkfifo(tmp_path / "cat/pipe")
    with pytest.raises(DataError, match="cat/pipe: not a regular file"):
        imagefolder.read(open_source(url))


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    _write(tmp_path / "data", "cat/a.png")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert imagefolder.read(open_source(str(tmp_path / "link"))).keys == ("cat/a.png",)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    _write(tmp_path, "a.png")
    with pytest.raises(DataError, match="a file where ImageFolder needs a folder"):
        imagefolder.read(open_source(str(tmp_path / "a.png")))
