"""Stores of every backend under one fixture, so that one suite of behaviour holds them all."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Protocol

import pytest

from evergraft.store.open import open_store
from evergraft.store.options import StoreOptions
from evergraft.store.retry import Retry
from evergraft.store.seam import Store

QUICK = Retry(attempts=3, first_s=0.01, cap_s=0.05)


class Clients(Protocol):
    """Makes clients of one root, or of what follows its URL."""

    def __call__(self, below: str = "") -> Store: ...


@pytest.fixture(
    params=[
        "memory",
        "file",
        pytest.param("gs", marks=pytest.mark.server),
        pytest.param("s3", marks=pytest.mark.server),
    ]
)
def clients(request: pytest.FixtureRequest, tmp_path: Path) -> Clients:
    """Makes clients of one fresh, empty root, on each backend in turn."""
    url, options = _place(request, tmp_path)
    return lambda below="": open_store(url + below, options)


@pytest.fixture
def store(clients: Clients) -> Store:
    """A client of a fresh root, on each backend in turn."""
    return clients()


@pytest.fixture
def memory() -> Store:
    """A fresh store in memory."""
    return open_store(f"memory://{uuid.uuid4().hex}")


def _place(request: pytest.FixtureRequest, folder: Path) -> tuple[str, StoreOptions]:
    name = uuid.uuid4().hex
    match request.param:
        case "memory":
            return f"memory://{name}", StoreOptions()
        case "file":
            return f"file://{folder}/graph", StoreOptions()
        case "gs":
            server = request.getfixturevalue("gcs_server")
            return f"{server.url}/{name}", StoreOptions(endpoint=server.endpoint, retry=QUICK)
        case _:
            server = request.getfixturevalue("s3_server")
            options = StoreOptions(endpoint=server.endpoint, key=server.key, secret=server.secret, retry=QUICK)
            return f"{server.url}/{name}", options
