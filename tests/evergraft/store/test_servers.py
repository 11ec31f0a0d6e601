"""What a user gets wrong with a real service: credentials, bucket, address, environment; one clear error each."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from typing import Any

import pytest

from evergraft.errors import EvergraftError, NotFoundError, PermissionDeniedError, StoreUnavailableError, UserError
from evergraft.store.open import open_store
from evergraft.store.options import StoreOptions
from evergraft.store.retry import Retry

pytestmark = pytest.mark.server

QUICK = Retry(attempts=2, first_s=0.01)

ROUND_TRIP = """
import sys
from evergraft.errors import EvergraftError
from evergraft.store import log
from evergraft.store.open import open_store
from evergraft.testing.graphs import land, start_graph

store = open_store(sys.argv[1])
land(store, start_graph(store), "a/one")
print(log.read_graph(store).version)
"""

FORK = """
import os, sys
from evergraft.store.open import open_store

store = open_store(sys.argv[1])
store.put("a", b"parent")
child = os.fork()
if child == 0:
    store.put("b", store.get("a") + b" and child")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(store.get("b").decode())
"""


def run(program: str, url: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, url]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(params=["gs", "s3"])
def place(request: pytest.FixtureRequest) -> tuple[str, dict[str, str]]:
    """A fresh URL, and the environment with which a user reaches it."""
    name = uuid.uuid4().hex
    if request.param == "gs":
        server = request.getfixturevalue("gcs_server")
        return f"{server.url}/{name}", {"STORAGE_EMULATOR_HOST": server.endpoint}
    server = request.getfixturevalue("s3_server")
    keys = {"AWS_ACCESS_KEY_ID": server.key, "AWS_SECRET_ACCESS_KEY": server.secret}
    return f"{server.url}/{name}", {**keys, "AWS_ENDPOINT_URL": server.endpoint}


def test_the_environment_alone_is_enough_and_nothing_is_printed(place: tuple[str, dict[str, str]]) -> None:
    done = run(ROUND_TRIP, *place)
    assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 0)


def test_a_store_survives_a_fork(place: tuple[str, dict[str, str]]) -> None:
    done = run(FORK, *place)
    assert (done.stdout, done.returncode) == ("parent and child\n", 0), done.stderr


def test_wrong_s3_credentials_are_denied(s3_server: Any) -> None:
    options = StoreOptions(endpoint=s3_server.endpoint, key="nobody", secret="wrong", retry=QUICK)
    store = open_store(f"{s3_server.url}/x", options)
    for act in (lambda: store.get("a"), lambda: store.put("a", b""), lambda: store.put_if_absent("a", b"")):
        with pytest.raises(PermissionDeniedError, match="give these credentials the rights"):
            act()


def test_a_missing_bucket_is_named_when_writing(gcs_server: Any) -> None:
    store = open_store("gs://no-such-bucket/g", StoreOptions(endpoint=gcs_server.endpoint, retry=QUICK))
    with pytest.raises(NotFoundError):
        store.get("graph.json")
    for act in (store.put, store.put_if_absent):
        with pytest.raises(UserError, match="the bucket no-such-bucket does not exist"):
            act("graph.json", b"{}")


def test_a_service_that_is_not_there_is_unavailable() -> None:
    options = StoreOptions(endpoint="http://127.0.0.1:9", key="k", secret="s", retry=QUICK)
    with pytest.raises(StoreUnavailableError) as caught:
        open_store("s3://bucket/g", options).get("graph.json")
    assert isinstance(caught.value, EvergraftError)
    assert caught.value.exit_code == 75
