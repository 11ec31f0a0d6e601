"""The operator gone, doubled, or blind for a while: workers need nobody, and nothing is done twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cluster.scene import LONG, SYSTEM, Scene, Space

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def space(scene: Scene) -> Iterator[Space]:
    with scene.space("away") as made:
        made.wait_graph()
        yield made


def test_away_for_the_whole_search_it_finds_the_commit_when_it_is_back(scene: Scene, space: Space) -> None:
    space.task("alone", search=LONG, timeouts={"search": "30s"})
    space.wait_training("alone")
    scene.scale_operator(0)
    try:
        scene.cluster.wait("the commit", lambda: "away/alone" in space.tasks(), 120)
        assert space.status("alone")["phase"] == "Training"
    finally:
        scene.scale_operator(1)
    status = space.wait_phase("alone", "Succeeded")
    assert status["search"]["outcome"] == "committed"
    assert status["search"]["attempt"] == 1
    assert space.commits("away/alone") == 1
    space.assert_nothing_runs()


def test_a_job_deleted_while_nobody_watches_is_another_attempt_at_the_same_search(scene: Scene, space: Space) -> None:
    space.task("erased", search=LONG, timeouts={"search": "30s"})
    space.wait_training("erased")
    search = space.status("erased")["search"]["id"]
    scene.scale_operator(0)
    try:
        space.kubectl(
            "delete", "job", space.status("erased")["search"]["jobName"], "--cascade=foreground", "--wait=true"
        )
    finally:
        scene.scale_operator(1)
    status = space.wait_phase("erased", "Succeeded", 200)
    assert (status["search"]["id"], status["search"]["attempt"]) == (search, 2)
    assert space.commits("away/erased") == 1
    space.assert_nothing_runs()


def test_two_that_both_believe_to_lead_make_one_job(scene: Scene, space: Space) -> None:
    """A second operator with a Lease of its own: both reconcile, names and field owner are the same."""
    scene.cluster.apply(*_second_operator(scene))
    try:
        scene.cluster.kubectl(
            "rollout", "status", "deployment/evergraft-second", f"--namespace={SYSTEM}", "--timeout=90s"
        )
        space.task("contested")
        status = space.wait_phase("contested", "Succeeded", 180)
        assert status["search"]["attempt"] == 1
        assert len([job for job in space.jobs() if job["metadata"]["name"].startswith("contested-")]) == 1
        assert space.commits("away/contested") == 1
        assert space.conditions("contested")["Stalled"] == "False/NotStalled"
    finally:
        scene.cluster.kubectl("delete", "deployment/evergraft-second", f"--namespace={SYSTEM}")
        scene.cluster.kubectl("delete", "namespace/evergraft-second", "--wait=false")
    space.assert_nothing_runs()


def test_a_standby_takes_over_when_the_leader_is_killed(scene: Scene, space: Space) -> None:
    scene.scale_operator(2)
    try:
        holder = _holder(scene)
        scene.cluster.kubectl("delete", "pod", holder, f"--namespace={SYSTEM}", "--grace-period=0", "--force")
        space.task("inherited")
        space.wait_phase("inherited", "Succeeded", 180)
        assert _holder(scene) != holder
    finally:
        scene.scale_operator(1)


def _holder(scene: Scene) -> str:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases"
    (lease,) = [item for item in scene.items(path) if item["metadata"]["name"] == "evergraft-operator"]
    return str(lease["spec"]["holderIdentity"]).split("_")[0]  # the pod's name, and a mark of the process


def _second_operator(scene: Scene) -> list[dict[str, object]]:
    """The Deployment again under another name, whose Lease is another namespace's: nothing keeps it from leading."""
    (found,) = scene.items(f"/apis/apps/v1/namespaces/{SYSTEM}/deployments")
    name = "evergraft-second"
    template = found["spec"]["template"]
    box = template["spec"]["containers"][0]
    box["env"] = [
        {"name": "EVERGRAFT_NAMESPACE", "value": name} if item["name"] == "EVERGRAFT_NAMESPACE" else item
        for item in box["env"]
    ]
    labels = {"app.kubernetes.io/name": name}
    template["metadata"] = {"labels": labels}
    rules = [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]}]
    account = {"kind": "ServiceAccount", "name": "evergraft-operator", "namespace": SYSTEM}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    place = {"name": name, "namespace": name}
    selected = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    rbac = "rbac.authorization.k8s.io/v1"
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
        {"apiVersion": rbac, "kind": "Role", "metadata": place, "rules": rules},
        {"apiVersion": rbac, "kind": "RoleBinding", "metadata": place, "roleRef": role, "subjects": [account]},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": SYSTEM},
            "spec": selected,
        },
    ]
