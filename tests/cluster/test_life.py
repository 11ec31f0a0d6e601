"""The life of Tasks on a real cluster: applied, committed, built on, evolved again, held, scaled, deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.cluster.scene import LONG, QUICK, Scene, Space

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def space(scene: Scene) -> Iterator[Space]:
    """One namespace, enforcing `restricted`, for the tests of this file."""
    with scene.space("life") as made:
        made.wait_graph()
        yield made


def test_a_graph_is_started_by_a_steward_and_told_in_figures(space: Space) -> None:
    status = space.wait_graph()
    assert status["version"] == 1 or status["version"] == 0
    assert status["graphID"]
    assert [pod["status"]["phase"] for pod in space.pods("steward")] == ["Succeeded"]
    assert space.conditions("default", "modulegraphs")["Stalled"] == "False/NotStalled"


def test_a_task_is_committed_and_the_next_builds_on_it(space: Space) -> None:
    space.task("digits")
    space.task("more", after=["life/digits"], search={**QUICK, "strategy": "graft", "parameters": {"rank": 2}})
    first = space.wait_phase("digits", "Succeeded", 180)
    second = space.wait_phase("more", "Succeeded", 180)
    assert first["route"]["version"] < second["route"]["version"]
    assert second["route"]["parentTask"] == "life/digits"
    assert float(second["route"]["testQuality"]) > 0
    assert second["search"]["outcome"] == "committed"
    conditions = space.conditions("digits")
    assert conditions["Accepted"] == "True/Accepted"
    assert conditions["Ready"] == "True/Committed"
    assert conditions["Reconciling"] == "False/Committed"
    assert conditions["Stalled"] == "False/NotStalled"
    assert [reason for reason in space.events("digits") if reason in ("SearchStarted", "Committed")] == [
        "SearchStarted",
        "Committed",
    ]
    assert (space.commits("life/digits"), space.commits("life/more")) == (1, 1)
    space.evergraft("graph", "verify", space.store_url, "--answers")
    space.assert_nothing_runs()


def test_the_status_says_what_was_added_and_stays_small(space: Space) -> None:
    status = space.wait_phase("digits", "Succeeded", 180)
    assert status["route"]["parametersAdded"] > 0
    assert len(json.dumps(status)) < 8192


def test_applied_again_where_the_store_has_it_nothing_trains(space: Space) -> None:
    """What a cluster rebuilt from Git does: graph and Tasks are new, their status empty, the routes at HEAD."""
    before = {name: space.wait_phase(name, "Succeeded", 180) for name in ("digits", "more")}
    graph = space.wait_graph()
    documents = [space.manifest("default", "modulegraphs"), *(space.manifest(name) for name in before)]
    space.kubectl("delete", "tasks.evergraft.dev", *before, "--wait=true")
    space.kubectl("delete", "modulegraphs.evergraft.dev/default", "--wait=true")
    space.cluster.wait("their Jobs to go", lambda: not space.jobs() and not space.jobs("steward"), 60)
    space.cluster.apply(*documents)
    after = {name: space.wait_phase(name, "Succeeded", 180) for name in before}
    assert space.wait_graph()["graphID"] == graph["graphID"]
    assert {name: status["route"]["id"] for name, status in after.items()} == {
        name: status["route"]["id"] for name, status in before.items()
    }
    assert not space.jobs()
    assert all("AlreadyCommitted" in space.events(name) for name in before)


def test_a_changed_spec_of_a_committed_run_is_a_stall_that_says_so(space: Space) -> None:
    space.wait_phase("digits", "Succeeded", 180)
    refused = space.cluster.try_kubectl(
        "patch", "tasks.evergraft.dev/digits", "--namespace=life", "--type=merge",
        '--patch={"spec": {"search": {"samples": 1024}}}',
    )  # fmt: skip
    assert refused.returncode
    assert "iteration" in refused.stderr
    space.kubectl("delete", "tasks.evergraft.dev/digits", "--wait=true")
    space.task("digits", search={**QUICK, "samples": 1024})
    space.wait_condition("digits", "Stalled", "True/SpecDiffersFromCommitted")
    space.kubectl("delete", "tasks.evergraft.dev/digits", "--wait=true")
    space.task("digits")
    space.wait_phase("digits", "Succeeded", 180)


def test_a_higher_iteration_evolves_it_again_and_ready_stays_true(space: Space) -> None:
    space.wait_phase("digits", "Succeeded", 180)
    space.patch("digits", {"iteration": 2})
    status = space.wait_for(
        "digits",
        lambda found: found.get("search", {}).get("runKey") == "i2-c1" and found.get("phase") == "Succeeded",
        what="the second iteration ended",
        timeout_s=180,
    )
    assert status["search"]["outcome"] in ("committed", "kept")
    assert space.conditions("digits")["Ready"] == "True/Committed"


def test_suspended_it_holds_and_resumed_it_goes_on_where_it_was(space: Space) -> None:
    space.task("held", search=LONG, timeouts={"search": "30s"})
    space.wait_training("held")
    space.patch("held", {"suspend": True})
    space.wait_phase("held", "Suspended")
    space.cluster.wait("its workers to go", lambda: not _of(space, "held"), 90)
    space.patch("held", {"suspend": False})
    status = space.wait_phase("held", "Succeeded", 180)
    assert status["search"]["attempt"] == 2
    assert status["route"]["stoppedEarly"] is True
    assert status["acceleratorSeconds"]["useful"] >= 5
    assert {"Suspended", "Resumed", "Committed"} <= set(space.events("held"))
    space.assert_nothing_runs()


def test_workers_are_scaled_by_the_scale_subresource(space: Space) -> None:
    space.task(
        "wide", search={**LONG, "strategy": "mu2net", "samples": 400_000, "validations": 10}, timeouts={"search": "30s"}
    )
    space.wait_training("wide")
    space.kubectl("scale", "tasks.evergraft.dev/wide", "--replicas=2")
    status = space.wait_for("wide", lambda found: found.get("workers", {}).get("ready") == 2, what="two workers ready")
    assert status["workers"]["desired"] == 2
    space.wait_phase("wide", "Succeeded", 240)
    space.assert_nothing_runs()


def test_deleted_with_its_route_the_route_goes_and_retained_it_stays(space: Space) -> None:
    space.task("gone", deletionPolicy="Delete")
    space.wait_phase("gone", "Succeeded", 180)
    assert "life/gone" in space.tasks()
    space.kubectl("delete", "tasks.evergraft.dev/gone", "--wait=true", "--timeout=120s")
    assert "life/gone" not in space.tasks()
    assert "life/digits" in space.tasks()
    space.assert_nothing_runs()


def _of(space: Space, name: str) -> list[str]:
    return [
        pod["metadata"]["name"]
        for pod in space.pods()
        if pod["metadata"]["name"].startswith(f"{name}-") and pod["status"]["phase"] in ("Pending", "Running")
    ]
