"""Datasets in buckets, over real servers: read, pinned by the store's own versions, refused when they change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from evergraft.api.resolved import ResolvedDataset
from evergraft.errors import DataError, StoreUnavailableError, UserError
from evergraft.store.retry import Retry
from evergraft_trainer.data.backend import Backend, open_backend
from evergraft_trainer.data.dataset import Dataset, open_dataset
from evergraft_trainer.testing.datasets import DatasetMaker

_QUICK = Retry(attempts=3, first_s=0.001, cap_s=0.002)


@dataclass(frozen=True)
class Bucket:
    """A fresh folder of a bucket."""

    url: str
    endpoint: str
    options: Mapping[str, Any]

    def upload(self, path: Path) -> str:
        """Copy a file or folder here; returns its URL."""
        backend, root = open_backend(self.url, endpoint=self.endpoint, storage_options=self.options)
        for file in [path] if path.is_file() else path.rglob("*.*"):
            backend.fs.pipe_file(f"{root}/{file.relative_to(path.parent)}", file.read_bytes())
        return f"{self.url}/{path.name}"

    def open(self, url: str, pinned: Mapping[str, Any] | None = None) -> Dataset:
        """Open a dataset here, nothing cached."""
        spec = ResolvedDataset(url=url, endpoint=self.endpoint)
        return open_dataset(spec, pinned=pinned, cache_bytes=0, storage_options=self.options)


@pytest.fixture(params=[pytest.param("gs", marks=pytest.mark.server), pytest.param("s3", marks=pytest.mark.server)])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    """A fresh folder on each kind of object store in turn."""
    server = request.getfixturevalue(f"{'gcs' if request.param == 'gs' else 's3'}_server")
    options = {"retry": _QUICK} | ({"key": server.key, "secret": server.secret} if server.key else {})
    return Bucket(f"{server.url}/{uuid4().hex}", server.endpoint, options)


def test_a_bucket_reads_like_a_folder_and_is_held_to_its_versions(bucket: Bucket, make: DatasetMaker) -> None:
    path = make.folder({"0": 6, "1": 6})
    url = bucket.upload(path)
    dataset = bucket.open(url)
    local = open_dataset(ResolvedDataset(url=str(path)))
    assert dataset.counts() == local.counts()
    assert dataset.train.keys == local.train.keys
    assert dataset.train.image(3).tobytes() == local.train.image(3).tobytes()
    stored = dataset.manifest()
    assert all(item.keys() & {"generation", "etag"} for item in stored["objects"])
    assert [item["sha256"] for item in stored["objects"]] == [item["sha256"] for item in local.manifest()["objects"]]
    assert bucket.open(url, stored).train.image(3).tobytes() == local.train.image(3).tobytes()
    victim = path / stored["objects"][0]["name"]
    data = victim.read_bytes()
    victim.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    bucket.upload(path)
    with pytest.raises(DataError, match=f"{victim.name}: .*where data.json pinned"):
        bucket.open(url, stored)


def test_single_files_in_a_bucket(bucket: Bucket, make: DatasetMaker) -> None:
    for path in (make.npz({"all": 20}), make.parquet(20)):
        url = bucket.upload(path)
        dataset = bucket.open(url)
        assert dataset.counts() == open_dataset(ResolvedDataset(url=str(path))).counts()
        assert bucket.open(url, dataset.manifest()).train.image(0).shape == (8, 8, 1)
    with pytest.raises(DataError, match=r"no such folder or file; check dataset\.url"):
        bucket.open(f"{bucket.url}/none")


def test_failures_that_may_pass_are_tried_again() -> None:
    backend, _ = open_backend("memory://x", endpoint=None, storage_options=None)
    backend = Backend(fs=backend.fs, scheme="gs", retry=_QUICK, attempts=3)
    answers: list[Exception | str] = [OSError("reset"), TimeoutError("slow"), "good"]

    def act() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert backend.ask(act, where="gs://b/x") == "good"
    answers[:] = [OSError("reset")] * 3
    with pytest.raises(StoreUnavailableError, match="gs://b/x: reset"):
        backend.ask(act, where="gs://b/x")
    answers[:] = [FileNotFoundError("x")]
    with pytest.raises(DataError, match="gs://b/x: gone while it was being read"):
        backend.ask(act, where="gs://b/x")


def test_an_endpoint_without_its_own_credentials_is_refused() -> None:
    spec = ResolvedDataset(url="s3://bucket/data", endpoint="http://127.0.0.1:9")
    with pytest.raises(UserError, match="needs key and secret"):
        open_dataset(spec)
