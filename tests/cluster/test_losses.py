"""What a cluster takes from a search in its midst: workers, nodes, memory, room. One route is committed anyway."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cluster.scene import LONG, SMALL, Object, Scene, Space

pytestmark = pytest.mark.timeout(900)
TIME = {"search": "30s"}
"""Each search ends by itself with the best so far."""
HASTY = {
    "terminationGracePeriodSeconds": 1,
    "podTemplate": {
        "tolerations": [
            {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 2}
            for key in ("not-ready", "unreachable")
        ]
    },
}
"""Two seconds at a node that is not heard of, one to end: the operator gives a lost pod a minute beyond that."""


@pytest.fixture(scope="module")
def space(scene: Scene) -> Iterator[Space]:
    with scene.space("losses") as made:
        made.wait_graph()
        yield made


def node_of(space: Space, pod: str) -> str:
    return str(next(item for item in space.pods() if item["metadata"]["name"] == pod)["spec"]["nodeName"])


def container_of(space: Space, pod: str) -> str:
    """The id by which its node's runtime knows a worker's container."""
    (found,) = [item for item in space.pods() if item["metadata"]["name"] == pod]
    return str(found["status"]["containerStatuses"][0]["containerID"]).removeprefix("containerd://")


def ends_well(space: Space, name: str, timeout_s: float = 200) -> Object:
    """The Task ends with one commit that its Events tell of, and nothing left over."""
    status = space.wait_phase(name, "Succeeded", timeout_s)
    assert status["search"]["outcome"] == "committed"
    assert space.conditions(name)["Ready"] == "True/Committed"
    assert space.commits(f"losses/{name}") == 1
    told(space, name, "Committed")
    space.assert_nothing_runs()
    return status


def told(space: Space, name: str, reason: str) -> None:
    """An Event says so: written after the status, and a moment later where the operator is busy."""
    space.cluster.wait(f"an Event {reason} of {name}", lambda: reason in space.events(name), 30)


def replaced(space: Space, name: str, lost: str) -> None:
    """The operator gives the worker on the node `lost` up, and another runs elsewhere."""

    def elsewhere() -> bool:
        mine = [pod for pod in space.pods() if pod["metadata"]["name"].startswith(f"{name}-")]
        return any(pod["status"].get("phase") == "Running" and pod["spec"]["nodeName"] != lost for pod in mine)

    space.wait_for(
        name, lambda found: found.get("failures", {}).get("NodeLost", 0) >= 1, what="the loss noticed", timeout_s=240
    )
    told(space, name, "WorkerLost")
    space.cluster.wait("a worker on another node", elsewhere, 60)


def test_a_worker_killed_with_sigkill_is_replaced_and_its_work_goes_on(space: Space) -> None:
    space.task("killed", search=LONG, timeouts=TIME)
    name = space.wait_training("killed")
    node = space.cluster.node(node_of(space, name))
    node.ctr("tasks", "kill", "--signal", "SIGKILL", container_of(space, name))
    space.cluster.wait("another worker", lambda: any(p["metadata"]["name"] != name for p in space.pods()), 60)
    status = ends_well(space, "killed")
    assert status["search"]["attempt"] == 1
    assert status["failures"] == {"CandidateCrashes": 1}


def test_out_of_memory_is_tried_three_times_and_then_a_person_is_asked(space: Space) -> None:
    space.task("big", workers={"resources": {"requests": {"cpu": "50m"}, "limits": {"memory": "120Mi"}}})
    status = space.wait_phase("big", "Failed", 240)
    assert space.conditions("big")["Stalled"] == "True/OutOfMemory"
    assert status["failures"]["OutOfMemory"] == 4
    space.assert_nothing_runs()
    space.kubectl("delete", "tasks.evergraft.dev/big")


def test_preempted_by_a_higher_class_it_waits_and_goes_on(space: Space) -> None:
    gpu = "evergraft.test/gpu"
    for node in space.cluster.nodes:
        space.cluster.kubectl(
            "patch", "node", node.name, "--subresource=status", "--type=json",
            f'--patch=[{{"op": "add", "path": "/status/capacity/{gpu.replace("/", "~1")}", "value": "1"}}]',
        )  # fmt: skip
    space.cluster.apply(
        *(
            {
                "apiVersion": "scheduling.k8s.io/v1",
                "kind": "PriorityClass",
                "metadata": {"name": name},
                "value": value,
                "globalDefault": False,
            }
            for name, value in (("evergraft-low", 1), ("evergraft-high", 1000))
        )
    )
    resources = {"requests": {**SMALL["requests"], gpu: "1"}, "limits": {gpu: "1"}}
    space.task(
        "meek",
        search=LONG,
        timeouts={"search": "75s"},
        workers={"resources": resources, "podTemplate": {"priorityClassName": "evergraft-low"}},
    )
    space.wait_training("meek")
    bullies = [_pod(f"bully{number}", space.name, gpu) for number in range(len(space.cluster.nodes))]
    space.cluster.apply(*bullies, namespace=space.name)
    status = space.wait_for(
        "meek", lambda found: found.get("failures", {}).get("Preempted", 0) >= 1, what="preempted", timeout_s=120
    )
    assert "Preempted" in space.events("meek")
    space.kubectl("delete", "pod", *(pod["metadata"]["name"] for pod in bullies), "--grace-period=0", "--force")
    status = ends_well(space, "meek")
    assert "OutOfMemory" not in status["failures"]


def test_a_drained_node_gives_its_workers_to_another(space: Space) -> None:
    space.task("drained", search=LONG, timeouts=TIME)
    node = node_of(space, space.wait_training("drained"))
    try:
        space.cluster.kubectl(
            "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=60s",
            "--pod-selector=app.kubernetes.io/component=worker",
        )  # fmt: skip
        status = ends_well(space, "drained")
        assert status["failures"]["Preempted"] >= 1
    finally:
        space.cluster.kubectl("uncordon", node)


def test_a_kubelet_that_stops_in_mid_search_costs_no_result(space: Space) -> None:
    space.task("mute", search=LONG, timeouts=TIME)
    node = space.cluster.node(node_of(space, space.wait_training("mute")))
    node.stop_kubelet()
    try:
        # Its containers train on, and commit: the store is all they need.
        space.cluster.wait("a commit", lambda: "losses/mute" in space.tasks(), 150)
    finally:
        node.start_kubelet()
        space.cluster.wait_nodes()
    ends_well(space, "mute", 240)


def test_a_dead_node_takes_its_worker_and_not_the_search(space: Space) -> None:
    space.task("orphan", search=LONG, timeouts={"search": "120s"}, workers=HASTY)
    node = space.cluster.node(node_of(space, space.wait_training("orphan")))
    node.kill()
    try:
        replaced(space, "orphan", node.name)
    finally:
        node.revive()
        space.cluster.wait_nodes()
    ends_well(space, "orphan", 300)


def test_split_in_two_each_side_has_a_worker_and_one_commits(space: Space) -> None:
    """The node behind the pulled cable lives on with its worker, which comes back to a search that another goes on."""
    space.task("split", search=LONG, timeouts={"search": "240s"}, workers=HASTY)
    first = space.wait_training("split")
    node, container = space.cluster.node(node_of(space, first)), container_of(space, first)
    node.partition()
    try:
        replaced(space, "split", node.name)
        assert container in node.ctr("tasks", "list", "--quiet").split()  # Nobody could tell its kubelet to end it.
    finally:
        node.heal()
        space.cluster.wait_nodes()
    ends_well(space, "split", 400)


def _pod(name: str, namespace: str, resource: str) -> Object:
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    box = {
        "name": "main",
        "image": "evergraft/operator:test",
        "imagePullPolicy": "Never",
        "command": ["python", "-c", "import time; time.sleep(600)"],
        "resources": {"limits": {resource: "1"}},
        "securityContext": security,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"priorityClassName": "evergraft-high", "containers": [box], "terminationGracePeriodSeconds": 0},
    }
