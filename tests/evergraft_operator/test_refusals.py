"""A Job that the API server would not have: what is told, who is to act, and when it is tried again."""

from __future__ import annotations

import pytest
from tests.evergraft_operator.conftest import Api
from tests.evergraft_operator.desk import GRAPH_KEY, JOBS, KEY, TASK_PATH, Desk, run

from evergraft_operator.kinds import ACCOUNT, GRAPH, JOB, TASK
from evergraft_operator.testing.documents import graph_document


def test_a_missing_service_account_is_said(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        desk.ready_to_start(workers={"serviceAccountName": "trainer"})
        await desk.controller.attempt(KEY)
        assert desk.jobs() == []
        assert desk.conditions()["Accepted"]["reason"] == "ServiceAccountNotFound"
        wrote = len(api.writes())
        assert await desk.controller.attempt(KEY) == "unchanged"
        assert len(api.writes()) == wrote
        api.put(ACCOUNT.path("vision", "trainer"), {})
        await desk.controller.attempt(KEY)
        assert len(desk.jobs()) == 1

    run(api, scenario)


def test_a_refused_job_is_said_once_and_tried_again_later_or_when_the_task_changes(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        desk.ready_to_start()
        api.refuse = 'jobs "x" is forbidden: exceeded quota: q'
        assert await desk.controller.attempt(KEY) == "changed"
        assert "exceeded quota: q" in desk.status()["waiting"]
        assert "search" not in desk.status()
        tries = api.writes().count(("POST", JOBS))
        assert await desk.controller.attempt(KEY) == "unchanged"
        assert api.writes().count(("POST", JOBS)) == tries == 1
        desk.now += 61
        assert await desk.controller.attempt(KEY) == "unchanged"
        assert api.writes().count(("POST", JOBS)) == 2
        assert len([path for method, path in api.writes() if method == "PATCH"]) == 1
        api.refuse = ""
        changed = api.objects[TASK_PATH]
        changed["metadata"]["generation"] = 2
        desk.known(TASK, changed)
        assert await desk.controller.attempt(KEY) == "changed"
        assert len(desk.jobs()) == 1

    run(api, scenario)


def test_an_invalid_job_needs_a_person_until_the_spec_is_another(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        desk.ready_to_start()
        api.refuse, api.refuse_status = 'Job.batch "x" is invalid: spec.template.spec.volumes[3]: Required value', 422
        assert await desk.controller.attempt(KEY) == "changed"
        stalled = desk.conditions()["Stalled"]
        assert (stalled["status"], stalled["reason"]) == ("True", "PodRejected")
        assert "volumes[3]: Required value" in stalled["message"]
        assert desk.status()["phase"] == "Failed"
        desk.now += 3600
        desk.notes.refused.clear()  # As after a restart.
        assert await desk.controller.attempt(KEY) == "unchanged"
        assert api.writes().count(("POST", JOBS)) == 1
        api.refuse = ""
        changed = api.objects[TASK_PATH]
        changed["metadata"]["generation"] = 2
        desk.known(TASK, changed)
        assert await desk.controller.attempt(KEY) == "changed"
        assert len(desk.jobs()) == 1
        assert desk.conditions()["Stalled"]["status"] == "False"

    run(api, scenario)


@pytest.mark.parametrize("status", [400, 403, 422])
@pytest.mark.parametrize(
    "told",
    [
        'admission webhook "validate.example" denied the request: no owner label',
        "ValidatingAdmissionPolicy 'owners' with binding 'all' denied request: no owner label",
    ],
)
def test_a_job_that_a_policy_of_the_cluster_denies_is_made_once_that_is_mended(
    status: int, told: str, api: Api
) -> None:
    async def scenario(desk: Desk) -> None:
        desk.ready_to_start()
        api.refuse, api.refuse_status = told, status
        assert await desk.controller.attempt(KEY) == "changed"
        assert "no owner label" in desk.status()["waiting"]
        api.refuse = ""
        desk.now += 61
        assert await desk.controller.attempt(KEY) == "changed"
        assert len(desk.jobs()) == 1

    run(api, scenario)


def test_a_webhook_that_is_broken_is_told_and_any_other_trouble_of_the_server_is_tried_at_once(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        desk.ready_to_start()
        api.refuse, api.refuse_status = 'Internal error occurred: failed calling webhook "v.example": refused', 500
        assert await desk.controller.attempt(KEY) == "changed"
        assert 'webhook "v.example"' in desk.status()["waiting"]
        desk.notes.refused.clear()
        api.refuse = "etcdserver: request timed out"
        assert await desk.controller.attempt(KEY) not in ("changed", "unchanged")

    run(api, scenario)


def test_a_steward_that_is_refused_is_told_of_at_its_graph_and_tried_again(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        graph = graph_document(ready=False)
        desk.known(GRAPH, graph)
        api.refuse = 'jobs "x" is forbidden: exceeded quota: q'
        assert await desk.controller.attempt(GRAPH_KEY) == "changed"
        status = api.objects[GRAPH.path("ml", "default")]["status"]
        (stalled,) = [item for item in status["conditions"] if item["type"] == "Stalled"]
        assert (stalled["reason"], "exceeded quota: q" in stalled["message"]) == ("StewardRefused", True)
        assert await desk.controller.attempt(GRAPH_KEY) == "unchanged"
        assert api.writes().count(("POST", JOB.path("ml"))) == 1
        assert desk.queue.schedule.next_due() is not None
        desk.now += 61
        api.refuse = ""
        assert await desk.controller.attempt(GRAPH_KEY) == "changed"
        status = api.objects[GRAPH.path("ml", "default")]["status"]
        assert [item["status"] for item in status["conditions"] if item["type"] == "Stalled"] == ["False"]

    run(api, scenario)
