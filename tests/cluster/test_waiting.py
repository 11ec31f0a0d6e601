"""What a search can wait for, in one sentence, and what it takes to go on: quota, image, room, a queue, a graph."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from tests.cluster.scene import LONG, OPERATOR_IMAGE, TRAINER_IMAGE, VIT, Scene, Space

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def space(scene: Scene) -> Iterator[Space]:
    with scene.space("waiting") as made:
        made.wait_graph()
        yield made


def test_an_image_that_cannot_be_had_is_named_and_replaced(space: Space) -> None:
    space.task("missing", workers={"image": "evergraft/trainer:no-such-tag"})
    status = space.wait_for("missing", lambda found: "no-such-tag" in found.get("waiting", ""), what="waiting for it")
    assert space.conditions("missing")["Scheduled"] == "False/ImagePull"
    assert status["phase"] == "Starting"
    space.patch("missing", {"suspend": True})
    space.wait_phase("missing", "Suspended")
    space.patch("missing", {"workers": {"image": None}, "suspend": False})
    status = space.wait_phase("missing", "Succeeded", 240)
    assert status["search"]["image"].partition("@")[0] == TRAINER_IMAGE.partition("@")[0]
    assert space.commits("waiting/missing") == 1
    space.assert_nothing_runs()


def test_an_image_name_that_is_none_stalls_at_once(space: Space) -> None:
    space.task("misnamed", workers={"image": "Upper/Case:Name"})
    space.wait_condition("misnamed", "Stalled", "True/ImagePull")
    space.kubectl("delete", "tasks.evergraft.dev/misnamed")


def test_quota_is_waited_for_in_words_and_lifted_it_runs(space: Space) -> None:
    """The quota is for one priority class, so that the graph's stewards go on."""
    poor = "evergraft-poor"
    scopes = {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": [poor]}]}
    space.cluster.apply(
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": poor}, "value": 1},
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "none", "namespace": space.name},
            "spec": {"hard": {"pods": "0"}, "scopeSelector": scopes},
        },
    )
    space.task("poor", workers={"podTemplate": {"priorityClassName": poor}})
    space.wait_for("poor", lambda found: "exceeded quota" in found.get("waiting", ""), what="waiting for quota")
    assert space.conditions("poor")["Scheduled"] == "False/QuotaWait"
    assert space.conditions("poor")["Stalled"] == "False/NotStalled"
    space.kubectl("delete", "resourcequota/none")
    space.wait_phase("poor", "Succeeded", 240)
    space.assert_nothing_runs()


def test_no_node_with_enough_room_is_told_and_is_nobodys_failure(space: Space) -> None:
    space.task("large", workers={"resources": {"requests": {"cpu": "500"}}})
    status = space.wait_for(
        "large", lambda found: "Insufficient cpu" in found.get("waiting", ""), what="waiting for room"
    )
    assert space.conditions("large")["Scheduled"] == "False/Unschedulable"
    assert status["phase"] == "Queued"
    space.kubectl("delete", "tasks.evergraft.dev/large")


def test_a_queue_holds_the_job_until_it_is_admitted(space: Space) -> None:
    """A stand-in does what Kueue does to an admitted Job: it writes the node selector and takes the hold away."""
    space.task("queued", workers={"queueName": "cpu"})
    status = space.wait_for("queued", lambda found: "(Kueue)" in found.get("waiting", ""), what="waiting for its queue")
    assert status["phase"] == "Queued"
    (job,) = [item for item in space.live_jobs() if item["metadata"]["name"].startswith("queued-")]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "cpu"
    assert job["spec"]["suspend"] is True
    flavour = {"kubernetes.io/os": "linux"}
    admission = {"spec": {"suspend": False, "template": {"spec": {"nodeSelector": flavour}}}}
    space.kubectl("patch", f"job/{job['metadata']['name']}", f"--patch={json.dumps(admission)}")
    space.wait_phase("queued", "Succeeded", 240)
    (job,) = [item for item in space.jobs() if item["metadata"]["name"].startswith("queued-")]
    assert job["spec"]["template"]["spec"]["nodeSelector"] == flavour
    space.assert_nothing_runs()


def test_what_is_not_accepted_says_why(space: Space) -> None:
    space.task("lost", graphRef={"name": "nowhere"})
    space.wait_condition("lost", "Accepted", "False/GraphNotFound")
    space.task("foreign", graphRef={"name": "default", "namespace": "evergraft"})
    space.wait_condition("foreign", "Accepted", "False/GraphNotFound")
    space.task("unknown", workers={"serviceAccountName": "nobody"})
    space.wait_condition("unknown", "Accepted", "False/ServiceAccountNotFound")
    space.task("twin-a", suspend=True, taskID="one/name")
    space.wait_phase("twin-a", "Suspended")
    time.sleep(1)  # creation times are whole seconds, and within one the uid decides who is the older
    space.task("twin-b", suspend=True, taskID="one/name")
    space.wait_condition("twin-b", "Accepted", "False/TaskIDTaken")
    space.kubectl("delete", "tasks.evergraft.dev", "lost", "foreign", "unknown", "twin-a", "twin-b")


def test_a_graph_of_another_namespace_lets_in_whom_it_names(scene: Scene, space: Space) -> None:
    with scene.space("guest") as guest:
        guest.task("visit", graphRef={"name": "default", "namespace": "waiting"})
        guest.wait_condition("visit", "Accepted", "False/GraphAccessDenied")
        selector = {"from": "Selector", "selector": {"matchLabels": {"kubernetes.io/metadata.name": "guest"}}}
        space.kubectl(
            "patch", "modulegraph/default", "--type=merge",
            f"--patch={json.dumps({'spec': {'allowedNamespaces': selector}})}",
        )  # fmt: skip
        guest.wait_phase("visit", "Succeeded", 240)
        assert "guest/visit" in space.tasks()


def test_two_graphs_with_one_store_do_not_both_grow_it(space: Space) -> None:
    space.graph("copy")
    space.wait_condition("copy", "Ready", "False/StoreTaken", kind="modulegraphs")
    space.kubectl("delete", "modulegraph/copy")


def test_a_store_that_cannot_be_reached_is_the_graphs_trouble_and_tried_again(space: Space) -> None:
    nobody = space.access["endpoint"].rpartition(":")[0] + ":9"
    space.graph("dark", store={**space.access, "endpoint": nobody, "url": "s3://dark/graph"}, root=VIT)
    status = space.wait_condition("dark", "Reconciling", "True/StewardRetrying", kind="modulegraphs")
    told = next(item["message"] for item in status["conditions"] if item["type"] == "Reconciling")
    assert "s3://dark/graph" in told
    space.kubectl("delete", "modulegraph/dark")


def test_an_image_changed_in_mid_search_is_for_the_next_search(scene: Scene, space: Space) -> None:
    space.task("steady", search=LONG, timeouts={"search": "30s"})
    space.wait_training("steady")
    scene.install(EVERGRAFT_IMAGE_CPU="evergraft/trainer:from-an-upgrade")
    try:
        space.patch("steady", {"suspend": True})
        space.wait_phase("steady", "Suspended")
        space.patch("steady", {"suspend": False})
        status = space.wait_phase("steady", "Succeeded", 240)
        assert (status["search"]["attempt"], status["search"]["image"]) == (2, TRAINER_IMAGE)
        space.task("next")
        space.wait_for(
            "next", lambda found: "from-an-upgrade" in found.get("waiting", ""), what="asking for the new image"
        )
        space.kubectl("delete", "tasks.evergraft.dev/next")
    finally:
        scene.install()
    assert OPERATOR_IMAGE in str(scene.operator_pods()[0]["spec"])
