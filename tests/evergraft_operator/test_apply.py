"""Plans carried out: what is deleted is the very object that was seen, what is gone already is as good as done, and of
a status nothing stays that is another's.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from tests.evergraft_operator.conftest import Api, connected

from evergraft_operator.apply import Applier, OvertakenError
from evergraft_operator.kinds import JOB, TASK
from evergraft_operator.metrics import Metrics
from evergraft_operator.observed import Thing
from evergraft_operator.plan import Deletion, Plan
from evergraft_operator.recorder import Recorder
from evergraft_operator.testing.documents import task_document

Fields = dict[str, Any]

PATH = JOB.path("vision", "j")
TASK_PATH = TASK.path("vision", "cifar10")
READY = {"type": "Ready", "status": "True", "reason": "Committed"}
STATUS = {"phase": "Training", "search": {"runKey": "i2-c1"}, "conditions": [READY]}
FOREIGN = {
    "waiting": "for a backup",
    "search": {"runKey": "i1-c1", "outcome": "committed"},
    "failures": {"Preempted": 3},
    "conditions": [{"type": "Restored", "status": "True", "reason": "ByHand"}],
}


def delete(api: Api, uid: str, *, foreground: bool = True) -> list[str]:
    """Carry out the deletion of the Job `j` of that uid; the uids that count as gone after it."""
    gone: list[str] = []

    async def scenario() -> None:
        async with connected(api, Metrics()) as client:
            applier = Applier(client, Recorder(client, "me"), lambda kind, document: None, gone.append)
            plan = Plan(delete=(Deletion("vision", "j", uid, foreground),))
            await applier.apply(TASK, Thing.read(task_document()), plan)

    asyncio.run(scenario())
    return gone


def test_a_job_is_deleted_with_its_pods_first(api: Api) -> None:
    api.put(PATH, {"metadata": {"uid": "seen"}})
    assert delete(api, "seen") == []
    assert "deletionTimestamp" in api.objects[PATH]["metadata"]
    (_, _, asked) = api.requests[-1]
    assert asked["propagationPolicy"] == "Foreground"


def test_a_job_whose_pods_are_not_waited_for_is_gone_at_once(api: Api) -> None:
    api.put(PATH, {"metadata": {"uid": "seen"}})
    assert delete(api, "seen", foreground=False) == ["seen"]
    assert PATH not in api.objects
    (_, _, asked) = api.requests[-1]
    assert (asked["propagationPolicy"], asked["preconditions"]) == ("Background", {"uid": "seen"})


def test_another_job_of_the_same_name_stays(api: Api) -> None:
    api.put(PATH, {"metadata": {"uid": "made since"}})
    assert delete(api, "seen") == ["seen"]
    assert "deletionTimestamp" not in api.objects[PATH]["metadata"]


def test_a_job_that_is_gone_already_is_as_good_as_deleted(api: Api) -> None:
    assert delete(api, "seen") == ["seen"]


def write_status(api: Api, foreign: Fields, status: Fields = STATUS) -> list[Fields]:
    """Carry out a plan that writes a status in which another owns fields; the objects that were told of."""
    told: list[Fields] = []
    document = api.put(TASK_PATH, {**task_document(), "status": json.loads(json.dumps(foreign))})
    api.foreign[TASK_PATH] = foreign

    async def scenario() -> None:
        async with connected(api, Metrics()) as client:
            applier = Applier(client, Recorder(client, "me"), lambda kind, document: told.append(document), print)
            await applier.apply(TASK, Thing.read(document), Plan(status=status))

    asyncio.run(scenario())
    return told


def asked_of_status(api: Api) -> list[Fields]:
    return [body for _, path, body in api.requests if path == f"{TASK_PATH}/status"]


def test_what_another_owns_of_a_status_is_taken_out_before_anybody_believes_it(api: Api) -> None:
    told = write_status(api, FOREIGN)
    assert api.objects[TASK_PATH]["status"] == STATUS
    assert [document["status"] for document in told] == [STATUS]
    _, patch = asked_of_status(api)
    assert patch["metadata"]["uid"] == "task-uid"
    assert patch["status"] == {
        "waiting": None,
        "search": {"outcome": None},
        "failures": None,
        "conditions": STATUS["conditions"],
    }


@pytest.mark.parametrize("foreign", [{}, STATUS, {"phase": "Pending", "conditions": [{**READY, "status": "False"}]}])
def test_a_status_that_is_as_planned_is_written_once(foreign: Fields, api: Api) -> None:
    assert [document["status"] for document in write_status(api, foreign)] == [STATUS]
    assert len(asked_of_status(api)) == 1


def test_who_writes_between_the_two_is_not_overwritten(api: Api) -> None:
    def edit() -> None:
        api.put(TASK_PATH, {**api.objects[TASK_PATH], "spec": {"suspend": True}})

    api.meanwhile = [lambda: None, edit]
    with pytest.raises(OvertakenError):
        write_status(api, FOREIGN)
    assert api.objects[TASK_PATH]["spec"] == {"suspend": True}
    assert api.objects[TASK_PATH]["status"]["waiting"] == FOREIGN["waiting"]


def test_our_own_patch_whose_answer_was_lost_overtakes_nobody(api: Api) -> None:
    def lose() -> None:
        api.lost = 1

    api.meanwhile = [lambda: None, lose]
    told = write_status(api, FOREIGN)
    assert api.objects[TASK_PATH]["status"] == STATUS
    assert [document["status"] for document in told] == [STATUS]


def test_what_is_put_back_at_once_is_not_fought_over(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    patched = api._patch

    def stubborn(request: web.Request, body: Fields) -> web.Response:
        patched(request, body)
        api.objects[TASK_PATH]["status"]["waiting"] = FOREIGN["waiting"]
        return web.json_response(api.objects[TASK_PATH])

    monkeypatch.setattr(api, "_patch", stubborn)
    write_status(api, FOREIGN)
    assert len(asked_of_status(api)) == 2
