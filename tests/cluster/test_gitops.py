"""Tasks from Git on a real API server: what Argo CD and Flux apply stays as applied, and settles.

Both apply on the server's side under a field manager of their own, again and again, and compare by a dry run of the
same. The operator runs beside it with its own rights. Nobody may fight: the operator writes status alone, defaults
are no difference, a second apply writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from tests.cluster.git import GROUP, SETTLED_S, Git
from tests.cluster.harness.cluster import Cluster
from tests.cluster.operator_process import Operator, eventually, jobs_of
from tests.cluster.rest import MERGE, Rest

from evergraft_operator import labels
from evergraft_operator.client import FIELD_MANAGER

MANAGERS = ("argocd-controller", "kustomize-controller")

both = pytest.mark.parametrize("git", MANAGERS, indirect=True)


@pytest.fixture(scope="module")
def installed(api_cluster: Cluster) -> Iterator[Rest]:
    api_cluster.kubectl("apply", "--server-side", "-k", "manifests/overlays/cluster")
    admin = Rest(api_cluster)
    yield admin
    admin.close()


@pytest.fixture(scope="module")
def operator(api_cluster: Cluster, installed: Rest) -> Iterator[Operator]:
    token = api_cluster.kubectl("-n", "evergraft", "create", "token", "evergraft-operator", "--duration", "2h").strip()
    with Operator(api_cluster, token) as running:
        yield running


@pytest.fixture
def git(api_cluster: Cluster, installed: Rest, operator: Operator, request: pytest.FixtureRequest) -> Iterator[Git]:
    name = f"g{abs(hash(request.node.name)) % 10**8}"
    installed.must("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    eventually(lambda: installed.call("GET", account)[0] == 200, what="the default ServiceAccount")
    made = Git(api_cluster, installed, name, getattr(request, "param", MANAGERS[0]))
    yield made
    for kind, document in made.documents.items():
        path = f"{GROUP}/namespaces/{name}/{kind.lower()}s/{document['metadata']['name']}"
        installed.call("DELETE", path)
        installed.call("PATCH", path, {"metadata": {"finalizers": None}}, MERGE)


@both
def test_what_was_applied_settles_and_a_second_apply_writes_nothing(git: Git) -> None:
    git.start()
    before = git.settle()
    git.apply()
    assert git.versions() == before
    assert git.difference() == ""
    time.sleep(SETTLED_S)
    assert git.versions() == before


@both
def test_spec_is_git_s_and_status_the_operator_s(git: Git) -> None:
    git.start()
    git.settle()
    for kind in git.documents:
        owners = git.owners(kind)
        assert set(owners) == {(git.manager, ""), (FIELD_MANAGER, "status")}
        assert owners[(FIELD_MANAGER, "status")] == {"f:status"}
        assert owners[(git.manager, "")] == {"f:metadata/f:labels", "f:spec"}


def test_defaults_are_no_difference(git: Git) -> None:
    git.start()
    spec = git.read("Task")["spec"]
    filled = {"graphRef", "iteration", "suspend", "visibility", "deletionPolicy", "metric"}
    assert filled <= set(spec)
    assert filled.isdisjoint(git.documents["Task"]["spec"])
    git.settle()
    assert git.difference() == ""
    # Somebody who writes the defaults out changes nothing either: the same generation, no new Job.
    generation = git.read("Task")["metadata"]["generation"]
    git.write("Task", "cifar10", iteration=1, suspend=False, graphRef={"name": "default"}, metric="Accuracy")
    git.apply()
    assert git.read("Task")["metadata"]["generation"] == generation
    git.settle()
    assert git.difference() == ""
    assert len([job for job in jobs_of(git.admin, git.namespace) if not job["status"].get("conditions")]) == 1


def test_a_change_in_git_is_carried_out_and_settles(git: Git) -> None:
    job = git.start()
    git.settle()
    git.write("Task", "cifar10", workers={"replicas": 3})
    assert "replicas" in git.difference()
    git.apply()
    path = f"/apis/batch/v1/namespaces/{git.namespace}/jobs/{job['metadata']['name']}"
    eventually(lambda: git.admin.must("GET", path)["spec"]["parallelism"] == 3, what="the new size")
    git.settle()
    assert git.difference() == ""
    assert git.read("Task")["status"]["observedGeneration"] == git.read("Task")["metadata"]["generation"]


def test_the_finalizer_is_the_operator_s_and_no_difference(git: Git) -> None:
    git.write("Task", "cifar10", deletionPolicy="Delete")
    git.start()
    git.settle()
    assert git.read("Task")["metadata"]["finalizers"] == [labels.FINALIZER]
    before = git.versions()
    git.apply()
    assert git.versions() == before
    assert git.difference() == ""


def test_git_takes_back_what_a_person_scaled(git: Git) -> None:
    git.start()
    git.settle()
    git.cluster.kubectl("scale", "et/cifar10", "--replicas=5", "-n", git.namespace)
    difference = git.cluster.try_kubectl(
        "diff", "--server-side", f"--field-manager={git.manager}", "--force-conflicts", "-f", "-", input=git.text()
    )
    assert "replicas: 5" in difference.stdout
    git.apply("--force-conflicts")
    assert git.read("Task")["spec"]["workers"]["replicas"] == 2
    git.settle()
    assert git.difference() == ""
    assert (git.manager, "") in git.owners("Task")


def test_the_operator_was_refused_nothing(operator: Operator) -> None:
    figures = operator.figures()
    assert {name: value for name, value in figures.items() if 'code="403"' in name or 'code="409"' in name} == {}
    assert figures['evergraft_reconcile_total{outcome="error"}'] == 0
