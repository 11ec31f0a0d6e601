"""What the operator may do, asked on a real API server with its own token: all it needs, and nothing else.

Every resource that the server knows is asked for with every verb. The permission check of owner references is on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.harness.cluster import Cluster
from tests.cluster.rest import APPLY, MERGE, Object, Rest

OVERLAYS = Path(__file__).resolve().parents[2] / "manifests" / "overlays"
API = "/apis/evergraft.dev/v1alpha1/namespaces"
OWN, TEAM, OTHER = "evergraft", "rbac-team", "rbac-other"
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
EVERYWHERE = {
    "tasks.evergraft.dev": "get list watch patch",
    "tasks.evergraft.dev/status": "patch",
    "tasks.evergraft.dev/finalizers": "update",
    "modulegraphs.evergraft.dev": "get list watch",
    "modulegraphs.evergraft.dev/status": "patch",
    "modulegraphs.evergraft.dev/finalizers": "update",
    "jobs.batch": "get list watch create patch delete",
    "pods": "get list watch",
    "events": "list create patch",
    "serviceaccounts": "get",
    "workloads.kueue.x-k8s.io": "get list",
}
LEASE = "leases.coordination.k8s.io"
NAMESPACES = {"namespaces": "get list watch"}
UNLISTED = ("tasks.evergraft.dev/finalizers", "modulegraphs.evergraft.dev/finalizers", "workloads.kueue.x-k8s.io")
NEVER = (
    ("get", "secrets"),
    ("list", "secrets"),
    ("get", "configmaps"),
    ("list", "nodes"),
    ("create", "pods"),
    ("delete", "pods"),
    ("create", "pods/exec"),
    ("get", "pods/exec"),
    ("create", "pods/attach"),
    ("create", "pods/portforward"),
    ("create", "pods/ephemeralcontainers"),
    ("get", "pods/log"),
    ("get", "pods/proxy"),
    ("get", "nodes/proxy"),
    ("create", "serviceaccounts/token"),
    ("create", "tasks.evergraft.dev"),
    ("delete", "tasks.evergraft.dev"),
    ("patch", "modulegraphs.evergraft.dev"),
    ("delete", "modulegraphs.evergraft.dev"),
    ("update", "jobs.batch"),
    ("patch", "jobs.batch/status"),
    ("create", "deployments.apps"),
    ("create", "rolebindings.rbac.authorization.k8s.io"),
    ("escalate", "roles.rbac.authorization.k8s.io"),
    ("bind", "clusterroles.rbac.authorization.k8s.io"),
    ("impersonate", "users"),
    ("patch", "customresourcedefinitions.apiextensions.k8s.io"),
    ("create", "tokenreviews.authentication.k8s.io"),
    ("delete", LEASE),
    ("list", LEASE),
)


@dataclass
class Account:
    """The operator's account of one install."""

    rest: Rest
    namespace: str

    def may(self, verb: str, resource: str, namespace: str = "", name: str = "") -> bool:
        """Whether it may; no namespace asks for the whole cluster."""
        path, _, subresource = resource.partition("/")
        plural, _, group = path.partition(".")
        asked = {"verb": verb, "group": group, "resource": plural, "subresource": subresource}
        where = {"namespace": namespace, "name": name}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {**asked, **where}},
        }
        answer = self.rest.must("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        return bool(answer["status"]["allowed"])

    def rights(self, resources: list[str], namespace: str) -> dict[str, str]:
        """Its verbs by resource, of those that it has any of."""
        found = {each: " ".join(verb for verb in VERBS if self.may(verb, each, namespace)) for each in resources}
        return {each: verbs for each, verbs in found.items() if verbs}


def account(cluster: Cluster, namespace: str, name: str = "evergraft-operator") -> Account:
    """An account, by default that which an overlay made in a namespace."""
    token = cluster.kubectl("create", "token", name, "--namespace", namespace).strip()
    return Account(Rest(cluster, token), namespace)


def in_order(table: dict[str, str]) -> dict[str, str]:
    return {each: " ".join(verb for verb in VERBS if verb in verbs.split()) for each, verbs in table.items()}


@pytest.fixture(scope="module")
def installed(api_cluster: Cluster) -> Iterator[Cluster]:
    """A cluster with the operator installed for all of it."""
    for name in (TEAM, OTHER):
        api_cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    api_cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(OVERLAYS / "cluster"))
    api_cluster.kubectl(
        "wait", "--for=condition=Established", "crd", "tasks.evergraft.dev", "modulegraphs.evergraft.dev"
    )
    yield api_cluster
    for name in (TEAM, OTHER, OWN):
        api_cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def admin(installed: Cluster) -> Iterator[Rest]:
    """The administrator."""
    rest = Rest(installed)
    yield rest
    rest.close()


@pytest.fixture(scope="module")
def operator(installed: Cluster) -> Iterator[Account]:
    """The operator's account, installed for the whole cluster."""
    found = account(installed, OWN)
    yield found
    found.rest.close()


@pytest.fixture(scope="module")
def resources(installed: Cluster, admin: Rest) -> list[str]:
    """Every resource that the server knows, listed or not, but for those that Kubernetes opens to every account."""
    found = [("", each) for each in admin.must("GET", "/api/v1")["resources"]]
    for group in admin.must("GET", "/apis")["groups"]:
        for version in group["versions"]:
            listed = admin.must("GET", f"/apis/{version['groupVersion']}")["resources"]
            found += [(group["name"], each) for each in listed]
    names = set(UNLISTED)
    for group, each in found:
        plural, slash, subresource = each["name"].partition("/")
        names.add(f"{plural}{'.' if group else ''}{group}{slash}{subresource}")
    assert len(names) > 80
    anyone = account(installed, OTHER, "default")
    everyones = set(anyone.rights(sorted(names), OTHER))
    anyone.rest.close()
    return sorted(names - everyones)


def test_the_operator_may_do_this_and_nothing_else(operator: Account, resources: list[str]) -> None:
    assert operator.rights(resources, TEAM) == in_order({**EVERYWHERE, **NAMESPACES})
    assert operator.rights(resources, "") == in_order({**EVERYWHERE, **NAMESPACES})


def test_in_its_own_namespace_it_has_a_lease_too(operator: Account, resources: list[str]) -> None:
    assert operator.rights(resources, OWN) == in_order({**EVERYWHERE, **NAMESPACES, LEASE: "create"})
    assert [verb for verb in VERBS if operator.may(verb, LEASE, OWN, "evergraft-operator")] == [
        "get",
        "create",
        "update",
    ]
    assert not operator.may("get", LEASE, OWN, "other")


@pytest.mark.parametrize(("verb", "resource"), NEVER, ids=[f"{verb} {resource}" for verb, resource in NEVER])
def test_what_it_must_never_do(verb: str, resource: str, operator: Account) -> None:
    for namespace in (TEAM, OWN, ""):
        assert not operator.may(verb, resource, namespace)


# --- Not only asked, but done.


def task(name: str, **metadata: Any) -> Object:
    return {
        "apiVersion": "evergraft.dev/v1alpha1",
        "kind": "Task",
        "metadata": {"name": name, **metadata},
        "spec": {"dataset": {"url": "gs://acme-data/x"}},
    }


def graph(name: str) -> Object:
    spec = {"store": {"url": "gs://acme/g"}, "root": {"backbone": "vit", "seed": 0}}
    return {"apiVersion": "evergraft.dev/v1alpha1", "kind": "ModuleGraph", "metadata": {"name": name}, "spec": spec}


def job(name: str, owner: Object) -> Object:
    reference = {key: owner[key] for key in ("apiVersion", "kind")}
    reference |= {key: owner["metadata"][key] for key in ("name", "uid")}
    box = {"name": "worker", "image": "evergraft/trainer:cpu"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "ownerReferences": [{**reference, "controller": True, "blockOwnerDeletion": True}]},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [box]}}},
    }


@pytest.fixture
def objects(admin: Rest) -> Iterator[tuple[Object, Object]]:
    """A Task and a ModuleGraph."""
    made = (
        admin.must("POST", f"{API}/{TEAM}/tasks", task("mine")),
        admin.must("POST", f"{API}/{TEAM}/modulegraphs", graph("mine")),
    )
    yield made
    admin.call("PATCH", f"{API}/{TEAM}/tasks/mine", {"metadata": {"finalizers": None}}, MERGE)
    admin.must("DELETE", f"{API}/{TEAM}/tasks/mine")
    admin.must("DELETE", f"{API}/{TEAM}/modulegraphs/mine")


def test_its_work_can_be_done(operator: Account, objects: tuple[Object, Object]) -> None:
    rest, jobs = operator.rest, f"/apis/batch/v1/namespaces/{TEAM}/jobs"
    for owner in objects:
        name = f"{owner['kind'].lower()}-job"
        rest.must("POST", jobs, job(name, owner))
        rest.must("PATCH", f"{jobs}/{name}", {"spec": {"parallelism": 3}}, MERGE)
        where = f"{API}/{TEAM}/{owner['kind'].lower()}s/mine"
        applied = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "metadata": {"name": "mine"}}
        condition = {"type": "Ready", "status": "False", "reason": "Testing", "message": ""}
        condition["lastTransitionTime"] = "2026-01-01T00:00:00Z"
        applied["status"] = {"observedGeneration": 1, "conditions": [condition]}
        rest.must("PATCH", f"{where}/status?fieldManager=evergraft&force=true", applied, APPLY)
        about = {"kind": owner["kind"], "name": "mine", "namespace": TEAM, "uid": owner["metadata"]["uid"]}
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": "mine."},
            "involvedObject": about,
            "reason": "Testing",
            "message": "",
            "type": "Normal",
        }
        made = rest.must("POST", f"/api/v1/namespaces/{TEAM}/events", event)
        rest.must("PATCH", f"/api/v1/namespaces/{TEAM}/events/{made['metadata']['name']}", {"count": 2}, MERGE)
        rest.must("DELETE", f"{jobs}/{name}", {"propagationPolicy": "Background"})
    rest.must("PATCH", f"{API}/{TEAM}/tasks/mine", {"metadata": {"finalizers": ["evergraft.dev/remove-route"]}}, MERGE)


def test_owner_references_are_checked_here(installed: Cluster, admin: Rest, objects: tuple[Object, Object]) -> None:
    """Without the right to set finalizers the same Job is refused, so the test above shows something."""
    meta = {"name": "poor", "namespace": TEAM}
    rules = [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create"]}]
    kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": meta}
    installed.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {**kind, "kind": "Role", "rules": rules},
        {
            **kind,
            "kind": "RoleBinding",
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "poor"},
            "subjects": [{"kind": "ServiceAccount", **meta}],
        },
        namespace=TEAM,
    )
    rest = Rest(installed, installed.kubectl("create", "token", "poor", "--namespace", TEAM).strip())
    status, answer = rest.call("POST", f"/apis/batch/v1/namespaces/{TEAM}/jobs", job("poor", objects[0]))
    rest.close()
    assert status == 403
    assert "blockOwnerDeletion" in answer["message"]


def test_its_lease_can_be_taken_renewed_and_let_go(operator: Account, admin: Rest) -> None:
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{OWN}/leases"
    admin.call("DELETE", f"{leases}/evergraft-operator")  # an operator that ran here before left it
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "evergraft-operator"},
        "spec": {"holderIdentity": "a", "leaseDurationSeconds": 30},
    }
    made = operator.rest.must("POST", leases, lease)
    made["spec"]["holderIdentity"] = ""
    operator.rest.must("PUT", f"{leases}/evergraft-operator", made)
    assert operator.rest.call("DELETE", f"{leases}/evergraft-operator")[0] == 403
    other = leases.replace(f"/{OWN}/", f"/{TEAM}/")
    assert operator.rest.call("POST", other, lease)[0] == 403


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"/api/v1/namespaces/{TEAM}/secrets", None),
        ("GET", f"/api/v1/namespaces/{OWN}/secrets", None),
        ("GET", f"/api/v1/namespaces/{TEAM}/configmaps/kube-root-ca.crt", None),
        ("GET", "/api/v1/nodes", None),
        ("GET", f"/api/v1/namespaces/{TEAM}/pods/x/log", None),
        ("POST", f"/api/v1/namespaces/{TEAM}/pods/x/exec?command=id", None),
        ("POST", f"/api/v1/namespaces/{TEAM}/serviceaccounts/default/token", {"spec": {}}),
        ("POST", f"/api/v1/namespaces/{TEAM}/pods", {"metadata": {"name": "x"}}),
        ("PATCH", f"{API}/{TEAM}/modulegraphs/mine", {"spec": {"store": {"url": "gs://evil/x"}}}),
        ("PUT", f"{API}/{TEAM}/tasks/mine", task("mine")),
        ("PUT", f"{API}/{TEAM}/tasks/mine/status", task("mine")),
        ("POST", f"{API}/{TEAM}/tasks", task("new")),
        ("DELETE", f"{API}/{TEAM}/tasks/mine", None),
        ("DELETE", f"{API}/{TEAM}/modulegraphs/mine", None),
        ("GET", "/metrics", None),
    ],
)
def test_what_it_must_not_do_is_refused(
    method: str, path: str, body: Object | None, operator: Account, objects: tuple[Object, Object]
) -> None:
    status, answer = operator.rest.call(method, path, body, MERGE if method == "PATCH" else "")
    assert status == 403, answer


# --- A namespaced install.


def namespaced(cluster: Cluster, namespace: str) -> list[Object]:
    """The overlay for one namespace, moved to another than `evergraft`."""
    text = cluster.kubectl("kustomize", str(OVERLAYS / "namespaced"))
    found = list(yaml.safe_load_all(text))
    for value in found:
        value["metadata"]["namespace"] = namespace
        for subject in value.get("subjects", ()):
            subject["namespace"] = namespace
    return found


@pytest.fixture(scope="module")
def tenant(installed: Cluster) -> Iterator[Account]:
    """The account of an install for one namespace, applied by someone who may do everything there and nothing else."""
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "all", "namespace": TEAM}}
    installed.apply(
        {**kind, "kind": "Role", "rules": rules},
        {
            **kind,
            "kind": "RoleBinding",
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "all"},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "team"}],
        },
        namespace=TEAM,
    )
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": namespaced(installed, TEAM)})
    installed.kubectl("apply", "--server-side", "--as=team", "--namespace", TEAM, "-f", "-", input=text)
    found = account(installed, TEAM)
    yield found
    found.rest.close()


def test_a_namespaced_install_can_do_its_work_there(tenant: Account, resources: list[str]) -> None:
    assert tenant.rights(resources, TEAM) == in_order({**EVERYWHERE, LEASE: "create"})
    assert tenant.may("update", LEASE, TEAM, "evergraft-operator")
    for plural in ("tasks", "modulegraphs"):
        tenant.rest.must("GET", f"{API}/{TEAM}/{plural}")
    tenant.rest.must("GET", f"/apis/batch/v1/namespaces/{TEAM}/jobs")
    tenant.rest.must("GET", f"/api/v1/namespaces/{TEAM}/pods")


def test_a_namespaced_install_can_do_nothing_elsewhere(tenant: Account, resources: list[str]) -> None:
    assert tenant.rights(resources, OTHER) == {}
    assert tenant.rights(resources, "") == {}
    assert tenant.rest.call("GET", "/apis/evergraft.dev/v1alpha1/tasks")[0] == 403
    assert tenant.rest.call("GET", f"/api/v1/namespaces/{TEAM}")[0] == 403


# --- People.


def may(cluster: Cluster, user: str, verb: str, resource: str) -> bool:
    done = cluster.try_kubectl("auth", "can-i", verb, resource, "--namespace", TEAM, f"--as={user}")
    return done.stdout.strip() == "yes"


def test_people_get_what_their_roles_aggregate(installed: Cluster) -> None:
    for role in ("view", "edit", "admin"):
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
        subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": f"{role}er"}
        meta = {"name": f"people-{role}", "namespace": TEAM}
        installed.apply(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": meta,
                "roleRef": reference,
                "subjects": [subject],
            },
            namespace=TEAM,
        )
    installed.wait("the roles are aggregated", lambda: may(installed, "adminer", "create", "tasks.evergraft.dev"), 30)
    for user, verb, resource, expected in [
        ("viewer", "get", "tasks.evergraft.dev", True),
        ("viewer", "watch", "modulegraphs.evergraft.dev", True),
        ("viewer", "patch", "tasks.evergraft.dev", False),
        ("editer", "get", "tasks.evergraft.dev", True),
        ("editer", "create", "tasks.evergraft.dev", False),
        ("adminer", "patch", "tasks.evergraft.dev/scale", True),
        ("adminer", "delete", "modulegraphs.evergraft.dev", True),
        ("adminer", "patch", "tasks.evergraft.dev/status", False),
        ("nobody", "get", "tasks.evergraft.dev", False),
    ]:
        plural, _, subresource = resource.partition("/")
        asked = f"{plural} --subresource={subresource}".split() if subresource else [plural]
        done = installed.try_kubectl("auth", "can-i", verb, *asked, "--namespace", TEAM, f"--as={user}")
        assert (done.stdout.strip() == "yes") is expected, (user, verb, resource, done.stdout, done.stderr)
