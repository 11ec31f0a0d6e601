"""The test cluster itself: it is a real Kubernetes with its locks on, nodes die and come back, and nothing is left.

Everything else in this folder relies on this.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import s3fs
from tests.cluster.harness import cgroups
from tests.cluster.harness.binaries import Binaries, kubernetes_version
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.errors import ClusterError
from tests.cluster.harness.images import BUSYBOX_IMAGE
from tests.cluster.harness.layout import Layout
from tests.cluster.harness.leftovers import leftovers
from tests.cluster.harness.packages import CLUSTER, missing

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = "(Forbidden)"


def pod(name: str, *command: str, node: str | None = None, **container: Any) -> dict[str, Any]:
    """A pod of one busybox that runs once."""
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "main", "image": BUSYBOX_IMAGE, "command": list(command), **container}],
    }
    if node is not None:
        spec["nodeName"] = node
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def beside(cluster: Cluster, name: str) -> str:
    """A cluster's name that no other run of these tests on this machine has."""
    return f"{cluster.layout.name}-{name}"


def wait_until(found: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)


def phase(cluster: Cluster, name: str) -> str:
    return cluster.kubectl("get", "pod", name, "--output=jsonpath={.status.phase}")


def run_pod(cluster: Cluster, manifest: dict[str, Any]) -> str:
    """The log of a pod that ends by itself, in good or bad."""
    name = manifest["metadata"]["name"]
    cluster.apply(manifest)
    cluster.wait(f"end of pod {name}", lambda: phase(cluster, name) in ("Succeeded", "Failed"))
    said = cluster.kubectl("logs", name)
    cluster.kubectl("delete", "pod", name)
    return said


def test_two_nodes_report_the_version_that_was_asked_for(cluster: Cluster) -> None:
    versions = {node["metadata"]["name"]: node["status"]["nodeInfo"] for node in cluster.objects("nodes")}
    assert sorted(versions) == ["node1", "node2"]
    assert {info["kubeletVersion"] for info in versions.values()} == {kubernetes_version()}
    assert sorted(cluster.ready_nodes()) == ["node1", "node2"]


ASKING = """
id -u
printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 BUCKET | head -n 1
nc -w 5 SERVICE 443 < /dev/null && echo the API answers
nc -w 5 192.0.2.1 80 < /dev/null || echo no way out
"""


def test_a_pod_reaches_services_and_the_bucket_but_nothing_outside(cluster: Cluster) -> None:
    bucket = cluster.s3.endpoint.removeprefix("http://").replace(":", " ")
    code = ASKING.replace("BUCKET", bucket).replace("SERVICE", cluster.layout.first_service)
    said = run_pod(cluster, pod("reaches", "sh", "-c", code, node="node2"))
    assert said.startswith("65532\nHTTP/1.0 403")  # the service is there, and wants keys
    assert "the API answers" in said
    assert "no way out" in said


def test_the_bucket_takes_objects_from_the_tests(cluster: Cluster) -> None:
    server = cluster.s3
    files = s3fs.S3FileSystem(key=server.key, secret=server.secret, endpoint_url=server.endpoint)
    files.pipe_file(f"{server.url}/harness", b"here")
    assert files.cat_file(f"{server.url}/harness") == b"here"
    files.rm_file(f"{server.url}/harness")


def test_the_buckets_of_two_clusters_are_two(cluster: Cluster, api_cluster: Cluster) -> None:
    """Their gateways once met over a socket in /tmp, and the second served the first's bucket."""
    for each in (cluster, api_cluster):
        server = each.s3
        files = s3fs.S3FileSystem(key=server.key, secret=server.secret, endpoint_url=server.endpoint)
        assert not files.exists(f"{server.url}/whose")
        files.pipe_file(f"{server.url}/whose", each.layout.name.encode())
    assert files.cat_file(f"{server.url}/whose") == api_cluster.layout.name.encode()
    files = s3fs.S3FileSystem(key=server.key, secret=server.secret, endpoint_url=cluster.s3.endpoint)
    assert files.cat_file(f"{server.url}/whose") == cluster.layout.name.encode()


def test_limits_of_memory_hold(cluster: Cluster) -> None:
    greedy = "x=x; while true; do x=$x$x; done"
    limits = {"limits": {"memory": "20Mi"}}
    cluster.apply(pod("greedy", "sh", "-c", greedy, resources=limits))
    cluster.wait("end of pod greedy", lambda: phase(cluster, "greedy") == "Failed")
    path = "{.status.containerStatuses[0].state.terminated.reason}"
    assert cluster.kubectl("get", "pod", "greedy", f"--output=jsonpath={path}") == "OOMKilled"
    cluster.kubectl("delete", "pod", "greedy")


def test_strangers_and_accounts_without_rights_are_refused(cluster: Cluster) -> None:
    refused = cluster.try_kubectl("get", "secrets", "--as=system:serviceaccount:default:default")
    assert FORBIDDEN in refused.stderr
    trusting = ssl.create_default_context(cafile=str(cluster.layout.pki / "ca.crt"))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting))
    with pytest.raises(urllib.error.HTTPError, match="401"):
        opener.open(f"{cluster.layout.api}/api", timeout=10)


def test_a_node_may_not_touch_another_node(cluster: Cluster) -> None:
    node1 = cluster.layout.pki / "node1.kubeconfig"
    cluster.kubectl("annotate", "node", "node1", "test=own", user=node1)
    refused = cluster.try_kubectl("annotate", "node", "node2", "test=other", user=node1)
    assert FORBIDDEN in refused.stderr


def test_restricted_namespaces_admit_no_privileged_pod(cluster: Cluster) -> None:
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "restricted", "labels": label}})
    with pytest.raises(ClusterError, match='violates PodSecurity "restricted:latest": privileged'):
        cluster.apply(pod("privileged", "sleep", "1", securityContext={"privileged": True}), namespace="restricted")
    cluster.kubectl("delete", "namespace", "restricted", "--wait=false")


def test_who_may_not_finalize_an_owner_may_not_block_its_deletion(api_cluster: Cluster) -> None:
    """OwnerReferencesPermissionEnforcement is on: the operator's RBAC must say `finalizers`."""
    rights = ["--verb=get,create", "--resource=configmaps"]
    api_cluster.kubectl("create", "role", "maps", *rights)
    api_cluster.kubectl("create", "rolebinding", "maps", "--role=maps", "--user=maps")
    node = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": "x", "blockOwnerDeletion": True}
    owned = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "owned", "ownerReferences": [node]},
    }
    refused = api_cluster.try_kubectl("create", "--as=maps", "--filename=-", input=json.dumps(owned))
    assert "cannot set blockOwnerDeletion" in refused.stderr


@pytest.mark.timeout(180)
def test_a_dead_node_is_noticed_and_comes_back_with_its_disk(cluster: Cluster) -> None:
    cluster.apply(pod("dying", "sleep", "3600", node="node2"))
    cluster.wait("pod running", lambda: phase(cluster, "dying") == "Running")
    node = cluster.node("node2")
    node.kill()
    cluster.wait("node2 NotReady", lambda: cluster.ready_nodes() == ["node1"], 30)
    with pytest.raises(ClusterError, match="node2 is dead; revive it first"):
        node.kill()
    node.revive()
    cluster.wait_nodes(60)
    cluster.kubectl("delete", "pod", "dying", "--ignore-not-found", "--grace-period=0")
    assert (
        run_pod(cluster, pod("later", "echo", "the image is still here", node="node2")) == "the image is still here\n"
    )


@pytest.mark.timeout(180)
def test_a_partitioned_node_lives_on_unseen_and_heals(cluster: Cluster) -> None:
    code = "while true; do date >> /tmp/beats; sleep 0.2; done"
    cluster.apply(pod("beating", "sh", "-c", code, node="node2"))
    cluster.wait("beating running", lambda: phase(cluster, "beating") == "Running")
    node = cluster.node("node2")
    node.partition()
    try:
        cluster.wait("node2 NotReady", lambda: cluster.ready_nodes() == ["node1"], 30)
        assert "RUNNING" in node.ctr("tasks", "list")
    finally:
        node.heal()
    cluster.wait_nodes(60)
    cluster.kubectl("delete", "pod", "beating", "--ignore-not-found", "--grace-period=0")


def test_a_node_without_its_kubelet_keeps_its_containers(cluster: Cluster) -> None:
    node = cluster.node("node1")
    node.stop_kubelet()
    try:
        cluster.wait("node1 NotReady", lambda: cluster.ready_nodes() == ["node2"], 30)
    finally:
        node.start_kubelet()
    cluster.wait_nodes(60)


@pytest.mark.timeout(180)
def test_nothing_is_left_after_a_stop_and_neighbours_are_unharmed(api_cluster: Cluster) -> None:
    name = beside(api_cluster, "left")
    cluster = Cluster.start(name, nodes=1)
    layout = cluster.layout
    cluster.apply(pod("running", "sleep", "3600"))
    cluster.wait("pod running", lambda: phase(cluster, "running") == "Running")
    kinds = {line.split()[0] for line in leftovers(layout)}
    assert kinds == {"process", "interface", "route", "cgroup", "folder"}  # the question can be answered with yes
    with pytest.raises(ClusterError, match=f"cluster {name} is running already"):
        Cluster.start(name, nodes=0)
    cluster.stop()
    assert [line for line in leftovers(layout) if not line.startswith("folder")] == []  # files go in the background
    wait_until(lambda: leftovers(layout) == [])
    assert api_cluster.kubectl("get", "--raw", "/readyz") == "ok"


DOOMED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from tests.cluster.harness.cluster import Cluster
cluster = Cluster.start(sys.argv[2], nodes=1)
cluster.kubectl("create", "namespace", "old")
print(cluster.layout.index, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.timeout(180)
def test_a_killed_harness_leaves_no_process_and_the_next_start_removes_the_rest(api_cluster: Cluster) -> None:
    name = beside(api_cluster, "doomed")
    command = [sys.executable, "-c", DOOMED, str(ROOT), name]
    doomed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert doomed.returncode == -signal.SIGKILL, doomed.stderr
    layout = Layout(name, int(doomed.stdout))
    wait_until(lambda: not [line for line in leftovers(layout) if line.startswith("process")])
    assert [line for line in leftovers(layout) if line.startswith("cgroup")]  # nobody was there to remove them
    after = Cluster.start(name, nodes=0)
    try:
        assert "old" not in after.kubectl("get", "namespaces")
        assert cgroups.remaining(layout.cgroup) == []
    finally:
        after.stop()
    wait_until(lambda: leftovers(after.layout) == [])


def test_a_detached_cluster_is_found_again_and_ended_by_name(api_cluster: Cluster) -> None:
    name = beside(api_cluster, "again")
    command = [sys.executable, "tests/cluster/cluster.py"]
    up = subprocess.run(
        [*command, "up", f"--name={name}", "--nodes=0"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert up.returncode == 0, up.stderr
    cluster = Cluster.attach(name)
    try:
        asked = [*command, "kubectl", "--name", name, "get", "namespaces", "--output=name"]
        assert (
            "namespace/kube-system"
            in subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        )
    finally:
        subprocess.run([*command, "down", f"--name={name}"], cwd=ROOT, capture_output=True, check=True)
    wait_until(lambda: leftovers(cluster.layout) == [])
    with pytest.raises(ClusterError, match=f"no cluster {name} is running"):
        Cluster.attach(name)


def test_a_machine_without_go_says_so_in_one_line_or_fails_where_it_must_not(tmp_path: Path) -> None:
    """The same test in a run of its own: skipped with the reason, or failed when it is required."""
    asked = f"{__file__}::test_two_nodes_report_the_version_that_was_asked_for"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "0", asked]
    environment = {**os.environ, "PATH": str(tmp_path), "EVERGRAFT_REQUIRE_ALL": "0"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    line = "not run on this machine: a cluster: there is no Go compiler here; install Go 1.26 or newer (1 tests)"
    assert line in run.stdout.splitlines()
    environment["EVERGRAFT_REQUIRE_ALL"] = "1"
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "EVERGRAFT_REQUIRE_ALL=1, but this machine cannot run it: a cluster: there is no Go compiler" in run.stdout


def test_clusters_side_by_side_share_no_address() -> None:
    first, second = Layout("a", 0), Layout("b", 1)
    assert first.network != second.network
    assert first.pods != second.pods
    assert first.services != second.services
    assert first.host_interface != second.host_interface
    assert len(Layout("c", 60).host_interface) < 16
    with pytest.raises(ClusterError, match="--name 'No': lower-case letters"):
        Layout("No", 0)


def test_what_is_installed_is_not_asked_for_again(binaries: Binaries) -> None:
    assert missing(CLUSTER) == []
    assert missing({"nothing-such": "nothing-such"}) == ["nothing-such"]
