"""One reconcile with its reads and writes: live looks before anything is made, own writes seen."""

from __future__ import annotations

import asyncio
import datetime
import json
import sys

import pytest
from tests.evergraft_operator.conftest import Api, failure
from tests.evergraft_operator.desk import GRAPH_KEY, JOBS, KEY, TASK_PATH, Desk, Fields, run

from evergraft_operator import controller as controller_module
from evergraft_operator import handlers, labels, reading
from evergraft_operator.client import Client, RefusedError
from evergraft_operator.kinds import ACCOUNT, EVENT, GRAPH, JOB, POD, TASK, Key, Kind
from evergraft_operator.observe import EVENTS_AGAIN_S
from evergraft_operator.testing.documents import ROUTE, graph_document, pod_document, report_message, task_document


def test_a_first_job_is_made_with_its_status_and_event_and_then_nothing_more(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        desk.ready_to_start()
        assert await desk.controller.attempt(KEY) == "changed"
        (path,) = desk.jobs()
        assert desk.status()["search"]["jobName"] == path.rpartition("/")[2]
        assert [method for method, _ in api.writes()] == ["POST", "POST", "PATCH"]
        assert [item["reason"] for at, item in api.objects.items() if at.startswith(EVENT.path("vision"))] == [
            "SearchStarted"
        ]
        wrote = len(api.writes())
        # What it wrote itself it has seen, without any watch.
        assert await desk.controller.attempt(KEY) in ("changed", "unchanged")
        assert await desk.controller.attempt(KEY) == "unchanged"
        assert len([path for method, path in api.writes()[wrote:] if method == "POST"]) == 0
        assert desk.metrics.searches_started._value.get() == 1
        assert desk.queue.schedule.next_due() is not None

    run(api, scenario)


def test_keys_that_need_no_request_leave_others_their_turn(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        for number in range(50):
            desk.queue.add(Key("Task", "vision", f"t{number}"))
        worker = asyncio.create_task(desk.controller.work())
        depths = []
        while desk.queue.depth():
            await asyncio.sleep(0)
            depths.append(desk.queue.depth())
        assert len(depths) >= 50, depths
        desk.queue.close()
        await worker

    run(api, scenario)


def test_a_job_that_another_leader_has_just_made_is_taken_over(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        desk.ready_to_start()
        await desk.controller.attempt(KEY)
        made = api.objects[desk.jobs()[0]]
        for uid in (made["metadata"]["uid"],):
            desk.cache.lose(uid)
        desk.cache._gone.clear()  # As if it had never been seen here.
        api.objects[TASK_PATH].pop("status")
        stale = api.put(TASK_PATH, api.objects[TASK_PATH])
        desk.cache.see("Task", stale)
        api.requests.clear()
        assert await desk.controller.attempt(KEY) == "changed"
        assert ("POST", JOBS) not in api.writes()
        assert desk.status()["search"]["attempt"] == 1

    run(api, scenario)


def test_an_edit_while_a_status_is_decided_only_delays_it(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        desk.ready_to_start()
        api.meanwhile = [desk.edit]
        assert await desk.controller.attempt(KEY) == "changed"
        assert (desk.status_writes(), desk.doubts) == (2, 1)
        assert desk.status()["observedGeneration"] == 2
        assert desk.status()["workers"]["desired"] == 2
        assert len(desk.jobs()) == 1
        assert desk.metrics.searches_started._value.get() == 1  # Its Job was made before it was overtaken.
        assert len([path for path in api.objects if path.startswith(EVENT.path("vision"))]) == 1
        assert await desk.controller.attempt(KEY) in ("changed", "unchanged")
        wrote = len(api.writes())
        assert await desk.controller.attempt(KEY) == "unchanged"
        assert len(api.writes()) == wrote

    run(api, scenario)


def test_who_edits_all_the_time_sends_the_task_back_to_the_queue(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        desk.known(TASK, task_document(suspend=True))
        desk.known(GRAPH, graph_document())
        api.meanwhile = [desk.edit] * 100
        assert await desk.controller.attempt(KEY) == "retry"
        assert desk.status_writes() == controller_module.TRIES
        assert desk.metrics.kube_requests.labels("patch", "tasks", "409")._value.get() == controller_module.TRIES
        assert desk.status() == {}
        api.meanwhile.clear()
        assert await desk.controller.attempt(KEY) == "changed"
        assert desk.status()["phase"] == "Suspended"

    run(api, scenario)


def test_a_leader_that_wakes_up_late_overwrites_no_status(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        desk.known(TASK, task_document(suspend=True))
        desk.known(GRAPH, graph_document())

        def succeed() -> None:
            """While this process slept between its check and its request, another took the lead and wrote."""
            desk.leads = False
            known = json.loads(json.dumps(api.objects[TASK_PATH]))
            api.put(TASK_PATH, {**known, "status": {"phase": "Pending", "waiting": "the next leader's"}})

        applier = desk.controller.applier
        assert isinstance(applier.client, Client)
        applier.client._guard = lambda: None  # Its clock stood still: it still believes that it leads.
        api.meanwhile = [succeed]
        assert await desk.controller.attempt(KEY) == "retry"
        assert desk.status() == {"phase": "Pending", "waiting": "the next leader's"}
        assert (desk.status_writes(), desk.doubts) == (1, 1)

    run(api, scenario)


def test_our_own_write_whose_answer_was_lost_overtakes_nobody(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        desk.known(TASK, task_document(suspend=True))
        desk.known(GRAPH, graph_document())
        api.lost = 1
        assert await desk.controller.attempt(KEY) == "changed"
        assert (desk.status_writes(), desk.doubts) == (2, 0)
        assert await desk.controller.attempt(KEY) == "unchanged"
        assert desk.status_writes() == 2

    run(api, scenario)


def test_an_outcome_that_another_field_manager_owns_ends_no_run_but_its_own(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        document = task_document(iteration=2)
        route = {"id": ROUTE, "version": 4, "runKey": "i1-c1"}
        search = {"runKey": "i1-c1", "attempt": 1, "outcome": "committed"}
        api.foreign[TASK_PATH] = {"search": search, "route": route, "waiting": "for a backup"}
        desk.known(TASK, {**document, "status": json.loads(json.dumps(api.foreign[TASK_PATH]))})
        desk.known(GRAPH, graph_document())
        api.put(ACCOUNT.path("vision", "default"), {})
        assert await desk.controller.attempt(KEY) == "changed"
        (path,) = desk.jobs()
        for _ in range(3):
            last = await desk.controller.attempt(KEY)
        assert "deletionTimestamp" not in api.objects[path]["metadata"]
        assert (desk.status()["search"]["runKey"], "outcome" in desk.status()["search"]) == ("i2-c1", False)
        assert desk.conditions()["Reconciling"]["status"] == "True"
        assert "for a backup" not in desk.status().get("waiting", "")
        assert last == "unchanged"

    run(api, scenario)


def test_a_graph_s_status_is_decided_anew_too(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        desk.known(GRAPH, graph_document(ready=False))
        path = GRAPH.path("ml", "default")

        def edit() -> None:
            document = json.loads(json.dumps(api.objects[path]))
            document["metadata"]["generation"] += 1
            api.put(path, document)

        api.meanwhile = [edit]
        assert await desk.controller.attempt(GRAPH_KEY) == "changed"
        assert api.objects[path]["status"]["observedGeneration"] == 2
        assert len([at for at in api.objects if at.startswith(JOB.path("ml"))]) == 1

    run(api, scenario)


@pytest.mark.parametrize("change", ["gone", "another", "suspended"])
def test_a_task_is_read_live_before_its_job_is_made(change: str, api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        desk.ready_to_start()
        if change == "gone":
            del api.objects[TASK_PATH]
        elif change == "another":
            desk.placed(TASK, task_document(uid="another"))
        else:
            desk.placed(TASK, task_document(suspend=True))
        await desk.controller.attempt(KEY)
        assert desk.jobs() == []

    run(api, scenario)


def test_who_does_not_lead_writes_nothing_and_goes_on_once_it_leads_again(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        desk.ready_to_start()
        desk.leads = False
        desk.queue.add(KEY)
        worker = asyncio.create_task(desk.controller.work())
        await asyncio.sleep(0.05)
        assert api.writes() == []
        desk.leads = True
        async with asyncio.timeout(10):
            while not desk.jobs():
                await asyncio.sleep(0.05)
        desk.queue.close()
        await worker

    run(api, scenario)


def test_a_task_nested_as_deep_as_an_api_server_takes_it_is_judged_like_any_other(
    api: Api,
) -> None:
    async def scenario(desk: Desk) -> None:
        desk.ready_to_start()
        deep: Fields = {}
        for _ in range(9_900):
            deep = {"a": deep}
        document = desk.api.objects[TASK_PATH]
        document["spec"]["workers"] = {"podTemplate": {"affinity": {"nodeAffinity": deep}}}
        document["metadata"]["generation"] += 1
        desk.known(TASK, document)
        assert await desk.controller.attempt(KEY) == "changed"

    before = sys.getrecursionlimit()
    sys.setrecursionlimit(handlers.NESTING)
    try:
        run(api, scenario)
    finally:
        sys.setrecursionlimit(before)


def test_the_world_s_failures_and_our_own_are_told_apart(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(desk: Desk) -> None:
        desk.ready_to_start()
        api.broken = [failure(503) for _ in range(3)]
        assert await desk.controller.attempt(KEY) == "retry"
        monkeypatch.setattr(controller_module, "reconcile", lambda *_: 1 / 0)
        assert await desk.controller.attempt(KEY) == "error"

    run(api, scenario)


def test_what_fails_comes_back_to_the_queue_later_and_is_counted(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        desk.ready_to_start()
        api.broken = [failure(503) for _ in range(3)]
        desk.queue.add(KEY)
        worker = asyncio.create_task(desk.controller.work())
        async with asyncio.timeout(10):
            while not desk.jobs():
                await asyncio.sleep(0.05)
        desk.queue.close()
        await worker
        counted = [desk.metrics.reconcile.labels(outcome)._value.get() for outcome in ("retry", "error")]
        assert counted == [1, 0]
        assert desk.metrics.reconcile.labels("changed")._value.get() >= 1

    run(api, scenario)


@pytest.mark.parametrize(("namespace", "graph"), [("vision", "graph-uid"), ("ml", "other-graph")])
def test_answers_of_strangers_are_not_believed(namespace: str, graph: str, api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        desk.known(TASK, task_document())
        desk.known(GRAPH, graph_document())
        about = {"tasks": [{"uid": "task-uid", "task": "vision/cifar10", "run": "i1-c1", "attempt": 0}]}
        told = {"run": "i1-c1", "outcome": "committed", "route": {"id": "ab" * 32}}
        desk.answered(about, {"format": 1, "heads": [told]}, namespace=namespace, graph=graph)
        await desk.controller.attempt(KEY)
        assert "route" not in desk.status()
        assert desk.notes.asks["task-uid"].question is not None

    run(api, scenario)


def test_a_question_wakes_the_graph_which_sends_one_steward(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        desk.known(TASK, task_document())
        desk.known(GRAPH, graph_document())
        await desk.controller.attempt(KEY)
        assert desk.queue.schedule._due.keys() >= {GRAPH_KEY}
        assert await desk.controller.attempt(GRAPH_KEY) == "changed"
        assert await desk.controller.attempt(GRAPH_KEY) == "unchanged"
        (steward,) = [item for path, item in api.objects.items() if path.startswith(JOB.path("ml"))]
        assert steward["metadata"]["labels"][labels.DUTY] == "heads"
        desk.notes.forget("task-uid")
        assert list(desk.notes.asked_of("ml/default")) == []

    run(api, scenario)


def test_a_task_that_goes_while_it_is_reconciled_asks_nothing_any_more(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        desk.known(TASK, task_document())
        desk.known(GRAPH, graph_document())

        def vanish() -> None:
            desk.cache.lose("task-uid")
            desk.notes.forget("task-uid")

        api.meanwhile = [vanish]
        await desk.controller.attempt(KEY)
        assert api.meanwhile == []
        assert desk.notes.asks == {}

    run(api, scenario)


def test_a_worker_s_totals_reach_the_graph(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        desk.ready_to_start()
        await desk.controller.attempt(KEY)
        job = api.objects[desk.jobs()[0]]
        job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
        desk.known(JOB, job)
        words = report_message("vision/cifar10", "i1-c1", graph={"version": 7, "tasks": 3})
        desk.known(POD, pod_document("w", job=job["metadata"]["uid"], phase="Succeeded", message=words))
        await desk.controller.attempt(KEY)
        assert desk.status()["phase"] == "Succeeded"
        await desk.controller.attempt(GRAPH_KEY)
        assert api.objects[GRAPH.path("ml", "default")]["status"]["version"] == 7
        assert desk.metrics.searches_finished.labels("committed")._value.get() == 1
        await desk.controller.attempt(KEY)
        assert desk.metrics.searches_finished.labels("committed")._value.get() == 1

    run(api, scenario)


def test_what_is_forged_in_a_namespace_reaches_no_graph_that_does_not_let_it_in(api: Api) -> None:
    """Jobs, pods and their messages can be written by whoever may create pods there."""

    async def scenario(desk: Desk) -> None:
        desk.known(GRAPH, graph_document(allowedNamespaces={"from": "Same"}))
        task = desk.known(TASK, task_document(taskID="ml/theirs", deletionPolicy="Delete"))
        tags = {labels.TASK_UID: "task-uid", labels.ATTEMPT: "1", labels.COMPONENT: labels.WORKER}
        meta = {"name": "forged", "namespace": "vision", "uid": "j1", "labels": tags}
        meta["annotations"] = {labels.RUN_KEY: "i1-c1"}
        done = {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": "2026-03-01T12:00:00Z"}]}
        job = desk.known(JOB, {"metadata": meta, "status": done})
        words = report_message("ml/theirs", "i1-c1", graph={"version": 900, "tasks": 10**6})
        desk.known(POD, pod_document("w", job="j1", phase="Succeeded", message=words))
        await desk.controller.attempt(KEY)
        assert desk.conditions()["Accepted"]["reason"] == "GraphAccessDenied"
        assert desk.notes.totals_of("ml/default") == ()
        task = api.objects[TASK_PATH]
        now = reading.written(datetime.datetime.now(datetime.UTC))
        task["metadata"] |= {"deletionTimestamp": now, "finalizers": [labels.FINALIZER]}
        desk.known(TASK, task)
        desk.cache.lose(job["metadata"]["uid"])
        del api.objects[JOB.path("vision", "forged")]
        await desk.controller.attempt(KEY)
        assert list(desk.notes.asked_of("ml/default")) == []
        assert api.objects[TASK_PATH]["metadata"]["finalizers"] == []

    run(api, scenario)


@pytest.mark.parametrize("there", [True, False])
def test_a_route_is_left_behind_only_once_the_api_server_says_that_its_graph_is_gone(api: Api, there: bool) -> None:
    async def scenario(desk: Desk) -> None:
        document = task_document(deletionPolicy="Delete")
        now = reading.written(datetime.datetime.now(datetime.UTC))
        document["metadata"] |= {"deletionTimestamp": now, "finalizers": [labels.FINALIZER]}
        document["status"] = {"search": {"runKey": "i1-c1", "attempt": 1}}
        desk.known(TASK, document)
        if there:
            desk.placed(GRAPH, graph_document())  # Its watch has not told of it yet.
        await desk.controller.attempt(KEY)
        assert api.objects[TASK_PATH]["metadata"]["finalizers"] == ([labels.FINALIZER] if there else [])
        assert [ask.removal is not None for ask in desk.notes.asked_of("ml/default")] == [True] * there

    run(api, scenario)


def test_a_graph_in_a_namespace_that_may_not_be_read_holds_no_task_back(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        document = task_document(deletionPolicy="Delete")
        now = reading.written(datetime.datetime.now(datetime.UTC))
        document["metadata"] |= {"deletionTimestamp": now, "finalizers": [labels.FINALIZER]}
        document["status"] = {"search": {"runKey": "i1-c1", "attempt": 1}}
        desk.known(TASK, document)
        get = desk.controller.observer.client.get

        async def refusing(kind: Kind, namespace: str, name: str) -> Fields:
            if kind == GRAPH:
                raise RefusedError("modulegraphs is forbidden", status=403)
            return await get(kind, namespace, name)

        desk.controller.observer.client.get = refusing  # type: ignore[method-assign]
        await desk.controller.attempt(KEY)
        assert api.objects[TASK_PATH]["metadata"]["finalizers"] == []

    run(api, scenario)


def test_a_finalizer_leaves_everybody_else_s_and_a_race_is_tried_again(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        document = task_document(deletionPolicy="Delete")
        document["metadata"]["finalizers"] = ["other/one"]
        desk.known(TASK, document)
        desk.known(GRAPH, graph_document())
        await desk.controller.attempt(KEY)
        assert api.objects[TASK_PATH]["metadata"]["finalizers"] == ["other/one", labels.FINALIZER]
        assert (desk.status_writes(), desk.doubts) == (1, 0)  # Our own finalizer overtakes no status of ours.
        changed = api.objects[TASK_PATH]
        changed["spec"]["deletionPolicy"] = "Retain"
        desk.known(TASK, changed)
        api.broken = [failure(404), failure(409, "the object has been modified")]
        assert await desk.controller.attempt(KEY) in ("retry", "unchanged")

    run(api, scenario)


def test_events_are_read_only_where_they_can_say_something_and_not_again_at_once(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        desk.ready_to_start()
        await desk.controller.attempt(KEY)
        job = api.objects[desk.jobs()[0]]
        uid = job["metadata"]["uid"]

        def asked() -> list[str]:
            return [
                body["?"]["fieldSelector"]
                for _, path, body in api.requests
                if path.endswith("/events") and "involvedObject" in str(body["?"].get("fieldSelector"))
            ]

        job["metadata"]["creationTimestamp"] = "2026-03-01T12:00:00Z"
        desk.known(JOB, job)
        api.put(
            EVENT.path("vision", "e"),
            {"involvedObject": {"uid": uid}, "reason": "FailedCreate", "message": "pods exceeded quota: q"},
        )
        await desk.controller.attempt(KEY)
        await desk.controller.attempt(KEY)
        assert asked() == [f"involvedObject.uid={uid}"]
        assert "exceeded quota" in desk.status()["waiting"]
        desk.now += EVENTS_AGAIN_S
        await desk.controller.attempt(KEY)
        assert len(asked()) == 2
        desk.known(POD, pod_document("w", job=uid, ready=True))
        desk.now += 60
        await desk.controller.attempt(KEY)
        assert len(asked()) == 2
        assert desk.notes.waits == {}

    run(api, scenario)


def test_a_task_obeys_while_events_cannot_be_read(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        desk.ready_to_start()
        await desk.controller.attempt(KEY)
        job = api.objects[desk.jobs()[0]]
        job["metadata"]["creationTimestamp"] = "2026-03-01T12:00:00Z"
        desk.known(JOB, job)
        api.unreadable = EVENT.path("vision")
        document = api.objects[TASK_PATH]
        document["spec"]["suspend"] = True
        document["metadata"]["generation"] += 1
        desk.known(TASK, document)
        assert await desk.controller.attempt(KEY) == "changed"
        assert desk.status()["observedGeneration"] == document["metadata"]["generation"]
        assert ("DELETE", desk.jobs()[0]) in api.writes()

    run(api, scenario)


def test_what_is_not_there_needs_nothing(api: Api) -> None:
    async def scenario(desk: Desk) -> None:
        assert await desk.controller.attempt(KEY) == "unchanged"
        assert await desk.controller.attempt(GRAPH_KEY) == "unchanged"
        assert api.requests == []

    run(api, scenario)
