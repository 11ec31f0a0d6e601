"""Clusters for the tests of this folder: one with two nodes, and one that is an API server alone.

Each is started when a test first asks for it, and ends with the tests, also when these are killed. Several processes
share the files as tests/groups.py says, each with clusters of its own. Where this machine cannot run a cluster they
are skipped with the reason, or fail where EVERGRAFT_REQUIRE_ALL=1 says that they must run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.absent import absent
from tests.cluster.harness.binaries import Binaries
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.errors import CannotRunError
from tests.cluster.harness.machine import prepare
from tests.cluster.images.build import NAMES, build
from tests.cluster.scene import Scene

HERE = Path(__file__).resolve().parent
TIMEOUT_S = 300


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark this folder's tests. Their time limit leaves fixtures out: the first one may build for 12 minutes."""
    for item in items:
        if HERE in item.path.parents:
            own = item.get_closest_marker("timeout")
            seconds = own.args[0] if own is not None and own.args else TIMEOUT_S
            item.add_marker(pytest.mark.timeout(seconds, func_only=True), append=False)
            item.add_marker(pytest.mark.cluster)


@contextmanager
def runnable() -> Iterator[None]:
    """What cannot run on this machine is skipped, or fails where it is required."""
    try:
        yield
    except CannotRunError as reason:
        absent(f"a cluster: {reason}")


@pytest.fixture(scope="session")
def binaries() -> Binaries:
    """Kubernetes, built; everything else that a cluster needs is installed."""
    with runnable():
        return prepare(nodes=True)


@pytest.fixture(scope="session")
def archives(binaries: Binaries) -> list[Path]:
    """Our images, built from their Dockerfiles, for `Cluster.start(images=...)`."""
    with runnable():
        return [build(name).tar for name in NAMES]


@pytest.fixture(scope="session")
def api_cluster(binaries: Binaries) -> Iterator[Cluster]:
    """An API server and the controllers, without nodes."""
    cluster = Cluster.start(nodes=0)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def cluster(binaries: Binaries, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster with two nodes, ready for pods; with our images on them where any test of this run installs us."""
    if name := os.environ.get("EVERGRAFT_TEST_CLUSTER"):
        yield Cluster.attach(name)  # one that `make cluster` started, with the images on it
        return
    installs = any("scene" in getattr(item, "fixturenames", ()) for item in request.session.items)
    cluster = Cluster.start(nodes=2, images=request.getfixturevalue("archives") if installs else ())
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def scene(cluster: Cluster) -> Scene:
    """Evergraft installed on the cluster, by kustomize."""
    made = Scene(cluster)
    made.install()
    return made
