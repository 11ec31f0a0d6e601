"""A real Kubernetes on one machine, for tests: made in seconds, and gone without a trace.

`Cluster.start` makes one that ends with this process, or a detached one that outlives it; `Cluster.attach` finds a
detached one again. Used by conftest.py's fixtures and by the command line in tests/cluster/cluster.py.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.cluster.harness import controlplane, images, network, records, stock, store
from tests.cluster.harness.binaries import Binaries, build_all
from tests.cluster.harness.box import Box
from tests.cluster.harness.commands import ENVIRONMENT, run
from tests.cluster.harness.controlplane import Api, tail
from tests.cluster.harness.errors import ClusterError
from tests.cluster.harness.layout import MAX_NODES, Layout
from tests.cluster.harness.machine import prepare
from tests.cluster.harness.node import Node, write_configuration
from tests.cluster.harness.pki import make_authority

from evergraft.testing.servers import ObjectServer

READY_TIMEOUT_S = 180.0
KUBECTL_TRIES = 4
KUBECTL_PAUSE_S = 3.0
NO_ANSWER = ("TLS handshake timeout", "error when reading response body", "dial tcp")
"""How kubectl says that it has not come to its request: nothing was done yet."""


@dataclass
class Cluster:
    """A running cluster. Every command of it that fails raises ClusterError with what was said."""

    record: records.Record
    binaries: Binaries
    control: Box
    nodes: list[Node] = field(default_factory=list)

    @classmethod
    def start(
        cls, name: str | None = None, *, nodes: int = 2, detached: bool = False, images: Sequence[Path] = ()
    ) -> Cluster:
        """A new cluster, ready for pods; with no nodes, an API server and the controllers only.

        Without a name it is called test1, test2 and so on, the first that nobody uses. `images` are archives in
        docker's format; big ones are brought to new nodes much faster than by `import_image` later. Call it from
        the main thread: a cluster that is not detached ends with the thread that started it.

        Raises:
            CannotRunError: this machine cannot run one.
            ClusterError: a cluster of this name is running, or a part does not start.
        """
        if not 0 <= nodes <= MAX_NODES:
            raise ClusterError(f"--nodes {nodes}: 0 to {MAX_NODES}")
        binaries = prepare(nodes=nodes > 0)
        if name is None:
            record = records.reserve_free("test", detached=detached, num_nodes=nodes)
        else:
            record = records.reserve(name, detached=detached, num_nodes=nodes)
        try:
            return _start(record, binaries, images)
        except BaseException:
            records.remove(records.read(record.name) or record)
            raise

    @classmethod
    def attach(cls, name: str) -> Cluster:
        """The running cluster `name`.

        Raises:
            ClusterError: there is none.
        """
        record = records.read(name)
        if record is None or not record.alive():
            raise ClusterError(
                f"no cluster {name} is running; start it with: tests/cluster/cluster.py up --name {name}"
            )
        boxes = {box.name: box for box in record.boxes}
        if "control" not in boxes:
            raise ClusterError(f"cluster {name} is still starting")
        cluster = cls(record=record, binaries=build_all(), control=boxes["control"])
        for number in range(1, record.num_nodes + 1):
            node = cluster._make_node(number)
            box = boxes.get(node.name)
            node.box = box if box is not None and box.alive() else None
            cluster.nodes.append(node)
        return cluster

    @property
    def layout(self) -> Layout:
        return self.record.layout

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.layout.kubeconfig

    @property
    def api(self) -> Api:
        """The API server, asked without kubectl."""
        return Api(self.layout)

    @property
    def s3(self) -> ObjectServer:
        """An S3 service that pods, nodes and this process reach by the same address; started when first asked for."""
        return store.start_s3(self.layout, self.control)

    def node(self, name: str) -> Node:
        """The node `name`, such as node1."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise ClusterError(f"no node {name}; there are: {', '.join(node.name for node in self.nodes) or 'none'}")

    def kubectl(
        self,
        *argv: str,
        input: str | None = None,  # noqa: A002 - as subprocess calls it
        timeout_s: float = 120,
        user: Path | None = None,
    ) -> str:
        """The output of kubectl, as the administrator or as the kubeconfig `user`.

        Where the API server of a busy machine did not answer in time, it is asked again.
        """
        for _ in range(KUBECTL_TRIES - 1):
            try:
                return run(*self._kubectl(user), *argv, stdin=input, timeout_s=timeout_s)
            except ClusterError as error:
                if not any(words in str(error) for words in NO_ANSWER):
                    raise
                time.sleep(KUBECTL_PAUSE_S)
        return run(*self._kubectl(user), *argv, stdin=input, timeout_s=timeout_s)

    def try_kubectl(
        self,
        *argv: str,
        input: str | None = None,  # noqa: A002 - as subprocess calls it
        timeout_s: float = 120,
        user: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Like `kubectl`, for commands that may fail: exit code, output and errors."""
        return subprocess.run(
            [*self._kubectl(user), *argv],
            input=input,
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=ENVIRONMENT,
        )

    def objects(self, kind: str, *argv: str) -> list[dict[str, Any]]:
        """The objects that `kubectl get KIND` finds; `argv` are more of its arguments, such as a namespace."""
        return list(json.loads(self.kubectl("get", kind, *argv, "--output=json"))["items"])

    def apply(self, *documents: dict[str, Any], namespace: str | None = None) -> str:
        """Apply objects, into `namespace` or where each says; returns what kubectl says."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        where = [f"--namespace={namespace}"] if namespace else []
        return self.kubectl("apply", *where, "--filename=-", input=json.dumps(items))

    def import_image(self, archive: Path, node: str | None = None) -> None:
        """Bring an archive in docker's format to `node`, or to every living node, once per content."""
        chosen = [each for each in self.nodes if node in (None, each.name) and each.box is not None]
        with ThreadPoolExecutor(max_workers=MAX_NODES) as pool:
            list(pool.map(lambda each: images.bring(each, archive), chosen))

    def box_exec(self, box: str, *argv: str, timeout_s: float = 60) -> str:
        """The output of a program inside a box: `control`, or a node's name."""
        inside = self.control if box == "control" else self.node(box).running()
        return inside.run(*argv, timeout_s=timeout_s)

    def wait(self, what: str, found: Callable[[], bool], timeout_s: float = 60) -> None:
        """Wait until `found()`.

        Raises:
            ClusterError: not in time; the text names `what`.
        """
        deadline = time.monotonic() + timeout_s
        while not found():
            if time.monotonic() > deadline:
                raise ClusterError(f"{what}: not within {timeout_s:g} s")
            time.sleep(0.2)

    def ready_nodes(self) -> list[str]:
        """The names of the nodes that report Ready."""
        return [_name(node) for node in self.api.objects("/api/v1/nodes") if _is_ready(node)]

    def wait_nodes(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until every living node is Ready."""
        living = {node.name for node in self.nodes if node.box is not None}
        try:
            self.wait("nodes Ready", lambda: living <= set(self.ready_nodes()), timeout_s)
        except ClusterError as error:
            name = min(living.difference(self.ready_nodes()))
            raise ClusterError(f"{error}: {name}:\n{tail(self.layout.logs / f'{name}-kubelet.log')}") from None

    def stop(self) -> None:
        """End it and remove all of it; deleting its files goes on in the background."""
        records.remove(records.read(self.record.name) or self.record)

    def remember(self) -> None:
        """Write down which boxes there are, so that whoever ends the cluster finds them."""
        boxes = [self.control, *(node.box for node in self.nodes if node.box is not None)]
        self.record = replace(self.record, boxes=tuple(boxes))
        self.record.save()

    def _make_node(self, number: int) -> Node:
        return Node(
            layout=self.layout,
            binaries=self.binaries,
            number=number,
            control=self.control,
            tied=not self.record.detached,
            changed=self.remember,
        )

    def _kubectl(self, user: Path | None) -> list[str]:
        """With a cache of its own: an earlier cluster at this address had other kinds of objects."""
        program, cache = self.binaries.part("kubectl"), self.layout.kubectl_cache
        return [str(program), f"--kubeconfig={user or self.kubeconfig}", f"--cache-dir={cache}"]


def _start(record: records.Record, binaries: Binaries, archives: Sequence[Path]) -> Cluster:
    """In the order that is fastest: what waits for the API server is started once that is ready."""
    layout = record.layout
    authority = make_authority(layout.pki)
    controlplane.issue_certificates(layout, authority)
    cluster = Cluster(record, binaries, controlplane.start_control_box(binaries, tied=not record.detached))
    cluster.remember()
    network.connect_host(layout, cluster.control)
    controlplane.start_api(layout, binaries, cluster.control)
    for number in range(1, record.num_nodes + 1):
        write_configuration(layout, authority, number)
        cluster.nodes.append(cluster._make_node(number))
        cluster.nodes[-1].boot()
    _prepare_nodes(cluster, archives)
    cluster.api.wait_ready(cluster.control)
    controlplane.start_controllers(layout, binaries, cluster.control, scheduler=record.num_nodes > 0)
    for node in cluster.nodes:
        node.start_kubelet()
    cluster.wait_nodes()
    cluster.api.wait_default_account()
    return cluster


def _prepare_nodes(cluster: Cluster, archives: Sequence[Path]) -> None:
    """Routes, runtimes and images."""
    if not cluster.nodes:
        return
    network.route_pods(cluster.layout, cluster.control, {node.number: node.running() for node in cluster.nodes})
    if archives:
        stock.furnish(cluster.nodes, archives)
    else:
        for node in cluster.nodes:
            node.start_runtime()
    for archive in (images.pause_archive(cluster.binaries), images.busybox_archive()):
        cluster.import_image(archive)


def _name(item: dict[str, Any]) -> str:
    return str(item["metadata"]["name"])


def _is_ready(item: dict[str, Any]) -> bool:
    conditions = item.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
