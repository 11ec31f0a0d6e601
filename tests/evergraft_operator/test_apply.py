"""Plans carried out: what is deleted is the very object that was seen, and what is gone already is as good as done."""

from __future__ import annotations

import asyncio

from tests.evergraft_operator.conftest import Api, connected

from evergraft_operator.apply import Applier
from evergraft_operator.kinds import JOB, TASK
from evergraft_operator.metrics import Metrics
from evergraft_operator.observed import Thing
from evergraft_operator.plan import Deletion, Plan
from evergraft_operator.recorder import Recorder
from evergraft_operator.testing.documents import task_document

PATH = JOB.path("vision", "j")


def delete(api: Api, uid: str) -> list[str]:
    """Carry out the deletion of the Job `j` of that uid; the uids that count as gone after it."""
    gone: list[str] = []

    async def scenario() -> None:
        async with connected(api, Metrics()) as client:
            applier = Applier(client, Recorder(client, "me"), lambda kind, document: None, gone.append)
            plan = Plan(delete=(Deletion("vision", "j", uid),))
            await applier.apply(TASK, Thing.read(task_document()), plan)

    asyncio.run(scenario())
    return gone


def test_a_job_is_deleted_with_its_pods_first(api: Api) -> None:
    api.put(PATH, {"metadata": {"uid": "seen"}})
    assert delete(api, "seen") == []
    assert "deletionTimestamp" in api.objects[PATH]["metadata"]
    (_, _, asked) = api.requests[-1]
    assert asked["propagationPolicy"] == "Foreground"


def test_another_job_of_the_same_name_stays(api: Api) -> None:
    api.put(PATH, {"metadata": {"uid": "made since"}})
    assert delete(api, "seen") == ["seen"]
    assert "deletionTimestamp" not in api.objects[PATH]["metadata"]


def test_a_job_that_is_gone_already_is_as_good_as_deleted(api: Api) -> None:
    assert delete(api, "seen") == ["seen"]
