"""The chart on a real cluster by a real helm: install, test, upgrade with a search under way, rollback, uninstall.

A cluster of its own with one node, as the other tests install by kustomize what would be in the way here. The older
version is the chart as it was first written, packaged under a lower number.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.harness.binaries import Binaries
from tests.cluster.harness.cluster import Cluster
from tests.cluster.images.build import build
from tests.cluster.scene import LONG, SECRET, Object, Scene, Space

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "evergraft"
OLDER = ROOT / "tests" / "charts" / "data" / "evergraft-0.0.9.tgz"
SYSTEM, TEAM = "evergraft", "team"
IMAGES = {"image": {"tag": "test"}, "trainer": {"images": {"cpu": {"tag": "test-cpu"}}}}
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}

LEASE = ["lease.coordination.k8s.io/evergraft-operator"]
"""The operator made it, not helm; it is released, and of no effect."""

Helm = Callable[..., "subprocess.CompletedProcess[str]"]
pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]


@pytest.fixture(scope="module")
def fresh(binaries: Binaries) -> Iterator[Cluster]:
    """A cluster where nothing of ours is, with our images on its one node."""
    cluster = Cluster.start(nodes=1)
    try:
        for name in ("operator", "trainer"):
            cluster.import_image(build(name).tar)
        for name in (SYSTEM, "one", "two", "one-system", "two-system"):
            namespace(cluster, name)
        yield cluster
    finally:
        cluster.stop()


def namespace(cluster: Cluster, name: str) -> None:
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}})


@pytest.fixture(scope="module")
def helm(fresh: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Runs helm on that cluster with a mapping of values; what it says of Pod Security is a failure."""
    home = tmp_path_factory.mktemp("helm")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "KUBECONFIG": str(fresh.kubeconfig),
    }
    program = Path(sys.executable).with_name("helm")

    def run(
        *arguments: str, values: dict[str, Any] | None = None, fails: bool = False
    ) -> subprocess.CompletedProcess[str]:
        given = [f"--set-json={key}={json.dumps(value)}" for key, value in (values or {}).items()]
        done = subprocess.run(
            [str(program), *arguments, *given],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
            timeout=400,
        )
        assert (done.returncode != 0) is fails, (arguments, done.stdout, done.stderr)
        assert "would violate PodSecurity" not in done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def team(fresh: Cluster, helm: Helm) -> Space:
    """The older chart installed, and a namespace with a graph."""
    helm("install", "evergraft", str(OLDER), "--namespace", SYSTEM, "--wait", "--timeout", "120s", values=IMAGES)
    space = Scene(fresh).open(TEAM)
    space.wait_graph()
    return space


def pods_of(cluster: Cluster, name: str) -> list[Object]:
    return cluster.objects("pods", "--namespace", name, "--selector=app.kubernetes.io/component=operator")


def suspended(space: Space, name: str) -> None:
    space.task(name, suspend=True)


def test_an_upgrade_leaves_a_search_alone(team: Space, helm: Helm) -> None:
    team.task("through", search=LONG, timeouts={"search": "60s"})
    worker = team.wait_training("through")
    (job,) = team.jobs()
    before = {pod["metadata"]["name"] for pod in pods_of(team.cluster, SYSTEM)}
    helm("upgrade", "evergraft", str(CHART), "--namespace", SYSTEM, "--wait", "--timeout", "120s", values=IMAGES)
    after = pods_of(team.cluster, SYSTEM)
    assert "evergraft-0.1.0" in helm("list", "--namespace", SYSTEM).stdout
    assert [each["metadata"]["uid"] for each in team.jobs()] == [job["metadata"]["uid"]]
    assert worker in {pod["metadata"]["name"] for pod in team.pods()}
    status = team.wait_phase("through", "Succeeded", timeout_s=180)
    assert status["route"]["runKey"] == "i1-c1"
    assert len(team.jobs()) == 1
    assert team.commits("team/through") == 1
    assert all(pod["status"]["phase"] in ("Running", "Succeeded") for pod in after), before


def test_helm_test_sees_a_working_install(team: Space, helm: Helm) -> None:
    done = helm("test", "evergraft", "--namespace", SYSTEM, "--timeout", "180s")
    assert "Phase:          Succeeded" in done.stdout
    for kind in ("tasks.evergraft.dev", "configmaps", "roles", "pods"):
        left = [each["metadata"]["name"] for each in team.cluster.objects(kind, "--namespace", SYSTEM)]
        assert [name for name in left if name.startswith("evergraft-test")] == []


def test_helm_test_trains_a_task_where_it_is_given_a_store(team: Space, helm: Helm) -> None:
    s3 = team.cluster.s3
    store = {"url": f"{s3.url}/helm-test", "endpoint": s3.endpoint, "secretRef": {"name": SECRET}}
    values = {**IMAGES, "test": {"store": store, "namespace": TEAM}}
    helm("upgrade", "evergraft", str(CHART), "--namespace", SYSTEM, "--wait", "--timeout", "120s", values=values)
    done = helm("test", "evergraft", "--namespace", SYSTEM, "--timeout", "300s")
    assert "Succeeded" in done.stdout
    left = [each["metadata"]["name"] for each in team.cluster.objects("tasks.evergraft.dev", "--namespace", TEAM)]
    assert "evergraft-test" not in left
    objects = team.scene.files().find(s3.url)
    assert len(objects) > 5
    assert [key for key in objects if "/helm-test/" in key] == []


def test_helm_test_says_what_is_wrong(team: Space, helm: Helm) -> None:
    values = {**IMAGES, "test": {"timeoutSeconds": 10}}
    helm("upgrade", "evergraft", str(CHART), "--namespace", SYSTEM, "--wait", "--timeout", "120s", values=values)
    team.scene.scale_operator(0)
    try:
        helm("test", "evergraft", "--namespace", SYSTEM, "--timeout", "120s", fails=True)
        told = team.cluster.kubectl("logs", "evergraft-test", "--namespace", SYSTEM)
        assert "FAILED: the operator is available: not within 10 s; last seen: 0 available" in told
    finally:
        team.scene.scale_operator(1)


def test_wrong_values_change_nothing(team: Space, helm: Helm) -> None:
    done = helm("upgrade", "evergraft", str(CHART), "-n", SYSTEM, values={"replicas": "many"}, fails=True)
    assert "replicas: Invalid type. Expected: integer, given: string" in done.stderr
    assert "deployed" in helm("status", "evergraft", "-n", SYSTEM).stdout


def test_policies_and_a_second_operator_are_taken(team: Space, helm: Helm) -> None:
    values = {
        **IMAGES,
        "replicas": 2,
        "pdb": {"enabled": True},
        "networkPolicy": {"enabled": True, "workers": {"namespaces": [TEAM]}},
        "policy": {"imagePrefixes": ["registry.acme/"]},
    }
    helm("upgrade", "evergraft", str(CHART), "--namespace", SYSTEM, "--wait", "--timeout", "120s", values=values)
    pods = [pod for pod in pods_of(team.cluster, SYSTEM) if "deletionTimestamp" not in pod["metadata"]]
    assert len(pods) == 2
    (budget,) = team.cluster.objects("pdb", "--namespace", SYSTEM)
    assert budget["spec"]["maxUnavailable"] == 1
    team.task("foreign", suspend=True, workers={"image": "evil.example/x:1"})
    team.wait_condition("foreign", "Accepted", "False/PolicyViolation", timeout_s=90)
    (lease,) = team.cluster.objects("lease", "--namespace", SYSTEM)
    assert lease["spec"]["holderIdentity"].startswith(tuple(pod["metadata"]["name"] for pod in pods))


def test_a_rollback_works_on(team: Space, helm: Helm) -> None:
    helm("rollback", "evergraft", "1", "--namespace", SYSTEM, "--wait", "--timeout", "120s")
    assert "evergraft-0.0.9" in helm("list", "--namespace", SYSTEM).stdout
    assert team.cluster.objects("pdb", "--namespace", SYSTEM) == []
    suspended(team, "later")
    team.wait_condition("later", "Accepted", "True/Accepted", timeout_s=90)
    assert team.status("through")["phase"] == "Succeeded"


def test_an_uninstall_keeps_crds_and_tasks(team: Space, helm: Helm) -> None:
    helm("uninstall", "evergraft", "--namespace", SYSTEM, "--wait", "--timeout", "120s")
    cluster = team.cluster
    ours = [each["metadata"]["name"] for each in cluster.objects("crd")]
    assert ours == ["modulegraphs.evergraft.dev", "tasks.evergraft.dev"]
    assert {each["metadata"]["name"] for each in cluster.objects("et", "-n", TEAM)} >= {"through", "later"}
    for kind in ("clusterroles", "clusterrolebindings"):
        names = [each["metadata"]["name"] for each in cluster.objects(kind)]
        assert [name for name in names if "evergraft" in name] == []

    def nothing_is_left() -> bool:
        """But what a failed `helm test` left, which the next one removes."""
        kinds = "all,serviceaccounts,roles,rolebindings,leases,networkpolicies,pdb"
        left = cluster.kubectl("get", kinds, "-n", SYSTEM, "-o", "name").split()
        return [name for name in left if "evergraft" in name and "evergraft-test" not in name] == LEASE

    cluster.wait("everything to go", nothing_is_left, 60)
    helm("install", "evergraft", str(CHART), "--namespace", SYSTEM, "--wait", "--timeout", "120s", values=IMAGES)
    suspended(team, "again")
    team.wait_condition("again", "Accepted", "True/Accepted", timeout_s=90)
    assert team.status("through")["phase"] == "Succeeded"
    assert len(team.jobs()) <= 1
    helm("uninstall", "evergraft", "--namespace", SYSTEM, "--wait", "--timeout", "120s")


def test_two_releases_stand_side_by_side(team: Space, helm: Helm) -> None:
    cluster = team.cluster
    for name in ("one", "two"):
        values = {**IMAGES, "watch": {"namespaces": [name]}, "crds": {"enabled": False}}
        arguments = ("install", name, str(CHART), "--namespace", f"{name}-system", "--wait", "--timeout", "120s")
        helm(*arguments, values=values)
    roles = [each["metadata"]["name"] for each in cluster.objects("clusterroles")]
    assert [name for name in roles if "evergraft" in name] == []
    spaces = [Space(team.scene, name, data=team.data) for name in ("one", "two")]
    for space in spaces:
        suspended(space, "mine")
    for space in spaces:
        space.wait_condition("mine", "Accepted", "False/GraphNotFound", timeout_s=90)
    for name in ("one", "two"):
        done = helm("test", name, "--namespace", f"{name}-system", "--timeout", "180s")
        assert "Succeeded" in done.stdout
    one = team.scene.open("one")
    one.wait_graph()
    one.task("trained")
    one.wait_phase("trained", "Succeeded", timeout_s=180)
    assert one.commits("one/trained") == 1
    one.wait_condition("mine", "Accepted", "True/Accepted")
    values = {**IMAGES, "watch": {"namespaces": ["one"]}, "crds": {"enabled": False}}
    done = helm("install", "three", str(CHART), "--namespace", SYSTEM, values=values, fails=True)
    assert 'Role "evergraft-operator" in namespace "one" exists and cannot be imported' in done.stderr
    for name in ("one", "two"):
        helm("uninstall", name, "--namespace", f"{name}-system", "--wait")
