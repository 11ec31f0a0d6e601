"""Opening, pinning and holding a dataset, in every format and from files and memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from evergraft import canonical
from evergraft.api.resolved import ResolvedDataset
from evergraft.errors import DataError, FormatError, IntegrityError
from evergraft_trainer.data import dataset as dataset_module
from evergraft_trainer.data import manifest
from evergraft_trainer.data import source as source_module
from evergraft_trainer.data.check import check
from evergraft_trainer.data.dataset import Dataset, open_dataset
from evergraft_trainer.data.refusals import Sample
from evergraft_trainer.testing.datasets import DatasetMaker

Write = Callable[[DatasetMaker], Path]
_FORMATS: dict[str, Write] = {
    "ImageFolder": lambda make: make.folder({"0": 20, "1": 20}),
    "Npz": lambda make: make.npz({"all": 40}),
    "Parquet": lambda make: make.parquet(40),
}


def _open(path: Path | str, **options: Any) -> Dataset:
    pinned = options.pop("pinned", None)
    cache_bytes = options.pop("cache_bytes", 1 << 20)
    return open_dataset(ResolvedDataset(url=str(path), **options), pinned=pinned, cache_bytes=cache_bytes)


def _pixels(dataset: Dataset) -> dict[str, list[bytes]]:
    return {
        name: [split.image(index).tobytes() for index in range(len(split))] for name, split in dataset.splits.items()
    }


@pytest.fixture(params=sorted(_FORMATS))
def written(request: pytest.FixtureRequest, make: DatasetMaker) -> Path:
    """The same 40 pictures of two classes in one of the formats."""
    return _FORMATS[request.param](make)


def test_every_format_opens(written: Path) -> None:
    dataset = _open(written)
    assert dataset.labels == ("0", "1")
    assert dataset.counts() == {
        "train": {"0": 16, "1": 16}, "validation": {"0": 2, "1": 2}, "test": {"0": 2, "1": 2},
    }  # fmt: skip
    assert dataset.train.labels.dtype == np.int64
    assert dataset.train.image(0).shape == (8, 8, 1)
    everything = [pixels for split in _pixels(dataset).values() for pixels in split]
    assert len(set(everything)) == 40


def test_what_is_pinned_opens_again_as_the_same(written: Path) -> None:
    first = _open(written)
    stored = json.loads(canonical.dumps(first.manifest()))
    again = _open(written, pinned=stored)
    assert _pixels(again) == _pixels(first)
    assert again.manifest() == first.manifest()
    assert again.labels == first.labels
    assert again.counts() == first.counts() == stored["counts"]
    for name, split in first.splits.items():
        assert again.splits[name].keys == split.keys
        assert again.splits[name].labels.tolist() == split.labels.tolist()


@pytest.mark.parametrize("cache_bytes", [0, 500, 1 << 20])
def test_the_cache_is_bounded_and_changes_nothing(written: Path, cache_bytes: int) -> None:
    dataset = _open(written, cache_bytes=cache_bytes)
    assert _pixels(dataset) == _pixels(_open(written))
    assert dataset.train.images.cache.num_bytes <= cache_bytes


def test_data_json_says_what_a_worker_needs(make: DatasetMaker) -> None:
    path = make.folder({"cat": 10, "dog": 10}, channels=3)
    document = _open(path).manifest()
    assert document["format"] == 1
    assert document["datasetFormat"] == "ImageFolder"
    assert document["labels"] == ["cat", "dog"]
    assert document["images"] == {"height": [8, 8], "width": [8, 8], "channels": [3]}
    assert document["counts"]["validation"] == {"cat": 1, "dog": 1}
    assert document["unreadable"] == document["leftOut"] == []
    by_name = {item["name"]: item for item in document["objects"]}
    data = (path / "cat/0003.png").read_bytes()
    assert by_name["cat/0003.png"] == {"name": "cat/0003.png", "size": len(data), "sha256": canonical.sha256(data)}
    samples = [tuple(row) for split in document["samples"].values() for row in split]
    assert len(by_name) == len(samples) == 20
    assert ("dog/0000.png", 1) in samples


def test_other_bytes_than_those_pinned_stop_the_work(written: Path) -> None:
    stored = _open(written).manifest()
    victim = next(written.rglob("*.png")) if written.is_dir() else written
    data = bytearray(victim.read_bytes())
    data[-20] ^= 1
    victim.write_bytes(data)
    with pytest.raises(DataError, match=f"{victim.name}: the bytes changed since the dataset was pinned; put the old"):
        _pixels(_open(written, pinned=stored))
    victim.write_bytes(data + b"x")
    with pytest.raises(DataError, match=f"{victim.name}: .* bytes, no version where data.json pinned"):
        _open(written, pinned=stored)
    victim.unlink()
    with pytest.raises(DataError, match=r"no such (folder or )?file"):
        _open(written, pinned=stored)


def test_bytes_that_change_while_in_use_stop_the_work(make: DatasetMaker) -> None:
    path = make.folder({"0": 10, "1": 10})
    dataset = _open(path, cache_bytes=0)
    (path / dataset.train.keys[0]).write_bytes(make.png(999))
    with pytest.raises(DataError, match="the bytes changed"):
        dataset.train.image(0)


def test_files_added_later_are_no_part_of_what_was_pinned(make: DatasetMaker) -> None:
    path = make.folder({"0": 10, "1": 10})
    first = _open(path)
    (path / "0/9999.png").write_bytes(make.png(999))
    assert _pixels(_open(path, pinned=first.manifest())) == _pixels(first)


def test_memory_urls_are_pinned_by_digest(make: DatasetMaker) -> None:
    path = make.folder({"0": 10, "1": 10})
    fs = fsspec.filesystem("memory")
    for file in path.rglob("*.png"):
        fs.pipe(f"/pinned-test/{file.relative_to(path)}", file.read_bytes())
    dataset = _open("memory://pinned-test")
    assert _pixels(dataset) == _pixels(_open(path))
    assert dataset.manifest()["objects"] == _open(path).manifest()["objects"]
    npz = make.npz({"train": 20})
    fs.pipe("/one-test/d.npz", npz.read_bytes())
    assert _pixels(_open("memory://one-test/d.npz")) == _pixels(_open(npz))


def test_the_stores_own_versions_are_pinned_too(make: DatasetMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    fs = fsspec.filesystem("memory")
    for file in make.folder({"0": 10, "1": 10}).rglob("*.png"):
        fs.pipe(f"/versions-test/{file.parent.name}/{file.name}", file.read_bytes())
    listed = source_module._remote_object
    etag = '"one"'
    monkeypatch.setattr(source_module, "_remote_object", lambda name, info: listed(name, {**info, "ETag": etag}))
    stored = _open("memory://versions-test").manifest()
    assert stored["objects"][0]["etag"] == "one"
    _open("memory://versions-test", pinned=stored)
    etag = '"two"'
    with pytest.raises(DataError, match=r"0/0000\.png: .*'etag': 'two'.*pinned .*'etag': 'one'"):
        _open("memory://versions-test", pinned=stored)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"format": 2}, FormatError), ({"labels": None}, IntegrityError), ({"objects": [{}]}, IntegrityError),
        ({"samples": {}}, IntegrityError), ({"labels": []}, IntegrityError), ({"datasetFormat": "Csv"}, DataError),
        ({"objects": []}, DataError),
        ({"samples": {"train": [["0/none.png", 0]], "validation": [["0/0000.png", 0]], "test": []}}, DataError),
        ({"samples": {"train": [["0/0001.png", 0]], "validation": [], "test": []}}, IntegrityError),
        ({"samples": {"train": [], "validation": [["0/0000.png", 0]], "test": []}}, IntegrityError),
        ({"objects": [{"name": "../x", "size": 1, "sha256": ""}]}, DataError),
    ],
)  # fmt: skip
def test_a_damaged_data_json_is_refused(make: DatasetMaker, change: dict[str, Any], error: type[Exception]) -> None:
    path = make.folder({"0": 10, "1": 10})
    with pytest.raises(error, match=r"data\.json|format|\.\."):
        _open(path, pinned={**_open(path).manifest(), **change})


def test_unreadable_images_are_listed_up_to_the_limit(make: DatasetMaker) -> None:
    path = make.folder({"0": 10, "1": 10})
    (path / "0/0004.png").write_bytes(b"")
    (path / "1/0004.png").write_bytes((path / "1/0004.png").read_bytes()[:50])
    dataset = _open(path, max_bad_fraction=0.1)
    reasons = {item["key"]: item["reason"] for item in dataset.manifest()["unreadable"]}
    assert reasons.keys() == {"0/0004.png", "1/0004.png"}
    assert reasons["0/0004.png"] == "empty file"
    assert sum(len(split) for split in dataset.splits.values()) == 18
    _open(path, pinned=dataset.manifest())
    with pytest.raises(DataError, match=r"2 of 20 samples are unreadable \(0/0004\.png: empty file;"):
        _open(path, max_bad_fraction=0.05)


def test_copies_across_splits_are_left_out_of_training(make: DatasetMaker) -> None:
    path = make.folder({"train/0": 10, "train/1": 10, "val/0": 4, "val/1": 4, "test/0": 4, "test/1": 4})
    shutil.copy(path / "test/0/0001.png", path / "train/0/copy.png")
    shutil.copy(path / "test/1/0001.png", path / "val/1/copy.png")
    document = _open(path, max_bad_fraction=0.1).manifest()
    assert document["leftOut"] == [
        {"key": "train/0/copy.png", "split": "train", "copyOf": "test/0/0001.png"},
        {"key": "val/1/copy.png", "split": "validation", "copyOf": "test/1/0001.png"},
    ]
    assert document["counts"]["train"] == {"0": 10, "1": 10}
    with pytest.raises(DataError, match="2 of 38 samples lie in two splits"):
        _open(path)


def test_the_same_picture_in_another_encoding_is_the_same_image(make: DatasetMaker) -> None:
    path = make.folder({"train/0": 10, "train/1": 10, "val/0": 4, "val/1": 4})
    data = (path / "val/0/0001.png").read_bytes()
    (path / "train/1/other.png").write_bytes(data[:-12] + b"\0\0\0\4tEXta\0bc\x9a\x03\x12\x0a" + data[-12:])
    with pytest.raises(DataError, match=r"one image with two labels across splits: train/1/other\.png is '1' in train"):
        _open(path, max_bad_fraction=1)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"train/a": 4, "val/a": 4}, r"1 class \('a'\); a task needs at least 2"),
        ({"train/a": 4, "train/b": 4, "val/a": 4, "val/c": 1}, "label 'c' occurs only in validation"),
        ({"train/a": 4, "train/b": 4, "val/a": 4, "test/c": 1}, "label 'c' occurs only in test"),
        ({"a": 10}, "1 class"),
    ],
)
def test_unfit_classes_are_refused(make: DatasetMaker, counts: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        _open(make.folder(counts))


def test_a_class_whose_only_training_images_are_unreadable_is_refused(make: DatasetMaker) -> None:
    path = make.folder({"train/a": 4, "train/b": 1, "val/a": 2, "val/b": 2})
    (path / "train/b/0000.png").write_bytes(b"x")
    with pytest.raises(DataError, match="without unreadable samples and copies: label 'b' occurs only in validation"):
        _open(path, max_bad_fraction=0.5)


def test_a_huge_image_is_refused_by_name(make: DatasetMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make.folder({"a": 4, "b": 4})
    monkeypatch.setattr("evergraft_trainer.data.decode.MAX_PIXELS", 63)
    with pytest.raises(DataError, match=r"images/a/0000\.png: 8×8: more than"):
        _open(path, max_bad_fraction=1)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/no/such/folder", "/no/such/folder: no such folder or file; check dataset.url"),
        ("memory://none-such", "no such folder or file"),
        ("http://example.org/data", "not readable here; use a path or file, memory, gs, s3"),
        ("simplecache::file:///tmp", "not readable here"),
        ("zip://a::file:///tmp/x.zip", "not readable here"),
    ],
)
def test_places_that_cannot_be_read_are_refused(url: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _open(url)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no dataset found; expected <class>/<image>"):
        _open(tmp_path)


def test_spec_splits_are_followed(make: DatasetMaker) -> None:
    path = make.folder({"train/a": 20, "train/b": 20, "test/a": 5, "test/b": 5})
    dataset = _open(path, train="train", validation="train[90%:]")
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 36, "validation": 4}
    assert dataset.split("test") is None
    assert {item["name"].split("/")[0] for item in dataset.manifest()["objects"]} == {"train"}


def test_check_reports_in_json(written: Path) -> None:
    report = check(ResolvedDataset(url=str(written)))
    assert canonical.dumps(report)
    assert report["samples"] == {"train": 32, "validation": 4, "test": 4}
    assert report["labels"] == ["0", "1"]
    assert report["bytes"] == sum(
        f.stat().st_size for f in ([written] if written.is_file() else written.rglob("*.png"))
    )
    assert report["objects"] == (40 if report["format"] == "ImageFolder" else 1)


def test_more_files_than_can_be_pinned_are_refused_before_any_is_read(
    make: DatasetMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make.folder({"0": 10, "1": 10})
    size = len(canonical.dumps(_open(path).manifest()))
    told = r"20 files and 20 samples are too many to pin: data\.json .* Parquet or npz .* dataset\.splits"
    monkeypatch.setattr(dataset_module, "scan", lambda *_, **__: pytest.fail("nothing is to be decoded"))
    monkeypatch.setattr(manifest, "MAX_BYTES", size // 2)
    with pytest.raises(DataError, match=told):
        _open(path)
    monkeypatch.undo()
    monkeypatch.setattr(manifest, "MAX_BYTES", size - 1)
    with pytest.raises(DataError, match=told):
        _open(path)
    monkeypatch.setattr(manifest, "MAX_BYTES", size)
    _open(path)


def test_the_bound_by_which_files_are_refused_early_is_never_too_high(written: Path) -> None:
    """Were it so, a dataset could be refused that can be pinned."""
    pinned = _open(written).manifest()
    samples = [Sample(0, key, "", split) for split, rows in pinned["samples"].items() for key, _ in rows]
    names = [item["name"] for item in pinned["objects"]]
    least = manifest.least_bytes(names, samples)
    assert least <= len(canonical.dumps({name: pinned[name] for name in ("objects", "samples")}))
    if len(names) > 1:  # one file an image
        assert least > 0.9 * len(canonical.dumps({name: pinned[name] for name in ("objects", "samples")}))


def test_a_dataset_of_no_image_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "none.npz", train_images=np.zeros((0, 8, 8), np.uint8), train_labels=np.zeros(0, np.int64))
    with pytest.raises(DataError, match=r"none\.npz: holds no images"):
        _open(tmp_path / "none.npz")
