"""What the documentation tells to type on a cluster is typed on one, block by block, in the order of each page.

A cluster of its own with one node, since installing is what is tried. docs/install.md goes first, and ends where it
began; for the pages about working with Tasks, Evergraft is then installed with a Task that has been trained. The
images have the names that the pages suppose, so that commands run as they stand.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cluster.harness.binaries import Binaries
from tests.cluster.harness.cluster import Cluster
from tests.cluster.images.build import NAMES, build
from tests.cluster.scene import Scene, Space
from tests.docs.blocks import REPOSITORY, Block, Desk, blocks

REGISTRY = "registry.acme"
VERSION = "0.1.0"
TEAM, TASK = "team", "digits"
FIRST = ("docs/install.md", "docs/airgap.md")
"""Pages that install, each from nothing to nothing."""
THEN = ("kubernetes", "operations", "troubleshooting", "observability", "runbooks")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def of(page: str) -> list[Block]:
    """The blocks of a page that have a part in this, files included."""
    return [block for block in blocks(REPOSITORY / page) if block.file is not None or block.runs(cluster=True)]


@dataclass
class Reader:
    """A cluster where nothing of ours is, and the desk of somebody who reads."""

    cluster: Cluster
    desk: Desk

    def do(self, block: Block) -> str:
        """Write the block's file, or run it; returns what it printed."""
        if block.file is None:
            return self.desk.run(block)
        self.desk.write(block)
        return ""


@pytest.fixture(scope="module")
def reader(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    images = {name: build(name) for name in NAMES}
    cluster = Cluster.start(nodes=1, images=[image.tar for image in images.values()])
    try:
        for name, tag in (("operator", VERSION), ("trainer", f"{VERSION}-cpu")):
            for host in ("docker.io", REGISTRY):
                cluster.nodes[0].ctr("images", "tag", images[name].name, f"{host}/evergraft/{name}:{tag}")
        folder = tmp_path_factory.mktemp("reader")
        path = [Path(sys.executable).parent, cluster.binaries.part("kubectl").parent, os.environ["PATH"]]
        s3 = cluster.s3
        environment = {
            "PATH": os.pathsep.join(map(str, path)),
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "KUBECONFIG": str(cluster.kubeconfig),
            "KUBECACHEDIR": str(cluster.layout.kubectl_cache),
            "AWS_ACCESS_KEY_ID": s3.key or "",
            "AWS_SECRET_ACCESS_KEY": s3.secret or "",
            "AWS_ENDPOINT_URL": s3.endpoint,
        }
        desk = Desk(folder, environment, {"REGISTRY": REGISTRY})
        desk.furnish()
        yield Reader(cluster, desk)
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def working(reader: Reader) -> Space:
    """Evergraft installed, and a Task trained; the pages' words in capitals mean these."""
    scene = Scene(reader.cluster)
    scene.install()
    space = scene.open(TEAM)
    space.task(TASK)
    space.wait_phase(TASK, "Succeeded", timeout_s=180)
    (pod,) = (pod["metadata"]["name"] for pod in space.pods() if pod["status"]["phase"] == "Succeeded")
    reader.desk.meant |= {
        "NAMESPACE": TEAM,
        "NAME": TASK,
        "POD": pod,
        "UID": space.read(TASK)["metadata"]["uid"],
        "GRAPH": space.store_url,
        "GRAPH-NAME": "default",
    }
    return space


def params(*pages: str) -> pytest.MarkDecorator:
    found = [block for page in pages for block in of(page)]
    return pytest.mark.parametrize("block", found, ids=[block.place for block in found])


@params(*FIRST)
def test_installing(reader: Reader, block: Block) -> None:
    said = reader.do(block)
    if "helm test" in block.text:
        assert "Succeeded" in said
    if f"{REGISTRY}/" in reader.desk.said(block.text) or "global.imageRegistry" in block.text:
        assert REGISTRY in said or block.file


def test_nothing_of_it_is_left_but_crds(reader: Reader) -> None:
    cluster = reader.cluster
    for kind in ("clusterroles", "clusterrolebindings", "deployments -A", "roles -A", "rolebindings -A"):
        names = [item["metadata"]["name"] for item in cluster.objects(*kind.split())]
        assert [name for name in names if "evergraft" in name] == [], kind
    assert {item["metadata"]["name"] for item in cluster.objects("crd")} == {
        "modulegraphs.evergraft.dev",
        "tasks.evergraft.dev",
    }


@params(*(f"docs/{name}.md" for name in THEN))
def test_working(reader: Reader, working: Space, block: Block) -> None:
    reader.do(block)


def test_the_task_of_the_pages_is_worked_on(reader: Reader, working: Space) -> None:
    """The operator has judged docs/kubernetes.md's Task; patches of docs/operations.md trained nothing anew."""
    theirs = Space(working.scene, "vision", data=working.data)
    assert theirs.conditions("cifar10")["Accepted"].split("/")[1] in ("Accepted", "GraphNotReady")
    assert theirs.read("cifar10")["spec"]["workers"]["replicas"] == 8
    working.wait_phase(TASK, "Succeeded")
    assert working.commits(f"{TEAM}/{TASK}") == 1
