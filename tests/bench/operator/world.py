"""A control plane without nodes, Evergraft's kinds and rights on it, the stand-in for kubelets, and full namespaces.

Made once by ``measure``; the operator is a process with its ServiceAccount's own rights, as in the tests of wiring.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.operator import tasks
from tests.bench.operator.api import APPLY, GROUP, Api, Object, together
from tests.bench.operator.usage import control_plane
from tests.cluster.harness.cluster import Cluster
from tests.cluster.operator_process import Operator

from evergraft_operator.client import FIELD_MANAGER

REPOSITORY = Path(__file__).resolve().parents[3]
LIFE_S = 1.0
"""How long a worker is ready before it ends."""
READY_S = 120.0


@dataclass(frozen=True)
class World:
    """The cluster, the operator's token, and the pids of what is not the operator."""

    cluster: Cluster
    token: str
    pids: dict[str, int]

    def api(self) -> Api:
        """The API server, for the administrator."""
        return Api(self.cluster.layout.control_address, self.cluster.layout.pki)

    def operator(self, command: Sequence[str] = ("-m", "evergraft_operator")) -> Operator:
        """An operator, to be entered."""
        return Operator(self.cluster, self.token, command=tuple(command))


@contextmanager
def world() -> Iterator[World]:
    """Start everything but the operator; all of it ends here."""
    cluster = Cluster.start("bench", nodes=0)
    try:
        cluster.kubectl("apply", "--server-side", "-k", str(REPOSITORY / "manifests" / "overlays" / "cluster"))
        account = ("-n", "evergraft", "create", "token", "evergraft-operator", "--duration", "8h")
        token = cluster.kubectl(*account).strip()
        arguments = [cluster.layout.control_address, str(cluster.layout.pki), str(LIFE_S)]
        command = [sys.executable, "-m", "tests.bench.operator.kubelet", *arguments]
        with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as kubelet:
            try:
                assert kubelet.stdout is not None
                assert kubelet.stdout.readline() == "ready\n"
                yield World(cluster, token, {**control_plane(cluster.control), "stand-in for kubelets": kubelet.pid})
            finally:
                kubelet.kill()
    finally:
        cluster.stop()


async def make_namespaces(api: Api, names: Sequence[str]) -> None:
    """Namespaces with a ModuleGraph each, ready for pods."""
    await together(api.must("POST", "/api/v1/namespaces", {"metadata": {"name": name}}) for name in names)
    for name in names:
        while (await api.call("GET", f"/api/v1/namespaces/{name}/serviceaccounts/default"))[0] != 200:
            await asyncio.sleep(0.2)
    await together(api.must("POST", f"{GROUP}/namespaces/{name}/modulegraphs", tasks.graph(name)) for name in names)


async def wait_graphs(api: Api, names: Sequence[str]) -> None:
    """Wait until the operator has made every graph ready."""
    async with asyncio.timeout(READY_S):
        for name in names:
            while not _is_ready(await api.must("GET", f"{GROUP}/namespaces/{name}/modulegraphs/default")):
                await asyncio.sleep(0.2)


async def apply_tasks(api: Api, namespaces: Sequence[str], number: int) -> None:
    """Create Tasks, spread over the namespaces."""
    places = [(namespaces[count % len(namespaces)], f"task-{count}") for count in range(number)]
    await together(
        api.must("POST", f"{GROUP}/namespaces/{where}/tasks", tasks.task(where, name)) for where, name in places
    )


async def settle_tasks(api: Api, namespaces: Sequence[str], number: int) -> None:
    """Create Tasks that were committed long ago: their Jobs are gone, their status stands."""
    graphs = {name: await api.must("GET", f"{GROUP}/namespaces/{name}/modulegraphs/default") for name in namespaces}

    async def one(where: str, name: str) -> None:
        made = await api.must("POST", f"{GROUP}/namespaces/{where}/tasks", tasks.task(where, name))
        head = {"apiVersion": tasks.API, "kind": "Task", "metadata": {"name": name, "namespace": where}}
        path = f"{GROUP}/namespaces/{where}/tasks/{name}/status?fieldManager={FIELD_MANAGER}&force=true"
        await api.must("PATCH", path, {**head, "status": tasks.settled(made, graphs[where])}, APPLY)

    places = [(namespaces[count % len(namespaces)], f"settled-{count}") for count in range(number)]
    await together(one(where, name) for where, name in places)


def _is_ready(graph: Object) -> bool:
    found = graph.get("status", {}).get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in found)
